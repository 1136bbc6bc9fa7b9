"""DDIM: samplers with the marginals of the forward process, from deterministic (eta = 0) to DDPM (eta = 1).

Source: Song et al. 2021 (DDIM).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from fromnoise import process
from fromnoise.arrays import Time, weighted
from fromnoise.cond import Cond
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.errors import InputError
from fromnoise.samplers.sampler import Noise, Sampler, samplers


@samplers.register("ddim")
@dataclass(frozen=True)
class DDIM(Sampler):
    """x_s = alpha_s x0_hat + sqrt(sigma_s^2 - std^2) eps_hat + std noise (eq. 12).

    With eta = 0 the times may also be one for each row, `[B]`, as distillation takes them.

    Args:
        eta: std divided by the posterior's standard deviation (eq. 16): 0 adds no noise, 1 is DDPM.
    """

    eta: Annotated[float, Field(ge=0, le=1)] = 0.0

    @property
    def convergence(self) -> int | None:
        return None if self.eta else 1

    def step(
        self, denoiser: DenoiserLike, x_t: Tensor, t: Time, s: Time, *, cond: Cond | None, noise: Noise, state: Any
    ) -> tuple[Tensor, Any]:
        x0_hat = denoiser(x_t, t, cond)
        if isinstance(t, Tensor) or isinstance(s, Tensor):
            if self.eta:
                raise InputError("DDIM takes a time for each row with eta 0 alone")
            return _each(denoiser, x_t, x0_hat, t, s), None
        if s == 0:
            return x0_hat, None
        alpha_t, sigma_t = denoiser.schedule.scales(t)
        alpha_s, sigma_s = denoiser.schedule.scales(s)
        std = self.eta * process.posterior(denoiser.schedule, t, s).std if self.eta else 0.0
        # eps_hat = (x_t - alpha_t x0_hat)/sigma_t is inserted, which leaves one coefficient for x_t and one for x0_hat
        on_x_t = math.sqrt(sigma_s**2 - std**2) / sigma_t
        x_s = weighted(on_x_t, x_t, alpha_s - on_x_t * alpha_t, x0_hat)
        return (x_s + std * noise() if std else x_s), None


def _each(denoiser: DenoiserLike, x_t: Tensor, x0_hat: Tensor, t: Time, s: Time) -> Tensor:
    """Return x_s of a step without noise from times t to times s, `[B]` or one for all; x0_hat where s is 0."""
    t, s = torch.as_tensor(t, dtype=torch.float64), torch.as_tensor(s, dtype=torch.float64)
    alpha_t, sigma_t = denoiser.schedule.scales(t)
    alpha_s, sigma_s = denoiser.schedule.scales(s)
    on_x_t = torch.where(s == 0, 0.0, sigma_s / sigma_t)
    on_x0 = torch.where(s == 0, 1.0, alpha_s - on_x_t * alpha_t)
    return weighted(on_x_t, x_t, on_x0, x0_hat)
