"""RePaint: the sampler for completing samples of which a part is known. Source: Lugmayr et al. 2022, Algorithm 1.

With `Inpainted` in the denoiser's place the known part of x_s is an exact draw of q(x_s | known), but the unknown part
was drawn before it could see that. So each step is taken several times: back to s, forth to t by fresh noise over
both parts, back again, and what is unknown comes to agree with what is known.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor

from fromnoise import process
from fromnoise.arrays import Cond
from fromnoise.denoiser import DenoiserLike
from fromnoise.samplers.sampler import Noise, Sampler, samplers
from fromnoise.schedule import Spacing


@samplers.register("repaint")
@dataclass(frozen=True)
class RePaint(Sampler):
    """DDPM's step, each but the last taken `times` times.

    Args:
        times: how often; 1 is DDPM.
        spacing: of the grid.
    """

    times: Annotated[int, Field(ge=1)] = 20
    spacing: Spacing = "karras"

    def evaluations(self, steps: int) -> int:
        """Return times (steps - 1) + 1."""
        return self.times * (steps - 1) + 1

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        schedule = denoiser.schedule
        if s == 0:
            return denoiser(x_t, t, cond), None

        def back(x: Tensor) -> Tensor:
            return process.take_step_back(schedule, x, denoiser(x, t, cond), t, s, noise=noise())

        for _ in range(self.times - 1):
            x_t = process.take_step(schedule, back(x_t), s, t, noise=noise())
        return back(x_t), None
