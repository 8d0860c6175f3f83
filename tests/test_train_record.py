"""Sentences read aloud become a corpus: the dialogue as a pure function, its files, and the real microphone."""

from __future__ import annotations

import asyncio
import io
import lzma
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from types import SimpleNamespace

import fake_sounddevice
import numpy as np
import pytest
import soundfile
from virtual_microphone import missing, virtual_microphone

from streamer.intake import Lost
from streamer.model import MODELS
from train import record as module
from train.data import DataError, read_corpus
from train.reading import RATE, Judge, Keep, Level, Listen, Play, Session, Show
from train.record import Screen, read_keys
from train.voice import Voice, read_prompts

ROOT = Path(__file__).parent.parent
PROMPTS = ["Turn on the light.", "Open the door."]


def quiet(seconds: float) -> np.ndarray:
    """A room at -70 dBFS."""
    return np.random.default_rng(0).normal(0, 10 ** (-70 / 20), round(seconds * RATE)).astype(np.float32)


def voice(seconds: float = 1.0, amplitude: float = 0.3, pitch: float = 200.0) -> np.ndarray:
    """A tone for a voice."""
    t = np.arange(round(seconds * RATE)) / RATE
    return (amplitude * np.sin(2 * np.pi * pitch * t)).astype(np.float32)


def reading(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate([quiet(1), *parts, quiet(1.5)])


def begun(prompts: list[str] = PROMPTS, **settings: object) -> Session:
    """A session that has shown its first prompt."""
    session = Session(prompts, **settings)  # type: ignore[arg-type]
    shown = session.advance()
    assert shown[0] == Show(1, prompts[0])
    return session


def recorded(session: Session, samples: np.ndarray) -> list[object]:
    """What comes of a recording between two Enters."""
    assert session.key("") == [Listen()]
    return [*session.hear(samples), *session.key("")]


def only(kind: type, actions: list) -> list:
    return [action for action in actions if isinstance(action, kind)]


def test_enter_starts_and_stops_and_keeps_and_the_next_prompt_comes() -> None:
    session = begun()
    session.hear(quiet(1))
    *levels, judged = recorded(session, reading(voice()))
    assert levels
    assert set(map(type, levels)) == {Level}
    assert judged.next == "ask"
    assert judged.take.faults == ()
    kept, shown = session.key("")
    assert kept.text == PROMPTS[0]
    assert shown == Show(2, PROMPTS[1])
    recorded(session, reading(voice()))
    assert only(Keep, session.key(""))[0].text == PROMPTS[1]
    assert session.over


def test_silence_is_trimmed_to_a_third_of_a_second() -> None:
    session = begun()
    samples = recorded(session, reading(voice(2)))[-1].take.samples
    assert 2.56 <= len(samples) / RATE <= 2.64
    assert np.abs(samples[: RATE // 4]).max() < 0.01 < np.abs(samples[RATE * 2 // 5 : -RATE * 2 // 5]).max()
    assert np.abs(samples[-RATE // 4 :]).max() < 0.01


def test_a_click_is_no_speech() -> None:
    session = begun()
    click = np.concatenate([voice(0.03), quiet(0.7)])
    assert 1.56 <= len(recorded(session, reading(click, voice(1)))[-1].take.samples) / RATE <= 1.64
    session.key("r")
    session.hear(reading(click))
    assert session.key("")[0].take.faults == ("no speech is heard in it",)


def test_r_records_again_and_only_the_second_is_kept() -> None:
    session = begun()
    recorded(session, reading(voice(1)))
    assert session.key("r") == [Listen()]
    session.hear(reading(voice(2)))
    session.key("")
    (kept,) = only(Keep, session.key(""))
    assert 2.5 < len(kept.samples) / RATE < 2.7


@pytest.mark.parametrize("when", ["ready", "recording", "asking"])
def test_s_skips_and_q_quits_and_neither_keeps(when: str) -> None:
    for key in "sq":
        session = begun()
        if when != "ready":
            session.key("")
            session.hear(reading(voice()))
        if when == "asking":
            session.key("")
        assert session.key(key) == ([Show(2, PROMPTS[1])] if key == "s" else [])
        assert session.over == (key == "q")


def test_p_plays_what_was_recorded_and_asks_on() -> None:
    session = begun()
    judged = recorded(session, reading(voice()))[-1]
    (playing,) = session.key("p")
    assert isinstance(playing, Play)
    assert np.array_equal(playing.samples, judged.take.samples)
    assert only(Keep, session.key(""))


def test_letters_without_a_meaning_do_nothing() -> None:
    session = begun()
    assert session.key("x") == session.key("p") == session.key("r") == []
    assert session.key("") == [Listen()]


@pytest.mark.parametrize(
    ("samples", "text", "fault"),
    [
        (voice(1, 0.008), "Hello.", "too quiet, come closer or raise the input level"),
        (voice(1, 1.5).clip(-1, 1), "Hello.", "clipped, step back or lower the input level"),
        (voice(0.5), "This is far more than anyone can say in half a second.", "too short for all of the text"),
        (voice(9), "Yes.", "too long for this text"),
        (quiet(1), "Hello.", "no speech is heard in it"),
        (voice(0), "Hello.", "no speech is heard in it"),
    ],
)
def test_what_is_wrong_with_a_recording_is_named(samples: np.ndarray, text: str, fault: str) -> None:
    session = begun([text])
    assert recorded(session, reading(samples))[-1].take.faults == (fault,)
    session.key("r")
    session.hear(reading(voice(0.5 + len(text) / 15)))
    assert session.key("")[0].take.faults == ()


def test_a_recording_ends_after_the_seconds_that_were_asked_for() -> None:
    session = begun(seconds=2)
    session.key("")
    assert only(Judge, session.hear(voice(1.9))) == []
    (judged,) = only(Judge, session.hear(voice(5)))
    assert len(judged.take.samples) == 2 * RATE


def test_auto_ends_after_a_second_of_quiet_keeps_and_goes_on_without_a_key() -> None:
    session = Session(PROMPTS, auto=True)
    assert session.advance() == [Show(1, PROMPTS[0]), Listen()]
    pause = np.concatenate([voice(0.6), quiet(0.9), voice(0.6)])
    assert only(Judge, session.hear(np.concatenate([quiet(20), pause, quiet(0.9)]))) == []
    judged, kept, *then = [action for action in session.hear(quiet(0.2)) if not isinstance(action, Level)]
    assert judged.next == "keep"
    assert kept.text == PROMPTS[0]
    assert 2.6 < len(kept.samples) / RATE < 2.8
    assert then == [Show(2, PROMPTS[1]), Listen()]
    assert only(Keep, session.hear(reading(voice())))[0].text == PROMPTS[1]
    assert session.over


def test_auto_does_not_keep_what_cannot_be_the_whole_text() -> None:
    session = begun(["This takes a good deal longer to say than a cough."], auto=True)
    judged, again = [action for action in session.hear(reading(voice(0.3))) if not isinstance(action, Level)]
    assert (judged.next, again) == ("again", Listen())
    assert len(only(Keep, session.hear(reading(voice(3))))) == 1


def test_auto_hears_no_speech_in_clicks_now_and_then() -> None:
    session = begun(auto=True)
    assert only(Judge, session.hear(np.concatenate([quiet(1), *[voice(0.06), quiet(3)] * 9]))) == []


def test_auto_ends_after_the_seconds_that_were_asked_for_in_a_room_without_quiet() -> None:
    session = begun(auto=True, seconds=3)
    kept = only(Keep, session.hear(np.concatenate([quiet(5), voice(3.1)])))
    assert 3.2 < kept[0].samples.size / RATE < 3.4


def test_speech_is_found_in_a_noisy_room() -> None:
    noise = np.random.default_rng(1).normal(0, 0.01, 20 * RATE).astype(np.float32)  # -40 dBFS
    session = begun(auto=True)
    noise[15 * RATE : 16 * RATE] += voice(1)
    kept = only(Keep, session.hear(noise))
    assert [round(len(keep.samples) / RATE, 1) for keep in kept] == [1.6]


def test_a_recording_that_lost_audio_is_asked_about() -> None:
    session = begun()
    assert session.lose("the microphone was unplugged") == []
    session.key("")
    session.hear(np.concatenate([quiet(1), voice()]))
    (judged,) = session.lose("the microphone was unplugged")
    assert judged.next == "ask"
    assert judged.take.faults == ("cut off, the microphone was unplugged",)
    assert 1.2 < len(only(Keep, session.key(""))[0].samples) / RATE < 1.4


def test_auto_records_again_what_lost_audio() -> None:
    session = begun(auto=True)
    session.hear(quiet(3))
    assert session.lose("overrun") == []
    session.hear(np.concatenate([quiet(1), voice()]))
    judged, again = session.lose("overrun")
    assert (judged.next, again) == ("again", Listen())
    (kept,) = only(Keep, session.hear(reading(voice(1.5))))
    assert 2.0 < len(kept.samples) / RATE < 2.2


def test_what_comes_out_does_not_depend_on_how_the_samples_were_cut() -> None:
    samples = np.concatenate([reading(voice(1.2)), reading(voice(0.8, 0.1))])
    cuts = np.sort(np.random.default_rng(2).integers(0, len(samples), 300))
    whole, pieces = begun(auto=True), begun(auto=True)
    expected = whole.hear(samples)
    found = [action for piece in np.split(samples, cuts) for action in pieces.hear(piece)]
    assert repr(found) == repr(expected)
    assert len(only(Keep, found)) == 2


def test_prompts_are_the_lines_of_a_list_once_each_in_its_order_and_in_any_language(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(
        "Öffne die Tür\n\n  turn on   the light\nöffne die Tür!\nAt 9 o'clock\nYes\n***\n"
    )
    assert read_prompts(tmp_path / "list.txt") == (["Öffne die Tür", "turn on the light", "Yes"], 1)


def test_prompts_are_the_sentences_of_prose_and_of_xz_and_csv(tmp_path: Path) -> None:
    story = "The cat sat on\nthe mat. Nobody\nhad seen the\ndog. Where did it go?\n"
    found = ["The cat sat on the mat.", "Nobody had seen the dog.", "Where did it go?"]
    (tmp_path / "story.txt").write_text(story)
    (tmp_path / "line.txt").write_text(" ".join(story.split() * 2))
    (tmp_path / "table.csv").write_text("1|x|The cat sat\n2|x|Where did it go?\n")
    with lzma.open(tmp_path / "story.txt.xz", "wt") as file:
        file.write(story)
    for name in ("story.txt", "line.txt", "story.txt.xz"):
        assert read_prompts(tmp_path / name) == (found, 0), name
    assert read_prompts(tmp_path / "table.csv") == (["The cat sat", "Where did it go?"], 0)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"\n1 2 3\n", "no sentence to read aloud"),
        ("a.txt", "Tür".encode("latin-1"), "cannot be read as text"),
        ("a.xz", b"junk", "cannot be read as text"),
    ],
)
def test_a_file_without_prompts_is_one_sentence(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as raised:
        read_prompts(tmp_path / name)
    assert str(tmp_path / name) in str(raised.value)


def test_what_is_kept_is_a_corpus_that_a_second_run_adds_to(tmp_path: Path) -> None:
    folder = tmp_path / "my-voice"
    first = Voice(folder, "me")
    assert [first.keep("It's one, two.", voice(1)).name, first.keep("Three", voice(2)).name] == [
        "0001.flac",
        "0002.flac",
    ]
    manifest = folder / "manifest.csv"
    manifest.write_bytes(manifest.read_bytes().rstrip())  # as an editor may leave it
    (folder / "0003.flac").write_bytes(b"of a run that was killed before it was listed")
    second = Voice(folder, "you")
    assert (second.clips, second.seconds, second.recorded) == (2, 3.0, set())
    assert second.keep("Four", voice(1, pitch=300)).name == "0004.flac"
    clips = read_corpus(folder)
    assert [(c.path.name, c.text, c.speaker, c.corpus) for c in clips] == [
        ("0001.flac", "it's one two", "me", "my-voice"),
        ("0002.flac", "three", "me", "my-voice"),
        ("0004.flac", "four", "you", "my-voice"),
    ]
    samples, rate = soundfile.read(clips[2].path)
    assert rate == RATE
    assert samples == pytest.approx(voice(1, pitch=300), abs=1e-4)
    assert '0001.flac,"It\'s one, two.",me,my-voice' in manifest.read_text()
    assert Voice(folder, "me").recorded == {"it's one two", "three"}
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".part") == []


def test_a_manifest_with_other_columns_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("split,text,path\ndev,Hello,1.flac\n")
    Voice(tmp_path, "me").keep("Good bye", voice())
    clips = read_corpus(tmp_path)
    assert [(c.split, c.text, c.path.name) for c in clips] == [
        ("dev", "hello", "1.flac"),
        ("train", "good bye", "0002.flac"),
    ]


def test_a_folder_that_is_another_corpus_or_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be saved"):
        Voice(tmp_path / "file", "me").keep("Hello", voice())
    (tmp_path / "metadata.csv").write_text("")
    with pytest.raises(DataError, match="choose another --out"):
        Voice(tmp_path, "me")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_the_level_is_one_line_on_a_terminal_and_plain_lines_in_a_log(tmp_path: Path, kind: type[io.StringIO]) -> None:
    out = kind()
    screen = Screen(Voice(tmp_path, "me"), 2, True, out)
    for action in (Listen(), Level(0.9, -30.0, False), Level(1.0, -6.0, True), Level(1.1, -6.0, True)):
        screen.do(action)
    shown = "[===========================   ]   -6 dBFS   1.0 s  TOO LOUD"
    assert shown in out.getvalue()
    assert out.getvalue().count("\n") == (1 if kind is Terminal else 2)
    assert out.getvalue().count("\r\x1b[K[") == (3 if kind is Terminal else 0)


@pytest.mark.parametrize("has_output", [True, False])
def test_playing_is_offered_where_there_is_a_loudspeaker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_output: bool
) -> None:
    played: list[object] = []

    def query_devices(kind: str) -> dict[str, float]:
        if not has_output:
            raise fake_sounddevice.PortAudioError("no output")
        return {"default_samplerate": 48000.0}

    def play(samples: np.ndarray, rate: int) -> None:
        played.append((len(samples), rate))

    fake = SimpleNamespace(
        PortAudioError=fake_sounddevice.PortAudioError,
        query_devices=query_devices,
        play=play,
        stop=lambda: played.append("stopped"),
    )
    monkeypatch.setitem(sys.modules, "sounddevice", fake)  # type: ignore[arg-type]
    out, session = io.StringIO(), begun()
    screen = Screen(Voice(tmp_path, "me"), 2, False, out)
    for action in (*recorded(session, reading(voice())), *session.key("p"), *session.key("r")):
        screen.do(action)
    assert ("p plays it" in out.getvalue()) == has_output
    assert played == ([(pytest.approx(1.6 * 48000, abs=3000), 48000), "stopped"] if has_output else [])


def test_keys_are_the_beginnings_of_lines_and_the_end_is_told() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"\nQuit\n r \n")
    os.close(writer)
    typed: list[str] = []
    read_keys(reader, typed.append)
    os.close(reader)
    assert typed == ["", "q", "r", "end"]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS) + "\n")
    return tmp_path / "prompts.txt"


@pytest.fixture
def keyboard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is typed as soon as the keyboard is read."""
    keys: list[str] = []
    monkeypatch.setattr(module, "read_keys", lambda stdin, typed: [typed(key) for key in (*keys, "end")])
    return keys


def hears(monkeypatch: pytest.MonkeyPatch, *items: np.ndarray | Lost) -> None:
    """A microphone that hears this, after which the user presses Ctrl-C."""

    async def read_microphone(device: object, rate: int) -> AsyncGenerator[np.ndarray | Lost, None]:
        for item in (quiet(0.1), *items):
            yield item
        signal.raise_signal(signal.SIGINT)
        await asyncio.Event().wait()

    monkeypatch.setattr(module, "read_microphone", read_microphone)


def test_after_ctrl_c_what_was_kept_is_there_and_running_again_goes_on(
    tmp_path: Path,
    prompts: Path,
    keyboard: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "my voice"
    hears(monkeypatch, reading(voice(1)), voice(0.5), Lost(0, "the microphone was unplugged"), voice(0.5))
    with pytest.raises(KeyboardInterrupt):
        module.record(prompts, folder, auto=True)
    assert [clip.text for clip in read_corpus(folder)] == ["turn on the light"]
    told = capsys.readouterr().out
    assert "cut off, the microphone was unplugged" in told
    assert "1 clips, 0.0 minutes" in told
    assert f"asr-train fit '{folder}' --init MODEL" in told

    hears(monkeypatch, reading(voice(1.3)))
    module.record(prompts, folder, auto=True)
    assert [clip.text for clip in read_corpus(folder)] == ["turn on the light", "open the door"]
    assert PROMPTS[0] not in capsys.readouterr().out
    module.record(prompts, folder, auto=True)
    assert "are recorded already" in capsys.readouterr().out


def test_without_auto_the_end_of_the_keyboard_quits(
    tmp_path: Path,
    prompts: Path,
    keyboard: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    keyboard += ["s"]
    hears(monkeypatch, *[quiet(0.1)] * 1000)
    module.record(prompts, tmp_path / "mine")
    told = capsys.readouterr().out
    assert told.index(f"1/2  {PROMPTS[0]}") < told.index(f"2/2  {PROMPTS[1]}")
    assert not (tmp_path / "mine").exists()


def test_a_count_takes_so_many_in_an_order_that_the_seed_decides(
    tmp_path: Path, keyboard: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    letters = "abcdefghijklmnopqrstuvwxyz"
    (tmp_path / "list.txt").write_text("\n".join(f"{letter} word" for letter in letters))

    def shown(seed: int) -> str:
        keyboard[:] = ["s"] * 5
        hears(monkeypatch, *[quiet(0.1)] * 1000)
        module.record(tmp_path / "list.txt", tmp_path / "mine", count=5, seed=seed)
        return "".join(line[5] for line in capsys.readouterr().out.splitlines() if line.endswith(" word"))

    assert len(set(shown(1))) == 5
    assert shown(1) == shown(1) != shown(2)


def test_no_microphone_is_one_sentence(tmp_path: Path, prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_sounddevice.install(monkeypatch)
    with pytest.raises(DataError, match="no microphone was found"):
        module.record(prompts, tmp_path / "mine")


def similarity(recording: np.ndarray, played: np.ndarray) -> float:
    """The correlation of what was played with the part of a recording that fits it best."""
    fits = np.correlate(recording, played, "valid")
    at = int(np.argmax(fits))
    return float(np.corrcoef(recording[at : at + len(played)], played)[0, 1])


PROGRAM = (
    "import sys; from pathlib import Path; from train.record import record; record(*map(Path, sys.argv[1:]), auto=True)"
)


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_speech_played_into_a_virtual_microphone_is_recorded_sentence_by_sentence(tmp_path: Path) -> None:
    sample, rate = soundfile.read(MODELS / "sample.opus", dtype="float32")
    assert rate == RATE
    sentences = [sample[: round(1.5 * RATE)], sample[round(2.1 * RATE) : round(4.9 * RATE)]]
    texts = ["Hello, and welcome.", "These captions appear while the words are being spoken.", "Never said."]
    (tmp_path / "prompts.txt").write_text("\n".join(texts))
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "prompts.txt"), str(tmp_path / "mine")]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    with (
        virtual_microphone() as microphone,
        subprocess.Popen(command, cwd=ROOT, env=microphone.env, **pipes) as process,  # type: ignore[call-overload]
    ):
        watchdog = threading.Timer(120, process.kill)  # then stdout ends and the test fails
        watchdog.start()
        told = []
        try:
            for line in process.stdout:
                told.append(line)
                if line.startswith("recording:") and len(sentences) > (n := "".join(told).count("kept as ")):
                    soundfile.write(tmp_path / "sentence.wav", sentences[n], RATE)
                    microphone.play(tmp_path / "sentence.wav")
                elif line.startswith("recording:"):
                    process.send_signal(signal.SIGINT)
        finally:
            process.kill()
            watchdog.cancel()
    clips = read_corpus(tmp_path / "mine")
    assert [clip.text for clip in clips] == ["hello and welcome", texts[1].lower().rstrip(".")], "".join(told)
    assert "2 clips, 0.1 minutes" in told[-2]
    for clip, sentence in zip(clips, sentences, strict=True):
        heard, rate = soundfile.read(clip.path, dtype="float32")
        loud = np.flatnonzero(np.abs(sentence) > 0.01)
        assert rate == RATE
        assert len(heard) < len(sentence) + 0.7 * RATE
        assert similarity(heard, sentence[loud[0] : loud[-1]]) > 0.9
