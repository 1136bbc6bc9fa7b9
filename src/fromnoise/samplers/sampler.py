"""The base of all samplers: a rule for one step from t to s < t. Every rule is a small frozen dataclass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.registry import Registry
from fromnoise.schedule import Schedule, Spacing

samplers: Registry[Sampler] = Registry("sampler")

Noise = Callable[[], Tensor]
"""Draws standard normal noise of x's shape, `[B, *S]`; a rule that needs none never calls it."""


class Sampler:
    """A rule for one step."""

    default_steps = 50
    of_few_steps: ClassVar[bool] = False
    """Whether the rule is for models of few steps that name it as theirs, and for no others."""
    spacing: Spacing = "uniform"
    """The spacing of the schedule's grid; rules that suit several spacings have it as a setting."""

    @property
    def convergence(self) -> int | None:
        """Return the order of convergence to the probability-flow ODE; None for a rule that draws noise."""
        return None

    @property
    def beats_euler(self) -> bool:
        """Return whether the rule claims never to be less exact than DDIM with as many evaluations."""
        return False

    def evaluations(self, steps: int) -> int:
        """Return the number of evaluations of the denoiser in `steps` steps: one a step, unless a rule overrides it."""
        return steps

    def steps_on(self, schedule: Schedule) -> int:
        """Return the number of steps when none is given: `default_steps`, or as many as a short table has entries."""
        length = schedule.table_length
        if length is None or (self.spacing != "uniform" and length > 1):
            return self.default_steps
        return min(self.default_steps, length)

    def grid(self, schedule: Schedule, steps: int, spread: float) -> list[float]:
        """Return the rule's own grid: steps + 1 times from 1 to 0.

        Args:
            schedule: the path.
            steps: the number of steps.
            spread: the data's root mean square distance from its mean, in the denoiser's units; the sampling loop
                gives a `fromnoise.denoiser.Spread`, which also has the data's dimension.
        """
        return schedule.grid(steps, self.spacing)

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond | None, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        """Return x_s and the state for the next step.

        Args:
            denoiser: returns x0_hat; its schedule is the path.
            x_t: `[B, *S]`.
            t: the time of x_t.
            s: the time of x_s, 0 <= s < t.
            cond: passed to the denoiser.
            noise: draws standard normal noise of x_t's shape.
            state: the state that the previous step returned; None in the first step.
        """
        raise NotImplementedError


def combined(on_x: Any, x: Tensor, weights: Sequence[Any], values: Sequence[Tensor]) -> Tensor:
    """Return on_x x + sum_j weights_j values_j for scalar weights, the last operation of nearly every rule."""
    out = on_x * x
    for weight, value in zip(weights, values, strict=True):
        out.add_(value, alpha=float(weight))
    return out
