"""Everything that decides a training run, saved beside it as JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from streamer.spec import FeatureSpec
from train.text import BLANK, ENGLISH


@dataclass(frozen=True, slots=True)
class Config:
    """A training run. `epochs` and `hours` (of wall time) both end it: whichever comes first."""

    network: Literal["streaming", "tutorial"] = "streaming"
    size: str = "base"
    vocab: tuple[str, ...] = (BLANK, *ENGLISH)
    groups: int = 0  # letter groups that a new run adds to the vocabulary from its transcripts
    features: FeatureSpec = field(default_factory=FeatureSpec)
    augment: Literal["heavy", "light", "none"] = "light"
    weights: Mapping[str, float] = field(default_factory=dict)  # corpus → how often an epoch hears each of its clips
    dropout: float = 0.05
    language: str = "en"
    epochs: float = 60.0
    hours: float = 1e9
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    warmup_steps: int = 400
    clip_norm: float = 1.0
    batch_frames: int = 10_000
    join: float = 0.25
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
    return Config(**raw | {"vocab": tuple(raw["vocab"]), "features": FeatureSpec(**raw["features"])})


def subsampling(config: Config) -> int:
    """Feature frames per output frame of the configured network."""
    return {"streaming": 4, "tutorial": 2}[config.network]
