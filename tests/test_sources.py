"""Files and standard input become blocks of samples, and whatever is wrong with them is said in one sentence."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import struct
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
import virtual_clock

from streamer.sources import SourceError, read_file, read_stdin

ROOT = Path(__file__).parent.parent


def tone(seconds, rate, channels=1, hz=440):
    wave = 0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


async def gather(source):
    return [block async for block in source]


def hear(path, sample_rate=16000):
    """All samples of a file, joined."""
    blocks = asyncio.run(gather(read_file(str(path), sample_rate)))
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def error_of(path):
    with pytest.raises(SourceError) as caught:
        hear(path)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "rate", "channels", "options"),
    [
        ("a.wav", 16000, 1, {}),
        ("a.wav", 8000, 1, {"subtype": "ULAW"}),
        ("a.wav", 44100, 2, {"subtype": "FLOAT"}),
        ("a.wav", 96000, 6, {"subtype": "PCM_24"}),
        ("a.flac", 48000, 2, {}),
        ("a.ogg", 44100, 1, {"subtype": "VORBIS"}),
        ("a.opus", 48000, 2, {"format": "OGG", "subtype": "OPUS"}),
        ("a.mp3", 44100, 2, {}),
        ("a.mp3", 16000, 1, {}),
    ],
)
def test_files_of_any_kind_are_heard_at_the_models_rate(tmp_path, caplog, name, rate, channels, options):
    soundfile.write(tmp_path / name, tone(3, rate, channels), rate, **options)
    blocks = asyncio.run(gather(read_file(str(tmp_path / name), 16000)))
    assert all(block.dtype == np.float32 and block.ndim == 1 and 0 < len(block) <= 16000 for block in blocks)
    heard = np.concatenate(blocks)
    assert abs(len(heard) - 48000) <= 1
    expected = tone(3, 16000)[:, 0]
    assert np.corrcoef(heard[1600:46400], expected[1600:46400])[0, 1] > 0.99
    assert not caplog.records


@pytest.mark.parametrize("options", [{"format": "MP3"}, {"format": "OGG", "subtype": "OPUS"}])
def test_compressed_files_sound_as_if_decoded_in_one_piece(tmp_path, options):
    soundfile.write(tmp_path / "a", np.random.default_rng(0).uniform(-0.5, 0.5, 48000 * 5), 48000, **options)
    with soundfile.SoundFile(tmp_path / "a") as file:
        in_one_piece = file.read(dtype="float32")
    assert np.array_equal(hear(tmp_path / "a", 48000), in_one_piece.clip(-1, 1))


def test_a_file_at_the_models_rate_is_heard_sample_for_sample(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 50_001).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    assert np.array_equal(hear(tmp_path / "a.wav"), samples)


def test_a_long_file_is_never_in_memory_as_a_whole(tmp_path):
    soundfile.write(tmp_path / "long.wav", np.zeros(8000 * 600, np.int16), 8000)

    async def longest():
        return max([len(block) async for block in read_file(str(tmp_path / "long.wav"), 16000)])

    tracemalloc.start()
    try:
        assert asyncio.run(longest()) <= 16000
        assert tracemalloc.get_traced_memory()[1] < 2_000_000  # as float32 the file has 38 MB
    finally:
        tracemalloc.stop()


def test_other_tasks_run_while_a_file_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(10, 16000), 16000)

    async def blocks_read_before_another_task_ran():
        ran = asyncio.Event()
        asyncio.get_running_loop().call_soon(ran.set)
        count = 0
        async for _ in read_file(str(tmp_path / "a.wav"), 16000):
            if ran.is_set():
                return count
            count += 1
        raise AssertionError("the other task had to wait for the whole file")

    assert asyncio.run(blocks_read_before_another_task_ran()) <= 1


@pytest.mark.parametrize("rate", [16000, 44100])
def test_in_realtime_no_block_comes_before_it_is_spoken_and_none_drifts(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(5, rate), rate)

    async def listen():
        clock, position = asyncio.get_running_loop(), 0
        async for block in read_file(str(tmp_path / "a.wav"), 16000, realtime=True):
            position += len(block)
            assert len(block) <= 640
            assert clock.time() == pytest.approx(position / 16000, abs=1e-6)
        return position

    assert virtual_clock.run(listen()) == 80000


def test_in_realtime_a_listener_that_was_late_catches_up(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(5, 16000), 16000)

    async def listen():
        clock, position = asyncio.get_running_loop(), 0
        async for block in read_file(str(tmp_path / "a.wav"), 16000, realtime=True):
            if position == 0:
                await asyncio.sleep(2)
            position += len(block)
            assert clock.time() == pytest.approx(max(2, position / 16000), abs=0.05)
        return clock.time()

    assert virtual_clock.run(listen()) == pytest.approx(5)


def test_realtime_and_fast_reading_give_the_same_samples(tmp_path):
    soundfile.write(tmp_path / "a.flac", tone(3, 22050, 2), 22050)
    paced = virtual_clock.run(gather(read_file(str(tmp_path / "a.flac"), 16000, realtime=True)))
    assert np.array_equal(np.concatenate(paced), hear(tmp_path / "a.flac"))


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert error_of(tmp_path / "talk.wav") == f"there is no file {tmp_path}/talk.wav: check the path"


def test_a_folder_is_refused(tmp_path):
    assert error_of(tmp_path) == f"{tmp_path} is a folder: give a sound file inside it"


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "a.wav").touch()
    assert "a.wav is empty: record" in error_of(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["letter.txt", "talk.m4a", "talk.wav", "talk.raw"])
def test_what_is_no_sound_file_is_refused_with_the_way_to_convert_it(tmp_path, name):
    (tmp_path / name).write_bytes(b"Dear listener, " * 100)
    message = error_of(tmp_path / name)
    assert f"{name} is not a sound file" in message
    assert f"ffmpeg -i {tmp_path}/{name} converted.wav" in message


def test_a_file_without_permission_is_refused(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", tone(1, 16000), 16000)

    def refuse(*_):  # tests may run as root, whom no permission stops
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("streamer.sources.open", refuse, raising=False)
    assert "a.wav cannot be read (Permission denied): check its permissions" in error_of(tmp_path / "a.wav")


def test_a_named_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file: pipe its audio into standard input" in error_of(tmp_path / "pipe")


@pytest.mark.parametrize("name", ["a.wav", "a.ogg"])
def test_a_header_without_samples_is_refused(tmp_path, name):
    soundfile.write(tmp_path / name, tone(0, 16000), 16000)
    assert f"{name} contains no audio: record" in error_of(tmp_path / name)


def test_a_header_that_promises_samples_that_are_not_there_is_refused(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(1, 16000), 16000)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes()[:44])
    assert "contains no audio" in error_of(tmp_path / "a.wav")


@pytest.mark.parametrize(("name", "least"), [("a.wav", 31900), ("a.flac", 24000), ("a.mp3", 28000)])
def test_a_truncated_file_is_heard_as_far_as_it_goes_and_then_is_a_mistake(tmp_path, caplog, name, least):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 64000)
    soundfile.write(tmp_path / name, noise, 16000)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    blocks = []

    async def listen():
        async for block in read_file(str(tmp_path / name), 16000):
            blocks.append(block)

    told = rf"{name} ends early: \d\.\d\d of 4\.00 seconds are there and were heard"
    if name == "a.mp3":  # whose length is an estimate
        asyncio.run(listen())
        assert re.search(told, caplog.records[0].getMessage())
    else:
        with pytest.raises(SourceError, match=f"{told}; copy or record it again"):
            asyncio.run(listen())
    heard = np.concatenate(blocks)
    assert least < len(heard) <= 32600
    assert np.abs(heard - noise[: len(heard)]).max() < (1 if name == "a.mp3" else 1e-4)


def test_a_wav_file_whose_length_was_never_filled_in_is_heard_without_a_warning(tmp_path, caplog):
    samples = tone(1, 16000)
    soundfile.write(tmp_path / "a.wav", samples, 16000)
    whole = (tmp_path / "a.wav").read_bytes()
    unknown = struct.pack("<I", 0xFFFFFFFF)  # as ffmpeg writes into a pipe
    (tmp_path / "a.wav").write_bytes(whole[:4] + unknown + whole[8:40] + unknown + whole[44:])
    assert len(hear(tmp_path / "a.wav")) == 16000
    assert not caplog.records


def test_a_flac_file_whose_length_was_never_filled_in_is_heard_to_its_end(tmp_path, caplog):
    samples = tone(1.3, 16000)
    soundfile.write(tmp_path / "a.flac", samples, 16000)
    data = bytearray((tmp_path / "a.flac").read_bytes())
    data[21] &= 0xF0  # STREAMINFO: the 36 bits of the number of samples
    data[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(data)
    assert np.array_equal(hear(tmp_path / "a.flac"), hear_exactly(samples))
    assert not caplog.records


def hear_exactly(samples):
    """What 16-bit storage makes of samples."""
    return (np.rint(samples[:, 0] * 32768) / 32768).astype(np.float32)


def test_an_mp3_file_that_libsndfile_reads_only_in_part_is_reported(tmp_path, caplog):
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 32000)
    samples = np.concatenate([noise, tone(60, 16000)[:, 0]])
    soundfile.write(tmp_path / "a.mp3", samples, 16000, bitrate_mode="VARIABLE", compression_level=0.0)
    assert len(hear(tmp_path / "a.mp3")) == 62 * 16000
    assert not caplog.records
    without_index = (tmp_path / "a.mp3").read_bytes().replace(b"Xing", bytes(4))
    (tmp_path / "a.mp3").write_bytes(without_index)
    heard = len(hear(tmp_path / "a.mp3"))
    (warning,) = caplog.records
    assert warning.getMessage() == (
        f"{tmp_path}/a.mp3: only the first {heard / 16000:.2f} seconds could be read; "
        f"convert it with `ffmpeg -i {tmp_path}/a.mp3 converted.wav`"
    )


def test_silence_and_a_single_sample_are_audio_too(tmp_path):
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    soundfile.write(tmp_path / "one.wav", [0.5], 16000)
    assert np.array_equal(hear(tmp_path / "silence.wav"), np.zeros(16000))
    assert np.array_equal(hear(tmp_path / "one.wav"), [0.5])


def test_a_file_that_is_left_half_read_is_closed(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(5, 16000), 16000)

    def is_open():
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return str(tmp_path / "a.wav") in [os.readlink(link) for link in links if os.path.islink(link)]

    async def leave():
        source = read_file(str(tmp_path / "a.wav"), 16000)
        await anext(source)
        before = is_open()
        await source.aclose()
        return before, is_open()

    assert asyncio.run(leave()) == (True, False)


@contextlib.contextmanager
def readers_end():
    """Threads that read standard input in this block end with it: what they read from may be closed afterwards."""
    before = set(threading.enumerate())
    try:
        yield
    finally:
        for thread in set(threading.enumerate()) - before:
            thread.join()


def pipe_in(*pieces, rate=16000, sample_rate=16000):
    """What is heard when these pieces of bytes are written into standard input one by one."""
    reading, writing = os.pipe()

    def write():
        with os.fdopen(writing, "wb", buffering=0) as pipe:
            for piece in pieces:
                pipe.write(piece)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with readers_end():
            blocks = asyncio.run(gather(read_stdin(rate, sample_rate, reading)))
    finally:
        writer.join()
        os.close(reading)
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def s16le(count):
    return np.random.default_rng(1).integers(-32768, 32768, count).astype("<i2")


def test_standard_input_is_heard_sample_for_sample():
    samples = s16le(300_000)  # many times what a pipe holds
    assert np.array_equal(pipe_in(samples.tobytes()), (samples / 32768).astype(np.float32))


def test_a_slow_listener_slows_the_program_that_writes_into_standard_input():
    reading, writing = os.pipe()

    def write():
        with contextlib.suppress(BrokenPipeError), os.fdopen(writing, "wb", buffering=0) as pipe:
            pipe.write(bytes(20_000_000))

    writer = threading.Thread(target=write)

    async def listen():
        source = read_stdin(16000, 16000, reading)
        await anext(source)
        await asyncio.to_thread(writer.join, 0.2)
        return writer.is_alive()

    writer.start()
    try:
        assert asyncio.run(listen())
    finally:
        os.close(reading)
        writer.join()


def test_standard_input_may_be_cut_anywhere():
    samples = s16le(50)
    data = samples.tobytes()
    pieces = [data[:1], data[1:2], data[2:5], data[5:6], data[6:99], data[99:]]
    assert np.array_equal(pipe_in(*pieces), (samples / 32768).astype(np.float32))


def test_standard_input_is_resampled():
    wave = (tone(2, 48000)[:, 0] * 32767).astype("<i2")
    heard = pipe_in(wave.tobytes(), rate=48000)
    assert len(heard) == 32000
    assert np.corrcoef(heard[1600:-1600], tone(2, 16000)[1600:-1600, 0])[0, 1] > 0.999


def test_a_dangling_byte_is_reported_and_ignored(caplog):
    assert np.array_equal(pipe_in(b"\x00\x40\x01"), [0.5])
    assert "ended in the middle of a sample" in caplog.text


def test_empty_standard_input_is_refused():
    with pytest.raises(SourceError, match="standard input contained no audio: see whether the program"):
        pipe_in()


def test_a_wav_file_in_standard_input_is_refused():
    with pytest.raises(SourceError, match=r"WAV header: send bare samples \(`arecord -t raw`"):
        pipe_in(b"RIFF\x24\x00\x00\x00WAVEfmt ")


def test_a_terminal_as_standard_input_is_refused():
    leader, terminal = os.openpty()
    try:
        with pytest.raises(SourceError, match="is a terminal: pipe s16le samples"):
            asyncio.run(gather(read_stdin(16000, 16000, terminal)))
    finally:
        os.close(terminal)
        os.close(leader)


def test_a_standard_input_that_cannot_be_read_is_refused(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(SourceError, match="cannot be read"):
            asyncio.run(gather(read_stdin(16000, 16000, folder)))
    finally:
        os.close(folder)


def test_standard_input_may_be_a_regular_file(tmp_path):
    samples = s16le(40_000)
    (tmp_path / "samples").write_bytes(samples.tobytes())
    with open(tmp_path / "samples", "rb") as file:
        blocks = asyncio.run(gather(read_stdin(16000, 16000, file.fileno())))
    assert np.array_equal(np.concatenate(blocks), (samples / 32768).astype(np.float32))


def test_the_event_loop_runs_while_standard_input_is_silent():
    reading, writing = os.pipe()

    async def listen():
        waiting = asyncio.ensure_future(anext(read_stdin(16000, 16000, reading)))
        done, _ = await asyncio.wait([waiting], timeout=0.05)
        assert not done
        os.write(writing, b"\x00\x40")
        return await waiting

    with readers_end():
        assert np.array_equal(asyncio.run(listen()), [0.5])
        os.close(writing)
    os.close(reading)


LISTENER = """
import asyncio, signal
from streamer.sources import read_stdin

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job begins with it ignored

async def listen():
    async for block in read_stdin(16000, 16000):
        print(len(block), flush=True)

asyncio.run(listen())
"""


def test_an_interrupt_ends_a_program_that_waits_for_standard_input():
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", LISTENER],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as program:
        program.stdin.write(bytes(2000))
        program.stdin.flush()
        assert int(program.stdout.readline()) == 1000
        watchdog = threading.Timer(60, program.kill)
        watchdog.start()
        program.send_signal(signal.SIGINT)
        errors = program.stderr.read().decode()  # standard input stays open until the program has ended
        assert program.wait(timeout=60) != 0
        watchdog.cancel()
    assert errors.strip().endswith("KeyboardInterrupt")
    assert "Fatal" not in errors


def test_importing_the_sources_loads_nothing_slow():
    slow = {"sounddevice", "soundfile", "soxr", "onnxruntime", "scipy", "tensorflow", "librosa"}
    code = f"import sys, streamer.sources; print({slow!r} & set(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"
