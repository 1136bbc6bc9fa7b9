"""Pictures of vector fields."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from fromnoise.plot.style import PALETTE, QUIET, as_array, new_figure, show_points, styled


def fields(
    rows: Sequence[str],
    titles: Sequence[str],
    *,
    at: Sequence[Any],
    arrows: Sequence[Sequence[Any]],
    points: Sequence[Any],
    captions: Sequence[str] = (),
) -> Figure:
    """Draw vector fields over points: a row for each kind, a column for each case.

    Args:
        rows: the names of the kinds.
        titles: the names of the cases.
        at: the starts of the arrows in each case, `[n, 2]`.
        arrows: for each kind, the arrows of each case, `[n, 2]`; all arrows of a case are drawn to one scale.
        points: the points drawn behind the arrows of each case, `[m, 2]`.
        captions: a line below each case.
    """
    with styled():
        figure, all_axes = new_figure(len(titles), len(rows), width=3.3, height=3.4)
        for k, axes in enumerate(all_axes):
            row, column = divmod(k, len(titles))
            start, arrow = as_array(at[column]), as_array(arrows[row][column])
            longest = max(float(np.quantile(np.hypot(*as_array(kind[column]).T), 0.9)) for kind in arrows)
            spacing = float(np.ptp(start[:, 0])) / max(len(start) ** 0.5 - 1, 1)
            show_points(axes, as_array(points[column]), c=QUIET, s=3, zorder=1)
            axes.quiver(
                *start.T, *arrow.T, color=PALETTE[row], angles="xy", scale_units="xy", width=0.004,
                scale=max(longest, 1e-9) / (1.1 * spacing), zorder=2,
            )  # fmt: skip
            axes.set(xlim=(start[:, 0].min(), start[:, 0].max()), ylim=(start[:, 1].min(), start[:, 1].max()))
            axes.set_title(f"{rows[row]}, {titles[column]}")
            if row == len(rows) - 1 and column < len(captions):
                axes.set_xlabel(captions[column], color=QUIET)
    return figure
