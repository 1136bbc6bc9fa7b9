"""`fromnoise train-autoencoder photos/`: train an autoencoder, in whose latents a denoiser is then trained."""

from __future__ import annotations

import shlex
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
    result,
)
from fromnoise.cli.train import carry_out, changes_of, introduce, set_threads
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

if TYPE_CHECKING:
    from fromnoise.run import AutoencoderRun
    from fromnoise.training import Event


def train_autoencoder(
    data: Annotated[
        str, typer.Argument(help="A folder or archive of pictures, an array of them (.npy, .npz), or digits.")
    ],
    out: Annotated[Path | None, typer.Option(help="The run's folder; default runs/autoencoder.")] = None,
    factor: Annotated[int | None, typer.Option(help="By how much the sides of latents are shorter: 2, 4, 8.")] = None,
    channels: Annotated[int | None, typer.Option(help="The channels of a latent; default 4.")] = None,
    error: Annotated[str | None, typer.Option(help="The error of a reconstruction: l2, squared, or l1.")] = None,
    kl: Annotated[float | None, typer.Option(help="The weight of the KL divergence of latents from N(0, I).")] = None,
    perceptual: Annotated[
        float | None, typer.Option(help="The weight of the distance between features of a classifier; 0 by default.")
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(help="Whose features: classifier, trained on the data's labels, or a file (.safetensors, .pt)."),
    ] = None,
    adversarial: Annotated[
        float | None, typer.Option(help="The weight of a critic that is trained along; 0 by default.")
    ] = None,
    steps: Steps = None,
    batch_size: BatchSize = None,
    lr: Rate = None,
    seed: Seed = None,
    size: Size = None,
    fit: Fit = None,
    flip: Flip = False,
    strict: Strict = False,
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
    """Train an autoencoder on pictures and write a run, for `fromnoise train DATA --latent RUN`."""
    from fromnoise.data import open as open_data
    from fromnoise.training import AutoencoderPlan

    load_plugins(plugin)
    set_threads(threads)
    own = {"error": error, "kl": kl, "perceptual": perceptual, "features": features, "adversarial": adversarial}
    loss = {key: value for key, value in own.items() if value is not None}
    changes = changes_of(
        config, set_,
        network={"factor": factor, "channels": channels},
        train={"steps": steps, "batch_size": batch_size, "lr": lr, "seed": seed, "loss": loss or None},
        data={"size": size, "fit": fit, "flip": flip or None, "strict": strict or None},
    )  # fmt: skip
    plan = AutoencoderPlan.from_recipe(changes=changes)
    with bar("decoding pictures") as progress:
        source = open_data(data, settings=plan.data, progress=progress)
    introduce(source, threads)
    folder = out or Path("runs") / "autoencoder"
    with bar("training the classifier, once for these data") as progress:
        training = plan.assemble(source, device=check_device(device), progress=progress)
    run, last, seconds = carry_out(training, folder, resume=resume, keep_data=keep_data)
    _summarize(run, last, seconds, data, report=report, as_json=as_json)


def _summarize(run: AutoencoderRun, last: Event, seconds: float, data: str, *, report: bool, as_json: bool) -> None:
    """Measure the finished autoencoder, write its report, and print the results."""
    from fromnoise.report import ceiling_of, write_autoencoder_report

    assert run.folder is not None
    path, model = run.folder.path, run.autoencoder
    found: dict[str, Any] = {
        "run": str(path), "steps": run.step, "seconds": round(seconds, 2), "loss": run.loss,
        "held_out": None if last.held_out is None else last.held_out.loss, "waiting": round(last.waiting, 5),
        "latent": list(model.latent_shape),
    }  # fmt: skip
    a, b = (" x ".join(map(str, shape)) for shape in (model.shape, model.latent_shape))
    lines = [
        f"{path}: {run.step:,} steps in {seconds:.1f} s",
        f"pictures {a} -> latents {b}: {_fewer(model.shape, model.latent_shape)}",
    ]
    if last.held_out is not None:
        lines.append(f"loss {run.loss:.5f}, held-out loss {last.held_out.loss:.5f}")
    if report:
        ceiling = ceiling_of(model, *run.parts())
        found |= ceiling.row()
        lines += ceiling.lines()
        found["report"] = str(write_autoencoder_report(run, ceiling))
        lines.append(f"report: {found['report']}")
    lines.append(f"next: fromnoise train {shlex.quote(data)} --latent {shlex.quote(str(path))}")
    result(found, as_json, "\n".join(lines))


def _fewer(shape: tuple[int, ...], latent: tuple[int, ...]) -> str:
    import math

    places, numbers = math.prod(shape[1:]) / math.prod(latent[1:]), math.prod(shape) / math.prod(latent)
    return f"{places:g} times fewer positions, {numbers:.3g} times fewer numbers"
