"""Distributions that can be drawn from as often as wanted, and points that cover the unit cube evenly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fromnoise.rng import stream

Points = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Distribution:
    """A distribution given by a map from the unit cube: x = points(u), u uniform in [0, 1]^dims.

    Independent u draw from it; u spread evenly (stratified along the first axis, a scrambled Sobol sequence along the
    others) cover it evenly.

    Attributes:
        points: `[n, dims]` float64 -> `[n, *S]` float64.
        dims: how many uniform numbers a sample takes.
        centres: where the distribution is a curve plus Gaussian jitter, the map u -> curve, `[n]` -> `[n, *S]`.
        jitter: the jitter's standard deviation.
        parts: for labelled data, the distribution of each label, all equally likely.
    """

    points: Points | None = None
    dims: int = 1
    centres: Points | None = None
    jitter: float = 0.0
    parts: tuple[Distribution, ...] = ()

    def draw(self, n: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """Return n independent samples `[n, *S]` float32 and their labels (None without parts)."""
        if self.parts:
            labels = torch.randint(len(self.parts), (n,), generator=stream(seed, "labels"))
            return self._gather(labels, lambda part, count, k: part.draw(count, _part_seed(seed, k))[0])
        assert self.points is not None
        u = torch.rand((n, self.dims), generator=stream(seed, "data"), dtype=torch.float64)
        return self.points(u).float(), None

    def draw_stratified(self, n: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """Return n stratified samples and their labels."""
        if self.parts:
            labels = torch.arange(n) * len(self.parts) // n
            return self._gather(labels, lambda part, count, k: part.draw_stratified(count, _part_seed(seed, k))[0])
        assert self.points is not None
        u = torch.empty((n, self.dims), dtype=torch.float64)
        u[:, 0] = (torch.arange(n, dtype=torch.float64) + 0.5) / n
        if self.dims > 1:
            u[:, 1:] = sobol(n, self.dims - 1, seed)
        return self.points(u).float(), None

    def only(self, part: int) -> Distribution:
        """Return the distribution of one label."""
        return self.parts[part]

    def _gather(self, labels: Tensor, draw: Callable[[Distribution, int, int], Tensor]) -> tuple[Tensor, Tensor]:
        drawn = [draw(part, int((labels == k).sum()), k) for k, part in enumerate(self.parts)]
        x = torch.empty((len(labels), *drawn[0].shape[1:]))
        for k, rows in enumerate(drawn):
            x[labels == k] = rows
        return x, labels


def _part_seed(seed: int, part: int) -> int:
    return (seed * 1_000_003 + part + 1) % 2**63


def sobol(n: int, dims: int, seed: int) -> Tensor:
    """Return n points of a scrambled Sobol sequence in the open unit cube, `[n, dims]` float64."""
    engine = torch.quasirandom.SobolEngine(dims, scramble=True, seed=seed % 2**31)
    return engine.draw(n, dtype=torch.float64).clamp(1e-12, 1 - 1e-12)


def normal_quantile(u: Tensor) -> Tensor:
    """Return the standard normal's quantiles, elementwise."""
    return torch.special.ndtri(u.clamp(1e-16, 1 - 1e-16))


def sobol_noise(n: int, shape: Sequence[int], seed: int = 0) -> Tensor:
    """Return n standard normal samples `[n, *S]` float32 that cover their distribution evenly (scrambled Sobol)."""
    dims = torch.Size(shape).numel()
    return normal_quantile(sobol(n, dims, seed)).reshape(n, *shape).float()
