"""The two kinds of Gaussian components, N(m_k, S_k) for k in 1..K, with one interface.

`Round` components have S_k = v_k I, `Full` ones any covariance, kept by its eigenvectors, S_k = V_k diag(l_k) V_k^T.
Noise at scales alpha and sigma makes each N(alpha m_k, C_k), C_k = alpha^2 S_k + sigma^2 I. Rows are `[b, D]`, scales
floats, `[]` or `[b, 1]`, responsibilities r `[b, K]`, weights w `[K]`.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fromnoise.data.moments import mean_and_variance, trace_of_square
from fromnoise.exact.means import SMALL, Means

Column: TypeAlias = Any
"""A scale for a block of rows: a float, `[]`, or `[b, 1]`, as floats and columns broadcast alike."""

_BLOCK = 2**19
"""How many pairs (row, component) are in memory at once: what fits the cache."""

_LARGE_BLOCK = 2**22
"""The same above 16 dimensions, where reading the components costs more than the pairs do."""

_NATS = 60.0
"""Components so far below the best, e^-60 of its weight, need no better distance than a matrix product's."""


@dataclass(frozen=True, eq=False)
class Round:
    """Components N(m_k, v_k I).

    Attributes:
        points: the means.
        variances: v_k, `[K]`; 0 for points.
    """

    points: Means
    variances: Tensor

    axes = None

    @property
    def pairs(self) -> int:
        """How many pairs (row, component) to take at once."""
        return _LARGE_BLOCK if self.points.flat.shape[1] > SMALL else _BLOCK

    @functools.cached_property
    def are_points(self) -> bool:
        """Whether every variance is 0."""
        return not bool(self.variances.any())

    def to(self, dtype: torch.dtype) -> Round:
        """Return them in another precision; a large set stays as it is and is converted part by part."""
        return Round(self.points.to(dtype), self.variances.to(dtype))

    def take(self, keep: Tensor) -> Round:
        """Return some of them."""
        return Round(self.points.take(keep), self.variances[keep])

    def noised(self, alpha: float, sigma: float) -> Round:
        """Return N(alpha m_k, (alpha^2 v_k + sigma^2) I)."""
        return Round(Means(alpha * self.points.flat), alpha**2 * self.variances + sigma**2)

    def draw(self, k: Tensor, noise: Tensor) -> Tensor:
        """Return m_k + sqrt(v_k) noise, k `[n]` and noise `[n, D]`."""
        return self.points.flat[k] + self.variances[k, None].sqrt() * noise

    def log_joint(self, rows: Tensor, alpha: Column, sigma: Column, log_weights: Tensor) -> Tensor:
        """Return log(w_k N(x; alpha m_k, C_k)), log_weights `[K]` or `[b, K]`; float64 above 16 dimensions."""
        variances, d = self.variances, rows.shape[1]
        if d > SMALL:
            alpha, sigma, variances = (v.double() if isinstance(v, Tensor) else v for v in (alpha, sigma, variances))
        total = alpha**2 * variances + sigma**2  # [K] or [b, K]
        total = total.clamp(min=torch.finfo(rows.dtype).tiny * 1e6)
        logs = self.points.square_distances(rows, alpha).div_(-2 * total)
        logs = logs + (log_weights - 0.5 * d * torch.log(2 * math.pi * total))
        return logs if d <= SMALL else self._refined(logs, rows, alpha, total, log_weights)

    def _refined(self, logs: Tensor, rows: Tensor, alpha: Column, total: Tensor, log_weights: Tensor) -> Tensor:
        """Return the logs `[b, K]` with those that matter computed again, where their distances were too coarse."""
        doubt = self.points.error(rows, alpha) / (2 * total.amin(-1, keepdim=True))  # in nats, [b, 1]
        # a sum of D squares, each about the variance, is itself wrong by about eps D^1.5 / 2 nats
        enough = max(1e-10, 4 * torch.finfo(torch.float64).eps * rows.shape[1] ** 1.5)
        coarse = doubt > (enough if rows.dtype == torch.float64 else 1e-5)
        if not bool(coarse.any()):
            return logs
        near = logs >= logs.amax(1, keepdim=True) - _NATS - 2 * doubt
        which = (near & coarse).nonzero()
        row, k = which.unbind(1)
        total, log_weights = total.expand_as(logs)[row, k], log_weights.expand_as(logs)[row, k]
        square = self.points.by_differences(rows, alpha, which)
        log_normal = -0.5 * (square / total + rows.shape[1] * torch.log(2 * math.pi * total))
        return logs.index_put((row, k), log_weights + log_normal)

    def score(self, r: Tensor, rows: Tensor) -> Tensor:
        """Return sum_k r_k (m_k - x)/v_k."""
        r = r / self.variances
        return self.points.mix(r) - r.sum(1, keepdim=True) * rows

    def posterior_mean(self, r: Tensor, rows: Tensor, alpha: Column, sigma: Column) -> Tensor:
        """Return sum_k r_k (shrink_k m_k + gain_k x)."""
        if self.are_points:
            return self.points.mix(r)
        shrink, gain = self.shrink_and_gain(alpha, sigma)
        return self.points.mix(r * shrink) + (r * gain).sum(1, keepdim=True) * rows

    def posterior_variance(self, r: Tensor, rows: Tensor, alpha: Column, sigma: Column) -> Tensor:
        """Return the posterior's variance of each coordinate: E[mean_k^2] - E[mean_k]^2 + E[shrink_k v_k]."""
        shrink, gain = self.shrink_and_gain(alpha, sigma)
        mean = self.points.mix(r * shrink) + (r * gain).sum(1, keepdim=True) * rows
        second = self.points.mix(r * shrink**2, 2) + (r * gain**2).sum(1, keepdim=True) * rows.square()
        second = second + 2 * self.points.mix(r * shrink * gain) * rows
        within = (r * shrink) @ self.variances.to(r)
        return (second - mean.square()).clamp(min=0) + within[:, None]

    def shrink_and_gain(self, alpha: Column, sigma: Column) -> tuple[Tensor, Tensor]:
        """Return what a component's posterior mean takes of m_k and of x_t, `[K]` or `[b, K]` each.

        gain = alpha v_k/(alpha^2 v_k + sigma^2), shrink = 1 - alpha gain.
        """
        total = alpha**2 * self.variances + sigma**2
        gain = alpha * self.variances / total.clamp(min=torch.finfo(total.dtype).tiny)
        return 1 - alpha * gain, gain

    def mean_and_variance(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixture's mean and each coordinate's variance, `[D]` float64."""
        mean, variance = mean_and_variance(self.points.flat, w.double())
        return mean, variance + w.double() @ self.variances.double()

    def covariance(self, w: Tensor, mean: Tensor) -> Tensor:
        """Return the mixture's covariance, sum_k w_k ((m_k - mean)(m_k - mean)^T + v_k I), `[D, D]`."""
        between = self.points.covariance(w, mean)
        between.diagonal().add_(w @ self.variances)
        return between

    def trace_of_square(self, w: Tensor, mean: Tensor, trace: Tensor) -> Tensor:
        """Return tr (B + v I)^2 = tr B^2 + 2 v tr B + D v^2, B the means' covariance; tr (B + v I) is given."""
        w, d = w.double(), len(mean)
        v = w @ self.variances.double()
        return trace_of_square(self.points.flat, mean, w) + 2 * v * (trace - d * v) + d * v**2


@dataclass(frozen=True, eq=False)
class Full:
    """Components N(m_k, V_k diag(l_k) V_k^T).

    Attributes:
        points: the means.
        axes: l_k `[K, D]` and V_k `[K, D, D]`, an eigenvector in each column.
    """

    points: Means
    axes: tuple[Tensor, Tensor]

    variances = None
    are_points = False

    @property
    def pairs(self) -> int:
        """How many pairs (row, component) to take at once."""
        return _BLOCK // self.points.flat.shape[1]

    def to(self, dtype: torch.dtype) -> Full:
        """Return them in another precision."""
        return Full(self.points.to(dtype), (self.axes[0].to(dtype), self.axes[1].to(dtype)))

    def take(self, keep: Tensor) -> Full:
        """Return some of them."""
        return Full(self.points.take(keep), (self.axes[0][keep], self.axes[1][keep]))

    def noised(self, alpha: float, sigma: float) -> Full:
        """Return N(alpha m_k, V_k diag(alpha^2 l_k + sigma^2) V_k^T)."""
        values, vectors = self.axes
        return Full(Means(alpha * self.points.flat), (alpha**2 * values + sigma**2, vectors))

    def draw(self, k: Tensor, noise: Tensor) -> Tensor:
        """Return m_k + V_k sqrt(l_k) noise, k `[n]` and noise `[n, D]`."""
        values, vectors = self.axes
        return self.points.flat[k] + torch.einsum("bde,be->bd", vectors[k], values[k].sqrt() * noise)

    def log_joint(self, rows: Tensor, alpha: Column, sigma: Column, log_weights: Tensor) -> Tensor:
        """Return log(w_k N(x; alpha m_k, C_k)), log_weights `[K]` or `[b, K]`."""
        off, total, _ = self._along_axes(rows, alpha, sigma)
        return log_weights - 0.5 * (off.square() / total + torch.log(2 * math.pi * total)).sum(2)

    def score(self, r: Tensor, rows: Tensor) -> Tensor:
        """Return sum_k r_k S_k^{-1} (m_k - x)."""
        off, total, _ = self._along_axes(rows, 1.0, 0.0)
        return -torch.einsum("bk,kde,bke->bd", r, self.axes[1], off / total)

    def posterior_mean(self, r: Tensor, rows: Tensor, alpha: Column, sigma: Column) -> Tensor:
        """Return sum_k r_k (m_k + alpha S_k C_k^{-1} (x - alpha m_k))."""
        values, vectors = self.axes
        off, total, a = self._along_axes(rows, alpha, sigma)
        return self.points.mix(r) + torch.einsum("bk,kde,bke->bd", r, vectors, a * values / total * off)

    def posterior_variance(self, r: Tensor, rows: Tensor, alpha: Column, sigma: Column) -> Tensor:
        """Return the posterior's variance of each coordinate: that between the components' means, and that within."""
        values, vectors = self.axes
        off, total, a = self._along_axes(rows, alpha, sigma)
        means = self.points.flat.to(rows) + torch.einsum("kde,bke->bkd", vectors, a * values / total * off)
        between = means - torch.einsum("bk,bkd->bd", r, means)[:, None]
        within = (values - a * a * values * values / total).clamp(min=0).expand_as(off)
        within = torch.einsum("bk,kde,bke->bd", r, vectors.square(), within)
        return within + torch.einsum("bk,bkd->bd", r, between.square())

    def _along_axes(self, rows: Tensor, alpha: Column, sigma: Column) -> tuple[Tensor, Tensor, Any]:
        """Return x - alpha m_k along the components' axes `[b, K, D]`, the variances there, and alpha to go with."""
        values, vectors = self.axes
        a, s = (v[..., None] if isinstance(v, Tensor) else v for v in (alpha, sigma))
        off = torch.einsum("kde,bkd->bke", vectors, rows[:, None] - a * self.points.flat.to(values))
        return off, a**2 * values + s**2, a

    def mean_and_variance(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mixture's mean and each coordinate's variance, `[D]` float64."""
        values, vectors = (part.double() for part in self.axes)
        mean, variance = mean_and_variance(self.points.flat, w.double())
        return mean, variance + torch.einsum("k,kde,ke->d", w.double(), vectors.square(), values)

    def covariance(self, w: Tensor, mean: Tensor) -> Tensor:
        """Return the mixture's covariance, sum_k w_k ((m_k - mean)(m_k - mean)^T + S_k), `[D, D]`."""
        values, vectors = self.axes
        return self.points.covariance(w, mean) + torch.einsum("k,kde,ke,kfe->df", w, vectors, values, vectors)

    def trace_of_square(self, w: Tensor, mean: Tensor, trace: Tensor) -> Tensor:
        """Return tr C^2 of the mixture's covariance C, whose trace is given."""
        return self.to(torch.float64).covariance(w.double(), mean).square().sum()


Components: TypeAlias = Round | Full
