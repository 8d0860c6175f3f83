"""A picture of one clip as it is, and of what each part of an augmentation makes of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from streamer.spec import FeatureSpec
from train.augment import Augmentation, Floats, augment
from train.spectrogram import GREY, STYLE, render, spectrogram

NOTHING = Augmentation(
    speed=0, warp=0, tone_db=0, reverb=0, band_limit=0, codec=0, noise=0, gain_db=(0, 0), time_masks=0, mel_masks=0
)
COLUMNS = 3


def alone(how: Augmentation) -> Iterator[tuple[str, Augmentation]]:
    """Each part of an augmentation that can be seen, by its name: nothing but it, and certainly."""
    for name in ("speed", "warp", "tone_db"):
        if amount := getattr(how, name):
            yield name, dataclasses.replace(NOTHING, **{name: amount})
    for name in ("reverb", "band_limit", "codec", "noise"):
        if getattr(how, name):
            yield name, dataclasses.replace(NOTHING, **{name: 1.0}, snr_db=how.snr_db)
    masks = dataclasses.replace(how, **{k: v for k, v in dataclasses.asdict(NOTHING).items() if "mask" not in k})
    if how.time_masks or how.mel_masks:
        yield "masks", masks


def picture(x: Floats, how: Augmentation, spec: FeatureSpec, seed: int) -> bytes:
    """A PNG of spectrograms; x: log-mel, float32 [frames, mels]. Noise is coloured: recorded ones are not at hand."""
    import matplotlib
    from matplotlib.figure import Figure

    shown = [("as it is", x)]
    for name, part in alone(how):
        shown.append((name, augment(x, part, spec, (), np.random.default_rng(seed))))
    rows = -(-len(shown) // COLUMNS)
    with matplotlib.rc_context(STYLE | GREY):
        figure = Figure((9.5, 1.7 * rows), layout="constrained")
        for axes, (name, frames) in zip(figure.subplots(rows, COLUMNS, squeeze=False).flat, shown, strict=False):
            spectrogram(axes, frames, spec)
            axes.set_title(name, fontsize=9)
            axes.set_yticks([])
            axes.set_ylabel("")
        for axes in figure.axes[len(shown) :]:
            axes.set_axis_off()
        return render(figure, "png", transparent=True)
