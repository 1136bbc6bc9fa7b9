"""Distilling a run to few steps, by one of several methods.

**progressive**: of a run a student of half its steps, of that one the next, and so on: a round each.
**consistency**: a student whose every answer is where the probability-flow ODE ends, in one round.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fromnoise.errors import InputError, RunExists, UnknownName, whole_number
from fromnoise.guidance_cond import scale_of
from fromnoise.memory import most_held
from fromnoise.own_grid import AnySteps, OwnGrid
from fromnoise.run import Run, RunConfig, RunFolder, load
from fromnoise.run.files import is_unbegun
from fromnoise.training.distill import sum_of
from fromnoise.training.loop import Event, fit
from fromnoise.training.stop import Stop
from fromnoise.training.students import Lesson, School, called


def most_steps(run: Run) -> int:
    """Return the most steps of a first teacher, where nothing is said: 1,024, and 64 of pictures; a table has fewer."""
    length = run.denoiser.schedule.table_length
    most = 64 if run.denoiser.codec.form == "images" else 1024
    return most if length is None else min(length, most)


@dataclass(frozen=True)
class Cost:
    """What a round took, of its part in this process where it was resumed.

    Attributes:
        seconds: on the clock.
        memory: bytes, the most that the process has held until now, or that the CUDA device has.
        gradients: of how many samples a gradient was taken.
        answers: of how many samples the teacher's network was asked.
    """

    seconds: float
    memory: int
    gradients: int
    answers: int


@dataclass(frozen=True)
class Round:
    """News of one round.

    Attributes:
        number: 1, 2, ...
        count: how many there are.
        steps: how many steps its student takes.
        event: of its training; the last one of a round carries its run.
        done: the optimizer steps done, those of the rounds before among them.
        in_all: those of all rounds.
        cost: what the round took, with its last event.
    """

    number: int
    count: int
    steps: int
    event: Event
    done: int
    in_all: int
    cost: Cost | None = None


def rounds_of(teacher: Run, to: int, of: int | None = None) -> list[OwnGrid]:
    """Return the grids of the students between a run and one of so many steps.

    Args:
        teacher: the run; one that is distilled already is distilled further.
        to: the steps of the last student.
        of: the steps with which the teacher is sampled; when not given, a power of two, 1,024 at most, and 64 of
            pictures, for which each round is long.

    Raises:
        InputError: if the teacher's steps cannot be halved to these.
    """
    to, own = whole_number("to", to), teacher.denoiser.grid
    if own is None:
        length = teacher.denoiser.schedule.table_length
        most = most_steps(teacher)
        if of is None:
            of = to
            while 2 * of <= most:
                of *= 2
            if of > to and to & (to - 1):
                raise InputError(
                    f"a student takes a power of two steps, and {to} is none: say how many its teacher takes, such as "
                    f"{of:,} (--from {of})"
                )
            of = most if of == to else of
        own = OwnGrid(steps=of, of=of, spacing="karras" if length is None else "uniform")
    elif not isinstance(own, OwnGrid):
        raise InputError(
            f"{called(teacher)} is a consistency model, whose steps cannot be halved: distill an ordinary run"
        )
    elif of not in (None, own.steps):
        raise InputError(f"{called(teacher)} was distilled to {own.steps} steps already: it is a teacher of no others")
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
    method: str = "progressive",
    of: int | None = None,
    guidance: tuple[float, float] | None = None,
    resume: bool = False,
    **settings: Any,
) -> Run:
    """Distill a run to few steps and return the last student's run, which `fn.sample` samples in these.

    Arguments and errors are those of `distill_rounds`; the teacher may be its folder.

    Source: Salimans & Ho 2022, algorithm 2; Song et al. 2023, algorithm 2.
    """
    teacher = teacher if isinstance(teacher, Run) else load(teacher)
    options: dict[str, Any] = {"method": method, "of": of, "guidance": guidance, "resume": resume}
    *_, last = distill_rounds(teacher, to, out, **options, **settings)
    assert last.event.run is not None  # the last event carries it
    return last.event.run


def distill_rounds(
    teacher: Run,
    to: int,
    out: str | Path,
    *,
    method: str = "progressive",
    of: int | None = None,
    guidance: tuple[float, float] | None = None,
    resume: bool = False,
    stop: Stop | None = None,
    **settings: Any,
) -> Iterator[Round]:
    """Distill a run to few steps, round by round: a generator whose caller owns the loop.

    Args:
        teacher: the run, in its folder.
        to: the steps of the last student; a consistency model takes any others too.
        out: the last student's run folder; those before it are in its folder `rounds`.
        method: "progressive" or "consistency".
        of: the steps with which the teacher is sampled, see `rounds_of`; those of the finest grid of a consistency
            model, 1,024 when not given.
        guidance: the lowest and the highest guidance scale that the students take as a condition; (1, 1) for students
            that take none. When not given, (1, 5) where the teacher can be guided; a student's own are kept.
        resume: go on with what is there.
        stop: asks to stop; see `fit`.
        settings: of each round's training. When not given, `steps` are a 25th of the teacher's, at least 300, or a
            tenth, at least 900, where guidance scales are a condition; learning rates are a third of its, falling to 0
            in each round; the rest is the teacher's. A first round in which guidance scales or another prediction are
            learned has a sixth of its steps, at least 1,500, and its rates; so has consistency, with two fifths.

    Raises:
        InputError: if the run cannot be distilled so; otherwise as `fit`.
    """
    if teacher.folder is None:
        raise InputError("distilling needs a teacher on the disk: train it with out=")
    if sum_of(teacher.denoiser.network) != sum_of(load(teacher.folder.path).denoiser.network):
        raise InputError(
            "a teacher is read again by its folder, and this one holds other weights than that gives: load it without "
            "ema= and weights="
        )
    if method not in _METHODS:
        raise UnknownName("method of distillation", method, _METHODS)
    school = School.of(teacher, guidance, settings)
    lessons, before = _METHODS[method](teacher, to, of), 0
    lengths = school.lengths(teacher, lessons)
    places = [Path(out) / "rounds" / f"{one.way.steps:04d}" for one in lessons[:-1]] + [Path(out)]
    if resume:
        _check_going_on(Path(out), places, lessons, lengths)
    else:
        _check_free(places)
    data, device = teacher.source, teacher.denoiser.device
    for number, lesson in enumerate(lessons, 1):
        last = number == len(lessons)
        place = places[number - 1]
        student, train = school.student_of(teacher, lesson)
        going_on = resume and RunFolder(place).exists
        first, began = _done(place) if going_on else 0, time.perf_counter()
        both = school.scales is not None and scale_of(teacher.denoiser.conditioners) is None
        for event in fit(student, data, train, out=place, resume=going_on, keep_data=last, stop=stop):
            cost = None
            if event.run is not None:
                rows = (event.step - first) * train.batch_size
                cost = Cost(time.perf_counter() - began, most_held(device), rows, (4 if both else 2) * rows)
            yield Round(number, len(lessons), lesson.way.steps, event, before + event.step, sum(lengths), cost)
        before += lengths[number - 1]
        teacher = load(place)
        teacher.denoiser.to(device)


def _progressive(teacher: Run, to: int, of: int | None) -> list[Lesson]:
    return [Lesson(grid, {"name": "distilling"}, "landing") for grid in rounds_of(teacher, to, of)]


def _consistency(teacher: Run, to: int, of: int | None) -> list[Lesson]:
    if teacher.denoiser.grid is not None:
        raise InputError(
            f"{called(teacher)} is a model of few steps, which has no mean to follow: distill an ordinary run"
        )
    length = teacher.denoiser.schedule.table_length
    most = whole_number("from", 1024 if of is None else of)
    most = most if length is None else min(most, length)
    if whole_number("to", to) > most:
        raise InputError(f"a consistency model of {most:,} times takes {most:,} steps at most, not {to:,}")
    way = AnySteps(steps=to, of=most, spacing="karras" if length is None else "uniform")
    last = min(64, most)
    loss = {"name": "consistency", "steps": to, "of": most, "first": min(8, last), "last": last}
    return [Lesson(way, loss, "uniform", part=0.4)]


_METHODS: dict[str, Callable[[Run, int, int | None], list[Lesson]]] = {
    "progressive": _progressive,
    "consistency": _consistency,
}


def _check_free(places: list[Path]) -> None:
    """Refuse places that hold something, before anything is trained.

    Raises:
        RunExists: naming it.
    """
    for place in places:
        if RunFolder(place).exists:
            raise RunExists(f"{place} already holds a run: resume it (--resume, resume=True), or choose another out")
        if place.exists() and not is_unbegun(place):
            raise RunExists(f"{place} exists and is not a run: choose another out")


def _check_going_on(out: Path, places: list[Path], lessons: list[Lesson], lengths: list[int]) -> None:
    """Refuse to go on with rounds that were begun otherwise, before anything is trained.

    Raises:
        InputError: naming what differs.
    """
    there = sorted(one for one in (out / "rounds").glob("*") if RunFolder(one).exists)
    other = next((one for one in there if one not in places), None)
    if other is not None:
        raise InputError(
            f"{other} is a round of another distillation: ask for the same --to and --from, or another --out"
        )
    for place, lesson, steps in zip(places, lessons, lengths, strict=True):
        if not RunFolder(place).exists:
            continue
        config = RunFolder(place).config
        if not isinstance(config, RunConfig) or config.grid != lesson.way:
            raise InputError(f"{place} was begun for other steps: ask for the same --to and --from, or another --out")
        if config.train["steps"] != steps:
            raise InputError(
                f"{place} was begun with {config.train['steps']:,} optimizer steps, and not {steps:,}: ask for as many "
                "with --steps-per-round, or another --out"
            )


def _done(place: Path) -> int:
    """Return how many optimizer steps a run that is there has done."""
    return max(RunFolder(place).steps(), default=0)
