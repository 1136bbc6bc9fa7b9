"""What a sampler may ask of a denoiser, and denoisers around another one."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from fromnoise.arrays import Time, expand_to, path_ratio
from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner, Words, label_names_of
from fromnoise.data.codec import Codec
from fromnoise.deprecated import Renamed
from fromnoise.errors import InputError
from fromnoise.own_grid import FewSteps
from fromnoise.reach import Spread
from fromnoise.schedule import Schedule

NEVER_WITHOUT = (
    "this model was trained with its condition in every step (train.drop_cond = 0), so it has no answer without one: "
    "give a label, or train with drop_cond above 0"
)
NO_VARIANCE = 'this model has no learned variance: train one (--recipe improved), or take variance "small" or "large"'


@runtime_checkable
class DenoiserLike(Protocol):
    """What a sampler may ask of a denoiser."""

    @property
    def schedule(self) -> Schedule:
        """The path its x_t lie on."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape S of one sample."""
        ...

    @property
    def sigma_data(self) -> float:
        """One coordinate's standard deviation about the mean, in the denoiser's units."""
        ...

    @property
    def effective_dimension(self) -> float:
        """In how many directions the data vary, (tr C)^2 / tr C^2."""
        ...

    @property
    def codec(self) -> Codec:
        """Between the data's units and the denoiser's."""
        ...

    @property
    def conditioners(self) -> tuple[Conditioner, ...]:
        """What turns a user's words into conditions; empty where the denoiser takes none."""
        ...

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels it knows, in the order of their numbers."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat `[B, *S]` for x_t `[B, *S]` at time t, `[]` or `[B]`, under a condition of one row or of B."""
        ...

    def read(self, words: Words, n: int) -> Cond | None:
        """Return the condition of n samples that a user's words mean.

        Raises:
            LabelError: if the denoiser does not know them.
        """
        ...

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the same denoiser on another path."""
        ...


class Predicted(NamedTuple):
    """The answer of a denoiser with a learned variance.

    Attributes:
        x0_hat: `[B, *S]`.
        variance_fraction: where the logarithm of a step's variance lies, `[B, *S]`: 0 at that of the posterior,
            beta-tilde, 1 at that of the noising step, beta. Source: Nichol & Dhariwal 2021, eq. 15.
    """

    x0_hat: Tensor
    variance_fraction: Tensor

    share = Renamed("variance_fraction")


def predicted(denoiser: DenoiserLike, x_t: Tensor, t: Time, cond: Words = None) -> Predicted:
    """Return x0_hat and the fraction that sets a step's variance, of a denoiser that knows it.

    Raises:
        InputError: if it knows none: it was trained without, or is guided, exact, or on another path.
    """
    ask = getattr(denoiser, "predicted", None)
    if ask is None:
        raise InputError(
            "a denoiser that is guided, exact, or not on its own path gives no learned variance: sample a model "
            'of --recipe improved as it is, or take variance "small" or "large"'
        )
    return ask(x_t, t, cond)


Wrapping = TypeVar("Wrapping", bound="Wrapper")


def check_denoiser(what: object) -> None:
    """Refuse what is no denoiser, such as the run it belongs to.

    Raises:
        InputError: saying what to give.
    """
    if not callable(what) or not hasattr(what, "schedule"):
        way_out = "give its .denoiser" if hasattr(what, "denoiser") else "fn.Denoiser(network, schedule) makes one"
        raise InputError(f"a denoiser is wanted, and {type(what).__name__} is none: {way_out}")


class Wrapper:
    """A denoiser around another. Everything that it does not answer itself is the other's, asked anew each time.

    Raises:
        InputError: if the other is no denoiser.
    """

    def __init__(self, base: DenoiserLike) -> None:
        check_denoiser(base)
        self.base = base

    @property
    def schedule(self) -> Schedule:
        """The path its x_t lie on."""
        return self.base.schedule

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape S of one sample."""
        return self.base.shape

    @property
    def sigma_data(self) -> float:
        """One coordinate's standard deviation about the mean."""
        return self.base.sigma_data

    @property
    def effective_dimension(self) -> float:
        """In how many directions the data vary."""
        return self.base.effective_dimension

    scaling = Renamed("codec")

    @property
    def codec(self) -> Codec:
        """Between the data's units and the denoiser's."""
        return self.base.codec

    @property
    def conditioners(self) -> tuple[Conditioner, ...]:
        """What turns a user's words into conditions."""
        return self.base.conditioners

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels it knows, in the order of their numbers."""
        return label_names_of(self.conditioners)

    @property
    def unconditional(self) -> bool:
        """Whether it has an answer without a condition."""
        return getattr(self.base, "unconditional", True)

    @property
    def grid(self) -> FewSteps | None:
        """The times at which alone a distilled model answers; None for any other."""
        return getattr(self.base, "grid", None)

    @property
    def chunk_rows(self) -> int | None:
        """How many rows suit it at once; None where it does not matter."""
        return getattr(self.base, "chunk_rows", None)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.base.device

    def read(self, words: Words, n: int) -> Cond | None:
        """Return the condition of n samples that a user's words mean."""
        return self.base.read(words, n)

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat `[B, *S]`."""
        return self.base(x_t, t, cond)

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the same denoiser on another path."""
        raise NotImplementedError

    def of_rows(self, rows: Tensor) -> DenoiserLike:
        """Return the denoiser of some samples of all that are drawn: samplers draw them chunk by chunk.

        A denoiser that holds something for each sample takes these rows of it.

        Args:
            rows: the samples' numbers, `[B]`, for the x_t `[B, *S]` that it will be asked for.
        """
        return self._around(of_rows(self.base, rows))

    def _around(self: Wrapping, base: DenoiserLike) -> Wrapping:
        """Return this denoiser around another base; itself, around its own."""
        if base is self.base:
            return self
        other = copy.copy(self)
        other.base = base
        return other


def check_mean(denoiser: DenoiserLike, what: str) -> None:
    """Refuse a model of few steps where the mean E[x0 | x_t] is wanted.

    Raises:
        InputError: saying what needs it.
    """
    if getattr(denoiser, "grid", None) is not None:
        raise InputError(f"{what} needs a denoiser's mean, and a model of few steps has none: take an ordinary run")


def of_rows(denoiser: DenoiserLike, rows: Tensor) -> DenoiserLike:
    """Return the denoiser of some samples; itself, where all samples are alike to it (see `Wrapper.of_rows`)."""
    part = getattr(denoiser, "of_rows", None)
    return denoiser if part is None else part(rows)


class OnPath(Wrapper):
    """A denoiser that depends on the noise level alone, on another schedule's path."""

    def __init__(self, base: DenoiserLike, schedule: Schedule) -> None:
        super().__init__(base)
        self._path = schedule

    @property
    def schedule(self) -> Schedule:
        return self._path

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat for x_t on this path: rescale x_t onto the base's path at the same noise level."""
        own = self.base.schedule.time_of_level(self.schedule.noise_level(t))
        alpha, sigma = self.schedule.scales(t)
        own_alpha, own_sigma = self.base.schedule.scales(own)
        return self.base(expand_to(path_ratio(own_alpha, own_sigma, alpha, sigma), x_t) * x_t, own, cond)

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the same denoiser on yet another path."""
        return self.base if schedule == self.base.schedule else OnPath(self.base, schedule)


def spread(denoiser: DenoiserLike) -> Spread:
    """Return how far the data reach; a single point counts as of R = 1."""
    dimension = math.prod(denoiser.shape)
    rms = denoiser.sigma_data * math.sqrt(dimension) or 1.0
    return Spread(rms, dimension, min(max(denoiser.effective_dimension, 1.0), dimension))


def start_std(denoiser: DenoiserLike) -> float:
    """Return the standard deviation of a sampler's start: that of x_1, sqrt(alpha(1)^2 sigma_data^2 + sigma(1)^2).

    It is sigma(1) where alpha(1) is nearly 0, and more on a short table, where much of the data is left at t = 1.
    """
    alpha, sigma = (float(scale) for scale in denoiser.schedule.scales(1.0))
    return math.hypot(alpha * denoiser.sigma_data, sigma)
