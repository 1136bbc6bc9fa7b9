"""Tables: schedules of T steps, given by betas; see the head of the package."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from fromnoise.arrays import Scale, Time
from fromnoise.errors import InputError
from fromnoise.schedule.base import Schedule, alpha_sigma, schedules


class TableSchedule(Schedule):
    """A schedule defined by T betas. Subclasses define `betas`; see the head of the module."""

    T: int

    @cached_property
    def betas(self) -> np.ndarray:
        """Return the T noise increments, float64: q(x_k | x_{k-1}) = N(sqrt(1 - beta_k) x_{k-1}, beta_k)."""
        raise NotImplementedError

    @cached_property
    def alpha_bars(self) -> np.ndarray:
        """Return the T products of (1 - beta), float64: alpha_bar = alpha^2 at t = (k + 1)/T."""
        return np.cumprod(1.0 - self.betas)

    def __post_init__(self) -> None:
        betas = self.betas
        small = ~(betas >= _LEAST_BETA)  # true of NaN, too
        if small.any():
            raise InputError(
                f"{type(self).__name__}: the schedule adds no noise in step {int(small.argmax()) + 1} of "
                f"its {self.T:,}: its beta is {betas[small.argmax()]:.3g}, and less than {_LEAST_BETA:g} is none"
            )
        left = self.alpha_bars[:-1]
        if len(left) and left[-1] < _LEAST_SIGNAL:
            step = int((left < _LEAST_SIGNAL).argmax()) + 1
            raise InputError(
                f"{type(self).__name__}: the schedule leaves no signal after step {step} of {self.T:,}: "
                "only the last step may do so; make it shorter or its betas smaller"
            )

    @property
    def least_level(self) -> float:
        return float(self.noise_level(1 / self.T))

    @property
    def table_length(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride] read-only
        return self.T

    c_noise_is_level = False

    def c_noise(self, t: Time) -> Scale:
        """Return the table's index of a time, k = t T - 1, a fraction between two entries."""
        return t * self.T - 1

    def nearest(self, t: Time) -> Time:
        """Return the nearest time of an entry, (k + 1)/T."""
        if isinstance(t, Tensor):
            return (t * self.T).round().clamp(1, self.T) / self.T
        return min(max(round(t * self.T), 1), self.T) / self.T

    def uniform_time(self, u: Tensor) -> Tensor:
        return ((u * self.T).floor() + 1) / self.T

    def uniform_place(self, t: Tensor) -> Tensor:
        return t - 0.5 / self.T

    def log_snr_slope(self, t: Tensor) -> Tensor:
        """Return -d log_snr/dt over the table's step that ends at t, `[n]`."""
        return self._mean_slope(t - 1 / self.T, t)

    def formula(self, t: Time) -> tuple[Scale, Scale]:
        if isinstance(t, Tensor):
            return self._tensor_formula(t)
        position = min(max(float(t), 0.0), 1.0) * self.T
        cell = min(int(position), self.T - 1)
        if abs(position - round(position)) < 1e-9:  # on an entry: read it, do not interpolate
            bar = self._knots[0][round(position)]
            return math.sqrt(bar), math.sqrt(1 - bar)
        lower, slope = self._cell(cell)
        if math.isfinite(slope):
            return alpha_sigma(lower + (position - cell) * slope)
        bars = self._knots[0]
        bar = bars[cell] + (position - cell) * (bars[cell + 1] - bars[cell])
        return math.sqrt(bar), math.sqrt(1 - bar)

    def _cell(self, cell: int) -> tuple[float, float]:
        """Return the log SNR at a cell's start and its change to the cell's end."""
        lower, upper = self._knots[1][cell], self._knots[1][cell + 1]
        return lower, upper - lower

    def _tensor_formula(self, t: Tensor) -> tuple[Tensor, Tensor]:
        bars, log_snrs = self._knot_tensors(t)
        position = t.clamp(0, 1) * self.T
        entry = position.round()
        if (
            t.device.type == "cpu" and not t.requires_grad and bool(((position - entry).abs() < 1e-9).all())
        ):  # all on entries: read them
            bar = bars[entry.long()]
            return bar.sqrt(), (1 - bar).sqrt()
        cell = position.long().clamp(max=self.T - 1)
        part = position - cell
        lower, slope = log_snrs[cell], log_snrs[cell + 1] - log_snrs[cell]
        finite = torch.isfinite(slope)  # without infinite numbers in the branch not taken: its gradient would be NaN
        lower, slope = torch.where(finite, lower, 0.0), torch.where(finite, slope, 0.0)
        bar = torch.sigmoid(lower + part * slope)
        rest = torch.sigmoid(-(lower + part * slope))
        line = bars[cell] + part * (bars[cell + 1] - bars[cell])
        return torch.where(finite, bar, line).sqrt(), torch.where(finite, rest, 1 - line).sqrt()

    @cached_property
    def _knots(self) -> tuple[list[float], list[float]]:
        """Return alpha_bar and log SNR at t = 0, 1/T, ..., 1."""
        bars = np.concatenate([[1.0], self.alpha_bars])
        with np.errstate(divide="ignore"):
            log_snrs = np.log(bars) - np.log1p(-bars)
        return bars.tolist(), log_snrs.tolist()

    def _knot_tensors(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return the knots in the dtype and on the device of `like`, made once for each."""
        cache: dict[Any, tuple[Tensor, Tensor]] = self.__dict__.setdefault("_knot_cache", {})
        key = (like.dtype, like.device)
        if key not in cache:
            bars, log_snrs = (torch.tensor(k, dtype=like.dtype, device=like.device) for k in self._knots)
            cache[key] = (bars, log_snrs)
        return cache[key]

    def time(self, log_snr: Scale) -> Scale:
        if not isinstance(log_snr, Tensor):
            return float(self.time(torch.tensor(log_snr, dtype=torch.float64)))
        bars, log_snrs = self._knot_tensors(log_snr)
        clamped = torch.minimum(torch.maximum(log_snr, log_snrs[-1]), log_snrs[0])
        cell = (torch.searchsorted(-log_snrs, -clamped.contiguous(), right=True) - 1).clamp(0, self.T - 1)
        lower, upper = log_snrs[cell], log_snrs[cell + 1]
        bar = torch.sigmoid(clamped)
        line = (bar - bars[cell]) / (bars[cell + 1] - bars[cell])
        part = torch.where(torch.isfinite(upper - lower), (clamped - lower) / (upper - lower), line)
        return (cell + part.nan_to_num(0.0)) / self.T

    def _uniform_grid(self, steps: int) -> list[float]:
        if steps > self.T:
            raise InputError(f"steps must be at most T = {self.T}, the length of the schedule's table, not {steps}")
        return [round(self.T - i * self.T / steps) / self.T for i in range(steps + 1)]


_LEAST_BETA, _LEAST_SIGNAL = 1e-12, 1e-250
"""A smaller beta is lost in 1 - beta, and a smaller alpha_bar has no log SNR that tells two steps apart."""

Steps = Annotated[int, Field(ge=1, le=1_000_000)]
Beta = Annotated[float, Field(gt=0, lt=1)]


@schedules.register("linear")
@dataclass(frozen=True)
class LinearBeta(TableSchedule):
    """Betas evenly spaced. Source: Ho et al. 2020, section 4 (T = 1000, from 1e-4 to 0.02)."""

    T: Steps = 1000
    beta_start: Beta = 1e-4
    beta_end: Beta = 0.02

    @cached_property
    def betas(self) -> np.ndarray:
        return np.linspace(self.beta_start, self.beta_end, self.T)


@schedules.register("cosine")
@dataclass(frozen=True)
class CosineBeta(TableSchedule):
    """alpha_bar = f(t)/f(0), f(t) = cos^2((t/T + s)/(1 + s) pi/2), betas clipped at `beta_max`.

    Source: Nichol & Dhariwal 2021, eq. 17.
    """

    T: Steps = 1000
    s: Annotated[float, Field(ge=0, lt=1)] = 0.008
    beta_max: Annotated[float, Field(gt=0, le=1)] = 0.999

    @cached_property
    def betas(self) -> np.ndarray:
        f = np.cos((np.arange(self.T + 1) / self.T + self.s) / (1 + self.s) * np.pi / 2) ** 2
        return np.clip(1 - f[1:] / f[:-1], 0, self.beta_max)


@schedules.register("sigmoid")
@dataclass(frozen=True)
class SigmoidBeta(TableSchedule):
    """alpha_bar falls along a logistic curve from `start` to `end`, rescaled to run from 1 to 0; betas clipped.

    Source: Jabri et al. 2022, Algorithm 1 (`sigmoid`, tau = 1, from -3 to 3).
    """

    T: Steps = 1000
    start: float = -3.0
    end: float = 3.0
    tau: Annotated[float, Field(gt=0)] = 1.0
    beta_max: Annotated[float, Field(gt=0, le=1)] = 0.999

    @cached_property
    def betas(self) -> np.ndarray:
        if not self.end > self.start:
            raise InputError(f"sigmoid schedule: end must lie above start, not {self.end} <= {self.start}")
        x = (self.start + np.arange(self.T + 1) / self.T * (self.end - self.start)) / self.tau
        with np.errstate(over="ignore", invalid="ignore"):  # too steep a curve: refused by its betas
            f = 1 / (1 + np.exp(x))
            f = (f - f[-1]) / (f[0] - f[-1])
            return np.clip(1 - f[1:] / f[:-1], 0, self.beta_max)


def _floats(table: Any) -> Any:
    if isinstance(table, (Tensor, np.ndarray)):
        return tuple(table.tolist())
    return tuple(table) if isinstance(table, Sequence) and not isinstance(table, str) else table


@schedules.register("betas")
@dataclass(frozen=True)
class FromBetas(TableSchedule):
    """Any table of betas, each in (0, 1]; a last beta of 1 is zero terminal SNR."""

    table: Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], BeforeValidator(_floats), Field(min_length=1)]

    def __post_init__(self) -> None:
        if any(beta == 1 for beta in self.table[:-1]):
            raise InputError("betas schedule: only the last beta may be 1, as nothing of the signal is left after it")
        super().__post_init__()

    @property
    def T(self) -> int:  # noqa: N802  # pyright: ignore[reportIncompatibleVariableOverride] read-only: the length
        return len(self.table)

    @cached_property
    def betas(self) -> np.ndarray:
        return np.array(self.table, dtype=np.float64)
