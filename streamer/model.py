"""Load a self-describing ONNX model and run its steps; everything known about it comes from its metadata."""

from __future__ import annotations

import dataclasses
import zipfile
import zlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamer.beam import BeamSearch, Hotwords
from streamer.ctc import greedy
from streamer.endpoint import Endpointing
from streamer.lm import ARRAYS, LanguageModel, load_language_spec
from streamer.recognizer import Decoder, Recognizer
from streamer.spec import METADATA_KEY, ModelSpec, SpecError, load_spec

Floats = NDArray[np.float32]
State = Mapping[str, Floats]


MODELS = Path(__file__).parent.parent / "models"
DEFAULT = "english"


class ModelError(Exception):
    """A model file cannot be used; the message is one sentence that names the file and what to do."""


class AcousticModel:
    """A model in ONNX Runtime, shared and read-only: features and states in, log_probs and states out.

    Ports: `features` [batch, frames, width] → `log_probs` [batch, steps, vocab]; every input `NAME` besides features
    is a state [batch, ...] with an output `next_NAME`.
    """

    def __init__(self, session: Any, spec: ModelSpec, lm: LanguageModel | None = None) -> None:
        self.spec = spec
        self.decoder: Decoder = BeamSearch(spec.vocab, spec.blank, lm) if lm else greedy(spec)
        self._session = session
        self._shapes = {i.name: tuple(i.shape[1:]) for i in session.get_inputs() if i.name != "features"}
        self._outputs = ["log_probs", *(f"next_{name}" for name in self._shapes)]

    @property
    def initial_state(self) -> State:
        """The state before the first chunk: zeros."""
        return {name: np.zeros(shape, np.float32) for name, shape in self._shapes.items()}

    def recognizer(self, limits: Endpointing | None = None, decoder: Decoder | None = None) -> Recognizer:
        """A recogniser of one stream, with the model's own decoder or another."""
        return Recognizer(self.spec, self.initial_state, limits, decoder or self.decoder)

    @property
    def weighs_words(self) -> bool:
        """Whether a language model helps, without which no words can be listened for."""
        return isinstance(self.decoder, BeamSearch)

    def listening_for(self, words: Collection[str]) -> Decoder:
        """A decoder that also listens for these words (lower case); ModelError when it cannot, or cannot spell one."""
        if not words:
            return self.decoder
        if not isinstance(self.decoder, BeamSearch):
            raise ModelError("hotwords need a language model: give --lm")
        if strange := sorted(word for word in words if not self.spells(word)):
            raise ModelError(f"{strange[0]!r} has a character that the model cannot spell: write it otherwise")
        return dataclasses.replace(self.decoder, hot=Hotwords(self.decoder.hot.words | frozenset(words)))

    def spells(self, word: str) -> bool:
        """Whether the model has letters for a word."""
        return set(word) <= set("".join(self.spec.vocab))

    def step(self, windows: Sequence[Floats], states: Sequence[State]) -> list[tuple[Floats, State]]:
        """Run one chunk of each of several streams; returns (log_probs [chunk_steps, vocab], state) for each."""
        feed = {"features": np.stack(windows)}
        feed |= {name: np.stack([state[name] for state in states]) for name in self._shapes}
        log_probs, *after = self._session.run(self._outputs, feed)
        if self.spec.kind == "windowed":
            first = self.spec.left_context // self.spec.subsampling
            log_probs = log_probs[:, first : first + self.spec.chunk_steps]
        names = list(self._shapes)
        return [(log_probs[i], {n: a[i] for n, a in zip(names, after, strict=True)}) for i in range(len(windows))]


def find(name: str | None) -> Path:
    """The file of a model given by path or by the name of a shipped one; the default model for None."""
    shipped = MODELS / f"{name or DEFAULT}.onnx"
    return shipped if name is None or (shipped.is_file() and not Path(name).is_file()) else Path(name)


def find_lm(name: str | None, model: Path) -> Path | None:
    """The language model's file: the one beside the acoustic model for None, if there is one; none for "none"."""
    if name is None:
        beside = model.with_suffix(".lm")
        return beside if beside.is_file() else None
    return None if name == "none" else Path(name)


_NOT_AN_ARCHIVE = (TypeError, AttributeError, RuntimeError, MemoryError)  # what numpy says of other files


def load_lm(path: Path) -> LanguageModel:
    """Read a language model file; ModelError names what is wrong with it."""
    if not path.is_file():
        raise ModelError(f"no language model at {path}: give --lm a file made by `asr-train lm`, or none")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return LanguageModel(load_language_spec(str(arrays["spec"])), {name: arrays[name] for name in ARRAYS})
    except SpecError as error:
        raise ModelError(f"{path}: {error}") from None
    except (OSError, ValueError, LookupError, EOFError, zipfile.BadZipFile, zlib.error, *_NOT_AN_ARCHIVE) as error:
        raise ModelError(f"{path} is not a language model ({error}): give --lm a file made by `asr-train lm`") from None


def read_hotwords(path: Path) -> list[str]:
    """The words of a list, in lower case; a phrase is its words."""
    try:
        return path.read_text(encoding="utf-8-sig").lower().split()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path} cannot be read as text in UTF-8 ({error}): give --hotwords a list of words") from None


def load(path: Path, lm: Path | None = None, hotwords: Path | None = None) -> AcousticModel:
    """Read a model file, and what to decode with; ModelError names what is wrong with it."""
    import onnxruntime

    if not path.is_file():
        raise ModelError(
            f"no model at {path}: give --model a file made by `asr-train export`, or the name of a shipped one"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises a dozen unrelated types
        detail = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelError(f"{path} is not an ONNX model that ONNX Runtime can load ({detail})") from None
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(
            f"{path} does not say what it is: it lacks the {METADATA_KEY!r} metadata that `asr-train export` writes"
        )
    try:
        spec = load_spec(text)
    except SpecError as error:
        raise ModelError(f"{path}: {error}") from None
    language = load_lm(lm) if lm else None
    if language and language.spec.language != spec.language:
        raise ModelError(
            f"{lm} is for the language {language.spec.language!r}, {path} for {spec.language!r}: give --lm none"
        )
    model = AcousticModel(session, spec, language)
    if hotwords:
        words = read_hotwords(hotwords)
        try:
            model.decoder = model.listening_for(words)
        except ModelError as error:
            raise ModelError(f"{hotwords}: {error}") from None
    _verify(path, session, model)
    return model


def _verify(path: Path, session: Any, model: AcousticModel) -> None:
    """Refuse a graph whose ports contradict its description, by the name of the port."""
    spec = model.spec
    inputs = {i.name: i.shape for i in session.get_inputs()}
    outputs = {o.name: o.shape for o in session.get_outputs()}
    for name, ports in (("features", inputs), *((output, outputs) for output in model._outputs)):
        if name not in ports:
            raise ModelError(f"{path}: the graph has no port {name!r}")
    if spec.kind == "windowed" and len(inputs) > 1:
        raise ModelError(f"{path}: it is described as windowed but its graph carries state")
    for name, shape in inputs.items():
        if name != "features" and not all(isinstance(size, int) and 0 < size <= 1 << 20 for size in shape[1:]):
            raise ModelError(f"{path}: state {name!r} has the open shape {shape}")
    frames = (
        spec.left_context * (spec.kind == "windowed")
        + spec.chunk_frames
        + spec.right_context * (spec.kind == "windowed")
    )
    try:
        log_probs, _ = model.step([np.zeros((frames, spec.features.width), np.float32)], [model.initial_state])[0]
    except Exception as error:
        detail = str(error).splitlines()[0][-200:]
        raise ModelError(
            f"{path}: the graph does not take the {frames} x {spec.features.width} features "
            f"that it is described with ({detail})"
        ) from None
    expected = (spec.chunk_steps, len(spec.vocab))
    if log_probs.shape != expected:
        raise ModelError(f"{path}: log_probs are {log_probs.shape}, but the description says {expected}")
    if not float(np.abs(np.exp(log_probs).sum(axis=1) - 1).max()) < 1e-3:
        raise ModelError(f"{path}: log_probs are no log-probabilities: their exponentials do not sum to 1")
