"""`fromnoise evaluate runs/spiral`: distances of a run's samples to its data, each beside its floor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.common import (
    Device,
    Eta,
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

if TYPE_CHECKING:
    from fromnoise.metrics import Evaluation
    from fromnoise.run import Run


def evaluate(
    run: RunPath,
    n: Annotated[int, typer.Option("-n", help="How many samples; exact 2-Wasserstein up to 2,000.")] = 2000,
    sampler: SamplerName = "multistep",
    steps: StepsOption = None,
    samples: Annotated[Path | None, typer.Option(help="Measure this file (.csv, .npy) instead of new samples.")] = None,
    label: Annotated[str | None, typer.Option(help="Only samples of this label.")] = None,
    seed: Annotated[int, typer.Option(help="The seed of every random number.")] = 0,
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
        "measures": _measures(found),
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


def _measures(found: Evaluation) -> dict[str, Any]:
    return {
        m.name: {"value": m.value, "error": m.error, "floor": m.floor, "floor_error": m.floor_error,
                 "ratio": m.ratio, "ratio_error": m.ratio_error}
        for m in found.measures
    }  # fmt: skip


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
