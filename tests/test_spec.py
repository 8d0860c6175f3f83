from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import STREAMING, WINDOWED

from streamer.spec import SpecError, load_spec


@pytest.mark.parametrize("spec", [STREAMING, WINDOWED], ids=lambda spec: spec.kind)
def test_a_description_is_read_back_as_it_was_written(spec: object) -> None:
    assert load_spec(spec.dump()) == spec  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"schema": 2}, "schema is 2"),
        ({"kind": "hybrid"}, "kind is 'hybrid'"),
        ({"vocab": ["a"]}, "vocab"),
        ({"vocab": "ab"}, "vocab must be a list"),
        ({"blank": 9}, "blank is 9"),
        ({"chunk_frames": 15}, "chunk_frames is no multiple"),
        ({"chunk_frames": 0}, "chunk_frames is 0"),
        ({"chunk_frames": "16"}, "chunk_frames is '16'"),
        ({"right_context": -4}, "negative"),
        ({"left_context": 8}, "carries state"),
        ({"surprise": 1}, "unknown fact 'surprise'"),
        ({"features": {"frame_shift": 0}}, "frame_shift"),
        ({"features": {"kind": "mfcc"}}, "features.kind is 'mfcc'"),
        ({"features": {"high_hz": 9000}}, "high_hz"),
        ({"features": 3}, "features must be a JSON object"),
    ],
)
def test_a_wrong_fact_is_refused_by_name(change: dict[str, object], complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        load_spec(json.dumps(json.loads(STREAMING.dump()) | change))


@pytest.mark.parametrize("name", ["vocab", "blank", "features", "kind"])
def test_a_missing_fact_is_refused_by_name(name: str) -> None:
    facts = json.loads(STREAMING.dump())
    del facts[name]
    with pytest.raises(SpecError, match=f"lacks '{name}'"):
        load_spec(json.dumps(facts))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.sampled_from(sorted(json.loads(STREAMING.dump()))), json_values)
def test_any_value_for_any_fact_is_taken_or_refused_and_nothing_else(name: str, value: object) -> None:
    facts = json.loads(STREAMING.dump()) | {name: value}
    with contextlib.suppress(SpecError):
        assert getattr(load_spec(json.dumps(facts)), name) is not None


@given(st.text(max_size=50))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(SpecError):
        load_spec(text)


def test_a_fact_of_any_length_is_refused_in_a_sentence() -> None:
    """Found by `python -m bench.fuzz model`."""
    for fact in ({"name": [0] * 10_000}, {"kind": "x" * 10_000}, {"blank": 10**4000}, {"x" * 10_000: 1}):
        with pytest.raises(SpecError) as refused:
            load_spec(json.dumps(json.loads(STREAMING.dump()) | fact))
        assert len(str(refused.value)) < 300
