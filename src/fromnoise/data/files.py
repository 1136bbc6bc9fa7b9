"""Numbers in files: CSV tables, NPY and NPZ arrays."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

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
    except (ValueError, EOFError, KeyError, BadZipFile) as error:
        raise InputError(f"{path} holds no numbers that can be read: {one_line(str(error))}") from None


def _npy(path: Path) -> Pair:
    return np.load(path, allow_pickle=False), None


def _npz(path: Path) -> Pair:
    with path.open("rb") as file:
        arrays = np.load(file, allow_pickle=False)
        if isinstance(arrays, np.ndarray):  # an NPY file under another ending
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


def _csv(path: Path) -> Pair:
    text = path.read_text(encoding="utf-8-sig")
    first = next((line for line in text.splitlines() if line.strip()), "")
    between = max(("\t", ";", ","), key=first.count) if any(mark in first for mark in "\t;,") else ","
    names = next(csv.reader([first], delimiter=between), [])
    skip = 0 if all(_is_number(cell) for cell in names) else 1
    lines = [line for line in text.splitlines() if line.strip()][skip:]
    if not lines:
        raise InputError(f"{path} holds names alone, and no numbers" if first else f"{path} is empty")
    try:
        table = np.loadtxt(lines, delimiter=between, ndmin=2, quotechar='"', comments=None)
    except ValueError:
        raise InputError(f"{path}, {_first_fault(text, between, names, skip)}") from None
    return table, None


def _first_fault(text: str, between: str, names: Sequence[str], skip: int) -> str:
    """Return where a table is not one of numbers, for people."""
    rows = csv.reader(io.StringIO(text), delimiter=between)
    for cells in rows:
        if not any(cell.strip() for cell in cells) or (skip and cells == list(names)):
            continue
        if len(cells) != len(names):
            return f"line {rows.line_num}: {len(cells)} cells, and the first line has {len(names)}"
        for name, cell in zip(names, cells, strict=True):
            if not _is_number(cell):
                place = f"line {rows.line_num}" + (f", column {shown(name.strip())}" if skip else "")
                what = f"{shown(cell.strip())} is no number" if cell.strip() else "a cell is empty"
                return f"{place}: {what}; give a table of numbers alone"
    return "it is no table of numbers"


def _is_number(cell: str) -> bool:
    try:
        return not math.isnan(float(cell)) or cell.strip().lower() == "nan"
    except ValueError:
        return False


KINDS: dict[str, Callable[[Path], Pair]] = {".csv": _csv, ".tsv": _csv, ".npy": _npy, ".npz": _npz}
"""How a file of each ending is read."""


def is_file_name(what: Any) -> bool:
    """Return whether a word names a file of numbers: by its ending, or because there is such a file."""
    return isinstance(what, Path) or (
        isinstance(what, str) and (Path(what).suffix.lower() in KINDS or Path(what).is_file())
    )
