"""What a sampler is: a rule for one step from t to s < t. Every rule is a small frozen dataclass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from fromnoise.arrays import Cond
from fromnoise.denoiser import DenoiserLike
from fromnoise.registry import Registry
from fromnoise.schedule import Schedule, Spacing

samplers: Registry[Sampler] = Registry("sampler")

Noise = Callable[[], Tensor]
"""Draws standard normal noise of x's shape, `[B, *S]`; a rule that needs none never calls it."""


class Sampler:
    """A rule for one step."""

    default_steps = 50
    spacing: Spacing = "uniform"
    """Of the schedule's grid; a setting of the rules that are used with several."""

    @property
    def convergence(self) -> int | None:
        """Return the order with which its steps converge to the flow; None where it draws noise."""
        return None

    def evaluations(self, steps: int) -> int:
        """Return how many times the denoiser is evaluated in so many steps: once each, unless the rule says else."""
        return steps

    def grid(self, schedule: Schedule, steps: int, spread: float) -> list[float]:
        """Return the steps + 1 times the rule likes best, from 1 to 0.

        Args:
            schedule: the path.
            steps: how many steps.
            spread: the data's root mean square distance from its mean, in the denoiser's units.
        """
        return schedule.grid(steps, self.spacing)

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        """Return x_s and the state that the next step gets.

        Args:
            denoiser: answers x0_hat; its schedule is the path.
            x_t: `[B, *S]`.
            t: where x_t is.
            s: where to go, 0 <= s < t.
            cond: handed to the denoiser.
            noise: draws standard normal noise like x_t.
            state: what the step before returned; None at the first.
        """
        raise NotImplementedError


def combined(on_x: Any, x: Tensor, weights: Sequence[Any], values: Sequence[Tensor]) -> Tensor:
    """Return on_x x + sum_j weights_j values_j, the weights being floats: what nearly every rule comes down to."""
    out = on_x * x
    for weight, value in zip(weights, values, strict=True):
        out.add_(value, alpha=float(weight))
    return out
