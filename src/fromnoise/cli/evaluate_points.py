"""`fromnoise evaluate` of a run on points: distances beside their floors and beside the exact denoiser's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fromnoise.cli.asked import Asked, measures_of
from fromnoise.cli.common import bar, put_on_path
from fromnoise.errors import InputError

if TYPE_CHECKING:
    from fromnoise.run import Run


def of_points(run: Run, asked: Asked) -> tuple[dict[str, Any], list[str]]:
    """Measure samples of a run on points; return the results as data and as lines."""
    from fromnoise import metrics
    from fromnoise.data import Dataset
    from fromnoise.data.files import read_file
    from fromnoise.report import Assessor, likelihood_of
    from fromnoise.samplers import sample, samplers, settled

    if asked.features is not None or asked.guidance is not None:
        raise InputError("--features and --guidance are for runs on pictures: points are measured as they are")
    data = run.source if asked.label is None else run.source.only(asked.label)
    data = Dataset(data.x, name=data.name, distribution=data.distribution)
    denoiser = put_on_path(run, asked.sampler, asked.schedule)
    rule, steps = settled(denoiser, asked.sampler, asked.steps)
    name = str(samplers.settings(rule)["name"])
    if asked.file is not None:
        x, how = read_file(asked.file)[0], str(asked.file)
    else:
        with bar("sampling") as progress:
            x = sample(
                denoiser, asked.n, sampler=rule, steps=steps, cond=asked.label, seed=asked.seed, progress=progress
            ).cpu()  # fmt: skip
        how = f"{name}, {steps} steps"
    found = metrics.evaluate(x, data, pairs=asked.pairs, seed=asked.seed)
    lines = [how, str(found)]
    out: dict[str, Any] = {
        "sampler": name, "steps": steps, "n": found.n, "against": found.against, "measures": measures_of(found)
    }  # fmt: skip
    if asked.file is None and asked.label is None and asked.exact and asked.n <= 2000:
        assessor = Assessor(run, n=asked.n, seed=asked.seed)
        best = assessor(rule, steps, schedule=denoiser.schedule)
        out["low_noise"] = best.row()
        quietly = " with little noise" if assessor.low_noise else ""
        said = _ALONE if best.exact_ratio is None else _BESIDE_EXACT
        lines += ["", said.format(quietly, best.ratio, best.exact_ratio)]
    if asked.elbo:
        with bar("ELBO") as progress:
            likelihood = likelihood_of(run, n=asked.n, seed=asked.seed, progress=progress)
        out["likelihood"] = likelihood.row()
        lines += ["", *likelihood.lines()]
    return out, lines


_BESIDE_EXACT = (
    "2-Wasserstein ratio{}: {:.3f}, with the exact denoiser {:.3f} "
    "(1 is as good as fresh data; what lies between the two is the model's part of the error)"
)

_ALONE = "2-Wasserstein ratio{}: {:.3f} (1 is as good as fresh data)"
