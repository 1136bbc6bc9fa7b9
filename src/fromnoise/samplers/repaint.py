"""RePaint: a sampler for samples of which a part is known. Source: Lugmayr et al. 2022, Algorithm 1.

With the denoiser `Inpainted` the known part of x_s is an exact draw of q(x_s | known), but the unknown part is drawn
without knowledge of this draw. So each step is repeated: a step from t to s, fresh noise on both parts from s up to t,
and the step again. With each repetition the unknown part agrees better with the known part.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from fromnoise import process
from fromnoise.cond import Cond
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.samplers.sampler import Noise, Sampler, samplers
from fromnoise.schedule import Spacing


@samplers.register("repaint")
@dataclass(frozen=True)
class RePaint(Sampler):
    """DDPM's step, each but the last taken `times` times.

    Args:
        times: how often each step but the last is taken; 1 is DDPM.
        spacing: the spacing of the grid.
    """

    times: Annotated[int, Field(ge=1)] = 20
    spacing: Spacing = "karras"

    def evaluations(self, steps: int) -> int:
        """Return times (steps - 1) + 1."""
        return self.times * (steps - 1) + 1

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond | None, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        schedule = denoiser.schedule
        if s == 0:
            return denoiser(x_t, t, cond), None

        def back(x: Tensor) -> Tensor:
            return process.take_step_back(schedule, x, denoiser(x, t, cond), t, s, noise=noise())

        for _ in range(self.times - 1):
            x_t = process.take_step(schedule, back(x_t), s, t, noise=noise())
        return back(x_t), None
