"""Captions of pictures: read from the files that lie beside them.

    metadata.csv, metadata.tsv, metadata.jsonl    a row for each picture, its name in file_name, its caption in text
    captions.txt                                  a line for each picture: its name, a tab, comma or bar, its caption
    NAME.txt                                      the caption of NAME.png, NAME.jpg, ...

Names are read from the folder that the file lies in. The first of these kinds that tells of a picture counts. A file
of captions may also be named: a table with a row for each picture, or a text with a line for each sample of an array.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from pydantic import BaseModel, field_validator

from fromnoise.data.archive import Member
from fromnoise.errors import InputError, one_line, shown
from fromnoise.registry import STRICT

_NAMES = ("file_name", "filename", "file", "image", "image_name", "name")
_TEXTS = ("text", "caption", "captions", "prompt", "description", "comment")
"""What the columns of names and of captions are called, the usual one first."""

LONGEST = 2000
"""Of how many characters a caption is kept at most."""


class _NoCaptionsError(Exception):
    """A table that is of something else, in a few words that follow its name."""


@dataclass
class Captions:
    """What the files beside pictures say of them.

    Attributes:
        column: of tables, which holds the captions; the usual ones where it is empty.
        tables: captions by picture, from a file for all pictures.
        beside: captions by the picture's name without its ending.
        odd: files beside pictures that are no text in UTF-8, likewise.
        troubles: why a caption could not be read, with how many and the first file's name.
    """

    column: str = ""
    tables: dict[str, str] = field(default_factory=dict)
    beside: dict[str, str] = field(default_factory=dict)
    odd: dict[str, str] = field(default_factory=dict)
    troubles: dict[str, tuple[int, str]] = field(default_factory=dict)

    def hear(self, member: Member) -> None:
        """Take note of a file, if it holds captions.

        Raises:
            InputError: if it is a table of captions and cannot be read as one.
        """
        path = PurePosixPath(member.name)
        read = _TABLES.get(path.name.lower())
        if member.content is None or (read is None and path.suffix.lower() != ".txt"):
            return
        try:
            text = member.content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            if read is not None:
                raise InputError(
                    f"{one_line(member.name, 80)} is no text in UTF-8: {one_line(str(error), 60)}"
                ) from None
            self.odd[str(path.with_suffix(""))] = member.name
            return
        if read is None:
            self.beside[str(path.with_suffix(""))] = tidy(text)
            return
        try:
            self._note(read(text, _Columns(self.column)), path.parent)
        except _NoCaptionsError as error:
            self._trouble(str(error), member.name)
        except InputError as error:
            raise InputError(f"{one_line(member.name, 80)}: {error}") from None

    def hear_file(self, path: Path) -> None:
        """Take note of a table that lies elsewhere, whose names are read from the folder of the pictures.

        Raises:
            InputError: if it cannot be read as one.
        """
        read, text = _reader(path), _text_of(path)
        try:
            self._note(read(text, _Columns(self.column)), PurePosixPath())
        except (InputError, _NoCaptionsError) as error:
            raise InputError(f"{path}: {error}") from None

    def _note(self, rows: Iterator[tuple[str, str]], folder: PurePosixPath) -> None:
        for name, caption in rows:
            self.tables.setdefault(str(folder / name.strip()), tidy(caption))

    def of(self, names: Sequence[str]) -> list[str]:
        """Return the caption of each picture, "" where there is none, and count what does not fit."""
        known = set(names)
        for name in self.tables:
            if name not in known:
                self._trouble("is named in a table of captions but not there", name)
        stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
        for stem in stems:
            if stem in self.odd:
                self._trouble("is no text in UTF-8", self.odd[stem])
        if self.column and not self.tables:
            raise InputError("data.caption_column is of tables, such as metadata.csv, and there is none with captions")
        found = [self.tables.get(name) or self.beside.get(stem, "") for name, stem in zip(names, stems, strict=True)]
        if any(found):
            for name, caption in zip(names, found, strict=True):
                if not caption:
                    self._trouble("has no caption", name)
        return found

    def _trouble(self, why: str, name: str) -> None:
        count, first = self.troubles.get(why, (0, one_line(name, 80)))
        self.troubles[why] = (count + 1, first)


def tidy(text: str) -> str:
    """Return a caption in one line, of at most `LONGEST` characters, none of them a control character."""
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", text.encode(errors="replace").decode()).strip()[:LONGEST].strip()


class Captioning(BaseModel):
    """How captions are found and read, of any data.

    Attributes:
        captions: a file of them: a table (.csv, .tsv, .jsonl) with the names of pictures, or captions.txt; of arrays
            the rows, or the lines of a .txt, are those of the samples.
        caption_column: which column of a table holds them; a usual one, such as text or caption, where it is empty.
        text_encoder: a frozen encoder of them; the network has its own where it is empty.
    """

    model_config = STRICT

    captions: str = ""
    caption_column: str = ""
    text_encoder: str = ""

    @field_validator("captions", "text_encoder")
    @classmethod
    def _absolute(cls, value: str) -> str:
        try:
            return str(Path(value).resolve()) if value and Path(value).exists() else value
        except (OSError, ValueError):  # of names that no file can have
            return value

    def of_samples(self, n: int) -> list[str]:
        """Return the captions of n samples of an array, in the order of the file's rows.

        Raises:
            InputError: if the file cannot be read, or has another number of rows.
        """
        path = Path(self.captions)
        text = _text_of(path)
        if path.suffix.lower() == ".txt":
            rows = _lines(text)
        else:
            try:
                rows = [caption for _, caption in _reader(path)(text, _Columns(self.caption_column, name=False))]
            except (InputError, _NoCaptionsError) as error:
                raise InputError(f"{path}: {error}") from None
        while len(rows) > n and not rows[-1].strip():  # an empty line at the end
            rows.pop()
        if len(rows) != n:
            raise InputError(f"{path}: a caption for each of {n:,} samples is wanted, and it has {len(rows):,}")
        return [tidy(row) for row in rows]

    def check_used(self, troubles: str = "") -> None:
        """Raise InputError if something is said of captions, and there are none; `troubles` tells why."""
        if self.captions:
            raise InputError(f"{self.captions} has a caption of none of the pictures: {troubles or 'it is empty'}")
        for name in ("text_encoder", "caption_column"):
            if getattr(self, name):
                raise InputError(f"data.{name} is of captions, and these data have none: give them by data.captions")


@dataclass(frozen=True)
class _Columns:
    """Which columns of a table are wanted.

    Attributes:
        caption: a usual one where it is empty.
        name: whether that of names is wanted too; the rows of an array need none.
    """

    caption: str = ""
    name: bool = True

    def among(self, columns: Sequence[str]) -> tuple[str | None, str]:
        """Return what the columns of names, if wanted, and of captions are called."""
        if self.caption and self.caption not in columns:
            raise InputError(f"there is no column {shown(self.caption)}, but {shown([*columns][:8])}")
        caption = self.caption or _column(columns, _TEXTS, "captions")
        return (_column(columns, _NAMES, "names") if self.name else None), caption


def _lines(text: str) -> list[str]:
    """Return the lines of a text; other marks than those of files, such as U+2028, end none."""
    return text.removesuffix("\n").replace("\r\n", "\n").split("\n") if text else []


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or 'cannot be read'}") from None
    except (UnicodeDecodeError, ValueError):
        raise InputError(f"{path} is no text in UTF-8") from None


def _reader(path: Path) -> Callable[[str, _Columns], Iterator[tuple[str, str]]]:
    """Return what reads a file of captions, by the ending of its name."""
    known = {PurePosixPath(name).suffix: read for name, read in _TABLES.items()}
    if path.suffix.lower() not in known:
        raise InputError(f"{path}: a file of captions ends in {', '.join(sorted(known))}")
    return known[path.suffix.lower()]


def _of_table(text: str, mark: str, wanted: _Columns) -> Iterator[tuple[str, str]]:
    rows = csv.reader(io.StringIO(text), delimiter=mark)
    try:
        head = next(rows, [])
        name, caption = wanted.among(head)
        for cells in rows:
            row = dict(zip(head, cells, strict=False))
            if name is None or row.get(name):
                yield "" if name is None else row[name], row.get(caption, "")
    except csv.Error as error:
        raise InputError(f"line {rows.line_num}: {one_line(str(error), 60)}") from None


def _column(columns: Sequence[str], known: Sequence[str], of_what: str) -> str:
    """Return the first column that is called as one of `known`."""
    called = {column.strip().lower(): column for column in columns}
    found = next((called[name] for name in known if name in called), None)
    if found is None:
        raise _NoCaptionsError(f"has no column of {of_what}, such as {known[0]}, but {shown([*columns][:8])}")
    return found


def _of_json(text: str, wanted: _Columns) -> Iterator[tuple[str, str]]:
    rows = list[dict[str, Any]]()
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(f"line {number} is no JSON") from None
        if not isinstance(row, dict):
            raise InputError(f"line {number} is no object with file_name and text")
        rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    name, caption = wanted.among(columns) if rows else (None, "")
    for row in rows:
        if name is None or row.get(name):
            said = row.get(caption)
            if isinstance(said, list | dict):
                raise InputError(f"{caption} is {shown(said)}, and no text: give each picture one caption")
            yield "" if name is None else str(row[name]), "" if said is None else str(said)


def _of_lines(text: str, wanted: _Columns) -> Iterator[tuple[str, str]]:
    if wanted.caption:
        raise InputError(f"its lines have no columns, such as {shown(wanted.caption)}")
    for number, line in enumerate(_lines(text), 1):
        if not line.strip():
            continue
        parts = re.split(r"\t|\||,|:\s", line, maxsplit=1)
        if len(parts) < 2:
            raise InputError(f"line {number} is no name and caption with a tab, comma or bar between them")
        name, caption = parts
        if number == 1 and name.strip().lower() in _NAMES:
            continue  # the head of a table
        yield re.sub(r"#\d+$", "", name.strip()), caption


_TABLES: dict[str, Callable[[str, _Columns], Iterator[tuple[str, str]]]] = {
    "metadata.csv": lambda text, wanted: _of_table(text, ",", wanted),
    "metadata.tsv": lambda text, wanted: _of_table(text, "\t", wanted),
    "metadata.jsonl": _of_json,
    "captions.txt": _of_lines,
}
"""How a file of captions for all pictures is read, by its name."""
