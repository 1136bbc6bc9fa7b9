"""Distances of pictures in a space of features, as functions of features `[n, d]` alone.

What a feature space is decides what its distances mean, so their names say which it was: "Frechet distance (classifier
features)". With n samples a Frechet distance is biased, by about 1/n; a distance and its floor are taken at one n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from fromnoise.data.numbers import as_samples
from fromnoise.data.source import Source
from fromnoise.errors import InputError
from fromnoise.rng import stream


@runtime_checkable
class Features(Protocol):
    """What maps pictures to features. Of the user's own a function with a `name` is enough."""

    @property
    def name(self) -> str:
        """What stands in the names of its distances."""
        ...

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features `[n, d]` of samples `[n, *S]` in the data's own units."""
        ...


@dataclass(frozen=True, eq=False)
class PixelComponents:
    """The coordinates along the directions in which pixels vary most, their principal components.

    Their unit is their own root mean square about the mean, so that over all of them their mean variance is 1.

    Attributes:
        mean: of the pixels, `[D]`.
        axes: the directions, `[d, D]` float64, orthogonal and equally long.
    """

    mean: Tensor
    axes: Tensor
    name: str = "pixel components"

    @classmethod
    def fitted(cls, source: Source, count: int = 64) -> PixelComponents:
        """Return the first `count` components of a source; of all its pixels where these are fewer.

        They are measured on 10,000 of its samples, always the same, where it has more.
        """
        rows = torch.randperm(len(source), generator=stream(0, "components"))[:_ROWS]
        x = source.read(rows).x.flatten(1).double()
        mean = x.mean(0)
        _, lengths, axes = torch.linalg.svd(x - mean, full_matrices=False)
        rms = lengths[:count].square().mean().div(len(x)).sqrt()
        return cls(mean, axes[:count] / (rms if rms > 0 else 1.0))

    def __call__(self, x: Tensor) -> Tensor:
        return (x.cpu().flatten(1).double() - self.mean) @ self.axes.T


_ROWS = 10_000


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Return |m_a - m_b|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), of the sets' means and covariances.

    Args:
        a: features `[n, d]`.
        b: features `[m, d]`.

    Raises:
        InputError: if a set has fewer than two members.

    Source: Heusel et al. 2017, eq. 6 (there on Inception's features, which these are not).
    """
    a, b = _checked(a, b)
    first, second = (torch.cov(x.T).reshape(x.shape[1], -1) for x in (a, b))
    values, vectors = torch.linalg.eigh(first)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    both = torch.linalg.eigvalsh(root @ second @ root).clamp(min=0).sqrt().sum()
    squared = (a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * both
    return max(float(squared), 0.0)


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Return the squared maximum mean discrepancy under the kernel (x . y/d + 1)^3, without bias; it may be negative.

    Args:
        a: features `[n, d]`.
        b: features `[m, d]`.

    Source: Binkowski et al. 2018, section 3 (there on Inception's features, which these are not).
    """
    a, b = _checked(a, b)
    n, m = len(a), len(b)
    own = (_sum(a, a) - _diagonal(a)) / (n * (n - 1)) + (_sum(b, b) - _diagonal(b)) / (m * (m - 1))
    return own - 2 * _sum(a, b) / (n * m)


def _sum(a: Tensor, b: Tensor) -> float:
    """Return the sum of the kernel over all pairs."""
    rows = max(1, 4_000_000 // len(b))
    return sum(float((part @ b.T / a.shape[1] + 1).pow(3).sum()) for part in a.split(rows))


def _diagonal(a: Tensor) -> float:
    return float((a.square().sum(1) / a.shape[1] + 1).pow(3).sum())


def manifold_precision_recall(samples: Tensor, data: Tensor, *, neighbours: int = 5) -> tuple[float, float]:
    """Return the fraction of samples that lie among the data, and of data that lie among the samples.

    A point lies among a set if it is closer to some member than that member's k-th neighbour in the set.

    Args:
        samples: features `[n, d]`.
        data: features `[m, d]`.
        neighbours: k.

    Source: Kynkaanniemi et al. 2019, eq. 2-3.
    """
    x, y = (part.float() for part in _checked(samples, data))
    if min(len(x), len(y)) <= neighbours:
        raise InputError(f"precision and recall need more than {neighbours} samples on each side")
    return _among(x, y, neighbours), _among(y, x, neighbours)


def _among(points: Tensor, members: Tensor, k: int) -> float:
    rows = max(1, 16_000_000 // len(members))
    radius = torch.cat([torch.cdist(part, members).kthvalue(k + 1).values for part in members.split(rows)])
    inside = [(torch.cdist(part, members) <= radius).any(1) for part in points.split(rows)]
    return float(torch.cat(inside).double().mean())


def _checked(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Return two sets of features, `[n, d]` and `[m, d]` float64."""
    a, b = (as_samples(x).cpu().double() for x in (a, b))
    if a.dim() != 2 or b.dim() != 2 or a.shape[1] != b.shape[1]:
        raise InputError(f"features must be [n, d] with one d, not {list(a.shape)} and {list(b.shape)}")
    if min(len(a), len(b)) < 2:
        raise InputError("a distance of features needs two samples on each side")
    return a, b
