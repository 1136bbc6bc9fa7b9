"""Noise schedules: signal and noise scale at every time, x_t = alpha(t) x0 + sigma(t) eps.

Time runs from t = 0 (clean: alpha 1, sigma 0) to t = 1 (noise). Two families answer the same questions:

- A **table** has T steps, exact at t = (k + 1)/T for its index k = 0..T-1, from betas and their products
  `alpha_bars`[k] = prod_{i <= k} (1 - beta_i) in float64; alpha = sqrt(alpha_bar), sigma = sqrt(1 - alpha_bar).
  Between two entries log SNR is interpolated linearly. Where an end is infinite (the clean end t = 0, or a last
  alpha_bar of zero) alpha_bar itself is interpolated.
- A **continuous** schedule has formulas.

`log_snr(t) = 2 log(alpha/sigma)` decreases from +inf at t = 0. Each formula below is written once and serves Python
floats (float64, no tensor overhead: a sampler's scalar times) and tensors (a training batch) alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from fromnoise.arrays import Scale, Time
from fromnoise.errors import InputError, whole_number
from fromnoise.registry import Registry

schedules: Registry[Schedule] = Registry("schedule")

Spacing = Literal["uniform", "quadratic", "karras"]


_FAR = 1e4
"""A noise level above which nothing is left of the data, zero terminal SNR in all but rounding."""


def _lib(t: Any) -> Any:
    """Return the module whose exp, log, sqrt, sin fit `t`: torch for tensors, math for floats."""
    return torch if isinstance(t, Tensor) else math


def _where(condition: Any, a: Any, b: Any) -> Any:
    return torch.where(condition, a, b) if isinstance(condition, Tensor) else (a if condition else b)


def alpha_sigma(log_snr: Scale) -> tuple[Scale, Scale]:
    """Return the alpha and sigma of a variance-preserving path at a log SNR: alpha^2 = sigmoid(log_snr)."""
    if isinstance(log_snr, Tensor):
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
    half = math.exp(-abs(log_snr))
    small, large = math.sqrt(half / (1 + half)), math.sqrt(1 / (1 + half))
    return (large, small) if log_snr > 0 else (small, large)


class Schedule:
    """What every schedule answers. Subclasses give `formula` and `time`; the rest follows.

    Times may be floats or tensors of any shape; answers are floats or tensors alike.
    """

    def scales(self, t: Time) -> tuple[Scale, Scale]:
        """Return (alpha(t), sigma(t)). The answers for single times, a sampler's, are remembered."""
        if isinstance(t, Tensor):
            return self.formula(t)
        known: dict[float, tuple[Scale, Scale]] = self.__dict__.setdefault("_known", {})
        if t not in known:
            if len(known) > 10_000:
                known.clear()
            known[t] = self.formula(float(t))
        return known[t]

    def formula(self, t: Time) -> tuple[Scale, Scale]:
        """Work out (alpha(t), sigma(t)), floats for a float."""
        raise NotImplementedError

    def time(self, log_snr: Scale) -> Scale:
        """Return the time at which log SNR has this value, the inverse of `log_snr`; clamped to [0, 1]."""
        raise NotImplementedError

    def alpha(self, t: Time) -> Scale:
        """Return the signal scale."""
        return self.scales(t)[0]

    def sigma(self, t: Time) -> Scale:
        """Return the noise scale."""
        return self.scales(t)[1]

    def log_snr(self, t: Time) -> Scale:
        """Return log(alpha^2/sigma^2): +inf at t = 0, and -inf where alpha is 0."""
        alpha, sigma = self.scales(t)
        if isinstance(alpha, Tensor) or isinstance(sigma, Tensor):
            return 2 * (torch.log(torch.as_tensor(alpha)) - torch.log(torch.as_tensor(sigma)))
        if sigma == 0:
            return math.inf
        return -math.inf if alpha == 0 else 2 * (math.log(alpha) - math.log(sigma))

    def noise_level(self, t: Time) -> Scale:
        """Return sigma/alpha, the noise scale of x_t / alpha = x0 + (sigma/alpha) eps; +inf where alpha is 0."""
        alpha, sigma = self.scales(t)
        if isinstance(alpha, Tensor) or isinstance(sigma, Tensor):
            return sigma / alpha
        return sigma / alpha if alpha > 0 else math.inf

    def check_levels(self, steps: int) -> float:
        """Return `least_level`, below which no inner point of a grid should lie.

        Raises:
            InputError: if there is nothing between it and t = 1 for steps beyond the first.
        """
        if steps > 1 and not self.least_level < float(self.noise_level(1.0)):
            raise InputError("this table has a single entry: sample it with steps=1")
        return self.least_level

    @property
    def least_level(self) -> float:
        """Return the least noise level above 0 that a model on this schedule is trained at: 0 where there is none."""
        return 0.0

    def time_of_level(self, level: Scale) -> Scale:
        """Return the time at which sigma/alpha has this value, the inverse of `noise_level`."""
        if isinstance(level, Tensor):
            return self.time(-2 * torch.log(level))
        return self.time(-2 * math.log(level) if level > 0 else math.inf)

    def grid(self, steps: int, spacing: Spacing = "uniform") -> list[float]:
        """Return steps + 1 strictly decreasing times from 1 to 0: where a sampler of `steps` steps stops.

        Args:
            steps: how many steps, at least 1.
            spacing: "uniform" in t, which for a table is round(T - i T/steps)/T; "quadratic", t = (1 - i/steps)^2;
                "karras", (sigma/alpha)^(1/7) evenly spaced down to 0.002 (Karras et al. 2022, eq. 5), or a table's
                own lowest level, then 0.

        Raises:
            InputError: if steps is below 1, or above T for a table spaced uniformly.
        """
        steps = whole_number("steps", steps)
        if spacing == "uniform":
            return self._uniform_grid(steps)
        if spacing == "quadratic":
            return [((steps - i) / steps) ** 2 for i in range(steps + 1)]
        if spacing == "karras":
            return self._karras_grid(steps)
        raise InputError(f"unknown spacing {spacing!r}: known: karras, quadratic, uniform")

    def _uniform_grid(self, steps: int) -> list[float]:
        return [(steps - i) / steps for i in range(steps + 1)]

    def _karras_grid(self, steps: int, lowest: float = 0.002, rho: float = 7.0) -> list[float]:
        highest, count = float(self.noise_level(1.0)), steps
        lowest = max(lowest, self.check_levels(steps))
        if highest > _FAR:  # from (almost) pure noise the first step goes to EDM's sigma_max, spaced as usual after it
            highest, count = 80.0, steps - 1
        a, b = highest ** (1 / rho), lowest ** (1 / rho)
        levels = [(a + i / max(count - 1, 1) * (b - a)) ** rho for i in range(count)][count - steps + 1 :]
        return [1.0, *(float(self.time_of_level(level)) for level in levels), 0.0]


class TableSchedule(Schedule):
    """A schedule given by T betas. Subclasses give `betas`; see the head of the module."""

    T: int

    @cached_property
    def betas(self) -> np.ndarray:
        """Return the T noise increments, float64: q(x_k | x_{k-1}) = N(sqrt(1 - beta_k) x_{k-1}, beta_k)."""
        raise NotImplementedError

    @cached_property
    def alpha_bars(self) -> np.ndarray:
        """Return the T products of (1 - beta), float64: alpha_bar = alpha^2 at t = (k + 1)/T."""
        return np.cumprod(1.0 - self.betas)

    @property
    def least_level(self) -> float:
        return float(self.noise_level(1 / self.T))

    def index(self, t: Time) -> Scale:
        """Return the table index of a time, k = t T - 1 (a fraction between two entries)."""
        return t * self.T - 1

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

    def scales_at(self, k: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Return (alpha, sigma) at the table's indices k `[n]`, 0..T-1, by looking them up."""
        tables: dict[Any, tuple[Tensor, Tensor]] = self.__dict__.setdefault("_scale_tables", {})
        if (k.device, dtype) not in tables:
            bars = torch.tensor(self._knots[0][1:], dtype=torch.float64, device=k.device)
            tables[k.device, dtype] = bars.sqrt().to(dtype), (1 - bars).sqrt().to(dtype)
        alphas, sigmas = tables[k.device, dtype]
        return alphas.index_select(0, k), sigmas.index_select(0, k)

    def _cell(self, cell: int) -> tuple[float, float]:
        """Return the log SNR at a cell's start and its change to the cell's end."""
        lower, upper = self._knots[1][cell], self._knots[1][cell + 1]
        return lower, upper - lower

    def _tensor_formula(self, t: Tensor) -> tuple[Tensor, Tensor]:
        bars, log_snrs = self._knot_tensors(t)
        position = t.clamp(0, 1) * self.T
        cell = position.long().clamp(max=self.T - 1)
        part = position - cell
        lower, slope = log_snrs[cell], log_snrs[cell + 1] - log_snrs[cell]
        bar = torch.sigmoid(lower + part * slope)
        rest = torch.sigmoid(-(lower + part * slope))
        line = bars[cell] + part * (bars[cell + 1] - bars[cell])
        finite = torch.isfinite(slope)
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

    @property
    def T(self) -> int:  # noqa: N802  # pyright: ignore[reportIncompatibleVariableOverride] read-only: the length
        return len(self.table)

    @cached_property
    def betas(self) -> np.ndarray:
        return np.array(self.table, dtype=np.float64)


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

    Uniform times are then the Karras grid that ends on sigma = 0 itself.
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
        lib = _lib(t)
        if lib is math and t == 1:
            return 0.0, 1.0
        return lib.cos(t * (math.pi / 2)), lib.sin(t * (math.pi / 2))

    def time(self, log_snr: Scale) -> Scale:
        lib = _lib(log_snr)
        return lib.atan(lib.exp(-log_snr / 2)) * (2 / math.pi)
