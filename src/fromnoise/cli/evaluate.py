"""`fromnoise evaluate runs/spiral`: distances of a run's samples to its data, each beside its floor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.common import (
    Device,
    Eta,
    GuidanceScale,
    Json,
    Plugin,
    RunPath,
    SamplerName,
    ScheduleOption,
    SetOption,
    StepsOption,
    bar,
    check_device,
    load_plugins,
    make_sampler,
    put_on_path,
    result,
)  # fmt: skip
from fromnoise.cli.evaluate_images import Asked, measures_of, of_pictures
from fromnoise.errors import InputError

if TYPE_CHECKING:
    from fromnoise.run import Run


def evaluate(
    run: RunPath,
    n: Annotated[int, typer.Option("-n", help="How many samples; exact 2-Wasserstein up to 2,000.")] = 2000,
    sampler: SamplerName = "multistep",
    steps: StepsOption = None,
    samples: Annotated[Path | None, typer.Option(help="Measure this file (.csv, .npy) instead of new samples.")] = None,
    label: Annotated[str | None, typer.Option(help="Only samples of this label.")] = None,
    seed: Annotated[int, typer.Option(help="The seed of every random number.")] = 0,
    guidance: GuidanceScale = None,
    features: Annotated[
        str | None,
        typer.Option(help="Of pictures: pixels, or classifier, which is trained on the data's labels, once."),
    ] = None,
    pairs: Annotated[int, typer.Option(help="The number of comparisons with fresh data.")] = 6,
    eta: Eta = None,
    schedule: ScheduleOption = None,
    set_: SetOption = None,
    exact: Annotated[bool, typer.Option(help="Also measure the exact denoiser with the same sampler.")] = True,
    elbo: Annotated[bool, typer.Option("--elbo", help="Also measure the likelihood, by ELBO and ODE.")] = False,
    device: Device = "cpu",
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Measure the distances of samples to the data, beside their floor and those of the exact denoiser's samples."""
    from fromnoise import metrics
    from fromnoise.data import Dataset
    from fromnoise.data.files import read_file
    from fromnoise.report import Assessor, likelihood_of
    from fromnoise.run import load
    from fromnoise.samplers import sample

    load_plugins(plugin)
    rule = make_sampler(sampler, eta, set_)
    trained = load(run)
    trained.denoiser.to(check_device(device))
    if trained.denoiser.codec.form == "images":
        asked = Asked(rule, steps, n, label, guidance, schedule, samples, features, pairs, seed)
        out, lines = of_pictures(trained, asked)
        training, line = _training(trained)
        result({"run": str(run), **out, **training}, as_json, "\n".join([f"{run}: {lines[0]}", *lines[1:], *line]))
        return
    if features is not None or guidance is not None:
        raise InputError("--features and --guidance are for runs on pictures: points are measured as they are")
    data = trained.source if label is None else trained.source.only(label)
    data = Dataset(data.x, name=data.name, distribution=data.distribution)
    denoiser = put_on_path(trained, rule, schedule)
    steps = rule.steps_on(denoiser.schedule) if steps is None else steps
    if samples is not None:
        x, how = read_file(samples)[0], str(samples)
    else:
        with bar("sampling") as progress:
            x = sample(denoiser, n, sampler=rule, steps=steps, cond=label, seed=seed, progress=progress).cpu()
        how = f"{sampler}, {steps} steps"
    found = metrics.evaluate(x, data, pairs=pairs, seed=seed)
    lines = [f"{run}: {how}", str(found)]
    out: dict[str, Any] = {
        "run": str(run), "sampler": sampler, "steps": steps, "n": found.n, "against": found.against,
        "measures": measures_of(found),
    }  # fmt: skip
    if samples is None and label is None and exact and n <= 2000:
        assessor = Assessor(trained, n=n, seed=seed)
        best = assessor(rule, steps, schedule=denoiser.schedule)
        out["low_noise"] = best.row()
        quietly = " with little noise" if assessor.low_noise else ""
        lines += ["", _BESIDE_EXACT.format(quietly, best.ratio, best.exact_ratio)]
    if elbo:
        with bar("ELBO") as progress:
            likelihood = likelihood_of(trained, n=n, seed=seed, progress=progress)
        out["likelihood"] = likelihood.row()
        lines += ["", *likelihood.lines()]
    training, line = _training(trained)
    result(out | training, as_json, "\n".join([*lines, *line]))


_BESIDE_EXACT = (
    "2-Wasserstein ratio{}: {:.3f}, with the exact denoiser {:.3f} "
    "(1 is as good as fresh data; what lies between the two is the model's part of the error)"
)


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
