"""How training times are drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from fromnoise.errors import InputError
from fromnoise.registry import Registry
from fromnoise.schedule import Schedule

time_laws: Registry[TimeLaw] = Registry("times", "times")


class TimeLaw:
    """A distribution of training times, given by its quantile function.

    Attributes:
        stratified: whether u is drawn once in each n-th of [0, 1), which has the same mean as independent draws and
            less variance (Kingma et al. 2021, appendix I.1).
        listens: whether it changes with the losses that it hears.
    """

    stratified: ClassVar[bool] = True
    listens: ClassVar[bool] = False

    def at(self, schedule: Schedule, u: Tensor) -> Tensor:
        """Return the training times in (0, 1] of uniform numbers u in [0, 1), `[n]` float64 each, on the CPU."""
        raise NotImplementedError

    def density(self, schedule: Schedule, t: Tensor) -> Tensor:
        """Return the density of log SNR at times `[n]`: what the ELBO's weighting divides by."""
        raise NotImplementedError

    def importance(self, schedule: Schedule, t: Tensor) -> Tensor | None:
        """Return the weight of losses at times `[n]` that makes up for drawing these more or less often; None for 1."""
        return None

    def hear(self, schedule: Schedule, t: Tensor, losses: Tensor) -> None:
        """Take note of the losses of rows at times t, `[n]` each; asked of a law that listens alone."""

    def turn(self) -> None:
        """Take what was heard into account: the times of a new round are drawn next."""

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take what a checkpoint kept.

        Raises:
            CheckpointDamaged: if it cannot be that.
        """

    def draw(self, schedule: Schedule, n: int, generator: torch.Generator) -> Tensor:
        """Draw n times, `[n]` float64; the generator is the CPU's, so that every device trains at the same times."""
        u = torch.rand(n, generator=generator, dtype=torch.float64)
        return self.at(schedule, (torch.arange(n, dtype=torch.float64) + u) / n if self.stratified else u)


@time_laws.register("uniform")
@dataclass(frozen=True)
class Uniform(TimeLaw):
    """Independent, uniform over t or over a table's steps."""

    stratified = False

    def at(self, schedule: Schedule, u: Tensor) -> Tensor:
        return schedule.uniform_time(u)

    def density(self, schedule: Schedule, t: Tensor) -> Tensor:
        return 1 / schedule.log_snr_slope(t)


@time_laws.register("stratified")
@dataclass(frozen=True)
class Stratified(Uniform):
    """Uniform and stratified."""

    stratified = True


@time_laws.register("log-normal")
@dataclass(frozen=True)
class LogNormal(TimeLaw):
    """log(sigma/alpha) ~ N(mean, sd^2), stratified, cut to the schedule's range.

    Source: Karras et al. 2022, table 1 (mean -1.2, sd 1.2 for images of standard deviation 0.5).
    """

    mean: float = -0.8
    sd: Annotated[float, Field(gt=0)] = 1.4

    def at(self, schedule: Schedule, u: Tensor) -> Tensor:
        return _at_level(schedule, self.mean + self.sd * torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9)))

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

    levels: Annotated[int, Field(ge=2, le=100_000)] = 50
    high: Annotated[float, Field(gt=0)] = 20.0
    low: Annotated[float, Field(gt=0)] = 0.01

    def __post_init__(self) -> None:
        if self.low >= self.high:
            raise InputError(f"geometric-levels times: low must lie below high, not {self.low} >= {self.high}")

    def at(self, schedule: Schedule, u: Tensor) -> Tensor:
        level = (u * self.levels).long().clamp(max=self.levels - 1)
        log_level = math.log(self.high) + (math.log(self.low / self.high) / (self.levels - 1)) * level
        return _at_level(schedule, log_level)

    def density(self, schedule: Schedule, t: Tensor) -> Tensor:
        """Return the density for infinitely many levels between `low` and `high`."""
        return torch.full_like(t, 1 / (2 * math.log(self.high / self.low)), dtype=torch.float64)


def _at_level(schedule: Schedule, log_level: Tensor) -> Tensor:
    """Return the training times nearest to these log(sigma/alpha)."""
    return torch.as_tensor(schedule.nearest(schedule.time(-2 * log_level)))
