"""What is minimized, given a network's output for noisy samples: three classical losses.

**denoising**: E w |out - target|^2 / D. For the score, whose target is -eps/sigma, it is denoising score matching.

**sliced**: score matching without a target (Song et al. 2019). By parts, with any probe v of E v v^T = I,

    E |s - grad log p_t|^2  =  E |s|^2 + 2 v^T (ds/dx) v  +  E |grad log p_t|^2,

and the last term is not the network's affair. So this loss is negative at its best; it takes a second backward pass.

**hybrid**: the simple loss for the mean, and a little of the ELBO for a learned variance, which leaves the mean alone
(Nichol & Dhariwal 2021, eq. 16): L_simple + 0.001 T E_t KL, the KL that of `process.step_divergence`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from fromnoise import process
from fromnoise.arrays import Scale, expand_to
from fromnoise.cond import Cond
from fromnoise.denoiser import Denoiser
from fromnoise.errors import ConfigError
from fromnoise.process import Eps, Score
from fromnoise.registry import Registry
from fromnoise.schedule import TableSchedule

losses: Registry[Loss] = Registry("loss")

NetworkOutput = Callable[[Tensor, Tensor, Cond | None], Tensor]


class Prepared(NamedTuple):
    """What one step needs, and after that what only some losses ask for.

    Attributes:
        x: the network's input, `[B, *S]`.
        c_noise: what it is told of the time, `[B]`.
        cond: the condition of each row, or None.
        target: what it should network_output, `[B, *S]`.
        weight: of each row's squared error, or None for 1.
        t: times, `[B]` float64 on the CPU.
        x0: the clean samples, `[B, *S]`.
        probe: signs, `[B, *S]`.
    """

    x: Tensor
    c_noise: Tensor
    cond: Cond | None
    target: Tensor
    weight: Tensor | None
    t: Tensor | None = None
    x0: Tensor | None = None
    probe: Tensor | None = None


class Loss:
    """A rule that makes one number of a batch.

    Attributes:
        needs: which of the batch's further parts it asks for.
    """

    needs: tuple[str, ...] = ()

    def check(self, denoiser: Denoiser) -> None:
        """Raise ConfigError if the denoiser cannot be trained with it."""

    def __call__(self, denoiser: Denoiser, batch: Prepared, network_output: NetworkOutput) -> Tensor:
        """Return the loss, `[]`.

        Args:
            denoiser: whose network is trained.
            batch: noisy samples.
            network_output: runs the network in the precision of the training.
        """
        raise NotImplementedError


@losses.register("denoising")
@dataclass(frozen=True)
class Denoising(Loss):
    """The weighted mean square error of the output."""

    def check(self, denoiser: Denoiser) -> None:
        _no_variance(denoiser)

    def __call__(self, denoiser: Denoiser, batch: Prepared, network_output: NetworkOutput) -> Tensor:
        return mean_square(network_output(batch.x, batch.c_noise, batch.cond), batch.target, batch.weight)


@losses.register("sliced")
@dataclass(frozen=True)
class Sliced(Loss):
    """Sliced score matching with one probe a row. Source: Song, Garg, Shi & Ermon 2019, eq. 8 ("SSM-VR")."""

    needs = ("t", "probe")

    def check(self, denoiser: Denoiser) -> None:
        _no_variance(denoiser)
        if not isinstance(denoiser.prediction, Eps | Score):
            raise ConfigError("the sliced loss is for a network that says the score: predict score, or eps")

    def __call__(self, denoiser: Denoiser, batch: Prepared, network_output: NetworkOutput) -> Tensor:
        assert batch.t is not None
        assert batch.probe is not None
        x, probe = batch.x.detach().requires_grad_(), batch.probe
        out = network_output(x, batch.c_noise, batch.cond)
        (along,) = torch.autograd.grad((out * probe).sum(), x, create_graph=True)
        # eps and the score itself are the score times a number, out = b score, and x = c_in x_t
        alpha, sigma = denoiser.schedule.scales(batch.t)
        c_in = _over(torch.as_tensor(denoiser.prediction.input_scale(alpha, sigma)).expand_as(batch.t), x)
        b = _over(sigma**2 / (alpha * denoiser.prediction.coefficients(alpha, sigma)[1]), x)
        rows = out.square() + 2 * b * c_in * probe * along  # as heavy as the same error of the output
        return (rows if batch.weight is None else expand_to(batch.weight, rows) * rows).mean()


@losses.register("hybrid", renamed={"share": "vlb_weight"})
@dataclass(frozen=True)
class Hybrid(Loss):
    """The simple loss plus `vlb_weight` times the ELBO's steps, for a learned variance.

    Args:
        vlb_weight: the factor of the ELBO's T steps, in nats a coordinate; the paper's lambda.
    """

    vlb_weight: Annotated[float, Field(gt=0)] = 0.001

    needs = ("t", "x0")

    def check(self, denoiser: Denoiser) -> None:
        if not denoiser.learned_variance:
            raise ConfigError(
                "the hybrid loss trains a learned variance, and this network says none: "
                "set network.learned_variance to true (--recipe improved does)"
            )
        if not isinstance(denoiser.schedule, TableSchedule):
            raise ConfigError("the hybrid loss is that of a table's steps: take the schedule linear, cosine or sigmoid")

    def __call__(self, denoiser: Denoiser, batch: Prepared, network_output: NetworkOutput) -> Tensor:
        assert isinstance(denoiser.schedule, TableSchedule)
        assert batch.t is not None
        assert batch.x0 is not None
        out, variance_fraction = denoiser.split_variance(network_output(batch.x, batch.c_noise, batch.cond))
        simple = mean_square(out, batch.target, batch.weight)
        gap, log_ratio, counts = (_over(part, out) for part in steps_of(denoiser.schedule, batch.t))
        alpha, sigma = (_over(scale, out) for scale in denoiser.schedule.scales(batch.t))
        x_t = batch.x / denoiser.prediction.input_scale(alpha, sigma)
        x0_hat = denoiser.prediction.x0_hat(out.detach(), x_t, alpha, sigma)
        divergence = process.step_divergence(gap * (batch.x0 - x0_hat).square(), variance_fraction * log_ratio)
        return simple + self.vlb_weight * denoiser.schedule.T * (counts * divergence).mean()


def steps_of(schedule: TableSchedule, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return for a table's steps down from its times t `[B]` what `process.step_divergence` wants, float64.

    Returns:
        snr(s) - snr(t), log(sigma_t^2/sigma_s^2), and whether the step counts: the last one, from index 0 onto x0
        itself, has no variance to learn.
    """
    first = 1 / schedule.T
    s = schedule.nearest((t - first).clamp(min=first))
    (alpha, sigma), (alpha_s, sigma_s) = schedule.scales(t), schedule.scales(s)
    gap = (alpha_s / sigma_s) ** 2 - (alpha / sigma) ** 2
    return gap, 2 * torch.log(sigma / sigma_s), (t > 1.5 * first).double()


def _over(rows: Scale, like: Tensor) -> Tensor:
    """Return rows `[B]` as a column that broadcasts over `like`, in its precision."""
    return torch.as_tensor(expand_to(rows, like))


def _no_variance(denoiser: Denoiser) -> None:
    if denoiser.learned_variance:
        raise ConfigError("a learned variance is trained by the hybrid loss: set train.loss to hybrid")


def mean_square(out: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Return the weighted mean square error over rows and coordinates, `[]`."""
    if weight is None:
        return torch.nn.functional.mse_loss(out, target)
    root = torch.as_tensor(expand_to(weight.sqrt(), out))  # w |a - b|^2 = |sqrt(w) a - sqrt(w) b|^2, in one pass
    return torch.nn.functional.mse_loss(root * out, root * target)
