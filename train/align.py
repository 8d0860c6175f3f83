"""What was heard for what: word alignments of recognised clips, and the error rates that follow from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from train.data import Clip, DataError
from train.spectrogram import Label
from train.text import edits

Pair = tuple[str | None, str | None]  # of the reference and of what was heard; None where there is none


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[Pair]:
    """What was heard for what: of the alignments with the fewest edits one with the most words right, in order."""
    edit = len(reference) + 1  # costs more than all words that are right can save
    rows = [[edit * j for j in range(len(hypothesis) + 1)]]
    for expected in reference:
        row = [rows[-1][0] + edit]
        for j, heard in enumerate(hypothesis):
            row.append(min(rows[-1][j + 1] + edit, row[j] + edit, rows[-1][j] + (edit if expected != heard else -1)))
        rows.append(row)
    pairs: list[Pair] = []
    i, j = len(reference), len(hypothesis)
    while i or j:
        step = edit if i and j and reference[i - 1] != hypothesis[j - 1] else -1
        if i and j and rows[i][j] == rows[i - 1][j - 1] + step:
            i, j = i - 1, j - 1
            pairs.append((reference[i], hypothesis[j]))
        elif i and rows[i][j] == rows[i - 1][j] + edit:
            i -= 1
            pairs.append((reference[i], None))
        else:
            j -= 1
            pairs.append((None, hypothesis[j]))
    return pairs[::-1]


def compare(reference: str, words: Sequence[Label], seconds: float) -> list[Label]:
    """Recognised words with errors marked and the reference in brackets; missed words stand in the gaps of the clip."""
    found: list[Label] = []
    missed: list[str] = []
    heard = iter(words)
    for expected, text in align(reference.split(), [word.text for word in words]):
        if text is None:
            missed.append(f"({expected})")
            continue
        word = next(heard)
        found += _spread(missed, found[-1].end if found else 0.0, word.start)
        missed = []
        told = word.text if expected in (text, None) else f"{word.text} ({expected})"
        found.append(Label(told, word.start, word.end, expected != text))
    return found + _spread(missed, found[-1].end if found else 0.0, seconds)


def _spread(missed: Sequence[str], start: float, end: float) -> list[Label]:
    step = max(end - start, 0.0) / max(len(missed), 1)
    return [Label(text, start + n * step, start + (n + 1) * step, wrong=True) for n, text in enumerate(missed)]


@dataclass(frozen=True, slots=True)
class Rated:
    """A clip with what was heard, aligned by words; `letters` counts its character edits, `seconds` its length."""

    clip: Clip
    pairs: tuple[Pair, ...]
    letters: int
    seconds: float

    @property
    def wrong(self) -> int:
        """Word edits."""
        return sum(expected != text for expected, text in self.pairs)

    @property
    def words(self) -> int:
        """Words of the reference."""
        return sum(expected is not None for expected, _ in self.pairs)


def rate(clip: Clip, text: str) -> Rated:
    """Align one clip; DataError when its recording is gone."""
    import soundfile

    try:
        seconds = soundfile.info(clip.path).duration
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{clip.path} cannot be read any more ({error}): see where it went and run this again"
        ) from None
    return Rated(clip, tuple(align(clip.text.split(), text.split())), edits(clip.text, text), seconds)


def rates(some: Sequence[Rated]) -> tuple[float, float]:
    """WER and CER in percent: edits over reference length, both summed over the clips."""
    words = sum(r.wrong for r in some) / max(sum(r.words for r in some), 1)
    return 100 * words, 100 * sum(r.letters for r in some) / max(sum(len(r.clip.text) for r in some), 1)


def grouped(rated: Iterable[Rated], key: Callable[[Rated], str]) -> dict[str, list[Rated]]:
    """Clips by a name; those that have none are left out."""
    groups: dict[str, list[Rated]] = {}
    for r in rated:
        if name := key(r):
            groups.setdefault(name, []).append(r)
    return groups
