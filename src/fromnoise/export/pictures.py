"""What the page shows of a run of pictures: sheets that are drawn here, as the page does not run such networks."""

from __future__ import annotations

import base64
import io
from typing import Any

from matplotlib.figure import Figure

from fromnoise import plot
from fromnoise.errors import RunError
from fromnoise.report.pictures import sheets
from fromnoise.run import Run


def pictures_payload(run: Run) -> dict[str, Any] | None:
    """Return samples of every label and the way from noise to a few, as PNG data URLs.

    None for runs on other data, and for a run that is told pictures of its data which cannot be had.
    """
    if run.denoiser.codec.form != "images":
        return None
    try:
        found, ends = sheets(run, with_data=False), run.denoiser.codec.ends
    except RunError:
        return None
    return {
        "sheet": _data_url(plot.pictures(found.samples, ends=ends)),
        "strip": _data_url(plot.pictures(found.way, columns=found.times, ends=ends)),
    }


def _data_url(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
