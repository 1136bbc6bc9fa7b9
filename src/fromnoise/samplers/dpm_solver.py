"""DPM-Solver++ and UniPC: exponential integrators in lam, half the log SNR.

With lam = log(alpha/sigma), h = lam_s - lam_t > 0 and D = x0_hat, the probability-flow ODE has the exact solution
(Lu et al. 2022, DPM-Solver++, eq. 8)

    x_s = (sigma_s/sigma_t) x_t + alpha_s I,      I = integral over d in [0, h] of exp(d - h) D(lam_t + d).

Both families interpolate D by a polynomial in d. The integrals of its terms are, for k = 0, 1, 2,

    phi_k = integral over d in [0, h] of exp(d - h) d^k/k! :   1 - exp(-h),  h - phi_0,  h^2/2 - phi_1.

At s = 0, where h is infinite, the step returns x0_hat. Where alpha(1) = 0, h is infinite in the first step too, which
is then Euler's step, of order 1. A noise level above 10,000 counts as infinite: D there is the data's mean, whatever x
is, and no slope can be taken from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.samplers.heun import euler
from fromnoise.samplers.sampler import Noise, Sampler, combined, samplers
from fromnoise.schedule import FAR, Schedule, Spacing


def half_log_snr(schedule: Schedule, t: float) -> float:
    """Return lam = log(alpha/sigma) at time t; -infinity where nothing is left of the data."""
    lam = float(schedule.log_snr(t)) / 2
    return lam if lam > -math.log(FAR) else -math.inf


def phis(h: float, count: int) -> list[float]:
    """Return phi_0, ..., phi_{count - 1} for a step h; see the head of the module."""
    if h < 1:  # the recursion cancels here: phi_k = sum over i > k of (-1)^(i - k - 1) h^i/i!
        return [sum((-1) ** (i - k - 1) * h**i / math.factorial(i) for i in range(k + 1, k + 20)) for k in range(count)]
    out = [-math.expm1(-h)]
    for k in range(1, count):
        out.append(h**k / math.factorial(k) - out[-1])
    return out


class SolverState(NamedTuple):
    """The state of a multistep rule: its latest values of D, newest first, and the lam of each."""

    values: tuple[Tensor, ...] = ()
    lams: tuple[float, ...] = ()

    def add(self, value: Tensor, lam: float, most: int) -> SolverState:
        """Return the state with `value` added, and only the newest `most` values kept."""
        if math.isinf(lam):  # a value at infinite lam gives no slope
            return SolverState((value,), (lam,))
        known = [(v, at) for v, at in zip(self.values, self.lams, strict=True) if math.isfinite(at)][: most - 1]
        return SolverState((value, *(v for v, _ in known)), (lam, *(at for _, at in known)))


@dataclass(frozen=True)
class _Spaced(Sampler):
    """A rule on one of the schedule's own grids.

    Args:
        order: the number of values of D that the polynomial interpolates, fewer in the first steps and the last.
        spacing: the spacing of the grid.
    """

    order: Annotated[int, Field(ge=1, le=3)] = 2
    spacing: Spacing = "karras"

    default_steps = 20


@samplers.register("dpm-solver")
@dataclass(frozen=True)
class DPMSolver(_Spaced):
    """DPM-Solver++, multistep: one evaluation a step. Source: Lu et al. 2022 (DPM-Solver++), Algorithm 2.

    Order 3 follows the authors' code, as diffusers does: the second difference has half of its weight, so the rule
    converges no faster than order 2, with smaller errors. `UniPC`, `Multistep` and the singlestep rule have true third
    order.
    """

    @property
    def convergence(self) -> int | None:
        return min(self.order, 2)

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
        if s == 0 or len(past.values) == 1:
            return euler(schedule, x_t, past.values[0], t, s), past
        h = half_log_snr(schedule, s) - past.lams[0]
        alpha_s, sigma_s = schedule.scales(s)
        weights = [alpha_s * w for w in dpm_weights(h, past.lams)]
        return combined(sigma_s / schedule.sigma(t), x_t, weights, past.values), past


def dpm_weights(h: float, lams: tuple[float, ...]) -> list[float]:
    """Return the weights of D at two or three points, newest first, for a step of h."""
    phi = phis(h, 3)
    first = 1 / (lams[0] - lams[1])  # D' from the last difference: (D_0 - D_1) first
    if len(lams) == 2:
        slope = phi[0] * h / 2 * first  # the paper's "2M" has h/2 phi_0 in place of phi_1
        return [phi[0] + slope, -slope]
    second = 1 / (lams[1] - lams[2])
    bend = 1 / (lams[0] - lams[2])
    # D' = d_0 + (d_0 - d_1)(lam_0 - lam_1) bend;  D'' is 2 (d_0 - d_1) bend, of which half is used
    on_first = phi[1] * (1 + bend / first) + phi[2] * bend
    on_second = -phi[1] * bend / first - phi[2] * bend
    return [phi[0] + on_first * first, on_second * second - on_first * first, -on_second * second]


@samplers.register("dpm-solver-singlestep")
@dataclass(frozen=True)
class DPMSolverSinglestep(_Spaced):
    """DPM-Solver++, singlestep: `order` evaluations a step and no state. Source: Lu et al. 2022, Algorithm 1.

    The last step is of order 1, so `steps` steps take order (steps - 1) + 1 evaluations.
    """

    @property
    def convergence(self) -> int | None:
        return self.order

    def evaluations(self, steps: int) -> int:
        """Return order (steps - 1) + 1. Where alpha(1) = 0 it is order - 1 less: the first step is of order 1 too."""
        return self.order * (steps - 1) + 1

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond | None, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        schedule = denoiser.schedule
        lam, at_t = half_log_snr(schedule, t), denoiser(x_t, t, cond)
        if s == 0 or math.isinf(lam) or self.order == 1:
            return euler(schedule, x_t, at_t, t, s), None
        h = half_log_snr(schedule, s) - lam

        def reach(progress: float, weights: list[float], values: list[Tensor]) -> tuple[Tensor, float]:
            """Return x at lam + progress h, and the time there."""
            there = s if progress == 1 else float(schedule.time(2 * (lam + progress * h)))
            alpha, sigma = schedule.scales(there)
            return combined(sigma / schedule.sigma(t), x_t, [alpha * w for w in weights], values), there

        if self.order == 2:  # D at the midpoint, held constant over the whole step
            middle = denoiser(*reach(0.5, phis(h / 2, 1), [at_t]), cond)
            return reach(1, phis(h, 1), [middle])[0], None
        first = denoiser(*reach(1 / 3, phis(h / 3, 1), [at_t]), cond)
        slope = phis(2 * h / 3, 2)
        d = slope[1] * 3 / h  # D' from the difference over h/3
        second = denoiser(*reach(2 / 3, [slope[0] - d, d], [at_t, first]), cond)
        whole = phis(h, 2)
        d = whole[1] * 3 / (2 * h)  # D' from the difference over 2h/3
        return reach(1, [whole[0] - d, d], [at_t, second])[0], None


@samplers.register("unipc")
@dataclass(frozen=True)
class UniPC(_Spaced):
    """UniPC with B(h) = exp(h) - 1: predict x_s; when D is known there, repeat the step with it (the corrector).

    The integrals of the polynomial are exact, except where the paper uses simpler ones: the predictor of order 2 and
    the corrector of order 1 give their difference the weight 1/2. Source: Zhao et al. 2023, Algorithms 1-2, appendix
    on orders.
    """

    @property
    def convergence(self) -> int | None:
        return self.order + 1

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond | None, noise: Noise,
        state: tuple[SolverState, Tensor, float, int] | None,
    ) -> tuple[Tensor, Any]:  # fmt: skip
        schedule = denoiser.schedule
        value, lam = denoiser(x_t, t, cond), half_log_snr(schedule, t)
        past = SolverState()
        if state is not None:
            past, x_before, before, order = state
            if math.isfinite(past.lams[0]):
                x_t = _uni(schedule, x_before, before, t, past, order=order, ahead=(value, lam))
        past = past.add(value, lam, self.order)
        if s == 0:
            return value, None
        order = len(past.values)
        return _uni(schedule, x_t, t, s, past, order=order), (past, x_t, t, order)


def _uni(
    schedule: Schedule,
    x: Tensor,
    t: float,
    s: float,
    past: SolverState,
    *,
    order: int,
    ahead: tuple[Tensor, float] | None = None,
) -> Tensor:
    """Return x_s from x_t by UniP-`order`, or, if `ahead` gives D and lam at s, by UniC-`order`."""
    if math.isinf(past.lams[0]):
        return euler(schedule, x, past.values[0], t, s)
    h = half_log_snr(schedule, s) - past.lams[0]
    others = [(v, (at - past.lams[0])) for v, at in zip(past.values[1:order], past.lams[1:order], strict=True)]
    if ahead is not None:
        others.append((ahead[0], h))
    values, at = [past.values[0], *(v for v, _ in others)], np.array([d for _, d in others])
    phi = phis(h, len(others) + 1)
    if len(others) == 1 and order == (1 if ahead is not None else 2):
        on_differences = np.array([phi[0] / 2 * h / at[0]])
    else:  # the weights w that integrate d^k exactly: sum_j w_j at_j^k = k! phi_k, k = 1, 2, ...
        powers = np.arange(1, len(others) + 1)
        wanted = [math.factorial(k) * phi[k] for k in powers]
        on_differences = np.linalg.solve(at[None] ** powers[:, None], wanted) if others else at
    weights = [phi[0] - on_differences.sum(), *on_differences]
    alpha_s, sigma_s = schedule.scales(s)
    return combined(sigma_s / schedule.sigma(t), x, [alpha_s * w for w in weights], values)
