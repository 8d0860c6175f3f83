"""Public corpora from their archives: fetched so that a break costs little, checked, unpacked whole or not at all."""

from __future__ import annotations

import csv
import hashlib
import re
import shutil
import tarfile
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import IO, NamedTuple
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from train.data import DataError
from train.progress import Progress

MB = 1_000_000
TIMEOUT = 30.0  # seconds without a byte after which a connection counts as dropped
PAUSES = (1.0, 2.0, 4.0, 8.0)  # seconds before each new try; they begin anew when a try got further
UNPACKED = 1.5  # room for the unpacked files, as a multiple of the archive (LJSpeech: 1.4)

Row = tuple[Path, str, str, str, str]  # path, text, speaker, corpus, split
Sleep = Callable[[float], None]


def _librispeech(folder: Path) -> Iterator[Row]:
    """speaker/chapter/*.trans.txt has lines `id TEXT`; the recordings are id.flac beside it."""
    for table in sorted(folder.glob("*/*/*.trans.txt")):
        for line in table.read_text(encoding="utf-8").splitlines():
            name, _, text = line.partition(" ")
            split = folder.name.partition("-")[0]
            yield table.with_name(f"{name}.flac"), text, table.parent.parent.name, "librispeech", split


def _commonvoice(folder: Path) -> Iterator[Row]:
    """train.tsv, dev.tsv and test.tsv are written without quoting; the recordings are clips/*.mp3."""
    for split in ("train", "dev", "test"):
        with (folder / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restval=""):
                path = folder / "clips" / Path(row["path"]).with_suffix(".mp3").name
                yield path, row["sentence"], row["client_id"], "commonvoice", split


class Source(NamedTuple):
    """A corpus: its archive and published checksum, its folder, a file that is in there, and what reads its tables."""

    url: str
    algorithm: str
    checksum: str
    folder: str
    marker: str
    rows: Callable[[Path], Iterator[Row]] | None  # None: `fit` reads them as they are


def _openslr(name: str, md5: str) -> Source:
    url, folder = f"https://www.openslr.org/resources/12/{name}.tar.gz", f"LibriSpeech/{name}"
    return Source(url, "md5", md5, folder, f"{folder}/*", _librispeech)


SOURCES = {
    "ljspeech": Source(
        "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
        "sha256",
        "be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
        "LJSpeech-1.1",
        "LJSpeech-1.1/metadata.csv",
        None,
    ),
    "dev-clean": _openslr("dev-clean", "42e2234ba48799c1f50f24a7926300a1"),
    "test-clean": _openslr("test-clean", "32fa31d27d2e1cad72775fee3f4849a9"),
    "train-clean-100": _openslr("train-clean-100", "2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": _openslr("train-clean-360", "c0e676e450a7ff2f54aeade5171606fa"),
}


def download(
    name: str, out: Path, url: str | None = None, archive: Path | None = None, sleep: Sleep = time.sleep
) -> tuple[Path, bool]:
    """The folder below `out` with corpus `name`, and whether it is new; its archive is fetched unless one is given."""
    source = _source(name, archive)
    target, published = out / source.folder, source.url.rpartition("/")[2]
    if target.is_dir():
        return target, False
    out.mkdir(parents=True, exist_ok=True)
    if archive is None:
        archive = out / published
        if not archive.exists():
            fetch(url or source.url, archive, sleep)
        check(archive, source, remove=True)
    elif archive.name == published:
        check(archive, source, remove=False)
    unpack(archive, source, target)
    return target, True


def _source(name: str, archive: Path | None) -> Source:
    if name in SOURCES:
        return SOURCES[name]
    if name != "commonvoice":
        raise DataError(f"there is no corpus {name!r}: choose from {', '.join(SOURCES)}, commonvoice")
    if archive is None:
        raise DataError("Common Voice is for people who accept its terms: get it by browser, then give it by --archive")
    return Source("", "", "", re.sub(r"(\.tar)?\.\w+$", "", archive.name), "**/train.tsv", _commonvoice)


def fetch(url: str, path: Path, sleep: Sleep = time.sleep) -> None:
    """The file at `url` as `path`, which appears when it is whole; goes on from path.part, also after a break."""
    part = path.with_name(f"{path.name}.part")
    furthest, pauses = _size(part), iter(PAUSES)
    while True:
        try:
            _receive(url, part)
            break
        except ValueError as error:
            raise DataError(f"{url} is no address ({error}): give one like https://host/file with --url") from None
        except (OSError, HTTPException) as error:
            if _size(part) > furthest:
                furthest, pauses = _size(part), iter(PAUSES)
            if (pause := next(pauses, None)) is None:
                remedy = "type the same command again to go on, or give a mirror with --url"
                raise DataError(f"{url} cannot be fetched ({getattr(error, 'reason', error)}): {remedy}") from None
            sleep(pause)
    part.replace(path)


def _receive(url: str, part: Path) -> None:
    """Append to `part` what it lacks of the file at `url`; an OSError or HTTPException if that was not all of it."""
    have = _size(part)
    if (response := _connect(url, have)) is None:
        return
    with response:
        have = have if response.status == 206 else 0  # otherwise the file comes from its beginning
        size = have + int(response.headers.get("Content-Length", 0))
        _need_room(part.parent, size - have + UNPACKED * size)
        with part.open("ab" if have else "wb") as file:
            for block in _blocks(response, f"fetching {part.stem}", size - have):
                file.write(block)
    if _size(part) < size:
        raise ConnectionError(f"the connection ended after {_size(part)} of {size} bytes")


def _connect(url: str, have: int) -> IO[bytes] | None:
    """The answer that brings what follows the first `have` bytes, or all; None when nothing follows."""
    headers = {"User-Agent": "asr-train"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        return urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        with error:
            if error.code == 416 and have:
                return None if error.headers.get("Content-Range") == f"bytes */{have}" else _connect(url, 0)
            if error.code >= 500 or error.code in (408, 429):
                raise
            remedy = "give the address of a mirror with --url"
            raise DataError(f"{url} answers {error.code} {error.reason}: {remedy}") from None


def _blocks(stream: IO[bytes], title: str, size: int) -> Iterator[bytes]:
    """What is left to read of a stream, with its progress in megabytes."""
    done = 0
    with Progress(f"{title}, MB", size // MB) as progress:
        while block := stream.read(1 << 16):
            yield block
            done += len(block)
            progress.step(count=done // MB - progress.done)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _need_room(folder: Path, needed: float) -> None:
    if (free := shutil.disk_usage(folder).free) < needed:
        room = f"{free / 1e9:.1f} GB free where about {needed / 1e9:.1f} are needed"
        raise DataError(f"{folder} has {room}: make room or choose another --out")


def check(archive: Path, source: Source, remove: bool) -> None:
    """DataError unless the archive has its published checksum; it is removed then if `remove`."""
    digest = hashlib.new(source.algorithm, usedforsecurity=False)
    with archive.open("rb") as file:
        for block in _blocks(file, f"checking {archive.name}", _size(archive)):
            digest.update(block)
    if (found := digest.hexdigest()) != source.checksum:
        remedy = "it was removed, type the same command again" if remove else "get it anew"
        if remove:
            archive.unlink()
        raise DataError(f"{archive} has {source.algorithm} {found} and not {source.checksum}: {remedy}")


def unpack(archive: Path, source: Source, target: Path) -> None:
    """The archive as the folder `target`, with a manifest.csv if `fit` needs one; made beside it and then renamed."""
    temporary = target.with_name(f"{target.name}.unpacking")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        _need_room(temporary, UNPACKED * _size(archive))
        _extract(archive, temporary)
        if (found := next(temporary.glob(source.marker), None)) is None:
            raise DataError(f"{archive} has no {source.marker} in it: give the archive of this corpus")
        if source.rows:
            _write_manifest(archive, found.parent, source.rows)
        for note in found.parent.parent.glob("*.TXT"):  # LibriSpeech's licence and list of speakers
            note.replace(target.parent / note.name)
        found.parent.rename(target)
    except (OSError, EOFError, tarfile.TarError, csv.Error, LookupError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{archive} cannot be unpacked ({reason}): look at the disk, or get it anew") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _extract(archive: Path, folder: Path) -> None:
    """All files in the order of the archive, because seeking in a compressed one takes hours."""
    if not hasattr(tarfile, "data_filter"):
        raise DataError("this Python's tarfile trusts any archive: use 3.11.4 or later")
    title = f"unpacking {archive.name}, MB"
    with (
        archive.open("rb") as file,
        tarfile.open(fileobj=file, mode="r|*") as tar,
        Progress(title, _size(archive) // MB) as progress,
    ):
        for member in tar:
            tar.extract(member, folder, filter="data")
            tar.members.clear()  # a million of them would fill the memory
            progress.step(count=file.tell() // MB - progress.done)


def _write_manifest(archive: Path, folder: Path, rows: Callable[[Path], Iterator[Row]]) -> None:
    clips = missing = 0
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "text", "speaker", "corpus", "split"])
        for path, *row in rows(folder):
            clips, missing = clips + 1, missing + (not path.is_file())
            writer.writerow([path.relative_to(folder).as_posix(), *row])
    if missing:
        raise DataError(f"{archive} lacks {missing} of the {clips} recordings that its tables name: get it anew")
