from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schema import checked
from test_server import ending, fetch
from tiny_model import babble
from virtual_clock import run as run_virtually
from waiting import asynchronous, stuck_client, until
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode
from wyoming.audio import AudioChunk, AudioStop
from wyoming.client import AsyncTcpClient

from streamer import engine
from streamer.admission import Admission
from streamer.endpoint import Endpointing
from streamer.events import Event, Final, to_json
from streamer.hub import Hub
from streamer.intake import Intake
from streamer.model import AcousticModel, load
from streamer.parting import cancel
from streamer.recognizer import Recognizer
from streamer.scheduler import Scheduler
from streamer.server import Address, serve
from streamer.session_config import Pcm
from streamer.sessions import Limits, Sessions
from streamer.vosk_protocol import Dialogue, VoskConfig
from streamer.wyoming import serve_wyoming

VOICES = [(babble(16000 * 4, seed) * 32767).astype("<i2") for seed in range(3)]
END = '{"type":"end"}'

Conversation = tuple[  # with a server: how to send audio, how to end it, and all that is heard
    Callable[[bytes], Awaitable[None]], Callable[[], Awaitable[None]], Coroutine[Any, Any, list[Any]]
]


@pytest.fixture(scope="module")
def tiny(streaming: Any) -> AcousticModel:
    return load(streaming)


@asynccontextmanager
async def listening(
    model: AcousticModel, admission: Admission | None = None, **limits: float
) -> AsyncIterator[Sessions]:
    admission = admission or Admission()
    async with Scheduler(model, admission.ran) as scheduler:
        yield Sessions(scheduler, admission, Limits(**limits))  # type: ignore[arg-type]


@asynccontextmanager
async def serving(
    model: AcousticModel, admission: Admission | None = None, **limits: float
) -> AsyncIterator[tuple[Address, Sessions]]:
    async with (
        listening(model, admission, **limits) as sessions,
        serve(Hub(), port=0, sessions=sessions) as address,
    ):
        yield address, sessions


def speaking(address: Address, path: str = "/recognize", **options: Any) -> connect:
    return connect(address.url.replace("http", "ws") + path, proxy=None, **options)


def config(**facts: Any) -> str:
    return json.dumps({"type": "config"} | facts)


def alone(
    model: AcousticModel, voice: np.ndarray, rate: int = 16000, pause_seconds: float = 0.4
) -> list[dict[str, Any]]:
    """What a stream of these samples says alone, as JSON."""
    intake = Intake("test", rate, 16000)
    samples = [*intake.push(voice.astype(np.float32) / np.float32(32768)), *intake.flush()]
    recognizer = model.recognizer(Endpointing(pause_seconds=pause_seconds))
    events: list[Event] = [e for block in samples for e in engine.feed(model, recognizer, block)]
    events += engine.finish(model, recognizer)
    return [to_json(event, 16000) for event in events]


def expected(*sound: Any, **options: Any) -> list[dict[str, Any]]:
    """What a stream says alone, without partials, which may be conflated."""
    return [message for message in alone(*sound, **options) if message["type"] != "partial"]


async def everything(client: ClientConnection) -> list[dict[str, Any]]:
    """All messages until the connection is closed; those of our own protocol are as the schema has them."""
    ours = client.request is not None and client.request.path.startswith(("/recognize", "/captions"))
    messages = []
    with contextlib.suppress(ConnectionClosed):
        while True:
            message = json.loads(await client.recv())
            messages.append(checked(message) if ours else message)
    return messages


async def spoken(client: ClientConnection, voice: np.ndarray, block: int = 3200) -> list[dict[str, Any]]:
    """Send samples in blocks of any number of bytes, and the end; all but the partials that come back."""
    data = voice.tobytes()
    for at in range(0, len(data), block):
        await client.send(data[at : at + block])
    await client.send(END)
    return [message for message in await everything(client) if message["type"] != "partial"]


@asynchronous
async def test_a_session_hears_the_events_of_its_own_audio_and_is_closed_in_order(model: AcousticModel) -> None:
    async with serving(model) as (address, sessions), speaking(address) as client:
        hello, *events = await spoken(client, VOICES[0])
        assert (hello["type"], hello["source"], hello["sample_rate"]) == ("hello", "session", 16000)
        assert events == expected(model, VOICES[0]) != []
        assert client.close_code == 1000
        await until(lambda: sessions.admission.sessions == 0)


@asynchronous
async def test_sessions_at_the_same_time_hear_what_they_hear_alone(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _), contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(speaking(address)) for _ in VOICES]
        heard = await asyncio.gather(*map(spoken, clients, VOICES, (999, 3200, 50_000)))
        assert len({events[0]["stream"] for events in heard}) == 3
        assert [events[1:] for events in heard] == [expected(tiny, voice) for voice in VOICES]


async def speak_recognize(stack: contextlib.AsyncExitStack, address: Address, sessions: Sessions) -> Conversation:
    client = await stack.enter_async_context(speaking(address))
    return client.send, functools.partial(client.send, END), everything(client)


async def speak_vosk(stack: contextlib.AsyncExitStack, address: Address, sessions: Sessions) -> Conversation:
    client = await stack.enter_async_context(speaking(address, "/"))
    await client.send('{"config": {"sample_rate": 16000}}')

    async def replies() -> list[Any]:
        return [reply async for reply in client]

    return client.send, functools.partial(client.send, '{"eof": 1}'), replies()


async def speak_wyoming(stack: contextlib.AsyncExitStack, address: Address, sessions: Sessions) -> Conversation:
    place = await stack.enter_async_context(serve_wyoming("127.0.0.1", 0, sessions))
    client = await stack.enter_async_context(AsyncTcpClient("127.0.0.1", int(place.rpartition(":")[2])))

    async def send(data: bytes) -> None:
        await client.write_event(AudioChunk(16000, 2, 1, data).event())

    async def transcript() -> list[Any]:
        texts = []
        while (event := await client.read_event()) and event.type != "transcript-stop":
            texts += [event.data["text"]] if event.type == "transcript" else []
        return texts

    return send, functools.partial(client.write_event, AudioStop().event()), transcript()


def replies_alone(model: AcousticModel, pieces: list[bytes]) -> list[str]:
    """What vosk-server's protocol answers to each of these pieces of a stream, and to its end."""
    dialogue, pcm, recognizer = Dialogue(VoskConfig(16000), 16000), Pcm("s16le", 1), model.recognizer()
    replies = []
    for piece in pieces:
        for samples in pcm.push(piece):
            for event in engine.feed(model, recognizer, samples):
                dialogue.tell(event)
        replies.append(dialogue.reply())
    for event in engine.finish(model, recognizer):
        dialogue.tell(event)
    return [*replies, dialogue.last()]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 40_000)), max_size=30))
def test_each_client_hears_its_own_sound_only_whatever_the_others_send_and_when(
    tiny: AcousticModel, dealt: list[tuple[int, int]]
) -> None:
    voices = [(babble(16000 * 3, seed) * 32767).astype("<i2") for seed in range(10, 15)]
    pieces: list[list[bytes]] = [[] for _ in voices]

    @asynchronous
    async def story() -> None:
        rest = [voice.tobytes() for voice in voices]
        async with serving(tiny) as (address, sessions), contextlib.AsyncExitStack() as stack:
            protocols = (speak_recognize, speak_recognize, speak_vosk, speak_vosk, speak_wyoming)
            speakers = [await protocol(stack, address, sessions) for protocol in protocols]
            hearing = [asyncio.create_task(heard) for _, _, heard in speakers]
            for who, size in [*dealt, *((who, len(data)) for who, data in enumerate(rest))]:
                if piece := rest[who][:size]:
                    rest[who] = rest[who][size:]
                    pieces[who].append(piece)
                    await speakers[who][0](piece)
            for _, end, _ in speakers:
                await end()
            *ours, first, second, transcript = await asyncio.gather(*hearing)
        for voice, (_, *messages) in zip(voices, ours, strict=False):
            whole = iter(alone(tiny, voice))
            assert all(message in whole for message in messages)  # in this order; some partials are conflated
            assert [message for message in messages if message["type"] != "partial"] == expected(tiny, voice) != []
        assert [first, second] == [replies_alone(tiny, said) for said in pieces[2:4]]
        assert transcript == [" ".join(final["text"] for final in expected(tiny, voices[4]))] != [""]

    story()


@asynchronous
async def test_frames_may_be_of_one_byte_and_cut_samples_in_two(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _), speaking(address) as client:
        assert (await spoken(client, VOICES[1][:8000], block=1))[1:] == expected(tiny, VOICES[1][:8000])


@asynchronous
async def test_audio_of_another_rate_and_format_is_resampled(tiny: AcousticModel) -> None:
    voice = (babble(44100 * 2, 5) * 32767).astype("<i2")
    async with serving(tiny) as (address, _), speaking(address) as client:
        await client.send(config(sample_rate=44100, format="f32le"))
        floats = voice.astype("<f4") / np.float32(32768)
        assert (await spoken(client, floats, block=1001))[1:] == expected(tiny, voice, 44100)


@asynchronous
async def test_a_client_hears_what_it_asks_for(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _), speaking(address) as client:
        await client.send(config(partials=False, words=False, pause_seconds=0.3))
        await client.send(VOICES[0].tobytes())
        await client.send(END)
        finals = (await everything(client))[1:]
        assert finals == [final | {"words": []} for final in expected(tiny, VOICES[0], pause_seconds=0.3)]


@asynchronous
async def test_samples_that_are_no_numbers_are_silence(tiny: AcousticModel) -> None:
    samples = np.full(16000, np.nan, "<f4")
    async with serving(tiny) as (address, _), speaking(address) as client:
        await client.send(config(format="f32le"))
        assert [message["type"] for message in await spoken(client, samples)] == ["hello"]
        assert client.close_code == 1000


@asynchronous
async def test_an_end_without_audio_is_answered_by_the_end(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _), speaking(address) as client:
        await client.send(END)
        assert [message["type"] for message in await everything(client)] == ["hello"]
        assert client.close_code == 1000


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        (["hello"], "is not JSON"),
        (['{"type":"start"}'], "has no known type"),
        ([config(sample_rate=1)], "sample_rate must be"),
        ([config(hotwords=["a"])], "hotwords need a language model: give --lm"),
        ([config(), config()], "the config comes too late"),
        ([b"\0\0", config()], "the config comes too late"),
        (["[" * 16_000], "is not JSON"),
        (["x" * 20_000], "at most 16384 bytes"),
    ],
)
def test_a_wrong_message_is_answered_in_a_sentence(tiny: AcousticModel, messages: list[Any], told: str) -> None:
    @asynchronous
    async def story() -> None:
        async with serving(tiny) as (address, _), speaking(address) as client:
            for message in messages:
                await client.send(message)
            error = (await everything(client))[-1]
            assert error["type"] == "error"
            assert told in error["message"]
            assert client.close_code == 1008
            assert client.close_reason in error["message"]

    story()


@asynchronous
async def test_hotwords_are_those_of_one_session(streaming: Any, language: Any) -> None:
    model = load(streaming, language)
    async with serving(model) as (address, _), speaking(address) as first, speaking(address) as second:
        await first.send(config(hotwords=["zoë"]))
        assert "'zoë' has a character" in (await everything(first))[-1]["message"]
        await second.send(config(hotwords=["cab"]))
        assert (await spoken(second, VOICES[0]))[-1]["type"] == "final"
    assert not model.decoder.hot.words  # type: ignore[attr-defined]


@asynchronous
async def test_a_message_that_is_too_large_ends_the_session(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _), speaking(address) as client:
        await client.send(bytes((1 << 20) + 1))
        assert (await ending(client))[0] == 1009


@asynchronous
async def test_who_sends_no_audio_is_parted_with_after_its_last_words(tiny: AcousticModel) -> None:
    async with serving(tiny, mute_seconds=0.2) as (address, sessions), speaking(address) as client:
        await client.send(VOICES[0].tobytes())
        *events, error = await everything(client)
        assert events[-1]["type"] == "final"
        assert error == {"type": "error", "message": "no message was sent for 0.2 seconds"}
        assert client.close_code == 1008
        await until(lambda: sessions.tally.sessions == {"recognize": 1})


@asynchronous
async def test_a_muted_client_that_answers_pings_stays(tiny: AcousticModel) -> None:
    async with serving(tiny, idle_seconds=0.2) as (address, sessions), speaking(address, ping_interval=None) as client:
        await until(lambda: sessions.admission.sessions == 1)
        pings = []
        process = client.process_event

        def note(event: Any) -> None:
            pings.extend([event] if event.opcode is Opcode.PING else [])
            process(event)

        client.process_event = note  # type: ignore[method-assign]
        await until(lambda: len(pings) > 6)  # twice as long as it may be silent
        assert (await spoken(client, VOICES[0]))[1:] == expected(tiny, VOICES[0])


@asynchronous
async def test_a_client_that_is_killed_in_the_middle_of_a_word_leaves_nothing_behind(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, sessions), speaking(address) as other:
        client = await speaking(address)
        await client.send(VOICES[0][:9000].tobytes())
        await until(lambda: sessions.admission.sessions == 2)
        client.transport.abort()
        await until(lambda: sessions.admission.sessions == 1)
        assert (await spoken(other, VOICES[1]))[1:] == expected(tiny, VOICES[1])


@asynchronous
async def test_a_half_open_connection_is_given_up(tiny: AcousticModel) -> None:
    async with serving(tiny, idle_seconds=0.2, patience_seconds=0.2) as (address, sessions):
        sock = await stuck_client(address.port, "/recognize")
        await until(lambda: sessions.admission.sessions == 1)
        await until(lambda: sessions.admission.sessions == 0)
        sock.close()


@asynchronous
async def test_a_reader_that_stops_reading_is_parted_with_and_hurts_nobody(tiny: AcousticModel) -> None:
    async with serving(tiny, patience_seconds=0.2) as (address, sessions):
        sock = await stuck_client(address.port, "/recognize")
        await until(lambda: sessions.admission.sessions == 1)
        loop = asyncio.get_running_loop()
        chatter = np.tile(VOICES[0], 8).tobytes()  # masked with zeros
        frame = b"\x82\xff" + len(chatter).to_bytes(8, "big") + bytes(4) + chatter

        async def talk() -> None:
            with contextlib.suppress(OSError):
                while True:
                    await loop.sock_sendall(sock, frame)

        talking = asyncio.create_task(talk())
        async with speaking(address) as other:
            assert (await spoken(other, VOICES[1]))[1:] == expected(tiny, VOICES[1])
        await until(lambda: sessions.admission.sessions == 0)
        await talking
        sock.close()


@asynchronous
async def test_a_web_page_from_elsewhere_may_not_open_a_session(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _):
        for path in ("/recognize", "/"):
            with pytest.raises(InvalidStatus) as refused:
                await speaking(address, path, origin="https://evil.example")
            assert refused.value.response.status_code == 403
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://evil.example:{address.port}{path}", host="127.0.0.1", proxy=None)
            assert refused.value.response.status_code == 403


@asynchronous
async def test_a_server_without_sessions_takes_no_audio() -> None:
    async with serve(Hub(), port=0) as address:
        with pytest.raises(InvalidStatus) as refused:
            await speaking(address)
        assert refused.value.response.status_code == 404
        assert refused.value.response.body == b"This server takes no audio: start it with --serve.\n"


@asynchronous
async def test_above_capacity_a_session_is_refused_before_it_begins_and_the_others_go_on(tiny: AcousticModel) -> None:
    admission = Admission()
    async with serving(tiny, admission) as (address, _), speaking(address) as client:
        admission.ran = lambda seconds, audio_seconds: None  # type: ignore[method-assign]
        await client.recv()
        Admission.ran(admission, 0.8, 1)  # one place
        for path in ("/recognize", "/"):
            with pytest.raises(InvalidStatus) as refused:
                await speaking(address, path)
            assert refused.value.response.status_code == 503
            assert refused.value.response.body == b"The places for sessions are all taken (1): try again later.\n"
        health = json.loads((await fetch(address, "/healthz"))[2])
        assert (health["sessions"], health["places"]) == (1, 1)
        async with speaking(address, "/captions"):
            pass  # captions are no sessions
        Admission.ran(admission, 0.0, 1000)
        async with speaking(address) as second:
            assert json.loads(await second.recv())["type"] == "hello"


@pytest.mark.parametrize("path", ["/recognize", "/"])
def test_who_loses_the_last_place_after_its_handshake_is_told_so(tiny: AcousticModel, path: str) -> None:
    admission = Admission(max_sessions=1)

    @asynchronous
    async def story() -> None:
        async with serving(tiny, admission) as (address, sessions):
            with contextlib.ExitStack() as places:

                def refusal(address: str) -> str | None:
                    told = Admission.refusal(admission, address)
                    if told is None:
                        places.enter_context(admission.place("198.51.100.1"))  # somebody else is quicker
                    return told

                admission.refusal = refusal  # type: ignore[method-assign]
                async with speaking(address, path) as client:
                    with pytest.raises(ConnectionClosed) as closed:
                        await client.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1013
                assert closed.value.rcvd.reason == "The places for sessions are all taken (1): try again later."
                await until(lambda: sessions.tally.endings == {"full": 1})
                assert (sessions.tally.refusals, sessions.tally.sessions) == ({"sessions": 1}, {})
                del admission.refusal
            async with speaking(address) as client:
                assert (await spoken(client, VOICES[1]))[1:] == expected(tiny, VOICES[1])

    story()


@asynchronous
async def test_one_address_gets_a_bounded_number_of_sessions(tiny: AcousticModel) -> None:
    async with serving(tiny, Admission(per_address=1)) as (address, sessions), speaking(address):
        await until(lambda: sessions.admission.sessions == 1)
        with pytest.raises(InvalidStatus) as refused:
            await speaking(address)
        assert refused.value.response.status_code == 503


@asynchronous
async def test_when_the_server_stops_sessions_hear_their_last_words(tiny: AcousticModel) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with serving(tiny) as (address, sessions):
            clients = [await stack.enter_async_context(speaking(address)) for _ in range(5)]
            for client in clients:
                await client.send(VOICES[0][:20_000].tobytes())
                while json.loads(await client.recv())["type"] != "partial":
                    pass
            parting = [asyncio.create_task(everything(client)) for client in clients]
        for client, messages in zip(clients, await asyncio.gather(*parting), strict=True):
            assert messages[-1]["type"] == "final"
            assert client.close_code == 1001
        assert sessions.admission.refusal("anyone") == "The server is shutting down: try again later."


def test_who_does_not_come_to_its_end_is_waited_for_as_long_as_the_grace_and_no_longer(tiny: AcousticModel) -> None:
    async def story(ends: list[float]) -> float:
        clock = asyncio.get_running_loop().time
        async with listening(tiny, grace_seconds=7) as sessions:

            async def client(end_seconds: float) -> None:
                with sessions.enter("127.0.0.1", lambda event: None) as session:
                    with contextlib.suppress(asyncio.CancelledError):
                        await session.listen(asyncio.sleep(1e6))
                    await asyncio.sleep(end_seconds)

            clients = [asyncio.create_task(client(end)) for end in ends]
            await asyncio.sleep(1)
            await sessions.drain()
            drained = clock() - 1
            assert [task.done() for task in clients] == [end < 7 for end in ends]
            await cancel(*clients)
        return drained

    for ends, seconds in (([], 0), ([0, 3], 3), ([0, 3, 900], 7)):
        assert run_virtually(story(ends)) == seconds


@asynchronous
async def test_the_log_tells_how_late_a_session_was_at_most_and_none_of_its_words(
    tiny: AcousticModel, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asr_stream")
    ticks = iter(range(1_000_000))
    finals: list[str] = []

    def tell(event: Event) -> None:
        finals.extend([event.text] if isinstance(event, Final) else [])

    async with Scheduler(tiny, clock=lambda: float(next(ticks))) as scheduler:
        sessions = Sessions(scheduler, Admission())
        with sessions.enter("127.0.0.1", tell):
            pass
        with sessions.enter("127.0.0.1", tell) as session:
            await session.hear(VOICES[0].tobytes())
            await session.finish()
    silent, spoke = (record for record in caplog.records if " ends " in record.getMessage())
    assert (silent.audio_seconds, silent.lag_seconds) == (0, 0)
    assert (spoke.audio_seconds, spoke.lag_seconds) == (4, session.lag_seconds)
    assert session.lag_seconds >= 1
    assert spoke.getMessage().endswith(f" ends after 4 s of audio, at most {session.lag_seconds:g} s late")
    assert finals
    assert not any(text in caplog.text for text in finals)


@asynchronous
async def test_a_recogniser_that_fails_ends_its_own_session_and_the_log_tells_which(
    tiny: AcousticModel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Fragile(Recognizer):
        def advance(self, *answer: Any) -> list[Event]:
            if self.limits.pause_seconds == 5:
                raise ValueError("a bug")
            return super().advance(*answer)

    monkeypatch.setattr("streamer.model.Recognizer", Fragile)
    async with serving(tiny) as (address, sessions), speaking(address) as unlucky, speaking(address) as other:
        await unlucky.send(config(pause_seconds=5))
        await unlucky.send(VOICES[0].tobytes())
        hello, *_ = await everything(unlucky)
        assert unlucky.close_code == 1011
        assert f"the recogniser of session {hello['stream']} has failed" in caplog.text
        assert "ValueError: a bug" in caplog.text
        assert (await spoken(other, VOICES[1]))[1:] == expected(tiny, VOICES[1])
        await until(lambda: sessions.tally.endings == {"recogniser": 1, "done": 1})
