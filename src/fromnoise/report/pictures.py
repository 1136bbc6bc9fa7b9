"""What a run of pictures shows: samples of every label beside training pictures, and the way from noise to them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.conditioners import needed_of
from fromnoise.data.source import Source
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.guidance import Guided
from fromnoise.guidance_cond import scale_of
from fromnoise.latent import Latent
from fromnoise.metrics import Evaluation, Memorisation, evaluate, memorisation, nearest
from fromnoise.report.ceiling import ceiling_of_samples
from fromnoise.rng import stream
from fromnoise.run import Run
from fromnoise.samplers import sample, trajectory, usual_steps
from fromnoise.text_cond import Text
from fromnoise.text_features import EncodedText

GUIDANCE = 1.5
"""The guidance scale of what is shown of a model with labels."""

STEPS = 12
"""The steps of the default sampler that a picture is shown after."""

_ACROSS, _MOST_LABELS, _READ = 10, 20, 4096


class Sheets(NamedTuple):
    """Rows of pictures by name.

    Attributes:
        samples: of every label, or a few rows where there are none, `[10, C, H, W]` each.
        data: training pictures likewise; empty where they cannot be had.
        way: some samples at the times of `times`, from noise to data.
        times: what those times are called.
        small: the pictures that were enlarged to the samples, in the samples' order; empty for a run that is told none.
    """

    samples: dict[str, Tensor]
    data: dict[str, Tensor]
    way: dict[str, Tensor]
    times: list[str]
    small: dict[str, Tensor]


def guided_for_show(run: Run) -> DenoiserLike:
    """Return the run's denoiser, guided where it knows labels and can be guided."""
    denoiser = run.denoiser
    told = scale_of(denoiser.conditioners)
    to_go = denoiser.label_names or text_of(run) is not None
    free = denoiser.unconditional and denoiser.grid is None
    may_be = free if told is None else told.low <= GUIDANCE <= told.high
    return Guided(denoiser, GUIDANCE) if to_go and may_be else denoiser


def text_of(run: Run) -> Text | EncodedText | None:
    """Return what reads captions, of a run that knows some."""
    return next((one for one in run.denoiser.conditioners if isinstance(one, Text | EncodedText)), None)


def told_each(run: Run, labels: Tensor | None, n: int, *, seed: int = 0) -> Cond | None:
    """Return conditions of samples for show or for measuring: the labels, or what held-out pictures are told of.

    Args:
        run: of pictures.
        labels: of the samples, `[n]`; None for a run without labels.
        n: the number of samples.
        seed: of the choice of pictures, where the run is told more than labels: each sample has what one of its label
            has, held-out ones where there are any.
    """
    if not needed_of(run.denoiser.conditioners) and (text_of(run) is None or not run.holds_data):
        return None if labels is None else Cond({"label": labels})
    rows, held = run.parts()
    source = held or rows
    every, own = _shuffled(source, seed, "told")
    wanted = torch.zeros(n, dtype=torch.long) if labels is None or own is None else labels
    chosen = torch.empty(n, dtype=torch.long)
    for label in wanted.unique().tolist():
        places = (wanted == label).nonzero().flatten()
        fitting = every if labels is None or own is None else every[own == label]
        fitting = fitting if len(fitting) else every
        chosen[places] = fitting[torch.arange(len(places)) % len(fitting)]
    cond = source.read(chosen).cond
    return None if cond is None else cond.only([one.value for one in run.denoiser.conditioners])


def _shuffled(source: Source, seed: int, purpose: str) -> tuple[Tensor, Tensor | None]:
    """Return rows of a source in random order, and the label of each where there are labels.

    All rows, or some thousands of a source that must read its samples to know their labels.
    """
    order, cond = torch.randperm(len(source), generator=stream(seed, purpose)), getattr(source, "cond", None)
    if cond is None:
        order = order[:_READ]
        cond = source.read(order).cond
        return order, None if cond is None else cond.values.get("label")
    return order, cond.values["label"][order] if "label" in cond.values else None


def sheets(run: Run, *, seed: int = 0, with_data: bool = True) -> Sheets:
    """Draw what a run of pictures shows.

    Args:
        run: of pictures.
        seed: of samples and of the choice of training pictures.
        with_data: whether training pictures are shown.
    """
    names = run.denoiser.label_names[:_MOST_LABELS]
    denoiser = guided_for_show(run)
    rows = list(names) or [f"{k + 1}" for k in range(5)]
    labels = torch.arange(len(rows)).repeat_interleave(_ACROSS)
    cond = told_each(run, labels if names else None, len(labels), seed=seed)
    text = text_of(run)
    if text is not None and cond is not None and not names:  # a row for each caption
        cond = cond.rows(torch.arange(len(rows)).repeat_interleave(_ACROSS) * _ACROSS)
        said = [text.said(cond.values["text"][k * _ACROSS]) for k in range(len(rows))]
        rows = [f"{k + 1}: {caption[:40]}" for k, caption in enumerate(said)]
    x = sample(denoiser, len(labels), steps=usual_steps(run.denoiser, STEPS), cond=cond, seed=seed)
    small = None if cond is None else cond.values.get("image")
    few = min(len(rows), 5)
    first = None if cond is None else cond.rows(torch.arange(few) * _ACROSS)
    way = trajectory(denoiser, few, steps=usual_steps(run.denoiser, STEPS), cond=first, seed=seed + 1)
    at = sorted({round(k * (len(way.times) - 1) / 7) for k in range(8)})
    return Sheets(
        dict(zip(rows, x.split(_ACROSS), strict=True)),
        _of_data(run, len(rows), seed) if with_data and run.holds_data else {},
        {rows[k]: way.x[at, k] for k in range(few)},
        [f"t = {way.times[k]:.2f}" for k in at],
        {} if small is None else dict(zip(rows, small.split(_ACROSS), strict=True)),
    )


def _of_data(run: Run, count: int, seed: int) -> dict[str, Tensor]:
    """Return rows of training pictures, of every label where there are labels."""
    source, names = run.parts()[0], run.denoiser.label_names[:count]
    every, own = _shuffled(source, seed, "sheets")
    if names and own is not None:
        chosen = {name: every[own == k][:_ACROSS] for k, name in enumerate(names)}
    else:
        chosen = {f"{k + 1}": part for k, part in enumerate(every[: count * _ACROSS].split(_ACROSS))}
    return {name: source.read(rows).x for name, rows in chosen.items() if len(rows)}


class Measured(NamedTuple):
    """What a page says of how good samples are.

    Attributes:
        distances: in the space of pixel components, beside their floors; None where there are too few pictures.
        near: whether they were learned by heart; None where none were held out.
        neighbours: a few samples and the three training pictures nearest to each, as rows by name.
        far: how far the nearest is from each of these.
        ceiling: of a run in latents the distances of reconstructions, the best that its samples can have; else None.
    """

    distances: Evaluation | None
    near: Memorisation | None
    neighbours: dict[str, Tensor]
    far: list[str]
    ceiling: Evaluation | None = None


def measured(run: Run, *, seed: int = 2) -> Measured:
    """Measure samples of a run of pictures for its page; the larger pictures are, the fewer are drawn."""
    rows, held = run.parts()
    names, n = run.denoiser.label_names, max(64, min(500, 2**19 // math.prod(rows.shape)))
    labels = torch.arange(n) % len(names) if names else None
    x = sample(
        guided_for_show(run),
        n,
        steps=usual_steps(run.denoiser, STEPS),
        cond=told_each(run, labels, n, seed=seed),
        seed=seed,
    ).cpu()
    found = nearest(rows, x[:_ACROSS], count=min(3, len(rows)))
    codec = run.denoiser.codec
    ceiling = ceiling_of_samples(codec, rows, held, n=n, seed=seed) if isinstance(codec, Latent) else None
    shown = {"sample": x[:_ACROSS]} | {f"nearest {k + 1}": found.x[:, k] for k in range(found.x.shape[1])}
    return Measured(
        evaluate(x, rows, seed=seed, pairs=4, held_out=held) if len(rows) >= 40 else None,
        None if held is None else memorisation(x, rows, held, seed=seed),
        shown,
        [f"{distance:.0f}" for distance in found.distances[:, 0].tolist()],
        ceiling,
    )
