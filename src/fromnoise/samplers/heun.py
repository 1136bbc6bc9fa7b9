"""EDM's samplers: Euler and Heun in the noise level, with churn. Source: Karras et al. 2022, Algorithms 1 and 2.

With v = sigma/alpha and D = x0_hat the probability-flow ODE of x/alpha is d(x/alpha)/dv = (x/alpha - D)/v (eq. 1 and
3). One step from v_t to v_s, r = v_s/v_t, is then, on any path,

    Euler:  x_s/alpha_s = r x_t/alpha_t + (1 - r) D_t
    Heun:   x_s/alpha_s = r x_t/alpha_t + (1 - r) [(2 r - 1) D_t + D_s]/(2 r)

where D_s is D at the end of Euler's step. Euler's step is that of DDIM; the two samplers differ in their grid. The last
step, to v_s = 0, is Euler's. Heun's weights grow like 1/r: in a step with r below 1/12, as the first from a level of
millions or from v_t = infinity (zero terminal SNR), they would make far more of an error than of a correction. The two
evaluations are then those of two steps of Euler, by way of the level sqrt(v_t v_s), or 2 v_s from infinity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from fromnoise import process
from fromnoise.arrays import weighted
from fromnoise.cond import Cond
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.samplers.sampler import Noise, Sampler, combined, samplers
from fromnoise.schedule import Schedule, Spacing

_LEAST_RATIO = 1 / 12


@dataclass(frozen=True)
class Churned(Sampler):
    """Base of Euler and Heun: the grid and the churn.

    Args:
        spacing: the spacing of the grid; "karras" is the paper's.
        churn: the relative increase of the noise level before each step: the paper's gamma, its S_churn/N, at most
            sqrt(2) - 1.
        churn_from, churn_to: the lowest and highest noise level at which churn is applied, the paper's S_tmin and
            S_tmax; None for no upper end.
        churn_noise: the standard deviation of the new noise, the paper's S_noise.
    """

    spacing: Spacing = "karras"
    churn: Annotated[float, Field(ge=0, le=math.sqrt(2) - 1)] = 0.0
    churn_from: Annotated[float, Field(ge=0)] = 0.0
    churn_to: Annotated[float, Field(gt=0)] | None = None
    churn_noise: Annotated[float, Field(gt=0)] = 1.0

    def raised(self, schedule: Schedule, x_t: Tensor, t: float, noise: Noise) -> tuple[Tensor, float]:
        """Return x and its time after the churn; the time never exceeds 1, the schedule's noisy end."""
        level = float(schedule.noise_level(t))
        high = math.inf if self.churn_to is None else self.churn_to
        if not (self.churn and self.churn_from <= level <= high and math.isfinite(level)):
            return x_t, t
        later = float(schedule.time_of_level((1 + self.churn) * level))
        if later <= t:
            return x_t, t
        return process.take_step(schedule, x_t, t, later, noise=self.churn_noise * noise()), later


@samplers.register("euler")
@dataclass(frozen=True)
class Euler(Churned):
    """Euler's method: order 1, one evaluation a step."""

    @property
    def convergence(self) -> int | None:
        return None if self.churn else 1

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond | None, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        x_t, t = self.raised(denoiser.schedule, x_t, t, noise)
        return euler(denoiser.schedule, x_t, denoiser(x_t, t, cond), t, s), None


@samplers.register("heun")
@dataclass(frozen=True)
class Heun(Churned):
    """Heun's method: order 2, two evaluations a step and one in the last, 2 steps - 1 in all."""

    default_steps = 25

    @property
    def convergence(self) -> int | None:
        return None if self.churn else 2

    def evaluations(self, steps: int) -> int:
        """Return 2 steps - 1."""
        return 2 * steps - 1

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond | None, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        schedule = denoiser.schedule
        x_t, t = self.raised(schedule, x_t, t, noise)
        at_t = denoiser(x_t, t, cond)
        if s == 0:
            return at_t, None
        v_t, v_s = float(schedule.noise_level(t)), float(schedule.noise_level(s))
        r = v_s / v_t
        if r < _LEAST_RATIO:
            middle = float(schedule.time_of_level(math.sqrt(v_t * v_s) if math.isfinite(v_t) else 2 * v_s))
            x_m = euler(schedule, x_t, at_t, t, middle)
            return euler(schedule, x_m, denoiser(x_m, middle, cond), middle, s), None
        at_s = denoiser(euler(schedule, x_t, at_t, t, s), s, cond)
        alpha_s, sigma_s = schedule.scales(s)
        half = alpha_s * (1 - r) / (2 * r)
        return combined(sigma_s / schedule.sigma(t), x_t, [half * (2 * r - 1), half], [at_t, at_s]), None


def euler(schedule: Schedule, x_t: Tensor, x0_hat: Tensor, t: float, s: float) -> Tensor:
    """Return x_s with x0_hat held constant over the step: exact for a single point, and every rule's order 1."""
    if s == 0:
        return x0_hat
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.scales(t), schedule.scales(s)
    return weighted(sigma_s / sigma_t, x_t, alpha_s - sigma_s / sigma_t * alpha_t, x0_hat)
