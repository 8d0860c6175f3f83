"""Wyoming, Home Assistant's voice protocol, with the client of its own package (github.com/OHF-Voice/wyoming)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import PROGRAM, fails
from test_sessions import VOICES, expected, listening
from waiting import asynchronous, until
from wyoming.asr import Transcribe, Transcript, TranscriptChunk
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong

from streamer import wyoming, wyoming_protocol
from streamer.admission import Admission
from streamer.events import Final, Partial
from streamer.model import AcousticModel, load
from streamer.server import ServerError
from streamer.session_config import Encoding, Pcm
from streamer.sessions import Sessions
from streamer.wyoming import serve_wyoming
from streamer.wyoming_protocol import Message, Parser

FORMAT = {"rate": 16000, "width": 2, "channels": 1}
START = b'{"type":"audio-start","data":{"rate":16000,"width":2,"channels":1}}\n'
STREAMING = ["transcript-start", "transcript", "transcript-stop"]


@pytest.fixture(scope="module")
def tiny(streaming: Any) -> AcousticModel:
    return load(streaming)


@asynccontextmanager
async def serving(
    model: AcousticModel, admission: Admission | None = None, **limits: float
) -> AsyncIterator[tuple[int, Sessions]]:
    async with (
        listening(model, admission, **limits) as sessions,
        serve_wyoming("127.0.0.1", 0, sessions) as place,
    ):
        try:
            yield int(place.rpartition(":")[2]), sessions
        finally:
            await sessions.drain()


def connected(port: int) -> AsyncTcpClient:
    return AsyncTcpClient("127.0.0.1", port)


async def say(client: AsyncTcpClient, voice: np.ndarray, block: int = 3200, **form: int) -> None:
    """What Home Assistant sends: the request, the audio in chunks, its end."""
    form = FORMAT | form
    await client.write_event(Transcribe(language="en").event())
    await client.write_event(AudioStart(**form).event())
    data = voice.tobytes()
    for at in range(0, len(data), block):
        await client.write_event(AudioChunk(audio=data[at : at + block], **form).event())
    await client.write_event(AudioStop().event())


async def heard(client: AsyncTcpClient) -> list[Event]:
    """The events of one request."""
    events = []
    while not events or events[-1].type not in ("transcript-stop", "error"):
        event = await client.read_event()
        assert event is not None
        events.append(event)
    return events


def transcript(events: list[Event]) -> str:
    """The text of a whole answer, whose streamed part must say the same."""
    chunks = [event for event in events if event.type == "transcript-chunk"]
    assert [event.type for event in events if event not in chunks] == STREAMING
    assert [event.type for event in events[-2:]] == STREAMING[1:]
    text = Transcript.from_event(events[-2]).text
    assert "".join(TranscriptChunk.from_event(chunk).text for chunk in chunks) == text
    return text


def words_of(model: AcousticModel, voice: np.ndarray, rate: int = 16000) -> str:
    """What this voice says alone."""
    return " ".join(final["text"] for final in expected(model, voice, rate))


@asynchronous
async def test_info_names_the_model_its_version_its_languages_and_that_transcripts_are_streamed(
    tiny: AcousticModel,
) -> None:
    async with serving(tiny) as (port, sessions), connected(port) as client:
        await client.write_event(Describe().event())
        event = await client.read_event()
        assert event is not None
        (program,) = Info.from_event(event).asr
        (model,) = program.models
        assert (program.name, program.installed, program.supports_transcript_streaming) == ("asr-stream", True, True)
        assert (model.name, model.languages, model.installed) == ("tiny", ["en"], True)
        assert model.version
        assert program.attribution.name == model.attribution.name == "asr-stream"
        await client.write_event(Ping("here?").event())
        assert Pong.from_event(await client.read_event()).text == "here?"
        assert sessions.admission.sessions == 0


@asynchronous
async def test_home_assistant_hears_what_was_said(model: AcousticModel) -> None:
    async with serving(model) as (port, sessions):
        async with connected(port) as client:
            await say(client, VOICES[0])
            events = await heard(client)
            assert transcript(events) == words_of(model, VOICES[0]) != ""
            assert events[-2].data["language"] == "en"
            await until(lambda: sessions.admission.sessions == 0)
        await until(lambda: sessions.tally.endings == {"left": 1})
        assert sessions.tally.sessions == {"wyoming": 1}
        assert sum(sessions.tally.latency["final"].counts) > 0


@asynchronous
async def test_a_recogniser_that_fails_is_an_error_and_the_end(
    tiny: AcousticModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(tiny) as (port, sessions), connected(port) as client:
        monkeypatch.setattr("streamer.recognizer.Recognizer.advance", lambda *_: 1 / 0)
        await say(client, VOICES[0])
        assert Error.from_event((await heard(client))[-1]).text == "the recogniser has failed: see the server's log"
        assert await client.read_event() is None
    assert sessions.tally.endings == {"recogniser": 1}


@asynchronous
async def test_settled_words_are_sent_while_the_client_is_still_speaking(model: AcousticModel) -> None:
    async with serving(model) as (port, _), connected(port) as client:
        await client.write_event(AudioStart(**FORMAT).event())
        await client.write_event(AudioChunk(audio=VOICES[0].tobytes(), **FORMAT).event())
        begun = [await client.read_event() for _ in range(2)]
        assert [event and event.type for event in begun] == ["transcript-start", "transcript-chunk"]
        await client.write_event(AudioStop().event())
        assert transcript([event for event in begun if event] + await heard(client)) == words_of(model, VOICES[0])


@asynchronous
async def test_a_connection_serves_one_request_after_the_other(tiny: AcousticModel) -> None:
    async with serving(tiny) as (port, _), connected(port) as client:
        for voice in VOICES:
            await say(client, voice)
            assert transcript(await heard(client)) == words_of(tiny, voice)
            await client.write_event(Describe().event())
            event = await client.read_event()
            assert event is not None
            assert event.type == "info"


@asynchronous
async def test_requests_at_the_same_time_hear_what_they_hear_alone(tiny: AcousticModel) -> None:
    async with serving(tiny) as (port, _), contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(port)) for _ in VOICES]
        await asyncio.gather(*map(say, clients, VOICES, (999, 3200, 50_000)))
        answers = await asyncio.gather(*map(heard, clients))
        assert [transcript(events) for events in answers] == [words_of(tiny, voice) for voice in VOICES]


def widened(voice: np.ndarray, width: int) -> np.ndarray:
    """The same samples with another number of bytes."""
    match width:
        case 1:
            return ((voice >> 8) + 128).astype(np.uint8)
        case 3:
            return (voice.astype("<i4") << 8).view(np.uint8).reshape(-1, 4)[:, :3].copy()
        case 4:
            return voice.astype("<i4") << 16
    return voice


@pytest.mark.parametrize(("rate", "width", "channels"), [(44100, 2, 2), (8000, 1, 1), (16000, 3, 2), (48000, 4, 3)])
def test_any_rate_width_and_number_of_channels_is_understood(
    tiny: AcousticModel, rate: int, width: int, channels: int
) -> None:
    @asynchronous
    async def story() -> None:
        voice = (VOICES[1] >> 8) << 8
        wide = widened(voice, width)
        several = np.stack([wide] * channels, axis=1)
        async with serving(tiny) as (port, _), connected(port) as client:
            await say(client, several, block=1001, rate=rate, width=width, channels=channels)
            assert transcript(await heard(client)) == words_of(tiny, voice, rate) != ""

    story()


@pytest.mark.parametrize("form", ["u8", "s16le", "s24le", "s32le", "f32le"])
def test_full_scale_is_one_in_every_encoding(form: Encoding) -> None:
    lowest = {
        "u8": b"\0",
        "s16le": b"\0\x80",
        "s24le": b"\0\0\x80",
        "s32le": b"\0\0\0\x80",
        "f32le": np.float32(-1).tobytes(),
    }
    data = lowest[form] * 4
    pcm = Pcm(form, channels=2)
    pieces = [piece for at in range(len(data)) for piece in pcm.push(data[at : at + 1])]
    assert np.concatenate(pieces).tolist() == [[-1, -1], [-1, -1]]


@asynchronous
async def test_no_audio_is_an_empty_transcript(tiny: AcousticModel) -> None:
    async with serving(tiny) as (port, _), connected(port) as client:
        await say(client, VOICES[0][:0])
        assert transcript(await heard(client)) == ""
        await client.write_event(AudioStop().event())
        assert transcript(await heard(client)) == ""


@asynchronous
async def test_what_is_unknown_is_ignored_and_questions_are_answered_in_between(tiny: AcousticModel) -> None:
    async with serving(tiny) as (port, _), connected(port) as client:
        await client.write_event(Event("select-program", {"name": "asr-stream"}, b"\0" * 100))
        await client.write_event(AudioStart(**FORMAT).event())
        await client.write_event(Event("voice-started", {"timestamp": 1}))
        await client.write_event(Describe().event())
        await client.write_event(AudioStop().event())
        assert [event.type for event in await heard(client)] == ["transcript-start", "info", *STREAMING[1:]]


@asynchronous
async def test_names_and_terms_are_words_to_listen_for(streaming: Any, language: Any) -> None:
    async with serving(load(streaming, language)) as (port, sessions), connected(port) as client:
        spelled: list[Any] = []
        spell = sessions.spelled
        sessions.spelled = lambda words: spelled.append(spell(words)) or spelled[-1]  # type: ignore[func-returns-value,method-assign]
        request = Transcribe(transcript_names=["Cab Zoë"], transcript_terms=["abba", 7])  # type: ignore[list-item]
        await client.write_event(request.event())
        await client.write_event(AudioStart(**FORMAT).event())
        await client.write_event(AudioStop().event())
        assert transcript(await heard(client)) == ""
        assert spelled == [("cab", "abba")]


def nested(levels: int) -> bytes:
    """A list in a list in a list."""
    return b"[" * levels + b"]" * levels


def test_eight_levels_are_understood() -> None:
    parser = Parser()
    parser.push(b'{"type":"describe","data_length":20,"data":{"a":' + nested(6) + b'}}\n{"b":' + nested(7) + b"}")
    message = parser.take()
    assert message is not None
    assert message.data == {"a": json.loads(nested(6)), "b": json.loads(nested(7))}


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (b"GET / HTTP/1.1\r\nHost: here\r\n\r\n", "first line is not JSON"),
        (b"[]\n", "is not a JSON object"),
        (b"[" * 9000 + b"\n", "is not JSON"),
        (b"{}\n", "has no type"),
        (b" " * 17000, "at most 16384 bytes"),
        (b'{"type":"describe","data":[1]}\n', "data is not a JSON object"),
        (b'{"type":"describe","data_length":-1}\n', "data_length must be a whole number from 0 to 65536"),
        (b'{"type":"describe","payload_length":1e9}\n', "payload_length must be a whole number from 0 to 1048576"),
        (b'{"type":"describe","payload_length":true}\n', "payload_length must be"),
        (b'{"type":"describe","data":{"a":' + nested(7) + b"}}\n", "first line is nested deeper than 8 levels"),
        (b'{"type":"describe","data_length":22}\n{"a":' + nested(8) + b"}", "data is nested deeper than 8 levels"),
        (b'{"type":"describe","data_length":3}\n[1]', "data is not a JSON object"),
        (b'{"type":"audio-start"}\n', "rate must be a whole number of Hz from 4000 to 192000"),
        (b'{"type":"audio-chunk","data":{"rate":16000,"width":5,"channels":1}}\n', "width must be"),
        (b'{"type":"audio-chunk","data":{"rate":16000,"width":2,"channels":0}}\n', "channels must be"),
        (START + START.replace(b"16000", b"8000"), "have changed: send audio-stop before that"),
        (START + b"nonsense\n", "is not JSON"),
        (b'{"type":"transcribe","data":{"language":"de"}}\n', "understands the language 'en', not 'de'"),
        (b'{"type":"transcribe","data":{"transcript_names":"x"}}\n', "must be a list of phrases"),
    ],
)
def test_bad_input_is_answered_by_an_error_and_the_end(tiny: AcousticModel, sent: bytes, told: str) -> None:
    @asynchronous
    async def story() -> None:
        async with serving(tiny) as (port, sessions):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            parser = Parser()
            parser.push(await reader.read())
            messages = list(iter(parser.take, None))
            assert messages[-1].type == "error"
            assert told in messages[-1].data["text"]
            writer.close()
            await until(lambda: sessions.admission.sessions == 0)

    story()


@asynchronous
async def test_there_is_a_place_or_a_sentence_that_says_why_not(tiny: AcousticModel) -> None:
    async with (
        serving(tiny, Admission(per_address=1)) as (port, _),
        connected(port) as first,
        connected(port) as second,
    ):
        await first.write_event(AudioStart(**FORMAT).event())
        await first.read_event()
        await second.write_event(Describe().event())
        assert (await second.read_event()).type == "info"  # type: ignore[union-attr]
        await second.write_event(AudioStart(**FORMAT).event())
        error = Error.from_event((await heard(second))[-1])
        assert error.text == "127.0.0.1 has as many sessions as it may have (1): close one of them first."
        assert await second.read_event() is None


@asynchronous
async def test_a_transcript_that_never_ends_is_ended(tiny: AcousticModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamer.wyoming.MAX_TRANSCRIPT_CHARACTERS", 3)
    async with serving(tiny) as (port, sessions), connected(port) as client:
        await client.write_event(AudioChunk(audio=VOICES[0].tobytes(), **FORMAT).event())
        assert "send audio-stop now and then" in Error.from_event((await heard(client))[-1]).text
        await until(lambda: sessions.admission.sessions == 0)


@asynchronous
async def test_connections_that_ask_for_nothing_are_bounded(
    tiny: AcousticModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.wyoming.MAX_IDLE_CONNECTIONS", 1)
    async with serving(tiny) as (port, sessions), connected(port) as first:
        await answered(first)
        async with connected(port) as second:
            error = Error.from_event((await heard(second))[-1])
            assert error.text == "The places for connections without a session are all taken (1): try again later."
            assert await second.read_event() is None
        await say(first, VOICES[0])
        assert transcript(await heard(first))
        assert sessions.tally.endings == {"full": 1}


@asynchronous
async def test_an_address_has_its_share_of_the_connections_besides_its_sessions(
    tiny: AcousticModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streamer.wyoming.MAX_IDLE_PER_ADDRESS", 1)
    async with serving(tiny) as (port, _), connected(port) as first:
        await first.write_event(AudioStart(**FORMAT).event())
        await first.read_event()
        async with connected(port) as second:  # as the first has a session
            await answered(second)
            async with connected(port) as third:
                error = Error.from_event((await heard(third))[-1])
                told = (
                    "127.0.0.1 has as many connections without a session as it may have (1): close one of them first."
                )
                assert error.text == told
                assert await third.read_event() is None
        await first.write_event(AudioStop().event())
        await heard(first)
        await answered(first)  # its session is over
        async with connected(port) as fourth:
            assert Error.from_event((await heard(fourth))[-1]).text == told


async def answered(client: AsyncTcpClient) -> None:
    """The server has this connection and answers it."""
    await client.write_event(Ping().event())
    assert (await client.read_event()).type == "pong"  # type: ignore[union-attr]


def test_the_share_of_an_address_leaves_places_for_others() -> None:
    lines = [mock.Mock(address="10.0.0.1", in_session=False) for _ in range(wyoming.MAX_IDLE_PER_ADDRESS)]
    lines += [mock.Mock(address="10.0.0.1", in_session=True) for _ in range(500)]
    assert "10.0.0.1 has as many" in str(wyoming._crowded("10.0.0.1", lines))
    assert wyoming._crowded("10.0.0.2", lines) is None


@asynchronous
async def test_who_sends_nothing_is_parted_with_after_its_transcript(tiny: AcousticModel) -> None:
    async with serving(tiny, idle_seconds=0.2) as (port, _), connected(port) as client:
        await client.write_event(AudioStart(**FORMAT).event())
        await client.write_event(AudioChunk(audio=VOICES[0].tobytes(), **FORMAT).event())
        assert transcript(await heard(client)) == words_of(tiny, VOICES[0])
        error = Error.from_event((await heard(client))[-1])
        assert error.text == "no whole message was sent for 0.2 seconds"
        assert await client.read_event() is None


@pytest.mark.parametrize(
    ("before", "kinds"),
    [(b"", ["error"]), (START, ["transcript-start", "transcript", "transcript-stop", "error"])],
    ids=["without a session", "in a session"],
)
@pytest.mark.parametrize("begun", [b"", b'{"type":"ping","payload_length":1048576}\n'], ids=["header", "payload"])
def test_a_message_that_comes_byte_by_byte_holds_no_place_for_ever(
    tiny: AcousticModel, before: bytes, begun: bytes, kinds: list[str]
) -> None:
    @asynchronous
    async def story() -> None:
        async with serving(tiny, idle_seconds=0.5) as (port, sessions):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(before + begun)
            trickling = asyncio.create_task(trickle(writer))
            parser = Parser()
            parser.push(await reader.read())  # until the server ends it
            messages = list(iter(parser.take, None))
            assert [message.type for message in messages] == kinds
            assert messages[-1].data["text"] == "no whole message was sent for 0.5 seconds"
            trickling.cancel()
            await asyncio.gather(trickling, return_exceptions=True)
            writer.close()
            await until(lambda: sessions.tally.endings == {"silent": 1})
            assert sessions.admission.sessions == 0

    story()


async def trickle(writer: asyncio.StreamWriter) -> None:
    """Blanks, one by one, for ever."""
    while True:
        writer.write(b" ")
        await asyncio.sleep(0.02)


@asynchronous
async def test_a_client_that_vanishes_in_the_middle_of_a_word_leaves_nothing_behind(tiny: AcousticModel) -> None:
    async with serving(tiny) as (port, sessions), connected(port) as other:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(Message("audio-chunk", FORMAT, VOICES[0][:9000].tobytes()).dump() + b'{"type":"audio-')
        await until(lambda: sessions.admission.sessions == 1)
        writer.transport.abort()
        await until(lambda: sessions.admission.sessions == 0)
        await say(other, VOICES[1])
        assert transcript(await heard(other)) == words_of(tiny, VOICES[1])


@asynchronous
async def test_who_reads_nothing_is_given_up(tiny: AcousticModel) -> None:
    async with serving(tiny, patience_seconds=0.2) as (port, _), connected(port) as other:
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1)
        question = Message("describe").dump() * 1000

        async def ask() -> None:
            while True:
                writer.write(question)
                await writer.drain()

        with pytest.raises(ConnectionError):
            await ask()
        await say(other, VOICES[1])
        assert transcript(await heard(other)) == words_of(tiny, VOICES[1])


@asynchronous
async def test_when_the_server_stops_the_transcript_is_sent(tiny: AcousticModel) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with serving(tiny) as (port, _):
            client = await stack.enter_async_context(connected(port))
            silent = await stack.enter_async_context(connected(port))
            await client.write_event(AudioStart(**FORMAT).event())
            await client.write_event(AudioChunk(audio=VOICES[0][:20_000].tobytes(), **FORMAT).event())
            begun = [await client.read_event() for _ in range(2)]
        assert transcript([event for event in begun if event] + await heard(client)) != ""
        assert await client.read_event() is None
        assert await silent.read_event() is None


@asynchronous
async def test_a_port_that_is_in_use_is_a_sentence(tiny: AcousticModel) -> None:
    async with serving(tiny) as (port, sessions):
        with pytest.raises(ServerError, match=f"cannot listen at tcp://127.0.0.1:{port} .*: give another --wyoming"):
            await serve_wyoming("127.0.0.1", port, sessions).__aenter__()


@asynchronous
async def test_who_listens_beyond_this_machine_is_warned(tiny: AcousticModel, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(tiny) as (_, sessions):
        assert not caplog.records
        async with serve_wyoming("0.0.0.0", 0, sessions) as place:
            assert f"{place} is open to other machines: whoever reaches it may send audio" in caplog.text


def test_an_address_that_is_none_is_a_sentence() -> None:
    for value in ("127.0.0.1:10300", "tcp://127.0.0.1", "tcp://[::1:1", "tcp://:1", "tcp://a:99999", "tcp://a:1/path"):
        assert "give it as tcp://HOST:PORT, for example tcp://127.0.0.1:10300" in fails("--wyoming", value)


def test_the_program_serves_wyoming_beside_websockets_until_it_is_stopped(streaming: Any) -> None:
    command = [*PROGRAM, "--model", str(streaming), "--port", "0", "--wyoming", "tcp://127.0.0.1:0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        told = [process.stderr.readline() for _ in range(3)]
        assert "/recognize" in told[1]
        assert "Wyoming clients may speak at tcp://127.0.0.1:" in told[2]

        @asynchronous
        async def story() -> None:
            async with connected(int(told[2].rpartition(":")[2])) as client:
                await client.write_event(AudioChunk(audio=VOICES[0].tobytes(), **FORMAT).event())
                begun = [await client.read_event() for _ in range(2)]
                process.send_signal(signal.SIGTERM)
                assert transcript([event for event in begun if event] + await heard(client)) != ""

        story()
        assert process.wait(30) == 0


# What is said, as pure values.


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(), st.integers(), st.binary(max_size=50)), max_size=5), st.data())
def test_messages_are_the_same_however_their_bytes_are_cut(sent: list[tuple[str, int, bytes]], data: Any) -> None:
    messages = [Message(kind, {"a": number} if number else {}, payload) for kind, number, payload in sent]
    whole = b"".join(message.dump() for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    parser, taken = Parser(), []
    for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        parser.push(whole[begin:end])
        taken += iter(parser.take, None)
    assert taken == messages


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner))
FIELDS = st.sampled_from(
    ["type", "data", "data_length", "payload_length", "rate", "width", "channels", "language", "transcript_names"]
)
KINDS = st.sampled_from(["describe", "transcribe", "audio-start", "audio-chunk", "audio-stop", "ping"])
OBJECTS = st.dictionaries(FIELDS, JSON | st.integers(0, 20) | st.sampled_from([16000]) | st.dictionaries(FIELDS, JSON))
LINES = st.builds(lambda fields, kind: json.dumps({"type": kind} | fields).encode() + b"\n", OBJECTS, KINDS)


AUDIO = st.builds(
    lambda kind, rate, payload: Message(kind, FORMAT | {"rate": rate}, payload).dump(),
    st.sampled_from(["audio-start", "audio-chunk", "audio-stop"]),
    st.sampled_from([16000, 16000, 8000, 1]),
    st.binary(max_size=40),
)


@settings(max_examples=30, deadline=None)
@given(sent=st.lists(AUDIO | AUDIO | LINES, max_size=8))
def test_any_messages_are_answered_and_nothing_is_left_behind(tiny: AcousticModel, sent: list[bytes]) -> None:
    @asynchronous
    async def story() -> None:
        async with serving(tiny) as (port, sessions):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"".join(sent))
            writer.write_eof()
            parser = Parser()
            parser.push(await reader.read())
            answers = [message.type for message in iter(parser.take, None)]
            writer.close()
            assert set(answers) <= {"info", "pong", "error", "transcript-chunk", *STREAMING}
            assert "error" not in answers[:-1]
            await until(lambda: sessions.admission.sessions == 0)

    with mock.patch("streamer.wyoming.log.exception") as failures:
        story()
    assert not failures.called


def test_words_are_told_once_and_segments_are_parted_by_a_space() -> None:
    told = wyoming_protocol.Transcript()
    taken = []
    for event in (
        Partial(0, 0, 1, "one tw", 3),
        Partial(0, 0, 1, "one two thr", 7),
        Final(0, 0, 1, "one two three", ()),
        Partial(1, 0, 1, "fo", 0),
        Partial(1, 0, 1, "", 0),
        Final(2, 0, 1, "five", ()),
    ):
        told.tell(event)
        taken.append(told.take())
    assert taken == ["one", " two", " three", "", "", " five"]
    assert told.text == "one two three five"
