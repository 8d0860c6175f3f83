"""Everything that decides a training run, saved beside it as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from streamer.spec import FeatureSpec
from train.data import DataError
from train.text import BLANK, ENGLISH


@dataclass(frozen=True, slots=True)
class Config:
    """A training run. `epochs` and `hours` (of wall time) both end it: whichever comes first."""

    network: Literal["streaming", "tutorial"] = "streaming"
    size: str = "base"
    vocab: tuple[str, ...] = (BLANK, *ENGLISH)
    groups: int = 0  # letter groups that a new run adds to the vocabulary from its transcripts
    features: FeatureSpec = field(default_factory=FeatureSpec)
    mean_seconds: float = 3.0  # of the features, over which the streaming network takes their mean away; 0: it does not
    augment: str = "light"  # as train.augment.parse reads it
    ease: float = 0.15  # part of the run over which augmentation sets in: clean speech is learnt from first
    weights: Mapping[str, float] = field(default_factory=dict)  # corpus → how often an epoch hears each of its clips
    dropout: float = 0.05
    language: str = "en"
    split_by: Literal["clip", "speaker"] = "clip"  # what is held out of corpora that name no splits
    init: str = ""  # run folder or model file whose weights this run began from
    epochs: float = 60.0
    hours: float = 1e9
    learning_rate: float = 1e-3
    schedule: Literal["cosine", "plateau"] = "cosine"
    patience: int = 0  # validations without a better CER after which the run ends; 0: never
    weight_decay: float = 1e-3
    warmup_steps: int = 500
    clip_norm: float = 1.0
    pronunciations: str = ""  # dictionary from which a streaming network learns phones beside its tokens
    phones: tuple[str, ...] = ()  # what they are, the blank first
    letters_loss: float = 0.5  # weight of the CTC loss of the letters half-way up the streaming network
    phones_loss: float = 0.5  # and of that of the phones
    batch_frames: int = 4000
    join: float = 0.1  # share of the clips that are followed by another one
    cut: float = 0.0  # and of those of which only a phrase is heard, between pauses that the network of `init` finds
    silence: float = 0.02
    right_context: int = 12
    validate_every_minutes: float = 5.0
    bf16: bool = False
    seed: int = 1

    def dump(self, path: Path) -> None:
        """Write as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False), encoding="utf-8")


def load_config(path: Path) -> Config:
    """Read what `dump` wrote."""
    raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return Config(
        **{"mean_seconds": 0.0}  # of runs that are older than it
        | raw
        | {
            "vocab": tuple(raw["vocab"]),
            "phones": tuple(raw.get("phones", ())),
            "features": FeatureSpec(**raw["features"]),
        }
    )


def describe(source: Path) -> Config:
    """What can be begun from: the network, features and vocabulary of a run folder or of an exported .onnx file."""
    if not source.exists():
        raise DataError(f"there is no {source}: give a run folder of `fit` or an exported .onnx file")
    if source.is_dir():
        if not (source / "config.json").is_file():
            raise DataError(f"{source} has no config.json: give a run folder of `fit` or an exported .onnx file")
        saved = load_config(source / "config.json")
        return Config(
            saved.network,
            saved.size,
            saved.vocab,
            features=saved.features,
            mean_seconds=saved.mean_seconds,
            language=saved.language,
        )
    from streamer.model import ModelError, load

    try:
        spec = load(source).spec
    except ModelError as error:
        raise DataError(str(error)) from None
    told = spec.training.get("config", {})
    if "network" not in told or "size" not in told:
        raise DataError(f"{source} does not say which network it is: give the run folder it was exported from")
    return Config(
        told["network"],
        told["size"],
        spec.vocab,
        features=spec.features,
        mean_seconds=told.get("mean_seconds", 0.0),
        language=spec.language,
    )


def subsampling(config: Config) -> int:
    """Feature frames per output frame of the configured network."""
    return {"streaming": 4, "tutorial": 2}[config.network]
