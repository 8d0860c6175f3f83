"""What a model file says about itself: one JSON string in the ONNX metadata, read with `json.loads` only."""

from __future__ import annotations

import dataclasses
import json
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

METADATA_KEY = "asr_stream"
SCHEMA = 1

FeatureKind = Literal["log_mel", "spectrogram"]
ModelKind = Literal["streaming", "windowed"]


class SpecError(ValueError):
    """A model's description is missing, malformed or contradicts itself; the message names the fact."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """How samples become frames.

    Frame t covers samples [t * frame_shift, t * frame_shift + frame_length); lengths are in samples.
    `log_mel`: ln(mel power + floor), `num_mels` values per frame between `low_hz` and `high_hz`.
    `spectrogram`: square root of the magnitude, fft_size // 2 + 1 values per frame (the tutorial's features).
    """

    kind: FeatureKind = "log_mel"
    sample_rate: int = 16000
    frame_length: int = 400
    frame_shift: int = 160
    fft_size: int = 512
    num_mels: int = 80
    low_hz: float = 20.0
    high_hz: float = 7600.0
    floor: float = 1e-6

    def __post_init__(self) -> None:
        _require(self.kind in get_args(FeatureKind), f"features.kind is {shown(self.kind)}")
        _require(
            0 < self.frame_shift <= self.frame_length <= self.fft_size <= 1 << 16,
            "features must satisfy 0 < frame_shift <= frame_length <= fft_size <= 65536",
        )
        _require(1000 <= self.sample_rate <= 192_000, f"features.sample_rate is {shown(self.sample_rate)}")
        _require(
            0 <= self.low_hz < self.high_hz <= self.sample_rate / 2,
            "features must satisfy 0 <= low_hz < high_hz <= sample_rate / 2",
        )
        _require(
            0 < self.num_mels <= 1024 and 0 < self.floor < 1, "features.num_mels or features.floor is out of range"
        )

    @property
    def width(self) -> int:
        """Values per frame."""
        return self.num_mels if self.kind == "log_mel" else self.fft_size // 2 + 1


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """The facts that serving needs about an acoustic model. All context sizes are in feature frames.

    `streaming`: a step takes `chunk_frames` new frames and the state, and `right_context` is the network's delay:
    the first right_context / subsampling log_probs of a stream describe nothing and are dropped.
    `windowed`: a step takes left_context + chunk_frames + right_context frames, and the log_probs of the chunk
    in the middle are kept.
    `confidence_slope` and `confidence_offset` make the confidence of a word that was decoded greedily the probability
    that it is right; a language model has its own.
    """

    name: str
    kind: ModelKind
    vocab: tuple[str, ...]
    blank: int
    features: FeatureSpec
    subsampling: int
    chunk_frames: int
    left_context: int = 0
    right_context: int = 0
    language: str = "en"
    confidence_slope: float = 1.0
    confidence_offset: float = 0.0
    schema: int = SCHEMA
    probe: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(self.schema == SCHEMA, f"schema is {shown(self.schema)}; this version reads schema {SCHEMA}")
        _require(self.kind in get_args(ModelKind), f"kind is {shown(self.kind)}")
        size = len(self.vocab)
        _require(len(set(self.vocab)) == size >= 2, "vocab needs at least two tokens, each once")
        _require(0 <= self.blank < size, f"blank is {shown(self.blank)}, outside the vocab of {size}")
        _require(1 <= self.subsampling <= 64, f"subsampling is {shown(self.subsampling)}")
        _require(0 < self.chunk_frames <= 10_000, f"chunk_frames is {shown(self.chunk_frames)}")
        _require(min(self.left_context, self.right_context) >= 0, "contexts cannot be negative")
        _require(max(self.left_context, self.right_context) <= 10_000, "contexts are larger than 10000 frames")
        _require(0 <= self.confidence_slope <= 100, f"confidence_slope is {shown(self.confidence_slope)}")
        _require(-100 <= self.confidence_offset <= 100, f"confidence_offset is {shown(self.confidence_offset)}")
        for name in ("chunk_frames", "left_context", "right_context"):
            _require(getattr(self, name) % self.subsampling == 0, f"{name} is no multiple of subsampling")
        _require(self.kind == "windowed" or self.left_context == 0, "a streaming model carries state, not left_context")

    @property
    def chunk_steps(self) -> int:
        """Output frames per chunk."""
        return self.chunk_frames // self.subsampling

    @property
    def step_samples(self) -> int:
        """Samples per output frame."""
        return self.subsampling * self.features.frame_shift

    def dump(self) -> str:
        """This description as the JSON string that travels in the model file."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)


def load_spec(text: str) -> ModelSpec:
    """Read a model's description; SpecError names what is missing, unknown or wrong."""
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SpecError(f"the model's description is not JSON: {error}") from None
    facts = _checked(ModelSpec, raw, "the model's description")
    facts["features"] = FeatureSpec(**_checked(FeatureSpec, facts["features"], "features"))
    vocab = facts["vocab"]
    _require(
        isinstance(vocab, list) and all(isinstance(token, str) for token in vocab), "vocab must be a list of strings"
    )
    facts["vocab"] = tuple(vocab)
    return ModelSpec(**facts)


_JSON_TYPES: dict[str, Any] = {"int": int, "float": (int, float), "str": str, "Mapping[str, Any]": dict}


def _checked(cls: type, raw: object, where: str) -> dict[str, Any]:
    """`raw` as keyword arguments for the dataclass `cls`, with names and plain types checked."""
    if not isinstance(raw, dict):
        raise SpecError(f"{where} must be a JSON object")
    fields = {f.name: f for f in dataclasses.fields(cls)}
    for name in raw:
        _require(name in fields, f"{where} has an unknown fact {shown(name)}")
    for name, f in fields.items():
        required = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        _require(name in raw or not required, f"{where} lacks {shown(name)}")
        expected = _JSON_TYPES.get(str(f.type))
        if name in raw and expected is not None:
            value = raw[name]
            _require(isinstance(value, expected) and not isinstance(value, bool), f"{where}: {name} is {shown(value)}")
    return dict(raw)


def shown(value: object) -> str:
    """A value as it may stand in a sentence: no longer than that."""
    return reprlib.repr(value)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise SpecError(message)
