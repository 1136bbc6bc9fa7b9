"""How the loss is weighted: a function of the noise level.

Weightings are stated for the error of x0, w0(log_snr) |x0 - x0_hat|^2, as that is comparable between predictions;
x0 = c_skip x_t + c_out output turns it into the weight of the output's error, w = w0 c_out^2. "uniform" alone is stated
for the output itself: the simple loss, whatever is predicted (Ho et al. 2020, eq. 14).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from fromnoise.registry import Registry

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


@weightings.register("elbo")
@dataclass(frozen=True)
class ELBOWeighting(Weighting):
    """SNR/(2 p(log SNR)): the diffusion part of the ELBO in nats a coordinate, whatever way times are drawn.

    Source: Kingma et al. 2021, eq. 17, importance weighted.
    """

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return snr / (2 * density())
