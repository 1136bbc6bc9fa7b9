"""Mixtures of Gaussians under noise; see the head of the package."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from fromnoise.arrays import Scale
from fromnoise.cond import Cond, Conditioner, Labels, Words, label_names_of, read_cond
from fromnoise.data.codec import Codec
from fromnoise.data.dataset import mean_and_variance
from fromnoise.errors import InputError, LabelError
from fromnoise.exact.denoiser import ExactDenoiser
from fromnoise.exact.means import SMALL, Means
from fromnoise.rng import stream
from fromnoise.schedule import Schedule

Column: TypeAlias = Any
"""A scale for a block of rows: a float, `[]`, or `[b, 1]`, as floats and columns broadcast alike."""

_BLOCK = 2**19
"""How many pairs (row, component) are in memory at once: what fits the cache."""

_LARGE_BLOCK = 2**22
"""The same above 16 dimensions, where reading the components costs more than the pairs do."""

_NATS = 60.0
"""Components so far below the best, e^-60 of its weight, need no better distance than a matrix product's."""


class GaussianMixture:
    """A mixture of Gaussians, perhaps with a label on each component.

    Args:
        means: `[K, *S]`.
        std: the components' standard deviation, one float or `[K]`. Give this or `covariances`.
        covariances: `[K, D, D]`, D the size of a sample.
        weights: `[K]`, in any unit; equal when not given.
        labels: `[K]` in 0..classes-1, or None.
        label_names: one for each class.
        cond: the condition of each component, of K rows, where it is not a label; with `conditioners`.
        conditioners: what turns a user's words into such conditions.
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
        cond: Cond | None = None,
        conditioners: Sequence[Conditioner] = (),
        note: str = "the mixture",
    ) -> None:
        if means.dim() < 2 or len(means) == 0:
            raise InputError(f"means must be [K, *S] with K at least 1, not of shape {list(means.shape)}")
        if (std is None) == (covariances is None):
            raise InputError("give a mixture either std or covariances")
        self.shape = tuple(means.shape[1:])
        self.points = Means(means.flatten(1))  # [K, D]
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
        if labels is not None:
            names = Labels(names=tuple(label_names)) if label_names else Labels.numbered(int(labels.max()) + 1)
            cond, conditioners = Cond({names.value: labels}), (names,)
        self.cond, self.conditioners = cond, tuple(conditioners)
        self.note = note
        self._others: dict[torch.dtype, GaussianMixture] = {}

    @property
    def flat(self) -> Tensor:
        """The components' means, `[K, D]`."""
        return self.points.flat

    @property
    def means(self) -> Tensor:
        """The components' means, `[K, *S]`."""
        return self.flat.reshape(-1, *self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The precision it computes in at least."""
        return self.log_weights.dtype

    @property
    def labels(self) -> Tensor | None:
        """The label of each component, `[K]`; None without labels."""
        return None if self.cond is None else self.cond.values.get("label")

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels, in the order of their numbers."""
        return label_names_of(self.conditioners)

    def read(self, words: Words, n: int) -> Cond | None:
        """Return the condition of n samples that a user's words mean; LabelError if the law does not know them."""
        return read_cond(self.conditioners, words, n, self.flat.device)

    # -- the law itself ------------------------------------------------------------------------------------------

    def log_prob(self, x: Tensor, cond: Words = None) -> Tensor:
        """Return log p(x | cond) in nats, `[B]`.

        Raises:
            InputError: for a finite set, which has no density; ask its `noised` law.
        """
        self._needs_density()
        law, cond = self._given(cond, x)
        return law._by_rows(x, 1.0, 0.0, cond, lambda rows, a, s, c: law._log_joint(rows, a, s, c).logsumexp(1))

    def score(self, x: Tensor, cond: Words = None) -> Tensor:
        """Return grad log p(x | cond), `[B, *S]`. Raises as `log_prob` does."""
        self._needs_density()
        law, cond = self._given(cond, x)

        def score_rows(rows: Tensor, alpha: Column, sigma: Column, cond: Cond | None) -> Tensor:
            r = law._responsibilities(rows, alpha, sigma, cond)
            if law.variances is not None:
                r = r / law.variances
                return law.points.mix(r) - r.sum(1, keepdim=True) * rows
            values, vectors = law._eigen()
            along = torch.einsum("kde,bkd->bke", vectors, law.flat.to(values) - rows[:, None]) / values
            return torch.einsum("bk,kde,bke->bd", r, vectors, along)

        return law._by_rows(x, 1.0, 0.0, cond, score_rows).reshape(x.shape)

    def sample(self, n: int, seed: int = 0, cond: Words = None) -> Tensor:
        """Draw n samples `[n, *S]`, under one condition if one is given."""
        law = self if cond is None else self._under(self.read(cond, 1))
        generator = stream(seed, "law", device=law.flat.device)
        k = torch.multinomial(law.log_weights.exp(), n, replacement=True, generator=generator)
        noise = torch.randn((n, law.flat.shape[1]), generator=generator, dtype=law.dtype, device=k.device)
        if law.variances is not None:
            x = law.flat[k] + law.variances[k, None].sqrt() * noise
        else:
            values, vectors = law._eigen()
            x = law.flat[k] + torch.einsum("bde,be->bd", vectors[k], values[k].sqrt() * noise)
        return x.reshape(n, *law.shape)

    @functools.cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        w = self.log_weights.double().exp()
        mean, variance = mean_and_variance(self.flat, w)
        if self.variances is not None:
            return mean, variance + w @ self.variances.double()
        values, vectors = self._eigen()
        return mean, variance + torch.einsum("k,kde,ke->d", w, vectors.double().square(), values.double())

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Return the whole law's mean and each coordinate's variance, both `[*S]` float64."""
        mean, variance = self._moments
        return mean.reshape(self.shape), variance.reshape(self.shape)

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """Return the whole law's mean `[*S]` and covariance `[D, D]`."""
        w, mean = self.log_weights.exp(), self._moments[0].to(self.log_weights)
        covariance = torch.zeros(len(mean), len(mean), dtype=w.dtype, device=w.device)
        for part, tile in self.points.tiles():
            off = tile - mean
            covariance += off.T @ (w[part, None] * off)
        if self.variances is not None:
            covariance.diagonal().add_(w @ self.variances)
        else:
            values, vectors = self._eigen()
            covariance += torch.einsum("k,kde,ke,kfe->df", w, vectors, values, vectors)
        return mean.reshape(self.shape), covariance

    def only(self, label: int) -> GaussianMixture:
        """Return the law of one label, by its number."""
        self._own_labels()
        return self._under(self.read(label, 1))

    def _under(self, cond: Cond | None) -> GaussianMixture:
        """Return the law under one condition, which all rows share."""
        if cond is None:
            return self
        keep = self._allowed(cond)[0]
        if bool(keep.all()):
            return self
        law = copy.copy(self)
        law.points = self.points.take(keep)
        law.log_weights = self.log_weights[keep].log_softmax(0)
        law.variances = None if self.variances is None else self.variances[keep]
        law.axes = None if self.axes is None else (self.axes[0][keep], self.axes[1][keep])
        law.cond, law.conditioners = None, ()
        for known in ("_codes", "_moments", "is_finite_set"):
            law.__dict__.pop(known, None)
        law._others = {}
        return law

    # -- conditions ----------------------------------------------------------------------------------------------

    @functools.cached_property
    def _codes(self) -> dict[str, tuple[dict[bytes, int], Tensor]]:
        """For each name of the condition a number for each of its values, and the numbers of the components `[K]`."""
        assert self.cond is not None
        found: dict[str, tuple[dict[bytes, int], Tensor]] = {}
        for name, values in self.cond.values.items():
            numbers: dict[bytes, int] = {}
            own = [numbers.setdefault(row, len(numbers)) for row in _as_bytes(values)]
            found[name] = numbers, torch.tensor(own, device=self.flat.device)
        return found

    def _allowed(self, cond: Cond) -> Tensor:
        """Return which components have each row's condition, bool `[b, K]`: those whose given values are equal.

        Raises:
            LabelError: if none has.
        """
        allowed = torch.ones(len(cond), len(self.flat), dtype=torch.bool, device=self.flat.device)
        for name, wanted in cond.values.items():
            numbers, own = self._codes[name]
            codes = torch.tensor([numbers.get(row, -1) for row in _as_bytes(wanted)], device=own.device)
            same, given = codes[:, None] == own, cond.mask(name)
            allowed &= same if given is None else same | ~given[:, None]
        if not bool(allowed.any(1).all()):
            raise LabelError("a condition was given that no part of this exact law has")
        return allowed

    # -- under noise ---------------------------------------------------------------------------------------------

    def noised(self, schedule: Schedule, t: float) -> GaussianMixture:
        """Return the law of x_t, t in [0, 1]."""
        alpha, sigma = (float(scale) for scale in schedule.scales(float(t)))
        weights = self.log_weights.exp()
        common: dict[str, Any] = {"weights": weights, "cond": self.cond, "conditioners": self.conditioners}
        if self.variances is not None:
            return GaussianMixture(alpha * self.means, (alpha**2 * self.variances + sigma**2).sqrt(), **common)
        values, vectors = self._eigen()
        covariances = torch.einsum("kde,ke,kfe->kdf", vectors, alpha**2 * values + sigma**2, vectors)
        return GaussianMixture(alpha * self.means, covariances=covariances, **common)

    def denoiser(self, schedule: Schedule, codec: Codec | None = None) -> ExactDenoiser:
        """Return the exact denoiser E[x0 | x_t, cond] on a schedule.

        Args:
            schedule: the path.
            codec: from this law's units to the data's, if they differ.
        """
        return ExactDenoiser(self, schedule, codec)

    def posterior_mean(self, x_t: Tensor, alpha: Scale, sigma: Scale, cond: Words = None) -> Tensor:
        """Return E[x0 | x_t, cond], `[B, *S]`; alpha and sigma are floats, `[]` or `[B]`."""
        law, cond = self._given(cond, x_t)

        def mean_rows(rows: Tensor, alpha: Column, sigma: Column, cond: Cond | None) -> Tensor:
            r = law._responsibilities(rows, alpha, sigma, cond)
            if law.variances is not None:
                if law.is_finite_set:
                    return law.points.mix(r)
                shrink, gain = law._shrink_and_gain(alpha, sigma)
                return law.points.mix(r * shrink) + (r * gain).sum(1, keepdim=True) * rows
            off, total, a = law._along_axes(rows, alpha, sigma)
            values, vectors = law._eigen()
            return law.points.mix(r) + torch.einsum("bk,kde,bke->bd", r, vectors, a * values / total * off)

        return law._by_rows(x_t, alpha, sigma, cond, mean_rows).reshape(x_t.shape)

    def posterior_variance(self, x_t: Tensor, alpha: Scale, sigma: Scale, cond: Words = None) -> Tensor:
        """Return Var(x0 | x_t) of each coordinate, `[B, *S]` float64. Round components only."""
        law, cond = self._given(cond, x_t)
        variances = law._round_variances().double()

        def variance_rows(rows: Tensor, alpha: Column, sigma: Column, cond: Cond | None) -> Tensor:
            r = law._responsibilities(rows, alpha, sigma, cond)
            shrink, gain = law._shrink_and_gain(alpha, sigma)  # component k's posterior mean: shrink m_k + gain x
            mean = law.points.mix(r * shrink) + (r * gain).sum(1, keepdim=True) * rows
            second = law.points.mix(r * shrink**2, 2) + (r * gain**2).sum(1, keepdim=True) * rows.square()
            second = second + 2 * law.points.mix(r * shrink * gain) * rows
            within = (r * shrink) @ variances
            return (second - mean.square()).clamp(min=0) + within[:, None]

        return law._by_rows(x_t.double(), alpha, sigma, cond, variance_rows).reshape(x_t.shape)

    def label_probs(self, x_t: Tensor, alpha: Scale = 1.0, sigma: Scale = 0.0) -> Tensor:
        """Return p(label | x_t) for each label, `[B, classes]`: the best classifier there can be.

        At alpha = 1 and sigma = 0 it judges clean samples; a finite set needs some noise to judge any but its own.
        """
        law, _ = self._given(None, x_t)
        member = torch.nn.functional.one_hot(self._own_labels(), len(self.label_names)).to(law.log_weights)

        def probability_rows(rows: Tensor, alpha: Column, sigma: Column, cond: Cond | None) -> Tensor:
            return law._responsibilities(rows, alpha, sigma, cond) @ member

        return law._by_rows(x_t, alpha, sigma, None, probability_rows)

    def draw_x0(self, x_t: Tensor, alpha: Scale, sigma: Scale, generator: torch.Generator) -> Tensor:
        """Draw x0 from p(x0 | x_t) exactly, `[B, *S]`. Round components only.

        With `process.take_step_back` this is the true reverse step q(x_s | x_t), the one that DDPM approximates.
        """
        variances = self._round_variances()

        def draw_rows(rows: Tensor, alpha: Column, sigma: Column, cond: Cond | None) -> Tensor:
            r = self._responsibilities(rows, alpha, sigma, cond)
            k = torch.multinomial(r, 1, generator=generator)
            shrink, gain = (v.expand(len(rows), -1).gather(1, k) for v in self._shrink_and_gain(alpha, sigma))
            noise = torch.randn(rows.shape, generator=generator, dtype=rows.dtype, device=rows.device)
            return shrink * self.flat[k[:, 0]].to(rows) + gain * rows + (variances[k] * shrink).sqrt() * noise

        return self._by_rows(x_t, alpha, sigma, None, draw_rows).reshape(x_t.shape)

    # -- rows and components -------------------------------------------------------------------------------------

    def _log_joint(self, rows: Tensor, alpha: Column, sigma: Column, cond: Cond | None) -> Tensor:
        """Return log(w_k N(x; alpha m_k, C_k)), rows `[b, D]` -> `[b, K]`; components of other conditions at -inf."""
        log_weights = self.log_weights
        if cond is not None:
            log_weights = torch.where(self._allowed(cond), log_weights, -math.inf).log_softmax(1)
        if self.variances is None:
            off, total, _ = self._along_axes(rows, alpha, sigma)
            return log_weights - 0.5 * (off.square() / total + torch.log(2 * math.pi * total)).sum(2)
        variances = self.variances
        if rows.shape[1] > SMALL:  # in float64
            alpha, sigma, variances = (v.double() if isinstance(v, Tensor) else v for v in (alpha, sigma, variances))
        total = alpha**2 * variances + sigma**2  # [K] or [b, K]
        total = total.clamp(min=torch.finfo(rows.dtype).tiny * 1e6)
        logs = self.points.square_distances(rows, alpha).div_(-2 * total)
        logs = logs + (log_weights - 0.5 * rows.shape[1] * torch.log(2 * math.pi * total))
        return logs if rows.shape[1] <= SMALL else self._refined(logs, rows, alpha, total, log_weights)

    def _refined(self, logs: Tensor, rows: Tensor, alpha: Column, total: Tensor, log_weights: Tensor) -> Tensor:
        """Return the logs `[b, K]` with those that matter computed again, where their distances were too coarse."""
        doubt = self.points.error(rows, alpha) / (2 * total.amin(-1, keepdim=True))  # in nats, [b, 1]
        coarse = doubt > (1e-10 if rows.dtype == torch.float64 else 1e-5)
        if not bool(coarse.any()):
            return logs
        near = logs >= logs.amax(1, keepdim=True) - _NATS - 2 * doubt
        which = (near & coarse).nonzero()
        row, k = which.unbind(1)
        total, log_weights = total.expand_as(logs)[row, k], log_weights.expand_as(logs)[row, k]
        square = self.points.by_differences(rows, alpha, which)
        log_normal = -0.5 * (square / total + rows.shape[1] * torch.log(2 * math.pi * total))
        return logs.index_put((row, k), log_weights + log_normal)

    def _responsibilities(self, rows: Tensor, alpha: Column, sigma: Column, cond: Cond | None) -> Tensor:
        """Return p(component | x) `[b, K]`."""
        return self._log_joint(rows, alpha, sigma, cond).softmax(1).to(rows.dtype)

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
        off = torch.einsum("kde,bkd->bke", vectors, rows[:, None] - a * self.flat.to(values))
        return off, a**2 * values + s**2, a

    def _by_rows(
        self, x: Tensor, alpha: Scale, sigma: Scale, cond: Cond | None, compute: Callable[..., Tensor]
    ) -> Tensor:
        """Put together compute(rows, alpha, sigma, cond) over blocks of rows, scales as floats or `[b, 1]`."""
        rows = x.flatten(1)
        rows = rows.to(torch.promote_types(rows.dtype, self.dtype))
        pairs = _LARGE_BLOCK if rows.shape[1] > SMALL else _BLOCK
        if self.axes is not None:
            pairs = _BLOCK // rows.shape[1]
        block = max(1, pairs // len(self.flat))
        answers = []
        for start in range(0, len(rows), block):
            part = slice(start, start + block)
            a, s = (_column(v, part, rows) for v in (alpha, sigma))
            answers.append(compute(rows[part], a, s, None if cond is None else cond.rows(part)))
        return torch.cat(answers).to(torch.promote_types(x.dtype, torch.float32))

    def _given(self, words: Words, x: Tensor) -> tuple[GaussianMixture, Cond | None]:
        """Return the law under a condition that all rows share, or the law and the rows' own; as precise as x is."""
        dtype = torch.promote_types(x.dtype, self.dtype)
        if dtype != self.dtype:
            return self._in(dtype)._given(words, x)
        cond = self.read(words, len(x))
        return (self._under(cond), None) if cond is None or len(cond) == 1 else (self, cond)

    def _in(self, dtype: torch.dtype) -> GaussianMixture:
        """Return this law in another precision; a large set stays as it is and is converted part by part."""
        if dtype not in self._others:
            law = copy.copy(self)
            law.points, law.log_weights = self.points.to(dtype), self.log_weights.to(dtype)
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


def _as_bytes(values: Tensor) -> list[bytes]:
    """Return each row `[n, ...]` as bytes, equal where the rows are."""
    rows = (values + torch.zeros((), dtype=values.dtype, device=values.device)).cpu().contiguous()  # -0.0 becomes 0.0
    return [row.tobytes() for row in rows.numpy()]


def _column(level: Scale, part: slice, rows: Tensor) -> Column:
    if not isinstance(level, Tensor):
        return level
    level = level.to(rows)
    return level[part, None] if level.dim() else level
