"""Multistep: a predictor-corrector rule that uses each evaluation in several steps. The library's default sampler.

With D = x0_hat and the noise level v = sigma/alpha, the probability-flow ODE of x/alpha is d(x/alpha)/dv =
(x/alpha - D)/v (Karras et al. 2022, eq. 1 and 3). Integrating its linear part exactly gives

    x_s = (sigma_s/sigma_t) x_t + alpha_s I,      I = v_s * integral of D(v)/v^2 dv from v_s to v_t.

This is exact; only D along the path is unknown. It is approximated by the polynomial that interpolates its latest
values. The error depends on the variable of this polynomial. Here the variable is

    w = 1/sqrt(1 + (v/c)^2),

because of the known behaviour of D at both ends. Near the data D = x + v^2 score (Tweedie), and along the path x and
the score are even functions of v, hence D too; so is w, and v = 0 is the ordinary point w = 1. At high noise D is
nearly mean + constant/v, and w is nearly c/v. (The usual variable, log v, is infinite at both ends; atan(v/c) is finite
but odd.) Along the path for data of a single point D is constant; for Gaussian data of standard deviation c it is
a + b w, so that order 2 is exact in any number of steps.

**Predictor**: a step with the values of D up to t (Adams-Bashforth). **Corrector**: when D is known at the end of a
step, the step is repeated with this value included (Adams-Moulton) before the next step; this takes no further
evaluation. A prediction interpolates one value more than a correction. D was evaluated at the predicted x; its value at
the corrected x is taken as D + J (x corrected - x predicted), where J = alpha std^2/h^2 with h^2 = (alpha std)^2 +
sigma^2 is dD/dx for Gaussian data.

**First evaluation.** At a level far above the data D is nearly the data's mean, which carries no information, and the D
of a network that predicts eps has v times the error of eps. So D is evaluated not at t = 1, level v_1, but at the level
b,

    1/b = 1/v_1 + (1/v_s - 1/v_1)/3,

at the x that the flow of Gaussian data of mean 0 would reach there. b is a node of the Radau rule: with D at b and at
the end of the step, the first correction integrates exactly any quadratic in 1/v, and D is nearly one at such levels.
(In a single step to s = 0, D is evaluated at t = 1.)

**The first step** has D at b only, and D is far from constant over the step. With theta = atan(v/std) the flow is
d(x/h) = -Q dtheta for any data, where Q = (D - J x) h/(sigma std). -Q is the v-prediction of Salimans & Ho 2022 for
data of standard deviation std, and it is 0 for Gaussian data of mean 0. So Q is held constant, not D.

**Grid**: v = g q^p/(1 - q) with q = (N - i)/(N + 0.1), compressed into the schedule's own range of levels. High up
the levels fall like 1/i, near the data like a power of N - i: p = 1.25, or more where the last level before 0 would
otherwise be above e.

**Lengths.** The three lengths follow from the data's spread: R, the root mean square distance from the mean, its
dimension D, s = R/sqrt(D), and d, the number of directions in which the data vary (tr C)^2/tr C^2:

    g = 0.28 R (2/D)^0.055 (2/d)^0.09,   c = 0.68 R (2/D)^0.14 (2/d)^0.22,   e = 0.044 s (10/N)^(4/3).

A table whose highest level v_1 is low has less room: g and e are then held below v_1/2.

**The last step** extrapolates to v = 0. Where a table ends far above the data and many levels crowd there, the weights
of the interpolation grow without bound, and with them every error of D. So a step interpolates as many of the values
as leave the sum of its weights' sizes at most 20 times the sum of the weights, 12 times in the last step.

**Values that are known.** A denoiser may hold a part of x0 fixed (`fromnoise.Inpainted`). Where two evaluations in
turn give the same number to the bit, J = 0: that value is not moved. The last step adds weighted differences to the
latest value, so that what is fixed stays so to the bit.

The numbers were fitted to exact flows in 2 to 784 dimensions, on starts among which are those that lie where
trajectories of the flow separate: these decide the mean error. `benchmarks/solvers.py` measures it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.denoiser_like import DenoiserLike, Spread, spread
from fromnoise.errors import whole_number
from fromnoise.samplers.sampler import Noise, Sampler, combined, samplers
from fromnoise.schedule import Schedule

_GRID_POWER, _GRID_REST = 1.25, 0.1
_MOST, _MOST_IN_THE_LAST_STEP = 20.0, 12.0


def _grid_length(spread: Spread) -> float:
    """Return g, the level in the middle of the grid."""
    return 0.28 * spread * (2 / spread.dimension) ** 0.055 * (2 / spread.effective_dimension) ** 0.09


def _last_level(spread: Spread, steps: int) -> float:
    """Return e, the highest that the last level before 0 may be."""
    return 0.044 * spread.std * (10 / steps) ** (4 / 3)


def _variable_length(spread: Spread) -> float:
    """Return c, the length of the variable w."""
    return 0.68 * spread * (2 / spread.dimension) ** 0.14 * (2 / spread.effective_dimension) ** 0.22


class MultistepState(NamedTuple):
    """The state of the rule.

    Attributes:
        x: x at the start of its last step.
        t: the time there.
        values: the latest values of D, each moved to the corrected x, the newest first.
        levels: their noise levels.
        answer: the newest value of D as it was evaluated.
    """

    x: Tensor
    t: float
    values: tuple[Tensor, ...]
    levels: tuple[float, ...]
    answer: Tensor


@samplers.register("multistep")
@dataclass(frozen=True)
class Multistep(Sampler):
    """Adams-Bashforth-Moulton in a bounded variable; see the head of the module.

    Args:
        order: the number of values of D that a correction interpolates, fewer in the first steps.
    """

    order: Annotated[int, Field(ge=1, le=4)] = 4

    default_steps = 30

    @property
    def convergence(self) -> int | None:
        return self.order

    @property
    def beats_euler(self) -> bool:
        return self.order > 1

    def steps_on(self, schedule: Schedule) -> int:
        return 1 if schedule.table_length == 1 else self.default_steps

    def grid(self, schedule: Schedule, steps: int, spread: float) -> list[float]:
        """Return the times of v = g q^p/(1 - q), from t = 1 to 0; see the head of the module.

        Args:
            schedule: the path.
            steps: the number of steps.
            spread: the data's, as `fromnoise.denoiser.spread` returns it; a plain number is taken as of two dimensions.
        """
        steps = whole_number("steps", steps)
        spread = spread if isinstance(spread, Spread) else Spread(spread)
        lowest, highest = schedule.check_levels(steps), float(schedule.noise_level(1.0))
        g, e = _below(_grid_length(spread), highest / 2), _below(_last_level(spread, steps), highest / 2)
        last = 1 / (steps + _GRID_REST)
        power = max(_GRID_POWER, math.log(e * (1 - last) / g) / math.log(last))
        times = [1.0]
        for i in range(1, steps):
            q = (steps - i) * last
            level = g * q**power / (1 - q)
            within = lowest + 1 / (1 / level + 1 / (highest - lowest))  # the schedule's own range
            times.append(float(schedule.time_of_level(within)))
        return [*times, 0.0]

    def step(
        self,
        denoiser: DenoiserLike,
        x_t: Tensor,
        t: float,
        s: float,
        *,
        cond: Cond | None,
        noise: Noise,
        state: MultistepState | None,
    ) -> tuple[Tensor, Any]:
        if state is None:
            return _first(denoiser, x_t, t, s, cond)
        schedule, c = denoiser.schedule, _variable_length(spread(denoiser))
        answer = denoiser(x_t, t, cond)
        known, before = answer == state.answer, state.values
        if len(before) == 1:  # the first value was moved before it could be known as fixed
            before = (torch.where(known, answer, before[0]),)
        levels = (float(schedule.noise_level(t)), *state.levels)[: self.order + 1]
        # the corrector: the last step again
        x_c = _advance(schedule, state.x, state.t, t, values=(answer, *before)[: self.order], levels=levels, c=c)
        value = torch.where(known, answer, _moved(denoiser, answer, x_c - x_t, t))
        values = (value, *before)[: self.order + 1]
        state = MultistepState(x_c, t, values, levels, answer)
        return _advance(schedule, x_c, t, s, values=values, levels=levels, c=c), state


def _below(length: float, most: float) -> float:
    """Return a smooth minimum of the two."""
    return (length**-4 + most**-4) ** -0.25 if math.isfinite(most) else length


def _first(denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, cond: Cond | None) -> tuple[Tensor, MultistepState]:
    """Return x_s and the state after the first step: D at the level b only, Q held constant (see the module's head)."""
    schedule, std = denoiser.schedule, denoiser.sigma_data
    v_t, v_s = float(schedule.noise_level(t)), float(schedule.noise_level(s))
    b = float(schedule.time_of_level(3 / (2 / v_t + 1 / v_s))) if v_s > 0 else t
    (alpha_t, sigma_t), (alpha_b, sigma_b) = schedule.scales(t), schedule.scales(b)
    h_t, h_b = math.hypot(alpha_t * std, sigma_t), math.hypot(alpha_b * std, sigma_b)
    guess = (h_b / h_t) * x_t
    x0_hat = denoiser(guess, b, cond)

    def turned(u: float) -> Tensor:
        """Return x_u: x_u/h_u = x_t/h_t + (theta_t - theta_u) Q, Q = (D - J guess) h_b/(sigma_b std)."""
        alpha_u, sigma_u = schedule.scales(u)
        h_u = math.hypot(alpha_u * std, sigma_u)
        sine, cosine = sigma_t * alpha_u - sigma_u * alpha_t, std**2 * alpha_t * alpha_u + sigma_t * sigma_u
        turn = math.atan2(std * sine, cosine) / std if std > 0 else sine / cosine
        on_x = (h_u / h_t) * (1 - turn * alpha_b * std**2 / sigma_b)
        return combined(on_x, x_t, [h_u * h_b * turn / sigma_b], [x0_hat])

    value = _moved(denoiser, x0_hat, turned(b) - guess, b)
    return turned(s) if v_s > 0 else x0_hat, MultistepState(x_t, t, (value,), (float(schedule.noise_level(b)),), x0_hat)


def _moved(denoiser: DenoiserLike, x0_hat: Tensor, shift: Tensor, t: float) -> Tensor:
    """Return D at x_t + shift as for Gaussian data: x0_hat + alpha std^2/(alpha^2 std^2 + sigma^2) shift."""
    (alpha, sigma), std = denoiser.schedule.scales(t), denoiser.sigma_data
    return x0_hat + (alpha * std**2 / ((alpha * std) ** 2 + sigma**2)) * shift


def _advance(
    schedule: Schedule,
    x: Tensor,
    t: float,
    s: float,
    *,
    values: tuple[Tensor, ...],
    levels: tuple[float, ...],
    c: float,
) -> Tensor:
    """Return x_s from x_t, with D interpolated in w through `values` at the first of `levels`."""
    v_t, v_s = float(schedule.noise_level(t)), float(schedule.noise_level(s))
    weights = _bounded(v_t, v_s, levels[: len(values)], c)
    values = values[: len(weights)]
    if v_s == 0:  # the weights add up to 1
        newest, *others = values
        return combined(1.0, newest, weights[1:], [value - newest for value in others])
    alpha_s, sigma_s = schedule.scales(s)
    return combined(sigma_s / schedule.sigma(t), x, [alpha_s * weight for weight in weights], values)


@lru_cache(maxsize=4096)
def _bounded(v_t: float, v_s: float, levels: tuple[float, ...], c: float) -> tuple[float, ...]:
    """Return the weights of as many of the newest values as keep them within bounds; see the head of the module."""
    most = (_MOST_IN_THE_LAST_STEP if v_s == 0 else _MOST) * (1 - v_s / v_t)
    for count in range(len(levels), 1, -1):
        weights = _weights(v_t, v_s, levels[:count], c)
        if sum(abs(weight) for weight in weights) <= most:
            return weights
    return _weights(v_t, v_s, levels[:1], c)


_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(32)


def _weights(v_t: float, v_s: float, levels: tuple[float, ...], c: float) -> tuple[float, ...]:
    """Return the integral I of each Lagrange polynomial in w on the levels; the integrals add up to 1 - v_s/v_t.

    With y = v_s/v each is the integral over y in [v_s/v_t, 1] of a polynomial in w. The integrand is smooth in y, so
    Gauss-Legendre quadrature is used.
    """
    nodes = _one_less_w(np.array(levels), c)
    if v_s == 0:
        return tuple(_lagrange(nodes, np.zeros(1))[:, 0].tolist())
    low = v_s / v_t
    y = low + (1 - low) * (_NODES + 1) / 2
    values = _lagrange(nodes, _one_less_w(v_s, c * y))
    return tuple((values @ _NODE_WEIGHTS * ((1 - low) / 2)).tolist())


def _one_less_w(v: Any, c: Any) -> np.ndarray:
    """Return 1 - w without cancellation where w is nearly 1: sin^2/(1 + cos) of atan(v/c)."""
    angle = np.arctan2(v, c)
    return np.sin(angle) ** 2 / (1 + np.cos(angle))


def _lagrange(nodes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the Lagrange polynomials of `nodes` `[k]` at `at` `[m]`, as `[k, m]`."""
    rows = []
    for j, node in enumerate(nodes):
        others = np.delete(nodes, j)
        rows.append(np.prod((at[None] - others[:, None]) / (node - others)[:, None], axis=0))
    return np.array(rows)
