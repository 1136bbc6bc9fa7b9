"""`fromnoise train spiral`: train a denoiser and write a run."""

from __future__ import annotations

import shlex
import time
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.common import (
    Device,
    Json,
    Plugin,
    bar,
    check_device,
    load_plugins,
    on_terminal,
    parse_settings,
    result,
    resumable,
    say,
    settle_threads,
    what_was_found,
)
from fromnoise.cli.training_options import (
    BatchSize,
    ConfigFile,
    Fit,
    Flip,
    KeepData,
    Rate,
    Report,
    Resume,
    Seed,
    Settings,
    Size,
    Steps,
    Strict,
    Threads,
)
from fromnoise.cli.writers import suggested
from fromnoise.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fromnoise.data import Codec, Source
    from fromnoise.run import Run, RunFolder
    from fromnoise.training import Event, Floor, Training


def train(
    data: Annotated[
        str,
        typer.Argument(
            help="A built-in data set (spiral, moons, digits, ...), a file (.csv, .npy, .npz), or a folder or archive "
            "(.tar, .tar.gz, .zip) of pictures, whose sub-folders are labels."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="The run's folder; default runs/DATA.")] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="The recipe, which gives all other settings; by default the one that fits the data: points, image. "
            "Others: article, ncsn, improved, image-ddpm."
        ),
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help="The schedule: linear, cosine, sigmoid, vp, edm, flow, trig.")
    ] = None,
    predict: Annotated[
        str | None, typer.Option(help="What the network predicts: eps, x0, v, flow, score, edm.")
    ] = None,
    net: Annotated[str | None, typer.Option(help="The network: mlp; of pictures unet, dit, unet-ddpm.")] = None,
    task: Annotated[
        str | None,
        typer.Option(help="What is minimized: denoising, consistency (for samples in a few steps), sliced, hybrid."),
    ] = None,
    latent: Annotated[
        Path | None, typer.Option(help="Train in the latents of an autoencoder: its run's folder.", metavar="RUN")
    ] = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    lr: Rate = None,
    seed: Seed = None,
    n: Annotated[int | None, typer.Option("-n", help="How many points of the built-in data to train on.")] = None,
    size: Size = None,
    fit: Fit = None,
    from_size: Annotated[
        int | None, typer.Option(help="Train to enlarge pictures of this height and width, which are the condition.")
    ] = None,
    flip: Flip = False,
    strict: Strict = False,
    captions: Annotated[
        str | None,
        typer.Option(help="A file of captions (.csv, .tsv, .jsonl, .txt), where none lie beside the pictures."),
    ] = None,
    text_encoder: Annotated[
        str | None,
        typer.Option(
            help="A frozen encoder of captions (CLIP, T5, a sentence encoder): its folder, or the name of an installed "
            "package or of a downloaded model; by default the network has its own."
        ),
    ] = None,
    resume: Resume = False,
    config: ConfigFile = None,
    set_: Settings = None,
    device: Device = "cpu",
    threads: Threads = None,
    keep_data: KeepData = True,
    report: Report = True,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Train a denoiser on data and write a run: configuration, checkpoints, metrics, report.html."""
    from fromnoise.training.plan import prepare

    load_plugins(plugin)
    set_threads(threads)
    changes = changes_of(
        config, set_, schedule=schedule, predict=predict, network=net,
        train={"steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed, "loss": task},
        data={
            "n": n, "size": size, "fit": fit, "from_size": from_size, "flip": flip or None, "strict": strict or None,
            "captions": captions, "text_encoder": text_encoder,
        },
    )  # fmt: skip
    codec = None if latent is None else _codec_of(latent, changes)
    with bar("decoding pictures") as progress:
        plan, source = prepare(data, recipe, changes, codec=codec, progress=progress)
    introduce(source, threads)
    folder = out or Path("runs") / source.name
    with bar("encoding pictures or captions") as progress:
        training = plan.assemble(source, codec=codec, device=check_device(device), progress=progress)
    run, last, seconds = carry_out(training, folder, resume=resume, keep_data=keep_data)
    summarize(run, last, seconds, report=report, as_json=as_json)


def introduce(source: Source, threads: int | None) -> None:
    """Say what was found, and compute small pictures in one thread unless the user said in how many."""
    for line in what_was_found(source):
        say(line)
    if threads is None:
        settle_threads(source.shape)


def carry_out(training: Training, folder: Path, *, resume: bool, keep_data: bool) -> tuple[Any, Event, float]:
    """Do a training in a folder, or go on with it; return the run, the last event and the seconds it took."""
    from fromnoise.run import RunFolder

    note = resuming(RunFolder(folder), training.config.steps) if resume else None
    began = time.perf_counter()
    with resumable():
        run, last = watch(training, folder, resume, note=note, keep_data=keep_data)
    return run, last, time.perf_counter() - began


def _codec_of(latent: Path, changes: dict[str, Any]) -> Codec:
    """Return the codec of an autoencoder's run; the changes to a recipe may name no other."""
    from fromnoise.run import latents_of

    if "codec" in changes:
        raise InputError("--latent makes the autoencoder the codec, and another was set: leave one of the two out")
    return latents_of(latent)


def resuming(folder: RunFolder, steps: int) -> str | None:
    """Return what a resume does that its user may not expect: it begins a run anew, or ends it at another step."""
    if not folder.exists:
        return f"note: there is no run at {folder.path} to go on with: a new one begins"
    planned = folder.config.train["steps"]
    return None if planned == steps else f"note: the run was begun with {planned:,} steps, and goes on to {steps:,}"


def set_threads(threads: int | None) -> None:
    """Compute in so many threads; as ever, where the user says nothing."""
    if threads is None:
        return
    import torch

    if threads < 1:
        raise InputError(f"--threads must be at least 1, not {threads}")
    torch.set_num_threads(threads)


def changes_of(config: Path | None, pairs: list[str] | None, **flags: Any) -> dict[str, Any]:
    """Return the user's changes: file first, then --set, then flags, each overriding the ones before."""
    import tomllib

    from fromnoise.settings import merge

    changes: dict[str, Any] = {}
    if config is not None:
        try:
            changes = tomllib.loads(config.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"--config {config}: {error.strerror}") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"--config {config} is not valid TOML: {error}") from None
    changes = merge(changes, parse_settings(pairs))
    for key, value in flags.items():
        given = {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value
        if given:
            changes = merge(changes, {key: given})
    return changes


def watch(
    training: Training, out: Path, resume: bool, *, note: str | None = None, keep_data: bool = True
) -> tuple[Any, Event]:
    """Train while showing loss, floor, progress, rate and time left; return the run and the last event.

    The note is shown once the training goes: a refusal stands alone.
    """
    from fromnoise.training import stop_on_signals

    show = _show_bar if on_terminal() else _show_lines
    with stop_on_signals() as stop:
        events = training.fit(out, resume=resume, keep_data=keep_data, stop=stop)
        first = next(events)
        if note is not None:
            say(note)
        last = show(chain([first], events))
    assert last.run is not None  # the last event carries it
    return last.run, last


def _show_lines(events: Iterator[Event]) -> Event:
    event, shown = None, -1
    for event in events:
        part = 10 * event.step // event.steps
        if event.rate and part > shown:
            shown = part
            speed = f"{event.rate:5.0f} steps/s  {event.seconds_left:4.0f} s left"
            say(f"step {event.step:>7}/{event.steps}  {_numbers(event)}  {speed}")
    assert event is not None
    return event


def _numbers(event: Event) -> str:
    text = f"loss {event.loss:.4f}"
    if event.floor is not None:
        text += f"  floor {event.floor.value:.4f}"
    if event.progress is not None:
        text += f"  progress {100 * event.progress:5.1f}%"
    if event.held_out is not None:
        text += f"  held-out {event.held_out.loss:.4f}"
    return text


def _short(floor: Floor) -> str:
    return f"{floor.value:.4f} +- {floor.error:.4f} ({floor.note})"


def _show_bar(events: Iterator[Event]) -> Event:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"), TextColumn("{task.fields[numbers]}"),
        TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
    )  # fmt: skip
    event = None
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("train", total=None, numbers="", rate="")
        for event in events:
            progress.update(task, completed=event.step, total=event.steps, numbers=_numbers(event))
            if event.rate:
                progress.update(task, rate=f"{event.rate:.0f} steps/s")
    assert event is not None
    return event


def _held_out(run: Run, progress: float | None) -> list[str]:
    """Say how the held-out loss went, and whether the samples were learned by heart."""
    from fromnoise.run import held_out_losses

    losses = held_out_losses(run.history)
    best = min(losses, key=lambda step: losses[step])
    end = losses[max(losses)]
    lines = [f"held-out loss {end:.4f}, the least was {losses[best]:.4f} at step {best:,}"]
    if end - losses[best] > 0.05 * abs(losses[best]) and progress is not None and progress > 0.5:
        lines.append("memorising: the training loss nears that of copying the samples, and the held-out loss has risen")
    return lines


def summarize(run: Run, last: Event, seconds: float, *, report: bool, as_json: bool) -> None:
    """Measure the finished run, write its report, and print the results."""
    assert run.folder is not None
    known = (run.loss, last.floor) if run.loss is not None and last.floor is not None else None
    progress = None if known is None else known[1].progress(known[0])
    data: dict[str, Any] = {
        "run": str(run.folder.path), "steps": run.step, "seconds": round(seconds, 2), "loss": run.loss,
        "floor": None if last.floor is None else last.floor.value, "progress": progress,
        "held_out": None if last.held_out is None else last.held_out.loss, "waiting": round(last.waiting, 5),
    }  # fmt: skip
    waited = f", of which {last.waiting:.1%} waiting for data" if run.denoiser.codec.form == "images" else ""
    lines = [f"{run.folder.path}: {run.step:,} steps in {seconds:.1f} s{waited}"]
    if known is not None:
        loss, floor = known
        copying = ", the loss of copying the training pictures" if run.denoiser.codec.form == "images" else ""
        lines.append(f"loss {loss:.4f}, floor {_short(floor)}{copying}: {floor.describe(loss)}")
    elif run.loss is not None:
        lines.append(f"loss {run.loss:.4f}, whose floor is not known")
    if last.held_out is not None:
        lines += _held_out(run, progress)
    if run.config.codec["name"] == "latent" and report:
        lines += _in_latents(run, data)
    few = run.source.distribution is None and len(run.source) < 12
    if report and few:
        lines.append(f"no report: {len(run.source)} samples are too few to measure distances against, 12 are needed")
    elif report and run.denoiser.codec.form == "images":
        from fromnoise.report import write_report

        data["report"] = str(write_report(run, [], floor=last.floor))
        lines.append(f"report: {data['report']}")
    elif report and run.denoiser.codec.form == "points":
        from fromnoise.report import Assessor, write_report
        from fromnoise.samplers import settled

        assessor = Assessor(run, n=min(1000, max(20, len(run.source) // 2)))
        found = assessor(*settled(run.denoiser))
        page = write_report(run, [found], floor=last.floor)
        data["samples"], data["report"] = found.row(), str(page)
        exact = "" if found.exact_ratio is None else f", with the exact denoiser {found.exact_ratio:.3f}"
        lines.append(
            f"samples by {found.sampler}: 2-Wasserstein ratio to the floor {found.ratio:.3f}{exact} "
            "(1 is as good as fresh data)"
        )
        lines.append(f"report: {page}")
    data["holds_data"] = run.folder.holds_data
    place = run.config.data.get("path")
    if place is not None:
        lines.append(f"the folder holds none of the training pictures: they are read from {place}")
    elif "sha256" in run.config.data:
        lines.append(
            f"the folder holds the {len(run.source):,} training samples; --no-data leaves them out"
            if run.folder.holds_data
            else "the folder holds none of the training samples: evaluate, floors and exact answers need them by --data"
        )
    lines.append(f"next: fromnoise sample {shlex.quote(str(run.folder.path))} {suggested(run.denoiser)}")
    result(data, as_json, "\n".join(lines))


def _in_latents(run: Run, data: dict[str, Any]) -> list[str]:
    """Say how much less computing latents take, and note it in the data."""
    from fromnoise.report import computing_of

    found = computing_of(run)
    data["computing"] = None if found is None else found.row()
    return [] if found is None else [found.line()]
