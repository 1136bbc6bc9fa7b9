"""Progressive distillation: a student that takes one step of DDIM where its teacher takes two (Salimans & Ho 2022).

A teacher with the times t > m > s steps from x_t to x_m to x_s. The student should get there in one step,

    x_s = a x_t + b x0~,   a = sigma_s/sigma_t,  b = alpha_s - a alpha_t,    so    x0~ = (x_s - a x_t)/b

is what it should answer at t (algorithm 2). Where the teacher is deterministic, as here, x0~ is a function of x_t: a
student that can represent it has a loss of 0.
"""

from __future__ import annotations

import copy
import hashlib
import math
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from fromnoise.arrays import expand_to, weighted
from fromnoise.cond import Cond
from fromnoise.data.source import Batch, Source
from fromnoise.data.stored import Stored
from fromnoise.denoiser import Denoiser
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.errors import ConfigError, RunError
from fromnoise.guidance import guided_each
from fromnoise.guidance_cond import scale_of
from fromnoise.nn.network import plain
from fromnoise.own_grid import OwnGrid, later
from fromnoise.run import load
from fromnoise.samplers.ddim import DDIM
from fromnoise.schedule import Schedule
from fromnoise.training.batches import clean_batch
from fromnoise.training.draws import Draws
from fromnoise.training.losses import mean_square, row_square
from fromnoise.training.noising import Objective, objective
from fromnoise.training.optimum import Floor
from fromnoise.training.task import Drawn, Task, autocast, losses
from fromnoise.training.times import TimeLaw
from fromnoise.training.weighting import Landing

_EXACT = "the teacher's two steps are a function of where they begin"

Own = TypeVar("Own", bound="Distilling")


@dataclass(frozen=True)
class OnGrid(TimeLaw):
    """The starts of a student's steps, each as likely as the others, stratified.

    Args:
        grid: the student's.
    """

    grid: OwnGrid

    def at(self, schedule: Schedule, u: Tensor) -> Tensor:
        times = torch.tensor(self.grid.times(schedule), dtype=torch.float64)
        return times[(u * self.grid.steps).long().clamp(max=self.grid.steps - 1)]

    def density(self, schedule: Schedule, t: Tensor) -> Tensor:
        raise ConfigError(
            "times on a grid have no density, as this weighting wants: take landing, edm or truncated-snr"
        )


class Steps(Objective):
    """The objective of a student: the weighting "landing" is of its steps."""

    def weight(self, t: Tensor, scales: tuple[Tensor, Tensor]) -> Tensor | None:
        if not isinstance(self.weighting, Landing):
            return super().weight(t, scales)
        assert isinstance(self.times, OnGrid)  # `Distilling.bound` made it
        starts = torch.tensor(self.times.grid.times(self.schedule)[:-1], dtype=torch.float64)
        return self._landing(t, scales) / self._landing(starts, self.schedule.scales(starts)).mean()

    def _landing(self, t: Tensor, scales: tuple[Tensor, Tensor]) -> Tensor:
        """Return the weight of the output's error, before it is brought to a mean of 1 over the steps."""
        assert isinstance(self.weighting, Landing)
        assert isinstance(self.times, OnGrid)  # `Distilling.bound` made it
        s = self.times.grid.after(self.schedule, t)
        of_x0 = self.weighting.of_step(scales, self.schedule.scales(s), s, self.sigma_data)
        return of_x0 * self.gain(scales).square()


@losses.register("distilling")
@dataclass(frozen=True)
class Distilling(Task):
    """The weighted mean square error of the output to the one with which one step lands where the teacher's two do.

    Args:
        teacher: the folder of the teacher's run, which must stay as it is until the training has ended.
        weights: a sum of its weights, by which it is known again.
    """

    teacher: str
    weights: str

    taught: ClassVar[tuple[DenoiserLike, list[float]] | None] = None
    """The teacher and its times, once they were needed."""

    def bound(
        self: Own, model: Any, goal: Objective | None = None, *, drop_cond: float = 0.0, precision: str = "float32",
        in_all: int = 1,
    ) -> Own:  # fmt: skip
        if not isinstance(model.grid, OwnGrid):
            raise ConfigError("distilling is for a student with a grid of its own: distill a run (fn.distill)")
        goal = goal or objective(model)
        steps = Steps(model.schedule, goal.prediction, OnGrid(model.grid), goal.weighting, goal.sigma_data)
        return super().bound(model, steps, drop_cond=drop_cond, precision=precision, in_all=in_all)

    def taught_by(self: Own, teacher: DenoiserLike) -> Own:
        """Return the task, bound, with a teacher that need be no run.

        Raises:
            ConfigError: if it does not take two steps where the student takes one.
        """
        student = self.denoiser.grid
        assert isinstance(student, OwnGrid)  # `bound` looked
        finer = 2 * student.steps
        known = getattr(teacher, "grid", None) or OwnGrid(steps=student.of, of=student.of, spacing=student.spacing)
        if known != OwnGrid(steps=finer, of=student.of, spacing=student.spacing):
            raise ConfigError(
                f"a student of {student.steps} steps learns from {finer}, and its teacher takes {known.steps}"
            )
        task = copy.copy(self)
        object.__setattr__(task, "taught", (teacher, known.times(self.denoiser.schedule)))
        return task

    def check(self) -> None:
        if self.denoiser.learned_variance:
            raise ConfigError(
                "a run with a learned variance cannot be distilled: steps without noise teach none; train a run without"
            )
        starts = torch.tensor(self.goal.times.grid.times(self.denoiser.schedule)[:-1], dtype=torch.float64)  # pyright: ignore[reportAttributeAccessIssue] OnGrid
        self.goal.weight(starts, self.goal.schedule.scales(starts))  # refuses a weighting that no grid can have
        self.lesson()

    def lesson(self) -> tuple[DenoiserLike, list[float]]:
        """Return the teacher and its times. Raises as `teacher_from` and `taught_by` do."""
        if self.taught is None:
            teacher = teacher_from(self.teacher, self.weights).to(self.denoiser.device)
            object.__setattr__(self, "taught", self.taught_by(teacher).taught)
        assert self.taught is not None
        return self.taught

    def draw(self, clean: Batch, draws: Draws) -> Drawn:
        drawn, denoiser = super().draw(clean, draws), self.denoiser
        drawn = drawn._replace(cond=told_scales(denoiser, drawn, draws))
        alpha, sigma = (expand_to(scale, drawn.x) for scale in denoiser.schedule.scales(drawn.t))
        x_t = drawn.x / denoiser.prediction.input_scale(alpha, sigma)
        x0 = self.target_of(x_t, drawn.t, drawn.cond)
        return drawn._replace(target=denoiser.prediction.target(x0, (x_t - alpha * x0) / sigma, alpha, sigma))

    @torch.no_grad()
    def target_of(self, x_t: Tensor, t: Tensor, cond: Cond | None) -> Tensor:
        """Return x0~ `[B, *S]`, with which a step of DDIM from times t `[B]` lands where two of the teacher's do.

        Where the condition holds guidance scales, the teacher is guided by them.
        """
        teacher, times = self.lesson()
        teacher, cond = guided_by(teacher, cond)
        m = later(times, t)
        s = later(times, m)
        rule, rest = DDIM(), {"cond": cond, "noise": lambda: x_t, "state": None}
        with autocast(x_t, self.precision):
            x_m = rule.step(teacher, x_t, t, m, **rest)[0]
            x_s = rule.step(teacher, x_m, m, s, **rest)[0]
        return _reaching(self.denoiser.schedule, x_t, x_s, t, s)

    def floor(self, source: Source) -> Floor | None:
        """Return 0, with the loss of a zero output beside it; None where the teacher is no longer there."""
        try:
            self.lesson()
        except RunError:
            return None
        denoiser, count = self.denoiser, max(64, min(2048, 2**15 // math.prod(self.denoiser.shape)))
        draws = Draws(0, count, device=denoiser.device, name="floor")
        stored = Stored(source.take(draws.assemble(draws.rows(len(source)))), denoiser.codec, denoiser.conditioners)
        drawn = self.draw(clean_batch(stored, torch.arange(count).chunk(draws.parts), draws), draws)
        return Floor(0.0, 0.0, float(mean_square(torch.zeros_like(drawn.target), drawn.target, drawn.weight)), _EXACT)

    def loss(self, drawn: Drawn) -> Tensor:
        return mean_square(self.network_output(drawn), drawn.target, drawn.weight)

    def losses(self, drawn: Drawn) -> Tensor:
        return row_square(self.network_output(drawn), drawn.target, drawn.weight)


def told_scales(student: Denoiser, drawn: Drawn, draws: Draws) -> Cond | None:
    """Return the condition of drawn rows with a guidance scale for each, where the student takes one."""
    scales = scale_of(student.conditioners)
    if scales is None or drawn.cond is None:
        return drawn.cond
    return drawn.cond.told(guidance=scales.drawn(draws).to(drawn.x))


def guided_by(teacher: DenoiserLike, cond: Cond | None) -> tuple[DenoiserLike, Cond | None]:
    """Return a teacher guided by the scales that a condition holds, and what else it is asked under."""
    if cond is None or "guidance" not in cond.values:
        return teacher, cond
    guided = guided_each(teacher, cond.values["guidance"])
    return guided, cond.only([one.value for one in teacher.conditioners])  # the first teacher knows no scales


def sum_of(network: nn.Module) -> str:
    """Return a sum of a network's weights and buffers."""
    found = hashlib.sha256()
    for name, tensor in sorted(plain(network).state_dict().items()):
        found.update(name.encode() + tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def teacher_from(path: str, weights: str) -> Denoiser:
    """Return the denoiser of a teacher's run.

    Raises:
        RunError: if the run is no longer there, or has changed.
    """
    teacher = load(path).denoiser
    if sum_of(teacher.network) != weights:
        raise RunError(f"the teacher at {path} has changed since the distillation was begun: begin it anew")
    return teacher


def _reaching(schedule: Schedule, x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Return the x0 with which a step of DDIM takes x_t to x_s, at times t and s `[B]`; x_s itself where s is 0."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.scales(t), schedule.scales(s)
    a = torch.where(s == 0, 0.0, sigma_s / sigma_t)
    b = torch.where(s == 0, 1.0, alpha_s - a * alpha_t)
    return weighted(1 / b, x_s, -a / b, x_t)
