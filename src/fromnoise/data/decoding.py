"""The pictures of a folder or an archive, decoded once into an entry of the cache: pixels, labels and captions."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from fromnoise.data.archive import Member, members
from fromnoise.data.captions import Captioning, Captions
from fromnoise.data.decode import Decoded, Decoder, Unreadable
from fromnoise.errors import InputError, one_line, shown
from fromnoise.text_cond import pieces

CAPTIONS = "captions.json"

_UNREAD = {".heic", ".heif", ".jxl", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".exr"}
"""The endings of pictures that Pillow does not read."""

_TOGETHER, _TOGETHER_BYTES = 64, 2**26
"""How many pictures, and about how many bytes of their files, are in memory while they are decoded."""

Progress = Callable[[int, int], None]
"""Called with the pictures done and those in all, 0 where that is not known."""


@dataclass(frozen=True)
class Found:
    """What was found in a folder or an archive.

    Attributes:
        shape: of every picture, [C, H, W].
        classes: the names of the sub-folders that the pictures lie in; empty where they do not.
        sizes: how often each height and width occurred, before the pictures were brought to size.
        animated: of how many files only the first picture was taken.
        unlabelled: why the sub-folders are no labels, or that they hold folders of their own; empty where all is plain.
        dark: that the pictures of 16 bits use only a small part of their range; empty where they do not.
        uncaptioned: why captions could not be used or are missing, with how many and the first file's name.
        skipped: why files were left out, with how many and the first one's name.
        sha256: of pixels and labels.
    """

    shape: tuple[int, ...]
    classes: tuple[str, ...]
    sizes: dict[str, int]
    animated: int
    unlabelled: str
    dark: str
    uncaptioned: dict[str, tuple[int, str]]
    skipped: dict[str, tuple[int, str]]
    sha256: str

    @classmethod
    def of(cls, index: Mapping[str, Any]) -> Found:
        """Return what the index of an entry of the cache says."""
        uncaptioned, skipped = (
            {why: (int(count), str(first)) for why, (count, first) in index[kind].items()}
            for kind in ("uncaptioned", "skipped")
        )
        return cls(
            tuple(index["shape"]), tuple(index["classes"]), index["sizes"], index["animated"], index["unlabelled"],
            index["dark"], uncaptioned, skipped, index["sha256"],
        )  # fmt: skip

    @property
    def notes(self) -> list[str]:
        """What a user should know of how the pictures were read, a line each."""
        animated = f"of {self.animated:,} animated pictures only the first is taken" if self.animated else ""
        every = [animated, self.skipped_text, self.unlabelled, self.dark, self.captions_text]
        return [line for line in every if line]

    @property
    def captions_text(self) -> str:
        """Which captions could not be used, in one line; empty where all could."""
        each = [f"{count:,} {_plural(why, count)} (first {first})" for why, (count, first) in self.uncaptioned.items()]
        return f"captions: {', '.join(each)}" if each else ""

    @property
    def skipped_text(self) -> str:
        """What was left out and why, in one line; empty where nothing was."""
        return _skipped_text(self.skipped)


@dataclass
class _Tally:
    """What is counted while pictures are decoded."""

    sizes: Counter[str] = field(default_factory=Counter)
    animated: int = 0
    deep: int = 0
    brightest: int = 0
    skipped: dict[str, tuple[int, str]] = field(default_factory=dict)

    def take(self, picture: Decoded) -> None:
        """Count a picture."""
        self.sizes[f"{picture.size[0]} x {picture.size[1]}"] += 1
        self.animated += picture.animated
        self.deep += picture.brightest is not None
        self.brightest = max(self.brightest, picture.brightest or 0)

    @property
    def dark(self) -> str:
        """That the pictures of 16 bits use at most a quarter of their range; empty where they do not."""
        if not 0 < self.brightest < 2**14:  # of black ones nothing can be told
            return ""
        some = _counted(self.deep, "picture of 16 bits has", "pictures of 16 bits have")
        return f"{some} no value above {self.brightest:,} of 65,535, and will be dark: save them with their full range"

    def skip(self, name: str, why: str) -> None:
        """Count a file that is left out."""
        count, first = self.skipped.get(why, (0, one_line(name, 80)))
        self.skipped[why] = (count + 1, first)


def decode_all(
    path: Path, decoder: Decoder, folder: Path, captioning: Captioning, progress: Progress | None
) -> dict[str, Any]:
    """Write pixels.u8, labels.i8 and captions into a folder of the cache, and return the entry's index."""
    tally, names, captions = _Tally(), list[str](), Captions(captioning.caption_column)
    if captioning.captions:
        captions.hear_file(Path(captioning.captions))
    pixels = _Pixels(folder / "pixels.u8", path)
    with pixels:
        for name, picture in _decoded(_heard(members(path), captions), decoder, tally):
            pixels.add(name, picture.pixels)
            names.append(name)
            tally.take(picture)
            if progress is not None:
                progress(len(names), 0)
    if not names:
        found = _skipped_text(tally.skipped) or "it holds no files whose names end as those of pictures do"
        raise InputError(f"{path}: there are no pictures to be had: {found}")
    classes, labels, unlabelled = _classes(names)
    labels.tofile(folder / "labels.i8")
    total = hashlib.sha256(pixels.sum.digest() + labels.tobytes() + "\0".join(classes).encode())
    texts = captions.of(names)
    if any(map(pieces, texts)):
        (folder / CAPTIONS).write_text(json.dumps(texts), encoding="utf-8")
        total.update("\0".join(texts).encode())
    found = {"shape": list(pixels.shape), "classes": list(classes), "sizes": dict(tally.sizes.most_common(20))}
    counted = {"n": len(names), "animated": tally.animated, "skipped": tally.skipped}
    counted |= {"uncaptioned": captions.troubles, "unlabelled": unlabelled, "dark": tally.dark}
    return {**found, **counted, "sha256": total.hexdigest()}


def _heard(files: Iterable[Member], captions: Captions) -> Iterator[Member]:
    """Yield files, after the captions that they hold were taken note of."""
    for member in files:
        captions.hear(member)
        yield member


def _decoded(files: Iterable[Member], decoder: Decoder, tally: _Tally) -> Iterator[tuple[str, Decoded]]:
    """Yield the pictures among some files, in their order, decoded by several threads."""
    endings = {ending.lower() for ending in Image.registered_extensions()} | {""}

    def attempt(member: Member) -> Decoded | str:
        try:
            return decoder(member.content) if member.content is not None else member.trouble
        except Unreadable as why:
            return str(why)

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for some in _together(files):
            wanted = [member for member in some if PurePosixPath(member.name).suffix.lower() in endings]
            for member in some:
                if PurePosixPath(member.name).suffix.lower() in _UNREAD - endings:
                    tally.skip(member.name, "is of a kind that is not read: PNG and JPEG are")
            for member, found in zip(wanted, pool.map(attempt, wanted), strict=True):
                if isinstance(found, Decoded):
                    yield member.name, found
                elif PurePosixPath(member.name).suffix:  # what has no ending may well be no picture
                    tally.skip(member.name, found)


def _together(files: Iterable[Member]) -> Iterator[list[Member]]:
    """Yield files in groups that fit in memory."""
    group, size = list[Member](), 0
    for member in files:
        group.append(member)
        size += len(member.content or b"")
        if len(group) >= _TOGETHER or size >= _TOGETHER_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


class _Pixels:
    """A file of pictures that grows: of one channel until the first in colour comes."""

    def __init__(self, file: Path, source: Path) -> None:
        self.file, self.source = file, source
        self.shape: tuple[int, ...] = ()
        self.sum = hashlib.sha256()
        self._first = ""

    def __enter__(self) -> _Pixels:
        self._out = self.file.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self._out.close()

    def add(self, name: str, pixels: np.ndarray) -> None:
        """Write a picture `[C, H, W]` uint8.

        Raises:
            InputError: if it has another size than those before.
        """
        if not self.shape:
            self.shape, self._first = pixels.shape, name
        if pixels.shape[1:] != self.shape[1:]:
            a, b = (f"{s[1]} x {s[2]}" for s in (self.shape, pixels.shape))
            side = min(*self.shape[1:], *pixels.shape[1:])
            raise InputError(
                f"{self.source}: its pictures differ in size, {a} ({one_line(self._first, 60)}) and {b} "
                f"({one_line(name, 60)}): bring them to one, such as --size {side}"
            )
        if len(pixels) > self.shape[0]:
            self._widen()
        content = np.broadcast_to(pixels, self.shape).tobytes()
        self.sum.update(content)
        self._out.write(content)

    def _widen(self) -> None:
        """Give every picture so far three equal channels."""
        self._out.close()
        grey, self.sum = self.file.with_suffix(".grey"), hashlib.sha256()
        os.replace(self.file, grey)
        self._out = self.file.open("wb")
        one = self.shape[1] * self.shape[2]
        with grey.open("rb") as file:
            while content := file.read(one):
                self.sum.update(3 * content)
                self._out.write(3 * content)
        grey.unlink()
        self.shape = (3, *self.shape[1:])


def _classes(names: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray, str]:
    """Return the labels' names, each picture's label `[N]`, the sub-folder it lies in, if all lie in some, and a note.

    Raises:
        InputError: if a sub-folder's name is no text.
    """
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    low, high = min(folders), max(folders)  # what these begin with, all begin with
    shared = next((k for k, pair in enumerate(zip(low, high, strict=False)) if pair[0] != pair[1]), len(low))
    deeper = [parts[shared] if len(parts) > shared else None for parts in folders]
    found = {name for name in deeper if name is not None}
    if None in deeper or len(found) < 2:
        beside = deeper.count(None)
        note = f"no labels: {_counted(beside, 'picture lies', 'pictures lie')} beside the sub-folders (first "
        note += f"{one_line(names[deeper.index(None)], 60)}), so these are none" if found and beside else ""
        return (), np.zeros(0, np.int64), note if found and beside else ""
    for name in found:
        if not name.isprintable() or any(0xD800 <= ord(letter) <= 0xDFFF for letter in name):
            raise InputError(f"the folder {shown(name)} cannot be a label: its name is no text; rename it")
    classes = tuple(sorted(found, key=lambda name: (_natural(name), name)))
    number = {name: k for k, name in enumerate(classes)}
    inner = {parts[: shared + 2] for parts in folders if len(parts) > shared + 1}
    note = f"{_counted(len(inner), 'folder', 'folders')} inside the labels' own (first "
    note += f"{one_line('/'.join(min(inner)), 60)}): the first level is the label" if inner else ""
    return classes, np.array([number[name] for name in deeper if name is not None], np.int64), note if inner else ""


def _counted(count: int, one: str, several: str) -> str:
    return f"{count:,} {one if count == 1 else several}"


def _natural(name: str) -> list[Any]:
    """Return what to sort a name by so that 2 comes before 10."""
    parts = re.split(r"(\d+)", name)
    return list(
        chain.from_iterable((part.lower(), 0) if k % 2 == 0 else ("", int(part)) for k, part in enumerate(parts))
    )


def _skipped_text(skipped: Mapping[str, tuple[int, str]]) -> str:
    total = sum(count for count, _ in skipped.values())
    if not total:
        return ""
    each = sorted(skipped.items(), key=lambda pair: -pair[1][0])
    parts = [f"{count:,} {_plural(why, count)} (first {first})" for why, (count, first) in each[:6]]
    more = f", and {len(each) - 6} reasons more" if len(each) > 6 else ""
    return f"{total:,} left out: {', '.join(parts)}{more}"


def _plural(why: str, count: int) -> str:
    """Return a reason with its verb for one file or for several."""
    if count == 1:
        return why
    verb, _, rest = why.partition(" ")
    plural = {"is": "are", "has": "have", "holds": "hold"}.get(verb, verb)
    return f"{plural} {rest}".replace("are no picture", "are no pictures").strip()
