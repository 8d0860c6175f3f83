"""Runs the ready chunks of many recognisers in one model step; a single stream is a batch of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from streamer.events import Event
from streamer.model import AcousticModel
from streamer.recognizer import Floats, Recognizer, Request, State

Result = TypeVar("Result")


def step(model: AcousticModel, recognizers: Sequence[Recognizer]) -> list[tuple[Recognizer, list[Event] | Exception]]:
    """One chunk of every recogniser that has one ready; returns those recognisers with their new events.

    A recogniser that fails comes with its exception instead; the others go on.
    """
    taken = [(recognizer, attempt(recognizer.take)) for recognizer in recognizers]
    ready = [(recognizer, request) for recognizer, request in taken if isinstance(request, Request)]
    answers = _run(model, [request for _, request in ready])
    return [
        *((recognizer, error) for recognizer, error in taken if isinstance(error, Exception)),
        *((recognizer, _advance(recognizer, answer)) for (recognizer, _), answer in zip(ready, answers, strict=True)),
    ]


def attempt(work: Callable[[], Result]) -> Result | Exception:
    """What a function returns, or the exception that it raises."""
    try:
        return work()
    except Exception as error:  # of any kind: it belongs to one stream of many
        return error


def _run(model: AcousticModel, requests: Sequence[Request]) -> Sequence[tuple[Floats, State] | Exception]:
    """The model's answers, from one step or, should that fail, from one for each."""
    if not requests:
        return []
    answers = attempt(lambda: model.step([r.features for r in requests], [r.state for r in requests]))
    if not isinstance(answers, Exception):
        return answers
    return [answers] if len(requests) == 1 else [_run(model, [request])[0] for request in requests]


def _advance(recognizer: Recognizer, answer: tuple[Floats, State] | Exception) -> list[Event] | Exception:
    return answer if isinstance(answer, Exception) else attempt(lambda: recognizer.advance(*answer))


def feed(model: AcousticModel, recognizer: Recognizer, samples: Floats) -> Iterator[Event]:
    """Push samples of any length through one recogniser and run all that becomes ready."""
    while len(samples):
        room = recognizer.room
        recognizer.push(samples[:room])
        samples = samples[room:]
        yield from _drain(model, recognizer)


def finish(model: AcousticModel, recognizer: Recognizer) -> Iterator[Event]:
    """End the stream (or its unbroken part): decode what is left and close the open segment."""
    recognizer.flush()
    yield from _drain(model, recognizer)
    yield from recognizer.finish()


def _drain(model: AcousticModel, recognizer: Recognizer) -> Iterator[Event]:
    while answered := step(model, [recognizer]):
        events = answered[0][1]
        if isinstance(events, Exception):
            raise events
        yield from events
