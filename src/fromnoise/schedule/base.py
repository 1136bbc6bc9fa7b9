"""What every schedule answers: scales, log SNR and its inverse, what training asks, and sampling grids."""

from __future__ import annotations

import math
from typing import Literal, overload

import torch
from torch import Tensor

from fromnoise.arrays import Scale, Time
from fromnoise.errors import InputError, whole_number
from fromnoise.registry import Registry

schedules: Registry[Schedule] = Registry("schedule")

Spacing = Literal["uniform", "quadratic", "karras"]


_C_NOISE_RANGE = 20.0
"""A continuous schedule's network is given log SNR clamped to +-20 (sigma/alpha from 4.5e-5 to 2.2e4)."""

_ROUNDING = 1e-6

FAR = 1e4
"""The noise level above which nothing counts as left of the data, as at an infinite one (zero terminal SNR)."""


def alpha_sigma(log_snr: Scale) -> tuple[Scale, Scale]:
    """Return the alpha and sigma of a variance-preserving path at a log SNR: alpha^2 = sigmoid(log_snr)."""
    if isinstance(log_snr, Tensor):
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()
    half = math.exp(-abs(log_snr))
    small, large = math.sqrt(half / (1 + half)), math.sqrt(1 / (1 + half))
    return (large, small) if log_snr > 0 else (small, large)


class Schedule:
    """The base of all schedules. Subclasses define `formula` and `time`; the other methods follow from them.

    Times may be floats or tensors of any shape; a float gives floats, a tensor gives tensors.
    """

    @overload
    def scales(self, t: float) -> tuple[float, float]: ...

    @overload
    def scales(self, t: Tensor) -> tuple[Tensor, Tensor]: ...

    def scales(self, t: Time) -> tuple[Scale, Scale]:
        """Return (alpha(t), sigma(t)). The results for floats, the times of a sampler, are cached.

        Raises:
            InputError: if a time is not in [0, 1]; of tensors, on the CPU only.
        """
        if isinstance(t, Tensor):
            self._check_times(t)
            return self.formula(t)
        known: dict[float, tuple[Scale, Scale]] = self.__dict__.setdefault("_known", {})
        if t not in known:
            if not -_ROUNDING <= t <= 1 + _ROUNDING:
                raise InputError(self._no_time(float(t)))
            if len(known) > 10_000:
                known.clear()
            known[t] = self.formula(float(t))
        return known[t]

    def _check_times(self, t: Tensor) -> None:
        if t.device.type != "cpu" or not t.numel():
            return
        if not t.is_floating_point():
            raise InputError(self._no_time(t.flatten()[0].item()))
        low, high = (float(end) for end in torch.aminmax(t.detach()))
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):
            raise InputError(self._no_time(high if low >= -_ROUNDING else low))

    def _no_time(self, t: float) -> str:
        T = self.table_length or "T"
        return f"a time is a number in [0, 1], from data to noise, not {t:g}: step k = 0, 1, ... of {T} is (k + 1)/{T}"

    def formula(self, t: Time) -> tuple[Scale, Scale]:
        """Compute (alpha(t), sigma(t)), as floats for a float."""
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

    # -- what training asks ----------------------------------------------------------------------------------------

    table_length: int | None = None
    """T of a table, None for a continuous schedule."""

    c_noise_is_level = True
    """Whether c_noise depends on the noise level alone, so that a network trained here serves every path."""

    def c_noise(self, t: Time) -> Scale:
        """Return what a network is given as the time, shaped like t: log SNR, clamped to +-20."""
        log_snr = self.log_snr(t)
        if isinstance(log_snr, Tensor):
            return log_snr.clamp(-_C_NOISE_RANGE, _C_NOISE_RANGE)
        return min(max(log_snr, -_C_NOISE_RANGE), _C_NOISE_RANGE)

    def nearest(self, t: Time) -> Time:
        """Return the nearest time at which a model on this schedule is trained: t itself, where it is continuous."""
        return t

    def uniform_time(self, u: Tensor) -> Tensor:
        """Return the times in (0, 1] of numbers u in [0, 1), `[n]`, uniform over the trained times if u is uniform."""
        return 1 - u

    def uniform_place(self, t: Tensor) -> Tensor:
        """Return a number u in [0, 1) of which `uniform_time` makes these times, `[n]`."""
        return 1 - t

    def log_snr_slope(self, t: Tensor) -> Tensor:
        """Return -d log_snr/dt at times `[n]`, by a central difference over a short stretch of time."""
        return self._mean_slope(t - 5e-5, t + 5e-5)

    def _mean_slope(self, low: Tensor, high: Tensor) -> Tensor:
        low, high = low.clamp(min=1e-6), high.clamp(max=1)
        return (torch.as_tensor(self.log_snr(low)) - torch.as_tensor(self.log_snr(high))) / (high - low)

    # -- grids -----------------------------------------------------------------------------------------------------

    def check_levels(self, steps: int) -> float:
        """Return `least_level`, below which no inner point of a grid should lie.

        Raises:
            InputError: if steps > 1 and no noise level lies between it and that of t = 1.
        """
        if steps > 1 and not self.least_level < float(self.noise_level(1.0)):
            raise InputError("this table has a single entry: sample it with steps=1")
        return self.least_level

    @property
    def least_level(self) -> float:
        """Return the lowest noise level at which a model on this schedule is trained; 0 for a continuous schedule."""
        return 0.0

    def time_of_level(self, level: Scale) -> Scale:
        """Return the time at which sigma/alpha has this value, the inverse of `noise_level`."""
        if isinstance(level, Tensor):
            return self.time(-2 * torch.log(level))
        return self.time(-2 * math.log(level) if level > 0 else math.inf)

    def grid(self, steps: int, spacing: Spacing = "uniform") -> list[float]:
        """Return the grid of a sampler with `steps` steps: steps + 1 strictly decreasing times from 1 to 0.

        Args:
            steps: the number of steps, at least 1.
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
        if highest > FAR:  # from (almost) pure noise the first step goes to EDM's sigma_max
            highest, count = 80.0, steps - 1
        a, b = highest ** (1 / rho), lowest ** (1 / rho)
        levels = [(a + i / max(count - 1, 1) * (b - a)) ** rho for i in range(count)][count - steps + 1 :]
        return [1.0, *(float(self.time_of_level(level)) for level in levels), 0.0]
