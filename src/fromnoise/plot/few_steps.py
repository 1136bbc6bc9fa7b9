"""What few steps cost: distances against evaluations, and samples below."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fromnoise.plot.images import contact_sheet
from fromnoise.plot.style import PALETTE, QUIET, Picture, as_array, frame, show_points, styled


def few_steps(
    curves: Mapping[str, tuple[Sequence[int], Sequence[float]]],
    samples: Mapping[str, Mapping[int, Any]],
    *,
    what: str = "distance over its floor",
) -> Figure:
    """Draw distances against evaluations, and below them the samples of each model, a row each.

    Args:
        curves: (evaluations, distances over their floor) by model.
        samples: by model and evaluations, `[n, D]` points or `[n, C, H, W]` pictures.
        what: the distances are called.
    """
    samples = {name: row for name, row in samples.items() if any(np.prod(x.shape[1:]) > 1 for x in row.values())}
    counts = sorted({count for row in samples.values() for count in row})
    height = 1.5 * len(samples)
    with styled():
        figure = Picture(figsize=(max(6.4, 1.5 * len(counts) + 1), 3.4 + height), dpi=144, layout="constrained")
        if not samples:
            _curves(figure.subplots(), curves, what)
            return figure
        above, below = figure.subfigures(2, 1, height_ratios=[3.4, height], squeeze=False)[:, 0]
        _curves(above.subplots(), curves, what)
        panels = below.subplots(len(samples), len(counts), squeeze=False)
        view = _view(samples)
        for row, (name, each) in zip(panels, samples.items(), strict=True):
            for panel, count in zip(row, counts, strict=True):
                _show(panel, each.get(count), view)
            row[0].set_ylabel(name.replace(" on ", "\non "), fontsize=9)
        for panel, count in zip(panels[0], counts, strict=True):
            panel.set_title(str(count), fontsize=10)
    return figure


def _curves(axes: Axes, curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], what: str) -> None:
    """Draw distances over their floor against evaluations, on logarithmic axes."""
    for k, (name, (evaluations, ratios)) in enumerate(curves.items()):
        axes.loglog(evaluations, ratios, marker="o", markersize=4, color=PALETTE[k % len(PALETTE)], label=name)
    axes.axhline(1, color=QUIET, linestyle=(0, (4, 2)), label="floor: fresh data")
    ticks = sorted({count for evaluations, _ in curves.values() for count in evaluations})
    axes.set_xticks(ticks, [str(count) for count in ticks])
    low, high = axes.get_ylim()
    shown = [tick for tick in (0.5, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 1000) if low <= tick <= high]
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()
    axes.set(xlabel="evaluations of the network for a sample", ylabel=what)
    axes.legend()


def _view(samples: Mapping[str, Mapping[int, Any]]) -> tuple[float, float, float, float] | None:
    """Return a view that fits the samples of most evaluations; None for pictures."""
    _, x = max(((count, x) for row in samples.values() for count, x in row.items()), key=lambda pair: pair[0])
    points = as_array(x)
    return frame(points[:, :2]) if points.ndim == 2 else None


def _show(axes: Axes, x: Any, view: tuple[float, float, float, float] | None) -> None:
    """Draw points in the view, or up to 16 pictures; nothing where there are no samples."""
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    if x is None:
        return
    if view is None:
        few = x[: min(16, len(x))]
        sheet = np.asarray(contact_sheet(few, columns=math.ceil(math.sqrt(len(few)))))
        axes.imshow(sheet, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        return
    show_points(axes, as_array(x)[:, :2], s=1.5)
    axes.set(xlim=view[:2], ylim=view[2:])
