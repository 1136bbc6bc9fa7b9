"""The rounds of a progressive distillation: of a run a student of half its steps, of that one the next, and so on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fromnoise.denoiser import Denoiser
from fromnoise.errors import InputError, whole_number
from fromnoise.nn.network import plain
from fromnoise.own_grid import OwnGrid
from fromnoise.process import predictions
from fromnoise.run import Run, RunFolder, load
from fromnoise.training.config import TrainConfig
from fromnoise.training.distill import sum_of
from fromnoise.training.loop import Event, fit
from fromnoise.training.stop import Stop

_MOST = 1024
"""The steps of the first teacher, where nothing is said and its schedule has as many."""


@dataclass(frozen=True)
class Round:
    """News of one round.

    Attributes:
        number: 1, 2, ...
        count: how many there are.
        steps: how many steps its student takes.
        event: of its training; the last one of a round carries its run.
    """

    number: int
    count: int
    steps: int
    event: Event


def rounds_of(teacher: Run, to: int, of: int | None = None) -> list[OwnGrid]:
    """Return the grids of the students between a run and one of so many steps.

    Args:
        teacher: the run; one that is distilled already is distilled further.
        to: the steps of the last student.
        of: the steps with which the teacher is sampled; to times a power of two, 1,024 at most, when not given.

    Raises:
        InputError: if the teacher's steps cannot be halved to these.
    """
    to, own = whole_number("to", to), teacher.denoiser.grid
    if own is None:
        length = teacher.denoiser.schedule.table_length
        most = _MOST if length is None else min(length, _MOST)
        if of is None:
            of = to
            while 2 * of <= most:
                of *= 2
            of = most if of == to else of
        own = OwnGrid(steps=of, of=of, spacing="karras" if length is None else "uniform")
    elif of not in (None, own.steps):
        raise InputError(f"{teacher.name} was distilled to {own.steps} steps already: it is a teacher of no others")
    found, steps = list[OwnGrid](), own.steps
    while steps > to and steps % 2 == 0:
        steps //= 2
        found.append(OwnGrid(steps=steps, of=own.of, spacing=own.spacing))
    if not found or steps != to:
        fewer = f"{own.steps} over a power of two" if to < own.steps else f"{own.steps // 2} at most"
        raise InputError(f"{own.steps} steps cannot be halved to {to}: a student takes {fewer}")
    return found


def distill(
    teacher: Run | str | Path,
    to: int = 4,
    *,
    out: str | Path,
    of: int | None = None,
    resume: bool = False,
    **settings: Any,
) -> Run:
    """Distill a run to few steps and return the last student's run, which `fn.sample` samples in these.

    Arguments and errors are those of `distill_rounds`; the teacher may be its folder.

    Source: Salimans & Ho 2022, algorithm 2.
    """
    teacher = teacher if isinstance(teacher, Run) else load(teacher)
    *_, last = distill_rounds(teacher, to, out, of=of, resume=resume, **settings)
    assert last.event.run is not None  # the last event carries it
    return last.event.run


def distill_rounds(
    teacher: Run,
    to: int,
    out: str | Path,
    *,
    of: int | None = None,
    resume: bool = False,
    stop: Stop | None = None,
    **settings: Any,
) -> Iterator[Round]:
    """Distill a run to few steps, round by round: a generator whose caller owns the loop.

    Args:
        teacher: the run, in its folder.
        to: the steps of the last student.
        out: the last student's run folder; those before it are in its folder `rounds`.
        of: the steps with which the teacher is sampled; see `rounds_of`.
        resume: go on with what is there.
        stop: asks to stop; see `fit`.
        settings: of each round's training. When not given, `steps` are a 25th of the teacher's, at least 300, learning
            rates a third of its, falling to 0 in each round, and the rest is the teacher's.

    Raises:
        InputError: if the run cannot be distilled so; otherwise as `fit`.
    """
    if teacher.folder is None:
        raise InputError("distilling needs a teacher on the disk: train it with out=")
    grids, out = rounds_of(teacher, to, of), Path(out)
    data, device = teacher.source, teacher.denoiser.device
    for number, grid in enumerate(grids, 1):
        last = number == len(grids)
        place = out if last else out / "rounds" / f"{grid.steps:04d}"
        student, train = _student(teacher, grid, **settings)
        going_on = resume and RunFolder(place).exists
        for event in fit(student, data, train, out=place, resume=going_on, keep_data=last, stop=stop):
            yield Round(number, len(grids), grid.steps, event)
        teacher = load(place)
        teacher.denoiser.to(device)


def _student(teacher: Run, grid: OwnGrid, **settings: Any) -> tuple[Denoiser, TrainConfig]:
    """Return a student with its teacher's weights, and how it is trained."""
    assert teacher.folder is not None
    needs_signal = teacher.denoiser.prediction.needs_signal
    predict = predictions.complete("v") if needs_signal else teacher.config.predict
    config = teacher.config.model_copy(update={"grid": grid, "predict": predict})
    student = config.denoiser(teacher.folder.codec()).to(teacher.denoiser.device)
    student.network.load_state_dict(plain(teacher.denoiser.network).state_dict())
    told = {
        "name": "distilling",
        "teacher": str(teacher.folder.path.resolve()),
        "weights": sum_of(teacher.denoiser.network),
    }
    usual = {
        **teacher.config.train, "warmup": 0, "decay": "linear", "decay_part": 1.0, "patience": 0, "ema": 0.99,
        "weighting": "edm", "times": "stratified", "post_hoc_ema": (), "loss": told,
    }  # fmt: skip
    if teacher.denoiser.grid is None:  # otherwise the teacher was a student itself, and its settings are of a round
        its = TrainConfig(**teacher.config.train)
        usual |= {"steps": max(300, its.steps // 25), "lr": its.lr / 3, "matrix_lr": its.matrix_lr / 3}
    return student, TrainConfig(**{**usual, **settings})
