from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamer.events import Event, Final, Gap, Hello, Partial, Word, from_json, to_json

positions = st.integers(0, 10**10)
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


@pytest.mark.parametrize(
    "message", [{}, {"type": "song"}, {"type": "final", "segment": 1}, {"type": "gap", "start": "x"}]
)
def test_what_is_no_event_is_refused(message: dict[str, object]) -> None:
    with pytest.raises((KeyError, ValueError, TypeError)):
        from_json(message, 16000)
