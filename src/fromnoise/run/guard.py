"""Reading with distrust: limits that are checked before anything is read, and one line for whatever is wrong.

A run's folder may come from anywhere. So a file is read only if it is a regular file of a size that its kind can have;
what is parsed may be nested `DEEPEST` levels deep at most; and what a reader did not foresee ends as a `RunError` too.
"""

from __future__ import annotations

import json
import math
import re
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fromnoise.errors import CheckpointDamaged, FromnoiseError, RunError, one_line, shown

CONFIG_BYTES = 2**23
STATE_BYTES = 2**20
HEADER_BYTES = 2**23
LINE_BYTES = 2**16
"""The largest config.toml, manifest.json or state.json, header of a safetensors file, and line of metrics.jsonl."""

DEEPEST = 32
"""How deep lists and tables may lie in one another."""

DTYPES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}  # fmt: skip
"""Bytes of one number of each dtype that a safetensors file may hold."""


@contextmanager
def distrusting(path: Path, kind: type[RunError] = RunError) -> Iterator[None]:
    """Turn every error but the library's own into one that says in one line that `path` cannot be read.

    Args:
        path: what is read inside the block.
        kind: of the error; a plain `RunError` becomes one too.
    """
    try:
        yield
    except FromnoiseError as error:
        error.args = (one_line(str(error)),)
        if type(error) is RunError and kind is not RunError:
            raise kind(str(error)) from None
        raise
    except Exception as error:
        raise kind(one_line(f"{path} cannot be read: {type(error).__name__}: {error}")) from error


def checked_size(path: Path, most: int | None = None) -> int:
    """Return a file's size in bytes.

    Raises:
        OSError: if it is not there.
        RunError: if it is no regular file, or larger than `most`.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise RunError(f"{path} is not a regular file")
    if most is not None and status.st_size > most:
        raise RunError(f"{path} has {status.st_size:,} bytes, and at most {most:,} are read")
    return status.st_size


def read_bytes(path: Path, most: int) -> bytes:
    """Return a file's content, of at most so many bytes. Raises as `checked_size` does."""
    checked_size(path, most)
    with path.open("rb") as file:
        return file.read(most)


_DOTTED = re.compile(rf"(?<![\w-])(?:[\w-]++[ \t]*+\.[ \t]*+){{{DEEPEST}}}")
"""A key of many parts, a.b.c..., for which tomllib takes time that grows with the square of their number."""


def parse_toml(content: bytes) -> dict[str, Any]:
    """Return the content of a TOML file. Raises ValueError if it is none, or nested too deep."""
    text = content.decode()
    if _DOTTED.search(text):
        raise ValueError(_TOO_DEEP)
    try:
        return _shallow(tomllib.loads(text))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def parse_json(content: bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError if it is none, nested too deep, or names something twice."""
    try:
        return _shallow(json.loads(content, object_pairs_hook=_object, parse_constant=_no_constant))
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


_TOO_DEEP = f"it is nested more than {DEEPEST} levels deep"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _shallow(tree: Any) -> Any:
    """Return a parsed value if it is not nested too deep."""
    level = [tree]
    for _ in range(DEEPEST):
        level = [
            inner
            for outer in level
            if isinstance(outer, (dict, list))
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, (dict, list))
        ]
        if not level:
            return tree
    raise ValueError(_TOO_DEEP)


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a small JSON file.

    Raises:
        CheckpointDamaged: if it cannot be read.
    """
    with distrusting(path, CheckpointDamaged):
        found = parse_json(read_bytes(path, STATE_BYTES))
        if not isinstance(found, dict):
            raise CheckpointDamaged(f"{path} holds no JSON object")
        return found


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of metrics.jsonl that are whole, each with a step and a loss, and skip the others.

    Raises:
        RunError: if the file cannot be read.
    """
    with distrusting(path):
        checked_size(path)
        with path.open("rb") as file:
            whole = True  # whether the last line read had its end
            while line := file.readline(LINE_BYTES):
                row = _row(line) if whole else None
                whole = line.endswith(b"\n")
                if row is not None:
                    yield row


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = parse_json(line)
    except ValueError:  # cut off by a crash
        return None
    fine = isinstance(row, dict) and is_whole(row.get("step")) and is_finite(row.get("loss"))
    return row if fine else None


def is_whole(value: Any, most: int = 2**62) -> bool:
    """Return whether a value is a whole number from 0 to `most`; a bool is none."""
    return type(value) is int and 0 <= value <= most


def is_finite(value: Any) -> bool:
    """Return whether a value is a number that is neither NaN nor infinite; a bool is none."""
    return type(value) in (int, float) and abs(value) < 1e300 and math.isfinite(value)


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return dtype and shape of each tensor of a safetensors file, after checking that the file can hold them.

    Raises:
        CheckpointDamaged: if the header is not what the format asks for, or does not fit the file's size.
    """
    with distrusting(path, CheckpointDamaged):
        size = checked_size(path)
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 2 <= length <= min(HEADER_BYTES, size - 8):
                raise CheckpointDamaged(f"{path} is not a safetensors file")
            header = parse_json(file.read(length))
        if not isinstance(header, dict):
            raise CheckpointDamaged(f"{path} is not a safetensors file")
        about = header.pop("__metadata__", {})
        if not isinstance(about, dict) or not all(isinstance(text, str) for text in about.values()):
            raise CheckpointDamaged(f"{path}: its metadata are not texts")
        end = size - 8 - length
        wrong = next((name for name, entry in header.items() if not _is_tensor(entry, end)), None)
        if wrong is not None:
            raise CheckpointDamaged(
                f"{path} is truncated or was edited: {shown(wrong)} cannot have its dtype, shape and place"
            )
        if sum(entry["data_offsets"][1] - entry["data_offsets"][0] for entry in header.values()) != end:
            raise CheckpointDamaged(f"{path} is truncated or was edited: its tensors have not the file's size")
        return {name: (entry["dtype"], tuple(entry["shape"])) for name, entry in header.items()}


def _is_tensor(entry: Any, end: int) -> bool:
    """Return whether an entry of a header describes a tensor inside the `end` bytes that follow it."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        return False
    dtype, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        return False
    if not isinstance(shape, list) or len(shape) > DEEPEST or not all(is_whole(length) for length in shape):
        return False
    if not isinstance(place, list) or len(place) != 2 or not all(is_whole(at, end) for at in place):
        return False
    return place[1] - place[0] == math.prod(shape) * DTYPES[dtype]
