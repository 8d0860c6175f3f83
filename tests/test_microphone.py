"""A microphone is heard without loss, or each loss is announced, through overruns and unplugging."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import aclosing

import fake_sounddevice
import numpy as np
import pytest
import virtual_clock
from fake_sounddevice import device

from streamer.intake import Lost, SourceError
from streamer.microphone import FIRST_SECONDS, RETRY_SECONDS, SILENCE_SECONDS, read_microphone

RATE = 16000
OVERRUN = "overrun: the recogniser could not keep up"
DROPPED = "overrun: the operating system dropped audio"
UNPLUGGED = Lost(0, "the microphone was unplugged")


@pytest.fixture
def fake(monkeypatch):
    return fake_sounddevice.install(monkeypatch, device("Headset"))


def ramp(start, end):
    """Samples that tell their own position."""
    return np.arange(start, end, dtype=np.float32) / 2**20


def microphone(device=None):
    return aclosing(read_microphone(device, RATE))


async def listening(source, fake):
    """Begin to read; the task of the first item, and the stream that was opened."""
    task = asyncio.ensure_future(anext(source))
    return task, await opened(fake, 0)


async def opened(fake, number):
    """The stream that was opened as the first (0), second (1), …"""
    while len(fake.streams) <= number:
        await asyncio.sleep(0.1)
    return fake.streams[number]


async def take(source, items):
    """The next items joined: audio between gaps as one array."""
    taken = []
    for _ in range(items):
        item = await anext(source)
        if isinstance(item, Lost) or not taken or isinstance(taken[-1], Lost):
            taken.append(item)
        else:
            taken[-1] = np.concatenate([taken[-1], item])
    return taken


def test_what_is_spoken_is_heard_sample_for_sample(fake):
    async def listen():
        async with microphone() as source:
            first, stream = await listening(source, fake)
            stream.speak(ramp(0, 160))
            heard = [await first]
            for start in range(160, 16000, 160):
                stream.speak(ramp(start, start + 160))
                heard.append(await anext(source))
            return np.concatenate(heard)

    assert np.array_equal(virtual_clock.run(listen()), ramp(0, 16000))
    settings = fake.streams[0].settings
    assert (settings["samplerate"], settings["channels"], settings["dtype"]) == (RATE, 1, "float32")


def test_audio_that_waits_is_heard_in_blocks_of_half_a_second_at_most(fake):
    async def listen():
        async with microphone() as source:
            first, stream = await listening(source, fake)
            stream.speak(ramp(0, 5 * RATE))
            return [await first] + [await anext(source) for _ in range(9)]

    blocks = virtual_clock.run(listen())
    assert [len(block) for block in blocks] == [8000] * 10
    assert np.array_equal(np.concatenate(blocks), ramp(0, 5 * RATE))


def test_a_recogniser_that_is_too_slow_hears_of_every_lost_sample(fake, caplog):
    async def listen():
        async with microphone() as source:
            first, stream = await listening(source, fake)
            stream.speak(ramp(0, 800))
            before = await first
            for start in range(800, 12 * RATE, 800):
                stream.speak(ramp(start, start + 800))
            gap, *rest = await take(source, 11)
            return before, gap, rest

    before, gap, (after,) = virtual_clock.run(listen())
    assert isinstance(gap, Lost)
    assert gap.reason == OVERRUN
    assert np.array_equal(before, ramp(0, 800))
    assert np.array_equal(after, ramp(800 + gap.samples, 12 * RATE))  # nothing else is missing
    assert gap.samples == 12 * RATE - 5 * RATE - 800  # the newest half of the ring is kept
    assert OVERRUN in caplog.text


def test_the_operating_systems_overflow_is_announced_where_it_happened(fake):
    async def listen():
        async with microphone() as source:
            first, stream = await listening(source, fake)
            stream.speak(ramp(0, 100), overflow=True)  # nothing was heard before it, so nothing is missing
            stream.speak(ramp(100, 200))
            stream.speak(ramp(900, 1000), overflow=True)
            stream.speak(ramp(1000, 1100))
            return [await first, *await take(source, 2)]

    before, gap, after = virtual_clock.run(listen())
    assert np.array_equal(before, ramp(0, 200))
    assert gap == Lost(0, DROPPED)
    assert np.array_equal(after, ramp(900, 1100))


def test_an_overflow_inside_an_overrun_is_part_of_it(fake):
    async def listen():
        async with microphone() as source:
            first, stream = await listening(source, fake)
            stream.speak(ramp(0, 800))
            await first
            stream.speak(ramp(800, 1600))
            stream.speak(ramp(1600, 12 * RATE), overflow=True)
            return await take(source, 11)

    gap, after = virtual_clock.run(listen())
    assert gap == Lost(12 * RATE - 5 * RATE - 800, OVERRUN)
    assert len(after) == 5 * RATE


def test_a_device_that_refuses_the_models_rate_is_resampled(fake):
    fake.plug(device("Headset", rate=48000.0))
    fake.refuse = lambda settings: settings["samplerate"] != 48000

    async def listen():
        async with microphone() as source:
            first, stream = await listening(source, fake)
            stream.speak(0.5 * np.sin(2 * np.pi * 440 * np.arange(48000) / 48000))
            stream.unplug()
            return await take_until_gap(source, [await first])

    heard, gap = virtual_clock.run(listen())
    assert gap == UNPLUGGED
    assert len(heard) == 16000  # also what the resampler held when the microphone was unplugged
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert np.abs(heard - expected)[500:-500].max() < 1e-3


async def take_until_gap(source, heard):
    while not isinstance(item := await anext(source), Lost):
        heard.append(item)
    return np.concatenate(heard), item


def test_an_overrun_is_counted_at_the_models_rate(fake):
    fake.refuse = lambda settings: settings["samplerate"] != 48000

    async def listen():
        async with microphone() as source:
            first, stream = await listening(source, fake)
            stream.speak(np.zeros(48000 * 11))
            return await first

    assert virtual_clock.run(listen()) == Lost(6 * RATE, OVERRUN)


def test_a_device_that_refuses_one_channel_is_averaged(fake):
    fake.plug(device("Array", channels=2))
    fake.refuse = lambda settings: settings["channels"] != 2
    settings = []

    async def listen():
        async with microphone() as source:
            first, stream = await listening(source, fake)
            settings.append(stream.settings)
            stream.speak(np.tile([0.75, 0.25], (48000, 1)))
            return await first

    heard = virtual_clock.run(listen())
    assert settings[0]["samplerate"] == 48000
    assert np.abs(heard[1000:] - 0.5).max() < 1e-3


def test_a_device_that_refuses_everything_is_an_error_that_says_what_to_do(fake):
    fake.refuse = lambda settings: True
    with pytest.raises(SourceError, match=r"Headset, ALSA cannot be opened \(Invalid sample rate\): close what else"):
        virtual_clock.run(anext(read_microphone(None, RATE)))


def test_a_stream_that_opens_but_does_not_start_is_closed(fake, monkeypatch):
    def fail(self):
        raise fake.PortAudioError("Device unavailable")

    monkeypatch.setattr(fake_sounddevice.Stream, "start", fail)
    with pytest.raises(SourceError, match=r"cannot be opened \(Device unavailable\)"):
        virtual_clock.run(anext(read_microphone(None, RATE)))
    assert fake.streams
    assert all(stream.closed for stream in fake.streams)


def test_windows_mixer_is_asked_to_convert_rates(fake):
    fake.plug(device("Headset"), device("Headset", api=1))

    async def settings_of(number):
        async with microphone(number) as source:
            first, stream = await listening(source, fake)
            stream.speak(ramp(0, 100))
            await first
        return stream.settings["device"], stream.settings["extra_settings"]

    assert virtual_clock.run(settings_of(1)) == (1, {"auto_convert": True})
    fake.streams.clear()
    assert virtual_clock.run(settings_of(0)) == (0, None)


async def unplug_and_replug(fake, source, end, replug, seconds):
    """Speak, lose the device with `end(stream)`, plug it in again after so many seconds, speak; all that was heard."""
    clock = asyncio.get_running_loop()
    first, stream = await listening(source, fake)
    stream.speak(ramp(0, 160))
    heard = [await first]
    unplugged_at = clock.time()
    end(stream)
    heard.append(await anext(source))
    noticed_after = clock.time() - unplugged_at
    fake.plugged = []
    waiting = asyncio.ensure_future(anext(source))
    await asyncio.sleep(seconds - noticed_after)
    assert not waiting.done()
    assert stream.closed
    assert len(fake.streams) == 1
    replug()
    stream = await opened(fake, 1)
    back_after = clock.time() - unplugged_at
    stream.speak(ramp(500, 700))
    heard += [await waiting, await anext(source)]
    return heard, noticed_after, back_after


@pytest.mark.parametrize(
    ("end", "notice"), [(lambda stream: stream.unplug(), 0), (lambda stream: None, SILENCE_SECONDS)]
)
def test_an_unplugged_microphone_is_announced_and_heard_again_when_it_is_back(fake, caplog, end, notice):
    caplog.set_level(logging.INFO)
    plugged = fake.plugged

    async def listen():
        async with microphone() as source:
            return await unplug_and_replug(fake, source, end, lambda: setattr(fake, "plugged", plugged), 60)

    (before, gap, away, after), noticed_after, back_after = virtual_clock.run(listen())
    assert np.array_equal(before, ramp(0, 160))
    assert gap == UNPLUGGED
    assert noticed_after == pytest.approx(notice)
    assert 60 <= back_after <= 60 + RETRY_SECONDS + 0.2
    assert away == Lost(round(back_after * RATE), "the microphone was away")
    assert np.array_equal(after, ramp(500, 700))
    assert "the microphone is back: Headset, ALSA" in caplog.text


def test_a_microphone_chosen_by_number_is_found_again_under_another(fake):
    fake.plug(device("Camera"), device("Headset: Audio (hw:1,0)"))

    def replug():
        fake.plugged = [device("Headset: Audio (hw:2,0)"), device("Camera")]

    async def listen():
        async with microphone(1) as source:
            await unplug_and_replug(fake, source, lambda stream: stream.unplug(), replug, 10)

    virtual_clock.run(listen())
    assert [stream.settings["device"] for stream in fake.streams] == [1, 0]


def test_what_was_spoken_just_before_unplugging_is_heard(fake):
    async def listen():
        async with microphone() as source:
            first, stream = await listening(source, fake)
            stream.speak(ramp(0, 100))
            heard = [await first]
            stream.speak(ramp(100, 20_000))
            stream.unplug()
            return await take_until_gap(source, heard)

    heard, gap = virtual_clock.run(listen())
    assert np.array_equal(heard, ramp(0, 20_000))
    assert gap == UNPLUGGED


def test_a_device_that_opens_and_stays_silent_is_opened_again_patiently_and_announced_once(fake):
    async def listen():
        clock = asyncio.get_running_loop()
        async with microphone() as source:
            first, _ = await listening(source, fake)
            assert await first == UNPLUGGED
            assert clock.time() == pytest.approx(FIRST_SECONDS)
            waiting = asyncio.ensure_future(anext(source))
            await asyncio.sleep(55)
            assert not waiting.done()
            fake.streams[-1].speak(ramp(0, 100))
            return await waiting, await anext(source), len(fake.streams)

    away, audio, opened = virtual_clock.run(listen())
    assert away == Lost(round((FIRST_SECONDS + 55) * RATE), "the microphone was away")
    assert np.array_equal(audio, ramp(0, 100))
    assert opened == 1 + 60 // (FIRST_SECONDS + RETRY_SECONDS)


def test_portaudio_that_does_not_come_up_is_tried_again(fake, monkeypatch):
    plugged, failures = fake.plugged, []
    initialize = fake._initialize

    def fail_three_times():
        if len(failures) < 3:
            failures.append(1)
            raise fake.PortAudioError("Error initializing PortAudio")
        initialize()

    def terminate():
        if failures:
            raise fake.PortAudioError("PortAudio not initialized")

    monkeypatch.setattr(fake, "_initialize", fail_three_times)
    monkeypatch.setattr(fake, "_terminate", terminate)

    async def listen():
        async with microphone() as source:
            return await unplug_and_replug(
                fake, source, lambda stream: stream.unplug(), lambda: setattr(fake, "plugged", plugged), 3
            )

    (*_, after), _, back_after = virtual_clock.run(listen())
    assert np.array_equal(after, ramp(500, 700))
    assert len(failures) == 3
    assert back_after == pytest.approx(4 * RETRY_SECONDS, abs=0.2)


def test_a_driver_that_does_not_let_go_of_its_stream_does_not_stop_the_program(fake, monkeypatch, caplog):
    for_ever = threading.Event()
    monkeypatch.setattr(fake_sounddevice.Stream, "close", lambda self: for_ever.wait(60))
    monkeypatch.setattr("streamer.microphone.CLOSE_SECONDS", 0.01)
    monkeypatch.setattr(fake, "_terminate", lambda: pytest.fail("PortAudio would wait for the stream"))
    forgotten = []
    monkeypatch.setattr("atexit.unregister", forgotten.append)

    async def listen():
        async with microphone() as source:
            first, stream = await listening(source, fake)
            stream.speak(ramp(0, 100))
            heard = [await first]
            stream.unplug()
            heard.append(await anext(source))
            waiting = asyncio.ensure_future(anext(source))
            (await opened(fake, 1)).speak(ramp(100, 200))
            return [*heard, await waiting, await anext(source)]

    try:
        _, gap, _, after = virtual_clock.run(listen())
    finally:
        for_ever.set()
    assert gap == UNPLUGGED
    assert np.array_equal(after, ramp(100, 200))
    assert "does not let go of its stream, which is abandoned" in caplog.text
    assert fake._exit_handler in forgotten


@pytest.mark.parametrize("unplugged", [False, True])
def test_cancelling_closes_the_stream_at_once(fake, unplugged):
    async def listen():
        clock = asyncio.get_running_loop()

        async def consume():
            async for _ in read_microphone(None, RATE):
                pass

        task = asyncio.ensure_future(consume())
        stream = await opened(fake, 0)
        stream.speak(ramp(0, 100))
        await asyncio.sleep(1)
        if unplugged:
            stream.unplug()
            await asyncio.sleep(1)
        begun = clock.time()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return clock.time() - begun

    assert virtual_clock.run(listen()) == 0
    assert all(stream.closed for stream in fake.streams)


def test_a_callback_after_the_event_loop_has_ended_does_no_harm(fake):
    async def listen():
        async with microphone() as source:
            first, stream = await listening(source, fake)
            stream.speak(ramp(0, 100))
            await first

    virtual_clock.run(listen())
    fake.streams[0].speak(ramp(100, 200))
    fake.streams[0].unplug()
