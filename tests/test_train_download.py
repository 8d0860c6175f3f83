from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest

from train.data import DataError, read_corpus
from train.download import PAUSES, SOURCES, download, fetch

LJSPEECH = {
    "LJSpeech-1.1/metadata.csv": 'LJ-1|"Twice, 2|"Twice, two\nLJ-2|Bye|Bye\n',
    "LJSpeech-1.1/wavs/LJ-1.wav": "sound" * 1000,
    "LJSpeech-1.1/wavs/LJ-2.wav": "more",
}
LIBRISPEECH = {
    "LibriSpeech/LICENSE.TXT": "CC BY 4.0",
    "LibriSpeech/dev-clean/84/121/84-121.trans.txt": "84-121-0000 GO DO YOU HEAR\n84-121-0001 BUT\n",
    "LibriSpeech/dev-clean/84/121/84-121-0000.flac": "sound",
    "LibriSpeech/dev-clean/84/121/84-121-0001.flac": "sound",
}
COMMON_VOICE = {
    "cv-corpus-9/en/train.tsv": 'client_id\tpath\tsentence\tage\nann\ta.mp3\t"Hello, he said.\t\nann\tc\tYes\t30\n',
    "cv-corpus-9/en/dev.tsv": "path\tsentence\tclient_id\nb.mp3\tBye\tbob\n",
    "cv-corpus-9/en/test.tsv": "client_id\tpath\tsentence\n",
    "cv-corpus-9/en/validated.tsv": "client_id\tpath\tsentence\nann\ta.mp3\tHello\n",
    "cv-corpus-9/en/clips/a.mp3": "sound",
    "cv-corpus-9/en/clips/b.mp3": "sound",
    "cv-corpus-9/en/clips/c.mp3": "sound",
}


class Server(HTTPServer):
    """Serves `body` at any path; remembers the Range headers of its requests."""

    body = b""
    honours_ranges = True
    answers = 200
    sends: list[int]  # how many bytes the next answers hold before the connection breaks
    ranges: list[str | None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.ranges.append(wanted)
        size = len(self.server.body)
        begin = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.server.honours_ranges else 0
        if begin and begin >= size:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        self.send_response(206 if begin else self.server.answers)
        self.send_header("Content-Length", str(size - begin))
        self.end_headers()
        rest = self.server.body[begin:]
        self.wfile.write(rest[: self.server.sends.pop(0)] if self.server.sends else rest)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    with Server(("127.0.0.1", 0), Handler) as running:
        running.sends, running.ranges = [], []
        thread = Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def address(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}/archive"


def packed(files: Mapping[str, str], compression: str = "gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=f"w:{compression}") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def publish(monkeypatch: pytest.MonkeyPatch, name: str, body: bytes, url: str = "") -> None:
    """Make `body` the archive of corpus `name`, as published."""
    known = SOURCES[name]
    checksum = hashlib.new(known.algorithm, body).hexdigest()
    monkeypatch.setitem(SOURCES, name, known._replace(checksum=checksum, url=url or known.url))


def no_sleep(seconds: float) -> None:
    raise AssertionError("nothing had to be tried again")


def leftovers(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*.unpacking"))


def test_a_corpus_is_fetched_unpacked_and_read_and_the_second_time_nothing_happens(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    server.body = packed(LJSPEECH, "bz2")
    publish(monkeypatch, "ljspeech", server.body)
    data = tmp_path / "data"
    folder = data / "LJSpeech-1.1"
    assert download("ljspeech", data, address(server), sleep=no_sleep) == (folder, True)
    assert [clip.text for clip in read_corpus(folder)] == ["twice two", "bye"]
    assert read_corpus(folder)[0].path.read_text() == "sound" * 1000
    assert download("ljspeech", data, address(server), sleep=no_sleep) == (folder, False)
    assert server.ranges == [None]
    steps = [line.split(",")[0] for line in capsys.readouterr().err.splitlines()]
    assert steps == [f"{step} LJSpeech-1.1.tar.bz2" for step in ("fetching", "checking", "unpacking")]
    assert sorted(path.name for path in data.iterdir()) == ["LJSpeech-1.1", "LJSpeech-1.1.tar.bz2"]


def test_without_a_mirror_the_published_address_is_asked(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.body = packed(LIBRISPEECH)
    publish(monkeypatch, "dev-clean", server.body, address(server) + "/dev-clean.tar.gz")
    assert download("dev-clean", tmp_path, sleep=no_sleep)[1]
    assert server.ranges == [None]


def test_a_whole_archive_that_is_there_is_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = packed(LJSPEECH)
    publish(monkeypatch, "ljspeech", body)
    (tmp_path / "LJSpeech-1.1.tar.bz2").write_bytes(body)
    assert download("ljspeech", tmp_path, "http://127.0.0.1:1/nobody", sleep=no_sleep)[1]


def test_a_connection_that_breaks_half_way_is_taken_up_where_it_broke(tmp_path: Path, server: Server) -> None:
    server.body, server.sends = bytes(range(256)) * 4, [500, 100]
    pauses: list[float] = []
    fetch(address(server), tmp_path / "file", pauses.append)
    assert (tmp_path / "file").read_bytes() == server.body
    assert server.ranges == [None, "bytes=500-", "bytes=600-"]
    assert pauses == [PAUSES[0]] * 2
    assert not (tmp_path / "file.part").exists()


def test_after_a_break_without_end_the_next_command_goes_on(tmp_path: Path, server: Server) -> None:
    server.body, server.sends = bytes(range(256)) * 4, [500, *[0] * len(PAUSES)]
    pauses: list[float] = []
    with pytest.raises(DataError, match=r"cannot be fetched \(the connection ended after 500 of 1024 bytes\): type"):
        fetch(address(server), tmp_path / "file", pauses.append)
    assert pauses == list(PAUSES)
    assert not (tmp_path / "file").exists()
    server.ranges.clear()
    fetch(address(server), tmp_path / "file", no_sleep)
    assert server.ranges == ["bytes=500-"]
    assert (tmp_path / "file").read_bytes() == server.body


def test_a_server_without_ranges_sends_everything_anew(tmp_path: Path, server: Server) -> None:
    server.body, server.honours_ranges = bytes(range(256)) * 4, False
    (tmp_path / "file.part").write_bytes(b"x" * 500)
    fetch(address(server), tmp_path / "file", no_sleep)
    assert server.ranges == ["bytes=500-"]
    assert (tmp_path / "file").read_bytes() == server.body


@pytest.mark.parametrize(("part", "requests"), [(b"0123456789", 1), (b"0123456789 and too much", 2)])
def test_a_part_that_is_whole_is_kept_and_one_that_is_too_long_begun_anew(
    part: bytes, requests: int, tmp_path: Path, server: Server
) -> None:
    server.body = b"0123456789"
    (tmp_path / "file.part").write_bytes(part)
    fetch(address(server), tmp_path / "file", no_sleep)
    assert (tmp_path / "file").read_bytes() == server.body
    assert len(server.ranges) == requests


def test_an_address_without_the_file_is_not_asked_again(tmp_path: Path, server: Server) -> None:
    server.answers = 404
    with pytest.raises(DataError, match="answers 404 Not Found: give the address of a mirror"):
        fetch(address(server), tmp_path / "file", no_sleep)
    with pytest.raises(DataError, match="unknown url type: 'nowhere'"):
        fetch("nowhere", tmp_path / "file", no_sleep)


def test_a_server_that_is_busy_is_asked_again(tmp_path: Path, server: Server) -> None:
    server.answers = 503
    pauses: list[float] = []
    with pytest.raises(DataError, match="Service Unavailable"):
        fetch(address(server), tmp_path / "file", pauses.append)
    assert pauses == list(PAUSES)


def test_no_network_is_one_sentence(tmp_path: Path, server: Server) -> None:
    url = address(server)
    server.socket.close()
    pauses: list[float] = []
    with pytest.raises(DataError, match=r"^http\S+ cannot be fetched \(.*refused\): type .*--url$"):
        download("ljspeech", tmp_path, url, sleep=pauses.append)
    assert pauses == list(PAUSES)


def test_a_wrong_checksum_is_told_and_the_file_removed(tmp_path: Path, server: Server) -> None:
    server.body = packed(LJSPEECH)
    found, expected = hashlib.sha256(server.body).hexdigest(), SOURCES["ljspeech"].checksum
    with pytest.raises(DataError, match=f"sha256 {found} and not {expected}: it was removed"):
        download("ljspeech", tmp_path, address(server), sleep=no_sleep)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_of_the_user_is_checked_if_it_has_the_published_name_and_never_removed(tmp_path: Path) -> None:
    archive = tmp_path / "LJSpeech-1.1.tar.bz2"
    archive.write_bytes(packed(LJSPEECH))
    with pytest.raises(DataError, match="and not be1a30453f"):
        download("ljspeech", tmp_path / "data", archive=archive)
    other = archive.rename(tmp_path / "mine.tgz")
    folder, new = download("ljspeech", tmp_path / "data", archive=other)
    assert new
    assert len(read_corpus(folder)) == 2
    assert other.exists()


def test_librispeech_gets_a_manifest_and_keeps_its_licence(tmp_path: Path) -> None:
    (tmp_path / "mine.tar.gz").write_bytes(packed(LIBRISPEECH))
    folder, _ = download("dev-clean", tmp_path, archive=tmp_path / "mine.tar.gz")
    assert folder == tmp_path / "LibriSpeech" / "dev-clean"
    first, second = read_corpus(folder)
    assert (first.text, first.speaker, first.corpus, first.split) == ("go do you hear", "84", "librispeech", "dev")
    assert (second.text, second.path) == ("but", folder / "84" / "121" / "84-121-0001.flac")
    assert first.path.read_text() == "sound"
    assert (folder.parent / "LICENSE.TXT").exists()
    assert leftovers(tmp_path) == []


def test_common_voice_gets_a_manifest_of_its_three_splits(tmp_path: Path) -> None:
    archive = tmp_path / "cv-corpus-9-en.tar.gz"
    archive.write_bytes(packed(COMMON_VOICE))
    folder, _ = download("commonvoice", tmp_path / "data", archive=archive)
    assert folder == tmp_path / "data" / "cv-corpus-9-en"
    first, second, third = read_corpus(folder)
    assert (first.text, first.speaker, first.corpus, first.split) == ("hello he said", "ann", "commonvoice", "train")
    assert (second.text, second.path) == ("yes", folder / "clips" / "c.mp3")
    assert (third.text, third.speaker, third.split) == ("bye", "bob", "dev")
    assert first.path.read_text() == third.path.read_text() == "sound"
    assert not download("commonvoice", tmp_path / "data", archive=archive)[1]


def test_common_voice_without_an_archive_and_unknown_names_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--archive"):
        download("commonvoice", tmp_path)
    with pytest.raises(DataError, match="'libri': choose from ljspeech, dev-clean"):
        download("libri", tmp_path)


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (COMMON_VOICE | {"../escaped": "x"}, "OutsideDestinationError"),
        (COMMON_VOICE | {"cv-corpus-9/en/../../../../escaped": "x"}, "OutsideDestinationError"),
        (COMMON_VOICE | {"cv-corpus-9/en/dev.tsv": "path\twords\nb.mp3\tBye\n"}, "KeyError: 'sentence'"),
        (COMMON_VOICE | {"cv-corpus-9/en/dev.tsv": "client_id\tpath\tsentence\nx\tz.mp3\tc\n"}, "lacks 1 of the 3"),
        ({"unrelated.txt": "x"}, "has no .*train.tsv in it"),
    ],
)
def test_an_archive_that_escapes_or_contradicts_itself_leaves_nothing(
    files: Mapping[str, str], words: str, tmp_path: Path
) -> None:
    archive = tmp_path / "in" / "bad.tar.gz"
    archive.parent.mkdir()
    archive.write_bytes(packed(files))
    with pytest.raises(DataError, match=words):
        download("commonvoice", tmp_path / "data", archive=archive)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["data", "in", "in/bad.tar.gz"]


def test_an_unpacking_that_was_cut_short_never_looks_complete(tmp_path: Path) -> None:
    whole = packed(COMMON_VOICE, "")
    archive = tmp_path / "cv.tar"
    archive.write_bytes(whole[: len(whole) // 3])
    killed = tmp_path / "cv.unpacking" / "cv-corpus-9" / "stale"
    killed.mkdir(parents=True)
    with pytest.raises(DataError, match=r"cv\.tar (cannot be unpacked|lacks|has no)"):
        download("commonvoice", tmp_path, archive=archive)
    assert [path.name for path in tmp_path.iterdir()] == ["cv.tar"]
    archive.write_bytes(whole)
    killed.mkdir(parents=True)
    assert len(read_corpus(download("commonvoice", tmp_path, archive=archive)[0])) == 3
    assert leftovers(tmp_path) == []


def test_a_disk_without_room_is_told_before_anything_is_fetched_or_unpacked(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    server.body = b"x" * 1000
    with pytest.raises(DataError, match=r"0\.0 GB free where about 0\.0 are needed: make room or choose another --out"):
        fetch(address(server), tmp_path / "file", no_sleep)
    assert list(tmp_path.iterdir()) == []
    archive = tmp_path / "cv.tar"
    archive.write_bytes(packed(COMMON_VOICE, ""))
    with pytest.raises(DataError, match="make room"):
        download("commonvoice", tmp_path, archive=archive)
    assert [path.name for path in tmp_path.iterdir()] == ["cv.tar"]
