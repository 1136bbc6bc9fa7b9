"""`fromnoise plot runs/spiral trajectory`: pictures of a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli import of_autoencoder, plot_images
from fromnoise.cli.common import (
    DataPlace,
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
    bar,
    guided,
    load_plugins,
    make_sampler,
    put_on_path,
    result,
    save_figure,
    say,
    settle_threads,
    text_table,
    whole_file,
)  # fmt: skip
from fromnoise.cli.wish import Wish
from fromnoise.errors import InputError, UnknownName, whole_number

if TYPE_CHECKING:
    from fromnoise.denoiser_like import DenoiserLike


def plot(
    run: RunPath,
    kind: Annotated[
        str,
        typer.Argument(
            help="samples, trajectory, guidance, dissolve, elbo, loss or schedule; of points also score and variance; "
            "of pictures also neighbours; of a distilled run also distillation; of an autoencoder loss and "
            "reconstructions."
        ),
    ] = "samples",
    out: Annotated[Path | None, typer.Option(help="The picture's file; by default in the run's folder.")] = None,
    n: Annotated[int, typer.Option("-n", help="How many points; pictures stand ten in a row.")] = 2000,
    sampler: SamplerName = None,
    steps: StepsOption = None,
    label: Annotated[str | None, typer.Option(help="Only samples of this label.")] = None,
    guidance: GuidanceScale = None,
    scales: Annotated[
        str | None, typer.Option(help="The guidance scales that the kind `guidance` compares; 0,1,3,5 by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of every random number.")] = 0,
    eta: Eta = None,
    schedule: ScheduleOption = None,
    data: DataPlace = None,
    text_encoder: EncoderPlace = None,
    set_: SetOption = None,
    plugin: Plugin = None,
    as_json: Json = False,
) -> None:
    """Draw a run: samples, trajectory, the score beside the exact one, the loss beside its floor, and more."""
    from fromnoise.rng import check_seed
    from fromnoise.run import AutoencoderRun, Run, load_any
    from fromnoise.samplers import settled

    load_plugins(plugin)
    n, seed = whole_number("n", n), check_seed(seed)
    if kind not in (every := {*_KINDS, *_OF_IMAGES, *of_autoencoder.KINDS}):
        raise UnknownName("kind of plot", kind, every)
    asked = make_sampler(sampler, eta, set_)
    trained = load_any(run, data=data, text_encoder=text_encoder)
    given = {
        "--sampler": sampler, "--steps": steps, "--eta": eta, "--set": set_, "--schedule": schedule, "--label": label,
        "--guidance": guidance, "--scales": scales,
    }  # fmt: skip
    told = {name for name, value in given.items() if value is not None}
    if isinstance(trained, AutoencoderRun):
        _note_unused(kind, told)
        path = out or run / f"{'reconstructions' if kind == 'samples' else kind}.png"
        of_autoencoder.plotted(trained, kind, path, seed)
        result({"kind": kind, "out": str(path)}, as_json, str(path))
        return
    assert isinstance(trained, Run)
    settle_threads(trained.denoiser.shape)
    kinds = _OF_IMAGES if trained.denoiser.codec.form == "images" else _KINDS
    if kind not in kinds:
        raise InputError(f"there is no plot {kind!r} of {trained.denoiser.codec.form}: there are {', '.join(kinds)}")
    _note_unused(kind, told - _used_by(kind))
    denoiser = guided(put_on_path(trained, asked, schedule), guidance, label, told=kinds is _OF_IMAGES)
    wish = Wish(trained, denoiser, *settled(denoiser, asked, steps), n, seed, label, _scales(scales, denoiser))
    path = out or run / (f"{kind}.gif" if kind == "trajectory" else f"{kind}.png")
    if kind == "trajectory" and kinds is _KINDS and path.suffix.lower() != ".gif":
        raise InputError(f"--out {path}: a trajectory's name must end in .gif")
    more = kinds[kind](wish, path) or {}
    lines = more.pop("lines", [])
    result({"kind": kind, "out": str(path), **more}, as_json, "\n".join([*lines, str(path)]))


def _used_by(kind: str) -> set[str]:
    """Return the options that make a difference to a kind of plot, of those that not every kind has."""
    drawn = {"--sampler", "--steps", "--eta", "--set", "--schedule", "--label"}
    return {
        "samples": drawn | {"--guidance"}, "trajectory": drawn | {"--guidance"}, "neighbours": drawn | {"--guidance"},
        "guidance": drawn | {"--scales"}, "score": {"--label"}, "dissolve": {"--schedule"},
        "elbo": {"--schedule", "--guidance"},
    }.get(kind, set())  # fmt: skip


def _note_unused(kind: str, options: set[str]) -> None:
    if options:
        say(f"note: {', '.join(sorted(options))} {'makes' if len(options) == 1 else 'make'} no difference to {kind}")


def _samples(wish: Wish, path: Path) -> None:
    import torch

    from fromnoise import plot as pictures
    from fromnoise.cond import Cond
    from fromnoise.samplers import sample

    run, names = wish.run, wish.run.denoiser.label_names
    cond = wish.label
    labels = None
    if cond is None and names:
        labels = torch.arange(wish.n) * len(names) // wish.n
    x = sample(
        wish.denoiser,
        wish.n,
        sampler=wish.sampler,
        steps=wish.steps,
        cond=Cond({"label": labels}) if labels is not None else cond,
        seed=wish.seed,
    )
    title = f"{run.name}: {wish.n:,} samples, {wish.steps} steps"
    save_figure(pictures.scatter(x, labels=labels, label_names=names if labels is not None else (), title=title), path)


def _trajectory(wish: Wish, path: Path) -> None:
    from fromnoise import plot as pictures
    from fromnoise.samplers import trajectory

    way = trajectory(wish.denoiser, wish.n, sampler=wish.sampler, steps=wish.steps, cond=wish.label, seed=wish.seed)
    sizes = [math.hypot(a, s) for a, s in zip(way.alphas, way.sigmas, strict=True)]
    with whole_file(path) as staging:
        pictures.animate_trajectory(way.x, way.times, sizes, staging, title=wish.run.name)


def _guidance(wish: Wish, path: Path) -> dict[str, Any]:
    from fromnoise import plot as pictures
    from fromnoise.report import at_scales

    run, names = wish.run, wish.denoiser.label_names
    label = wish.label or (names[0] if names else "")
    with bar("sampling") as progress:
        found = at_scales(
            run, wish.denoiser, label, wish.scales, sampler=wish.sampler, steps=wish.steps, n=wish.n, seed=wish.seed,
            progress=progress,
        )  # fmt: skip
    panels = {f"{label}: data": run.source.only(label).x[: wish.n]}
    panels.update({f"scale {a.scale:g}": a.samples for a in found})
    captions = ["", *(f"accuracy {a.accuracy:.1%}, diversity {a.diversity:.2f}" for a in found)]
    save_figure(pictures.side_by_side(panels, captions=captions), path)
    rows = [{"scale": a.scale, "accuracy": a.accuracy, "diversity": a.diversity} for a in found]
    shown = [
        {"scale": f"{a.scale:g}", "class accuracy": f"{a.accuracy:.1%}", "diversity": f"{a.diversity:.3f}"}
        for a in found
    ]
    return {"label": label, "scales": rows, "lines": [text_table(shown), ""]}


def _scales(text: str | None, denoiser: DenoiserLike) -> tuple[float, ...]:
    """Return the scales that an option names; where it names none, those of the usual ones that a denoiser takes."""
    from fromnoise.guidance_cond import scale_of

    if text is None:
        known = scale_of(denoiser.conditioners)
        usual = (0.0, 1.0, 3.0, 5.0)
        if known is None:
            return usual
        inside = tuple(scale for scale in usual if known.low <= scale <= known.high)
        return inside if len(inside) > 1 else tuple(sorted({known.low, (known.low + known.high) / 2, known.high}))
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--scales takes numbers with commas between them, such as 0,1,3,5, not {text!r}") from None


def _dissolve(wish: Wish, path: Path) -> None:
    import torch

    from fromnoise import plot as pictures
    from fromnoise.rng import stream

    data, schedule = wish.run.source, wish.denoiser.schedule
    x0 = data.x[: wish.n]
    codec, noise = wish.run.denoiser.codec, torch.randn(x0.shape, generator=stream(wish.seed, "dissolve"))
    eps = codec.out(noise) - codec.out(torch.zeros_like(noise))
    levels = [math.tan(math.pi / 2 * i / 6) for i in range(6)]  # equal steps in atan(sigma/alpha), on any schedule
    times = [float(schedule.time_of_level(level)) for level in levels] + [1.0]
    alphas, sigmas = zip(*(schedule.scales(t) for t in times), strict=True)
    save_figure(pictures.dissolve(x0, alphas, sigmas, times, eps), path)


def _elbo(wish: Wish, path: Path) -> dict[str, Any]:
    from fromnoise import plot as pictures
    from fromnoise.likelihood import elbo
    from fromnoise.report.density import CHAIN

    run = wish.run
    if run.source.distribution is not None:
        data, draws = run.source.draw(wish.n, seed=wish.seed + 1), 256
    elif run.denoiser.codec.form == "images":
        rows, held = run.parts()
        data, draws = held or rows, 32
    else:
        data, draws = run.source, 256
    with bar("ELBO") as progress:
        bound = elbo(wish.denoiser, data, steps=CHAIN, draws=draws, seed=wish.seed, progress=progress)
    levels = [float(wish.denoiser.schedule.log_snr(t)) for t in bound.times[:-1]]
    save_figure(pictures.elbo(levels, [*bound.steps, bound.reconstruction], bound.simple), path)
    return {"nats": bound.nats, "bits_per_dim": bound.bits_per_dim, "lines": [str(bound), ""]}


def _score(wish: Wish, path: Path) -> dict[str, Any]:
    from fromnoise import plot as pictures
    from fromnoise.report import score_fields

    found = score_fields(wish.run, label=wish.label, seed=wish.seed)
    titles = [f"noise {each.level:g} std" for each in found]
    captions = [f"error {each.error:.2%} of the exact" for each in found]
    arrows = [[each.learned for each in found], [each.exact for each in found]]
    at, points = [each.at for each in found], [each.points for each in found]
    save_figure(
        pictures.fields(("learned", "exact"), titles, at=at, arrows=arrows, points=points, captions=captions), path
    )
    rows = [{"level": each.level, "error": each.error} for each in found]
    shown = [{"noise level": f"{each.level:g} std", "score's error": f"{each.error:.3%}"} for each in found]
    return {"fields": rows, "lines": [text_table(shown), ""]}


def _variance(wish: Wish, path: Path) -> dict[str, Any]:
    from fromnoise import plot as pictures
    from fromnoise.report import respaced

    with bar("ELBO") as progress:
        found = respaced(wish.run, n=wish.n, seed=wish.seed, progress=progress)
    save_figure(pictures.bounds({k: (found.steps, v) for k, v in found.nats.items()}, best=found.truth), path)
    shown = [
        {"steps": count, **{k: f"{v[i]:.4f} +- {found.errors[k][i]:.4f}" for k, v in found.nats.items()}}
        for i, count in enumerate(found.steps)
    ]
    head = f"-ELBO in nats a sample, of {found.judged}, by the variance of the steps"
    foot = [] if found.truth is None else [f"the data's entropy is {found.truth:.4f}: no bound is below it"]
    row = {"steps": list(found.steps), "nats": found.nats, "errors": found.errors, "truth": found.truth}
    return {**row, "lines": [head, text_table(shown), *foot, ""]}


def _loss(wish: Wish, path: Path) -> None:
    from fromnoise import plot as pictures
    from fromnoise.run import held_out_losses
    from fromnoise.training.floor import floor_of

    run = wish.run
    rows = run.history
    if not rows:
        raise InputError("this run has no metrics yet: train it first")
    floor = floor_of(run.denoiser, run.source, run.config.train) if run.holds_data else None
    known = {} if floor is None else {"floor": floor.value, "what": floor.note}
    steps, losses = [row["step"] for row in rows], [row["loss"] for row in rows]
    save_figure(pictures.loss(steps, losses, held_out=held_out_losses(rows), **known), path)


def _distillation(wish: Wish, path: Path) -> dict[str, Any]:
    from fromnoise import plot as pictures
    from fromnoise.report import compared

    with bar("comparing") as progress:
        found = compared(wish.run, n=min(wish.n, 1000), seed=wish.seed, progress=progress)
    models = list(dict.fromkeys(one.model for one in reversed(found)))
    each = {name: {one.evaluations: one for one in found if one.model == name} for name in models}
    curves = {name: (sorted(row), [row[count].ratio for count in sorted(row)]) for name, row in each.items()}
    students = sorted(each["student"])
    shown = {1, 2, 4, *students[:4], *students[-1:], max(each[models[-1]])}
    panels = {name: {count: row[count].x for count in shown & row.keys()} for name, row in each.items()}
    save_figure(pictures.few_steps(curves, panels), path)
    counts = sorted({one.evaluations for one in found}, reverse=True)
    table = [
        {"evaluations": f"{count:,}"}
        | {name: f"{row[count].ratio:.3f}" if count in row else "-" for name, row in each.items()}
        for count in counts
    ]
    rows = [{"model": one.model, "evaluations": one.evaluations, "ratio": one.ratio} for one in found]
    return {"rows": rows, "lines": [text_table(table), "", _OVER_FLOOR, ""]}


_OVER_FLOOR = "distance of samples to the data over its floor: 1 is as good as fresh data"


def _schedule(wish: Wish, path: Path) -> None:
    import torch

    from fromnoise import plot as pictures

    t = torch.linspace(0, 1, 513, dtype=torch.float64)[1:]
    schedule = wish.run.denoiser.schedule
    save_figure(pictures.schedules({wish.run.config.schedule["name"]: (t, *schedule.scales(t))}), path)


_KINDS: dict[str, Callable[[Wish, Path], Any]] = {
    "samples": _samples,
    "trajectory": _trajectory,
    "guidance": _guidance,
    "score": _score,
    "dissolve": _dissolve,
    "elbo": _elbo,
    "variance": _variance,
    "loss": _loss,
    "distillation": _distillation,
    "schedule": _schedule,
}

_OF_IMAGES: dict[str, Callable[[Wish, Path], Any]] = {
    "samples": plot_images.samples,
    "trajectory": plot_images.trajectory,
    "guidance": plot_images.guidance,
    "neighbours": plot_images.neighbours,
    "dissolve": plot_images.dissolve,
    "elbo": _elbo,
    "loss": _loss,
    "distillation": _distillation,
    "schedule": _schedule,
}
