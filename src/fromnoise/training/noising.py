"""What the loss is taken of: noise, target and weight of a batch.

loss = E over t, x0, eps of  w(t) |output - target|^2 / D
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fromnoise.arrays import expand_to
from fromnoise.denoiser import Denoiser
from fromnoise.process import Prediction
from fromnoise.schedule import Schedule
from fromnoise.training.times import TimeLaw, time_laws
from fromnoise.training.weighting import Weighting, weightings


class Noised(NamedTuple):
    """A training batch under noise.

    Attributes:
        x_t: `[B, *S]`.
        target: the target of the network's output, `[B, *S]`.
        t: times, `[B]` float64 on the CPU.
        scales: alpha and sigma there, as t.
        weight: of each row's squared error, as t, or None for 1.
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
        times: how times are drawn.
        weighting: of the squared error.
        sigma_data: the data's standard deviation.
    """

    schedule: Schedule
    prediction: Prediction
    times: TimeLaw
    weighting: Weighting
    sigma_data: float = 1.0

    def noised(self, x0: Tensor, t: Tensor, eps: Tensor) -> Noised:
        """Return x0 `[B, *S]` at times t `[B]` under noise eps `[B, *S]`, with the target and its weight."""
        scales = self.schedule.scales(t)
        alpha, sigma = (torch.as_tensor(expand_to(scale, x0)) for scale in scales)
        target = self.prediction.target(x0, eps, alpha, sigma)
        return Noised(torch.addcmul(alpha * x0, sigma, eps), target, t, scales, self.weight(t, scales))

    def weight(self, t: Tensor, scales: tuple[Tensor, Tensor]) -> Tensor | None:
        """Return the weight of |out - target|^2 at times t and scales `[B]`, or None for 1."""
        alpha, sigma = scales
        of_x0 = self.weighting.of_x0(
            (alpha / sigma).square(), lambda: self.times.density(self.schedule, t), self.sigma_data
        )
        weight = None if of_x0 is None else of_x0 * self.gain(scales).square()
        importance = self.times.importance(self.schedule, t)
        return importance if weight is None else weight if importance is None else weight * importance

    def gain(self, scales: tuple[Tensor, Tensor]) -> Tensor:
        """Return c_out at scales `[B]`: how far x0_hat moves when the output does."""
        return torch.as_tensor(self.prediction.coefficients(*scales)[1])


def objective(denoiser: Denoiser, weighting: Any = "uniform", times: Any = "stratified") -> Objective:
    """Return the objective that trains a denoiser, from names or settings."""
    law, weight = time_laws.build(times), weightings.build(weighting)
    return Objective(denoiser.schedule, denoiser.prediction, law, weight, denoiser.sigma_data)
