from __future__ import annotations

import pytest

from streamer.ctc import Hypothesis, Token
from streamer.endpoint import Endpointing, fires

WORD = (Token(2, 0, 1, 0.9),)
LIMITS = Endpointing(silence_seconds=5, pause_seconds=0.8, length_seconds=20)


@pytest.mark.parametrize(
    ("tokens", "frame", "blanks", "rule"),
    [
        (WORD, 100, 19, None),
        (WORD, 100, 20, "pause"),
        ((), 124, 124, None),
        ((), 125, 125, "silence"),
        (WORD, 499, 0, None),
        (WORD, 500, 0, "length"),
        (WORD, 500, 20, "pause"),
    ],
)
def test_the_rule_that_ends_a_segment(tokens: tuple[Token, ...], frame: int, blanks: int, rule: str | None) -> None:
    assert fires(Hypothesis(tokens, 0, frame, blanks), 0.04, LIMITS) == rule
