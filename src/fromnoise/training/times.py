"""How training times are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fromnoise.errors import InputError
from fromnoise.registry import Registry
from fromnoise.schedule import Schedule, TableSchedule

time_laws: Registry[TimeLaw] = Registry("times")


class TimeLaw:
    """A distribution of training times."""

    def draw(self, schedule: Schedule, n: int, generator: torch.Generator) -> Tensor:
        """Draw n of a table's indices `[n]` int64, or on a continuous schedule n times in (0, 1], `[n]` float64."""
        raise NotImplementedError

    def density(self, schedule: Schedule, t: Tensor) -> Tensor:
        """Return the density of log SNR at the times drawn, `[n]`: what the ELBO's weighting divides by."""
        raise NotImplementedError


def _spread(schedule: Schedule, u: Tensor) -> Tensor:
    """Turn u in [0, 1) into one of a table's indices, or into a time 1 - u in (0, 1]."""
    return u.mul_(schedule.T).long() if isinstance(schedule, TableSchedule) else 1 - u


def _slope(schedule: Schedule, t: Tensor) -> Tensor:
    """Return -d log_snr/dt, over a table's own step or a short stretch."""
    half = 0.5 / schedule.T if isinstance(schedule, TableSchedule) else 1e-4
    low, high = (t - 2 * half, t) if isinstance(schedule, TableSchedule) else (t - half, t + half)
    low, high = low.clamp(min=1e-6), high.clamp(max=1)
    return (schedule.log_snr(low) - schedule.log_snr(high)) / (high - low)


@time_laws.register("uniform")
@dataclass(frozen=True)
class Uniform(TimeLaw):
    """Independent, uniform over t or over a table's steps."""

    def draw(self, schedule: Schedule, n: int, generator: torch.Generator) -> Tensor:
        return _spread(schedule, _rand(n, generator))

    def density(self, schedule: Schedule, t: Tensor) -> Tensor:
        return 1 / _slope(schedule, t)


@time_laws.register("stratified")
@dataclass(frozen=True)
class Stratified(Uniform):
    """Uniform, one in each n-th of the range: the same mean with less variance (Kingma et al. 2021, appendix I.1)."""

    def draw(self, schedule: Schedule, n: int, generator: torch.Generator) -> Tensor:
        return _spread(schedule, _strata(n, generator))


@time_laws.register("log-normal")
@dataclass(frozen=True)
class LogNormal(TimeLaw):
    """log(sigma/alpha) ~ N(mean, sd^2), stratified, cut to the schedule's range.

    Source: Karras et al. 2022, table 1 (mean -1.2, sd 1.2 for images of standard deviation 0.5).
    """

    mean: float = -0.8
    sd: Annotated[float, Field(gt=0)] = 1.4

    def draw(self, schedule: Schedule, n: int, generator: torch.Generator) -> Tensor:
        u = _strata(n, generator).clamp(1e-9, 1 - 1e-9)
        return _at_level(schedule, self.mean + self.sd * torch.special.ndtri(u))

    def density(self, schedule: Schedule, t: Tensor) -> Tensor:
        z = (torch.as_tensor(schedule.log_snr(t)) / -2 - self.mean) / self.sd
        return torch.exp(-z * z / 2) / (self.sd * math.sqrt(2 * math.pi)) / 2


@time_laws.register("geometric-levels", formerly=("ladder",))
@dataclass(frozen=True)
class GeometricLevels(TimeLaw):
    """One of several noise levels sigma/alpha in geometric progression, each as likely as the others.

    Source: Song & Ermon 2019, section 4.2 (10 levels from 1 to 0.01).

    Args:
        levels: how many levels there are.
        high: the highest level, in the denoiser's units.
        low: the lowest level.
    """

    levels: Annotated[int, Field(ge=2)] = 50
    high: Annotated[float, Field(gt=0)] = 20.0
    low: Annotated[float, Field(gt=0)] = 0.01

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise InputError(f"geometric-levels times: low must lie below high, not {self.low} >= {self.high}")

    def draw(self, schedule: Schedule, n: int, generator: torch.Generator) -> Tensor:
        level = (_strata(n, generator) * self.levels).long().clamp(max=self.levels - 1)
        log_level = math.log(self.high) + (math.log(self.low / self.high) / (self.levels - 1)) * level
        return _at_level(schedule, log_level)

    def density(self, schedule: Schedule, t: Tensor) -> Tensor:
        """Return the density for infinitely many levels between `low` and `high`."""
        return torch.full_like(t, 1 / (2 * math.log(self.high / self.low)), dtype=torch.float64)


def _at_level(schedule: Schedule, log_level: Tensor) -> Tensor:
    """Return the times of these log(sigma/alpha), or a table's nearest indices above."""
    t = torch.as_tensor(schedule.time(-2 * log_level))
    if isinstance(schedule, TableSchedule):
        return ((t * schedule.T).ceil().long() - 1).clamp(0, schedule.T - 1)
    return t


def _rand(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)


def _strata(n: int, generator: torch.Generator) -> Tensor:
    return (torch.arange(n, dtype=torch.float64, device=generator.device) + _rand(n, generator)) / n
