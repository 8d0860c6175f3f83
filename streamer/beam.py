"""CTC prefix beam search with a word language model: many texts are followed at once, and the likeliest is told.

Hannun et al. 2014 (First-pass large vocabulary continuous speech recognition): the probability of a text is the sum
over all alignments, kept apart by whether they end in a blank. A word counts in the language model when it is complete.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from streamer.ctc import Calibration, WordSpan
from streamer.lm import BEGIN, UNKNOWN, LanguageModel

Floats = NDArray[np.float32]
NEVER = -1e30
Future = tuple[tuple[int, int], str, int]  # all that decides how a path goes on: two words, the begun one, last token


class Spoken(NamedTuple):
    """A complete word and those before it."""

    before: Spoken | None
    word: WordSpan


class Path(NamedTuple):
    """A text that is followed: `begun` is its last word, not yet complete, which spans frames start to end."""

    text: str
    last: int  # token
    blank: float  # ln of the probability of all alignments that end in a blank
    token: float  # and of those that end in `last`
    language: float  # what the language model and its bonus say
    spoken: Spoken | None
    context: tuple[int, int]
    begun: str
    start: int
    end: int
    sure: float  # sum of ln of the probabilities of the begun word's tokens
    tokens: int

    @property
    def score(self) -> float:
        """What paths are compared by."""
        return _add(self.blank, self.token) + self.language


ROOT = Path("", -1, 0.0, NEVER, 0.0, None, (-1, BEGIN), "", 0, 0, 0.0, 0)


@dataclass(frozen=True, slots=True)
class Beam:
    """The texts that are followed, likeliest first; `trailing_blanks` counts frames in which blank was likeliest."""

    paths: tuple[Path, ...] = (ROOT,)
    frame: int = 0
    trailing_blanks: int = 0

    @property
    def spoken(self) -> bool:
        """Whether anything was said."""
        return bool(self.paths[0].text)


@dataclass(frozen=True)
class Hotwords:
    """Words to be heard sooner than their spelling or rarity would have it: each counts `bonus` nats more."""

    words: frozenset[str] = frozenset()
    bonus: float = 4.0

    @cached_property
    def beginnings(self) -> frozenset[str]:
        """Whatever one of the words begins with."""
        return frozenset(word[:size] for word in self.words for size in range(1, len(word) + 1))


@dataclass(frozen=True, slots=True)
class BeamSearch:
    """A decoder: `step` follows texts through more frames, `words` tells the likeliest one."""

    vocab: Sequence[str]
    blank: int
    lm: LanguageModel
    hot: Hotwords = Hotwords()
    width: int = 16  # paths that are kept
    least: float = -5.0  # ln of the probability below which a token is not tried
    margin: float = 8.0  # nats behind the best path at which a path is dropped

    @property
    def start(self) -> Beam:
        """Before the first frame."""
        return Beam()

    def step(self, beam: Beam, log_probs: Floats) -> Beam:
        """Decode more frames; log_probs: float32 [frames, vocab]."""
        for row in log_probs:
            if not np.isfinite(row[self.blank]):
                row = np.where(np.arange(len(row)) == self.blank, 0.0, NEVER)  # a network that overflowed
            tried = np.flatnonzero(row > self.least).tolist()
            tokens = [(t, float(row[t])) for t in tried if t != self.blank]
            blank = float(row[self.blank])
            quiet = int(row.argmax()) == self.blank
            if tokens:
                paths = self._grow(beam.paths, tokens, blank, beam.frame)
            else:
                paths = tuple(p._replace(blank=_add(p.blank, p.token) + blank, token=NEVER) for p in beam.paths)
            beam = Beam(paths, beam.frame + 1, beam.trailing_blanks + 1 if quiet else 0)
        return beam

    def words(self, beam: Beam, ended: bool = False) -> tuple[WordSpan, ...]:
        """The words of the likeliest text; when the segment has ended, its last word counts as complete."""
        if not ended:
            return self._calibration.apply(_spans(beam.paths[0]))
        texts: dict[str, Path] = {}  # those that differ only in their last token, or in a space after it, are one
        for path in map(self._complete, beam.paths):
            text = path.text.rstrip()
            texts[text] = _merge(path, texts[text]) if text in texts else path
        return self._calibration.apply(_spans(max(texts.values(), key=lambda path: path.score)))

    def settled(self, beam: Beam) -> int:
        """How many words all texts that are followed have in common: they can no longer change."""
        texts = [[span.text for span in _chain(path.spoken)] for path in beam.paths]
        count = 0
        for same in zip(*texts, strict=False):
            if len(set(same)) > 1:
                break
            count += 1
        return count

    def within_word(self, beam: Beam) -> bool:
        """Whether the likeliest text ends in a word that may go on."""
        return bool(beam.paths[0].begun)

    @property
    def _calibration(self) -> Calibration:
        return Calibration(self.lm.spec.confidence_slope, self.lm.spec.confidence_offset)

    def _grow(
        self, paths: tuple[Path, ...], tokens: Sequence[tuple[int, float]], blank: float, frame: int
    ) -> tuple[Path, ...]:
        """All paths through one more frame, of those with the same future the likeliest, the best of them kept."""
        found: dict[Future, Path] = {}

        def meet(path: Path) -> None:
            future = (path.context, path.begun, path.last)
            other = found.get(future)
            if other is None:
                found[future] = path
            elif other.text == path.text:
                found[future] = _merge(path, other)
            elif path.score > other.score:
                found[future] = path

        for path in paths:
            both = _add(path.blank, path.token)
            meet(path._replace(blank=both + blank, token=NEVER))
            for token, probability in tokens:
                if token != path.last:
                    meet(self._extend(path, token, both + probability, probability, frame))
                    continue
                meet(path._replace(blank=NEVER, token=path.token + probability, end=frame + 1))
                if path.blank > NEVER / 2:
                    meet(self._extend(path, token, path.blank + probability, probability, frame))
        ranked = sorted(found.values(), key=lambda path: -path.score)[: self.width]
        return tuple(path for path in ranked if path.score > ranked[0].score - self.margin)

    def _extend(self, path: Path, token: int, alignment: float, probability: float, frame: int) -> Path:
        """A path that goes on with a token, whose first character may be the space that completes a word."""
        text = self.vocab[token]
        if text.startswith(" "):
            path, text = self._complete(path), text[1:]
            text_after = path.text + " " + text if path.text and not path.text.endswith(" ") else path.text + text
        else:
            text_after = path.text + text
        if not text:
            return path._replace(text=text_after, last=token, blank=NEVER, token=alignment)
        begun, known = path.begun + text, not path.begun or self._begins_word(path.begun)
        lost = self.lm.spec.unknown_penalty if known and not self._begins_word(begun) else 0.0
        return path._replace(
            text=text_after,
            last=token,
            blank=NEVER,
            token=alignment,
            language=path.language - lost,
            begun=begun,
            start=path.start if path.begun else frame,
            end=frame + 1,
            sure=path.sure + probability,
            tokens=path.tokens + 1,
        )

    def _begins_word(self, text: str) -> bool:
        return self.lm.begins_word(text) or text in self.hot.beginnings

    def _complete(self, path: Path) -> Path:
        """The path with its begun word counted as a word."""
        if not path.begun:
            return path
        word, spec = self.lm.id(path.begun), self.lm.spec
        said = spec.weight * self.lm.score(*path.context, word) + spec.word_bonus
        if path.begun in self.hot.words:
            said += self.hot.bonus
        elif word == UNKNOWN and self._begins_word(path.begun):
            said -= spec.unknown_penalty  # it only begins a word; what begins none has paid already
        return path._replace(
            language=path.language + said,
            spoken=Spoken(path.spoken, _begun(path)),
            context=(path.context[1], word),
            begun="",
            sure=0.0,
            tokens=0,
        )


def _merge(one: Path, other: Path) -> Path:
    """Two ways to the same text as one, with the words' frames of the likelier."""
    better, worse = (one, other) if one.score > other.score else (other, one)
    return better._replace(blank=_add(better.blank, worse.blank), token=_add(better.token, worse.token))


def _begun(path: Path) -> WordSpan:
    return WordSpan(path.begun, path.start, path.end, math.exp(min(path.sure / path.tokens, 0.0)))


def _spans(path: Path) -> Iterator[WordSpan]:
    yield from _chain(path.spoken)
    if path.begun:
        yield _begun(path)


def _chain(spoken: Spoken | None) -> list[WordSpan]:
    """Words in the order in which they were said."""
    words = []
    while spoken is not None:
        words.append(spoken.word)
        spoken = spoken.before
    return words[::-1]


def _add(a: float, b: float) -> float:
    """ln(exp(a) + exp(b))."""
    if a < b:
        a, b = b, a
    return a + math.log1p(math.exp(b - a)) if b > NEVER / 2 else a
