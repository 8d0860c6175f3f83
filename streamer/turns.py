"""A turn of many streams at one model: what the worker thread does in a step, and what comes of it for each stream."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from streamer import engine
from streamer.events import Event
from streamer.model import AcousticModel
from streamer.recognizer import Floats, Recognizer


@dataclass(frozen=True, slots=True)
class Turn:
    """What the worker does for one stream: take these samples, then run a chunk; `last` when no more will come."""

    recognizer: Recognizer
    samples: Floats
    last: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a turn; `over` when the stream has ended and its open segment is closed."""

    events: list[Event]
    over: bool


def take_turns(model: AcousticModel, turns: Sequence[Turn]) -> list[Outcome | Exception]:
    """One chunk of every stream that has one, all in one step of the model; what fails is one stream's failure."""
    pushed = {turn.recognizer: engine.attempt(functools.partial(_push, turn)) for turn in turns}
    answers = dict(engine.step(model, [recognizer for recognizer, error in pushed.items() if error is None]))
    return [_outcome(turn, pushed[turn.recognizer] or answers.get(turn.recognizer)) for turn in turns]


def _push(turn: Turn) -> None:
    turn.recognizer.push(turn.samples)
    if turn.last:
        turn.recognizer.flush()


def _outcome(turn: Turn, answer: list[Event] | Exception | None) -> Outcome | Exception:
    if isinstance(answer, Exception):
        return answer
    if answer is None and turn.last:
        events = engine.attempt(turn.recognizer.finish)
        return events if isinstance(events, Exception) else Outcome(events, True)
    return Outcome(answer or [], False)
