"""Numbers in files: CSV tables, NPY and NPZ arrays."""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fromnoise.errors import FromnoiseError, InputError, one_line, shown

Pair = tuple[np.ndarray, np.ndarray | None]
"""Samples `[N, *S]` and their labels or condition vectors, or None."""


def read_file(path: Path) -> Pair:
    """Return the samples in a file, and their labels or condition vectors where it holds some.

    A CSV or TSV file is a table of numbers, with or without a line of names above them, its cells between commas,
    semicolons or tabs. An NPY file is an array `[N, *S]`. An NPZ file holds one array, or `x` and perhaps `labels` or
    `cond`.

    Raises:
        InputError: if there is no such file, or it holds something else.
    """
    read = KINDS.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{path}: files of numbers end in {', '.join(KINDS)}")
    try:
        return read(path)
    except FromnoiseError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or one_line(str(error))}") from None
    except Exception as error:  # numpy, zipfile, zlib and csv have a dozen ways to say that a file is damaged
        raise InputError(f"{path} holds no numbers that can be read: {one_line(str(error))}") from None


def _arrays(path: Path) -> Pair:
    with path.open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            return arrays, None
        names = set(arrays.files)
        if len(names) == 1:
            return arrays[names.pop()], None
        if "x" not in names or len(names) > 2 or not names <= {"x", "labels", "cond"}:
            raise InputError(
                f"{path} holds the arrays {shown(sorted(names))}: samples are in one array, or in x, with labels or "
                "cond beside it"
            )
        return arrays["x"], arrays[(names - {"x"}).pop()]


def _table(path: Path) -> Pair:
    text = path.read_text(encoding="utf-8-sig")
    first = next((line for line in text.split("\n") if line.strip()), None)
    if first is None:
        raise InputError(f"{path} is empty")
    unquoted = re.sub('"[^"]*"', "", first)
    between = next((mark for mark in "\t;" if mark in unquoted), ",")
    rows = csv.reader(io.StringIO(text), delimiter=between)
    names = next(cells for cells in rows if any(cell.strip() for cell in cells))
    named = not any(_is_number(cell) for cell in names)
    if named and not names[0].strip():
        raise InputError(f"{path}: the first column has no name, as one of row numbers has: leave it out")
    lines = text.split("\n")[rows.line_num if named else 0 :]
    if named and not any(line.strip() for line in lines):
        raise InputError(f"{path} holds names alone, and no numbers")
    try:
        table = np.loadtxt(lines, delimiter=between, ndmin=2, quotechar='"', comments=None)
    except ValueError:
        table = None
    if table is None or table.shape[1] != len(names):
        raise InputError(f"{path}, {_first_fault(text, between, names, named)}")
    return table, None


def _first_fault(text: str, between: str, names: Sequence[str], named: bool) -> str:
    """Return where a table is not one of numbers, for people."""
    rows = csv.reader(io.StringIO(text), delimiter=between)
    filled = (cells for cells in rows if any(cell.strip() for cell in cells))
    for k, cells in enumerate(filled):
        if k == 0 and named:
            continue
        if len(cells) != len(names):
            return f"line {rows.line_num}: {len(cells)} cells, and the first line has {len(names)}"
        for column, (name, cell) in enumerate(zip(names, cells, strict=True), 1):
            if not _is_number(cell):
                place = f"line {rows.line_num}, column {shown(name.strip()) if named else column}"
                what = f"{shown(cell.strip())} is no number" if cell.strip() else "a cell is empty"
                return f"{place}: {what}; give a table of numbers alone"
    return "it is no table of numbers"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell  # which Python reads, and other programs do not


KINDS: dict[str, Callable[[Path], Pair]] = {".csv": _table, ".tsv": _table, ".npy": _arrays, ".npz": _arrays}
"""How a file of each ending is read."""


def is_file_name(what: Any) -> bool:
    """Return whether a word names a file of numbers: by its ending, or because there is such a file."""
    with contextlib.suppress(OSError, ValueError):  # of names that no file can have
        return isinstance(what, Path) or (
            isinstance(what, str) and (Path(what).suffix.lower() in KINDS or Path(what).is_file())
        )
    return False
