"""Embeddings of a network's inputs besides x: the time, a label, a condition vector.

Every embedding returns `[1, E]` when all rows share its input and `[B, E]` when each row has its own; both broadcast.
So the work that depends on time and label alone is done once a step, not once a row.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class SinusoidalEmbedding(nn.Module):
    """sin and cos of t at geometrically falling frequencies, from 1 down to almost 1/period.

    freqs = exp(-ln(period) arange(half)/half), [sin(t freqs), cos(t freqs)].
    Source: Vaswani et al. 2017, section 3.5, in the order of Ho et al. 2020's code (sin first, then cos).
    """

    freqs: Tensor

    def __init__(self, width: int, period: float = 10_000.0) -> None:
        super().__init__()
        half = width // 2
        freqs = torch.exp(-math.log(period) * torch.arange(half, dtype=torch.float64) / half)
        self.register_buffer("freqs", freqs.float(), persistent=False)
        self._known: dict[tuple[float, torch.dtype, torch.device], Tensor] = {}

    def forward(self, t: float | Tensor, like: Tensor | None = None) -> Tensor:
        """Embed times, a float, `[]` or `[B]`, as `[1, E]` or `[B, E]`, in the dtype of `like`.

        Nothing here is learned, so the embedding of a float, the time of a sampler, is cached.
        """
        if isinstance(t, Tensor):
            angles = t.reshape(-1, 1).to(self.freqs if like is None else like) * self.freqs
            return torch.cat([angles.sin(), angles.cos()], dim=1)
        dtype = self.freqs.dtype if like is None else like.dtype
        key = (t, dtype, self.freqs.device)
        if key not in self._known:
            if len(self._known) > 4096:
                self._known.clear()
            with torch.inference_mode(False):
                self._known[key] = self(torch.tensor(t, dtype=dtype, device=self.freqs.device))
        return self._known[key]


class FourierFeatures(nn.Module):
    """x and the sin and cos of random projections of x, with which a small network can represent fine detail.

    [x, sin(2 pi W x), cos(2 pi W x)], W ~ N(0, scale^2) fixed. Source: Tancik et al. 2020, section 5.
    """

    weight: Tensor

    def __init__(self, dim: int, count: int, scale: float) -> None:
        super().__init__()
        self.register_buffer("weight", 2 * math.pi * scale * torch.randn(count, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, D]` to `[B, D + 2 count]`."""
        angles = torch.nn.functional.linear(x, self.weight)
        return torch.cat([x, angles.sin(), angles.cos()], dim=1)


class Condition(nn.Module):
    """A condition as a vector: a row of a table for a label, a linear map for a condition vector, or nothing.

    The absence of a condition has a row of its own, the last of the table ("the null row"), so that one network works
    with and without conditions. cond = None selects it for every row, label `classes` for one row of a batch of labels,
    and a vector that contains a NaN for one row of a batch of vectors.

    Args:
        width: E, the length of the embedding.
        classes: the number of labels; 0 for none.
        dim: the length of a condition vector; 0 for none.
    """

    def __init__(self, width: int, classes: int = 0, dim: int = 0) -> None:
        super().__init__()
        self.classes = classes
        self.table = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.vector = nn.Linear(dim, width, bias=False) if dim else None

    def forward(self, cond: Tensor | None) -> Tensor:
        """Embed labels `[]`, `[B]` or vectors `[D]`, `[B, D]` as `[1, E]` or `[B, E]`."""
        null = self.table.weight[-1:]
        if cond is None:
            return null
        if not cond.is_floating_point():
            return self.table(cond.reshape(-1))
        if self.vector is None:
            raise TypeError("this network takes labels (whole numbers), not condition vectors")
        rows = cond.reshape(-1, cond.shape[-1])
        absent = rows.isnan().any(dim=1, keepdim=True)
        return torch.where(absent, null, self.vector(rows.nan_to_num(0.0)))
