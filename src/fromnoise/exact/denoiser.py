"""The exact denoiser of a mixture on a schedule."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from fromnoise.arrays import Scale, Time
from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner, Words
from fromnoise.data.codec import Affine, Codec
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.deprecated import Renamed
from fromnoise.schedule import Schedule, schedules


@runtime_checkable
class KnownLaw(Protocol):
    """What an exact denoiser asks of a law of x0. `GaussianMixture` is one."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def conditioners(self) -> tuple[Conditioner, ...]: ...
    @property
    def label_names(self) -> tuple[str, ...]: ...

    def read(self, words: Words, n: int) -> Cond | None: ...
    def mean_and_variance(self) -> tuple[Tensor, Tensor]: ...
    def effective_dimension(self) -> float: ...
    def posterior_mean(self, x_t: Tensor, alpha: Scale, sigma: Scale, cond: Words = None) -> Tensor: ...
    def noised(self, schedule: Schedule, t: float) -> KnownLaw: ...
    def log_prob(self, x: Tensor, cond: Words = None) -> Tensor: ...
    def score(self, x: Tensor, cond: Words = None) -> Tensor: ...


class ExactDenoiser:
    """E[x0 | x_t, cond] of a known law on a schedule, with the noised law's score and density."""

    def __init__(self, law: KnownLaw, schedule: Schedule | str, codec: Codec | None = None) -> None:
        self.law = law
        self.schedule = schedules.get(schedule)
        self.shape = law.shape
        self.sigma_data = float(law.mean_and_variance()[1].mean().sqrt())
        self.codec = (codec or Affine()).shaped(law.shape)

    _effective_dimension: float | None = None
    scaling = Renamed("codec")

    @property
    def effective_dimension(self) -> float:
        """(tr C)^2 / tr C^2 of the law's covariance C, from 1 to D."""
        if self._effective_dimension is None:
            self._effective_dimension = self.law.effective_dimension()
        return self._effective_dimension

    @property
    def conditioners(self) -> tuple[Conditioner, ...]:
        """What turns a user's words into conditions."""
        return self.law.conditioners

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels it knows, in the order of their numbers."""
        return self.law.label_names

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.law.device

    def read(self, words: Words, n: int) -> Cond | None:
        """Return the condition of n samples that a user's words mean."""
        return self.law.read(words, n)

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        """Return x0_hat `[B, *S]`."""
        alpha, sigma = self.schedule.scales(t)
        if not isinstance(sigma, Tensor) and sigma == 0:
            return x_t / alpha
        return self.law.posterior_mean(x_t, alpha, sigma, cond)

    def log_prob(self, x_t: Tensor, t: float, cond: Words = None) -> Tensor:
        """Return log p_t(x_t | cond) in nats, `[B]`."""
        return self.law.noised(self.schedule, t).log_prob(x_t, cond)

    def score(self, x_t: Tensor, t: float, cond: Words = None) -> Tensor:
        """Return grad log p_t(x_t | cond), `[B, *S]`."""
        return self.law.noised(self.schedule, t).score(x_t, cond)

    def on(self, schedule: Schedule) -> DenoiserLike:
        """Return the exact denoiser of the same law on another path."""
        return self if schedule == self.schedule else ExactDenoiser(self.law, schedule, self.codec)
