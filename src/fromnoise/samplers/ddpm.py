"""DDPM: draw x_s from the posterior q(x_s | x_t, x0) with x0_hat for x0. Source: Ho et al. 2020, Alg. 2, eq. 6-7.

A learned variance lies between the two fixed ones; the network predicts the fraction for each coordinate. For a step
of any length (Nichol & Dhariwal 2021, eq. 15)

    log variance = fraction log beta + (1 - fraction) log beta-tilde.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from fromnoise import process
from fromnoise.arrays import weighted
from fromnoise.cond import Cond
from fromnoise.denoiser_like import DenoiserLike, predicted
from fromnoise.samplers.sampler import Noise, Sampler, samplers


@samplers.register("ddpm")
@dataclass(frozen=True)
class DDPM(Sampler):
    """x_s = c_t x_t + c_0 x0_hat + std noise.

    Args:
        variance: the variance of a step. "small" is the posterior's variance, beta-tilde; "large" is the variance of
            q(x_t | x_s), beta. They are the lower and upper bounds of the true reverse variance (Ho et al. 2020,
            section 3.2). "learned" is the variance that the network predicts, if it was trained to predict one.
    """

    variance: Literal["small", "large", "learned"] = "small"

    default_steps = 1000

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond | None, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        x0_hat, fraction = self._evaluate(denoiser, x_t, t, cond)
        if s == 0:  # the posterior at s = 0 is x0 itself
            return x0_hat, None
        on_x_t, on_x0, std = process.posterior(denoiser.schedule, t, s)
        if self.variance != "small":
            large = process.transition(denoiser.schedule, s, t).std
            std = large if fraction is None else std * (large / std) ** fraction
        return weighted(on_x_t, x_t, on_x0, x0_hat) + std * noise(), None

    def _evaluate(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, cond: Cond | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return x0_hat and the fraction that sets a learned variance, None for a fixed one."""
        if self.variance != "learned":
            return denoiser(x_t, t, cond), None
        return predicted(denoiser, x_t, t, cond)
