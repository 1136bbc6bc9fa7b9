"""Multistep: few evaluations, each used again and again. This library's default rule.

With D = x0_hat and the noise level v = sigma/alpha, the probability-flow ODE of x/alpha is d(x/alpha)/dv =
(x/alpha - D)/v (Karras et al. 2022, eq. 1 and 3), which a change of variable solves up to an integral:

    x_s = (sigma_s/sigma_t) x_t + alpha_s I,      I = v_s * integral of D(v)/v^2 dv from v_s to v_t.

Everything is exact so far, linear part included; only D along the path is unknown. It is replaced by the polynomial
through its latest values, and all depends on the variable in which that is a polynomial. Here it is

    w = 1/sqrt(1 + (v/c)^2),

for what D is known to do at both ends. Near the data D = x + v^2 score (Tweedie), and along the path both are even
in v: so is w, and v = 0 is w = 1, an ordinary point. In the noise D goes like mean + constant/v, and so does w. (log v,
the usual variable, is infinite at both ends; atan(v/c) is finite but odd.) Along the path of a point D is constant, and
along that of a Gaussian with standard deviation c it is a + b w: order 2 is then exact in any number of steps.

**Predict** with the values up to t (Adams-Bashforth). **Correct**: once D is known at the point that a step has
reached, redo that step with it included (Adams-Moulton) before going on, at no further evaluation. A prediction goes
through one value more than a correction, and D, which was taken where the prediction led, is moved to where the
correction leads, by J = alpha std^2/h^2 of the way, h^2 = (alpha std)^2 + sigma^2, as it is for a Gaussian.

**Begin** below the top. At a level far above the data D is their mean, which is no news, and a network that predicts
eps tells it with an error of v times its own. So the first evaluation is made not at t = 1, at v_1, but at b,

    1/b = 1/v_1 + (1/v_s - 1/v_1)/3,

where x would be if the data were a Gaussian about 0. It is Radau's point: with D at b and at the end of the step, the
first correction integrates exactly what is quadratic in 1/v, as D nearly is out there. (A first step that is short,
v_1 < 3 v_s, begins where it starts.)

**The first step** knows D at b alone, and a constant is a poor guess of it. With theta = atan(v/std), x/h turns by
-Q dtheta for any data, where Q = (D - J x) h/(sigma std), the v-prediction of Salimans & Ho 2022 for data of standard
deviation std, is 0 for a Gaussian about 0. So Q is held, not D.

**Grid**: v = g q^1.25/(1 - q) with q = (N - i)/(N + 0.1), bounded by the schedule's own levels.

The two lengths follow from the data's root mean square distance from its mean, R, in d dimensions: g = 0.26 R and
c = 0.8 R/d^(1/4). The four numbers were fitted to mixtures in 2, 16 and 64 dimensions, on those of 100,000 starts
where the flow parts: they decide the mean error. Their optimum is flat; `benchmarks/solvers.py` measures it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, NamedTuple

import numpy as np
from pydantic import Field
from torch import Tensor

from fromnoise.arrays import Cond
from fromnoise.denoiser import DenoiserLike, spread
from fromnoise.errors import whole_number
from fromnoise.samplers.sampler import Noise, Sampler, combined, samplers
from fromnoise.schedule import Schedule

_GRID_LENGTH, _GRID_POWER, _GRID_REST = 0.26, 1.25, 0.1
_VARIABLE_LENGTH = 0.8


class MultistepState(NamedTuple):
    """What a multistep rule remembers: where its last step began, and D at its latest points, newest first."""

    x: Tensor
    t: float
    values: tuple[Tensor, ...]
    levels: tuple[float, ...]


@samplers.register("multistep")
@dataclass(frozen=True)
class Multistep(Sampler):
    """Adams-Bashforth-Moulton in a bounded variable; see the head of the module.

    Args:
        order: how many values of D a correction goes through, fewer in the first steps.
    """

    order: Annotated[int, Field(ge=1, le=4)] = 4

    default_steps = 30

    @property
    def convergence(self) -> int | None:
        return self.order

    def grid(self, schedule: Schedule, steps: int, spread: float) -> list[float]:
        """Return the times of v = g q^1.25/(1 - q), from t = 1 to 0; see the head of the module."""
        steps = whole_number("steps", steps)
        lowest, highest = schedule.check_levels(steps), float(schedule.noise_level(1.0))
        levels = []
        for i in range(1, steps):
            q = (steps - i) / (steps + _GRID_REST)
            level = _GRID_LENGTH * spread * q**_GRID_POWER / (1 - q)
            levels.append(lowest + 1 / (1 / level + 1 / (highest - lowest)))  # between the schedule's own
        return [1.0, *(float(schedule.time_of_level(level)) for level in levels), 0.0]

    def step(
        self,
        denoiser: DenoiserLike,
        x_t: Tensor,
        t: float,
        s: float,
        *,
        cond: Cond,
        noise: Noise,
        state: MultistepState | None,
    ) -> tuple[Tensor, Any]:
        if state is None:
            return _first(denoiser, x_t, t, s, cond)
        schedule, c = denoiser.schedule, _VARIABLE_LENGTH * spread(denoiser) / math.prod(denoiser.shape) ** 0.25
        x0_hat = denoiser(x_t, t, cond)
        levels = (float(schedule.noise_level(t)), *state.levels)[: self.order + 1]
        known = {"values": (x0_hat, *state.values)[: self.order], "levels": levels[: self.order]}
        x_c = _advance(schedule, state.x, state.t, t, **known, c=c)  # the step that led here, redone
        values = (_moved(denoiser, x0_hat, x_c - x_t, t), *state.values)[: self.order + 1]
        return _advance(schedule, x_c, t, s, values=values, levels=levels, c=c), MultistepState(x_c, t, values, levels)


def _first(denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, cond: Cond) -> tuple[Tensor, MultistepState]:
    """Go from t to s with D at one level below t alone, by a turn of x/h; see the head of the module."""
    schedule, std = denoiser.schedule, denoiser.sigma_data
    v_t, v_s = float(schedule.noise_level(t)), float(schedule.noise_level(s))
    b = float(schedule.time_of_level(3 / (2 / v_t + 1 / v_s))) if 0 < 3 * v_s <= v_t else t
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
    return turned(s) if v_s > 0 else x0_hat, MultistepState(x_t, t, (value,), (float(schedule.noise_level(b)),))


def _moved(denoiser: DenoiserLike, x0_hat: Tensor, way: Tensor, t: float) -> Tensor:
    """Return D where x_t has moved, as it would for a Gaussian: by alpha std^2/(alpha^2 std^2 + sigma^2) of the way."""
    (alpha, sigma), std = denoiser.schedule.scales(t), denoiser.sigma_data
    return x0_hat + (alpha * std**2 / ((alpha * std) ** 2 + sigma**2)) * way


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
    """Return x_s from x_t with D along the way interpolated through `values` at `levels`, in w."""
    weights = _weights(float(schedule.noise_level(t)), float(schedule.noise_level(s)), levels, c)
    alpha_s, sigma_s = schedule.scales(s)
    return combined(sigma_s / schedule.sigma(t), x, [alpha_s * weight for weight in weights], values)


_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(32)


@lru_cache(maxsize=4096)
def _weights(v_t: float, v_s: float, levels: tuple[float, ...], c: float) -> tuple[float, ...]:
    """Return the integral I of each Lagrange polynomial through the levels, in w; they add up to 1 - v_s/v_t.

    With y = v_s/v it is the integral over y in [v_s/v_t, 1] of a polynomial in w: smooth, for Gauss and Legendre.
    """
    nodes = _one_less_w(np.array(levels), c)
    if v_s == 0:
        return tuple(_lagrange(nodes, np.zeros(1))[:, 0].tolist())
    low = v_s / v_t
    y = low + (1 - low) * (_NODES + 1) / 2
    values = _lagrange(nodes, _one_less_w(v_s, c * y))
    return tuple((values @ _NODE_WEIGHTS * ((1 - low) / 2)).tolist())


def _one_less_w(v: Any, c: Any) -> np.ndarray:
    """Return 1 - w, exact where w is nearly 1: sin^2/(1 + cos) of atan(v/c)."""
    angle = np.arctan2(v, c)
    return np.sin(angle) ** 2 / (1 + np.cos(angle))


def _lagrange(nodes: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return the Lagrange polynomials of `nodes` `[k]` at `at` `[m]`, as `[k, m]`."""
    rows = []
    for j, node in enumerate(nodes):
        others = np.delete(nodes, j)
        rows.append(np.prod((at[None] - others[:, None]) / (node - others)[:, None], axis=0))
    return np.array(rows)
