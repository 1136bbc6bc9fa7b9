"""The kinds of `fromnoise plot` for runs on pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fromnoise.cli.common import bar, save_figure, whole_file
from fromnoise.cli.reading import check_label
from fromnoise.errors import InputError

if TYPE_CHECKING:
    from fromnoise.cli.wish import Wish
    from fromnoise.cond import Cond
    from fromnoise.data.ends import Ends

_ACROSS = 10
"""How many pictures stand in a row."""


def _ends(wish: Wish) -> Ends | None:
    return wish.run.denoiser.codec.ends


def _rows_of(wish: Wish, most: int) -> list[str]:
    """Return the labels that have a row each; without labels, numbers."""
    check_label(wish.run.denoiser, wish.label)
    names = [wish.label] if wish.label is not None else list(wish.run.denoiser.label_names[:most])
    return names or [str(k + 1) for k in range(min(most, 5))]


def _cond_of(wish: Wish, rows: list[str], across: int) -> Cond | None:
    """Return the condition of `across` samples for each row; None where there is nothing to be told."""
    import torch

    from fromnoise.data import find_label
    from fromnoise.report.pictures import told_each

    names, n = wish.run.denoiser.label_names, len(rows) * across
    numbers = torch.tensor([find_label(name, names) for name in rows]) if names else None
    labels = None if numbers is None else numbers.repeat_interleave(across)
    return told_each(wish.run, labels, n, seed=wish.seed)


def samples(wish: Wish, path: Path) -> None:
    """Draw samples of every label, a row each."""
    from fromnoise import plot as pictures
    from fromnoise.samplers import sample

    rows = _rows_of(wish, 20)
    with bar("sampling") as progress:
        x = sample(
            wish.denoiser, len(rows) * _ACROSS, sampler=wish.sampler, steps=wish.steps,
            cond=_cond_of(wish, rows, _ACROSS), seed=wish.seed, progress=progress,
        )  # fmt: skip
    each = dict(zip(rows, x.split(_ACROSS), strict=True))
    save_figure(pictures.pictures(each, title=f"{wish.run.name}: {wish.steps} steps", ends=_ends(wish)), path)


def trajectory(wish: Wish, path: Path) -> None:
    """Draw the way from noise to samples: a GIF of all steps, or a picture with eight of the times side by side."""
    from fromnoise import plot as pictures
    from fromnoise.samplers import trajectory

    rows = _rows_of(wish, 10)
    moving = path.suffix.lower() == ".gif"
    across = _ACROSS if moving else 1
    way = trajectory(
        wish.denoiser, len(rows) * across, sampler=wish.sampler, steps=wish.steps,
        cond=_cond_of(wish, rows, across), seed=wish.seed,
    )  # fmt: skip
    if moving:
        frames = [pictures.contact_sheet(x, columns=_ACROSS, ends=_ends(wish)) for x in way.x]
        with whole_file(path) as staging:
            hold = [90] * (len(frames) - 1) + [1800]
            frames[0].save(staging, "GIF", save_all=True, append_images=frames[1:], duration=hold, loop=0)
        return
    last = len(way.times) - 1
    at = sorted({round(k * last / 7) for k in range(8)})
    each = {name: way.x[at, k] for k, name in enumerate(rows)}
    save_figure(pictures.pictures(each, columns=[f"t = {way.times[k]:.2f}" for k in at], ends=_ends(wish)), path)


def guidance(wish: Wish, path: Path) -> dict[str, Any]:
    """Draw samples of one label under several guidance scales, a row each, all from the same noise."""
    from fromnoise import plot as pictures
    from fromnoise.guidance import Guided
    from fromnoise.samplers import sample

    names = wish.run.denoiser.label_names
    if not names:
        raise InputError("guidance goes towards a label, and this run has none")
    label, each = wish.label or names[0], {}
    for scale in wish.scales:
        denoiser, cond = Guided(wish.denoiser, scale), _cond_of(wish, [label], _ACROSS)
        x = sample(denoiser, _ACROSS, sampler=wish.sampler, steps=wish.steps, cond=cond, seed=wish.seed)
        each[f"scale {scale:g}"] = x
    save_figure(pictures.pictures(each, title=f"{wish.run.name}: {label}", ends=_ends(wish)), path)
    return {"label": label, "scales": list(wish.scales)}


def neighbours(wish: Wish, path: Path) -> dict[str, Any]:
    """Draw samples above the training pictures that are nearest to each."""
    from fromnoise import plot as pictures
    from fromnoise.metrics import nearest
    from fromnoise.samplers import sample

    rows = _rows_of(wish, _ACROSS)
    across = -(-_ACROSS // len(rows))
    x = sample(
        wish.denoiser, len(rows) * across, sampler=wish.sampler, steps=wish.steps, cond=_cond_of(wish, rows, across),
        seed=wish.seed,
    )[:_ACROSS]  # fmt: skip
    found = nearest(wish.run.parts()[0], x, count=3)
    each = {"sample": x} | {f"nearest {k + 1}": found.x[:, k] for k in range(3)}
    captions = [f"{distance:.0f}" for distance in found.distances[:, 0].tolist()]
    title = "distance to the nearest training picture"
    save_figure(pictures.pictures(each, columns=captions, title=title, ends=_ends(wish)), path)
    return {"distances": found.distances.tolist(), "rows": found.rows.tolist()}


def dissolve(wish: Wish, path: Path) -> None:
    """Draw training pictures under more and more noise."""
    import math

    import torch

    from fromnoise import plot as pictures
    from fromnoise.rng import stream

    source, codec, schedule = wish.run.source, wish.run.denoiser.codec, wish.denoiser.schedule
    rows = torch.randperm(len(source), generator=stream(wish.seed, "dissolve"))[:5]
    z = codec.into(codec.store(source.read(rows).x))
    eps = torch.randn(z.shape, generator=stream(wish.seed, "dissolve", 1))
    levels = [math.tan(math.pi / 2 * i / 7) for i in range(7)]
    times = [float(schedule.time_of_level(level)) for level in levels] + [1.0]
    scales = [tuple(float(scale) for scale in schedule.scales(t)) for t in times]
    shown = torch.stack([codec.out_at(alpha * z + sigma * eps, alpha, sigma) for alpha, sigma in scales], dim=1)
    each = {str(k + 1): way for k, way in enumerate(shown)}
    save_figure(pictures.pictures(each, columns=[f"t = {t:.2f}" for t in times], ends=_ends(wish)), path)
