"""Langevin dynamics: a sampler that needs only the score, and a corrector after the steps of another sampler.

At a fixed noise level, in x/alpha and with v = sigma/alpha, the score is (D - x/alpha)/v^2 (Tweedie; D = x0_hat), and
a step of unadjusted Langevin dynamics of size r v^2 is

    x/alpha <- x/alpha + (r/2) (D - x/alpha) + sqrt(r) v z,      z ~ N(0, I).

A step size in proportion to v^2 is Song & Ermon's rule; their r is eps/sigma_L^2 = 0.2. No step is rejected
(unadjusted), so the stationary distribution differs a little from the target. For Gaussian data of variance s^2 the
target has variance S^2 = v^2 + s^2, and the stationary variance is exactly

    S^2 / (1 - r v^2/(4 S^2)),

too large by a fraction of about r/4 at high noise (v >> s), and by none near the data (v -> 0).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.denoiser_like import DenoiserLike, spread
from fromnoise.errors import whole_number
from fromnoise.samplers.ddpm import DDPM
from fromnoise.samplers.sampler import Noise, Sampler, combined, samplers
from fromnoise.schedule import Schedule, Spacing


def langevin(denoiser: DenoiserLike, x_t: Tensor, t: float, r: float, *, cond: Cond | None, noise: Noise) -> Tensor:
    """Return x_t after one Langevin step of size r v^2 at its noise level v."""
    alpha, sigma = denoiser.schedule.scales(t)
    return combined(1 - r / 2, x_t, [alpha * r / 2, sigma * math.sqrt(r)], [denoiser(x_t, t, cond), noise()])


@samplers.register("langevin")
@dataclass(frozen=True)
class Langevin(Sampler):
    """Annealed Langevin dynamics: Langevin steps at each noise level of a geometric sequence, from high to low.

    The final x/alpha of one level is the start of the next. The last evaluation returns D itself (the "denoising step"
    of Song & Ermon 2020, section 3.3). Source: Song & Ermon 2019, Algorithm 1.

    Args:
        corrections: the number of Langevin steps at each level; the paper's T.
        size: r, the size of a step in squared noise levels; the paper's eps/sigma_L^2.
    """

    corrections: Annotated[int, Field(ge=1)] = 5
    size: Annotated[float, Field(gt=0, lt=2)] = 0.2

    default_steps = 100

    def evaluations(self, steps: int) -> int:
        """Return corrections x steps."""
        return self.corrections * steps

    def grid(self, schedule: Schedule, steps: int, spread: float) -> list[float]:
        """Return the times of noise levels in geometric progression, from 20 to 0.004 times `spread`.

        The steps of the first level are taken at t = 1, even where the noise level is higher: x_t is pure noise there.
        """
        steps = whole_number("steps", steps)
        top = min(_TOP * spread, float(schedule.noise_level(1.0)))
        low = max(_LOW * spread, schedule.check_levels(steps))
        levels = [top * (low / top) ** (i / max(steps - 1, 1)) for i in range(1, steps)]
        return [1.0, *(float(schedule.time_of_level(level)) for level in levels), 0.0]

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond | None, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        for _ in range(self.corrections if s > 0 else self.corrections - 1):
            x_t = langevin(denoiser, x_t, t, self.size, cond=cond, noise=noise)
        if s == 0:
            return denoiser(x_t, t, cond), None
        return _carried(denoiser, x_t, t, s), None


@samplers.register("predictor-corrector")
@dataclass(frozen=True)
class PredictorCorrector(Sampler):
    """A step of the reverse SDE, then Langevin steps at s. Source: Song et al. 2021 (score SDE), Algorithms 2-5.

    The predictor is ancestral: DDPM's posterior, on any path. The corrector's step size is the paper's
    2 (snr |z|/|score|)^2 with both norms replaced by their values for pure noise, sqrt(d) and sqrt(d)/sigma:
    2 snr^2 sigma^2, the same for every row.

    Args:
        corrections: the number of Langevin steps after each step but the last.
        snr: the paper's "signal-to-noise ratio" of a correction.
        spacing: the spacing of the grid.
    """

    corrections: Annotated[int, Field(ge=1)] = 1
    snr: Annotated[float, Field(gt=0, lt=0.7)] = 0.16
    spacing: Spacing = "karras"

    default_steps = 200

    def evaluations(self, steps: int) -> int:
        """Return steps + corrections (steps - 1)."""
        return steps + self.corrections * (steps - 1)

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond | None, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        x_s, _ = DDPM().step(denoiser, x_t, t, s, cond=cond, noise=noise, state=None)
        if s == 0:
            return x_s, None
        for _ in range(self.corrections):  # x + eps score + sqrt(2 eps) z: r/2 = eps/sigma^2
            x_s = langevin(denoiser, x_s, s, 4 * self.snr**2, cond=cond, noise=noise)
        return x_s, None


def _carried(denoiser: DenoiserLike, x_t: Tensor, t: float, s: float) -> Tensor:
    """Return x_t carried to s: with the same x/alpha, or, where t is above the highest level, the same x/sigma."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = denoiser.schedule.scales(t), denoiser.schedule.scales(s)
    above = sigma_t > (1 + 1e-9) * _TOP * spread(denoiser) * alpha_t
    return (sigma_s / sigma_t if above else alpha_s / alpha_t) * x_t


_TOP, _LOW = 20.0, 0.004
"""The highest and the lowest level, in units of the data's root mean square distance from its mean."""
