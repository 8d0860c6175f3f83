"""Runs the ready chunks of many recognisers in one model step; a single stream is a batch of one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamer.events import Event
from streamer.model import AcousticModel
from streamer.recognizer import Floats, Recognizer


def step(model: AcousticModel, recognizers: Sequence[Recognizer]) -> list[tuple[Recognizer, list[Event]]]:
    """One chunk of every recogniser that has one ready; returns those recognisers with their new events."""
    ready = [(recognizer, request) for recognizer in recognizers if (request := recognizer.take())]
    if not ready:
        return []
    answers = model.step([request.features for _, request in ready], [request.state for _, request in ready])
    return [(recognizer, recognizer.advance(*answer)) for (recognizer, _), answer in zip(ready, answers, strict=True)]


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
        yield from answered[0][1]
