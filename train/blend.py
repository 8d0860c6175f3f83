"""After fine-tuning: part of the way back to where it began, which errs less on new voices and forgets less of others.

Wortsman et al. 2022, "Robust fine-tuning of zero-shot models": what lies between the two weights is good, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np
from numpy.typing import NDArray

from train.weights import by_name

PARTS = (0.25, 0.5, 0.75, 1.0)


Array = NDArray[np.float32]


def blend(net: keras.Model, before: Mapping[str, Array], error: Callable[[], float]) -> tuple[float, float]:
    """Leave the network where its error is least among PARTS of the way from `before` (by name) to its own weights.

    Weights that `before` lacks stay as they are. Returns the part and its error.
    """
    after = {name: keras.ops.convert_to_numpy(v).copy() for name, v in by_name(net).items() if name in before}

    def go(part: float) -> None:
        for name, variable in by_name(net).items():
            if name in after:
                variable.assign((1 - part) * before[name] + part * after[name])

    def tried(part: float) -> float:
        go(part)
        return error()

    errors = {part: tried(part) for part in PARTS}
    best = min(PARTS, key=lambda part: errors[part])
    go(best)
    return best, errors[best]
