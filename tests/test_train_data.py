from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from streamer import features
from streamer.spec import FeatureSpec
from train.batch import Data, assemble, batches
from train.cache import FeatureCache
from train.config import Config, load_config
from train.data import Clip, DataError, Example, examples, read_corpus, split_clips, write_manifest
from train.run import prepare, read_splits


def write_clip(path: Path, seconds: float, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).normal(0, 0.1, int(16000 * seconds)).clip(-1, 1)
    soundfile.write(path, samples, 16000)
    return path


def test_a_manifest_is_read_with_byte_order_mark_crlf_quotes_and_other_columns(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.csv"
    manifest.write_bytes('\ufeffextra,path,text,split\r\n1,a.wav,"Hello, you",train\r\n2,b/c.wav,Bye,dev\r\n'.encode())
    first, second = read_corpus(manifest)
    assert first == Clip(tmp_path / "a.wav", "hello you", "train", "", tmp_path.name)
    assert (second.path, second.split) == (tmp_path / "b" / "c.wav", "dev")


def test_an_ljspeech_folder_is_read_without_quoting(tmp_path: Path) -> None:
    (tmp_path / "metadata.csv").write_text('LJ-1|"Twice, 2|"Twice, two\n')
    assert read_corpus(tmp_path) == [Clip(tmp_path / "wavs" / "LJ-1.wav", "twice two", corpus=tmp_path.name)]


def test_a_manifest_without_the_needed_columns_is_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("file,words\na,b\n")
    with pytest.raises(DataError, match="no column path or text"):
        read_corpus(tmp_path)
    with pytest.raises(DataError, match="no corpus at"):
        read_corpus(tmp_path / "missing.csv")


def test_without_clips_for_validation_a_tenth_of_those_for_training_is_held_out(tmp_path: Path) -> None:
    """As in what `asr-train synth` makes; a corpus that has some serves for all."""
    for name, splits in (("spoken", ["train"] * 20 + ["test"]), ("mixed", ["train", "dev"])):
        write_manifest(tmp_path / f"{name}.csv", [Clip(tmp_path / f"{i}.wav", "x", s) for i, s in enumerate(splits)])
    train, valid = read_splits([tmp_path / "spoken.csv"], Config())
    assert (len(train), len(valid)) == (18, 2)
    assert not {clip.path for clip in train} & {clip.path for clip in valid}
    train, valid = read_splits([tmp_path / "spoken.csv", tmp_path / "mixed.csv"], Config())
    assert (len(train), len(valid)) == (21, 1)


def test_clips_are_split_by_column_or_nine_to_one(tmp_path: Path) -> None:
    by_column = [Clip(tmp_path / str(i), "x", split) for i, split in enumerate(["train", "dev", "test", "train"])]
    assert [len(part) for part in split_clips(by_column, 1)] == [2, 1]
    plain = [Clip(tmp_path / str(i), "x") for i in range(50)]
    train, valid = split_clips(plain, 1)
    assert (len(train), len(valid)) == (45, 5)
    assert set(train) | set(valid) == set(plain)
    assert split_clips(plain, 1) == (train, valid) != split_clips(plain, 2)


def test_whole_speakers_are_held_out(tmp_path: Path) -> None:
    clips = [Clip(tmp_path / str(i), "x", speaker=f"s{i % 7}", corpus="c") for i in range(70)]
    train, valid = split_clips(clips, 1, "speaker")
    assert len(valid) == 10
    assert not {c.speaker for c in train} & {c.speaker for c in valid}
    assert set(train) | set(valid) == set(clips)
    with pytest.raises(DataError, match="are of one speaker"):
        split_clips([Clip(Path("a"), "x"), Clip(Path("b"), "x")], 1, "speaker")


def test_a_run_folder_says_what_was_learnt_from_held_out_and_dropped(tmp_path: Path) -> None:
    rows = [f"{i}.wav,a b,{'dev' if i < 2 else 'train'}" for i in range(12)]
    for i in range(12):
        write_clip(tmp_path / f"{i}.wav", 0.6, i)
    (tmp_path / "11.wav").write_bytes(b"torn")
    table = ["path,text,split", *rows, "3.wav,again,train", f"{tmp_path / '4.wav'},a,train", "5.wav,,train"]
    (tmp_path / "manifest.csv").write_text("\n".join(table))
    prepare(Config(), [tmp_path], None, tmp_path / "cache", tmp_path / "run")
    assert [c.path.name for c in read_corpus(tmp_path / "run" / "val.csv")] == ["0.wav", "1.wav"]
    assert [c.path.name for c in read_corpus(tmp_path / "run" / "train.csv")] == [f"{i}.wav" for i in range(2, 11)]
    dropped = {(c.path.name, c.split) for c in read_corpus(tmp_path / "run" / "dropped.csv")}
    twice = {(name, "a path given twice") for name in ("3.wav", "4.wav", "5.wav")}
    assert dropped == {("11.wav", "unreadable audio"), *twice}


def test_a_manifest_of_which_much_cannot_be_read_is_refused(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.wav", 0.6)
    lines = ["path,text,split", "a.wav,a,train", "b.wav,a,train", "a.wav,a,dev"]
    (tmp_path / "manifest.csv").write_text("\n".join(lines))
    with pytest.raises(DataError, match=r"1 of 2 recordings cannot be read, .*b\.wav among them"):
        prepare(Config(), [tmp_path], None, tmp_path / "cache", tmp_path / "run")


def test_dropped_clips_are_counted_by_reason() -> None:
    vocab = ("<blank>", " ", "a", "b")
    clips = [Clip(Path(name), text) for name, text in [("a", "ab"), ("b", ""), ("c", "ax"), ("d", "a"), ("e", "aaaa")]]
    frames = {Path(name): 24 for name in "abce"}
    kept, dropped = examples(clips, frames, vocab, subsampling=4)
    assert [e.labels for e in kept] == [(2, 3)]
    assert Counter(reason for _, reason in dropped) == {
        "empty transcript": 1,
        "character outside the vocabulary": 1,
        "unreadable audio": 1,
        "transcript too long for its audio": 1,
    }


def test_cached_features_are_those_of_serving_and_survive_a_restart(tmp_path: Path) -> None:
    spec = FeatureSpec()
    paths = [write_clip(tmp_path / f"{i}.wav", 0.3 + 0.1 * i, i) for i in range(3)]
    bad = tmp_path / "bad.wav"
    bad.write_bytes(b"no audio")
    counted = FeatureCache(tmp_path / "cache", spec).add([*paths, bad, tmp_path / "missing.wav"])
    assert set(counted) == set(paths)
    again = FeatureCache(tmp_path / "cache", spec)
    assert again.add(paths) == counted
    samples, _ = soundfile.read(paths[1], dtype="float32")
    np.testing.assert_allclose(again.get(paths[1]), features.compute(samples, spec), atol=0.01)


def test_a_recording_that_changed_is_computed_anew(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.wav", 0.5)
    before = FeatureCache(tmp_path / "cache", FeatureSpec()).add([path])[path]
    write_clip(path, 1.0)
    assert FeatureCache(tmp_path / "cache", FeatureSpec()).add([path])[path] > before


def some_examples(count: int) -> list[Example]:
    rng = np.random.default_rng(0)
    return [Example(Clip(Path(f"{i}"), "ab"), (2, 3), int(rng.integers(100, 900))) for i in range(count)]


def test_an_epoch_hears_every_clip_in_batches_of_similar_length() -> None:
    data = some_examples(200)
    groups = list(batches(data, 5000, np.random.default_rng(1)))
    heard = [e for [batch] in groups for item in batch for e in item]
    assert sorted(heard, key=lambda e: str(e.clip.path)) == sorted(data, key=lambda e: str(e.clip.path))
    for [batch] in groups:
        lengths = [sum(e.frames for e in item) for item in batch]
        assert max(lengths) * len(lengths) <= 5000 * 1.2
        assert min(lengths) > 0.5 * max(lengths)


def test_clips_are_joined_and_groups_are_as_large_as_asked() -> None:
    groups = list(batches(some_examples(200), 5000, np.random.default_rng(1), group=2, join=0.5))
    assert all(len(group) == 2 for group in groups)
    assert any(len(item) == 2 for group in groups for batch in group for item in batch)


@pytest.mark.parametrize("how", ["heavy", "light", "none"])
def test_a_batch_is_padded_with_quiet_and_its_lengths_are_true(tmp_path: Path, how: str) -> None:
    config = Config(augment=how)
    cache = FeatureCache(tmp_path / "cache", config.features)
    paths = [write_clip(tmp_path / f"{i}.wav", 0.5 + 0.4 * i, i) for i in range(3)]
    frames = cache.add(paths)
    items = [(Example(Clip(p, "ab"), (3, 4), frames[p]),) for p in paths]
    items.append((items[0][0], items[1][0]))
    data = Data([], [], [], cache)
    x, labels, lengths, counts = assemble(items, data, config, np.random.default_rng(0))
    assert x.shape[0] == labels.shape[0] == 4
    assert x.shape[1] % 4 == 0
    assert np.isfinite(x).all()
    assert list(counts) == [2, 2, 2, 5]
    assert list(labels[3]) == [3, 4, 1, 3, 4]  # a space between clips
    quiet = np.float32(np.log(config.features.floor))
    for row, length in zip(x, lengths, strict=True):
        np.testing.assert_array_equal(row[(length + 1) * 4 :], quiet)
    again = assemble(items, data, config, np.random.default_rng(0))
    np.testing.assert_array_equal(again[0], x)


def test_a_configuration_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    config = Config(weights={"synth": 0.5}, augment="heavy", hours=2.0)
    config.dump(tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config
