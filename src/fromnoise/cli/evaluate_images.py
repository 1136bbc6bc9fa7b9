"""`fromnoise evaluate` of a run on pictures: distances in a feature space beside their floors, and class agreement."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fromnoise.cli.asked import Asked, measures_of
from fromnoise.cli.common import bar, guided, put_on_path
from fromnoise.cli.reading import check_label, samples_from
from fromnoise.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from fromnoise.data import Source
    from fromnoise.metrics import Evaluation, Features
    from fromnoise.run import AnyRun, Run


def of_pictures(run: Run, asked: Asked) -> tuple[dict[str, Any], list[str]]:
    """Measure samples of a run on pictures; return the results as data and as lines.

    Of a run with labels as many samples are drawn of each, and the judge says how many it takes for what they were
    asked to be.
    """
    from fromnoise import metrics
    from fromnoise.report import bits_of
    from fromnoise.training.judge import Judge

    check_label(run.denoiser, asked.label)
    (rows, held), names = _parts(run, asked.label), run.denoiser.label_names
    space = space_of(run, asked.features)
    x, labels, how = _drawn(run, asked) if asked.file is None else (_read(run, asked.file), None, str(asked.file))
    found = metrics.evaluate(x, rows, pairs=asked.pairs, seed=asked.seed, features=space, held_out=held)
    data: dict[str, Any] = {"n": found.n, "against": found.against, "measures": measures_of(found)}
    of = "" if asked.label is None else f"; of {asked.label} alone"
    lines = [f"{how}{of}", str(found)]
    ceiling = _ceiling(run, rows, held, n=found.n, features=space, pairs=asked.pairs, seed=asked.seed)
    if ceiling is not None:
        data["ceiling"] = measures_of(ceiling)
        lines += ["", f"reconstructions by the autoencoder, the ceiling of these samples: {ceiling}"]
    if isinstance(space, Judge):
        data["judge_accuracy"] = space.accuracy
        line = f"judge: {space.accuracy:.2%} right on pictures that it was not trained on"
        if labels is not None and space.label_names == names:
            data["agreement"] = space.agreement(x, labels)
            line = f"class agreement {data['agreement']:.2%}; {line}"
        lines += ["", line]
    elif len(names) > 1:
        lines += ["", "--features classifier measures class agreement too"]
    if held is not None:
        near = metrics.memorisation(x[:1000], rows, held, seed=asked.seed)
        data["memorisation"] = near._asdict()
        lines += [str(near)]
    if asked.elbo:
        with bar("ELBO") as progress:
            bits = bits_of(run, seed=asked.seed, progress=progress)
        data["likelihood"] = bits.row()
        lines += ["", *bits.lines(), *(["(of all labels)"] if asked.label is not None else [])]
    return data, lines


def space_of(run: AnyRun, features: str | None) -> Features | None:
    """Return the space to measure in: the judge where it is asked for or the run has labels; None for pixels."""
    from fromnoise.training.feature_files import features_from
    from fromnoise.training.judge import Judge, judge_of

    if features is not None and features not in ("pixels", "classifier"):
        if not Path(features).suffix:
            raise InputError(f"--features is pixels, classifier, or a file (.safetensors, .pt), not {features!r}")
        space = features_from(features)
        if isinstance(space, Judge) and space.network.shape != run.source.shape:
            raise InputError(f"--features {features} judges pictures {list(space.network.shape)}, not this run's")
        return space
    labelled = len(getattr(run.source, "label_names", ())) > 1
    if features == "pixels" or (features is None and not labelled):
        return None
    train = run.config.train
    with bar("training the judge, once for these data") as progress:
        return judge_of(run.source, held_out=train["held_out"], seed=train["seed"], progress=progress)


def _parts(run: Run, label: str | None) -> tuple[Source, Source | None]:
    """Return the pictures that a run was trained on and those held out, of one label where one is given."""
    from fromnoise.data import find_label
    from fromnoise.data.source import of_label

    rows, held = run.parts()
    if label is None:
        return rows, held
    number = find_label(label, run.denoiser.label_names)
    held = None if held is None else of_label(held, number)
    return of_label(rows, number), held if held is not None and len(held) else None


def _ceiling(run: Run, rows: Source, held: Source | None, **how: Any) -> Evaluation | None:
    """Measure reconstructions of training pictures as the samples are; None for a run that is not in latents."""
    from fromnoise.latent import Latent
    from fromnoise.report import ceiling_of_samples

    codec = run.denoiser.codec
    if not isinstance(codec, Latent):
        return None
    return ceiling_of_samples(codec, rows, held, **how)


def _drawn(run: Run, asked: Asked) -> tuple[Tensor, Tensor | None, str]:
    """Return samples, the labels they were asked to have, and how they were drawn."""
    import torch

    from fromnoise.data import find_label
    from fromnoise.guidance import Guided
    from fromnoise.report.pictures import told_each
    from fromnoise.samplers import sample, samplers, settled

    names, denoiser = run.denoiser.label_names, put_on_path(run, asked.sampler, asked.schedule)
    rule, steps = settled(denoiser, asked.sampler, asked.steps)
    labels = None
    if names:
        every = torch.arange(asked.n) % len(names)
        labels = every if asked.label is None else torch.full_like(every, find_label(asked.label, names))
        denoiser = denoiser if asked.guidance is None else Guided(denoiser, asked.guidance)
    else:
        denoiser = guided(denoiser, asked.guidance, asked.label, told=run.holds_data)
    cond = told_each(run, labels, asked.n, seed=asked.seed)
    with bar("sampling") as progress:
        x = sample(denoiser, asked.n, sampler=rule, steps=steps, cond=cond, seed=asked.seed, progress=progress)
    guide = "" if asked.guidance is None else f", guidance {asked.guidance:g}"
    return x.cpu(), labels, f"{samplers.settings(rule)['name']}, {steps} steps{guide}"


def _read(run: Run, path: Path) -> Tensor:
    """Return the samples in a file of numbers, or the pictures of a folder or an archive."""
    from fromnoise.data.files import KINDS, read_file
    from fromnoise.data.images import is_pictures
    from fromnoise.data.numbers import as_data

    if path.suffix.lower() in KINDS:
        return as_data(read_file(path)[0])
    if path.exists() and not is_pictures(path):
        raise InputError(f"--samples {path}: give a folder of pictures, its archive, or a file {', '.join(KINDS)}")
    return samples_from(path, run.denoiser, "--samples")
