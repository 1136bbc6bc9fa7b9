"""The style of all figures: one palette, light axes, sizes that are legible on a projector."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, QUIET, PAPER = "#1b1f27", "#8a919e", "#ffffff"
PALETTE = ("#2563c9", "#d9542b", "#1f9d6b", "#8b4fc4", "#c98a12", "#0f8ea8", "#c23b78", "#5d6675")

_RC: Any = {
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "axes.edgecolor": QUIET,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 12,
    "axes.titlecolor": INK,
    "axes.labelsize": 11,
    "text.color": INK,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "lines.linewidth": 2.0,
    "font.size": 11,
    "svg.fonttype": "none",
}


def around(points: np.ndarray) -> np.ndarray:
    """Return a colour for each point `[n, 2]` by its direction from the mean, so that the eye can follow it."""
    direction = np.arctan2(*(points - points.mean(0)).T[::-1])
    return np.array([colorsys.hls_to_rgb((angle / (2 * np.pi)) % 1, 0.45, 0.7) for angle in direction])


@contextmanager
def styled() -> Iterator[None]:
    """Apply the house style inside the block, and leave the caller's matplotlib as it was."""
    with mpl.rc_context(_RC):
        yield


class Picture(Figure):
    """A matplotlib figure that a notebook shows where it is a cell's last line."""

    def _repr_png_(self) -> bytes:
        """Return the figure as a PNG file."""
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def new_figure(columns: int, rows: int = 1, *, width: float = 3.2, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    """Return a figure with its axes in reading order."""
    figure = Picture(figsize=(width * columns, height * rows), dpi=144, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.flat)


def as_array(x: Any) -> np.ndarray:
    """Return samples `[n, D]` of an array, a tensor or a data set."""
    x = getattr(x, "x", x)
    x = x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)
    return np.asarray(x, dtype=float)


def frame(points: np.ndarray, margin: float = 0.08) -> tuple[float, float, float, float]:
    """Return a square view (x low, x high, y low, y high) of points `[n, 2]`, ignoring the outermost 0.1%."""
    low, high = np.quantile(points, 0.001, axis=0), np.quantile(points, 0.999, axis=0)
    centre, half = (low + high) / 2, max((high - low).max() / 2 * (1 + 2 * margin), 1e-9)
    return centre[0] - half, centre[0] + half, centre[1] - half, centre[1] + half


def show_points(axes: Axes, x: np.ndarray, labels: np.ndarray | None = None, **options: Any) -> Any:
    """Draw points `[n, 2]` without ticks, in one colour for each label."""
    size = options.pop("s", float(np.clip(7000 / max(len(x), 1), 2.5, 12)))
    colours: Any = PALETTE[0] if labels is None else [PALETTE[int(k) % len(PALETTE)] for k in labels]
    colours = options.pop("c", colours)
    axes.set_aspect("equal")
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    return axes.scatter(x[:, 0], x[:, 1], s=size, c=colours, linewidths=0, alpha=0.8, **options)
