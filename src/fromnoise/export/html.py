"""A run as one HTML file: the model, its data and the panels, with nothing to fetch and no server to ask."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from fromnoise.export.payload import payload
from fromnoise.run import Run

_PLACE = '<script type="application/json" id="payload"></script>'
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'wasm-unsafe-eval'; style-src 'unsafe-inline'; "
    "worker-src blob:; img-src data:; font-src data:"
)
"""What a file opened from disk may do: run what is in it, and ask nobody for anything."""


@cache
def template() -> str:
    """Return the built page, without data."""
    return (resources.files("fromnoise.export") / "web" / "index.html").read_text(encoding="utf-8")


def page(data: dict[str, Any], *, nonce: str | None = None) -> str:
    """Return the page for a payload.

    Args:
        data: of `payload`.
        nonce: of the server's content policy; without one the page carries a policy of its own, for a file.
    """
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    head, tail = template().split(_PLACE)
    if nonce is None:
        policy = f'<meta http-equiv="Content-Security-Policy" content="{html.escape(_POLICY)}" />'
        head = head.replace('<meta charset="utf-8" />', f'<meta charset="utf-8" />\n    {policy}', 1)
    else:
        head, tail = (
            part.replace('<script type="module"', f'<script nonce="{nonce}" type="module"') for part in (head, tail)
        )
        head = head.replace("<style", f'<style nonce="{nonce}"')
    return f"{head}{_PLACE.replace('></', f'>{text}</')}{tail}"


def to_html(runs: Run | Sequence[Run], *, with_data: bool = True) -> str:
    """Return a self-contained page that shows runs and samples their models in the reader's browser.

    Args:
        runs: one or several; those that the page cannot run are shown without their model, and it says why.
        with_data: whether the page holds samples of the training data, which it shows and measures against.
    """
    many = [runs] if isinstance(runs, Run) else list(runs)
    return page(payload([(name_of(run), run) for run in many], with_data=with_data))


def name_of(run: Run) -> str:
    """Return what a run is called: its folder, or its data where it was not kept."""
    return run.folder.path.resolve().name if run.folder is not None else run.name


def frame(document: str, height: int = 820) -> str:
    """Return a page inside a frame, for a notebook: it survives the notebook's conversion to other formats."""
    source = html.escape(document, quote=True)
    return (
        f'<iframe srcdoc="{source}" style="width: 100%; height: {height}px; border: 0" '
        'title="A diffusion model, live" loading="lazy"></iframe>'
    )
