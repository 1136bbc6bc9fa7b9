"""The training loss, and the least that it can be.

    loss = E over t, x0, eps of  w(t) |out - target|^2 / D

`weightings` are stated for the error of x0, w0(log_snr) |x0 - x0_hat|^2, as that is comparable between predictions;
x0 = c_skip x_t + c_out out turns it into w = w0 c_out^2. "uniform" alone is stated for the output itself: the simple
loss, whatever is predicted (Ho et al. 2020, eq. 14).

The optimal denoiser of a finite set or a mixture is known, so is its loss: `loss_floor`. No network gets below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from fromnoise.arrays import Cond, expand_to
from fromnoise.data.dataset import Dataset
from fromnoise.denoiser import Denoiser
from fromnoise.errors import InputError
from fromnoise.exact import GaussianMixture, law_of
from fromnoise.process import EDMPrediction, Prediction, prediction
from fromnoise.registry import Registry
from fromnoise.rng import stream
from fromnoise.schedule import Schedule, TableSchedule

# -- how times are drawn ---------------------------------------------------------------------------------------------

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
        log_level = self.mean + self.sd * torch.special.ndtri(u)
        t = torch.as_tensor(schedule.time(-2 * log_level))
        if isinstance(schedule, TableSchedule):
            return ((t * schedule.T).ceil().long() - 1).clamp(0, schedule.T - 1)
        return t

    def density(self, schedule: Schedule, t: Tensor) -> Tensor:
        z = (torch.as_tensor(schedule.log_snr(t)) / -2 - self.mean) / self.sd
        return torch.exp(-z * z / 2) / (self.sd * math.sqrt(2 * math.pi)) / 2


def _rand(n: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, generator=generator, dtype=torch.float64, device=generator.device)


def _strata(n: int, generator: torch.Generator) -> Tensor:
    return (torch.arange(n, dtype=torch.float64, device=generator.device) + _rand(n, generator)) / n


# -- how the loss is weighted ----------------------------------------------------------------------------------------

weightings: Registry[Weighting] = Registry("weighting")

Density = Callable[[], Tensor]


class Weighting:
    """A weight for |out - target|^2 as a function of the noise level."""

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        """Return the weight of the error of x0, `[n]`; None for no weighting of the output at all.

        Args:
            snr: alpha^2/sigma^2.
            density: gives that of log SNR, as times are drawn.
            sigma_data: the data's standard deviation.
        """
        raise NotImplementedError


@weightings.register("uniform")
@dataclass(frozen=True)
class UniformWeighting(Weighting):
    """1 for the output as it is: L_simple for eps."""

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return None


@weightings.register("snr")
@dataclass(frozen=True)
class SNRWeighting(Weighting):
    """SNR: the simple loss of eps, whatever is predicted."""

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return snr


@weightings.register("min-snr")
@dataclass(frozen=True)
class MinSNRWeighting(Weighting):
    """min(SNR, gamma). Source: Hang et al. 2023, section 3.3 (gamma = 5); for v it is min(snr, gamma)/(snr + 1)."""

    gamma: Annotated[float, Field(gt=0)] = 5.0

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return snr.clamp(max=self.gamma)


@weightings.register("edm")
@dataclass(frozen=True)
class EDMWeighting(Weighting):
    """SNR + 1/sigma_data^2: unit weight for EDM's output. Source: Karras et al. 2022, table 1."""

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return snr + 1 / sigma_data**2


@weightings.register("elbo")
@dataclass(frozen=True)
class ELBOWeighting(Weighting):
    """SNR/(2 p(log SNR)): the diffusion part of the ELBO in nats a coordinate, whatever way times are drawn.

    Source: Kingma et al. 2021, eq. 17, importance weighted.
    """

    def of_x0(self, snr: Tensor, density: Density, sigma_data: float) -> Tensor | None:
        return snr / (2 * density())


# -- the loss --------------------------------------------------------------------------------------------------------


class Noised(NamedTuple):
    """A training batch under noise.

    Attributes:
        x_t: `[B, *S]`.
        target: what the network should say, `[B, *S]`.
        drawn: a table's indices, or times, `[B]`.
        scales: alpha and sigma there, `[B]` each.
        weight: of each row's squared error, `[B]`, or None for 1.
    """

    x_t: Tensor
    target: Tensor
    drawn: Tensor
    scales: tuple[Tensor, Tensor]
    weight: Tensor | None


@dataclass(frozen=True)
class Objective:
    """What is minimized: times, noise, target and weight for clean samples.

    Args:
        schedule: the path.
        prediction: what the network says.
        times: how times are drawn.
        weighting: of the squared error.
        sigma_data: the data's standard deviation.
    """

    schedule: Schedule
    prediction: Prediction
    times: TimeLaw
    weighting: Weighting
    sigma_data: float = 1.0

    def noised(self, x0: Tensor, generator: torch.Generator) -> Noised:
        """Draw times and noise for x0 `[B, *S]`."""
        drawn = self.times.draw(self.schedule, len(x0), generator)
        eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype, device=x0.device)
        scales = self.scales(drawn, x0.dtype)
        alpha, sigma = (torch.as_tensor(expand_to(scale, x0)) for scale in scales)
        target = self.prediction.target(x0, eps, alpha, sigma)
        return Noised(torch.addcmul(alpha * x0, sigma, eps), target, drawn, scales, self.weight(drawn, scales))

    def scales(self, drawn: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        """Return alpha and sigma at what the time law drew, `[B]` each."""
        if isinstance(self.schedule, TableSchedule):
            return self.schedule.scales_at(drawn, dtype)
        alpha, sigma = self.schedule.scales(drawn)
        return torch.as_tensor(alpha), torch.as_tensor(sigma)

    def time(self, drawn: Tensor) -> Tensor:
        """Return what the time law drew as times, `[B]`."""
        return (drawn + 1) / self.schedule.T if isinstance(self.schedule, TableSchedule) else drawn

    def weight(self, drawn: Tensor, scales: tuple[Tensor, Tensor]) -> Tensor | None:
        """Return the weight of |out - target|^2, `[B]`, or None for 1."""
        if isinstance(self.weighting, UniformWeighting):
            return None
        alpha, sigma = scales
        of_x0 = self.weighting.of_x0(
            (alpha / sigma).square(), lambda: self.times.density(self.schedule, self.time(drawn)), self.sigma_data
        )
        return None if of_x0 is None else of_x0 * self.gain(scales).square()

    def gain(self, scales: tuple[Tensor, Tensor]) -> Tensor:
        """Return c_out at scales `[B]`: how far x0_hat moves when the output does."""
        return torch.as_tensor(self.prediction.coefficients(*scales)[1])


def deal(rows: Tensor | None, hands: int) -> Sequence[Tensor | None]:
    """Deal rows `[H N, ...]` out in turn to H hands of N: what is stratified as a whole is so in every hand."""
    if rows is None:
        return [None] * hands
    return rows.unflatten(0, (-1, hands)).transpose(0, 1).contiguous().unbind(0)


def mean_square(out: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Return the weighted mean square error over rows and coordinates, `[]`."""
    if weight is None:
        return torch.nn.functional.mse_loss(out, target)
    root = torch.as_tensor(expand_to(weight.sqrt(), out))  # w |a - b|^2 = |sqrt(w) a - sqrt(w) b|^2, in one pass
    return torch.nn.functional.mse_loss(root * out, root * target)


def objective(denoiser: Denoiser, weighting: Any = "uniform", times: Any = "stratified") -> Objective:
    """Return the objective that trains a denoiser, from names or settings."""
    law, weight = time_laws.build(times), weightings.build(weighting)
    return Objective(denoiser.schedule, denoiser.prediction, law, weight, denoiser.sigma_data)


class Floor(NamedTuple):
    """The least expected loss that any network can reach.

    Attributes:
        value: an estimate of it.
        error: its standard error.
        trivial: the loss of a network that always says 0: where training starts from, more or less.
        law: what the data were taken to be.
    """

    value: float
    error: float
    trivial: float
    law: str

    def share(self, loss: float) -> float:
        """Return which share of the way from trivial to the floor a loss has gone, 1 being the floor."""
        way = self.trivial - self.value
        return (self.trivial - loss) / way if way > 0 else math.nan

    def __str__(self) -> str:
        return f"{self.value:.5f} +- {self.error:.5f} ({self.law})"


def loss_floor(
    data: Dataset | GaussianMixture | Tensor,
    schedule: Schedule,
    predict: str | Prediction = "eps",
    weighting: Any = "uniform",
    times: Any = "stratified",
    *,
    drop_cond: float = 0.0,
    sigma_data: float | None = None,
    draws: int | None = None,
    seed: int = 0,
) -> Floor:
    """Return the lowest expected training loss that any network can reach on the data, with its standard error.

    For each of `draws` triples (t, x0, eps) the loss of the exact denoiser, averaged over all x0 that could have led
    to the same x_t: E[w gain^-2 Var(x0 | x_t)].

    Args:
        data: a data set or `[N, *S]`, in the units trained in; or its law.
        schedule: the path.
        predict: what is predicted.
        weighting: the loss's, a name or settings.
        times: how times are drawn, a name or settings.
        drop_cond: for labelled data, the probability of training without the label.
        sigma_data: the data's standard deviation, measured when not given; "edm" uses it.
        draws: how many triples; 32,768 when not given, fewer for large sets.
        seed: of the draws.

    Raises:
        InputError: if the data are labelled neither fully nor not at all.
    """
    law = data if isinstance(data, GaussianMixture) else law_of(Dataset.of(data))
    if law.variances is None:
        raise InputError("loss_floor needs round components: give std, not covariances")
    mean, covariance = law.mean_and_covariance()
    sigma_data = sigma_data or float(covariance.diagonal().mean().sqrt())
    if predict == "edm":
        predict = EDMPrediction(sigma_data=sigma_data)
    goal = Objective(schedule, prediction(predict), time_laws.build(times), weightings.build(weighting), sigma_data)
    draws = draws or max(4096, min(32_768, 40_000_000 // len(law.flat)))
    generator = stream(seed, "floor", device=law.flat.device)
    k = torch.multinomial(law.log_weights.exp(), draws, replacement=True, generator=generator)
    noise = torch.randn((draws, law.flat.shape[1]), generator=generator, device=k.device)
    x0 = (law.flat[k] + law.variances[k, None].sqrt() * noise).double()
    t, eps = goal.times.draw(schedule, draws, generator), torch.randn(x0.shape, generator=generator, device=k.device)
    t, eps = t[torch.randperm(draws, generator=generator, device=t.device)], eps.to(x0)
    alpha, sigma = scales = goal.scales(t)
    x_t = alpha[:, None] * x0 + sigma[:, None] * eps
    cond: Cond = None
    if law.labels is not None:
        dropped = torch.rand(draws, generator=generator, device=k.device) < drop_cond
        cond = torch.where(dropped, len(law.label_names), law.labels[k])
    shaped = x_t.reshape(draws, *law.shape)
    weight = goal.weight(t, scales)
    scale = goal.gain(scales).square().reciprocal() * (1 if weight is None else weight)
    least = scale * law.posterior_variance(shaped, alpha, sigma, cond)
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    of_x0, of_eps = (goal.prediction.target(*pair, alpha, sigma) for pair in ((one, zero), (zero, one)))
    square = (mean.square() + covariance.diagonal()).mean().to(alpha)  # E x0^2; every target is linear in x0 and eps
    silent = of_x0.square() * square + of_eps.square()
    trivial = silent if weight is None else silent * weight
    return Floor(float(least.mean()), float(least.std() / math.sqrt(draws)), float(trivial.mean()), law.note)


def floor_of(denoiser: Denoiser, data: Dataset, train: Mapping[str, Any]) -> Floor:
    """Return the floor of a training: of its data, on its schedule, with its weighting and times.

    Args:
        denoiser: with the scaling it was trained with.
        data: in their own units.
        train: the settings of the training (`TrainConfig` as data).
    """
    known = data if denoiser.label_names else Dataset(data.x, name=data.name, law=data.law)
    return loss_floor(
        law_of(known, denoiser.scaling), denoiser.schedule, denoiser.prediction, train["weighting"], train["times"],
        drop_cond=train["drop_cond"], sigma_data=denoiser.sigma_data,
    )  # fmt: skip
