"""vosk-server's protocol, as its clients use it (github.com/alphacep/vosk-server, websocket/)."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import PROGRAM, fails
from test_server import ending, fetch
from test_sessions import VOICES, expected, serving, speaking
from tiny_model import babble
from waiting import asynchronous, until
from websockets.asyncio.client import connect
from websockets.sync.client import connect as connect_sync

from streamer.events import Final, Partial, Word
from streamer.model import AcousticModel, load
from streamer.session_config import ConfigError
from streamer.vosk_protocol import Dialogue, VoskConfig

FIRST = Final(0, 8000, 24000, "one two", (Word("one", 8000, 12000, 0.5), Word("two", 16000, 24000, 0.75)))
SECOND = Final(1, 32000, 40000, "three", (Word("three", 32000, 40000, 1.0),))


@pytest.fixture(scope="module")
def tiny(streaming: Any) -> AcousticModel:
    return load(streaming)


def dialogue(*texts: str) -> Dialogue:
    said = Dialogue(VoskConfig(), 16000)
    for text in texts:
        assert said.read(text, begun=False) == "config"
    return said


def test_audio_is_answered_by_the_partial_even_when_it_is_empty() -> None:
    said = dialogue()
    assert json.loads(said.reply()) == {"partial": ""}
    said.tell(Partial(0, 0, 100, "one", 0))
    assert [json.loads(said.reply()) for _ in range(2)] == [{"partial": "one"}] * 2


def test_a_segment_that_ends_is_a_result_with_its_words_once() -> None:
    said = dialogue()
    said.tell(Partial(0, 0, 100, "one", 0))
    said.tell(FIRST)
    assert json.loads(said.reply()) == {
        "result": [
            {"conf": 0.5, "end": 0.75, "start": 0.5, "word": "one"},
            {"conf": 0.75, "end": 1.5, "start": 1.0, "word": "two"},
        ],
        "text": "one two",
    }
    assert json.loads(said.reply()) == {"partial": ""}


def test_segments_that_end_within_one_message_are_one_result() -> None:
    said = dialogue('{"config": {"words": 0}}')
    said.tell(FIRST)
    said.tell(SECOND)
    assert json.loads(said.reply()) == {"text": "one two three"}
    assert json.loads(said.last()) == {"text": ""}


def test_alternatives_are_given_when_asked_for() -> None:
    said = dialogue('{"config" : {"max_alternatives": 20, "words": false}}')
    said.tell(FIRST)
    assert json.loads(said.reply()) == {"alternatives": [{"confidence": 0.625, "text": "one two"}]}
    assert json.loads(said.last()) == {"alternatives": [{"confidence": 1.0, "text": ""}]}
    said = dialogue('{"config" : {"max_alternatives": 1}}')
    said.tell(SECOND)
    (alternative,) = json.loads(said.reply())["alternatives"]
    assert alternative["result"] == [{"end": 2.5, "start": 2.0, "word": "three"}]


@pytest.mark.parametrize("spacing", ['{"eof" : 1}', '{"eof":1}', ' { "eof" :1 } '])
def test_any_spacing_is_understood(spacing: str) -> None:
    assert dialogue().read(spacing, begun=True) == "eof"
    assert dialogue().read(spacing.replace("eof", "reset"), begun=True) == "reset"


def test_a_configuration_counts_before_the_first_audio_only() -> None:
    said = dialogue('{"config": {"sample_rate": 16000.0, "phrase_list": ["Oh one", "[unk]", 7], "model": "/x"}}')
    assert said.config == VoskConfig(16000, True, 0, ("oh", "one", "[unk]"))
    assert said.read('{"config": {"sample_rate": 48000}}', begun=True) == "config"
    assert said.config.sample_rate == 16000
    assert dialogue('{"config": {"sample_rate": "44100"}}').config.sample_rate == 44100


def test_another_model_is_ignored_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "asr_stream"):
        assert dialogue('{"config": {"sample_rate": 16000}}').config == VoskConfig(16000)
        assert not caplog.records
        assert dialogue('{"config": {"model": "/models/other"}}').config == VoskConfig()
    told = "a client of vosk-server's protocol asked for another model, which is ignored"
    assert [record.getMessage() for record in caplog.records] == [told]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("hello", "is not JSON"),
        ('{"what": 1}', 'none of {"config": ...}'),
        ('{"config": 8000}', "config is not a JSON object"),
        ('{"config": {"sample_rate": "fast"}}', "sample_rate must be a number of Hz"),
        ('{"config": {"sample_rate": 1e999}}', "sample_rate must be a number of Hz"),
        ('{"config": {"max_alternatives": []}}', "max_alternatives must be"),
        ('{"config": {"phrase_list": "one"}}', "phrase_list must be a list"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told.replace("{", r"\{")):
        dialogue().read(text, begun=False)


async def the_clients_loop(url: str, path: Path, heard: Callable[[str], None]) -> None:
    """What vosk-server's websocket/test.py does: one message, one reply, until the file ends."""
    async with connect(url, proxy=None) as websocket:
        with wave.open(str(path), "rb") as file:
            await websocket.send(f'{{ "config" : {{ "sample_rate" : {file.getframerate()} }} }}')
            frames = int(file.getframerate() * 0.2)
            while data := file.readframes(frames):
                await websocket.send(data)
                heard(str(await websocket.recv()))
        await websocket.send('{"eof" : 1}')
        heard(str(await websocket.recv()))


@asynchronous
async def test_the_sample_client_hears_the_words_of_its_file(model: AcousticModel, tmp_path: Path) -> None:
    path = tmp_path / "talk.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(VOICES[0].tobytes())
    heard: list[str] = []
    async with serving(model) as (address, sessions):
        await the_clients_loop(f"ws://127.0.0.1:{address.port}", path, heard.append)
        await until(lambda: sessions.admission.sessions == 0)
    replies = [json.loads(reply) for reply in heard]
    assert len(replies) == 20 + 1
    finals = expected(model, VOICES[0])
    assert [r["text"] for r in replies if r.get("text")] == [final["text"] for final in finals]
    words = [word for reply in replies for word in reply.get("result", ())]
    told = [word for final in finals for word in final["words"]]
    assert [(w["word"], w["start"], w["end"]) for w in words] == [(w["text"], w["start"], w["end"]) for w in told]
    assert any(reply.get("partial") for reply in replies)


@asynchronous
async def test_it_is_silent_on_connect_and_8000_hz_unless_told_otherwise(tiny: AcousticModel) -> None:
    voice = (babble(8000 * 3, 4) * 32767).astype("<i2")
    async with serving(tiny) as (address, _), speaking(address, "/client/ws/speech") as client:
        await client.send(voice.tobytes())
        await client.send('{"eof":1}')
        replies = [json.loads(message) async for message in client]
        assert client.close_code == 1000
    assert len(replies) == 2
    texts = [reply["text"] for reply in replies if reply.get("text")]
    assert " ".join(texts) == " ".join(final["text"] for final in expected(tiny, voice, 8000)) != ""


def test_the_program_takes_another_rate_for_clients_that_give_none(tiny: AcousticModel, streaming: Any) -> None:
    said = " ".join(final["text"] for final in expected(tiny, VOICES[0], 16000))
    assert said != " ".join(final["text"] for final in expected(tiny, VOICES[0], 8000))
    options = ["--model", str(streaming), "--serve", "--port", "0", "--vosk-rate", "16000"]
    with subprocess.Popen([*PROGRAM, *options], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        url = next(line.split()[-1] for line in process.stderr if "/recognize" in line)
        with connect_sync(url.replace("/recognize", "/"), proxy=None) as client:
            client.send(VOICES[0].tobytes())
            client.send('{"eof":1}')
            replies = [json.loads(message) for message in client]
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert " ".join(reply["text"] for reply in replies if reply.get("text")) == said


def test_a_rate_that_no_audio_has_is_refused_in_a_sentence() -> None:
    assert "--vosk-rate" in fails("--serve", "--vosk-rate", "3999")


@asynchronous
async def test_a_reset_answers_the_final_result_and_stays_open(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _), speaking(address, "/") as client:
        await client.send('{"config": {"sample_rate": 16000}}')
        for _ in range(2):
            await client.send(VOICES[1][:16000].tobytes())
            await client.recv()
            await client.send('{"reset": 1}')
            assert json.loads(await client.recv())["text"]
        assert client.state.name == "OPEN"


@asynchronous
async def test_times_go_on_counting_after_a_reset(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _), speaking(address, "/") as client:
        await client.send('{"config": {"sample_rate": 16000}}')
        for second in range(3):
            words = []
            for message in (VOICES[1][:16000].tobytes(), '{"reset": 1}'):
                await client.send(message)
                words += json.loads(await client.recv()).get("result", [])
            assert words
            assert all(second <= word["start"] < word["end"] <= second + 1 for word in words), words


@pytest.mark.parametrize("politely", [True, False])
def test_who_leaves_after_the_end_of_its_audio_without_reading_leaves_nothing_behind(
    tiny: AcousticModel, caplog: pytest.LogCaptureFixture, politely: bool
) -> None:
    @asynchronous
    async def story() -> None:
        async with serving(tiny) as (address, sessions):
            client = await speaking(address, "/")
            await client.send('{"config": {"sample_rate": 16000}}')
            await client.send(VOICES[0].tobytes())
            await client.send('{"eof":1}')
            if politely:
                await client.close()
            else:
                client.transport.abort()
            await until(lambda: sessions.tally.endings.total() == 1)
            assert set(sessions.tally.endings) <= {"done", "left", "vanished"}
            assert (sessions.tally.sessions, sessions.admission.sessions) == ({"vosk": 1}, 0)
            async with speaking(address, "/") as other:
                await other.send('{"eof":1}')
                assert json.loads(await other.recv()) == {"text": ""}

    story()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@asynchronous
async def test_a_sender_that_never_waits_gets_a_reply_for_each_message(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _), speaking(address, "/") as client:
        await client.send('{"config": {"sample_rate": 48000}}')
        data = np.repeat(VOICES[2], 3).tobytes()
        messages = [data[at : at + 19_201] for at in range(0, len(data), 19_201)] + [b""]
        for message in messages:
            await client.send(message)
        await client.send('{"eof" : 1}')
        replies = [json.loads(message) async for message in client]
        assert len(replies) == len(messages) + 1
        assert any(reply.get("text") for reply in replies)


@asynchronous
async def test_a_message_of_a_mebibyte_may_come_in_fragments_and_a_longer_one_ends_the_connection(
    tiny: AcousticModel,
) -> None:
    async with serving(tiny) as (address, _), speaking(address, "/") as client:
        await client.send('{"config": {"sample_rate": 192000}}')
        await client.send([bytes(1 << 16)] * 16)
        assert json.loads(await client.recv()) == {"partial": ""}
        await client.send([bytes(1 << 16)] * 16 + [b"."])
        assert (await ending(client))[0] == 1009


@asynchronous
async def test_phrases_are_hotwords_as_far_as_they_can_be_spelled(streaming: Any, language: Any) -> None:
    for model in (load(streaming), load(streaming, language)):
        async with serving(model) as (address, _), speaking(address, "/") as client:
            await client.send('{"config": {"phrase_list": ["cab zoë", "[unk]"], "model": "small"}}')
            await client.send(bytes(1600))
            assert json.loads(await client.recv()) == {"partial": ""}


@asynchronous
async def test_nonsense_ends_the_connection_with_a_reason(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _), speaking(address, "/") as client:
        await client.send("nonsense")
        code, reason = await ending(client)
        assert (code, "is not JSON" in str(reason)) == (1008, True)


@asynchronous
async def test_when_the_server_stops_the_last_result_is_sent(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _):
        client = await speaking(address, "/")
        await client.send('{"config": {"sample_rate": 16000}}')
        await client.send(VOICES[0][:20_000].tobytes())
        await client.recv()
    messages = [message async for message in _until_closed(client)]
    assert json.loads(messages[-1])["text"]
    assert client.close_code == 1001


async def _until_closed(client: Any) -> Any:
    async for message in client:
        yield message


@asynchronous
async def test_the_page_is_still_at_the_same_address(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, _):
        assert "<title>Live captions</title>" in (await fetch(address, "/"))[2]
        assert (await fetch(address, "/elsewhere"))[0] == 404
