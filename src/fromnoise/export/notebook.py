"""Runs and trajectories in Jupyter and marimo: live panels in frames, and a widget whose state goes both ways.

A run as a cell's last line is a small card; `fn.show(run)`, or of a trajectory, is the live panel in its place.
`fn.widget(run)` is the same page with state:

    w = fn.widget(run)
    w                                    the page, in the cell
    w.choices = {**w.choices, "steps": 5, "seed": 3}
    w.generate()                         as the button does
    w.samples                            what the page drew, [n, 2], as soon as it has
    w.points                             what was drawn by hand, [n, 2]
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fromnoise.errors import InputError
from fromnoise.export.html import frame, name_of, page
from fromnoise.export.payload import FORMAT, array, payload
from fromnoise.run import Run
from fromnoise.samplers import Trajectory

_FRAMES, _POINTS = 120, 500


@dataclass(frozen=True)
class Panel:
    """A live panel, as a notebook shows it.

    Attributes:
        html: the page inside a frame.
    """

    html: str = field(repr=False)

    def _repr_html_(self) -> str:
        return self.html


def show(what: Run | Trajectory) -> Panel:
    """Return a live panel of a run, or of a trajectory of points in the plane, to end a notebook's cell with.

    Raises:
        InputError: for a trajectory of anything else.
    """
    if isinstance(what, Run):
        return Panel(frame(page(payload([(name_of(what), what)]))))
    if tuple(what.x.shape[2:]) != (2,):
        raise InputError(f"a trajectory is shown for points in the plane, not for samples of {list(what.x.shape[2:])}")
    return Panel(frame(page(trajectory_payload(what)), height=640))


def trajectory_payload(way: Trajectory) -> dict[str, Any]:
    """Return the page's data for a trajectory alone: at most 120 of its frames, and 500 of its points."""
    from fromnoise import __version__

    count = len(way.times)
    kept = sorted({round(i * (count - 1) / (min(count, _FRAMES) - 1)) for i in range(min(count, _FRAMES))})
    sizes = torch.tensor([math.hypot(way.alphas[k], way.sigmas[k]) for k in kept]).reshape(-1, 1, 1)
    x = way.x[kept][:, :_POINTS].cpu() / sizes
    trajectory = {
        "title": f"{x.shape[1]} points in {count - 1} steps",
        "times": [way.times[k] for k in kept],
        "x": array(x),
    }
    return {"format": FORMAT, "fromnoise": __version__, "runs": [], "code": {}, "trajectory": trajectory}


def widget(run: Run) -> Any:
    """Return the run's page as a widget: an `anywidget` with `choices`, `time`, `samples`, `points`, `generate()`.

    Raises:
        InputError: if anywidget is not installed.
    """
    try:
        import anywidget
        import traitlets
    except ImportError:
        raise InputError("widgets need another package: pip install 'fromnoise[notebook]'") from None

    class StudioWidget(anywidget.AnyWidget):
        """The page of a run, in a cell."""

        _esm = Path(__file__).with_name("widget.js")
        document = traitlets.Unicode().tag(sync=True)
        choices = traitlets.Dict().tag(sync=True)
        time = traitlets.Float(0.0).tag(sync=True)
        pressed = traitlets.Int(0).tag(sync=True)
        drawn = traitlets.Dict().tag(sync=True)
        drawn_by_hand = traitlets.List().tag(sync=True)

        def generate(self) -> None:
            """Draw samples, as the button does; they are in `samples` once the page has them."""
            self.pressed += 1

        @property
        def samples(self) -> np.ndarray | None:
            """The samples that the page drew last, `[n, D]`; None before it has drawn any."""
            return np.array(self.drawn["x"]).reshape(-1, self.drawn["dim"]) if self.drawn else None

        @property
        def points(self) -> np.ndarray:
            """The points drawn by hand, `[n, 2]`."""
            return np.array(self.drawn_by_hand, dtype=float).reshape(-1, 2)

    data = {**payload([(name_of(run), run)]), "embedded": True}
    first = {"sampler": {"name": "multistep"}, "steps": 10, "seed": 0, "label": 0 if run.denoiser.label_names else None,
             "guidance": 1 if run.denoiser.label_names else None}  # fmt: skip
    return StudioWidget(document=page(data), choices=first)
