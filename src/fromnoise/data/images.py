"""Pictures in folders and archives, as a source: decoded once, kept in the cache, read from there by number."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor

from fromnoise.cache import entry
from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner, Labels
from fromnoise.data.archive import ENDINGS, Member, fingerprint, is_archive, is_run, members
from fromnoise.data.captions import Captioning, Captions
from fromnoise.data.decode import Decoded, Decoder, Unreadable
from fromnoise.data.pixels import suggested_for
from fromnoise.data.source import Batch
from fromnoise.data.views import Rows, Seen
from fromnoise.errors import InputError, one_line, shown
from fromnoise.text_cond import pieces, with_captions
from fromnoise.text_features import EncodedText

_CAPTIONS = "captions.json"

_LAYOUT = 3
"""Of the cache's entries; another number is another entry."""

_UNREAD = {".heic", ".heif", ".jxl", ".svg", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".raf", ".rw2", ".exr"}
"""The endings of pictures that Pillow does not read."""

_TOGETHER, _TOGETHER_BYTES = 64, 2**26
"""How many pictures, and about how many bytes of their files, are in memory while they are decoded."""

Progress = Callable[[int, int], None]
"""Called with the pictures done and those in all, 0 where that is not known."""


class PictureSettings(Seen, Captioning):
    """What may be said of pictures in files: the group `data` of a configuration, with `Seen` and `Captioning`.

    Attributes:
        size: their height and width, to which they are scaled; 0 for the size they all have.
        fit: "crop" cuts the longer side of what is no square, "pad" fills the shorter one with the background.
        background: what lies behind clear pixels and around padded pictures, a colour's name or #rrggbb.
        channels: 1 to make all grey, 3 to make all coloured; 0 for grey where all are, else coloured.
        strict: refuse the data where any picture cannot be read, instead of leaving it out.
    """

    size: Annotated[int, Field(ge=0, le=8192)] = 0
    fit: Literal["crop", "pad"] = "crop"
    background: str = "white"
    channels: Literal[0, 1, 3] = 0
    strict: bool = False

    def decoder(self) -> Decoder:
        """Return what decodes pictures so."""
        return Decoder(self.size, self.fit, self.background, self.channels)

    def told(self) -> dict[str, Any]:
        """Return the settings that change the pictures, as far as they are not the defaults."""
        return self.model_dump(exclude_defaults=True, exclude={"strict", *Seen.model_fields})


@dataclass(frozen=True)
class Found:
    """What was found in a folder or an archive.

    Attributes:
        shape: of every picture, [C, H, W].
        classes: the names of the sub-folders that the pictures lie in; empty where they do not.
        sizes: how often each height and width occurred, before the pictures were brought to size.
        animated: of how many files only the first picture was taken.
        unlabelled: why the sub-folders are no labels, or that they hold folders of their own; empty where all is plain.
        uncaptioned: why captions could not be used or are missing, with how many and the first file's name.
        skipped: why files were left out, with how many and the first one's name.
        sha256: of pixels and labels.
    """

    shape: tuple[int, ...]
    classes: tuple[str, ...]
    sizes: dict[str, int]
    animated: int
    skipped: dict[str, tuple[int, str]]
    sha256: str
    uncaptioned: dict[str, tuple[int, str]] = field(default_factory=dict)
    unlabelled: str = ""

    @property
    def captions_text(self) -> str:
        """Which captions could not be used, in one line; empty where all could."""
        each = [f"{count:,} {_plural(why, count)} (first {first})" for why, (count, first) in self.uncaptioned.items()]
        return f"captions: {', '.join(each)}" if each else ""

    @property
    def skipped_text(self) -> str:
        """What was left out and why, in one line; empty where nothing was."""
        return _skipped_text(self.skipped)


class Files:
    """The pictures of a folder or an archive, a `Source`; sub-folders are their labels.

    Args:
        path: of the folder, .tar, .tar.gz, .tgz or .zip.
        settings: how pictures become samples.
        progress: called while they are decoded for the first time.

    Attributes:
        x: `[N, C, H, W]` uint8, mapped from the cache.
        found: what the folder or the archive held.
        cond: the label of each picture, or None.

    Raises:
        InputError: if there are no pictures, or they have different sizes and `settings.size` is 0.
    """

    def __init__(
        self, path: str | Path, settings: PictureSettings | None = None, *, progress: Progress | None = None
    ) -> None:
        self.path, self.settings = Path(path), settings or PictureSettings()
        decoder = self.settings.decoder()
        if not self.path.exists():
            raise InputError(f"{self.path}: there is no such file or folder")
        if is_run(self.path):
            raise InputError(f"{self.path} is a run, and no folder of pictures: fromnoise sample draws from it")
        how = {name: value for name, value in asdict(decoder).items() if name != "channels" or value}
        of_captions = self.settings.model_dump(include={"captions", "caption_column"}, exclude_defaults=True)
        if self.settings.captions:
            of_captions["file"] = fingerprint(Path(self.settings.captions))
        content = [_LAYOUT, fingerprint(self.path), how, *([of_captions] if of_captions else [])]
        key = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        place, index = entry(
            "pictures", key, lambda folder: _decode_all(self.path, decoder, folder, self.settings, progress)
        )
        skipped, uncaptioned = (
            {why: (int(count), str(first)) for why, (count, first) in index.get(kind, {}).items()}
            for kind in ("skipped", "uncaptioned")
        )
        self.found = Found(
            tuple(index["shape"]), tuple(index["classes"]), index["sizes"], index["animated"], skipped, index["sha256"],
            uncaptioned, index["unlabelled"],
        )  # fmt: skip
        if self.settings.strict and uncaptioned:
            raise InputError(f"{self.path}: {self.found.captions_text}: mend them, or leave --strict out")
        if self.settings.strict and skipped:
            raise InputError(f"{self.path}: {self.found.skipped_text}: mend or remove them, or leave --strict out")
        count = index["n"]
        pixels = np.memmap(place / "pixels.u8", np.uint8, "r", shape=(count, *self.found.shape))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the array cannot be written to: nothing here does
            self.x = torch.from_numpy(pixels)
        labels = np.fromfile(place / "labels.i8", np.int64) if self.found.classes else None
        self.conditioners: tuple[Conditioner, ...] = (Labels(names=self.found.classes),) if self.found.classes else ()
        self.cond = None if labels is None else Cond({"label": torch.from_numpy(labels)})
        self.captions: tuple[str, ...] = ()
        if (place / _CAPTIONS).exists():
            self.captions = tuple(json.loads((place / _CAPTIONS).read_text(encoding="utf-8")))
            self.cond, text = with_captions(self.cond, self.captions, len(self.x), self.settings.text_encoder or None)
            self.conditioners = (*self.conditioners, text)
        else:
            self.settings.check_used(self.found.captions_text)

    def reads_captions_by(self, reader: EncodedText) -> None:
        """Have captions read by a conditioner that was fitted to them before."""
        assert self.cond is not None
        values = {**self.cond.values, reader.value: reader.as_bytes(self.captions)}
        self.cond = Cond(values, self.cond.given)
        self.conditioners = (*(one for one in self.conditioners if one.value != reader.value), reader)

    distribution = None
    """What they were drawn from is not known."""

    @property
    def name(self) -> str:
        """The folder's or the archive's name."""
        name = self.path.resolve().name
        return next((name[: -len(end)] for end in ENDINGS if name.lower().endswith(end)), name)

    @property
    def shape(self) -> tuple[int, ...]:
        """[C, H, W]."""
        return self.found.shape

    @property
    def label_names(self) -> tuple[str, ...]:
        """The names of the sub-folders, which are the labels."""
        return self.found.classes

    @property
    def suggests(self) -> Mapping[str, Any]:
        """The recipe that fits pictures."""
        return suggested_for(len(self), self.shape)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run keeps: name, place and settings to find them again, number and sum to know them by."""
        known = {"n": len(self), "sha256": self.found.sha256[:16]}
        return {"name": self.name, "path": str(self.path.resolve()), **self.settings.told(), **known}

    def __len__(self) -> int:
        return len(self.x)

    def read(self, rows: slice | Tensor) -> Batch:
        """Return the pictures of these rows, a slice or indices `[n]`, `[n, C, H, W]` uint8, with their labels."""
        x = self.x[rows].clone() if isinstance(rows, slice) else self.x.index_select(0, rows.cpu())
        return Batch(x, None if self.cond is None else self.cond.rows(rows))

    def take(self, rows: Tensor) -> Rows:
        """Return the source of some rows only, `[n]`."""
        return Rows(self, rows)

    def resident(self, device: torch.device, budget: float) -> Files:
        """Return the source as it is: it is mapped from the disk, of which the system keeps in memory what it can."""
        return self

    def __repr__(self) -> str:
        labels = f", {len(self.label_names)} labels" if self.label_names else ""
        return f"Files({self.path}, {len(self):,} x {list(self.shape)}{labels})"


def is_pictures(what: Any) -> bool:
    """Return whether a word names a folder or an archive of pictures."""
    if not isinstance(what, str | Path):
        return False
    try:
        return is_archive(Path(what)) or Path(what).is_dir()
    except (OSError, ValueError):  # of names that no file can have
        return False


# -- decoding ----------------------------------------------------------------------------------------------------------


@dataclass
class _Tally:
    """What is counted while pictures are decoded."""

    sizes: Counter[str] = field(default_factory=Counter)
    animated: int = 0
    skipped: dict[str, tuple[int, str]] = field(default_factory=dict)

    def skip(self, name: str, why: str) -> None:
        """Count a file that is left out."""
        count, first = self.skipped.get(why, (0, one_line(name, 80)))
        self.skipped[why] = (count + 1, first)


def _decode_all(
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
            tally.sizes[f"{picture.size[0]} x {picture.size[1]}"] += 1
            tally.animated += picture.animated
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
        (folder / _CAPTIONS).write_text(json.dumps(texts), encoding="utf-8")
        total.update("\0".join(texts).encode())
    found = {"shape": list(pixels.shape), "classes": list(classes), "sizes": dict(tally.sizes.most_common(20))}
    counted = {"n": len(names), "animated": tally.animated, "skipped": tally.skipped}
    counted |= {"uncaptioned": captions.troubles, "unlabelled": unlabelled}
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
