"""One component of each kind, as a user would write them in a file of their own."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

import fromnoise as fn
from fromnoise.process import Prediction
from fromnoise.samplers import Sampler
from fromnoise.schedule import Schedule
from fromnoise.training import Drawn, Task, TimeLaw, Weighting


@fn.register.schedule("half-cosine")
@dataclass(frozen=True)
class HalfCosine(Schedule):
    """alpha = cos(a t), sigma = sin(a t): a circular path that ends before all signal is gone.

    Args:
        angle: a, in radians.
    """

    angle: Annotated[float, Field(gt=0, lt=1.57)] = 1.5

    def formula(self, t: Any) -> Any:
        lib = torch if isinstance(t, Tensor) else __import__("math")
        return lib.cos(self.angle * t), lib.sin(self.angle * t)

    def time(self, log_snr: Any) -> Any:
        level = torch.exp(-torch.as_tensor(log_snr, dtype=torch.float64) / 2)
        t = (torch.atan(level) / self.angle).clamp(0, 1)
        return t if isinstance(log_snr, Tensor) else float(t)


@fn.register.prediction("squashed")
@dataclass(frozen=True)
class Squashed(Prediction):
    """x0_hat = reach tanh(output): not linear, and never farther out than the data.

    Args:
        reach: None for 4 standard deviations of the data.
    """

    reach: Annotated[float, Field(gt=0)] | None = None

    def fitted(self, sigma_data: float, codec: Any) -> Prediction:
        return self if self.reach else dataclasses.replace(self, reach=4 * sigma_data)

    def x0_hat(self, output: Tensor, x_t: Tensor, alpha: Any, sigma: Any) -> Tensor:
        return self.reach * torch.tanh(output)

    def target(self, x0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
        return torch.atanh((x0 / self.reach).clamp(-0.999, 0.999))


@fn.register.network("plain")
class PlainNetwork(nn.Module):
    """A perceptron with the time beside x.

    Args:
        dim: the length of a sample.
        width: of the hidden layer.
    """

    def __init__(self, dim: int, width: Annotated[int, Field(ge=1)] = 24) -> None:
        super().__init__()
        self.shape = (dim,)
        self.layers = nn.Sequential(nn.Linear(dim + 1, width), nn.SiLU(), nn.Linear(width, dim))

    def forward(self, x: Tensor, c_noise: Tensor, cond: Any = None) -> Tensor:
        time = (c_noise / 20).expand(len(x)).to(x)[:, None]
        return self.layers(torch.cat([x, time], dim=1))


@fn.register.loss("huber")
@dataclass(frozen=True)
class Huber(Task):
    """The Huber loss of the output.

    Args:
        delta: where the square ends.
    """

    delta: Annotated[float, Field(gt=0)] = 1.0

    def loss(self, drawn: Drawn) -> Tensor:
        out = self.network_output(drawn)
        rows = nn.functional.huber_loss(out, drawn.target, delta=self.delta, reduction="none").flatten(1).mean(1)
        return (rows if drawn.weight is None else drawn.weight * rows).mean()


@fn.register.weighting("flat")
@dataclass(frozen=True)
class Flat(Weighting):
    """1 for the output."""

    def of_x0(self, snr: Tensor, density: Any, sigma_data: float) -> Tensor | None:
        return None


@fn.register.times("late")
@dataclass(frozen=True)
class Late(TimeLaw):
    """Times t = sqrt(u): more of them where there is more noise."""

    def at(self, schedule: Schedule, u: Tensor) -> Tensor:
        return torch.as_tensor(schedule.nearest((1 - u).sqrt()))

    def density(self, schedule: Schedule, t: Tensor) -> Tensor:
        return 2 * t / schedule.log_snr_slope(t)


@fn.register.sampler("rounding")
@dataclass(frozen=True)
class Rounding(Sampler):
    """DDIM's step, rounded.

    Args:
        digits: how many decimals are kept.
    """

    digits: Annotated[int, Field(ge=0)] = 4

    def step(self, denoiser: Any, x_t: Tensor, t: float, s: float, *, cond: Any, noise: Any, state: Any) -> Any:
        x_s, state = fn.DDIM().step(denoiser, x_t, t, s, cond=cond, noise=noise, state=state)
        return x_s.round(decimals=self.digits), state
