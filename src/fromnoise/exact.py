"""Exact answers: for a finite set or a mixture of Gaussians the best possible denoiser is known.

A mixture p(x0) = sum_k w_k N(m_k, S_k) stays a mixture under noise, with means alpha m_k and covariances
C_k = alpha^2 S_k + sigma^2 I (`GaussianMixture.noised`). So, with the responsibilities r_k(x_t) of its components,

    log p_t(x_t) = log sum_k w_k N(x_t; alpha m_k, C_k)
    score        = sum_k r_k C_k^{-1} (alpha m_k - x_t)
    E[x0 | x_t]  = sum_k r_k (m_k + alpha S_k C_k^{-1} (x_t - alpha m_k))

A finite set is the mixture with S_k = 0. Rows are taken in blocks, so that 100,000 points need no matrix of
100,000 x 100,000. Small dimensions are computed by differences, which stay exact when sigma is small; large ones by a
matrix product in float64.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fromnoise.arrays import Cond, Scale, Time
from fromnoise.data.dataset import Dataset, Distribution, Scaling, find_label
from fromnoise.denoiser import DenoiserLike
from fromnoise.errors import InputError, LabelError
from fromnoise.rng import stream
from fromnoise.schedule import Schedule

Column: TypeAlias = Any
"""A scale for a block of rows: a float, `[]`, or `[b, 1]`, as floats and columns broadcast alike."""

_BLOCK = 2**19
"""How many pairs (row, component) are in memory at once: what fits the cache."""


class GaussianMixture:
    """A mixture of Gaussians, perhaps with a label on each component.

    Args:
        means: `[K, *S]`.
        std: the components' standard deviation, one float or `[K]`. Give this or `covariances`.
        covariances: `[K, D, D]`, D the size of a sample.
        weights: `[K]`, in any unit; equal when not given.
        labels: `[K]` in 0..classes-1, or None.
        label_names: one for each class.
        note: what this law stands for, for captions.

    Raises:
        InputError: if shapes do not fit or a covariance is not positive semidefinite.
    """

    def __init__(
        self,
        means: Tensor,
        std: float | Tensor | None = None,
        *,
        covariances: Tensor | None = None,
        weights: Tensor | None = None,
        labels: Tensor | None = None,
        label_names: Sequence[str] = (),
        note: str = "the mixture",
    ) -> None:
        if means.dim() < 2 or len(means) == 0:
            raise InputError(f"means must be [K, *S] with K at least 1, not of shape {list(means.shape)}")
        if (std is None) == (covariances is None):
            raise InputError("give a mixture either std or covariances")
        self.means = means
        self.shape = tuple(means.shape[1:])
        self.flat = means.flatten(1)  # [K, D]
        k, d = self.flat.shape
        self.variances: Tensor | None = None  # [K], of round components
        self.axes: tuple[Tensor, Tensor] | None = None  # eigenvalues [K, D] and eigenvectors [K, D, D]
        if covariances is None:
            self.variances = torch.as_tensor(std, dtype=means.dtype, device=means.device).square().expand(k)
        else:
            if covariances.shape != (k, d, d):
                raise InputError(f"covariances must be [{k}, {d}, {d}], not {list(covariances.shape)}")
            values, vectors = torch.linalg.eigh(covariances.to(means.dtype))
            if values.min() < -1e-6 * values.abs().max():
                raise InputError(f"covariances must be positive semidefinite; the least eigenvalue is {values.min()}")
            self.axes = values.clamp(min=0), vectors
        weights = means.new_ones(k) if weights is None else weights.to(means)
        self.log_weights = (weights / weights.sum()).log()
        self.labels = labels
        self.label_names = tuple(label_names)
        self.note = note
        self._others: dict[torch.dtype, GaussianMixture] = {}

    # -- the law itself ------------------------------------------------------------------------------------------

    def log_prob(self, x: Tensor, cond: Cond = None) -> Tensor:
        """Return log p(x | cond) in nats, `[B]`.

        Raises:
            InputError: for a finite set, which has no density; ask its `noised` law.
        """
        self._needs_density()
        law, cond = self._given(cond, x)
        return law._by_rows(x, 1.0, 0.0, cond, lambda rows, a, s, c: law._log_joint(rows, a, s, c).logsumexp(1))

    def score(self, x: Tensor, cond: Cond = None) -> Tensor:
        """Return grad log p(x | cond), `[B, *S]`. Raises as `log_prob` does."""
        self._needs_density()
        law, cond = self._given(cond, x)

        def score_rows(rows: Tensor, alpha: Column, sigma: Column, labels: Cond) -> Tensor:
            r = law._log_joint(rows, alpha, sigma, labels).softmax(1)
            if law.variances is not None:
                r = r / law.variances
                return r @ law.flat - r.sum(1, keepdim=True) * rows
            values, vectors = law._eigen()
            along = torch.einsum("kde,bkd->bke", vectors, law.flat - rows[:, None]) / values
            return torch.einsum("bk,kde,bke->bd", r, vectors, along)

        return law._by_rows(x, 1.0, 0.0, cond, score_rows).reshape(x.shape)

    def sample(self, n: int, seed: int = 0, cond: str | int | None = None) -> Tensor:
        """Draw n samples `[n, *S]`, of one label if `cond` names it."""
        law = self if cond is None else self.only(find_label(cond, self.label_names))
        generator = stream(seed, "law", device=law.flat.device)
        k = torch.multinomial(law.log_weights.exp(), n, replacement=True, generator=generator)
        noise = torch.randn((n, law.flat.shape[1]), generator=generator, dtype=law.flat.dtype, device=k.device)
        if law.variances is not None:
            x = law.flat[k] + law.variances[k, None].sqrt() * noise
        else:
            values, vectors = law._eigen()
            x = law.flat[k] + torch.einsum("bde,be->bd", vectors[k], values[k].sqrt() * noise)
        return x.reshape(n, *law.shape)

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """Return the whole law's mean `[*S]` and covariance `[D, D]`."""
        w = self.log_weights.exp()
        mean = w @ self.flat
        off = self.flat - mean
        covariance = torch.einsum("k,kd,ke->de", w, off, off)
        if self.variances is not None:
            covariance = covariance + (w @ self.variances) * torch.eye(len(mean), dtype=w.dtype, device=w.device)
        else:
            values, vectors = self._eigen()
            covariance = covariance + torch.einsum("k,kde,ke,kfe->df", w, vectors, values, vectors)
        return mean.reshape(self.shape), covariance

    def only(self, label: int) -> GaussianMixture:
        """Return the law of one label, by its number."""
        keep = self._own_labels() == label
        law = copy.copy(self)
        law.means, law.flat = self.means[keep], self.flat[keep]
        law.log_weights = self.log_weights[keep].log_softmax(0)
        law.variances = None if self.variances is None else self.variances[keep]
        law.axes = None if self.axes is None else (self.axes[0][keep], self.axes[1][keep])
        law.labels, law.label_names = None, ()
        law._others = {}
        return law

    # -- under noise ---------------------------------------------------------------------------------------------

    def noised(self, schedule: Schedule, t: float) -> GaussianMixture:
        """Return the law of x_t, t in [0, 1]."""
        alpha, sigma = (float(scale) for scale in schedule.scales(float(t)))
        weights = self.log_weights.exp()
        common: dict[str, Any] = {"weights": weights, "labels": self.labels, "label_names": self.label_names}
        if self.variances is not None:
            return GaussianMixture(alpha * self.means, (alpha**2 * self.variances + sigma**2).sqrt(), **common)
        values, vectors = self._eigen()
        covariances = torch.einsum("kde,ke,kfe->kdf", vectors, alpha**2 * values + sigma**2, vectors)
        return GaussianMixture(alpha * self.means, covariances=covariances, **common)

    def denoiser(self, schedule: Schedule, scaling: Scaling | None = None) -> ExactDenoiser:
        """Return the exact denoiser E[x0 | x_t, cond] on a schedule.

        Args:
            schedule: the path.
            scaling: from this law's units to the data's, if they differ.
        """
        return ExactDenoiser(self, schedule, scaling)

    def posterior_mean(self, x_t: Tensor, alpha: Scale, sigma: Scale, cond: Cond = None) -> Tensor:
        """Return E[x0 | x_t, cond], `[B, *S]`; alpha and sigma are floats, `[]` or `[B]`."""
        law, cond = self._given(cond, x_t)

        def mean_rows(rows: Tensor, alpha: Column, sigma: Column, labels: Cond) -> Tensor:
            r = law._log_joint(rows, alpha, sigma, labels).softmax(1)
            if law.variances is not None:
                if law.is_finite_set:
                    return r @ law.flat
                shrink, gain = law._shrink_and_gain(alpha, sigma)
                return (r * shrink) @ law.flat + (r * gain).sum(1, keepdim=True) * rows
            off, total, a = law._along_axes(rows, alpha, sigma)
            values, vectors = law._eigen()
            return r @ law.flat + torch.einsum("bk,kde,bke->bd", r, vectors, a * values / total * off)

        return law._by_rows(x_t, alpha, sigma, cond, mean_rows).reshape(x_t.shape)

    def posterior_variance(self, x_t: Tensor, alpha: Scale, sigma: Scale, cond: Cond = None) -> Tensor:
        """Return Var(x0 | x_t) of each coordinate, `[B, *S]` float64. Round components only."""
        law, cond = self._given(cond, x_t)
        m, variances = law.flat.double(), law._round_variances().double()

        def variance_rows(rows: Tensor, alpha: Column, sigma: Column, labels: Cond) -> Tensor:
            r = law._log_joint(rows, alpha, sigma, labels).softmax(1)
            shrink, gain = law._shrink_and_gain(alpha, sigma)  # component k's posterior mean: shrink m_k + gain x
            mean = (r * shrink) @ m + (r * gain).sum(1, keepdim=True) * rows
            second = (r * shrink**2) @ m.square() + (r * gain**2).sum(1, keepdim=True) * rows.square()
            second = second + 2 * ((r * shrink * gain) @ m) * rows
            within = (r * shrink) @ variances
            return (second - mean.square()).clamp(min=0) + within[:, None]

        return law._by_rows(x_t.double(), alpha, sigma, cond, variance_rows).reshape(x_t.shape)

    def label_probs(self, x_t: Tensor, alpha: Scale = 1.0, sigma: Scale = 0.0) -> Tensor:
        """Return p(label | x_t) for each label, `[B, classes]`: the best classifier there can be.

        At alpha = 1 and sigma = 0 it judges clean samples; a finite set needs some noise to judge any but its own.
        """
        law, _ = self._given(None, x_t)
        member = torch.nn.functional.one_hot(self._own_labels(), len(self.label_names)).to(law.flat)

        def probability_rows(rows: Tensor, alpha: Column, sigma: Column, labels: Cond) -> Tensor:
            return law._log_joint(rows, alpha, sigma, labels).softmax(1) @ member

        return law._by_rows(x_t, alpha, sigma, None, probability_rows)

    def draw_x0(self, x_t: Tensor, alpha: Scale, sigma: Scale, generator: torch.Generator) -> Tensor:
        """Draw x0 from p(x0 | x_t) exactly, `[B, *S]`. Round components only.

        With `process.take_step_back` this is the true reverse step q(x_s | x_t), the one that DDPM approximates.
        """
        variances = self._round_variances()

        def draw_rows(rows: Tensor, alpha: Column, sigma: Column, labels: Cond) -> Tensor:
            r = self._log_joint(rows, alpha, sigma, labels).softmax(1)
            k = torch.multinomial(r, 1, generator=generator)
            shrink, gain = (v.expand(len(rows), -1).gather(1, k) for v in self._shrink_and_gain(alpha, sigma))
            noise = torch.randn(rows.shape, generator=generator, dtype=rows.dtype, device=rows.device)
            return shrink * self.flat[k[:, 0]] + gain * rows + (variances[k] * shrink).sqrt() * noise

        return self._by_rows(x_t, alpha, sigma, None, draw_rows).reshape(x_t.shape)

    # -- rows and components -------------------------------------------------------------------------------------

    def _log_joint(self, rows: Tensor, alpha: Column, sigma: Column, labels: Cond) -> Tensor:
        """Return log(w_k N(x; alpha m_k, C_k)), rows `[b, D]` -> `[b, K]`; components of other labels at -inf."""
        if self.variances is not None:
            total = alpha**2 * self.variances + sigma**2  # [K] or [b, K]
            total = total.clamp(min=torch.finfo(rows.dtype).tiny * 1e6)
            square, d = self._square_distances(rows, alpha), rows.shape[1]
            logs = square.div_(-2 * total) + (self.log_weights - 0.5 * d * torch.log(2 * math.pi * total))
        else:
            off, total, _ = self._along_axes(rows, alpha, sigma)
            logs = self.log_weights - 0.5 * (off.square() / total + torch.log(2 * math.pi * total)).sum(2)
        if labels is None:
            return logs
        wanted = labels.reshape(-1, 1)
        other = (wanted != self._own_labels()) & (wanted < len(self.label_names))  # the null label excludes none
        share = torch.where(other, -math.inf, self.log_weights).logsumexp(1, keepdim=True)
        return logs.masked_fill(other, -math.inf) - share

    def _square_distances(self, rows: Tensor, alpha: Column) -> Tensor:
        """Return |x - alpha m_k|^2, rows `[b, D]` -> `[b, K]`."""
        if rows.shape[1] <= 16:
            squares = (rows[:, :1] - alpha * self.flat[:, 0]).square_()
            for j in range(1, rows.shape[1]):
                squares += (rows[:, j : j + 1] - alpha * self.flat[:, j]).square_()
            return squares
        x, m = rows.double(), self.flat.double()
        squares = x.square().sum(1, keepdim=True) - 2 * alpha * (x @ m.T) + alpha**2 * m.square().sum(1)
        return squares.clamp(min=0).to(rows.dtype)

    def _shrink_and_gain(self, alpha: Column, sigma: Column) -> tuple[Tensor, Tensor]:
        """Return what a round component's posterior mean takes of m_k and of x_t, `[K]` or `[b, K]` each."""
        variances = self._round_variances()
        total = alpha**2 * variances + sigma**2
        gain = alpha * variances / total.clamp(min=torch.finfo(total.dtype).tiny)
        return 1 - alpha * gain, gain

    def _along_axes(self, rows: Tensor, alpha: Column, sigma: Column) -> tuple[Tensor, Tensor, Any]:
        """Return x - alpha m_k along the components' axes `[b, K, D]`, the variances there, and alpha to go with."""
        values, vectors = self._eigen()
        a, s = (v[..., None] if isinstance(v, Tensor) else v for v in (alpha, sigma))
        off = torch.einsum("kde,bkd->bke", vectors, rows[:, None] - a * self.flat)
        return off, a**2 * values + s**2, a

    def _by_rows(self, x: Tensor, alpha: Scale, sigma: Scale, cond: Cond, compute: Callable[..., Tensor]) -> Tensor:
        """Put together compute(rows, alpha, sigma, labels) over blocks of rows, scales as floats or `[b, 1]`."""
        rows = x.flatten(1)
        rows = rows.to(torch.promote_types(rows.dtype, self.flat.dtype))
        per_pair = 1 if self.axes is None else rows.shape[1]
        block = max(1, _BLOCK // (len(self.flat) * per_pair))
        answers = []
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            a, s = (_column(v, part, rows) for v in (alpha, sigma))
            answers.append(compute(rows[part], a, s, None if cond is None else cond[part]))
        return torch.cat(answers).to(torch.promote_types(x.dtype, torch.float32))

    def _given(self, cond: Cond, x: Tensor) -> tuple[GaussianMixture, Cond]:
        """Return the law under a label that all rows share, or the law and the rows' labels; as precise as x is."""
        dtype = torch.promote_types(x.dtype, self.flat.dtype)
        if dtype != self.flat.dtype:
            return self._in(dtype)._given(cond, x)
        if cond is None:
            return self, None
        if cond.is_floating_point():
            raise InputError("an exact law is conditional on labels, not on condition vectors")
        own = self._own_labels()
        if cond.dim() == 1:
            return self, cond.to(own.device)
        return (self.only(int(cond)), None) if int(cond) < len(self.label_names) else (self, None)

    def _in(self, dtype: torch.dtype) -> GaussianMixture:
        """Return this law in another precision."""
        if dtype not in self._others:
            law = copy.copy(self)
            law.means, law.flat, law.log_weights = (v.to(dtype) for v in (self.means, self.flat, self.log_weights))
            law.variances = None if self.variances is None else self.variances.to(dtype)
            law.axes = None if self.axes is None else (self.axes[0].to(dtype), self.axes[1].to(dtype))
            law._others = {}
            self._others[dtype] = law
        return self._others[dtype]

    def _eigen(self) -> tuple[Tensor, Tensor]:
        assert self.axes is not None
        return self.axes

    def _own_labels(self) -> Tensor:
        if self.labels is None:
            raise LabelError("a label was asked for, but this law has no labels")
        return self.labels

    def _needs_density(self) -> None:
        if self.is_finite_set:
            raise InputError("a finite set has no density at t = 0: ask .noised(schedule, t) for one, t above 0")

    def _round_variances(self) -> Tensor:
        if self.variances is None:
            raise InputError("this is implemented for round components only: give std, not covariances")
        return self.variances

    @functools.cached_property
    def is_finite_set(self) -> bool:
        """Whether every component is a point."""
        return self.variances is not None and not bool(self.variances.any())


def _column(level: Scale, part: slice, rows: Tensor) -> Column:
    if not isinstance(level, Tensor):
        return level
    level = level.to(rows)
    return level[part, None] if level.dim() else level


class FiniteSet(GaussianMixture):
    """The law that draws one of the given samples, each equally likely: the data set itself.

    Args:
        x: `[N, *S]`, or a data set.
        labels: `[N]` in 0..classes-1, or None; a data set brings its own.
        label_names: one for each class; their numbers where none are given.
        note: what this law stands for, for captions.
    """

    def __init__(
        self,
        x: Tensor | Dataset,
        labels: Tensor | None = None,
        label_names: Sequence[str] = (),
        note: str | None = None,
    ) -> None:
        if isinstance(x, Dataset):
            x, labels, label_names = x.x, x.labels, x.label_names
        if labels is not None and not label_names:
            label_names = [str(k) for k in range(int(labels.max()) + 1)]
        note = note or f"all {len(x):,} samples"
        super().__init__(x, 0.0, labels=labels, label_names=label_names, note=note)


class ExactDenoiser:
    """E[x0 | x_t, cond] of a known law on a schedule, with the noised law's score and density."""

    def __init__(self, law: GaussianMixture, schedule: Schedule, scaling: Scaling | None = None) -> None:
        self.law = law
        self.schedule = schedule
        self.shape = law.shape
        covariance = law.mean_and_covariance()[1]
        self.sigma_data = float(covariance.diagonal().mean().sqrt())
        self.scaling = scaling or Scaling()
        self.label_names = law.label_names
        self.device = law.flat.device

    def __call__(self, x_t: Tensor, t: Time, cond: Cond = None) -> Tensor:
        """Return x0_hat `[B, *S]`."""
        alpha, sigma = self.schedule.scales(t)
        if not isinstance(sigma, Tensor) and sigma == 0:
            return x_t / alpha
        return self.law.posterior_mean(x_t, alpha, sigma, cond)

    def log_prob(self, x_t: Tensor, t: float, cond: Cond = None) -> Tensor:
        """Return log p_t(x_t | cond) in nats, `[B]`."""
        return self.law.noised(self.schedule, t).log_prob(x_t, cond)

    def score(self, x_t: Tensor, t: float, cond: Cond = None) -> Tensor:
        """Return grad log p_t(x_t | cond), `[B, *S]`."""
        return self.law.noised(self.schedule, t).score(x_t, cond)

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the exact denoiser of the same law on another path."""
        return self if schedule == self.schedule else ExactDenoiser(self.law, schedule, self.scaling)


def mixture_of_data(
    data: Dataset, scaling: Scaling | None = None, *, at_most: int = 10_000, seed: int = 0
) -> GaussianMixture:
    """Return the exact law behind a data set, in the units of `scaling`.

    Up to `at_most` samples it is the finite set of them all. Above, it is the true distribution where that is a curve
    with Gaussian jitter (1,024 Gaussians along each curve), else the finite set of a subsample. `note` says which.
    """
    scaling = scaling or Scaling()
    if len(data) <= at_most:
        return FiniteSet(scaling.into(data.x), data.labels, data.label_names)
    true = _true_law(data, scaling)
    if true is not None:
        return true
    rows = torch.randperm(len(data), generator=stream(seed, "subsample"))[:at_most]
    labels = None if data.labels is None else data.labels[rows]
    note = f"{at_most:,} of {len(data):,} samples"
    return FiniteSet(scaling.into(data.x[rows]), labels, data.label_names, note)


def _true_law(data: Dataset, scaling: Scaling, count: int = 1024) -> GaussianMixture | None:
    known = data.distribution
    parts: tuple[Distribution, ...] = () if known is None else known.parts or (known,)
    if not parts or any(part.centres is None for part in parts) or scaling.std.dim() > 0:
        return None
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    means = torch.cat([part.centres(u) for part in parts if part.centres is not None])
    std = torch.cat([torch.full((count,), part.jitter, dtype=torch.float64) for part in parts])
    labels = torch.arange(len(parts)).repeat_interleave(count) if data.classes else None
    return GaussianMixture(
        scaling.into(means).float(),
        (std / scaling.std.double()).float(),
        labels=labels,
        label_names=data.label_names,
        note="the true distribution",
    )
