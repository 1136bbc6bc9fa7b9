"""A training's own source: what a codec keeps of the samples, in memory, in the cache, or read as it is asked for."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fromnoise.cache import entry
from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner, prepare
from fromnoise.data.codec import Codec
from fromnoise.data.dataset import Dataset
from fromnoise.data.images import Files, Progress
from fromnoise.data.numbers import sum_of
from fromnoise.data.source import Source, cond_for, measured_rows
from fromnoise.data.views import Flipped, FromSmall, Rows, every_row

_TOGETHER = 256
"""How many samples a slow codec stores at a time."""


class Stored:
    """What a codec keeps of a source's samples.

    Args:
        source: read once, where all that is kept of it fits in the budget; else a batch at a time. What a slow codec
            keeps of it is mapped from the cache.
        codec: whose `store` is kept.
        conditioners: of the denoiser; conditions that these do not know are left out.
        budget: how many bytes may be kept.
    """

    def __init__(
        self, source: Source, codec: Codec, conditioners: Sequence[Conditioner] = (), budget: float = 2.0**31
    ) -> None:
        self._source, self._conditioners, self._count = source, tuple(conditioners), len(source)
        prepare(getattr(every_row(source), "cond", None), conditioners)
        first = codec.store(source.read(slice(0, 1)).x)
        self.device = first.device
        self._x: Tensor | None = None
        self._cond, self._knows_cond = getattr(source, "cond", None), False
        fits = first.nbytes * self._count <= budget
        if codec.store_key is not None:
            self._x = stored_of(source, codec)
            self._x = self._x.to(self.device) if fits else self._x
        elif fits:
            x, cond = source.read(slice(None))
            self._x, self._cond, self._knows_cond = codec.store(x), cond_for(cond, conditioners), True
        self.codec = codec.to(self.device)

    def __len__(self) -> int:
        return self._count

    def z(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return what the denoiser sees of rows `[n]`, `[n, *S]` float32; the codec may draw from the generator."""
        if self._x is not None:
            stored = self._x.index_select(0, rows.to(self._x.device)).to(self.device)
        else:
            stored = self.codec.store(self._source.read(rows).x)
        return self.codec.into(stored, generator)

    def cond(self, rows: Tensor) -> Cond | None:
        """Return the conditions of rows `[n]`, as far as the denoiser knows them."""
        if self._knows_cond:
            return None if self._cond is None else self._cond.rows(rows)
        if not self._conditioners:
            return None
        known = self._cond
        return cond_for(self._source.read(rows).cond if known is None else known.rows(rows), self._conditioners)


def stored_of(source: Source, codec: Codec, progress: Progress | None = None) -> Tensor:
    """Return what a codec keeps of all samples, `[N, ...]`.

    Where `store` is slow, that is done once: it is kept in the cache, by a sum of the samples and of the codec, and
    mapped from there. Of a source of the user's own, whose samples no sum is known of, nothing is cached.

    Args:
        source: the samples.
        codec: whose `store` is kept.
        progress: called with the samples done and those in all.
    """
    content = None if codec.store_key is None else _content(source)
    if content is None:
        return torch.cat([*_in_parts(source, codec, progress)])
    key = hashlib.sha256(json.dumps([1, codec.store_key, content], sort_keys=True).encode()).hexdigest()

    def make(folder: Path) -> dict[str, Any]:
        shape: list[int] = []
        with (folder / "stored.f32").open("wb") as file:
            for part in _in_parts(source, codec, progress):
                shape = list(part.shape[1:])
                file.write(part.cpu().float().numpy().tobytes())
        return {"shape": [len(source), *shape]}

    place, index = entry("stored", key, make)
    kept = np.memmap(place / "stored.f32", np.float32, "r", shape=tuple(index["shape"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the array cannot be written to: nothing here does
        return torch.from_numpy(kept)


def is_cached(source: Source, codec: Codec) -> bool:
    """Return whether what a codec keeps of these samples is kept in the cache."""
    return codec.store_key is not None and _content(source) is not None


def stored_samples(source: Source, codec: Codec, most: int) -> Tensor:
    """Return what a codec keeps of the samples that something is measured on, `[n, ...]`; see `source.samples`.

    Args:
        source: the samples.
        codec: whose `store` is wanted.
        most: how many numbers the samples may have together.
    """
    rows = measured_rows(source, most)
    if codec.store_key is not None:
        return stored_of(source, codec)[rows]
    return codec.store(source.read(rows).x)


def _in_parts(source: Source, codec: Codec, progress: Progress | None) -> Iterator[Tensor]:
    for first in range(0, len(source), _TOGETHER):
        part = codec.store(source.read(slice(first, first + _TOGETHER)).x)
        if progress is not None:
            progress(min(first + _TOGETHER, len(source)), len(source))
        yield part


def _content(source: Any) -> dict[str, Any] | None:
    """Return what tells samples from all others; None where that is not known."""
    if isinstance(source, Rows):
        base = _content(source.base)
        return None if base is None else {"of": base, "rows": sum_of([source.rows])}
    if isinstance(source, FromSmall):
        return _content(source.base)  # whose conditions are others, and its samples the same
    if isinstance(source, Flipped):
        base = _content(source.base)
        return None if base is None else {"of": base, "flipped": True}
    if isinstance(source, Dataset | Files):
        own = {key: value for key, value in source.identity.items() if key != "path"}
        return {**own, "shape": list(source.shape), "count": len(source)}
    return None
