"""What the best possible network would answer for drawn noisy samples: what loss floors are made of.

The data are a finite set or a mixture, so the mean and the variance of x0 given x_t are known exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner
from fromnoise.data.codec import Codec
from fromnoise.data.source import Source
from fromnoise.deprecated import Renamed
from fromnoise.exact import GaussianMixture, mixture_of_data
from fromnoise.rng import stream
from fromnoise.training.noising import Objective


class Floor(NamedTuple):
    """The least expected loss that any network can reach.

    Attributes:
        value: an estimate of it.
        error: its standard error.
        zero_output_loss: the loss of a network whose output is 0 everywhere, about where a training starts.
        note: what the data were taken to be.
    """

    value: float
    error: float
    zero_output_loss: float
    note: str

    share, law, trivial = Renamed("progress"), Renamed("note"), Renamed("zero_output_loss")

    def progress(self, loss: float) -> float | None:
        """Return how far a loss has come from `zero_output_loss` (0) to the floor (1).

        A mean over some batches may lie below the floor by chance: that is 1, too. None where the floor is not known
        to within a twentieth of the way.
        """
        way = self.zero_output_loss - self.value
        return min((self.zero_output_loss - loss) / way, 1.0) if way > 0 and self.error <= 0.05 * way else None

    def describe(self, loss: float) -> str:
        """Return how far a loss has come, in words."""
        progress = self.progress(loss)
        if progress is None:
            return "the floor is not known well enough to say how far that is"
        return f"{100 * progress:.1f}% of the way" if loss > self.value + 2 * self.error else "at the floor"

    def __str__(self) -> str:
        return f"{self.value:.5f} +- {self.error:.5f} ({self.note})"


@dataclass(frozen=True)
class Optimum:
    """Noisy samples `[n, D]` of a law, with its exact answers for them.

    Attributes:
        law: of the data, in the denoiser's units.
        goal: schedule, prediction, weighting.
        t: times, `[n]` float64 on the CPU.
        x0: clean samples, `[n, D]` float64.
        x_t: the same under noise.
        alpha: the signal's scale at t, `[n]`.
        sigma: the noise's scale at t, `[n]`.
        cond: the condition of each row, or None.
    """

    law: GaussianMixture
    goal: Objective
    t: Tensor
    x0: Tensor
    x_t: Tensor
    alpha: Tensor
    sigma: Tensor
    cond: Cond | None

    @property
    def weight(self) -> Tensor:
        """The weight of the output's squared error, `[n]`."""
        weight = self.goal.weight(self.t, self.goal.schedule.scales(self.t))
        return torch.ones_like(self.alpha) if weight is None else weight.to(self.x0)

    @cached_property
    def weight_of_x0(self) -> Tensor:
        """The weight of the squared error of x0, w/c_out^2, `[n]`."""
        return self.weight / self.goal.gain(self.goal.schedule.scales(self.t)).square().to(self.x0)

    @cached_property
    def variance(self) -> Tensor:
        """Var(x0 | x_t) of each coordinate, `[n, D]`."""
        return self.law.posterior_variance(self._shaped, self.alpha, self.sigma, self.cond).flatten(1)

    @cached_property
    def x0_hat(self) -> Tensor:
        """E[x0 | x_t], `[n, D]`."""
        return self.law.posterior_mean(self._shaped, self.alpha, self.sigma, self.cond).flatten(1)

    @property
    def _shaped(self) -> Tensor:
        return self.x_t.reshape(len(self.x_t), *self.law.shape)

    @property
    def zero_output_error(self) -> Tensor:
        """E |target|^2/D at each time, the squared error of an output of 0, `[n]`; the target is linear in x0, eps."""
        mean, variance = self.law.mean_and_variance()
        zero, one = torch.zeros_like(self.alpha), torch.ones_like(self.alpha)
        of_x0, of_eps = (
            self.goal.prediction.target(*pair, self.alpha, self.sigma) for pair in ((one, zero), (zero, one))
        )
        return of_x0.square() * (mean.square() + variance).mean().to(self.alpha) + of_eps.square()


Losses = tuple[Tensor, Tensor]
"""The least loss for each draw, `[n]`, and the loss of an output of 0, `[n]`."""


def floor_at(
    losses_of: Callable[[Optimum], Losses], law: GaussianMixture, goal: Objective, *,
    drop_cond: float = 0.0, draws: int | None = None, seed: int = 0,
) -> Floor:  # fmt: skip
    """Return the mean of the least losses over draws of t, x0 and eps, with its standard error.

    Args:
        losses_of: what is averaged.
        law: of the data, in the denoiser's units.
        goal: schedule, prediction, times, weighting.
        drop_cond: the probability of training without the condition.
        draws: how many triples, a multiple of 16; 32,768 when not given, fewer for large sets.
        seed: of the draws.
    """
    usual = min(32_768, 40_000_000 // max(law.flat.shape), _PRODUCTS // law.flat.numel())
    draws = max(2 * _ROUNDS, draws or max(_FEWEST, usual))
    draws -= draws % _ROUNDS
    generator = stream(seed, "floor", device=law.flat.device)
    x0, cond = law.draw(draws, generator)
    x0 = x0.flatten(1).double()
    eps = torch.randn(x0.shape, generator=generator, device=x0.device).to(x0)
    clock = stream(seed, "floor's times")
    t = torch.cat([goal.times.draw(goal.schedule, draws // _ROUNDS, clock) for _ in range(_ROUNDS)])
    alpha, sigma = (torch.as_tensor(scale).to(x0) for scale in goal.schedule.scales(t))
    if cond is not None and drop_cond:
        cond = cond.dropped(drop_cond, lambda _: torch.rand(draws, generator=generator, device=x0.device))
    x_t = alpha[:, None] * x0 + sigma[:, None] * eps
    least, zero = losses_of(Optimum(law, goal, t, x0, x_t, alpha, sigma, cond))
    # times are stratified within a round, so that rounds differ by less than independent draws would
    error = least.reshape(_ROUNDS, -1).mean(1).std() / math.sqrt(_ROUNDS)
    return Floor(float(least.mean()), float(error), float(zero.mean()), law.note)


_ROUNDS = 16
"""In how many independent parts draws are made: what these differ by is the error of their mean."""

_PRODUCTS, _FEWEST = 2**32, 1024
"""How many numbers of samples and draws are multiplied for a floor, about a second's work, and the fewest draws."""


def law_seen(source: Source, codec: Codec, conditioners: Sequence[Conditioner]) -> GaussianMixture | None:
    """Return the law of what a network sees of some data; None where that is not known.

    It is that of a part of many data, of so many that a floor takes a few seconds at most.
    """
    if any(one.augments for one in conditioners):
        return None  # the network sees other conditions than the data have
    rows = max(1024, min(10_000, _PRODUCTS // (_FEWEST * math.prod(source.shape))))
    law = mixture_of_data(source, codec, at_most=rows, conditioners=conditioners)
    if law.cond is not None and not all(bool(mask.all()) for mask in law.cond.given.values()):
        return None  # rows without a condition and rows that lost theirs look alike to the network
    return law
