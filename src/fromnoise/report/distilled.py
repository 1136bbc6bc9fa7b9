"""Students beside their teacher: distance to the data for each number of evaluations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from fromnoise.errors import InputError, NoRun
from fromnoise.metrics import evaluate
from fromnoise.own_grid import AnySteps, OwnGrid
from fromnoise.report.assess import Assessor
from fromnoise.report.pictures import told_each
from fromnoise.run import Run, load
from fromnoise.samplers import DDIM, Multistep, Sampler, sample, settled
from fromnoise.training.distill import sum_of
from fromnoise.training.distillation import most_steps

_FEW = (1, 2, 4, 8)
"""The steps in which a consistency model is shown."""

_PICTURES, _LEAST = 400, 20
"""How many pictures are drawn at most, and how many held-out ones are enough to measure them against."""


class Compared(NamedTuple):
    """Samples of one model with one number of evaluations.

    Attributes:
        model: "student", or the sampler on the teacher.
        evaluations: of the network, for each sample.
        ratio: the distance to the data over its floor; 1 is as good as fresh data.
        x: the samples.
    """

    model: str
    evaluations: int
    ratio: float
    x: Tensor


def lineage(run: Run) -> list[Run]:
    """Return the first teacher, its student, that one's student, ..., the run itself.

    Raises:
        InputError: if the run is no student.
        NoRun: if a teacher is no longer there.
    """
    if not run.config.train["loss"].get("teacher"):
        raise InputError(f"{run.name} was not distilled: give a student that fromnoise distill made")
    found = [run]
    while found[0].config.train["loss"].get("teacher"):
        found.insert(0, _teacher_of(found[0]))
    return found


def _teacher_of(run: Run) -> Run:
    """Return the teacher of a run: beside it, where all may have been moved to, or where it was."""
    assert run.folder is not None  # a teacher's student has one
    loss, own = run.config.train["loss"], run.folder.path
    then = Path(loss["teacher"])
    for place in (own / "rounds" / then.name, own.parent / then.name, own.parent.parent.parent / then.name, then):
        try:
            teacher = load(place)
        except NoRun:
            continue
        if sum_of(teacher.denoiser.network) == loss["weights"]:
            return teacher
    raise NoRun(f"the teacher of {run.name} is no longer at {then}, or has changed")


def compared(
    run: Run, *, n: int = 1000, seed: int = 0, progress: Callable[[int, int], None] | None = None
) -> list[Compared]:
    """Measure a student, those it comes from, and their first teacher with as many evaluations.

    The teacher's DDIM steps through the times that its students were taught at.

    Args:
        run: the student.
        n: the number of samples; of pictures at most 400.
        seed: of every random number.
        progress: called with the measurements done and those in all.
    """
    teacher, *students = lineage(run)
    way = students[0].denoiser.grid
    assert way is not None  # it is a student
    most = way.of if isinstance(way, OwnGrid) else min(way.of, most_steps(teacher))
    counts = [most // 2**k for k in range(most.bit_length()) if most % 2**k == 0]
    plan = list[tuple[str, Run, Sampler, int, list[float] | None]]()
    schedule = teacher.denoiser.schedule
    for count in counts:
        times = OwnGrid(steps=count, of=most, spacing=way.spacing).times(schedule)
        plan += [
            ("ddim on the teacher", teacher, DDIM(), count, times),
            ("multistep on the teacher", teacher, Multistep(), count, None),
        ]
    for student in students:
        rule, usual = settled(student.denoiser)
        any_number = isinstance(student.denoiser.grid, AnySteps)
        plan += [
            ("student", student, rule, k, None)
            for k in (sorted(k for k in {*_FEW, usual} if k <= way.of) if any_number else [usual])
        ]
    measure = _measure(teacher, n, seed)
    found = list[Compared]()
    for name, model, rule, count, times in plan:
        x, ratio = measure(model, rule, count, times)
        found.append(Compared(name, rule.evaluations(count), ratio, x))
        if progress is not None:
            progress(len(found), len(plan))
    return found


Measuring = Callable[[Run, Sampler, int, list[float] | None], tuple[Tensor, float]]


def _measure(teacher: Run, n: int, seed: int) -> Measuring:
    """Return the function that draws samples and measures them against the teacher's data."""
    if teacher.denoiser.codec.form != "images":
        n = min(n, max(20, len(teacher.source) // 2)) if teacher.source.distribution is None else n
        assessors = dict[int, Assessor]()

        def of_points(model: Run, rule: Sampler, steps: int, times: list[float] | None) -> tuple[Tensor, float]:
            if id(model) not in assessors:  # a student before the last holds no data
                assessors[id(model)] = Assessor(replace(model, opened=teacher.source), n=n, seed=seed, exact=False)
            found = assessors[id(model)](rule, steps, grid=times)
            return found.samples, found.ratio

        return of_points
    rows, held = teacher.parts()
    held = held if held is not None and len(held) >= _LEAST else None  # fewer cannot be measured against
    count = min(n, _PICTURES, len(rows) if held is None else len(held))
    names = teacher.denoiser.label_names
    labels = torch.arange(count) % len(names) if names else None
    cond = told_each(teacher, labels, count, seed=seed)

    def of_pictures(model: Run, rule: Sampler, steps: int, times: list[float] | None) -> tuple[Tensor, float]:
        x = sample(model.denoiser, count, sampler=rule, steps=steps, grid=times, cond=cond, seed=seed).cpu()
        return x, evaluate(x, rows, seed=seed, pairs=4, held_out=held).measures[0].ratio

    return of_pictures
