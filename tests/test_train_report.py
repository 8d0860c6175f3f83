"""Pictures of what a model hears and the report of an evaluation: their words and figures, not their pixels."""

from __future__ import annotations

import dataclasses
import html.parser
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny_model
from hypothesis import given
from hypothesis import strategies as st

from streamer.ctc import Greedy
from streamer.model import AcousticModel, load
from streamer.spec import FeatureSpec
from train import charts, plots, report, spectrogram, varied
from train.align import align, compare, rate, rates
from train.augment import Augmentation, augment
from train.config import Config
from train.data import Clip, DataError
from train.evaluate import transcribe
from train.spectrogram import Label
from train.text import edits

ALONE = {"meta", "img"}


class Page(html.parser.HTMLParser):
    """Checks that every tag is closed in order, and collects texts, tags and their attributes."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(data.strip())


def size(png: bytes) -> tuple[int, int]:
    """Width and height of a picture, which must be a whole PNG."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert png.endswith(b"IEND\xaeB`\x82")
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Four seconds of sound."""
    soundfile.write(tmp_path / "babble.wav", tiny_model.babble(64000), 16000)
    return tmp_path / "babble.wav"


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", [("a", "a"), ("b", "b"), ("c", "c")]),
        ("a b c", "a c", [("a", "a"), ("b", None), ("c", "c")]),
        ("a c", "a b c", [("a", "a"), (None, "b"), ("c", "c")]),
        ("a b c", "a x c", [("a", "a"), ("b", "x"), ("c", "c")]),
        ("", "a", [(None, "a")]),
        ("a", "", [("a", None)]),
        ("", "", []),
    ],
)
def test_words_are_aligned_with_what_was_heard_for_them(reference: str, hypothesis: str, expected: list) -> None:
    assert align(reference.split(), hypothesis.split()) == expected


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abc"), max_size=9))
def test_an_alignment_holds_both_texts_and_has_the_fewest_edits(reference: list[str], hypothesis: list[str]) -> None:
    pairs = align(reference, hypothesis)
    assert [word for word, _ in pairs if word is not None] == reference
    assert [text for _, text in pairs if text is not None] == hypothesis
    assert sum(word != text for word, text in pairs) == edits(reference, hypothesis)


def test_missed_words_stand_in_the_gaps_and_errors_stand_out() -> None:
    words = [Label("two", 1.0, 1.5), Label("free", 2.0, 2.5), Label("uh", 3.0, 3.1)]
    assert compare("zero one two three four", words, 5.0) == [
        Label("(zero)", 0.0, 0.5, True),
        Label("(one)", 0.5, 1.0, True),
        Label("two", 1.0, 1.5),
        Label("free (three)", 2.0, 2.5, True),
        Label("uh (four)", 3.0, 3.1, True),
    ]
    assert compare("one two", [], 2.0) == [Label("(one)", 0.0, 1.0, True), Label("(two)", 1.0, 2.0, True)]
    assert compare("", words[2:], 5.0) == [Label("uh", 3.0, 3.1, True)]


def test_rates_are_edits_over_reference_length_of_all_clips(recording: Path) -> None:
    rated = [rate(Clip(recording, "aa b"), "aa c"), rate(Clip(recording, "cc"), ""), rate(Clip(recording, ""), "a")]
    assert rates(rated) == (pytest.approx(100 * 3 / 3), pytest.approx(100 * 4 / 6))
    assert rates([]) == (0, 0)
    with pytest.raises(DataError, match=r"gone\.wav cannot be read any more"):
        rate(Clip(recording.with_name("gone.wav"), "a"), "a")


def test_a_picture_shows_the_frames_that_were_decoded(model: AcousticModel) -> None:
    samples = tiny_model.babble(16000 * 9 + 77)
    heard = plots.hear(model, samples)
    step = model.spec.step_samples
    assert len(heard.log_probs) == -(-len(samples) // step)
    assert " ".join(word.text for word in heard.words) == transcribe(model, samples) != ""
    best = heard.log_probs.argmax(axis=1)
    for word in heard.words if isinstance(model.decoder, Greedy) else ():  # a language model may hear something else
        frames = best[round(word.start * 16000) // step : -(-round(word.end * 16000) // step)]
        spoken = "".join(model.spec.vocab[token] for token, _ in itertools.groupby(frames) if token != 0)
        assert spoken == word.text


def test_a_picture_has_the_words_at_their_times_and_the_names_of_the_tokens(model: AcousticModel) -> None:
    pytest.importorskip("matplotlib")
    heard = plots.hear(model, tiny_model.babble(16000 * 4))
    figure = plots.draw(heard, 0.5, 3.0, "$a$ and $b$")
    waves, mels, tokens = figure.axes
    expected = [word for word in heard.words if word.end > 0.5 and word.start < 3]
    assert [text.get_text() for text in mels.texts] == [word.text for word in expected] != []
    assert [text.get_position()[0] for text in mels.texts] == [(word.start + word.end) / 2 for word in expected]
    assert tokens.get_yticklabels()[0].get_text() == "blank (dimmed)"
    assert {label.get_text() for label in tokens.get_yticklabels()[1:]} <= {"space", "a", "b", "c"}
    assert {axes.get_xlim() for axes in (waves, mels, tokens)} == {(0.5, 3.0)}
    width, height = size(plots.render(figure))
    assert 600 < width < 2000
    assert 400 < height < 2000


def test_tokens_that_never_matter_are_left_out(model: AcousticModel) -> None:
    heard = plots.hear(model, tiny_model.babble(16000 * 4))
    shown, probabilities = plots.shown_tokens(heard, 0, 4)
    highest = dict(enumerate(probabilities.max(axis=0)))
    assert shown[0] == model.spec.blank
    assert all(highest[row] >= plots.LEAST for row in range(1, len(shown)))
    left_out = [token for token in range(len(model.spec.vocab)) if token not in shown]
    assert all(math.exp(heard.log_probs[:, token].max()) < plots.LEAST for token in left_out)


def test_plotting_writes_a_file_or_says_in_one_sentence_why_not(streaming: Path, recording: Path) -> None:
    pytest.importorskip("matplotlib")
    out = recording.parent / "new" / "plot.png"
    told = plots.plot(recording, str(streaming), out, 0, 30)
    assert f"{out}: 0.0 to 4.0 s of 4.0 s" in told
    assert size(out.read_bytes())[0] > 600
    junk = recording.with_name("junk.wav")
    junk.write_text("junk")
    for audio, model, name, start, reason in [
        (junk, streaming, "plot.png", 0.0, "cannot be read as audio"),
        (recording, junk, "plot.png", 0.0, "is not an ONNX model"),
        (recording, streaming, "plot.xyz", 0.0, "give --out a name that ends in .png"),
        (recording, streaming, "plot.png", 4.0, "there is nothing to draw from second 4 on"),
    ]:
        with pytest.raises(DataError, match=reason) as error:
            plots.plot(audio, str(model), out.with_name(name), start, 30)
        assert "\n" not in str(error.value)


def test_silence_and_very_long_or_short_recordings_can_be_drawn(streaming: Path) -> None:
    pytest.importorskip("matplotlib")
    model = load(streaming)
    silent = plots.hear(model, tiny_model.babble(1600) * 0)
    assert size(plots.render(plots.draw(silent, 0, 0.1, "silence")))[0] > 600
    spec = model.spec.features
    frames = plots.features.compute(tiny_model.babble(8000), spec)
    assert size(spectrogram.picture(frames[:0], spec, []))[0] > 600
    long = frames[[0] * 30_000]
    assert size(spectrogram.picture(long, spec, [Label("word", 1, 2)]))[0] < 2**16


def run_folder(folder: Path, rows: str) -> Path:
    """A run folder with a log of these rows."""
    folder.mkdir()
    head = "step,epoch,seconds,audio_hours,loss,learning_rate,cer,wer\n"
    (folder / "log.csv").write_text(head + rows)
    return folder


def test_a_report_has_the_figures_and_escapes_what_it_quotes(streaming: Path, recording: Path) -> None:
    pytest.importorskip("matplotlib")
    evil = "<script>alert('x')</script>"
    long = " ".join(["aa b"] * 10)
    heard = [
        (Clip(recording, long, "test", "ann", "tones"), long.replace("b", "c", 4)),
        (Clip(recording, long, "test", "bob", "tones"), long),
        (Clip(recording, "cc b a", "test", evil, evil), "cc <b>"),
    ]
    out = recording.parent / "new" / "report.html"
    run = run_folder(recording.parent / "run", "9,0,60,2.5,31.5,1e-3,0.25,0.5\n")
    Config(augment="heavy,reverb=0", seed=5).dump(run / "config.json")
    report.write(out, heard, load(streaming), run)
    source = out.read_text()
    page = Page(source)
    assert "<script" not in source
    assert evil in page.texts
    assert "&lt;b&gt;" in source
    headline = [page.texts[page.texts.index(what) - 1] for what in WHAT]
    assert headline == ["14.0 %", "6.7 %"]  # 6 of 43 words, 7 of 104 characters
    rows = ["tones", "2", "40", "10.0", "4.1"], [evil, "1", "3", "66.7", "50.0"], ["all", "3", "43", "14.0", "6.7"]
    told = "|".join(page.texts)
    assert all("|".join(row) in told for row in rows)
    assert "ann, tones|1|20|20.0|8.2|bob, tones|1|20|0.0|0.0" in told
    assert "b|c|4" in told
    assert "a|<b>|1" in told
    assert "Missed|spoken|times|b|1" in told
    assert "CER, %|0|5|10|15|20|25|0|0.5|1|1.5|2|2.5|25|hours of audio heard" in told
    pictures = [attributes for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 3
    assert "what each part of 'heavy,reverb=0' alone can make of it (seed 5)" in told
    assert all(str(picture["src"]).startswith("data:image/png;base64,iVBOR") for picture in pictures)
    assert not any({"href", "onload", "onclick"} & set(attributes) for _, attributes in page.tags)
    assert "default-src 'none'" in str(page.tags)
    assert "url(" not in source


WHAT = ("of words wrong (WER)", "of characters wrong (CER)")


def test_each_part_of_an_augmentation_that_is_on_is_shown_alone() -> None:
    parts = dict(varied.alone(Augmentation(reverb=0, mel_masks=0)))
    assert list(parts) == ["speed", "warp", "tone_db", "band_limit", "codec", "noise", "masks"]
    assert parts["noise"] == dataclasses.replace(varied.NOTHING, noise=1.0, snr_db=parts["noise"].snr_db)
    assert parts["masks"].time_masks == Augmentation().time_masks
    assert parts["masks"].speed == parts["masks"].noise == parts["masks"].tone_db == 0
    x = np.random.default_rng(1).normal(-3, 1, (120, 80)).astype(np.float32)
    spec = FeatureSpec()
    still = augment(x, varied.NOTHING, spec, (), np.random.default_rng(0))
    np.testing.assert_allclose(still, x, atol=1e-2)
    for part in parts.values():
        changed = augment(x, part, spec, (), np.random.default_rng(3))
        assert changed.shape != x.shape or np.abs(changed - x).max() > 0.05


def test_a_perfect_evaluation_has_a_report_too(streaming: Path, recording: Path) -> None:
    out = recording.with_name("report.html")
    report.write(out, [(Clip(recording, "a b"), "a b")], load(streaming))
    page = Page(out.read_text())
    assert "0.0 %" in page.texts
    assert "Worst clips" not in page.texts
    assert "Training" not in page.texts


def test_a_log_that_cannot_be_read_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist: give --run the folder"):
        charts.read_log(tmp_path)
    for n, rows in enumerate(("9,0,60,2.5,31.5\n", "9,0,60,2.5,31.5,x,0.25,0.5\n")):
        with pytest.raises(DataError, match="is not a log that `asr-train fit` wrote"):
            charts.read_log(run_folder(tmp_path / str(n), rows))
    with pytest.raises(DataError, match="has no validation yet"):
        charts.read_log(run_folder(tmp_path / "none", ""))


def test_a_curve_leaves_out_what_is_not_a_number() -> None:
    page = Page(charts.line("Loss", "hours", "nats", [(1, 4), (2, math.nan), (3, 2)]))
    [curve] = [attributes["points"] for tag, attributes in page.tags if tag == "polyline"]
    assert len(str(curve).split()) == 2
    Page(charts.line("Loss", "hours", "", []))
    Page(charts.bars("CER", "seconds", "%", []))


def test_a_reliability_diagram_has_a_point_for_every_bin() -> None:
    page = Page(charts.diagonal("Right, %", "confidence, %", [(10, 25, "<4> words"), (90, 80, "5 words")]))
    assert [attributes["class"] for tag, attributes in page.tags if tag == "circle"] == ["dot", "dot"]
    assert "10.0 %: 25.0 % (<4> words)" in page.texts


@given(st.floats(1e-9, 1e9))
def test_ticks_are_few_and_reach_the_highest_value(highest: float) -> None:
    ticks = charts.ticks(highest)
    assert ticks[0] == 0
    assert highest <= ticks[-1] * 1.000001
    assert ticks[-2] < highest
    assert 3 <= len(ticks) <= 7
