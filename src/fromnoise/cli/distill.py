"""`fromnoise distill runs/spiral --to 4`: from a run's many steps to a few."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.common import (
    DataPlace,
    Device,
    EncoderPlace,
    Json,
    Plugin,
    RunPath,
    bar,
    check_device,
    load_plugins,
    on_terminal,
    parse_settings,
    result,
    resumable,
    say,
    settle_threads,
    text_table,
)
from fromnoise.cli.writers import suggested
from fromnoise.errors import InputError, whole_number

if TYPE_CHECKING:
    from fromnoise.run import Run
    from fromnoise.training import Round


def distill(
    run: RunPath,
    to: Annotated[int, typer.Option(help="How many steps the last student takes, one evaluation each.")] = 4,
    out: Annotated[
        Path | None, typer.Option(help="Its folder; default RUN-STEPS, such as runs/spiral-4, or RUN-METHOD.")
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="progressive, halving the steps round by round; or consistency, for any number of steps."),
    ] = "progressive",
    of: Annotated[
        int | None,
        typer.Option(
            "--from",
            help="The teacher's steps: --to times a power of two; when not given 1,024, of pictures 64, or less.",
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(help="How often the steps are halved, in place of --from: 4 rounds to 4 are from 64.")
    ] = None,
    guidance: Annotated[
        str | None,
        typer.Option(
            help="The guidance scales that the students take, LOW,HIGH; 1,1 for none. By default 1,5 for a run with "
            "labels.",
            metavar="LOW,HIGH",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps-per-round", help="Optimizer steps of a round; a 25th of the teacher's.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Samples in each step.")] = None,
    lr: Annotated[float | None, typer.Option(help="The highest learning rate; a third of the teacher's.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the rounds that are there.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any setting of the rounds' training, such as --set ema=0.999.", metavar="K=V"),
    ] = None,
    data: DataPlace = None,
    text_encoder: EncoderPlace = None,
    device: Device = "cpu",
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Distill a run: students of few steps, that are runs themselves."""
    from fromnoise.own_grid import OwnGrid
    from fromnoise.run import load

    load_plugins(plugin)
    teacher = load(run, data=data, text_encoder=text_encoder)
    teacher.denoiser.to(check_device(device))
    settle_threads(teacher.denoiser.shape)
    out = out or run.with_name(f"{run.name}-{to if method == 'progressive' else method}")
    settings = {"steps": steps, "batch_size": batch_size, "lr": lr, **parse_settings(set_)}
    given = {key: value for key, value in settings.items() if value is not None}
    began = time.perf_counter()
    of = _teachers_steps(method, to, of, rounds)
    with resumable():
        each = _watched(teacher, to, out, method=method, of=of, guidance=_range(guidance), resume=resume, **given)
    seconds, last = time.perf_counter() - began, each[-1].event.run
    assert last is not None  # the last event carries it
    assert last.denoiser.grid is not None
    rows = [_row(one, teacher) for one in each]
    told: dict[str, Any] = {"run": str(out), "steps": to, "seconds": round(seconds, 2), "rounds": rows}
    halved = isinstance(last.denoiser.grid, OwnGrid)
    fro = 2 * each[0].steps if halved else last.denoiser.grid.of
    how = f"{len(each)} rounds from {fro:,} steps to {to}" if halved else f"a consistency model of {fro:,} times"
    lines = [f"{out}: {how} in {seconds:.1f} s"]
    lines += ["", text_table([_shown(row) for row in rows]), "", *([_LOSS] if halved else []), _COSTS]
    if last.source.distribution is None and len(last.source) < 24:
        lines += ["", f"{len(last.source)} samples are too few to measure distances against: 24 are needed"]
    elif last.denoiser.codec.form == "points":
        told["samples"] = found = _beside(teacher, last, fro)
        lines += ["", text_table([{**row, "ratio": f"{row['ratio']:.3f}"} for row in found]), "", _RATIO]
    lines.append(f"next: fromnoise sample {shlex.quote(str(out))} {suggested(last.denoiser)}")
    result(told, as_json, "\n".join(lines))


def _teachers_steps(method: str, to: int, of: int | None, rounds: int | None) -> int | None:
    """Return the steps of the first teacher, which a number of rounds says too; None where nothing is said."""
    if rounds is None:
        return of
    if of is not None or method != "progressive":
        raise InputError("--rounds is for the method progressive, in place of --from: give one of the two")
    if not 1 <= rounds <= 16:
        raise InputError(f"--rounds must lie in 1 to 16, not {rounds}")
    return whole_number("to", to) * 2**rounds


def _range(text: str | None) -> tuple[float, float] | None:
    """Return the lowest and highest scale that an option says."""
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--guidance takes the lowest and highest scale, such as 1,5, not {text!r}") from None
    return low, high


_RATIO = "ratio: the 2-Wasserstein distance over its floor; 1 is as good as fresh data"


def _watched(teacher: Run, to: int, out: Path, **options: Any) -> list[Round]:
    """Distill while showing where it is; return the last news of each round."""
    from fromnoise.training import distill_rounds, stop_on_signals

    last: dict[int, Round] = {}
    with stop_on_signals() as stop, bar("distilling") as progress:
        for one in distill_rounds(teacher, to, out, stop=stop, **options):
            event, last[one.number] = one.event, one
            progress(one.done, one.in_all)
            if event.run is not None and not on_terminal():
                left = "" if event.progress is None else f"  floor 0  progress {event.progress:.2%}"
                say(f"round {one.number:>2}/{one.count}  {one.steps:>5} steps  loss {event.loss:.2e}{left}")
    return list(last.values())


def _row(one: Round, teacher: Run) -> dict[str, Any]:
    """Return what a round led to and what it took."""
    event, cost = one.event, one.cost
    assert event.run is not None
    assert cost is not None  # both come with the last news
    its = teacher.config.train
    return {
        "steps": one.steps, "loss": event.run.loss, "floor": None if event.floor is None else event.floor.value,
        "progress": None if event.floor is None or event.run.loss is None else event.floor.progress(event.run.loss),
        "seconds": round(cost.seconds, 2), "memory": cost.memory, "gradients": cost.gradients,
        "answers": cost.answers, "of_the_teachers": cost.gradients / (its["steps"] * its["batch_size"]),
        "run": str(_folder(one)),
    }  # fmt: skip


def _shown(row: dict[str, Any]) -> dict[str, str]:
    known = {key: "-" if row[key] is None else format(row[key], form) for key, form in _FORMATS.items()}
    return {
        "student of": f"{row['steps']:,} steps", **known, "memory": f"{row['memory'] / 2**20:,.0f} MiB",
        "gradients": f"{row['gradients']:,}", "of the teacher's": f"{row['of_the_teachers']:.1%}",
        "teacher asked": f"{row['answers']:,}",
    }  # fmt: skip


_FORMATS = {"loss": ".2e", "floor": "g", "progress": ".2%", "seconds": ".1f"}

_LOSS = "loss: of where a step lands; its floor is 0, as the teacher's two steps are a function of where they begin"
_COSTS = "gradients: of how many samples, and in parts of the teacher's own training; memory: the most until then"


def _folder(one: Round) -> Path:
    assert one.event.run is not None
    assert one.event.run.folder is not None
    return one.event.run.folder.path


def _beside(teacher: Run, student: Run, steps: int) -> list[dict[str, Any]]:
    """Measure the student, and its teacher with as many evaluations and with all, DDIM at the student's times."""
    from fromnoise.own_grid import OwnGrid
    from fromnoise.report import Assessor
    from fromnoise.samplers import DDIM, Multistep, Sampler, settled

    few = min(1000, max(20, len(student.source) // 2))
    measure, own, way = Assessor(student, n=few, exact=False), settled(student.denoiser), student.denoiser.grid
    assert way is not None  # it is a student
    counts = [own[1]] if isinstance(way, OwnGrid) else sorted({1, 2, 4, own[1]} & set(range(1, way.of + 1)))
    rows: list[dict[str, Any]] = [
        {"model": "student", "sampler": way.rule, "evaluations": count, "ratio": measure(own[0], count).ratio}
        for count in counts
    ]
    measure, schedule = Assessor(teacher, n=few, exact=False), teacher.denoiser.schedule
    ways: list[tuple[Sampler, int, list[float] | None]] = [
        (DDIM(), own[1], way.times(schedule)),
        (Multistep(), own[1], None),
        (DDIM(), steps, way.finest(schedule)),
    ]
    if teacher.denoiser.grid is not None:
        ways = [(*settled(teacher.denoiser), None)]
    for rule, count, times in ways:
        found = measure(rule, count, grid=times)
        rows.append({
            "model": "teacher", "sampler": found.sampler.split()[0], "evaluations": rule.evaluations(count),
            "ratio": found.ratio,
        })  # fmt: skip
    return rows
