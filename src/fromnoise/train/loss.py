"""The training loss: noise, target and weight of a batch.

    loss = E over t, x0, eps of  w(t) |out - target|^2 / D

`weightings` are stated for the error of x0, w0(log_snr) |x0 - x0_hat|^2, as that is comparable between predictions;
x0 = c_skip x_t + c_out out turns it into w = w0 c_out^2. "uniform" alone is stated for the output itself: the simple
loss, whatever is predicted (Ho et al. 2020, eq. 14).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from fromnoise.arrays import expand_to
from fromnoise.denoiser import Denoiser
from fromnoise.process import Prediction
from fromnoise.registry import Registry
from fromnoise.schedule import Schedule, TableSchedule
from fromnoise.train.times import TimeLaw, time_laws

# -- how the loss is weighted ----------------------------------------------------------------------------------------

weightings: Registry[Weighting] = Registry("weighting")

Density = Callable[[], Tensor]


class Weighting:
    """A weight for |out - target|^2 as a function of the noise level."""

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        """Return the weight of the error of x0, `[n]`; None for no weighting of the output at all.

        Args:
            snr: alpha^2/sigma^2.
            density: gives that of log SNR, as times are drawn.
            sigma_data: the data's standard deviation.
        """
        raise NotImplementedError


@weightings.register("uniform")
@dataclass(frozen=True)
class UniformWeighting(Weighting):
    """1 for the output as it is: L_simple for eps."""

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return None


@weightings.register("snr")
@dataclass(frozen=True)
class SNRWeighting(Weighting):
    """SNR: the simple loss of eps, whatever is predicted."""

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return snr


@weightings.register("min-snr")
@dataclass(frozen=True)
class MinSNRWeighting(Weighting):
    """min(SNR, gamma). Source: Hang et al. 2023, section 3.3 (gamma = 5); for v it is min(snr, gamma)/(snr + 1)."""

    gamma: Annotated[float, Field(gt=0)] = 5.0

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return snr.clamp(max=self.gamma)


@weightings.register("edm")
@dataclass(frozen=True)
class EDMWeighting(Weighting):
    """SNR + 1/sigma_data^2: unit weight for EDM's output. Source: Karras et al. 2022, table 1."""

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return snr + 1 / sigma_data**2


@weightings.register("elbo")
@dataclass(frozen=True)
class ELBOWeighting(Weighting):
    """SNR/(2 p(log SNR)): the diffusion part of the ELBO in nats a coordinate, whatever way times are drawn.

    Source: Kingma et al. 2021, eq. 17, importance weighted.
    """

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return snr / (2 * density())


# -- the loss --------------------------------------------------------------------------------------------------------


class Noised(NamedTuple):
    """A training batch under noise.

    Attributes:
        x_t: `[B, *S]`.
        target: what the network should say, `[B, *S]`.
        drawn: a table's indices, or times, `[B]`.
        scales: alpha and sigma there, `[B]` each.
        weight: of each row's squared error, `[B]`, or None for 1.
    """

    x_t: Tensor
    target: Tensor
    drawn: Tensor
    scales: tuple[Tensor, Tensor]
    weight: Tensor | None


@dataclass(frozen=True)
class Objective:
    """What is minimized: times, noise, target and weight for clean samples.

    Args:
        schedule: the path.
        prediction: what the network says.
        times: how times are drawn.
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
        drawn = self.times.draw(self.schedule, len(x0), generator)
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        scales = self.scales(drawn, x0.dtype)
        alpha, sigma = (torch.as_tensor(expand_to(scale, x0)) for scale in scales)
        target = self.prediction.target(x0, eps, alpha, sigma)
        return Noised(torch.addcmul(alpha * x0, sigma, eps), target, drawn, scales, self.weight(drawn, scales))

    def scales(self, drawn: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at what the time law drew, `[B]` each."""
        if isinstance(self.schedule, TableSchedule):
            return self.schedule.scales_at(drawn, dtype)
        alpha, sigma = self.schedule.scales(drawn)
        return torch.as_tensor(alpha), torch.as_tensor(sigma)

    def time(self, drawn: Tensor) -> Tensor:
        """Return what the time law drew as times, `[B]`."""
        return (drawn + 1) / self.schedule.T if isinstance(self.schedule, TableSchedule) else drawn

    def weight(self, drawn: Tensor, scales: tuple[Tensor, Tensor]) -> Tensor | None:
        """Return the weight of |out - target|^2, `[B]`, or None for 1."""
        if isinstance(self.weighting, UniformWeighting):
            return None
        alpha, sigma = scales
        of_x0 = self.weighting.of_x0(
            (alpha / sigma).square(), lambda: self.times.density(self.schedule, self.time(drawn)), self.sigma_data
        )
        return None if of_x0 is None else of_x0 * self.gain(scales).square()

    def gain(self, scales: tuple[Tensor, Tensor]) -> Tensor:
        """Return c_out at scales `[B]`: how far x0_hat moves when the output does."""
        return torch.as_tensor(self.prediction.coefficients(*scales)[1])


def deal(rows: Tensor | None, hands: int) -> Sequence[Tensor | None]:
    """Deal rows `[H N, ...]` out in turn to H hands of N: what is stratified as a whole is so in every hand."""
    if rows is None:
        return [None] * hands
    return rows.unflatten(0, (-1, hands)).transpose(0, 1).contiguous().unbind(0)


def objective(denoiser: Denoiser, weighting: Any = "uniform", times: Any = "stratified") -> Objective:
    """Return the objective that trains a denoiser, from names or settings."""
    law, weight = time_laws.build(times), weightings.build(weighting)
    return Objective(denoiser.schedule, denoiser.prediction, law, weight, denoiser.sigma_data)
