"""A training's own source: what a codec keeps of the samples, in memory, or read as it is asked for."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner
from fromnoise.data.codec import Codec
from fromnoise.data.source import Source, cond_for


class Stored:
    """What a codec keeps of a source's samples.

    Args:
        source: read once, where all that is kept of it fits in the budget; else a batch at a time.
        codec: whose `store` is kept.
        conditioners: of the denoiser; conditions that these do not know are left out.
        budget: how many bytes may be kept.
    """

    def __init__(
        self, source: Source, codec: Codec, conditioners: Sequence[Conditioner] = (), budget: float = 2.0**31
    ) -> None:
        self._source, self._conditioners, self._count = source, tuple(conditioners), len(source)
        first = codec.store(source.read(slice(0, 1)).x)
        self.device = first.device
        self._kept: tuple[Tensor, Cond | None] | None = None
        if first.nbytes * self._count <= budget:
            x, cond = source.read(slice(None))
            self._kept = codec.store(x), cond_for(cond, conditioners)
        self.codec = codec.to(self.device)

    def __len__(self) -> int:
        return self._count

    def z(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return what the denoiser sees of rows `[n]`, `[n, *S]` float32; the codec may draw from the generator."""
        if self._kept is not None:
            stored = self._kept[0].index_select(0, rows.to(self.device))
        else:
            stored = self.codec.store(self._source.read(rows).x)
        return self.codec.into(stored, generator)

    def cond(self, rows: Tensor) -> Cond | None:
        """Return the conditions of rows `[n]`, as far as the denoiser knows them."""
        if self._kept is not None:
            return None if self._kept[1] is None else self._kept[1].rows(rows)
        known = getattr(self._source, "cond", None)
        return cond_for(self._source.read(rows).cond if known is None else known.rows(rows), self._conditioners)
