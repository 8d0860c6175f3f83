"""When a segment is over: three rules over the hypothesis, after Kaldi's online endpointing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Rule = Literal["silence", "pause", "length"]


@dataclass(frozen=True, slots=True)
class Endpointing:
    """The rules' limits in seconds.

    `silence`: nothing was decoded for so long (the model's state is made new, nothing is said).
    `pause`: after words, so long without a new token. `length`: a segment never grows longer than this.
    """

    silence_seconds: float = 5.0
    pause_seconds: float = 0.4
    length_seconds: float = 20.0


class Decoded(Protocol):
    """What the rules look at: output frames decoded, those at the end that are blank, whether anything was said."""

    @property
    def frame(self) -> int: ...
    @property
    def trailing_blanks(self) -> int: ...
    @property
    def spoken(self) -> bool: ...


def fires(hypothesis: Decoded, step_seconds: float, limits: Endpointing) -> Rule | None:
    """The rule that ends the segment now, or None; step_seconds: the duration of an output frame."""
    quiet = hypothesis.trailing_blanks * step_seconds
    if hypothesis.spoken and quiet >= limits.pause_seconds:
        return "pause"
    if not hypothesis.spoken and quiet >= limits.silence_seconds:
        return "silence"
    return "length" if hypothesis.frame * step_seconds >= limits.length_seconds else None
