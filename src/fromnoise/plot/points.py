"""Pictures of points: scatter, side by side, the dissolve strip, the animated trajectory. Arrays in, figures out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from fromnoise.errors import InputError
from fromnoise.plot.style import PALETTE, QUIET, around, as_array, frame, new_figure, show_points, styled


def _plane(x: Any, what: str = "samples", *, axes: int = 1) -> np.ndarray:
    """Return the first two coordinates of samples `[n, D]`, or of many such sets where there is an axis more."""
    array = as_array(x)
    if array.ndim != axes + 1 or array.shape[-1] < 2:
        raise InputError(
            f"a picture of points needs {what} of two coordinates or more, not of shape {list(array.shape[axes:])}"
        )
    return _finite(array[..., :2])


def _finite(points: np.ndarray) -> np.ndarray:
    bad = int((~np.isfinite(points).all(-1)).sum())
    if bad:
        raise InputError(f"{bad:,} of {points[..., 0].size:,} points are not finite and cannot be drawn")
    return points


def scatter(x: Any, *, labels: Any = None, label_names: Sequence[str] = (), title: str = "") -> Figure:
    """Draw samples `[n, D]`, their first two coordinates, a colour for each label.

    Args:
        x: an array, a tensor or a data set, whose own labels are the default.
        labels: the label of each sample, `[n]`.
        label_names: the names of the labels, for the legend.
        title: the title of the figure.
    """
    labels = getattr(x, "labels", None) if labels is None else labels
    label_names = label_names or getattr(x, "label_names", ())
    points = _plane(x)
    numbers = None if labels is None else as_array(labels).astype(int)
    with styled():
        figure, (axes,) = new_figure(1, width=4.6, height=4.6)
        show_points(axes, points, numbers)
        for k, name in enumerate(label_names if numbers is not None else ()):
            axes.scatter([], [], s=25, c=PALETTE[k % len(PALETTE)], label=name)
        if numbers is not None and label_names:
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=min(len(label_names), 4))
        axes.set_title(title)
    return figure


def side_by_side(panels: Mapping[str, Any], *, captions: Sequence[str] = (), labels: Any = None) -> Figure:
    """Draw several sets of samples `[n, D]` on the same axis limits, each under its name.

    Args:
        panels: the sets by title; the first one sets the axis limits of all.
        captions: a line below each panel.
        labels: `[n]` for the colours of every panel, or None.
    """
    sets = {title: _plane(x) for title, x in panels.items()}
    view = frame(next(iter(sets.values())))
    columns = min(len(sets), 5)
    rows = math.ceil(len(sets) / columns)
    with styled():
        figure, all_axes = new_figure(columns, rows, width=2.9, height=3.25 if captions else 3.0)
        for axes in all_axes[len(sets) :]:
            axes.set_visible(False)
        for k, ((title, x), axes) in enumerate(zip(sets.items(), all_axes, strict=False)):
            own = getattr(panels[title], "labels", labels)
            show_points(axes, x, None if own is None else as_array(own).astype(int))
            axes.set(xlim=view[:2], ylim=view[2:])
            axes.set_title(title)
            if k < len(captions):
                axes.set_xlabel(captions[k], color=QUIET)
    return figure


def dissolve(x0: Any, alphas: Sequence[float], sigmas: Sequence[float], times: Sequence[float], eps: Any) -> Figure:
    """Draw data dissolving: x_t = alpha x0 + sigma eps at several times, each point with its own noise and colour.

    Args:
        x0: the data `[n, D]`.
        alphas: the signal scales at the times.
        sigmas: the noise scales at the times.
        times: the times, in [0, 1].
        eps: standard normal noise `[n, D]`.
    """
    clean, noise = _plane(x0, "data"), _plane(eps, "noise")
    colours = around(clean)
    with styled():
        figure, all_axes = new_figure(len(times), width=2.3, height=2.75)
        for axes, t, alpha, sigma in zip(all_axes, times, alphas, sigmas, strict=True):
            x = alpha * clean + sigma * noise
            show_points(axes, x, c=colours)
            view = frame(np.concatenate([clean - clean.mean(0), x / max(1.0, math.hypot(alpha, sigma))]))
            half = max(abs(v) for v in view) * max(1.0, math.hypot(alpha, sigma))
            axes.set(xlim=(-half, half), ylim=(-half, half))
            axes.set_title(f"t = {t:.2f}")
            axes.set_xlabel(f"SNR {_brief(alpha, sigma)}", color=QUIET)
    return figure


def _brief(alpha: float, sigma: float) -> str:
    if sigma == 0:
        return "∞"
    snr = (alpha / sigma) ** 2
    return f"{snr:.3g}" if 1e-3 <= snr < 1e5 else f"{snr:.0e}"


def animate_trajectory(
    xs: Any, times: Sequence[float], sizes: Sequence[float], path: str | Path, *, title: str = "", frames: int = 48
) -> Path:
    """Write the trajectory from noise to data as a GIF.

    Args:
        xs: x_t at each time, `[steps + 1, n, D]`.
        times: the times, from 1 to 0.
        sizes: the scale of x_t at each time, sqrt(alpha^2 + sigma^2); x_t is divided by it where it is above 1.
        path: the path of the GIF.
        title: the title of the figure.
        frames: the largest number of frames.
    """
    ways = _plane(xs, "a trajectory", axes=2)
    last = ways[-1]
    colours = around(last)
    scaled = ways / np.maximum(np.asarray(sizes, dtype=float), 1.0)[:, None, None]
    view = frame(np.concatenate([last, scaled[0] * 0.8]))
    chosen = np.unique(np.linspace(0, len(times) - 1, min(frames, len(times))).round().astype(int))
    with styled():
        figure, (axes,) = new_figure(1, width=4.2, height=4.5)
        canvas = FigureCanvasAgg(figure)
        figure.set_dpi(96)
        dots = show_points(axes, scaled[0], c=colours)
        axes.set(xlim=view[:2], ylim=view[2:], title=title)
        note = axes.set_xlabel("t = 0.00", color=QUIET)
        canvas.draw()
        figure.set_layout_engine("none")  # so that the axes stay where they are in every frame
        images = []
        for k in chosen:
            dots.set_offsets(scaled[k])
            note.set_text(f"t = {times[k]:.2f}")
            canvas.draw()
            images.append(Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy()))
    palette = images[len(images) // 2].quantize(colors=96, method=Image.Quantize.MAXCOVERAGE)
    pictures = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    hold = [70] * (len(pictures) - 1) + [1800]
    path = Path(path)
    pictures[0].save(path, "GIF", save_all=True, append_images=pictures[1:], duration=hold, loop=0, optimize=True)
    return path
