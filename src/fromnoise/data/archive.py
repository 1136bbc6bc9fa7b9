"""Folders and archives of files, read in place: no member is ever written to the disk.

A folder, `.tar`, `.tar.gz`, `.tgz` or `.zip` gives its members in a fixed order, each with its name and content. What
could harm is refused before it is read: names that lead outside, links out of the archive, members that grow a
thousandfold.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from fromnoise.errors import InputError, one_line, shown

ENDINGS = (".tar", ".tar.gz", ".tgz", ".zip")

_MOST = 2**28
"""The largest member that is read, in bytes."""

_TOO_LARGE = f"has more than {_MOST // 2**20} MiB"

_LINK = "is a link inside an archive"

_GROWTH = 1000
"""How many times its compressed size an archive's content may have; beyond it is a bomb."""


class Member(NamedTuple):
    """A file of a folder or an archive.

    Attributes:
        name: its path inside, with "/" between its parts.
        content: what it holds; None where `trouble` says why it was not read.
        trouble: why it cannot be read.
    """

    name: str
    content: bytes | None
    trouble: str = ""


def is_archive(path: Path) -> bool:
    """Return whether a file's name is that of an archive that can be read."""
    return path.name.lower().endswith(ENDINGS)


def members(path: Path) -> Iterator[Member]:
    """Yield the files of a folder or an archive, in an order that is always the same.

    Raises:
        InputError: if it cannot be read, or is not safe to read.
    """
    if path.is_dir():
        yield from _of_folder(path)
    elif path.name.lower().endswith(".zip"):
        yield from _of_zip(path)
    else:
        yield from _of_tar(path)


def fingerprint(path: Path) -> str:
    """Return a hash by which a change of a folder's or an archive's content is noticed.

    Of an archive it is the sum of its bytes; of one above 1 GiB the sum of its size, its time and its two ends. Of a
    folder it is the sum of its files' names, sizes and times.
    """
    total = hashlib.sha256()
    if path.is_dir():
        for name, file in _walk(path):
            status = file.stat()
            total.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
        return total.hexdigest()
    with _reading(path), path.open("rb") as file:
        status = path.stat()
        if status.st_size <= 2**30:
            return hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{status.st_size} {status.st_mtime_ns}".encode())
        total.update(file.read(2**24))
        file.seek(-(2**24), os.SEEK_END)
        total.update(file.read())
    return total.hexdigest()


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files below a folder with their names, sorted; linked folders are followed, but none twice."""
    seen = set[tuple[int, int]]()

    def below(folder: Path, prefix: str) -> Iterator[tuple[str, Path]]:
        status = folder.stat()
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        for entry in sorted(os.scandir(folder), key=lambda entry: os.fsencode(entry.name)):
            if entry.name.startswith("."):
                continue
            name = f"{prefix}{entry.name}"
            try:
                kind = entry.stat().st_mode  # of what a link leads to
            except OSError:  # a link that leads nowhere, or in a circle
                continue
            if stat.S_ISDIR(kind) and not is_run(Path(entry.path)):
                yield from below(Path(entry.path), f"{name}/")
            elif stat.S_ISREG(kind):
                yield name, Path(entry.path)

    with _reading(root):
        yield from below(root, "")


def is_run(folder: Path) -> bool:
    """Return whether a folder is that of a run, whose pictures are none to train on."""
    return (folder / "config.toml").exists() and (folder / "checkpoints").exists()


def _of_folder(root: Path) -> Iterator[Member]:
    for name, file in _walk(root):
        try:
            size = file.stat().st_size
            if size > _MOST:
                yield Member(name, None, _TOO_LARGE)
                continue
            content = file.read_bytes()
        except OSError as error:
            yield Member(name, None, (error.strerror or "cannot be read").lower())
            continue
        yield Member(name, content)


def _of_tar(path: Path) -> Iterator[Member]:
    packed = path.stat().st_size if path.exists() else 0
    with _reading(path), tarfile.open(path, "r|*") as tar:
        for entry in tar:
            _check_name(path, entry.name)
            if entry.issym() or entry.islnk():
                _check_link(path, entry)
                if not _is_hidden(entry.name):
                    yield Member(entry.name, None, _LINK)
                continue
            if not entry.isfile() or _is_hidden(entry.name):
                continue
            if entry.size > _MOST:
                _check_growth(path, entry.name, entry.size, packed)
                yield Member(entry.name, None, _TOO_LARGE)
                continue
            file = tar.extractfile(entry)
            assert file is not None  # it is a file
            yield Member(entry.name, file.read())


def _of_zip(path: Path) -> Iterator[Member]:
    with _reading(path), zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            _check_name(path, entry.filename)
            name = entry.filename.replace("\\", "/")  # as some programs write it
            if entry.is_dir() or _is_hidden(name):
                continue
            if stat.S_ISLNK(entry.external_attr >> 16):
                yield Member(name, None, _LINK)
                continue
            _check_growth(path, entry.filename, entry.file_size, entry.compress_size)
            if entry.file_size > _MOST:
                yield Member(name, None, _TOO_LARGE)
                continue
            if entry.flag_bits & 1:
                yield Member(name, None, "is encrypted")
                continue
            yield Member(name, archive.read(entry))


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Turn what goes wrong while something is read into one line."""
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file or folder") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or one_line(str(error))}") from None
    except Exception as error:  # tarfile, zipfile, zlib and lzma have a dozen ways to say that a file is damaged
        raise InputError(f"{path} is damaged, or no archive: {one_line(str(error)) or type(error).__name__}") from None


def _check_name(path: Path, name: str) -> None:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    if ".." in parts or parts[:1] == ("/",) or (parts and parts[0].endswith(":")):
        raise InputError(f"{path}: the member {shown(name)} leads outside the archive: it is not read")


def _check_link(path: Path, entry: tarfile.TarInfo) -> None:
    base = PurePosixPath(entry.name).parent if entry.issym() else PurePosixPath()
    depth = 0
    for part in (base / entry.linkname).parts:
        depth += -1 if part == ".." else 1
        if depth < 0 or part == "/":
            raise InputError(f"{path}: the link {shown(entry.name)} leads outside the archive: it is not read")


def _check_growth(path: Path, name: str, size: int, packed: int) -> None:
    if size > 2**26 and size > _GROWTH * max(packed, 1):
        raise InputError(
            f"{path}: the member {shown(name)} has {size:,} bytes out of {packed:,}, as no picture has: it is not read"
        )


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts if part != ".")
