from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.events import Event, Final, Gap, Hello, Partial, Word, from_json, to_json

positions = st.integers(0, 10**12)
segments = st.integers(0, 10**6)
texts = st.text()
words = st.lists(st.builds(Word, texts, positions, positions, st.floats(0, 1))).map(tuple)
events = st.one_of(
    st.builds(Partial, segments, positions, positions, texts, st.integers(0)),
    st.builds(Final, segments, positions, positions, texts, words),
    st.builds(Gap, positions, positions, texts),
    st.builds(Hello, texts, texts, st.integers(4000, 192_000), texts, texts, st.integers(0)),
)


@given(events, st.sampled_from([8000, 11025, 16000, 44100, 48000]))
def test_what_is_read_from_json_says_the_same_in_json(event: Event, rate: int) -> None:
    message = to_json(event, rate)
    assert to_json(from_json(message, rate), rate) == message
    assert type(from_json(message, rate)) is type(event)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)
FIELDS = [to_json(event, 16000) for event in (
    Partial(1, 2, 3, "a", 1), Final(1, 2, 3, "a", (Word("a", 2, 3, 0.5),)), Gap(1, 2, "b"), Hello("m", "en", 8000, "s"),
)]  # fmt: skip


@given(st.sampled_from(FIELDS), st.data())
def test_a_message_with_a_field_that_makes_no_sense_is_refused_or_is_an_event(
    message: dict[str, Any], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(message)))
    broken = message | {name: data.draw(json_values)}
    with contextlib.suppress(ValueError):
        to_json(from_json(broken, 16000), 16000)
    with pytest.raises(ValueError, match="no"):
        from_json({key: value for key, value in message.items() if key != name}, 16000)


@pytest.mark.parametrize("message", [None, [], "final", {}, {"type": "song"}, {"type": ["final"]}])
def test_what_is_no_event_is_refused(message: object) -> None:
    with pytest.raises(ValueError, match="no type"):
        from_json(message, 16000)
