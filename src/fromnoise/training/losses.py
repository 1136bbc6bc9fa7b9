"""The three classical tasks of a denoiser, each with its floor: the lowest expected loss that any network can reach.

**denoising**: E w |out - target|^2 / D. For the score, whose target is -eps/sigma, it is denoising score matching.
Floor: E w Var(x0 | x_t)/c_out^2, the error of x0 that no network can avoid.

**sliced**: score matching without a target (Song et al. 2019). By parts, with any probe v of E v v^T = I,

    E |s - grad log p_t|^2  =  E |s|^2 + 2 v^T (ds/dx) v  +  E |grad log p_t|^2,

and the last term does not depend on the network, so the loss leaves it out. Floor: minus that term,
-E w |grad log p_t|^2 (sigma^2/(alpha c_out))^2. A step takes a second backward pass.

**hybrid**: the simple loss for the mean, and a little of the ELBO for a learned variance, which leaves the mean alone
(Nichol & Dhariwal 2021, eq. 16): L_simple + 0.001 T E_t KL, the KL that of `process.step_divergence`. Floor: the first,
and 0.001 T E log(1 + (snr(s) - snr(t)) Var(x0 | x_t))/2, a step's KL at the best variance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fromnoise import process
from fromnoise.arrays import Scale, expand_to
from fromnoise.data.source import Batch
from fromnoise.denoiser import Denoiser
from fromnoise.errors import ConfigError
from fromnoise.process import Eps, Score
from fromnoise.schedule import TableSchedule
from fromnoise.training.draws import Draws
from fromnoise.training.noising import Objective
from fromnoise.training.optimum import Losses, Optimum
from fromnoise.training.task import Drawn, Task, losses


@losses.register("denoising")
@dataclass(frozen=True)
class Denoising(Task):
    """The weighted mean square error of the output."""

    def check(self) -> None:
        _no_variance(self.denoiser)

    def loss(self, drawn: Drawn) -> Tensor:
        return mean_square(self.network_output(drawn), drawn.target, drawn.weight)

    def losses(self, drawn: Drawn) -> Tensor:
        return row_square(self.network_output(drawn), drawn.target, drawn.weight)

    def has_floor(self, goal: Objective) -> bool:
        return True

    def least(self, best: Optimum) -> Losses:
        return best.weight_of_x0 * best.variance.mean(1), best.weight * best.zero_output_error


@losses.register("sliced")
@dataclass(frozen=True)
class Sliced(Task):
    """Sliced score matching with one probe a row. Source: Song, Garg, Shi & Ermon 2019, eq. 8 ("SSM-VR")."""

    def check(self) -> None:
        _no_variance(self.denoiser)
        if not isinstance(self.denoiser.prediction, Eps | Score):
            raise ConfigError("the sliced loss is for a network that says the score: predict score, or eps")

    def draw(self, clean: Batch, draws: Draws) -> Drawn:
        return super().draw(clean, draws)._replace(also={"probe": draws.signs("probe", clean.x)})

    def loss(self, drawn: Drawn) -> Tensor:
        x, probe = drawn.x.detach().requires_grad_(), drawn.also["probe"]
        with torch.enable_grad():  # also where no gradient of the loss is wanted
            out = self.network_output(drawn, x)
            (along,) = torch.autograd.grad((out * probe).sum(), x, create_graph=True)
        # eps and the score itself are the score times a number, out = b score, and x = c_in x_t
        prediction = self.denoiser.prediction
        alpha, sigma = self.denoiser.schedule.scales(drawn.t)
        c_in = _over(torch.as_tensor(prediction.input_scale(alpha, sigma)).expand_as(drawn.t), x)
        b = _over(sigma**2 / (alpha * prediction.coefficients(alpha, sigma)[1]), x)
        rows = out.square() + 2 * b * c_in * probe * along  # as heavy as the same error of the output
        return (rows if drawn.weight is None else expand_to(drawn.weight, rows) * rows).mean()

    def has_floor(self, goal: Objective) -> bool:
        return True

    def least(self, best: Optimum) -> Losses:
        off = best.x_t / best.alpha[:, None] - best.x0_hat  # -(sigma^2/alpha) grad log p_t
        return -best.weight_of_x0 * off.square().mean(1), torch.zeros_like(best.alpha)


@losses.register("hybrid", renamed={"share": "vlb_weight"})
@dataclass(frozen=True)
class Hybrid(Task):
    """The simple loss plus `vlb_weight` times the ELBO's steps, for a learned variance.

    Args:
        vlb_weight: the factor of the ELBO's T steps, in nats a coordinate; the paper's lambda.
    """

    vlb_weight: Annotated[float, Field(gt=0)] = 0.001

    def check(self) -> None:
        if not self.denoiser.learned_variance:
            raise ConfigError(
                "the hybrid loss trains a learned variance, and this network says none: "
                "set network.learned_variance to true (--set network.learned_variance=true)"
            )
        if not self.has_floor(self.goal):
            raise ConfigError("the hybrid loss is that of a table's steps: take the schedule linear, cosine or sigmoid")

    def loss(self, drawn: Drawn) -> Tensor:
        return self.losses(drawn).mean()

    def losses(self, drawn: Drawn) -> Tensor:
        denoiser, schedule = self.denoiser, _table(self.goal)
        out, variance_fraction = denoiser.split_variance(self.network_output(drawn))
        simple = row_square(out, drawn.target, drawn.weight)
        gap, log_ratio, counts = (_over(part, out) for part in steps_of(schedule, drawn.t))
        alpha, sigma = (_over(scale, out) for scale in schedule.scales(drawn.t))
        x_t = drawn.x / denoiser.prediction.input_scale(alpha, sigma)
        x0_hat = denoiser.prediction.x0_hat(out.detach(), x_t, alpha, sigma)
        divergence = process.step_divergence(gap * (drawn.x0 - x0_hat).square(), variance_fraction * log_ratio)
        bound = schedule.T * (counts * divergence).flatten(1).mean(1)
        importance = drawn.also.get("importance")
        return simple + self.vlb_weight * (bound if importance is None else bound * importance)

    def has_floor(self, goal: Objective) -> bool:
        return isinstance(goal.schedule, TableSchedule)

    def least(self, best: Optimum) -> Losses:
        simple, of_zero = Denoising().least(best)
        schedule, prediction = _table(best.goal), best.goal.prediction
        gap, log_ratio, counts = (part.to(best.x0)[:, None] for part in steps_of(schedule, best.t))
        weight_vlb = self.vlb_weight * schedule.T * counts
        least = weight_vlb * 0.5 * torch.log1p(gap * best.variance)
        off = best.x0 - prediction.coefficients(best.alpha[:, None], best.sigma[:, None])[0] * best.x_t
        zero = weight_vlb * process.step_divergence(gap * off.square(), 0.5 * log_ratio)
        return simple + least.mean(1), of_zero + zero.mean(1)


def _table(goal: Objective) -> TableSchedule:
    assert isinstance(goal.schedule, TableSchedule)  # `check` saw to it
    return goal.schedule


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
    """Return the weighted mean square error over rows and coordinates, `[]`; weights are `[B]` or `[B, *S]`."""
    if weight is None:
        return torch.nn.functional.mse_loss(out, target)
    root = weight.sqrt()  # w |a - b|^2 = |sqrt(w) a - sqrt(w) b|^2, in one pass
    root = root if root.dim() == out.dim() else torch.as_tensor(expand_to(root, out))
    return torch.nn.functional.mse_loss(root * out, root * target)


def row_square(out: Tensor, target: Tensor, weight: Tensor | None) -> Tensor:
    """Return the weighted mean square error of each row, `[B]`; weights as for `mean_square`."""
    square = (out - target).square()
    if weight is not None:
        square = square * (weight if weight.dim() == out.dim() else torch.as_tensor(expand_to(weight, out)))
    return square.flatten(1).mean(1)
