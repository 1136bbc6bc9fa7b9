"""Multistep: few evaluations, each used again and again. This library's default rule.

With D = x0_hat and the noise level v = sigma/alpha, the probability-flow ODE of x/alpha is d(x/alpha)/dv =
(x/alpha - D)/v (Karras et al. 2022, eq. 1 and 3), which a change of variable solves up to an integral:

    x_s = (sigma_s/sigma_t) x_t + alpha_s I,      I = v_s * integral of D(v)/v^2 dv from v_s to v_t.

Everything is exact so far, linear part included; only D along the path is unknown. It is replaced by the polynomial
through its latest values, in the variable

    u = atan(v/c),

which is bounded at both ends (log v, the usual choice, is at neither): at v = 0, D is x0 itself and u = 0, so the last
step is plain extrapolation to u = 0, and a start at v = infinity (zero terminal SNR) is u = pi/2.

**Predict** with the values up to t (Adams-Bashforth). **Correct**: once D is known at the point that a step has
reached, redo that step with it included (Adams-Moulton) before going on, at no further evaluation.

With y = v_s/v the integral is I = integral over y in [v_s/v_t, 1] of D(u), u = atan(v_s/(c y)): smooth, and its
weights come from a Gauss-Legendre rule once for each step of a grid.

Two lengths follow from the data's root mean square distance from its mean, R: the grid has v/(g + v) evenly spaced
with g = 0.26 R, and c = 1.1 R.
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
from fromnoise.sample.sampler import Noise, Sampler, combined, samplers
from fromnoise.schedule import Schedule

_GRID_LENGTH, _VARIABLE_LENGTH = 0.26, 1.1


class Past(NamedTuple):
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
        order: how many values of D the polynomial goes through, fewer in the first steps.
    """

    order: Annotated[int, Field(ge=1, le=4)] = 3

    default_steps = 30

    @property
    def convergence(self) -> int | None:
        return self.order

    def grid(self, schedule: Schedule, steps: int, spread: float) -> list[float]:
        """Return the times at which v/(g + v) is evenly spaced, from t = 1 to 0."""
        steps = whole_number("steps", steps)
        g = _GRID_LENGTH * spread
        highest = float(schedule.noise_level(1.0))
        top = 1.0 if math.isinf(highest) else highest / (g + highest)
        shares = [top * (steps - i) / steps for i in range(1, steps)]
        return [1.0, *(float(schedule.time_of_level(g * share / (1 - share))) for share in shares), 0.0]

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond, noise: Noise, state: Past | None
    ) -> tuple[Tensor, Any]:
        values, levels = (denoiser(x_t, t, cond),), (float(denoiser.schedule.noise_level(t)),)
        if state is not None:
            values, levels = values + state.values, levels + state.levels
        values, levels = values[: self.order], levels[: self.order]
        known: dict[str, Any] = {"values": values, "levels": levels, "c": _VARIABLE_LENGTH * spread(denoiser)}
        if state is not None:  # correct the step that led here
            x_t = _advance(denoiser.schedule, state.x, state.t, t, **known)
        return _advance(denoiser.schedule, x_t, t, s, **known), Past(x_t, t, values, levels)


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
    """Return x_s from x_t with D along the way interpolated through `values` at `levels`, in atan(level/c)."""
    weights = _weights(float(schedule.noise_level(t)), float(schedule.noise_level(s)), levels, c)
    alpha_s, sigma_s = schedule.scales(s)
    return combined(sigma_s / schedule.sigma(t), x, [alpha_s * weight for weight in weights], values)


_NODES, _NODE_WEIGHTS = np.polynomial.legendre.leggauss(32)


@lru_cache(maxsize=4096)
def _weights(v_t: float, v_s: float, levels: tuple[float, ...], c: float) -> tuple[float, ...]:
    """Return the integral I of each Lagrange polynomial through the levels, in u; they add up to 1 - v_s/v_t."""
    nodes = np.arctan(np.array(levels) / c)
    if v_s == 0:
        return tuple(_lagrange(nodes, np.zeros(1))[:, 0].tolist())
    low = v_s / v_t
    y = low + (1 - low) * (_NODES + 1) / 2
    values = _lagrange(nodes, np.arctan2(v_s, c * y))
    return tuple((values @ _NODE_WEIGHTS * ((1 - low) / 2)).tolist())


def _lagrange(nodes: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Return the Lagrange polynomials of `nodes` `[k]` at `u` `[m]`, as `[k, m]`."""
    rows = []
    for j, node in enumerate(nodes):
        others = np.delete(nodes, j)
        rows.append(np.prod((u[None] - others[:, None]) / (node - others)[:, None], axis=0))
    return np.array(rows)
