"""What the loss is taken of: noise, target and weight of a batch.

loss = E over t, x0, eps of  w(t) |output - target|^2 / D
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fromnoise.arrays import expand_to
from fromnoise.denoiser import Denoiser
from fromnoise.process import Prediction
from fromnoise.schedule import Schedule, TableSchedule
from fromnoise.training.times import TimeLaw, time_laws
from fromnoise.training.weighting import UniformWeighting, Weighting, weightings


class Noised(NamedTuple):
    """A training batch under noise.

    Attributes:
        x_t: `[B, *S]`.
        target: the target of the network's output, `[B, *S]`.
        t: a table's indices, or times, `[B]`.
        scales: alpha and sigma there, `[B]` each.
        weight: of each row's squared error, `[B]`, or None for 1.
    """

    x_t: Tensor
    target: Tensor
    t: Tensor
    scales: tuple[Tensor, Tensor]
    weight: Tensor | None


@dataclass(frozen=True)
class Objective:
    """What is minimized: times, noise, target and weight for clean samples.

    Args:
        schedule: the path.
        prediction: what the network's output means.
        times: how times are t.
        weighting: of the squared error.
        sigma_data: the data's standard deviation.
    """

    schedule: Schedule
    prediction: Prediction
    times: TimeLaw
    weighting: Weighting
    sigma_data: float = 1.0

    def noised(self, x0: Tensor, generator: torch.Generator) -> Noised:
        """Draw times and noise for x0 `[B, *S]`."""
        t = self.times.draw(self.schedule, len(x0), generator)
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        scales = self.scales(t, x0.dtype)
        alpha, sigma = (torch.as_tensor(expand_to(scale, x0)) for scale in scales)
        target = self.prediction.target(x0, eps, alpha, sigma)
        return Noised(torch.addcmul(alpha * x0, sigma, eps), target, t, scales, self.weight(t, scales))

    def scales(self, t: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at what the time law drew, `[B]` each."""
        if isinstance(self.schedule, TableSchedule):
            return self.schedule.scales_at(t, dtype)
        alpha, sigma = self.schedule.scales(t)
        return torch.as_tensor(alpha), torch.as_tensor(sigma)

    def time(self, t: Tensor) -> Tensor:
        """Return what the time law drew as times, `[B]`."""
        return (t + 1) / self.schedule.T if isinstance(self.schedule, TableSchedule) else t

    def weight(self, t: Tensor, scales: tuple[Tensor, Tensor]) -> Tensor | None:
        """Return the weight of |out - target|^2, `[B]`, or None for 1."""
        if isinstance(self.weighting, UniformWeighting):
            return None
        alpha, sigma = scales
        of_x0 = self.weighting.of_x0(
            (alpha / sigma).square(), lambda: self.times.density(self.schedule, self.time(t)), self.sigma_data
        )
        return None if of_x0 is None else of_x0 * self.gain(scales).square()

    def gain(self, scales: tuple[Tensor, Tensor]) -> Tensor:
        """Return c_out at scales `[B]`: how far x0_hat moves when the output does."""
        return torch.as_tensor(self.prediction.coefficients(*scales)[1])


def interleave(rows: Tensor | None, batches: int) -> Sequence[Tensor | None]:
    """Split rows `[K N, ...]` into K batches of N, taking them in turn: stratified rows stay so in every batch."""
    if rows is None:
        return [None] * batches
    return rows.unflatten(0, (-1, batches)).transpose(0, 1).contiguous().unbind(0)


def objective(denoiser: Denoiser, weighting: Any = "uniform", times: Any = "stratified") -> Objective:
    """Return the objective that trains a denoiser, from names or settings."""
    law, weight = time_laws.build(times), weightings.build(weighting)
    return Objective(denoiser.schedule, denoiser.prediction, law, weight, denoiser.sigma_data)
