"""Law 1, cut-invariance: what a stage outputs does not depend on how its input was cut into blocks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
import tiny_model
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tiny_model import STREAMING, VOCAB, WINDOWED, babble

from streamer import ctc, endpoint, engine
from streamer.chunker import Chunker
from streamer.endpoint import Endpointing
from streamer.events import Event, Final
from streamer.intake import Intake
from streamer.model import AcousticModel, load
from streamer.ring import Ring
from streamer.spec import ModelSpec

SAMPLES = babble(16000 * 4, seed=1)
LOG_PROBS = np.log(np.random.default_rng(2).dirichlet(np.full(len(VOCAB), 0.3), 200)).astype(np.float32)

cuts = st.lists(st.integers(0, 20_000), max_size=8)
law = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pieces(whole: np.ndarray, at: Sequence[int]) -> Iterator[np.ndarray]:
    """`whole` cut at increasing positions made from any numbers; some pieces may be empty."""
    return iter(np.split(whole, sorted(number % (len(whole) + 1) for number in at)))


def invariant(run: Callable[[Iterator[np.ndarray]], object], whole: np.ndarray, at: Sequence[int]) -> None:
    assert run(pieces(whole, at)) == run(iter([whole]))


@law
@given(cuts)
def test_a_ring_holds_the_same_last_samples_however_they_were_written(at: list[int]) -> None:
    def run(blocks: Iterator[np.ndarray]) -> tuple[int, bytes]:
        ring = Ring(1000)
        for block in blocks:
            ring.write(block)
        return ring.written, ring.read(ring.written - 1000, ring.written).tobytes()

    invariant(run, SAMPLES, at)


@law
@given(cuts, st.sampled_from([8000, 44100, 48000, 16000]))
def test_an_intake_resamples_the_same_however_its_input_was_cut(at: list[int], rate: int) -> None:
    def run(blocks: Iterator[np.ndarray]) -> bytes:
        intake = Intake("test", rate, 16000)
        found = [block for samples in blocks for block in intake.push(samples)]
        return np.concatenate([*found, *intake.flush()]).tobytes()

    invariant(run, SAMPLES[:20_000], at)


FORESIGHTED = dataclasses.replace(STREAMING, right_context=32)  # looks further ahead than its chunk is long


@law
@given(cuts)
def test_a_network_that_looks_far_ahead_says_the_same_too(
    tmp_path_factory: pytest.TempPathFactory, at: list[int]
) -> None:
    model = load(tiny_model.build(FORESIGHTED, tmp_path_factory.mktemp("model") / "model.onnx"))
    invariant(lambda blocks: everything(model, blocks), SAMPLES, at)


def everything(model: AcousticModel, blocks: Iterator[np.ndarray]) -> list[Event]:
    """What a recogniser says to these blocks."""
    recognizer = model.recognizer()
    events = [event for block in blocks for event in engine.feed(model, recognizer, block)]
    return [*events, *engine.finish(model, recognizer)]


@pytest.mark.parametrize("spec", [STREAMING, WINDOWED], ids=lambda spec: spec.kind)
@law
@given(cuts)
def test_a_chunker_gives_the_same_features_however_samples_were_pushed(spec: ModelSpec, at: list[int]) -> None:
    def run(blocks: Iterator[np.ndarray]) -> list[bytes]:
        chunker, found = Chunker(spec), []
        for block in blocks:
            while len(block):
                room = chunker.room
                chunker.push(block[:room])
                block = block[room:]
                while (window := chunker.take()) is not None:
                    found.append(window.tobytes())
        return found

    invariant(run, SAMPLES, at)


@law
@given(cuts)
def test_ctc_and_endpointing_decide_the_same_however_log_probs_were_cut(at: list[int]) -> None:
    def run(blocks: Iterator[np.ndarray]) -> tuple[ctc.Hypothesis, endpoint.Rule | None]:
        hypothesis = ctc.Hypothesis()
        for block in blocks:
            hypothesis = ctc.step(hypothesis, block, blank=0)
        return hypothesis, endpoint.fires(hypothesis, 0.04, Endpointing())

    invariant(run, LOG_PROBS, at)


@law
@given(cuts)
@example([1, 2, 3, 4, 5, 6, 7])
def test_a_recogniser_says_the_same_however_samples_were_pushed(model: AcousticModel, at: list[int]) -> None:
    invariant(lambda blocks: everything(model, blocks), SAMPLES, at)
    assert any(isinstance(event, Final) for event in everything(model, iter([SAMPLES])))


@law
@given(st.permutations(range(4)), st.integers(1, 4))
def test_streams_that_are_batched_say_what_they_say_alone(
    model: AcousticModel, order: list[int], together: int
) -> None:
    streams = [babble(16000 * 2, seed) for seed in range(4)]
    alone = [everything(model, iter([samples])) for samples in streams]
    recognizers = [model.recognizer() for _ in streams]
    heard: list[list[Event]] = [[] for _ in streams]
    for recognizer, samples in zip(recognizers, streams, strict=True):
        recognizer.push(samples)
        recognizer.flush()
    for at in range(0, 4, together):
        some = [recognizers[i] for i in order[at : at + together]]
        while answers := engine.step(model, some):
            for recognizer, events in answers:
                heard[recognizers.index(recognizer)] += events
    for events, recognizer in zip(heard, recognizers, strict=True):
        events += recognizer.finish()
    assert heard == alone


def test_a_batched_step_gives_the_log_probs_of_a_step_alone(model: AcousticModel) -> None:
    spec = model.spec
    frames = spec.chunk_frames + (spec.left_context + spec.right_context) * (spec.kind == "windowed")
    windows = list(np.random.default_rng(0).normal(-5, 3, (5, frames, spec.features.width)).astype(np.float32))
    states = [model.initial_state] * 5
    together = model.step(windows, states)
    for window, (log_probs, state) in zip(windows, together, strict=True):
        [(expected, after)] = model.step([window], [model.initial_state])
        np.testing.assert_allclose(log_probs, expected, atol=1e-5)
        for name, value in after.items():
            np.testing.assert_allclose(state[name], value, atol=1e-5)
