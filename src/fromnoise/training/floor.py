"""The loss floor: the lowest expected loss that any network can reach.

The optimal denoiser of a finite set or a mixture is known, so is its loss. A loss below the floor means a bug.

    denoising  E w Var(x0 | x_t)/c_out^2                         the error of x0 that no network can avoid
    sliced     -E w |grad log p_t|^2 (sigma^2/(alpha c_out))^2   what integration by parts has left out
    hybrid     the first, and 0.001 T E log(1 + (snr(s) - snr(t)) Var(x0 | x_t))/2, a step's KL at the best variance
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fromnoise import process
from fromnoise.data.codec import Affine
from fromnoise.data.dataset import Dataset
from fromnoise.data.source import open as open_data
from fromnoise.denoiser import Denoiser
from fromnoise.deprecated import Renamed
from fromnoise.errors import InputError
from fromnoise.exact import GaussianMixture, mixture_of_data
from fromnoise.process import Prediction, prediction
from fromnoise.rng import stream
from fromnoise.schedule import Schedule, TableSchedule
from fromnoise.training.losses import Denoising, Hybrid, Loss, Sliced, losses, steps_of
from fromnoise.training.noising import Objective
from fromnoise.training.times import time_laws
from fromnoise.training.weighting import weightings


class Floor(NamedTuple):
    """The least expected loss that any network can reach.

    Attributes:
        value: an estimate of it.
        error: its standard error.
        zero_output_loss: the loss of a network whose output is 0 everywhere, about where a training starts.
        note: what the data were taken to be.
    """

    value: float
    error: float
    zero_output_loss: float
    note: str

    share, law, trivial = Renamed("progress"), Renamed("note"), Renamed("zero_output_loss")

    def progress(self, loss: float) -> float:
        """Return how far a loss has come from `zero_output_loss` (0) to the floor (1)."""
        way = self.zero_output_loss - self.value
        return (self.zero_output_loss - loss) / way if way > 0 else math.nan

    def __str__(self) -> str:
        return f"{self.value:.5f} +- {self.error:.5f} ({self.note})"


def loss_floor(
    data: Dataset | GaussianMixture | Tensor,
    schedule: Schedule,
    predict: str | Prediction = "eps",
    weighting: Any = "uniform",
    times: Any = "stratified",
    *,
    loss: Any = "denoising",
    drop_cond: float = 0.0,
    sigma_data: float | None = None,
    draws: int | None = None,
    seed: int = 0,
) -> Floor:
    """Return the lowest expected training loss that any network can reach on the data, with its standard error.

    For each of `draws` triples (t, x0, eps) it is the loss of the exact denoiser, averaged over all x0 that could have
    led to the same x_t; see the head of the module.

    Args:
        data: a data set or `[N, *S]`, in the units trained in; or its law.
        schedule: the path.
        predict: what is predicted.
        weighting: the loss's, a name or settings.
        times: how times are drawn, a name or settings.
        loss: what is minimized, a name or settings.
        drop_cond: for conditional data, the probability of training without the condition.
        sigma_data: the data's standard deviation, measured when not given; "edm" uses it.
        draws: how many triples; 32,768 when not given, fewer for large sets.
        seed: of the draws.

    Raises:
        InputError: for a loss whose floor is not known: one of the user's, or hybrid off a table.
    """
    kind = losses.build(loss)
    if not _known(kind, schedule):
        raise InputError(f"the floor of the loss {losses.settings(kind)['name']!r} is not known on this schedule")
    law = data if isinstance(data, GaussianMixture) else mixture_of_data(open_data(data))
    if law.variances is None:
        raise InputError("loss_floor needs round components: give std, not covariances")
    mean, variance_of_data = law.mean_and_variance()
    sigma_data = sigma_data or float(variance_of_data.mean().sqrt())
    kind_of_output = prediction(predict).fitted(sigma_data, Affine())
    goal = Objective(schedule, kind_of_output, time_laws.build(times), weightings.build(weighting), sigma_data)
    draws = draws or max(4096, min(32_768, 40_000_000 // max(law.flat.shape)))
    generator = stream(seed, "floor", device=law.flat.device)
    k = torch.multinomial(law.log_weights.exp(), draws, replacement=True, generator=generator)
    noise = torch.randn((draws, law.flat.shape[1]), generator=generator, device=k.device)
    x0 = (law.flat[k] + law.variances[k, None].sqrt() * noise).double()
    eps = torch.randn(x0.shape, generator=generator, device=k.device).to(x0)
    clock = stream(seed, "floor's times")
    t = goal.times.draw(schedule, draws, clock)[torch.randperm(draws, generator=clock)]
    weight = goal.weight(t, scales := schedule.scales(t))
    scale = (goal.gain(scales).square().reciprocal() * (1 if weight is None else weight)).to(x0)
    alpha, sigma = (of_t.to(x0) for of_t in scales)
    x_t = alpha[:, None] * x0 + sigma[:, None] * eps
    cond = None if law.cond is None else law.cond.rows(k)
    if cond is not None and drop_cond:
        cond = cond.drop(drop_cond, generator)
    shaped = x_t.reshape(draws, *law.shape)
    if isinstance(kind, Sliced):
        off = x_t / alpha[:, None] - law.posterior_mean(shaped, alpha, sigma, cond).flatten(1)
        least = -scale * off.square().mean(1)
        return Floor(float(least.mean()), float(least.std() / math.sqrt(draws)), 0.0, law.note)
    variance = law.posterior_variance(shaped, alpha, sigma, cond).flatten(1)
    least = scale * variance.mean(1)
    zero, one = torch.zeros_like(alpha), torch.ones_like(alpha)
    of_x0, of_eps = (goal.prediction.target(*pair, alpha, sigma) for pair in ((one, zero), (zero, one)))
    square = (mean.square() + variance_of_data).mean().to(alpha)  # E x0^2; every target is linear in x0 and eps
    of_zero = of_x0.square() * square + of_eps.square()
    zero_output = of_zero if weight is None else of_zero * weight.to(x0)
    if isinstance(kind, Hybrid) and isinstance(schedule, TableSchedule):
        gap, log_ratio, counts = (part.to(x0)[:, None] for part in steps_of(schedule, t))
        weight_vlb = kind.vlb_weight * schedule.T * counts
        least = least + (weight_vlb * 0.5 * torch.log1p(gap * variance)).mean(1)
        off = x0 - goal.prediction.coefficients(alpha[:, None], sigma[:, None])[0] * x_t
        zero_output = zero_output + (weight_vlb * process.step_divergence(gap * off.square(), 0.5 * log_ratio)).mean(1)
    return Floor(float(least.mean()), float(least.std() / math.sqrt(draws)), float(zero_output.mean()), law.note)


def _known(loss: Loss, schedule: Schedule) -> bool:
    return isinstance(loss, Denoising | Sliced) or (isinstance(loss, Hybrid) and isinstance(schedule, TableSchedule))


def floor_of(denoiser: Denoiser, data: Dataset, train: Mapping[str, Any]) -> Floor | None:
    """Return the floor of a training: of its data, on its schedule, with its loss, weighting and times.

    Args:
        denoiser: with the codec it was trained with.
        data: in their own units.
        train: the settings of the training (`TrainConfig` as data).

    Returns:
        The floor, or None where it is not known.
    """
    if not denoiser.prediction.is_linear or not _known(losses.build(train.get("loss", "denoising")), denoiser.schedule):
        return None
    known = data
    if not denoiser.conditioners:
        known = Dataset(data.x, name=data.name, distribution=data.distribution)
    return loss_floor(
        mixture_of_data(known, denoiser.codec),
        denoiser.schedule,
        denoiser.prediction,
        train["weighting"],
        train["times"],
        loss=train.get("loss", "denoising"),
        drop_cond=train["drop_cond"],
        sigma_data=denoiser.sigma_data,
    )
