"""The forward process and what follows from it in closed form.

    x_t = alpha x0 + sigma eps                                   noising              Ho et al. 2020, eq. 4
    q(x_t | x_s) = N(a x_s, b^2),  a = alpha_t/alpha_s           one step, s < t      Kingma et al. 2021, eq. 2
    q(x_s | x_t, x0) = N(c_t x_t + c_0 x0, std^2)                the posterior        Ho et al. 2020, eq. 6-7

With e = exp(log_snr(t) - log_snr(s)) = snr(t)/snr(s) <= 1 the variances need no difference of near numbers:

    b^2 = sigma_t^2 (1 - e)     c_t = e alpha_s/alpha_t = a sigma_s^2/sigma_t^2
    c_0 = alpha_s (1 - e)       std^2 = sigma_s^2 (1 - e)

What a network predicts. Given x_t, each of x0, eps, v, flow, score determines the others, by way of x0: a `Prediction`
gives x0_hat for the network's output, most often c_skip x_t + c_out output, and the output's target.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from fromnoise.arrays import Batch, Scale, Time, expand_to, weighted
from fromnoise.deprecated import renamed
from fromnoise.errors import InputError
from fromnoise.registry import Registry
from fromnoise.schedule import Schedule


def add_noise(schedule: Schedule, x0: Batch, t: Time, eps: Batch) -> Batch:
    """Return x_t = alpha(t) x0 + sigma(t) eps, `[B, *S]` (Ho et al. 2020, eq. 4)."""
    alpha, sigma = schedule.scales(t)
    return expand_to(alpha, x0) * x0 + expand_to(sigma, x0) * eps


class Transition(NamedTuple):
    """q(x_t | x_s) = N(scale x_s, std^2)."""

    scale: Scale
    std: Scale


class Posterior(NamedTuple):
    """q(x_s | x_t, x0) = N(on_x_t x_t + on_x0 x0, std^2)."""

    on_x_t: Scale
    on_x0: Scale
    std: Scale


def _one_minus_ratio(schedule: Schedule, t: Time, s: Time) -> Scale:
    """Return 1 - snr(t)/snr(s), accurate when the two are close."""
    difference = schedule.log_snr(t) - schedule.log_snr(s)
    return -torch.expm1(difference) if isinstance(difference, Tensor) else -math.expm1(difference)


def transition(schedule: Schedule, s: Time, t: Time) -> Transition:
    """Return q(x_t | x_s), one noising step from s to t > s."""
    if not isinstance(s, Tensor) and not isinstance(t, Tensor) and not s < t:
        raise InputError(f"a noising step goes from s to a later t, not from {s} to {t}")
    std = schedule.sigma(t) * _one_minus_ratio(schedule, t, s) ** 0.5
    return Transition(schedule.alpha(t) / schedule.alpha(s), std)


def posterior(schedule: Schedule, t: Time, s: Time) -> Posterior:
    """Return q(x_s | x_t, x0), one step back from t to s < t.

    At s = 0 the posterior is x0 itself: (0, 1, 0).
    """
    if not isinstance(s, Tensor) and not isinstance(t, Tensor) and not s < t:
        raise InputError(f"a step back goes from t to an earlier s, not from {t} to {s}")
    alpha_t, sigma_t = schedule.scales(t)
    alpha_s, sigma_s = schedule.scales(s)
    gain = _one_minus_ratio(schedule, t, s)  # of SNR, from t to s
    return Posterior(alpha_t / alpha_s * (sigma_s / sigma_t) ** 2, alpha_s * gain, sigma_s * gain**0.5)


def take_step(schedule: Schedule, x_s: Batch, s: Time, t: Time, *, noise: Batch) -> Batch:
    """Draw x_t from q(x_t | x_s) with the given standard normal `noise`."""
    scale, std = transition(schedule, s, t)
    return expand_to(scale, x_s) * x_s + expand_to(std, x_s) * noise


def take_step_back(schedule: Schedule, x_t: Batch, x0: Batch, t: Time, s: Time, *, noise: Batch) -> Batch:
    """Draw x_s from q(x_s | x_t, x0) with the given standard normal `noise`."""
    on_x_t, on_x0, std = posterior(schedule, t, s)
    return expand_to(on_x_t, x_t) * x_t + expand_to(on_x0, x_t) * x0 + expand_to(std, x_t) * noise


def step_divergence(excess: Any, log_ratio: Any) -> Any:
    """Return KL(q(x_s | x_t, x0) || p(x_s | x_t)) in nats for each coordinate.

    Both are Gaussian: q has the posterior's mean for x0 and variance beta-tilde, p has the posterior's mean for x0_hat
    and a variance of its own.

    Args:
        excess: the squared difference of the means over beta-tilde, (snr(s) - snr(t)) (x0 - x0_hat)^2.
        log_ratio: log(variance of p/beta-tilde); log(sigma_t^2/sigma_s^2) for the "large" variance, beta.

    Source: Kingma et al. 2021, eq. 13, and Nichol & Dhariwal 2021, eq. 15, combined.
    """
    inverse = torch.exp(-log_ratio) if isinstance(log_ratio, Tensor) else math.exp(-log_ratio)
    return 0.5 * (log_ratio - 1 + inverse * (1 + excess))


__getattr__ = renamed(__name__, {"step": "transition", "Step": "Transition"})

predictions: Registry[Prediction] = Registry("prediction")


class Prediction:
    """The meaning of a network's output. Scales may be floats, `[]`, `[B]`, or tensors that broadcast against x_t.

    A prediction is linear if x0_hat = c_skip x_t + c_out output: it then gives `coefficients`, and everything else
    follows. One that is not gives `x0_hat` itself, and is trained with the weighting "uniform".
    """

    needs_signal = False
    """Whether x0 cannot be computed from the output where alpha = 0."""
    weighting = "uniform"
    """The name of the loss weighting that suits this prediction."""

    def x0_hat(self, output: Batch, x_t: Batch, alpha: Any, sigma: Any) -> Batch:
        """Return x0_hat `[B, *S]` for the network's output `[B, *S]`."""
        c_skip, c_out = self.coefficients(alpha, sigma)
        return weighted(c_skip, x_t, c_out, output)

    def coefficients(self, alpha: Any, sigma: Any) -> tuple[Any, Any]:
        """Return c_skip and c_out of x0_hat = c_skip x_t + c_out output.

        Raises:
            InputError: if the prediction is not linear.
        """
        raise InputError(
            f"the prediction {predictions.settings(self)['name']!r} is not linear: the weighting uniform and the loss "
            "denoising go with it"
        )

    @property
    def is_linear(self) -> bool:
        """Whether the prediction has `coefficients`."""
        return type(self).coefficients is not Prediction.coefficients

    def target(self, x0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
        """Return the training target for this x0 and eps."""
        raise NotImplementedError

    def input_scale(self, alpha: Any, sigma: Any) -> Any:
        """Return c_in, the factor of x_t in the network's input.

        It is 1 where alpha^2 + sigma^2 <= 1. On a variance-exploding path it is 1/sqrt(alpha^2 + sigma^2), which keeps
        the input's scale at 1.
        """
        square = alpha * alpha + sigma * sigma
        if isinstance(square, Tensor):
            return square.clamp(min=1).rsqrt()
        return 1.0 if square < 1 + 1e-9 else square**-0.5

    def fitted(self, sigma_data: float, codec: Any) -> Prediction:
        """Return the prediction that suits the data, where it depends on them: itself, or a copy.

        Args:
            sigma_data: one coordinate's standard deviation about the mean, in the denoiser's units.
            codec: between the data's units and the denoiser's.
        """
        return self


@predictions.register("eps")
@dataclass(frozen=True)
class Eps(Prediction):
    """The noise (Ho et al. 2020, eq. 11-12)."""

    needs_signal = True

    def coefficients(self, alpha: Any, sigma: Any) -> tuple[Any, Any]:
        return 1 / alpha, -sigma / alpha

    def target(self, x0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
        return eps


@predictions.register("x0")
@dataclass(frozen=True)
class X0(Prediction):
    """The clean sample."""

    def coefficients(self, alpha: Any, sigma: Any) -> tuple[Any, Any]:
        return 0 * alpha, 0 * alpha + 1

    def target(self, x0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
        return x0


@predictions.register("v")
@dataclass(frozen=True)
class V(Prediction):
    """v = alpha eps - sigma x0 (Salimans & Ho 2022, section 4)."""

    def coefficients(self, alpha: Any, sigma: Any) -> tuple[Any, Any]:
        square = alpha * alpha + sigma * sigma
        return alpha / square, -sigma / square

    def target(self, x0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
        return alpha * eps - sigma * x0


@predictions.register("flow")
@dataclass(frozen=True)
class Flow(Prediction):
    """eps - x0, the velocity of the straight path (Liu et al. 2023, eq. 1)."""

    def coefficients(self, alpha: Any, sigma: Any) -> tuple[Any, Any]:
        return 1 / (alpha + sigma), -sigma / (alpha + sigma)

    def target(self, x0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
        return eps - x0


@predictions.register("score")
@dataclass(frozen=True)
class Score(Prediction):
    """grad log p_t(x_t), whose one-sample target is -eps/sigma (Vincent 2011; Song & Ermon 2019).

    Its squared error is weighted by sigma^2 (Song & Ermon 2019, eq. 6), as the weighting "snr" does; otherwise the
    lowest noise levels would dominate the loss.
    """

    needs_signal = True
    weighting = "snr"

    def coefficients(self, alpha: Any, sigma: Any) -> tuple[Any, Any]:
        return 1 / alpha, sigma * sigma / alpha

    def target(self, x0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
        return -eps / sigma


@predictions.register("edm")
@dataclass(frozen=True)
class EDMPrediction(Prediction):
    """The preconditioned output F of EDM, unit variance in and out at every noise level.

    Written for any path x_t = alpha x0 + sigma eps, with size = sqrt(sigma^2 + alpha^2 sigma_data^2); at alpha = 1
    it is Karras et al. 2022, table 1. With sigma_data = 1 on a variance-preserving path it is -v.

    Args:
        sigma_data: one coordinate's standard deviation; None for that of the data, and 1 until they are known.
    """

    sigma_data: Annotated[float, Field(gt=0)] | None = None

    def fitted(self, sigma_data: float, codec: Any) -> Prediction:
        return self if self.sigma_data or not sigma_data else EDMPrediction(sigma_data=sigma_data)

    def _size(self, alpha: Any, sigma: Any) -> Any:
        return (sigma * sigma + (alpha * self._std) ** 2) ** 0.5

    @property
    def _std(self) -> float:
        return self.sigma_data or 1.0

    def coefficients(self, alpha: Any, sigma: Any) -> tuple[Any, Any]:
        size = self._size(alpha, sigma)
        return alpha * self._std**2 / size**2, sigma * self._std / size

    def target(self, x0: Any, eps: Any, alpha: Any, sigma: Any) -> Any:
        # (x0 - c_skip x_t)/c_out, multiplied out so that nothing is divided by a small sigma
        size = self._size(alpha, sigma)
        return (sigma / self._std * x0 - alpha * self._std * eps) / size

    def input_scale(self, alpha: Any, sigma: Any) -> Any:
        return 1 / self._size(alpha, sigma)


def prediction(predict: str | Mapping[str, Any] | Prediction) -> Prediction:
    """Return the prediction of that name or of these settings; a `Prediction` is returned as it is."""
    return predictions.get(predict)


def convert(
    schedule: Schedule, value: Batch, x_t: Batch, t: Time, *, given: str | Prediction, wanted: str | Prediction
) -> Batch:
    """Turn one prediction into another, by way of x0: convert(..., given="eps", wanted="score").

    Args:
        schedule: the path x_t lies on.
        value: the given prediction, `[B, *S]`.
        x_t: `[B, *S]`.
        t: `[]` or `[B]`, above 0.
        given: the name of what `value` is.
        wanted: the name of what is returned.
    """
    alpha, sigma = (expand_to(scale, x_t) for scale in schedule.scales(t))
    x0 = prediction(given).x0_hat(value, x_t, alpha, sigma)
    eps = (x_t - alpha * x0) / sigma
    return prediction(wanted).target(x0, eps, alpha, sigma)
