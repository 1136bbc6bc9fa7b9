"""The sampler of consistency models. Source: Song, Dhariwal, Chen & Sutskever 2023, algorithm 1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.samplers.sampler import Noise, Sampler, samplers


@samplers.register("consistency")
@dataclass(frozen=True)
class Consistency(Sampler):
    """x_s = alpha_s x0_hat + sigma_s noise: to the end, and back to s with fresh noise.

    It is for models whose x0_hat is the end of the way, and takes no others: from the mean E[x0 | x_t] it would come
    to samples between the modes.
    """

    default_steps = 2
    of_few_steps = True

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: float, s: float, *, cond: Cond | None, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        x0_hat = denoiser(x_t, t, cond)
        if s == 0:
            return x0_hat, None
        alpha_s, sigma_s = denoiser.schedule.scales(s)
        return alpha_s * x0_hat + sigma_s * noise(), None
