"""Where what is slow to make is kept, such as decoded samples: in `$FROMNOISE_CACHE`, or the user's cache folder.

It is found by a hash of what it is made of. An entry is a folder that is written beside its place and renamed, so it is
whole or not there. Several processes may use one, and make one: who comes second finds it, or drops its own. What a
process that was broken off has left is removed by the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fromnoise.errors import InputError

_STALE = 3600.0
"""Seconds after which what a process that is gone has left is removed."""


def cache_folder() -> Path:
    """Return the folder of the cache, which need not exist."""
    if chosen := os.environ.get("FROMNOISE_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData/Local")) / "fromnoise/cache"
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/fromnoise"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fromnoise"


def kept(kind: str, key: str) -> tuple[Path, dict[str, Any]] | None:
    """Return an entry's folder and what its index.json says; None where it is not there, or not whole."""
    place = cache_folder() / kind / key
    index = _index(place)
    return None if index is None else (place, index)


def entry(kind: str, key: str, make: Callable[[Path], dict[str, Any]]) -> tuple[Path, dict[str, Any]]:
    """Return an entry's folder and what its index.json says; the entry is made if it is not there, or not whole.

    Args:
        kind: of the entries, a folder of the cache.
        key: of this one.
        make: writes the entry's files into the folder it is given, and returns the index.

    Raises:
        InputError: if the cache cannot be written.
    """
    root = cache_folder() / kind
    place = root / key
    index = _index(place)
    if index is not None:
        return place, index
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_stale(root)
        staging = Path(tempfile.mkdtemp(prefix=f".{key[:16]}-{os.getpid()}-", dir=root))
        try:
            index = make(staging)
            sizes = {file.name: file.stat().st_size for file in sorted(staging.iterdir())}
            (staging / "index.json").write_text(json.dumps({**index, "bytes": sizes}), encoding="utf-8")
            if place.exists() and _index(place) is None:  # not whole
                shutil.rmtree(place, ignore_errors=True)
            with contextlib.suppress(OSError):  # another process was quicker
                os.replace(staging, place)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        raise InputError(
            f"the cache {root} cannot be written: {error.strerror or error}: set FROMNOISE_CACHE to another folder"
        ) from None
    index = _index(place)
    if index is None:
        raise InputError(f"the cache {place} cannot be read again: set FROMNOISE_CACHE to another folder")
    return place, index


def _index(place: Path) -> dict[str, Any] | None:
    """Return an entry's index, or None where the entry is not there or not whole."""
    try:
        index = json.loads((place / "index.json").read_text(encoding="utf-8"))
        sizes = index["bytes"]
        whole = all((place / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return index if whole else None


def _remove_stale(root: Path) -> None:
    """Remove what processes that are gone have left half done."""
    for left in root.glob(".*-*-*"):
        with contextlib.suppress(OSError, ValueError):
            if time.time() - left.stat().st_mtime > _STALE and not _is_running(int(left.name.split("-")[1])):
                shutil.rmtree(left, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True
