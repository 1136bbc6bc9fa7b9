"""How the loss is weighted: a function of the noise level.

Weightings are stated for the error of x0, w0(log_snr) |x0 - x0_hat|^2, as that is comparable between predictions;
x0 = c_skip x_t + c_out output turns it into the weight of the output's error, w = w0 c_out^2. "uniform" alone is stated
for the output itself: the simple loss, whatever is predicted (Ho et al. 2020, eq. 14).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fromnoise.errors import ConfigError
from fromnoise.registry import Registry

weightings: Registry[Weighting] = Registry("weighting")

Density = Callable[[], Tensor]


OF_STEPS = "the weighting landing is of a student's steps: distill a run with it (fromnoise distill)"


class Weighting:
    """A weight for |out - target|^2 as a function of the noise level.

    Attributes:
        of_steps: whether it weighs the steps of a distilled model, and nothing else.
    """

    of_steps: ClassVar[bool] = False

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


@weightings.register("truncated-snr")
@dataclass(frozen=True)
class TruncatedSNRWeighting(Weighting):
    """max(SNR, 1): never less than the error of x0 itself. Source: Salimans & Ho 2022, section 4, for distillation."""

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return snr.clamp(min=1.0)


@weightings.register("edm")
@dataclass(frozen=True)
class EDMWeighting(Weighting):
    """SNR + 1/sigma_data^2: unit weight for EDM's output. Source: Karras et al. 2022, table 1."""

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return snr + 1 / sigma_data**2


@weightings.register("landing")
@dataclass(frozen=True)
class Landing(Weighting):
    """Of a student's step from t to s: how far an error of x0 moves where it lands, in parts of the spread there.

    A step of DDIM lands at x_s = a x_t + b x0_hat, where x_s has a standard deviation of
    sqrt(alpha_s^2 sigma_data^2 + sigma_s^2): the weight is b^2 over its square. It falls with the noise level as SNR
    does, and is never 0.
    """

    of_steps = True

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        raise ConfigError(OF_STEPS)

    def of_step(
        self, scales: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], s: Tensor, sigma_data: float
    ) -> Tensor:
        """Return the weight of the error of x0, `[n]`.

        Args:
            scales: alpha and sigma where the steps begin.
            after: those where they end.
            s: the times where they end, 0 at the data.
            sigma_data: the data's standard deviation.
        """
        (alpha_t, sigma_t), (alpha_s, sigma_s) = scales, after
        sigma_s = torch.where(s == 0, 0.0, sigma_s)  # the last step lands on x0_hat itself
        alpha_s = torch.where(s == 0, 1.0, alpha_s)
        b = alpha_s - sigma_s / sigma_t * alpha_t
        return b.square() / (sigma_s.square() + (alpha_s * sigma_data).square())


@weightings.register("elbo")
@dataclass(frozen=True)
class ELBOWeighting(Weighting):
    """SNR/(2 p(log SNR)): the diffusion part of the ELBO in nats a coordinate, whatever way times are drawn.

    Source: Kingma et al. 2021, eq. 17, importance weighted.
    """

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return snr / (2 * density())
