from __future__ import annotations

import contextlib
import itertools
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamer.session_config import MAX_TEXT_BYTES, Config, ConfigError, Pcm, load_config, load_message

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_config(load_message(text))
    return str(refused.value)


def test_a_configuration_is_read_and_what_it_leaves_out_has_defaults() -> None:
    full: dict[str, Any] = {
        "sample_rate": 48000, "format": "f32le", "partials": False, "words": False, "pause_seconds": 1,
    }  # fmt: skip
    message = {"type": "config", "hotwords": ["Anna", "asr stream"]} | full
    assert load_config(load_message(json.dumps(message))) == Config(**full, hotwords=("anna", "asr", "stream"))
    assert load_config({"type": "config"}) == Config(16000, "s16le", True, True, (), 0.4)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"sample_rate": "16000"}, "sample_rate must be a whole number of Hz from 4000 to 192000"),
        ({"sample_rate": 16000.0}, "sample_rate must be a whole number"),
        ({"sample_rate": True}, "sample_rate must be a whole number"),
        ({"sample_rate": 10**30}, "sample_rate must be a whole number"),
        ({"format": "mp3"}, "format must be s16le or f32le"),
        ({"format": ["s16le"]}, "format must be s16le or f32le"),
        ({"partials": 1}, "partials must be true or false"),
        ({"words": None}, "words must be true or false"),
        ({"hotwords": "anna"}, "hotwords must be a list of at most 200 words of at most 40 characters"),
        ({"hotwords": [1]}, "hotwords must be"),
        ({"hotwords": ["x"] * 201}, "hotwords must be"),
        ({"hotwords": ["x" * 41]}, "hotwords must be"),
        ({"pause_seconds": 0}, "pause_seconds must be a number of seconds from 0.1 to 10.0"),
        ({"pause_seconds": float("nan")}, "pause_seconds must be"),
        ({"rate": 16000}, "unknown field 'rate': known are sample_rate, format, partials, words, hotwords"),
    ],
)
def test_what_is_wrong_is_named_in_one_sentence(wrong: dict[str, Any], told: str) -> None:
    assert told in refusal(json.dumps({"type": "config"} | wrong))


@pytest.mark.parametrize("text", ["", "hello", "[]", "1", "null", '{"type"', "[" * 10_000, "1" * 10_000])
def test_what_is_no_json_object_is_refused(text: str) -> None:
    assert "the text message is not" in refusal(text)


def test_a_message_is_bounded_and_so_is_what_a_refusal_repeats_of_it() -> None:
    assert "at most 16384 bytes" in refusal("x" * (MAX_TEXT_BYTES + 1))
    assert len(refusal(json.dumps({"x" * 10_000: 1}))) < 200


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.sampled_from(["type", *Config.__dataclass_fields__, "x"]), ANYTHING))
def test_whatever_is_in_it_a_configuration_is_valid_or_refused(message: dict[str, Any]) -> None:
    with contextlib.suppress(ConfigError):
        config = load_config(load_message(json.dumps(message)))
        assert 4000 <= config.sample_rate <= 192_000
        assert config.format in ("s16le", "f32le")
        assert 0.1 <= config.pause_seconds <= 10


@given(st.text())
def test_whatever_text_comes_is_an_object_or_refused(text: str) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(load_message(text), dict)


@given(st.binary(max_size=64), st.lists(st.integers(0, 64), max_size=5), st.sampled_from(["s16le", "f32le"]))
def test_samples_do_not_depend_on_how_their_bytes_were_cut(data: bytes, at: list[int], form: Any) -> None:
    def samples(pieces: list[bytes]) -> bytes:
        pcm = Pcm(form)
        return b"".join(block.tobytes() for piece in pieces for block in pcm.push(piece))

    cuts = [0, *sorted(cut % (len(data) + 1) for cut in at), len(data)]
    assert samples([data[a:b] for a, b in itertools.pairwise(cuts)]) == samples([data])


def test_sixteen_bits_are_scaled_to_one_and_a_large_message_comes_in_pieces() -> None:
    (block,) = Pcm("s16le").push(np.array([0, 16384, -32768], "<i2").tobytes())
    assert block.tolist() == [0, 0.5, -1]
    blocks = list(Pcm("f32le").push(bytes(1 << 20)))
    assert [block.nbytes for block in blocks] == [1 << 16] * 16


def test_what_is_nested_deeper_than_any_message_is_refused() -> None:
    assert load_message('{"a":' * 7 + "[]" + "}" * 7)
    for deep in ('{"a":' * 8 + "[]" + "}" * 8, '{"a":' + "[" * 900 + "]" * 900 + "}"):
        with pytest.raises(ConfigError, match="nested deeper than 8 levels"):
            load_message(deep)


def test_floats_that_signal_that_they_are_no_numbers_make_no_noise() -> None:
    """Found by `python -m bench.fuzz audio`; warnings are errors here."""
    (samples,) = Pcm("f32le").push(b"\x01\x00\x80\x7f")
    assert np.isnan(samples).all()
