"""`fromnoise evaluate runs/spiral`: distances of a run's samples to its data, each beside its floor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.asked import Asked
from fromnoise.cli.common import (
    DataPlace,
    Device,
    EncoderPlace,
    Eta,
    GuidanceScale,
    Json,
    Plugin,
    RunPath,
    SamplerName,
    ScheduleOption,
    SetOption,
    StepsOption,
    check_device,
    load_plugins,
    make_sampler,
    result,
    settle_threads,
)  # fmt: skip
from fromnoise.cli.evaluate_ema import curve, lengths_of
from fromnoise.cli.evaluate_images import of_pictures
from fromnoise.cli.evaluate_points import of_points
from fromnoise.cli.of_autoencoder import evaluated
from fromnoise.errors import InputError, whole_number

if TYPE_CHECKING:
    from fromnoise.run import Run


def evaluate(
    run: RunPath,
    n: Annotated[int, typer.Option("-n", help="How many samples; exact 2-Wasserstein up to 2,000.")] = 2000,
    sampler: SamplerName = None,
    steps: StepsOption = None,
    samples: Annotated[
        Path | None,
        typer.Option(help="Measure this file or folder of pictures instead of new samples."),
    ] = None,
    label: Annotated[str | None, typer.Option(help="Only samples of this label.")] = None,
    seed: Annotated[int, typer.Option(help="The seed of every random number.")] = 0,
    guidance: GuidanceScale = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Of pictures: pixels; classifier, trained on the data's labels, once; or a file: a judge, "
            "Inception's weights (.safetensors), TorchScript (.pt)."
        ),
    ] = None,
    ema: Annotated[
        str | None,
        typer.Option(help="Show the curve over averages of these lengths, in parts of the training: 0.05,0.1,0.2."),
    ] = None,
    pairs: Annotated[int, typer.Option(help="The number of comparisons with fresh data.")] = 6,
    eta: Eta = None,
    schedule: ScheduleOption = None,
    data: DataPlace = None,
    text_encoder: EncoderPlace = None,
    set_: SetOption = None,
    exact: Annotated[bool, typer.Option(help="Also measure the exact denoiser with the same sampler.")] = True,
    elbo: Annotated[bool, typer.Option("--elbo", help="Also measure the likelihood, by ELBO and ODE.")] = False,
    device: Device = "cpu",
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Measure the distances of samples to the data, beside their floor and those of the exact denoiser's samples."""
    from fromnoise.run import AutoencoderRun, Run, load_any

    load_plugins(plugin)
    n, pairs = whole_number("-n", n), whole_number("--pairs", pairs)
    asked = Asked(
        sampler=make_sampler(sampler, eta, set_), steps=steps, n=n, label=label, guidance=guidance, schedule=schedule,
        file=samples, features=features, pairs=pairs, exact=exact, elbo=elbo, seed=seed,
    )  # fmt: skip
    place, lengths = check_device(device), None if ema is None else lengths_of(ema)
    trained = load_any(run, data=data, text_encoder=text_encoder)
    if isinstance(trained, AutoencoderRun):
        odd = {"--elbo": elbo, "--ema": ema, "--samples": samples, "--label": label, "--guidance": guidance,
               "--sampler": sampler, "--steps": steps, "--schedule": schedule}  # fmt: skip
        given = [name for name, value in odd.items() if value]
        if given:
            raise InputError(f"{run} is the run of an autoencoder, which draws no samples: leave {given[0]} out")
        trained.autoencoder.to(place)
        out, lines = evaluated(trained, features, n=n, pairs=pairs, seed=seed)
        result({"run": str(run), **out}, as_json, "\n".join([f"{run}: {lines[0]}", *lines[1:]]))
        return
    assert isinstance(trained, Run)
    trained.denoiser.to(place)
    settle_threads(trained.denoiser.shape)
    measure = _MEASURED.get(trained.denoiser.codec.form, of_points)
    if lengths is not None:
        if samples is not None:
            raise InputError("--ema draws samples under each length: leave --samples out")
        each = replace(asked, exact=False, elbo=False)
        out, lines = curve(trained, lengths, lambda one: measure(one, each)[0], place)
    else:
        out, lines = measure(trained, asked)
    training, line = _training(trained)
    result({"run": str(run), **out, **training}, as_json, "\n".join([f"{run}: {lines[0]}", *lines[1:], *line]))


_MEASURED = {"images": of_pictures}
"""What measures runs on each form of samples, where it is not as points are."""


def _training(run: Run) -> tuple[dict[str, Any], list[str]]:
    """Return the training's loss beside its floor, as data and as a line; both empty for a run without a log."""
    from fromnoise.training.floor import floor_of

    loss = run.loss
    if loss is None:
        return {}, []
    floor = floor_of(run.denoiser, run.source, run.config.train) if run.holds_data else None
    if floor is None:
        return {"loss": loss}, [f"training loss {loss:.4f}, whose floor is not known"]
    progress = floor.progress(loss)
    data = {"loss": loss, "floor": floor.value, "progress": progress}
    return data, [f"training loss {loss:.4f}, floor {floor}: {floor.describe(loss)}"]
