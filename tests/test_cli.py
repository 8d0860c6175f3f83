"""The real program, started as a user would start it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_model import babble
from websockets.sync.client import connect

from streamer.lm import LanguageSpec
from train.lm import estimate, write_lm

PROGRAM = [sys.executable, "-m", "streamer.cli"]
QUIET = ["--no-server"]


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight seconds of babble as a WAV file."""
    path = tmp_path_factory.mktemp("audio") / "talk.wav"
    soundfile.write(path, babble(16000 * 8), 16000)
    return path


def run(*args: object, stdin: bytes = b"", timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*PROGRAM, *map(str, args)], input=stdin, capture_output=True, timeout=timeout)


def fails(*args: object, stdin: bytes = b"") -> str:
    """Run something that must fail without a traceback; returns its one-line error."""
    done = run(*args, stdin=stdin)
    error = done.stderr.decode().strip()
    assert done.returncode != 0, error
    assert "Traceback" not in error
    return error.splitlines()[-1]


def events(out: bytes) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def started(talk: Path, streaming: Path) -> Iterator[subprocess.Popen[str]]:
    """The daemon playing a file in real time, serving on a free port."""
    args = [*PROGRAM, str(talk), "--realtime", "--model", str(streaming), "--port", "0", "--format", "jsonl"]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def address(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    found = re.search(r"http://(\S+)", process.stderr.readline())
    assert found
    return found.group(1)


@pytest.mark.parametrize("kind", ["streaming", "windowed"])
def test_a_file_becomes_the_events_of_the_protocol(kind: str, talk: Path, request: pytest.FixtureRequest) -> None:
    done = run(talk, "--model", request.getfixturevalue(kind), "--format", "jsonl", *QUIET)
    assert done.returncode == 0, done.stderr
    heard = events(done.stdout)
    assert re.fullmatch("[0-9a-f]{8}", str(heard[0].pop("stream")))
    assert heard[0] == {
        "type": "hello", "protocol": 1, "model": "tiny", "language": "en", "sample_rate": 16000, "source": str(talk),
    }  # fmt: skip
    assert {event["type"] for event in heard} == {"hello", "partial", "final"}


def test_piped_text_is_finals_only_and_partials_can_be_added(talk: Path, streaming: Path) -> None:
    plain = run(talk, "--model", streaming, *QUIET).stdout.decode().splitlines()
    more = run(talk, "--model", streaming, "--partials", *QUIET).stdout.decode().splitlines()
    assert [line for line in more if not line.startswith("~ ")] == plain
    assert len(more) > len(plain) > 1


def test_every_file_begins_with_its_own_hello(talk: Path, streaming: Path) -> None:
    heard = events(run(talk, talk, "--model", streaming, "--format", "jsonl", *QUIET).stdout)
    hellos = [i for i, event in enumerate(heard) if event["type"] == "hello"]
    assert len(hellos) == 2
    assert [e | {"stream": 0} for e in heard[: hellos[1]]] == [e | {"stream": 0} for e in heard[hellos[1] :]]


def test_standard_input_says_what_the_same_file_says(talk: Path, streaming: Path) -> None:
    samples, _ = soundfile.read(talk, dtype="int16")
    piped = run("-", "--rate", 16000, "--model", streaming, *QUIET, stdin=samples.tobytes())
    assert piped.stdout == run(talk, "--model", streaming, *QUIET).stdout != b""


def test_a_bad_file_ends_the_run_but_keeps_what_was_recognised(talk: Path, streaming: Path, tmp_path: Path) -> None:
    done = run(talk, tmp_path / "gone.wav", "--model", streaming, *QUIET)
    assert done.returncode == 1
    assert done.stdout == run(talk, "--model", streaming, *QUIET).stdout
    assert b"there is no file" in done.stderr


def test_captions_of_a_websocket_client_are_those_on_stdout(started: subprocess.Popen[str]) -> None:
    with connect(f"ws://{address(started)}/captions") as captions:
        received = [json.loads(message) for message in captions]
    out, _ = started.communicate(timeout=30)
    printed = [e for e in map(json.loads, out.splitlines()) if e["type"] == "final"]
    assert [e for e in received if e["type"] == "final"] == printed != []
    assert received[0]["type"] == "hello"
    assert any(e["type"] == "partial" for e in received)
    assert started.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_open_segment_and_exits_in_order(
    started: subprocess.Popen[str], number: signal.Signals
) -> None:
    with connect(f"ws://{address(started)}/captions") as captions:
        for message in captions:
            if json.loads(message)["type"] == "partial":
                started.send_signal(number)
                break
        last = [json.loads(message)["type"] for message in captions][-1]
    out, _ = started.communicate(timeout=30)
    assert started.returncode == 0
    assert last == "final"
    assert json.loads(out.splitlines()[-1])["type"] == "final"


@pytest.fixture
def server(request: pytest.FixtureRequest, talk: Path, streaming: Path) -> Iterator[subprocess.Popen[str]]:
    """The daemon with --serve, and what else the test wants of it."""
    extra = [str(talk) if part == "talk" else part for part in getattr(request, "param", [])]
    args = [*PROGRAM, "--serve", "--model", str(streaming), "--port", "0", "--format", "jsonl", *extra]
    process = subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def test_a_server_without_a_source_recognises_what_clients_send(server: subprocess.Popen[str], talk: Path) -> None:
    samples, _ = soundfile.read(talk, dtype="int16")
    with connect(f"ws://{address(server)}/recognize") as client:
        client.send(samples.tobytes())
        client.send('{"type":"end"}')
        heard = [json.loads(message) for message in client]
    file = events(run(talk, "--model", server.args[5], "--format", "jsonl", *QUIET).stdout)  # type: ignore[index]
    assert [e for e in heard if e["type"] == "final"] == [e for e in file if e["type"] == "final"] != []
    assert server.poll() is None


def test_the_client_in_this_project_prints_the_finals_of_a_file(
    server: subprocess.Popen[str], talk: Path, tmp_path: Path
) -> None:
    url = f"ws://{address(server)}/recognize"
    client = [sys.executable, str(Path(__file__).parent.parent / "clients" / "recognize.py")]
    done = subprocess.run([*client, str(talk), "--url", url], capture_output=True, timeout=60)
    file = run(talk, "--model", server.args[5], *QUIET)  # type: ignore[index]
    assert (done.returncode, done.stdout) == (0, file.stdout), done.stderr
    for wrong in (
        [str(tmp_path / "gone.wav"), "--url", url],
        [str(talk), "--url", url.replace("recognize", "captions")],
    ):
        done = subprocess.run([*client, *wrong], capture_output=True, timeout=60)
        assert done.returncode == 1
        assert done.stderr.count(b"\n") == 1, done.stderr


@pytest.mark.parametrize("server", [[], ["talk", "--realtime"]], indirect=True, ids=["alone", "beside a file"])
def test_sigterm_under_load_gives_every_session_its_finals(server: subprocess.Popen[str], talk: Path) -> None:
    samples, _ = soundfile.read(talk, dtype="int16", frames=16000)
    url = f"ws://{address(server)}/recognize"
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(url)) for _ in range(8)]
        for client in clients:
            client.send(samples.tobytes())
            while json.loads(client.recv())["type"] != "partial":
                pass
        server.send_signal(signal.SIGTERM)
        for client in clients:
            assert [json.loads(message)["type"] for message in client][-1] == "final"
    server.communicate(timeout=30)
    assert server.returncode == 0


def test_a_closed_pipe_is_no_error(talk: Path, streaming: Path) -> None:
    command = " ".join(f"'{part}'" for part in [*PROGRAM, *[str(talk)] * 3, "--model", str(streaming), *QUIET])
    script = f"set -o pipefail; {command} --partials | head -1"
    done = subprocess.run(["bash", "-c", script], capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") == 1
    assert done.stderr == b""


def test_errors_are_one_sentence_with_a_remedy(talk: Path, streaming: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk.onnx"
    junk.write_bytes(b"junk")
    empty = tmp_path / "empty.wav"
    empty.touch()
    model = ["--model", streaming, *QUIET]
    assert "give --mic, a sound file, or -" in fails()
    assert "or --serve" in fails()
    assert "leave out --no-server" in fails("--serve", *model)
    assert "no model at" in fails(talk, "--model", "missing.onnx")
    assert "is not an ONNX model" in fails(talk, "--model", junk)
    assert "is empty" in fails(empty, *model)
    assert "is not a sound file" in fails(junk, *model)
    assert "--rate 16000" in fails("-", *model)
    assert "not both" in fails("--mic", talk, *model)
    assert "run it once for every file" in fails(talk, talk, "--format", "srt", *model)
    assert "contained no audio" in fails("-", "--rate", 16000, *model)


def test_a_language_model_beside_the_model_is_used_unless_it_is_not_wanted(
    talk: Path, streaming: Path, language: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copy(streaming, tmp_path / "tiny.onnx"))
    plain = run(talk, *QUIET, "--model", model).stdout
    shutil.copy(language, tmp_path / "tiny.lm")
    helped = run(talk, *QUIET, "--model", model).stdout
    assert b"" != plain != helped != b""
    assert run(talk, *QUIET, "--model", model, "--lm", "none").stdout == plain
    assert run(talk, *QUIET, "--model", streaming, "--lm", language).stdout == helped


def test_a_language_model_that_does_not_fit_is_refused(talk: Path, streaming: Path, tmp_path: Path) -> None:
    write_lm(tmp_path / "de.lm", LanguageSpec(language="de"), estimate([["a", "b", "a"]] * 3))
    told = fails(talk, *QUIET, "--model", streaming, "--lm", tmp_path / "de.lm")
    assert "is for the language 'de'" in told
    assert "--lm none" in told
    assert "no language model at" in fails(talk, *QUIET, "--model", streaming, "--lm", tmp_path / "gone.lm")
    assert "is not a language model" in fails(talk, *QUIET, "--model", streaming, "--lm", streaming)


def test_hotwords_change_what_is_heard_and_must_be_spellable(
    talk: Path, streaming: Path, language: Path, tmp_path: Path
) -> None:
    options = [talk, *QUIET, "--model", streaming, "--lm", language]
    heard = run(*options).stdout.decode().split()
    assert "cb" not in heard
    (tmp_path / "names.txt").write_text("cb\nCB cbcb\n")
    assert "cb" in run(*options, "--hotwords", tmp_path / "names.txt").stdout.decode().split()
    (tmp_path / "strange.txt").write_text("ab\nzoë\n")
    assert "'zoë' has a character" in fails(*options, "--hotwords", tmp_path / "strange.txt")
    assert "hotwords need a language model" in fails(*options[:-2], "--hotwords", tmp_path / "names.txt")
    assert "cannot be read" in fails(*options, "--hotwords", tmp_path / "gone.txt")


def test_a_port_in_use_is_named(talk: Path, streaming: Path, started: subprocess.Popen[str]) -> None:
    port = address(started).rsplit(":", 1)[1]
    assert f"port {port} is in use" in fails(talk, "--model", streaming, "--port", port)


@pytest.mark.parametrize("samples", [1, 16000 * 3])
def test_silence_and_a_single_sample_are_no_error(samples: int, streaming: Path, tmp_path: Path) -> None:
    path = tmp_path / "quiet.wav"
    soundfile.write(path, np.zeros(samples), 16000)
    done = run(path, "--model", streaming, *QUIET)
    assert (done.returncode, done.stdout) == (0, b"")


def test_hours_of_audio_need_no_more_memory_than_minutes(streaming: Path) -> None:
    """Peak memory of a child that is fed 2 and 40 minutes of samples on standard input."""
    minute = (babble(16000 * 60) * 32767).astype("<i2").tobytes()

    def peak(minutes: int) -> int:
        script = (
            "import resource, subprocess, sys;"
            "subprocess.run(sys.argv[1:], stdin=sys.stdin, stdout=subprocess.DEVNULL);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        command = [sys.executable, "-c", script, *PROGRAM, "-", "--rate", "16000", "--model", str(streaming), *QUIET]
        done = subprocess.run(command, input=minute * minutes, capture_output=True, timeout=300)
        return int(done.stdout)

    assert peak(40) < peak(2) + 30_000  # kilobytes


def test_the_model_check_needs_a_probe(streaming: Path) -> None:
    assert "carries no probe" in fails("--check", "--model", streaming)


def test_help_tells_how_to_begin() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert b"asr-stream --mic" in done.stdout


def test_the_terminal_shows_words_as_they_are_spoken(talk: Path, streaming: Path) -> None:
    """On a pseudo-terminal the line is rewritten as the partial grows."""
    main, terminal = os.openpty()
    with subprocess.Popen([*PROGRAM, str(talk), "--model", str(streaming), *QUIET], stdout=terminal) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(main, 4096)
            except OSError:  # Linux: the other end is closed
                break
        process.wait()
    os.close(main)
    assert shown.count(b"\r\x1b[K") > shown.count(b"\n") > 1


def test_a_reader_that_neither_reads_nor_leaves_does_not_keep_the_program_alive(talk: Path, streaming: Path) -> None:
    """Partials of many files fill the pipe that nobody reads; then Ctrl-C."""
    command = [*PROGRAM, *[str(talk)] * 200, "--model", str(streaming), "--format", "jsonl", *QUIET]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
        process.stdout.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_sentence(talk: Path, streaming: Path) -> None:
    with Path("/dev/full").open("w") as full:
        command = [*PROGRAM, str(talk), "--model", str(streaming), *QUIET]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert "captions cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_nothing_is_written_down_for_others_to_collect(talk: Path, streaming: Path, tmp_path: Path) -> None:
    """ONNX Runtime, left to itself, keeps a device id and a queue of reports in the home folder."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("ORT_", "XDG_"))}
    command = [*PROGRAM, str(talk), "--model", str(streaming), *QUIET]
    subprocess.run(command, env=env | {"HOME": str(tmp_path)}, capture_output=True, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []


def test_a_file_name_may_be_any_bytes(talk: Path, streaming: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.wav"
    Path(os.fsdecode(name)).write_bytes(talk.read_bytes())
    done = subprocess.run(
        [*PROGRAM, name, "--model", str(streaming), "--format", "jsonl", *QUIET], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "caf\ufffd" in str(events(done.stdout)[0]["source"])
