"""Error rates of a model file, through the very path that asr-stream serves: pushed samples in, finals out."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from streamer import engine
from streamer.events import Final
from streamer.model import AcousticModel, ModelError, find_lm, load
from streamer.recognizer import Floats, Recognizer
from train import charts
from train.cache import read_audio
from train.data import Clip, DataError, read_corpus, split_clips
from train.progress import Progress
from train.text import edits, error_rate


def transcribe(model: AcousticModel, samples: Floats) -> str:
    """The text of all finals of one recording: offline is streaming with one big push."""
    recognizer = Recognizer(model.spec, model.initial_state, decoder=model.decoder)
    events = [*engine.feed(model, recognizer, samples), *engine.finish(model, recognizer)]
    return " ".join(event.text for event in events if isinstance(event, Final))


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
    """Print error rates per corpus (edits over reference length) and the speed; write transcripts to `out`.

    report: an HTML file to write, with the training curves of `run` when its folder is given.
    """
    if run:
        charts.read_log(run)  # a mistake is told before the work
    try:
        model = load(path, find_lm(lm, path))
    except ModelError as error:
        raise DataError(str(error)) from None
    clips = [(root, c) for root in corpora for c in of_split(read_corpus(root), split)]
    if not clips:
        raise DataError(f"no clip of split {split!r} in {', '.join(map(str, corpora))}: choose another with --split")
    heard: list[tuple[Clip, str]] = []
    audio = busy = 0.0
    lines, unreadable = [], 0
    with Progress("evaluation", len(clips)) as progress:
        for root, clip in clips:
            progress.step()
            try:
                samples = read_audio(clip.path, model.spec.features.sample_rate)
            except (OSError, RuntimeError):
                unreadable += 1
                continue
            started = time.process_time()
            heard.append((clip, transcribe(model, samples)))
            busy += time.process_time() - started
            audio += len(samples) / model.spec.features.sample_rate
            lines.append(f"{_relative(clip.path, root)}\t{heard[-1][1]}\n")
    if not audio:
        raise DataError(f"none of the {len(clips)} clips can be read: see where the manifest says they are")
    _report(heard, worst)
    print(f"{busy / audio:.4f} CPU seconds per second of audio, over {audio / 3600:.2f} h")
    if unreadable:
        print(f"{unreadable} clips could not be read and do not count")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("".join(lines), encoding="utf-8")
    if report is not None:
        from train.report import write

        write(report, heard, model, run)
        print(f"{report} shows where it errs")


def of_split(clips: list[Clip], split: str) -> list[Clip]:
    """Clips of a split; of a corpus without splits, the tenth that `fit` with its default seed did not train on."""
    if split == "all":
        return clips
    return [c for c in clips if c.split == split] if any(c.split for c in clips) else split_clips(clips, seed=1)[1]


def _relative(path: Path, root: Path) -> Path:
    """As the manifest names it."""
    base = root if root.is_dir() else root.parent
    return path.relative_to(base) if path.is_relative_to(base) else path


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
