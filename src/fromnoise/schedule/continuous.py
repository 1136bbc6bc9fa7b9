"""Continuous schedules: a formula each."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from fromnoise.arrays import Scale, Time
from fromnoise.errors import InputError
from fromnoise.schedule.base import Schedule, alpha_sigma, schedules


def _lib(t: Any) -> Any:
    """Return the module whose exp, log, sqrt, sin fit `t`: torch for tensors, math for floats."""
    return torch if isinstance(t, Tensor) else math


@schedules.register("vp")
@dataclass(frozen=True)
class VP(Schedule):
    """The variance-preserving SDE: log alpha = -t^2 (beta_max - beta_min)/4 - t beta_min/2.

    Source: Song et al. 2021 (score SDE), eq. 33.
    """

    beta_min: Annotated[float, Field(gt=0)] = 0.1
    beta_max: Annotated[float, Field(gt=0)] = 20.0

    def __post_init__(self) -> None:
        if self.beta_max <= self.beta_min:
            raise InputError(f"vp schedule: beta_max must lie above beta_min, not {self.beta_max} <= {self.beta_min}")

    def formula(self, t: Time) -> tuple[Scale, Scale]:
        lib = _lib(t)
        log_alpha = -(t * t) * (self.beta_max - self.beta_min) / 4 - t * self.beta_min / 2
        return lib.exp(log_alpha), lib.sqrt(-lib.expm1(2 * log_alpha))

    def time(self, log_snr: Scale) -> Scale:
        # -2 log alpha = log(1 + 1/snr) = t^2 a + t b, solved for t without cancellation
        lib, a, b = _lib(log_snr), (self.beta_max - self.beta_min) / 2, self.beta_min
        c = _softplus(-log_snr)
        t = 2 * c / (b + lib.sqrt(b * b + 4 * a * c))
        return t.clamp(0, 1) if lib is torch else min(max(t, 0.0), 1.0)


def _softplus(x: Any) -> Any:
    if isinstance(x, Tensor):
        return torch.nn.functional.softplus(x)
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@schedules.register("edm")
@dataclass(frozen=True)
class EDM(Schedule):
    """The variance-exploding path of EDM: alpha = 1, sigma = sigma_max t^rho.

    A grid uniform in t is then the Karras grid whose lowest level is sigma = 0.
    Source: Karras et al. 2022, table 1 and eq. 5 (rho = 7, sigma_max = 80).
    """

    sigma_max: Annotated[float, Field(gt=0)] = 80.0
    rho: Annotated[float, Field(ge=1)] = 7.0

    def formula(self, t: Time) -> tuple[Scale, Scale]:
        return (torch.ones_like(t) if isinstance(t, Tensor) else 1.0), self.sigma_max * t**self.rho

    def time(self, log_snr: Scale) -> Scale:
        lib = _lib(log_snr)
        t = lib.exp(-(log_snr / 2 + math.log(self.sigma_max)) / self.rho)
        return t.clamp(0, 1) if lib is torch else min(max(t, 0.0), 1.0)


@schedules.register("flow")
@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """The straight path of flow matching: alpha = 1 - t, sigma = t. Source: Liu et al. 2023, eq. 1."""

    def formula(self, t: Time) -> tuple[Scale, Scale]:
        return 1 - t, t

    def time(self, log_snr: Scale) -> Scale:
        # sigma/alpha = t/(1 - t)
        if isinstance(log_snr, Tensor):
            return torch.sigmoid(-log_snr / 2)
        return 0.0 if log_snr == math.inf else alpha_sigma(log_snr / 2)[1] ** 2


@schedules.register("trig")
@dataclass(frozen=True)
class Trig(Schedule):
    """The circular path: alpha = cos(t pi/2), sigma = sin(t pi/2). Source: Albergo et al. 2023, table 2."""

    def formula(self, t: Time) -> tuple[Scale, Scale]:
        lib = _lib(t)  # cos(t pi/2) as a sine, which is 0 at t = 1 in every precision
        return lib.sin((1 - t) * (math.pi / 2)), lib.sin(t * (math.pi / 2))

    def time(self, log_snr: Scale) -> Scale:
        lib = _lib(log_snr)
        return lib.atan(lib.exp(-log_snr / 2)) * (2 / math.pi)
