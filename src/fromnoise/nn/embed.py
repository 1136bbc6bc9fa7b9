"""Embeddings of a network's inputs besides x: the time, a label, a condition vector.

Every embedding returns `[1, E]` when all rows share its input and `[B, E]` when each row has its own; both broadcast.
So the work that depends on time and label alone is done once a step, not once a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from fromnoise.cond import Cond
from fromnoise.guidance_cond import Scale

Scales = tuple[float, float]
"""The lowest and the highest guidance scale."""


def timestep(c_noise: float | Tensor, log_snr: Sequence[float] | None) -> float | Tensor:
    """Return the timestep k in 0..999 that a network of published layout is told.

    On a table c_noise is a step's index already. On a continuous schedule it is the log SNR, lambda, and
    k = 999 (lambda_max - lambda)/(lambda_max - lambda_min): the index in a table of 1,000 steps uniform in log SNR.

    Args:
        c_noise: what the denoiser tells its network, a float, `[]` or `[B]`.
        log_snr: lambda_max and lambda_min; None on a table.
    """
    if log_snr is None:
        return c_noise
    highest, lowest = log_snr
    return (highest - c_noise) * (999 / (highest - lowest))


class SinusoidalEmbedding(nn.Module):
    """sin and cos of t at geometrically falling frequencies, from 1 down to almost 1/period.

    freqs = exp(-ln(period) arange(half)/(half - shift)), [sin(t freqs), cos(t freqs)].
    Source: Vaswani et al. 2017, section 3.5, in the order of Ho et al. 2020's code (sin first, then cos), whose shift
    is 1.

    Args:
        width: of the embedding, an even number.
        period: see above.
        shift: see above; with 1 the lowest frequency is 1/period itself.
        cos_first: put the cosines first.
    """

    freqs: Tensor

    def __init__(self, width: int, period: float = 10_000.0, *, shift: float = 0.0, cos_first: bool = False) -> None:
        super().__init__()
        half, self.cos_first = width // 2, cos_first
        freqs = torch.arange(half, dtype=torch.float64).mul_(-math.log(period)).div_(half - shift).exp_()
        self.register_buffer("freqs", freqs.float(), persistent=False)
        self._known: dict[tuple[float, torch.dtype, torch.device], Tensor] = {}

    def forward(self, t: float | Tensor, like: Tensor | None = None) -> Tensor:
        """Embed times, a float, `[]` or `[B]`, as `[1, E]` or `[B, E]`, in the dtype of `like`.

        Nothing here is learned, so the embedding of a float, the time of a sampler, is cached.
        """
        if isinstance(t, Tensor):
            angles = t.reshape(-1, 1).to(self.freqs if like is None else like) * self.freqs
            parts = [angles.sin(), angles.cos()]
            return torch.cat(parts[::-1] if self.cos_first else parts, dim=1)
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
        std: of the table's first values. With a small one a picture's label goes unheard for the first thousand steps.
        guidance: the lowest and highest guidance scale; None for none.
    """

    def __init__(
        self, width: int, classes: int = 0, dim: int = 0, *, std: float = 0.02, guidance: Scales | None = None
    ) -> None:
        super().__init__()
        self.table = nn.Embedding(classes + 1, width)
        nn.init.normal_(self.table.weight, std=std)
        self.vector = nn.Linear(dim, width, bias=False) if dim else None
        self.guidance = None if guidance is None else ScaleEmbedding(width, guidance)

    def forward(self, cond: Cond | None) -> Tensor:
        """Embed a condition of one row as `[1, E]`, of B rows as `[B, E]`."""
        e = embed_given(cond, {"label": self.table, "vector": self.vector}, self.table.weight[-1:])
        return e if self.guidance is None else e + self.guidance(cond)


class ScaleEmbedding(nn.Module):
    """V [cos(0), cos(pi u), cos(2 pi u), ...]: a cosine series of a guidance scale, u from 0 at the lowest to 1.

    V starts at 0, so that a network that is told a scale starts as the same network without. Where no scale is given it
    is the nearest to 1.

    Args:
        width: E, the length of the embedding.
        scales: the lowest and the highest.
        terms: of the series.
    """

    def __init__(self, width: int, scales: Scales, terms: int = 16) -> None:
        super().__init__()
        self.known, self.terms = Scale(*scales), terms
        self.series = nn.Linear(terms, width, bias=False)
        nn.init.zeros_(self.series.weight)

    def forward(self, cond: Cond | None) -> Tensor:
        """Embed the scale of a condition of one row as `[1, E]`, of B rows as `[B, E]`."""
        weight, known = self.series.weight, self.known
        scale = None if cond is None else cond.values.get(known.value)
        scale = weight.new_full((1,), known.usual) if scale is None else scale.to(weight)
        u = (scale - known.low) / ((known.high - known.low) or 1.0)
        return self.series(torch.cos(math.pi * u[:, None] * torch.arange(self.terms, device=u.device)))


def embed_given(cond: Cond | None, known: Mapping[str, Callable[[Tensor], Tensor] | None], null: Tensor) -> Tensor:
    """Return the sum of the embeddings of what a condition gives, `[1, E]` or `[B, E]`.

    Args:
        cond: the condition.
        known: what embeds each of its values by name; None for what this network does not take.
        null: the embedding of a row of which nothing is given, `[1, E]`.
    """
    given = [name for name, embed in known.items() if cond is not None and embed and name in cond.values]
    if cond is None or not given:
        return null
    parts = [(embed(cond.values[name]), cond.mask(name)) for name, embed in known.items() if name in given and embed]
    row = reduce(torch.add, [part if mask is None else part * mask[:, None] for part, mask in parts])
    masks = [mask for _, mask in parts if mask is not None]
    if len(masks) < len(parts):
        return row
    return torch.where(torch.stack(torch.broadcast_tensors(*masks)).any(0)[:, None], row, null)
