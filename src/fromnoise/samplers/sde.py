"""DPM-Solver++ for the reverse SDE: the multistep rule with fresh noise in every step.

A family of SDEs has the path's marginals: eta = 0 is the probability-flow ODE, eta = 1 the reverse SDE. With
lam = log(alpha/sigma), h = lam_s - lam_t and D = x0_hat, held constant (D' = 0) or linear in lam, their solution is

    x_s = (sigma_s/sigma_t) exp(-eta h) x_t + alpha_s (1 - exp(-(1 + eta) h)) [D_t + h/2 D'] + std noise,
    std = sigma_s sqrt(1 - exp(-2 eta h)).

Source: Lu et al. 2022 (DPM-Solver++), appendix on SDEs ("SDE-DPM-Solver++(2M)"); eta as in Karras' "DPM++ 2M SDE".
Order 1 with eta = 1 is DDPM's posterior.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.samplers.dpm_solver import SolverState, half_log_snr
from fromnoise.samplers.sampler import Noise, Sampler, combined, samplers
from fromnoise.schedule import Spacing


@samplers.register("sde")
@dataclass(frozen=True)
class SDE(Sampler):
    """x_s of the formula above: one evaluation and one draw of noise a step.

    Args:
        order: 1 holds D constant over a step, 2 extrapolates it linearly from its last two values.
        eta: the amount of noise, from 0 (none) to 1 (that of the reverse SDE).
        spacing: the spacing of the grid.
    """

    order: Annotated[int, Field(ge=1, le=2)] = 2
    eta: Annotated[float, Field(ge=0, le=1)] = 1.0
    spacing: Spacing = "karras"

    @property
    def convergence(self) -> int | None:
        return None if self.eta else self.order

    def step(
        self,
        denoiser: DenoiserLike,
        x_t: Tensor,
        t: float,
        s: float,
        *,
        cond: Cond | None,
        noise: Noise,
        state: SolverState | None,
    ) -> tuple[Tensor, Any]:
        schedule = denoiser.schedule
        past = (state or SolverState()).add(denoiser(x_t, t, cond), half_log_snr(schedule, t), self.order)
        if s == 0:
            return past.values[0], past
        alpha_s, sigma_s = schedule.scales(s)
        h = half_log_snr(schedule, s) - past.lams[0] if math.isfinite(past.lams[0]) else math.inf
        held = -alpha_s * math.expm1(-(1 + self.eta) * h)
        line = held * h / 2 / (past.lams[0] - past.lams[1]) if len(past.values) == 2 else 0.0
        on_x = sigma_s / schedule.sigma(t) * (math.exp(-self.eta * h) if self.eta else 1.0)
        x_s = combined(on_x, x_t, [held + line, -line][: len(past.values)], past.values)
        std = sigma_s * math.sqrt(-math.expm1(-2 * self.eta * h)) if self.eta else 0.0
        return (x_s.add_(noise(), alpha=float(std)) if std else x_s), past
