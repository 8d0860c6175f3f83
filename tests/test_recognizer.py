from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from tiny_model import STREAMING, babble

from streamer import ctc, engine
from streamer.chunker import Chunker
from streamer.endpoint import Endpointing
from streamer.events import Event, Final, Gap, Partial
from streamer.model import AcousticModel, load
from streamer.recognizer import Recognizer


def listen(model: AcousticModel, samples: np.ndarray, limits: Endpointing | None = None) -> list[Event]:
    recognizer = Recognizer(model.spec, model.initial_state, limits)
    return [*engine.feed(model, recognizer, samples), *engine.finish(model, recognizer)]


def test_partials_grow_into_the_final_of_their_segment(model: AcousticModel) -> None:
    events = listen(model, babble(16000 * 8))
    last: dict[int, Partial] = {}
    for event in events:
        if isinstance(event, Partial):
            last[event.segment] = event
        elif isinstance(event, Final) and event.segment in last:
            assert event.text.startswith(last[event.segment].text)
    assert [e.segment for e in events if isinstance(e, Final)] == list(range(len(last)))


def test_stable_characters_of_a_partial_never_change(model: AcousticModel) -> None:
    settled: dict[int, str] = {}
    recognizer = model.recognizer()
    for event in [*engine.feed(model, recognizer, babble(16000 * 8)), *engine.finish(model, recognizer)]:
        if isinstance(event, Partial | Final):
            assert event.text.startswith(settled.get(event.segment, ""))
        if isinstance(event, Partial):
            settled[event.segment] = event.text[: event.stable]
            assert event.text[event.stable : event.stable + 1] in ("", " ") or event.stable == 0
    assert any(settled.values())


def test_words_lie_in_order_within_the_audio(model: AcousticModel) -> None:
    samples = babble(16000 * 8)
    words = [word for e in listen(model, samples) if isinstance(e, Final) for word in e.words]
    starts = [word.start for word in words]
    assert starts == sorted(starts)
    assert all(0 <= word.start < word.end <= len(samples) for word in words)
    assert all(0 < word.confidence <= 1 for word in words)


def test_a_pause_ends_a_segment_and_a_new_one_begins(model: AcousticModel) -> None:
    finals = [e for e in listen(model, babble(16000 * 10)) if isinstance(e, Final)]
    assert len(finals) >= 3
    assert all(a.end <= b.start for a, b in pairwise(finals))


def test_a_segment_that_grows_too_long_is_cut(model: AcousticModel) -> None:
    finals = [e for e in listen(model, babble(30000), Endpointing(length_seconds=0.5)) if isinstance(e, Final)]
    assert len(finals) > len([e for e in listen(model, babble(30000)) if isinstance(e, Final)])
    assert all(f.end - f.start <= 0.7 * 16000 for f in finals)


@pytest.mark.parametrize("samples", [0, 1, 399, 400, 2560])
def test_streams_shorter_than_a_chunk_end_without_trouble(model: AcousticModel, samples: int) -> None:
    for event in listen(model, babble(2560)[:samples]):
        assert isinstance(event, Partial | Final)
        assert event.start <= event.end <= samples


def test_silence_says_nothing(model: AcousticModel) -> None:
    assert listen(model, np.zeros(16000 * 12, np.float32)) == []


def test_lost_audio_is_announced_and_moves_all_later_positions(model: AcousticModel) -> None:
    recognizer = Recognizer(model.spec, model.initial_state)
    before = [*engine.feed(model, recognizer, babble(20000)), *engine.finish(model, recognizer)]
    [gap] = recognizer.gap(5000, "overrun")
    after = [*engine.feed(model, recognizer, babble(20000)), *engine.finish(model, recognizer)]
    assert gap == Gap(20000, 25000, "overrun")
    assert recognizer.position == 45000
    shifted = [e.text for e in after if isinstance(e, Final)]
    assert shifted == [e.text for e in before if isinstance(e, Final)]  # the state was new again
    first_before, first_after = (next(e for e in some if isinstance(e, Final)) for some in (before, after))
    assert first_after.start - first_before.start == 25000


def test_more_samples_than_there_is_room_for_are_refused() -> None:
    chunker = Chunker(STREAMING)
    with pytest.raises(ValueError, match="room"):
        chunker.push(np.zeros(chunker.room + 1, np.float32))


def test_a_long_stream_keeps_only_what_it_needs(model: AcousticModel) -> None:
    recognizer = Recognizer(model.spec, model.initial_state)
    for _ in range(20):
        for _ in engine.feed(model, recognizer, babble(16000)):
            pass
        assert len(recognizer._hypothesis.tokens) < 600
        assert recognizer._chunker._ring.capacity < 16000 * 5


class Doubtful:
    """A decoder that hears a word in its second step and thinks better of it in its third."""

    start = ctc.Hypothesis()

    def step(self, decoded: ctc.Hypothesis, log_probs: np.ndarray) -> ctc.Hypothesis:
        return dataclasses.replace(decoded, frame=decoded.frame + len(log_probs), last_id=decoded.last_id + 1)

    def words(self, decoded: ctc.Hypothesis, ended: bool = False) -> tuple[ctc.WordSpan, ...]:
        return (ctc.WordSpan("hm", 1, 2, 0.5),) if decoded.last_id == 1 else ()

    def settled(self, decoded: ctc.Hypothesis) -> int:
        return 0

    def within_word(self, decoded: ctc.Hypothesis) -> bool:
        return False


def test_words_that_are_taken_back_leave_an_empty_partial(streaming: Path) -> None:
    model = load(streaming)
    recognizer = Recognizer(model.spec, model.initial_state, decoder=Doubtful())
    events = list(engine.feed(model, recognizer, babble(16000)))
    events += engine.finish(model, recognizer)
    assert [(event.segment, event.text) for event in events if isinstance(event, Partial)] == [(0, "hm"), (0, "")]
    assert not [event for event in events if isinstance(event, Final)]
