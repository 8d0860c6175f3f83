"""Error rates of a model file, through the very path that asr-stream serves: pushed samples in, finals out."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from streamer import engine
from streamer.events import Final, Word
from streamer.model import AcousticModel, ModelError, find_lm, load
from streamer.recognizer import Floats
from train import charts, recordings
from train.confidence import Judged, calibration_error, judge
from train.data import Clip, DataError
from train.text import edits, error_rate


def recognise(model: AcousticModel, samples: Floats) -> list[Word]:
    """The words of all finals of one recording: offline is streaming with one big push."""
    recognizer = model.recognizer()
    events = [*engine.feed(model, recognizer, samples), *engine.finish(model, recognizer)]
    return [word for event in events if isinstance(event, Final) for word in event.words]


def transcribe(model: AcousticModel, samples: Floats) -> str:
    """The text of one recording."""
    return " ".join(word.text for word in recognise(model, samples))


def evaluate(
    path: Path,
    corpora: Sequence[Path],
    split: str,
    out: Path | None,
    worst: int,
    report: Path | None = None,
    run: Path | None = None,
    lm: str | None = None,
) -> None:
    """Print error rates per corpus (edits over reference length), calibration and speed; write transcripts to `out`.

    report: an HTML file to write, with the training curves of `run` when its folder is given.
    """
    if run:
        charts.read_log(run)  # a mistake is told before the work
    try:
        model = load(path, find_lm(lm, path))
    except ModelError as error:
        raise DataError(str(error)) from None
    heard: list[tuple[Clip, str]] = []
    judged: list[Judged] = []
    audio = busy = 0.0
    rate = model.spec.features.sample_rate
    for clip, samples in recordings.read(recordings.choose(corpora, split), rate, "evaluation"):
        started = time.process_time()
        words = recognise(model, samples)
        busy += time.process_time() - started
        audio += len(samples) / rate
        heard.append((clip, " ".join(word.text for word in words)))
        judged += judge(clip.text, words)
    _report(heard, worst)
    print(f"expected calibration error of {len(judged)} words' confidences: {calibration_error(judged):.3f}")
    print(f"{busy / max(audio, 1e-9):.4f} CPU seconds per second of audio, over {audio / 3600:.2f} h")
    if out is not None:
        recordings.write_texts(out, heard, corpora)
    if report is not None:
        from train.report import write

        write(report, heard, model, run, judged)
        print(f"{report} shows where it errs")


def _report(heard: Sequence[tuple[Clip, str]], worst: int) -> None:
    groups = defaultdict(list)
    for clip, text in heard:
        for corpus in (clip.corpus, "all"):
            groups[corpus].append((clip.text, text))
    print(f"{'corpus':16s} {'clips':>6s} {'words':>6s} {'WER %':>6s} {'CER %':>6s}")
    for corpus in sorted(groups, key=lambda name: (name == "all", name)):
        pairs = groups[corpus]
        words = sum(len(reference.split()) for reference, _ in pairs)
        wer = error_rate((r.split(), h.split()) for r, h in pairs)
        cer = error_rate(pairs)
        print(f"{corpus:16s} {len(pairs):6d} {words:6d} {100 * wer:6.1f} {100 * cer:6.1f}")
    rated = sorted(heard, key=lambda h: -edits(h[0].text.split(), h[1].split()) / max(len(h[0].text.split()), 1))
    for clip, text in rated[:worst]:
        print(f"\n{clip.path}\n  reference  {clip.text}\n  heard      {text}")
