"""A training's own source: what a codec keeps of the samples, in memory."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fromnoise.conditioners import Conditioner
from fromnoise.data.codec import Codec
from fromnoise.data.source import Source, cond_for


class Stored:
    """What a codec keeps of a source's samples, in memory.

    Args:
        source: read once.
        codec: whose `store` is kept.
        conditioners: of the denoiser; conditions that these do not know are left out.
    """

    def __init__(self, source: Source, codec: Codec, conditioners: Sequence[Conditioner] = ()) -> None:
        x, cond = source.read(slice(None))
        self.x = codec.store(x)
        self.codec = codec.to(self.x.device)
        self.cond = cond_for(cond, conditioners)

    def __len__(self) -> int:
        return len(self.x)

    def z(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return what the denoiser sees of rows `[n]`, `[n, *S]` float32; the codec may draw from the generator."""
        return self.codec.into(self.x.index_select(0, rows.to(self.x.device)), generator)
