"""Captions of pictures: read from the files that lie beside them.

    metadata.csv, metadata.tsv, metadata.jsonl    a row for each picture, its name in file_name, its caption in text
    captions.txt                                  a line for each picture: its name, a tab, comma or bar, its caption
    NAME.txt                                      the caption of NAME.png, NAME.jpg, ...

Names are read from the folder that the file lies in. The first of these kinds that tells of a picture counts.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from fromnoise.data.archive import Member
from fromnoise.errors import InputError, one_line, shown

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
        tables: captions by picture, from a file for all pictures.
        beside: captions by the picture's name without its ending.
        odd: files beside pictures that are no text in UTF-8, likewise.
        troubles: why a caption could not be read, with how many and the first file's name.
    """

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
            for name, caption in read(text):
                self.tables.setdefault(str(path.parent / name.strip()), tidy(caption))
        except _NoCaptionsError as error:
            self._trouble(str(error), member.name)
        except InputError as error:
            raise InputError(f"{one_line(member.name, 80)}: {error}") from None

    def of(self, names: Sequence[str]) -> list[str]:
        """Return the caption of each picture, "" where there is none, and count what does not fit."""
        known = set(names)
        for name in self.tables:
            if name not in known:
                self._trouble("is named in a table of captions, and is not there", name)
        stems = [str(PurePosixPath(name).with_suffix("")) for name in names]
        for stem in stems:
            if stem in self.odd:
                self._trouble("is no text in UTF-8", self.odd[stem])
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
    return re.sub(r"[\s\x00-\x1f\x7f]+", " ", text).strip()[:LONGEST].strip()


def _of_table(text: str, mark: str) -> Iterator[tuple[str, str]]:
    rows = csv.DictReader(io.StringIO(text), delimiter=mark)
    try:
        columns = list(rows.fieldnames or ())
        name, caption = _column(columns, _NAMES, "names"), _column(columns, _TEXTS, "captions")
        for row in rows:
            if row.get(name):
                yield row[name], row.get(caption) or ""
    except csv.Error as error:
        raise InputError(f"line {rows.line_num}: {one_line(str(error), 60)}") from None


def _column(columns: Sequence[str], known: Sequence[str], of_what: str) -> str:
    """Return the first column that is called as one of `known`."""
    called = {column.strip().lower(): column for column in columns}
    found = next((called[name] for name in known if name in called), None)
    if found is None:
        raise _NoCaptionsError(f"has no column of {of_what}, such as {known[0]}, but {shown([*columns][:8])}")
    return found


def _of_json(text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise InputError(f"line {number} is no JSON") from None
        if not isinstance(row, dict):
            raise InputError(f"line {number} is no object with file_name and text")
        name, caption = (_column(list(row), known, what) for known, what in ((_NAMES, "names"), (_TEXTS, "captions")))
        yield str(row[name]), "" if row[caption] is None else str(row[caption])


def _of_lines(text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        parts = re.split(r"\t|\||,|:\s", line, maxsplit=1)
        if len(parts) < 2:
            raise InputError(f"line {number} is no name and caption with a tab, comma or bar between them")
        name, caption = parts
        if number == 1 and name.strip().lower() in _NAMES:
            continue  # the head of a table
        yield re.sub(r"#\d+$", "", name.strip()), caption


_TABLES: dict[str, Callable[[str], Iterator[tuple[str, str]]]] = {
    "metadata.csv": lambda text: _of_table(text, ","),
    "metadata.tsv": lambda text: _of_table(text, "\t"),
    "metadata.jsonl": _of_json,
    "captions.txt": _of_lines,
}
"""How a file of captions for all pictures is read, by its name."""
