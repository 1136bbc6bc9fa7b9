"""Mixtures of Gaussians under noise; see the head of the package."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fromnoise.arrays import Scale
from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner, Labels, Words, label_names_of, labels_of, read_cond
from fromnoise.data.codec import Codec, codec_of
from fromnoise.data.moments import participation
from fromnoise.data.numbers import as_samples
from fromnoise.deprecated import renamed_argument
from fromnoise.errors import InputError, LabelError
from fromnoise.exact.components import Column, Components, Full, Round
from fromnoise.exact.conditions import ComponentConditions
from fromnoise.exact.denoiser import ExactDenoiser
from fromnoise.exact.means import Means
from fromnoise.rng import stream
from fromnoise.schedule import Schedule


class GaussianMixture:
    """A mixture of Gaussians, perhaps with a label on each component.

    Args:
        means: `[K, *S]`, a tensor, an array or a list, as the next three.
        std: the components' standard deviation, one float or `[K]`. Give this or `covariances`.
        covariances: `[K, D, D]`, D the size of a sample.
        weights: `[K]`, in any unit; equal when not given.
        labels: `[K]`, a tensor of numbers in 0..classes-1, or a list of numbers or names; or None.
        label_names: one for each class.
        cond: the condition of each component, of K rows, where it is not a label; with `conditioners`.
        conditioners: what turns a user's words into such conditions.
        note: what this law stands for, for captions.

    Raises:
        InputError: if shapes do not fit or a covariance is not positive semidefinite.
    """

    def __init__(
        self,
        means: Any,
        std: Any = None,
        *,
        covariances: Any = None,
        weights: Any = None,
        labels: Any = None,
        label_names: Sequence[str] = (),
        cond: Cond | None = None,
        conditioners: Sequence[Conditioner] = (),
        note: str = "the mixture",
    ) -> None:
        means = as_samples(means)
        if means.dim() < 2 or len(means) == 0:
            raise InputError(f"means must be [K, *S] with K at least 1, not of shape {list(means.shape)}")
        if (std is None) == (covariances is None):
            raise InputError("give a mixture either std or covariances")
        self.shape = tuple(means.shape[1:])
        like = {"dtype": means.dtype, "device": means.device}  # at once: a float by way of float32 loses digits
        std = None if std is None else torch.as_tensor(std, **like)
        covariances = None if covariances is None else torch.as_tensor(covariances, **like)
        self.components = _components(means.flatten(1), std, covariances)
        k = len(means)
        weights = means.new_ones(k) if weights is None else torch.as_tensor(weights, **like)
        self.log_weights = (weights / weights.sum()).log()
        if labels is not None and not isinstance(labels, Tensor):
            cond, own = labels_of(labels, tuple(label_names))
            conditioners = (own,)
        elif labels is not None:
            names = Labels(names=tuple(label_names)) if label_names else Labels.numbered(int(labels.max()) + 1)
            cond, conditioners = Cond({names.value: labels}), (names,)
        if cond is not None and len(cond) != k:
            raise InputError(f"{len(cond)} labels or conditions were given for {k} components: give one for each")
        self.cond, self.conditioners = cond, tuple(conditioners)
        self.note = note
        self._others: dict[torch.dtype, GaussianMixture] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.flat):,} x {list(self.shape)}, {self.note})"

    @property
    def flat(self) -> Tensor:
        """The components' means, `[K, D]`."""
        return self.components.points.flat

    @property
    def variances(self) -> Tensor | None:
        """The variances of round components, `[K]`; None for full ones."""
        return self.components.variances

    @property
    def axes(self) -> tuple[Tensor, Tensor] | None:
        """The eigenvalues `[K, D]` and eigenvectors `[K, D, D]` of full components; None for round ones."""
        return self.components.axes

    @property
    def means(self) -> Tensor:
        """The components' means, `[K, *S]`."""
        return self.flat.reshape(-1, *self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The precision it computes in at least."""
        return self.log_weights.dtype

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.flat.device

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
            return law.components.score(law._responsibilities(rows, alpha, sigma, cond), rows)

        return law._by_rows(x, 1.0, 0.0, cond, score_rows).reshape(x.shape)

    def sample(self, n: int, seed: int = 0, cond: Words = None) -> Tensor:
        """Draw n samples `[n, *S]`, under one condition if one is given."""
        law = self if cond is None else self._under(self.read(cond, 1))
        return law.draw(n, stream(seed, "law", device=law.flat.device))[0]

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Cond | None]:
        """Draw n samples `[n, *S]`; return them and the condition of each, that of its component."""
        k = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        noise = torch.randn((n, self.flat.shape[1]), generator=generator, dtype=self.dtype, device=k.device)
        x = self.components.draw(k, noise).reshape(n, *self.shape)
        return x, None if self.cond is None else self.cond.rows(k)

    @functools.cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        return self.components.mean_and_variance(self.log_weights.double().exp())

    def mean_and_variance(self) -> tuple[Tensor, Tensor]:
        """Return the whole law's mean and each coordinate's variance, both `[*S]` float64."""
        mean, variance = self._moments
        return mean.reshape(self.shape), variance.reshape(self.shape)

    def mean_and_covariance(self) -> tuple[Tensor, Tensor]:
        """Return the whole law's mean `[*S]` and covariance `[D, D]`."""
        mean = self._moments[0].to(self.log_weights)
        return mean.reshape(self.shape), self.components.covariance(self.log_weights.exp(), mean)

    def effective_dimension(self) -> float:
        """Return (tr C)^2 / tr C^2 of the whole law's covariance C, from 1 to D; 1 where C = 0.

        Above 4,096 components tr C^2 is estimated from as many; see `fromnoise.data.effective_dimension`.
        """
        mean, variance = self._moments
        square = self.components.trace_of_square(self.log_weights.double().exp(), mean, variance.sum())
        return participation(variance.sum(), square, len(mean))

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
        law = self._with(self.components.take(keep), self.log_weights[keep].log_softmax(0))
        law.cond, law.conditioners = None, ()
        return law

    def _with(self, components: Components, log_weights: Tensor) -> GaussianMixture:
        """Return this law with other components and nothing measured yet."""
        law = copy.copy(self)
        for known in ("_conditions", "_moments"):
            law.__dict__.pop(known, None)
        law.components, law.log_weights, law._others = components, log_weights, {}
        return law

    @functools.cached_property
    def _conditions(self) -> ComponentConditions:
        assert self.cond is not None
        return ComponentConditions(self.cond)

    def _allowed(self, cond: Cond) -> Tensor:
        return self._conditions.allowed(cond, self.flat.device)

    # -- under noise ---------------------------------------------------------------------------------------------

    def noised(self, schedule: Schedule, t: float) -> GaussianMixture:
        """Return the law of x_t, t in [0, 1]."""
        alpha, sigma = (float(scale) for scale in schedule.scales(float(t)))
        law = self._with(self.components.noised(alpha, sigma), self.log_weights)
        law.note = "the mixture"
        return law

    @renamed_argument("scaling", "codec", codec_of)
    def denoiser(self, schedule: Schedule | str, codec: Codec | None = None) -> ExactDenoiser:
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
            return law.components.posterior_mean(r, rows, alpha, sigma)

        return law._by_rows(x_t, alpha, sigma, cond, mean_rows).reshape(x_t.shape)

    def posterior_variance(self, x_t: Tensor, alpha: Scale, sigma: Scale, cond: Words = None) -> Tensor:
        """Return Var(x0 | x_t) of each coordinate, `[B, *S]` float64."""
        law, cond = self._given(cond, x_t.double())

        def variance_rows(rows: Tensor, alpha: Column, sigma: Column, cond: Cond | None) -> Tensor:
            r = law._responsibilities(rows, alpha, sigma, cond)
            return law.components.posterior_variance(r, rows, alpha, sigma)

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
        components = self._round()

        def draw_rows(rows: Tensor, alpha: Column, sigma: Column, cond: Cond | None) -> Tensor:
            r = self._responsibilities(rows, alpha, sigma, cond)
            k = torch.multinomial(r, 1, generator=generator)
            both = components.shrink_and_gain(alpha, sigma)
            shrink, gain = (v.expand(len(rows), -1).gather(1, k) for v in both)
            noise = torch.randn(rows.shape, generator=generator, dtype=rows.dtype, device=rows.device)
            std = (components.variances[k] * shrink).sqrt()
            return shrink * self.flat[k[:, 0]].to(rows) + gain * rows + std * noise

        return self._by_rows(x_t, alpha, sigma, None, draw_rows).reshape(x_t.shape)

    # -- rows and components -------------------------------------------------------------------------------------

    def _log_joint(self, rows: Tensor, alpha: Column, sigma: Column, cond: Cond | None) -> Tensor:
        """Return log(w_k N(x; alpha m_k, C_k)), rows `[b, D]` -> `[b, K]`; components of other conditions at -inf."""
        log_weights = self.log_weights
        if cond is not None:
            log_weights = torch.where(self._allowed(cond), log_weights, -math.inf).log_softmax(1)
        return self.components.log_joint(rows, alpha, sigma, log_weights)

    def _responsibilities(self, rows: Tensor, alpha: Column, sigma: Column, cond: Cond | None) -> Tensor:
        """Return p(component | x) `[b, K]`."""
        return self._log_joint(rows, alpha, sigma, cond).softmax(1).to(rows.dtype)

    def _by_rows(
        self, x: Tensor, alpha: Scale, sigma: Scale, cond: Cond | None, compute: Callable[..., Tensor]
    ) -> Tensor:
        """Put together compute(rows, alpha, sigma, cond) over blocks of rows, scales as floats or `[b, 1]`."""
        rows = x.flatten(1)
        rows = rows.to(torch.promote_types(rows.dtype, self.dtype))
        block = max(1, self.components.pairs // len(self.flat))
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
            self._others[dtype] = self._with(self.components.to(dtype), self.log_weights.to(dtype))
        return self._others[dtype]

    def _own_labels(self) -> Tensor:
        if self.labels is None:
            raise LabelError("a label was asked for, but this law has no labels")
        return self.labels

    def _needs_density(self) -> None:
        if self.is_finite_set:
            raise InputError("a finite set has no density at t = 0: ask .noised(schedule, t) for one, t above 0")

    def _round(self) -> Round:
        if not isinstance(self.components, Round):
            raise InputError("this is implemented for round components only: give std, not covariances")
        return self.components

    @property
    def is_finite_set(self) -> bool:
        """Whether every component is a point."""
        return self.components.are_points


def _components(flat: Tensor, std: Tensor | None, covariances: Tensor | None) -> Components:
    k, d = flat.shape
    if std is not None:
        return Round(Means(flat), std.square().expand(k))
    assert covariances is not None
    if covariances.shape != (k, d, d):
        raise InputError(f"covariances must be [{k}, {d}, {d}], not {list(covariances.shape)}")
    values, vectors = torch.linalg.eigh(covariances.to(flat.dtype))
    if values.min() < -1e-6 * values.abs().max():
        raise InputError(f"covariances must be positive semidefinite; the least eigenvalue is {values.min()}")
    return Full(Means(flat), (values.clamp(min=0), vectors))


def _column(level: Scale, part: slice, rows: Tensor) -> Column:
    if not isinstance(level, Tensor):
        return level
    level = level.to(rows)
    return level[part, None] if level.dim() else level
