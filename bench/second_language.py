"""Another language from nothing: synthesised sentences and recorded telephone prompts, scored on prompts held out.

    python -m bench.second_language LANGUAGE LIST SOUNDS OUT MINUTES TEXT...

LIST and SOUNDS are Asterisk's `core-sounds-*.txt` and the folder of its recordings, both in Debian; TEXT is what the
synthesisers read. For Russian:

    apt-get install asterisk-core-sounds-ru asterisk-core-sounds-ru-wav fortunes-ru rhvoice rhvoice-russian
    zcat /usr/share/doc/asterisk-core-sounds-ru/core-sounds-ru.txt.gz > data/core-sounds-ru.txt
    python -m bench.second_language ru data/core-sounds-ru.txt /usr/share/asterisk/sounds/ru_RU_f_IvrvoiceRU \\
        data/russian 30 $(find /usr/share/games/fortunes/ru -type f ! -name '*.*')
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from bench.runs import asr_train, error_rates, fit, table
from train.data import Clip, write_manifest
from train.text import normalise

SENTENCES = 2500  # to be synthesised
SPLITS = ("test", "dev", *["train"] * 4, "test", *["train"] * 3)  # of every ten prompts


def prompts(listed: Path, sounds: Path) -> list[Clip]:
    """The recordings whose text can be taken as it stands: no digits, no keys to press, no [tones]."""
    clips = list[Clip]()
    seen = dict[str, str]()  # the same text twice stays in one split
    for line in sorted(listed.read_text(encoding="utf-8").splitlines()):
        name, _, text = line.partition(":")
        path, text = sounds / f"{name.strip()}.wav", text.strip()
        if not path.is_file() or not text or re.search(r"[\d\[<#*A-Za-z]", text):
            continue
        said = normalise(text)
        split = seen.setdefault(said, SPLITS[len(seen) % len(SPLITS)])
        clips.append(Clip(path, said, split, "prompts", "prompts"))
    return clips


def main() -> None:
    """Make the corpora, train, and print error rates on the prompts held out."""
    language, listed, sounds, out = sys.argv[1], *map(Path, sys.argv[2:5])
    minutes, texts = float(sys.argv[5]), sys.argv[6:]
    out.mkdir(parents=True, exist_ok=True)
    write_manifest(out / "prompts.csv", clips := prompts(listed, sounds))
    print(f"{len(clips)} prompts")
    if not (out / "synth" / "manifest.csv").exists():
        told, _ = asr_train("synth", *texts, "--language", language, "--count", SENTENCES, "--out", out / "synth")
        print(told.splitlines()[-1])
    options = ["--language", language, "--backend", "torch", "--bf16", "--weight", "prompts=2"]
    run = fit([out / "prompts.csv", out / "synth"], out / "run", out / "features", minutes, *options)
    rates = error_rates(run.folder / "model.onnx", out / "prompts.csv", "test", "--lm", "none")
    table(["", "WER %", "CER %"], [[name, *found] for name, found in rates.items() if name not in ("", "all")])
    print(f"{run.cpu_hours:.2f} CPU hours, {run.log[-1][1]:.0f} hours of audio heard")


if __name__ == "__main__":
    main()
