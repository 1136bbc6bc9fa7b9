"""Real pictures for the benchmark, read from an archive: `PICTURES` of them, evenly picked from the sorted names."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

PICTURES = 1000
_SUFFIXES = (".png", ".jpg", ".jpeg")

Shape = tuple[int, int, int]
"""Channels, height, width."""


class NoPictures(Exception):
    """No archive of pictures of the wanted shape was given."""


def read(archives: list[Path], shape: Shape) -> Tensor:
    """Return 1,000 pictures with values in [-1, 1], their mean removed, as `[1000, C H W]`.

    Raises:
        NoPictures: if no archive holds pictures of this shape, or one holds too few.
    """
    for archive in archives:
        if _shape(next(iter(_files(archive, 1)))) == shape:
            files = list(_files(archive, PICTURES))
            if len(files) < PICTURES:
                raise NoPictures(f"{archive.name} holds {len(files)} pictures, and {PICTURES:,} are wanted")
            pixels = np.stack([_pixels(file) for file in files])
            pictures = torch.from_numpy(pixels).double().flatten(1) / 127.5 - 1
            return pictures - pictures.mean(0)
    channels, height, width = shape
    raise NoPictures(
        f"needs pictures of {height} x {width} pixels with {channels} channel{'s' * (channels > 1)}: "
        "give an archive (.tar, .tar.gz, .zip) with --data FILE"
    )


def _files(archive: Path, count: int) -> list[bytes]:
    """Return `count` of an archive's pictures, evenly picked from the sorted names; all, where there are fewer."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            return [file.read(name) for name in _picked(file.namelist(), count)]
    with tarfile.open(archive) as file:
        members = {member.name: member for member in file if member.isfile()}
        chosen = _picked(list(members), count)
        found = {name: file.extractfile(members[name]) for name in sorted(chosen, key=lambda n: members[n].offset)}
        contents = {name: opened.read() for name, opened in found.items() if opened is not None}
        return [contents[name] for name in chosen]


def _picked(names: list[str], count: int) -> list[str]:
    pictures = sorted(name for name in names if name.lower().endswith(_SUFFIXES))
    count = min(count, len(pictures))
    return [pictures[k * len(pictures) // count] for k in range(count)]


def _shape(file: bytes) -> Shape:
    channels, height, width = _pixels(file).shape
    return channels, height, width


def _pixels(file: bytes) -> np.ndarray:
    """Return a picture's bytes, `[C, H, W]`."""
    pixels = np.asarray(Image.open(io.BytesIO(file)))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
