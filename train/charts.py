"""Small charts as inline SVG whose colours the page decides, so that they fit dark and light ones."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from train.data import DataError

WIDTH, HEIGHT = 360, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 40
Bar = tuple[str, float, str]  # what it stands for, how high, and a note below
Point = tuple[float, float]
CURVES = {"cer": ("CER", "%", 100), "wer": ("WER", "%", 100), "loss": ("Loss", "nats a clip", 1)}
CURVES["learning_rate"] = ("Learning rate", "", 1)


def read_log(run: Path) -> list[dict[str, float]]:
    """The validations of a run folder, a row of its log.csv each; DataError when there are none."""
    path = run / "log.csv"
    if not path.is_file():
        raise DataError(f"{path} does not exist: give --run the folder of an `asr-train fit` that has validated")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{name: float(row[name]) for name in (*CURVES, "audio_hours")} for row in csv.DictReader(file)]
    except (csv.Error, KeyError, TypeError, ValueError):
        raise DataError(f"{path} is not a log that `asr-train fit` wrote: give --run the folder of a run") from None
    if not rows:
        raise DataError(f"{path} has no validation yet: wait for one, or leave --run away")
    return rows


def curves(log: Sequence[Mapping[str, float]]) -> list[str]:
    """Error rates, loss and learning rate over the hours of audio heard."""
    return [
        line(title, "hours of audio heard", unit, [(row["audio_hours"], scale * row[name]) for row in log])
        for name, (title, unit, scale) in CURVES.items()
    ]


def bars(title: str, below: str, unit: str, given: Sequence[Bar]) -> str:
    """A bar chart; `below` names the horizontal axis and `unit` is what the heights count."""
    steps = ticks(max((height for _, height, _ in given), default=0))
    slot = (WIDTH - LEFT - RIGHT) / max(len(given), 1)
    parts = _grid(steps)
    for n, (name, height, note) in enumerate(given):
        middle, top = LEFT + (n + 0.5) * slot, _y(height, steps)
        box = f'x="{middle - 0.36 * slot:.1f}" y="{top:.1f}" width="{0.72 * slot:.1f}" rx="2"'
        told = escape(f"{name}: {height:.1f} {unit} ({note})")
        parts += [
            f'<rect class="bar" {box} height="{_y(0, steps) - top:.1f}"><title>{told}</title></rect>',
            _text(middle, top - 4, f"{height:.1f}", "value"),
            _text(middle, HEIGHT - BOTTOM + 14, name),
            _text(middle, HEIGHT - BOTTOM + 25, note, "note"),
        ]
    return _figure(f"{title}, {unit}", [*parts, _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, below)])


def line(title: str, below: str, unit: str, given: Sequence[Point]) -> str:
    """A curve through the points that are finite; its last one is marked with its value."""
    points = [(x, y) for x, y in given if math.isfinite(x) and math.isfinite(y)]
    across = ticks(max((x for x, _ in points), default=0))
    steps = ticks(max((y for _, y in points), default=0))
    scale = (WIDTH - LEFT - RIGHT) / across[-1]
    parts = [*_grid(steps), *(_text(LEFT + x * scale, HEIGHT - BOTTOM + 14, f"{x:.4g}") for x in across)]
    if points:
        at = [(LEFT + x * scale, _y(y, steps)) for x, y in points]
        parts.append(f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in at)}"/>')
        parts.append(f'<circle class="dot" cx="{at[-1][0]:.1f}" cy="{at[-1][1]:.1f}" r="3.5"/>')
        parts.append(_text(at[-1][0] + 4, at[-1][1] - 8, f"{points[-1][1]:.3g}", "value end"))
    name = f"{title}, {unit}" if unit else title
    return _figure(name, [*parts, _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, below)])


def diagonal(title: str, below: str, given: Sequence[tuple[float, float, str]]) -> str:
    """Points (x, y, what they are), both in percent, joined, and the dashed line on which x is y."""
    steps = [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]
    scale = (WIDTH - LEFT - RIGHT) / 100
    parts = [*_grid(steps), *(_text(LEFT + x * scale, HEIGHT - BOTTOM + 14, f"{x:.4g}") for x in steps)]
    ends = f'x1="{LEFT}" y1="{_y(0, steps):.1f}" x2="{WIDTH - RIGHT}" y2="{_y(100, steps):.1f}"'
    parts.append(f'<line class="ideal" {ends}/>')
    at = [(LEFT + x * scale, _y(y, steps), escape(f"{x:.1f} %: {y:.1f} % ({note})")) for x, y, note in given]
    parts.append(f'<polyline class="curve" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y, _ in at)}"/>')
    for x, y, told in at:
        parts.append(f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{told}</title></circle>')
    return _figure(title, [*parts, _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, below)])


def ticks(highest: float) -> list[float]:
    """Some four round numbers from 0 to `highest` or just above."""
    if not 0 < highest < math.inf:
        return [0.0, 1.0]
    size = 10 ** math.floor(math.log10(highest / 4))
    step = next(size * n for n in (1, 2, 2.5, 5, 10) if size * n * 5 >= highest)
    return [n * step for n in range(math.ceil(round(highest / step, 6)) + 1)]


def _y(value: float, steps: Sequence[float]) -> float:
    return HEIGHT - BOTTOM - max(value, 0) / steps[-1] * (HEIGHT - TOP - BOTTOM)


def _grid(steps: Sequence[float]) -> list[str]:
    parts = []
    for tick in steps:
        y = _y(tick, steps)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(LEFT - 6, y + 3.5, f"{tick:.4g}", "end"))
    return parts


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _figure(name: str, parts: Sequence[str]) -> str:
    drawn = "".join(parts)
    return (
        f"<figure><figcaption>{escape(name)}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">{drawn}</svg></figure>'
    )
