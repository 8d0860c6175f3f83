"""The signal every model file is checked with: made by a formula, so that it is the same everywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from streamer import features
from streamer.chunker import Chunker
from streamer.model import AcousticModel, ModelError

Floats = NDArray[np.float32]


def signal(samples: int, sample_rate: int) -> Floats:
    """A gliding harmonic tone whose loudness swells five times a second, over a little noise; float32 [samples]."""
    t = np.arange(samples) / sample_rate
    phase = 2 * np.pi * (120 * t + 30 * np.sin(2 * np.pi * 0.7 * t))
    voice = sum(np.sin(k * phase) / k for k in range(1, 20))
    noise = np.modf(np.sin(np.arange(samples) * 12.9898) * 43758.5453)[0]
    sound: Floats = (0.1 * voice * (0.5 - 0.5 * np.cos(2 * np.pi * 5 * t)) + 0.002 * noise).astype(np.float32)
    return sound


def check(model: AcousticModel) -> str:
    """Recompute the probe of a model file through the served path; ModelError when it gives something else."""
    spec, probe = model.spec, model.spec.probe
    kinds = {"frames": int, "feature_means": list, "tokens": list}
    if any(not isinstance(probe.get(name), kind) for name, kind in kinds.items()):
        raise ModelError(f"model {spec.name} carries no probe to check: export it again with `asr-train export`")
    shift, length = spec.features.frame_shift, spec.features.frame_length
    samples = signal((probe["frames"] - 1) * shift + length, spec.features.sample_rate)
    means = features.compute(samples, spec.features).mean(axis=0)
    drift = float(np.abs(means - np.array(probe["feature_means"])).max())
    if drift > 1e-3:
        raise ModelError(f"model {spec.name}: features differ by {drift:.2g} from those it was trained with")
    skipped = spec.left_context // spec.subsampling  # windows that begin before the probe hear silence there
    tokens = served_log_probs(model, samples).argmax(axis=1)[skipped:]
    expected = np.array(probe["tokens"])[skipped : skipped + len(tokens)]
    agreeing = float((tokens[: len(expected)] == expected).mean())
    if agreeing < 0.95:
        raise ModelError(f"model {spec.name}: only {agreeing:.0%} of the probe's tokens are those of training")
    log = spec.training.get("log", {})
    told = f"; trained on {log['audio_hours']} hours of audio, validation CER {log['cer']}" if log else ""
    return (
        f"{spec.name}: {spec.kind}, {len(spec.vocab)} tokens, language {spec.language}{told}\n"
        f"features within {drift:.1g}, {agreeing:.0%} of {len(expected)} probe tokens as in training"
    )


def served_log_probs(model: AcousticModel, samples: Floats) -> Floats:
    """The log_probs that the served path computes chunk by chunk, from the stream's first frame to its end."""
    chunker, state = Chunker(model.spec), model.initial_state
    found = []
    while len(samples):
        room = chunker.room
        chunker.push(samples[:room])
        samples = samples[room:]
        while (window := chunker.take()) is not None:
            [(log_probs, state)] = model.step([window], [state])
            found.append(log_probs)
    return np.concatenate(found)
