"""The parts that several commands share: options, progress, tables, files of samples."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.errors import ConfigError, InputError, RunError
from fromnoise.settings import grouped

if TYPE_CHECKING:
    from torch import Tensor

    from fromnoise.denoiser_like import DenoiserLike
    from fromnoise.run import Run
    from fromnoise.samplers import Sampler
    from fromnoise.schedule import Schedule

RunPath = Annotated[Path, typer.Argument(help="The run's folder, such as runs/spiral.", metavar="RUN")]
DataPlace = Annotated[
    str | None,
    typer.Option("--data", help="Where the run's training data are now, if its folder holds none.", metavar="DATA"),
]
EncoderPlace = Annotated[
    str | None,
    typer.Option("--text-encoder", help="Where the run's frozen encoder of captions is, if it was moved since."),
]
GuidanceScale = Annotated[
    float | None, typer.Option(help="The classifier-free guidance scale towards --label: 1 for no guidance.")
]
SamplerName = Annotated[
    str | None,
    typer.Option(help="The sampler: multistep (the default), ddim, ddpm, heun, ... (fromnoise info lists all)."),
]
StepsOption = Annotated[
    int | None, typer.Option(help="The number of steps; most samplers evaluate the network once a step.")
]
ImageOption = Annotated[
    Path | None, typer.Option("--image", help="The pictures that are the condition, of a run that enlarges: one, or n.")
]
Eta = Annotated[float | None, typer.Option(help="DDIM's noise: 0 for none, 1 for that of DDPM.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="Any other setting, as key=value.", metavar="K=V")]
ScheduleOption = Annotated[
    str | None,
    typer.Option(
        "--schedule", help="Sample along another path than the run's own (default: linear for ddpm and ddim)."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Plugin = Annotated[
    list[Path] | None, typer.Option("--plugin", help="A Python file that registers components of your own.")
]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, mps.")]
Precision = Annotated[str, typer.Option(help="The precision of the network: float32 or bf16.")]


def say(line: str) -> None:
    """Print a note to standard error, if there is one."""
    if sys.stderr is not None:  # pyright: ignore[reportUnnecessaryComparison] it is None where it was closed
        print(line, file=sys.stderr, flush=True)


def on_terminal() -> bool:
    """Return whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()  # pyright: ignore[reportUnnecessaryComparison]


def result(data: Mapping[str, Any], as_json: bool, text: str) -> None:
    """Print a result to standard output, as JSON or as text."""
    try:
        print(json.dumps(_finite(data), indent=2, allow_nan=False) if as_json else text, flush=True)
    except BrokenPipeError:  # the reader has what it wanted
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _finite(value: Any) -> Any:
    """Return the value with None for each number that is not finite: JSON has none of them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    return [_finite(part) for part in value] if isinstance(value, list | tuple) else value


@contextmanager
def resumable() -> Iterator[None]:
    """Say how a training that was asked to stop goes on, and end with the exit code of Ctrl-C."""
    import shlex

    from fromnoise.training import Interrupted

    try:
        yield
    except Interrupted as stop:
        again = shlex.join(["fromnoise", *(a for a in sys.argv[1:] if a != "--resume"), "--resume"])
        say(f"{stop}; go on with: {again}")
        raise typer.Exit(130) from None


def load_plugins(paths: Sequence[Path] | None) -> None:
    """Run the user's own files, which register components."""
    import runpy

    for path in paths or ():
        if not path.is_file():
            raise InputError(f"--plugin {path}: there is no such file")
        runpy.run_path(str(path))


def check_device(name: str) -> str:
    """Return the device's name if it can compute."""
    from fromnoise.arrays import usable_device

    usable_device(name)
    return name


def settle_threads(shape: Sequence[int]) -> None:
    """Compute small pictures in one thread where more gain little, unless the user chose otherwise.

    A network of small pictures is many short operations, at each of which the threads wait for one another. On a quiet
    machine two were 1.3 times as quick as one; where anything else runs they are up to ten times slower. So pictures of
    up to 256 numbers, such as digits, get one thread, and up to 4,096 on a machine of two. OMP_NUM_THREADS decides if
    it is set, and so does --threads.
    """
    import torch

    if "OMP_NUM_THREADS" in os.environ or len(shape) != 3:
        return
    numbers, threads = math.prod(shape), torch.get_num_threads()
    if numbers <= 256 or (numbers <= 4096 and threads <= 2):
        torch.set_num_threads(1)


def check_precision(name: str) -> Any:
    """Return the precision's name if it is known; raise InputError otherwise."""
    if name not in ("float32", "bf16"):
        raise InputError(f"--precision must be float32 or bf16, not {name!r}")
    return name


def parse_settings(pairs: Sequence[str] | None) -> dict[str, Any]:
    """Turn ["a.b=1", ...] into {"a": {"b": 1}}; values are read as TOML, or else as text."""
    import tomllib

    given: list[tuple[str, Any]] = []
    for pair in pairs or ():
        key, sign, text = pair.partition("=")
        if not sign or not all(key.strip().split(".")):
            raise InputError(f"--set takes key=value, such as --set network.hidden=256, not {pair!r}")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        given.append((key.strip(), value))
    try:
        return grouped(given)
    except ConfigError as error:
        raise ConfigError(f"--set: {error}") from None


def make_sampler(name: str | None, eta: float | None, settings: Sequence[str] | None) -> Sampler | None:
    """Build the sampler that the options describe; None where they say nothing, for the denoiser's usual one."""
    from fromnoise.samplers import samplers

    given = parse_settings(settings) | ({} if eta is None else {"eta": eta})
    return samplers.build({"name": name or "multistep", **given}) if name or given else None


def put_on_path(run: Run, sampler: Sampler | None, schedule: str | None) -> DenoiserLike:
    """Return the run's denoiser on the given schedule, or on the one that suits the sampler."""
    from fromnoise.report import path_for
    from fromnoise.schedule import schedules

    own = run.denoiser.schedule
    path: Schedule = schedules.build(schedule) if schedule else path_for(sampler, run.denoiser)
    if path != own and schedule is None:
        say("note: ddpm and ddim walk the linear table of 1,000 steps; --schedule chooses another path")
    return run.denoiser.on(path)


def guided(
    denoiser: DenoiserLike,
    scale: float | None,
    label: str | None,
    prompts: Sequence[str] = (),
    negative: str | None = None,
    *,
    told: bool = False,
) -> DenoiserLike:
    """Return the denoiser, guided if a scale is given, away from what is not wanted.

    Args:
        denoiser: to be guided.
        scale: of the guidance; None for none.
        label: towards which to go.
        prompts: likewise.
        negative: a prompt from which to go away.
        told: whether samples that have neither are told every label in turn, or the data's own captions.

    Raises:
        InputError: if the guidance has nothing to go towards, or there is something to go away from without guidance.
    """
    from fromnoise.guidance import Guided

    if scale is None:
        if negative is not None:
            raise InputError("--negative says what guidance moves away from: give --guidance too, such as 4")
        return denoiser
    if any(one.value == "text" for one in denoiser.conditioners):
        if label is None and not prompts and not told:
            raise InputError("--guidance needs a --prompt to go towards")
        return Guided(denoiser, scale, negative=None if negative is None else {"text": negative})
    if negative is not None:
        raise InputError("--negative is a prompt, and this run knows no captions")
    if denoiser.label_names and label is None and not told:
        raise InputError(f"--guidance needs a --label to go towards: {', '.join(denoiser.label_names)}")
    return Guided(denoiser, scale)


def finite(parts: Iterable[Tensor]) -> Iterator[Tensor]:
    """Yield samples as they come.

    Raises:
        InputError: at the first that are not finite.
    """
    import torch

    first = 0
    for part in parts:
        bad = (~torch.isfinite(part.flatten(1)).all(1)).nonzero()
        if len(bad):
            raise InputError(
                f"sample {first + int(bad[0])} is not finite, and nothing is written: a smaller --guidance, more "
                "--steps or another --sampler may help"
            )
        first += len(part)
        yield part


def what_was_found(source: Any) -> list[str]:
    """Return notes on pictures that were found in files: how many, of what size, and what was left out and why."""
    found = getattr(source, "found", None)
    if found is None:
        return []
    channels, height, width = found.shape
    kind = "grey" if channels == 1 else "colour"
    labels = f", {len(found.classes)} labels" if found.classes else ""
    lines = [f"{source.name}: {len(source):,} pictures, {kind}, {height} x {width}{labels}"]
    captions = sum(map(bool, getattr(source, "captions", ())))
    lines += [f"{captions:,} of the pictures have captions"] if captions else []
    return [f"note: {line}" for line in (*lines, *found.notes)]


def _nothing(done: int, total: int) -> None:
    del done, total


@contextmanager
def bar(what: str, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Yield a function (done, in all) that draws a progress bar on a terminal, once two seconds have passed."""
    if quiet or not on_terminal():
        yield _nothing
        return
    from rich.console import Console
    from rich.progress import Progress, TimeRemainingColumn

    progress = Progress(*Progress.get_default_columns()[:-1], TimeRemainingColumn(), console=Console(stderr=True))
    task, began, shown = progress.add_task(what, total=None), time.perf_counter(), False

    def update(done: int, total: int) -> None:
        nonlocal shown
        if not shown and time.perf_counter() - began > 2:
            progress.start()
            shown = True
        progress.update(task, completed=done, total=total or None)

    try:
        yield update
    finally:
        if shown:
            progress.stop()


def text_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a text table, the first column aligned left, the others right."""
    head = list(rows[0])
    cells = [head, *([str(v) for v in row.values()] for row in rows)]
    widths = [max(len(line[k]) for line in cells) for k in range(len(head))]
    lines = [
        "  ".join([line[0].ljust(widths[0]), *(line[k].rjust(widths[k]) for k in range(1, len(head)))]).rstrip()
        for line in cells
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to; it is renamed to `path` at the end, so that a failure leaves no file.

    Raises:
        RunError: if it cannot be written.
    """
    staging = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield staging
        os.replace(staging, path)
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror or error}; choose another --out") from None
    finally:
        with suppress(OSError):
            staging.unlink(missing_ok=True)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure in the format that the ending of its name gives.

    Raises:
        InputError: if the ending is not that of a picture.
    """
    kinds = (".png", ".svg", ".pdf")
    if path.suffix.lower() not in kinds:
        raise InputError(f"--out {path}: a picture's name must end in {', '.join(kinds)}")
    with whole_file(path) as staging:
        figure.savefig(staging, format=path.suffix[1:].lower())
