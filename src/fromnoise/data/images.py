"""Pictures in folders and archives, as a source: decoded once, kept in the cache, read from there by number."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fromnoise.cache import entry
from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner, Labels
from fromnoise.data.archive import ENDINGS, fingerprint, is_archive, is_run
from fromnoise.data.captions import Captioning
from fromnoise.data.decode import Decoder
from fromnoise.data.decoding import CAPTIONS, Found, Progress, decode_all
from fromnoise.data.pixels import suggested_for
from fromnoise.data.source import Batch
from fromnoise.data.views import Rows, Seen
from fromnoise.errors import InputError
from fromnoise.text_cond import with_captions
from fromnoise.text_features import EncodedText

_LAYOUT = 4
"""Of the cache's entries; another number is another entry."""


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
            "pictures", key, lambda folder: decode_all(self.path, decoder, folder, self.settings, progress)
        )
        self.found = Found.of(index)
        if self.settings.strict and self.found.uncaptioned:
            raise InputError(f"{self.path}: {self.found.captions_text}: mend them, or leave --strict out")
        if self.settings.strict and self.found.skipped:
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
        if (place / CAPTIONS).exists():
            self.captions = tuple(json.loads((place / CAPTIONS).read_text(encoding="utf-8")))
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
