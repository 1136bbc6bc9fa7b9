"""Embeddings of a network's inputs besides x: the time, a label, a condition vector.

Every embedding returns `[1, E]` when all rows share its input and `[B, E]` when each row has its own; both broadcast.
So the work that depends on time and label alone is done once a step, not once a row.
"""

from __future__ import annotations

import math
from functools import reduce

import torch
from torch import Tensor, nn

from fromnoise.cond import Cond


class SinusoidalEmbedding(nn.Module):
    """sin and cos of t at geometrically falling frequencies, from 1 down to almost 1/period.

    freqs = exp(-ln(period) arange(half)/half), [sin(t freqs), cos(t freqs)].
    Source: Vaswani et al. 2017, section 3.5, in the order of Ho et al. 2020's code (sin first, then cos).
    """

    freqs: Tensor

    def __init__(self, width: int, period: float = 10_000.0) -> None:
        super().__init__()
        half = width // 2
        freqs = torch.arange(half, dtype=torch.float64).mul_(-math.log(period)).div_(half).exp_()
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
        self.register_buffer("weight", torch.randn(count, dim).mul_(2 * math.pi * scale))

    def forward(self, x: Tensor) -> Tensor:
        """Map `[B, D]` to `[B, D + 2 count]`."""
        angles = torch.nn.functional.linear(x, self.weight)
        return torch.cat([x, angles.sin(), angles.cos()], dim=1)


class Condition(nn.Module):
    """table[label] + V vector: the embedding of a label and of a condition vector, as far as they are given.

    A row of which nothing is given has the last row of the table ("the null row"), which is learned like the others:
    so one network works with and without conditions.

    Args:
        width: E, the length of the embedding.
        classes: the number of labels; 0 for none.
        dim: the length of a condition vector; 0 for none.
    """

    def __init__(self, width: int, classes: int = 0, dim: int = 0) -> None:
        super().__init__()
        self.table = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.table.weight, std=0.02)
        self.vector = nn.Linear(dim, width, bias=False) if dim else None

    def forward(self, cond: Cond | None) -> Tensor:
        """Embed a condition of one row as `[1, E]`, of B rows as `[B, E]`."""
        null = self.table.weight[-1:]
        known = {"label": self.table, "vector": self.vector}
        given = [name for name, embed in known.items() if cond is not None and embed and name in cond.values]
        if cond is None or not given:
            return null
        parts = [(known[name](cond.values[name]), cond.mask(name)) for name in given]
        row = reduce(torch.add, [part if mask is None else part * mask[:, None] for part, mask in parts])
        masks = [mask for _, mask in parts if mask is not None]
        if len(masks) < len(parts):
            return row
        return torch.where(torch.stack(torch.broadcast_tensors(*masks)).any(0)[:, None], row, null)
