"""Sound that is no speech, or not English, through the shipped model: nothing breaks, nothing grows, segments end."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bench import garbage
from streamer import engine
from streamer.ctc import Greedy
from streamer.events import Event, Final, Partial, to_json
from streamer.model import AcousticModel, find, find_lm, load
from streamer.recognizer import Recognizer

RATE = 16000
NOISE = np.random.default_rng(0)
SOUNDS: dict[str, Callable[[int, int], np.ndarray]] = {
    **garbage.SOUNDS,
    "noise at full scale": lambda samples, _: NOISE.uniform(-1, 1, samples).astype(np.float32),
    "a constant": lambda samples, _: np.ones(samples, np.float32),
}


@pytest.fixture(scope="module")
def shipped() -> AcousticModel:
    """The default model with its language model."""
    path = find(None)
    return load(path, find_lm(None, path))


@pytest.mark.parametrize("name", SOUNDS)
def test_sound_that_is_no_speech_is_survived(shipped: AcousticModel, name: str) -> None:
    assert shipped.spec.features.sample_rate == RATE
    recognizer = shipped.recognizer()
    sound = SOUNDS[name](45 * RATE, RATE)
    assert np.abs(sound).max() <= 1
    events, longest = feed(shipped, recognizer, sound)
    events += engine.finish(shipped, recognizer)
    assert longest <= 41 / (shipped.spec.step_samples / RATE)  # a segment is cut after 40 seconds at the latest
    for event in events:
        assert isinstance(event, Partial | Final)
        json.dumps(to_json(event, RATE), allow_nan=False)
        assert 0 <= event.start <= event.end <= len(sound)
    words = [word for event in events if isinstance(event, Final) for word in event.words]
    assert all(0 <= word.confidence <= 1 for word in words)
    assert sum(word.confidence >= 0.5 for word in words) <= max(2, 0.4 * len(words))  # whoever greys doubtful words out
    assert sum(word.confidence >= 0.8 for word in words) <= max(1, 0.1 * len(words))  # greys these


def feed(model: AcousticModel, recognizer: Recognizer, sound: np.ndarray) -> tuple[list[Event], int]:
    """The events of a sound, and the most output frames an open segment had."""
    events, longest = list[Event](), 0
    for second in np.split(sound, len(sound) // RATE):
        events += engine.feed(model, recognizer, second)
        longest = max(longest, recognizer._hypothesis.frame)
    return events, longest


class Babbler:
    """A model that hears the same two letters by turns, without a space or a breath, whatever it is given."""

    def __init__(self, model: AcousticModel) -> None:
        self.spec = model.spec
        letters = [self.spec.vocab.index(letter) for letter in "ba"]
        probabilities = np.full((self.spec.chunk_steps, len(self.spec.vocab)), 1e-4)
        probabilities[np.arange(self.spec.chunk_steps), np.resize(letters, self.spec.chunk_steps)] = 0.97
        self.log_probs = np.log(probabilities).astype(np.float32)

    def step(self, windows: list[np.ndarray], states: list[object]) -> list[tuple[np.ndarray, object]]:
        return [(self.log_probs, state) for state in states]


@pytest.mark.parametrize("helped", [True, False])
def test_a_word_that_never_ends_is_cut_and_its_memory_given_back(shipped: AcousticModel, helped: bool) -> None:
    decoder = shipped.decoder if helped else Greedy(shipped.spec.vocab, shipped.spec.blank)
    babbler: Any = Babbler(shipped)
    recognizer = shipped.recognizer(decoder=decoder)
    sound = np.zeros(42 * RATE, np.float32)
    tracemalloc.start()
    try:
        held = []
        for _ in range(3):
            events, longest = feed(babbler, recognizer, sound)
            [final] = [event for event in events if isinstance(event, Final)]
            assert 35 * RATE < final.end - final.start <= 41 * RATE
            assert longest <= 41 / (shipped.spec.step_samples / RATE)
            del events, final
            [*engine.finish(babbler, recognizer)]
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert held[2] - held[1] < 1_000_000
