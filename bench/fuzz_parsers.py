"""What is fuzzed without a server: messages, entries, audio, model files; each with the law that it has to keep."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import json
import tempfile
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st

from bench.fuzz import Target
from streamer import hub, relay
from streamer.broker import Topic
from streamer.chunker import Chunker
from streamer.events import Event, Final, Gap, Hello, Partial, Word, from_json, to_json
from streamer.intake import Intake
from streamer.lm import LanguageSpec
from streamer.model import ModelError, load_lm
from streamer.session_config import ConfigError, Pcm, load_config, load_message
from streamer.spec import FeatureSpec, ModelSpec, SpecError, load_spec
from streamer.vosk_protocol import Dialogue, VoskConfig
from streamer.wyoming_protocol import Message, Parser, load_audio, load_words

MAX_SENTENCE = 600

_numbers = st.one_of(
    st.integers(), st.floats(), st.sampled_from([0, -1, 1, 1e308, 1e999, 2**31, 2**63, 10**400, 0.4, 16000, 8000])
)
_texts = st.one_of(st.text(max_size=20), st.sampled_from(["s16le", "f32le", "config", "end", "log_mel", "streaming"]))
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), _numbers, _texts),
    lambda inner: st.one_of(st.lists(inner, max_size=5), st.dictionaries(_texts, inner, max_size=5)),
    max_leaves=20,
)


def objects(*names: str) -> st.SearchStrategy[str]:
    """The text of JSON objects, most of whose fields have these names; sometimes it is broken."""
    facts = st.dictionaries(st.one_of(st.sampled_from(names), _texts), json_values, max_size=8)
    return st.one_of(facts.map(json.dumps), broken(facts.map(json.dumps)), st.text(max_size=200), nested)


nested = st.tuples(st.sampled_from(["[", '{"a":', "[["]), st.integers(1, 6000)).map(lambda t: t[0] * t[1])


@st.composite
def broken(draw: st.DrawFn, whole: st.SearchStrategy[Any]) -> Any:
    """A text or bytes of which a piece is missing, doubled or replaced."""
    value = draw(whole)
    start, end = sorted((draw(st.integers(0, len(value))), draw(st.integers(0, len(value)))))
    piece = draw(st.binary(max_size=8) if isinstance(value, bytes) else st.text(max_size=8))
    return value[:start] + draw(st.sampled_from([piece, value[start:end] * 2, value[:0]])) + value[end:]


def one_sentence(error: Exception) -> None:
    """A client or user can be told this."""
    assert str(error), type(error)
    assert "\n" not in str(error), str(error)
    assert len(str(error)) < MAX_SENTENCE, str(error)


def config_is_read_or_refused(text: str) -> None:
    try:
        config = load_config(load_message(text))
    except ConfigError as error:
        return one_sentence(error)
    assert 4000 <= config.sample_rate <= 192_000
    assert isinstance(config.sample_rate, int)
    assert 0.1 <= config.pause_seconds <= 10
    assert sum(map(len, config.hotwords)) <= 200 * 40 * 3  # lower case may be longer
    return None


def vosk_is_answered_or_refused(texts: list[str]) -> None:
    dialogue = Dialogue(VoskConfig(), 16000)
    for number, text in enumerate(texts):
        try:
            kind = dialogue.read(text, begun=number > 2)
        except ConfigError as error:
            one_sentence(error)
            continue
        assert kind in ("config", "eof", "reset")
        assert 4000 <= dialogue.config.sample_rate <= 192_000
        dialogue.tell(Partial(number, 0, 100, text, 0))
        dialogue.tell(Final(number, 0, 100, text, (Word(text, 0, 100, 0.5),)))
        assert isinstance(json.loads(dialogue.reply()), dict)
    assert isinstance(json.loads(dialogue.last()), dict)


def wyoming_is_read_or_refused(sent: list[bytes]) -> None:
    parser = Parser()
    try:
        for data in sent:
            parser.push(data)
            while message := parser.take():
                a_wyoming_message_is_understood_or_refused(message)
    except ConfigError as error:
        one_sentence(error)


def a_wyoming_message_is_understood_or_refused(message: Message) -> None:
    assert message.dump().startswith(b'{"type": "')
    try:
        assert sum(map(len, load_words(message.data, "en"))) <= 200 * 40 * 3
    except ConfigError as error:
        one_sentence(error)
    try:
        assert 4000 <= load_audio(message.data).sample_rate <= 192_000
    except ConfigError as error:
        one_sentence(error)


def entries_are_told_or_left_out(entries: list[dict[bytes, bytes]]) -> None:
    captions = hub.Hub()
    mailbox, subscription = captions.subscribe(), relay.Subscription(Topic("", "fuzz"), captions)
    with mock.patch.object(relay.log, "warning") as left_out:
        for fields in [*entries, entry(HELLO, LAST)]:
            left_out.reset_mock()
            subscription.tell(fields)
            assert left_out.call_count <= 1
            if not left_out.called:
                from_json(json.loads(fields[b"event"]))
    captions.close()
    told = asyncio.run(what_is_in(mailbox))
    assert LAST in [message.event for message in told]  # whatever came before it
    for message in told:
        from_json(json.loads(message.data, parse_constant=no_json))


def no_json(constant: str) -> None:
    """Infinity and NaN: a browser would not read them."""
    raise AssertionError(constant)


async def what_is_in(mailbox: hub.Mailbox) -> list[hub.Message]:
    """All messages of a mailbox that has been closed."""
    return [message async for message in mailbox]


def audio_is_finite_and_as_long_as_it_was(sent: tuple[str, int, list[bytes]]) -> None:
    form, rate, messages = sent
    cut, whole = (heard(form, rate, blocks) for blocks in (messages, [b"".join(messages)]))
    assert np.array_equal(cut, whole)  # however it was cut
    assert np.isfinite(whole).all()
    assert np.abs(whole).max(initial=0) <= 1
    samples = sum(map(len, messages)) // (2 if form == "s16le" else 4)
    assert abs(len(whole) - samples * 16000 / rate) <= 1


def heard(form: str, rate: int, messages: list[bytes]) -> np.ndarray:
    """The samples that a recogniser would be given."""
    pcm, intake = Pcm(form), Intake("fuzz", rate, 16000)  # type: ignore[arg-type]
    blocks = [block for data in messages for samples in pcm.push(data) for block in intake.push(samples)]
    return np.concatenate([np.zeros(0, np.float32), *blocks, *intake.flush()])


def a_description_is_read_or_refused(text: str) -> None:
    try:
        spec = load_spec(text)
    except SpecError as error:
        return one_sentence(error)
    assert load_spec(spec.dump()) == spec
    small = spec.features.sample_rate <= 48_000 and spec.chunk_frames + spec.left_context + spec.right_context < 1000
    if small and spec.features.frame_shift < 1000:  # then it can be used
        chunker = Chunker(spec)
        chunker.push(np.zeros(chunker.room, np.float32))
        window = chunker.take()
        assert window is not None
        assert window.shape[1] == spec.features.width
        assert np.isfinite(window).all()
    return None


def a_language_model_is_read_or_refused(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "fuzz.lm")
        path.write_bytes(data)
        try:
            lm = load_lm(path)
        except ModelError as error:
            return one_sentence(error)
    for word in ("a", "b", "", "zoë"):
        lm.begins_word(word)
    return None


@cache
def tiny_lm() -> bytes:
    """The bytes of a small language model."""
    from train.lm import estimate, write_lm

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tiny.lm")
        write_lm(path, LanguageSpec(), estimate([["a", "b", "c"], ["b", "a"], ["c"]] * 3))
        return path.read_bytes()


@st.composite
def language_models(draw: st.DrawFn) -> bytes:
    """An archive of arrays some of which are not what they should be."""
    with np.load(io.BytesIO(tiny_lm())) as arrays:
        tables = {name: arrays[name] for name in arrays.files}
    for name in draw(st.lists(st.sampled_from(sorted(tables)), max_size=3, unique=True)):
        tables[name] = draw(
            st.sampled_from([tables[name][:-1] if tables[name].ndim else tables[name], *_strange(name)])
        )
    out = io.BytesIO()
    np.savez(out, **{name: table for name, table in tables.items() if table is not None})
    return out.getvalue()


def _strange(name: str) -> list[Any]:
    spec = json.dumps({"weight": 1e308, "training": {}}) if name == "spec" else "x"
    wrong = [np.array(-1), np.array([np.nan]), np.array([[1]]), np.array(["a"]), np.array([255] * 9, np.uint8)]
    return [np.array(spec), None, *wrong]


def entry(hello: Hello, event: Event) -> dict[bytes, bytes]:
    """What a publisher gives the broker."""
    return {
        name: json.dumps(to_json(said, hello.sample_rate)).encode()
        for name, said in ((b"hello", hello), (b"event", event))
    }


@st.composite
def entries(draw: st.DrawFn) -> dict[bytes, bytes]:
    """An entry of a broker, most of whose fields are as they should be."""
    event = to_json(draw(st.sampled_from([HELLO, PARTIAL, FINAL, FINAL, GAP])), HELLO.sample_rate)
    if "words" in event:
        event["words"] = [word | draw(almost(word)) for word in event["words"]]
    messages = {b"hello": to_json(HELLO, HELLO.sample_rate), b"event": event}
    return {name: json.dumps(message | draw(almost(message))).encode() for name, message in messages.items()}


def almost(message: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A field that is something else, in every other message."""
    wrong = st.dictionaries(st.sampled_from(sorted(message)), st.one_of(_numbers, json_values), max_size=1)
    return st.one_of(st.just({}), wrong)


HELLO, GAP = Hello("fuzz", "en", 16000, "fuzz", "fuzz"), Gap(0, 16000, "lost")
PARTIAL, FINAL = Partial(1, 0, 1600, "so far", 2), Final(1, 0, 1600, "said", (Word("said", 0, 1600, 0.5),))
LAST = Final(2, 1600, 3200, "at last", ())
OPTIONAL = [field.name for field in dataclasses.fields(ModelSpec)][7:]
_features = st.fixed_dictionaries(
    {},
    optional={
        name: st.one_of(st.just(default), json_values) for name, default in dataclasses.asdict(FeatureSpec()).items()
    },
)
_described = st.fixed_dictionaries(
    {
        "name": st.one_of(st.just("fuzz"), json_values),
        "kind": st.one_of(st.sampled_from(["streaming", "windowed"]), json_values),
        "vocab": st.one_of(st.just(["<blank>", " ", "a"]), st.lists(_texts), json_values),
        "blank": st.one_of(st.just(0), json_values),
        "features": st.one_of(st.just({}), _features, json_values),
        "subsampling": st.one_of(st.just(4), json_values),
        "chunk_frames": st.one_of(st.just(16), json_values),
    },
    optional=dict.fromkeys(OPTIONAL, json_values),
)
_descriptions = st.one_of(_described.map(json.dumps), broken(_described.map(json.dumps)), objects("name", "kind"))
_audio = st.tuples(
    st.sampled_from(["s16le", "f32le"]),
    st.one_of(st.sampled_from([4000, 8000, 16000, 44100, 192_000]), st.integers(4000, 192_000)),
    st.lists(st.binary(max_size=2000), max_size=12),
)
_config = objects("type", "sample_rate", "format", "partials", "words", "hotwords", "pause_seconds")
_vosk = st.lists(
    st.one_of(
        objects("config", "eof", "reset"),
        st.dictionaries(
            st.sampled_from(["sample_rate", "words", "max_alternatives", "phrase_list", "model"]), json_values
        ).map(lambda config: json.dumps({"config": config})),
    ),
    max_size=6,
)
_wyoming_data = st.one_of(
    st.fixed_dictionaries(
        {"rate": st.sampled_from([16000, 48000, 1, "x"]), "width": st.integers(0, 5), "channels": st.integers(0, 9)}
    ),
    st.dictionaries(
        st.sampled_from(["language", "transcript_names", "transcript_terms", "rate"]),
        st.one_of(json_values, st.sampled_from(["en", "en-GB", "de"]), st.lists(_texts)),
    ),
)
_wyoming_whole = st.builds(
    Message, st.sampled_from(["audio-start", "audio-chunk", "transcribe", "describe"]), _wyoming_data, st.binary()
).map(Message.dump)
_wyoming = st.lists(
    st.one_of(
        _wyoming_whole,
        broken(_wyoming_whole),
        st.binary(max_size=300),
        objects("type", "data", "data_length", "payload_length").map(
            lambda line: f"{line}\n".encode("utf-8", "replace")
        ),
    ),
    max_size=6,
)

_broker = st.lists(
    st.one_of(
        entries(),
        entries(),
        st.dictionaries(
            st.sampled_from([b"hello", b"event", b"song"]),
            st.one_of(
                broken(st.sampled_from([HELLO, PARTIAL, FINAL]).map(lambda event: entry(HELLO, event)[b"event"])),
                nested.map(str.encode),
                st.binary(max_size=100),
            ),
        ),
    ),
    max_size=6,
)

PARSERS = {
    "config": Target(_config, config_is_read_or_refused),
    "vosk": Target(_vosk, vosk_is_answered_or_refused),
    "wyoming": Target(_wyoming, wyoming_is_read_or_refused),
    "broker": Target(_broker, entries_are_told_or_left_out),
    "audio": Target(_audio, audio_is_finite_and_as_long_as_it_was),
    "model": Target(_descriptions, a_description_is_read_or_refused),
    "language-model": Target(
        st.one_of(language_models(), broken(st.builds(tiny_lm)), st.binary(max_size=300)),
        a_language_model_is_read_or_refused,
    ),
}
