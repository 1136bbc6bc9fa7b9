"""A record of what a program does to files, and the states in which a crash may leave them.

Files live in a real folder. Whatever changes them is watched: at each such call the folder is looked at, and what was
flushed to the disk (`fsync`) is remembered, a file's content and a folder's entries apart. A machine that loses its
power may keep everything, or only what was flushed, or new entries of a folder with none of the content that was not
flushed, or half of it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fromnoise.run import files

Tree = dict[str, "bytes | Tree"]

CALLS = [
    (os, "replace"),
    (os, "fsync"),
    (files, "save_file"),
    (os, "mkdir"),
    (os, "unlink"),
    (os, "rmdir"),
    (os, "open"),
]


class Record:
    """What was done below a folder.

    Args:
        root: the folder; what it holds at first is on the disk.
        fail_at: the number of the call that finds the disk full, if any.
    """

    def __init__(self, root: Path, fail_at: int | None = None) -> None:
        self.root, self.calls, self.fail_at = root, 0, fail_at
        self.states: list[tuple[str, Tree]] = []
        self._content: dict[int, bytes] = {}
        self._entries: dict[int, dict[str, int]] = {}
        self._folders: set[int] = set()
        self._held: dict[int, int] = {}
        self._remember(root)
        self._flushed_folder(root)

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in self._held.values():
            os.close(descriptor)

    def note(self, what: str) -> None:
        """Add the states in which a crash at this moment may leave the folder."""
        self._remember(self.root)
        known = {repr(tree) for _, tree in self.states}
        for kind, tree in (
            ("all", self._now(self.root, lambda content, _: content)),
            ("flushed", self._flushed(self._number(self.root))),
            ("empty", self._now(self.root, lambda _, flushed: flushed)),
            ("half", self._now(self.root, lambda content, flushed: flushed or content[: len(content) // 2])),
        ):
            if repr(tree) not in known:
                known.add(repr(tree))
                self.states.append((f"{self.calls} {what}, {kind}", tree))

    def flushed(self, descriptor: int) -> None:
        """Remember that a file's content or a folder's entries are on the disk."""
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        if path != self.root and self.root not in path.parents:
            return
        self._remember(self.root)
        if path.is_dir():
            self._flushed_folder(path)
        else:
            self._content[self._number(path)] = path.read_bytes()

    def _flushed_folder(self, path: Path) -> None:
        self._entries[self._number(path)] = {entry.name: self._number(entry) for entry in path.iterdir()}

    def _number(self, path: Path) -> int:
        return path.stat().st_ino

    def _remember(self, path: Path) -> None:
        """Hold every file below open, so that its number is not given to another."""
        number = self._number(path)
        if number not in self._held:
            self._held[number] = REAL[os, "open"](path, os.O_RDONLY)
        if path.is_dir():
            self._folders.add(number)
            for entry in path.iterdir():
                self._remember(entry)

    def _now(self, path: Path, content: Callable[[bytes, bytes], bytes]) -> Tree:
        return {
            entry.name: self._now(entry, content)
            if entry.is_dir()
            else content(entry.read_bytes(), self._content.get(self._number(entry), b""))
            for entry in sorted(path.iterdir())
        }

    def _flushed(self, number: int) -> Tree:
        entries = self._entries.get(number, {})
        return {
            name: self._flushed(child) if child in self._folders else self._content.get(child, b"")
            for name, child in sorted(entries.items())
        }


REAL = {(module, name): getattr(module, name) for module, name in CALLS}


@contextlib.contextmanager
def recorded(root: Path, fail_at: int | None = None) -> Iterator[Record]:
    """Record what is done below a folder in this block; its n-th writing call finds the disk full, if asked."""
    record = Record(root, fail_at)
    with pytest.MonkeyPatch.context() as patch:
        for module, name in CALLS:
            patch.setattr(module, name, _watched(record, module, name))
        try:
            yield record
        finally:
            record.close()


def _watched(record: Record, module: object, name: str) -> Callable[..., object]:
    real = REAL[module, name]

    def call(*arguments: object, **options: object) -> object:
        if name == "open":
            flags = arguments[1] if len(arguments) > 1 else options.get("flags", 0)
            if not flags & (os.O_CREAT | os.O_TRUNC):
                return real(*arguments, **options)
        record.calls += 1
        record.note(f"before {name}")
        if record.calls == record.fail_at and name not in ("unlink", "rmdir"):
            raise OSError(28, "No space left on device")
        done = real(*arguments, **options)
        if name == "fsync":
            record.flushed(arguments[0])
        record.note(f"after {name}")
        return done

    return call


def rebuilt(tree: Tree, path: Path) -> Path:
    """Make a folder that holds what a state holds."""
    path.mkdir()
    for name, what in tree.items():
        if isinstance(what, dict):
            rebuilt(what, path / name)
        else:
            (path / name).write_bytes(what)
    return path
