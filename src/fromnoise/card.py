"""The card that a notebook shows for a run or a trajectory: a picture beside a few numbers, in plain HTML and SVG."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_SIDE, _MARGIN, _DOT = 150, 8, 2.4
_COLOURS = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#0891b2")
_BOX = "display:inline-flex;flex-wrap:wrap;gap:16px;align-items:center;font:13px/1.5 system-ui,sans-serif"
_TABLE = "border-collapse:collapse;font-variant-numeric:tabular-nums"


def card(title: str, numbers: Mapping[str, Any], picture: str = "") -> str:
    """Return a card as HTML.

    Args:
        title: its heading.
        numbers: the rows of its table, name and value.
        picture: an SVG made by `frames`, or nothing.
    """
    rows = "".join(
        f'<tr><td style="padding:0 12px 0 0;text-align:left;opacity:.7">{html.escape(name)}</td>'
        f'<td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in numbers.items()
    )
    table = f'<div><b>{html.escape(title)}</b><table style="{_TABLE}">{rows}</table></div>'
    return f'<div style="{_BOX}">{picture}{table}</div>'


def frames(points: Sequence[Tensor], labels: Tensor | None = None, *, what: str) -> str:
    """Return an SVG with one square frame for each set of points, every set at its own scale.

    Args:
        points: sets of points in the plane, `[n, 2]` each.
        labels: `[n]`, which colour the points; one colour when not given.
        what: the text alternative of the picture, for screen readers.
    """
    width = len(points) * _SIDE
    kinds = torch.zeros(len(points[0]), dtype=torch.long) if labels is None else labels.cpu()
    drawn = []
    for k, x in enumerate(points):
        at = _placed(x.detach().cpu().double()) + torch.tensor([k * _SIDE, 0.0], dtype=torch.float64)
        for kind in kinds.unique().tolist():
            dots = "".join(f"M{a:.1f} {b:.1f}h0" for a, b in at[kinds == kind].tolist())
            drawn.append(f'<path d="{dots}" stroke="{_COLOURS[kind % len(_COLOURS)]}"/>')
    return (
        f'<svg role="img" aria-label="{html.escape(what)}" width="{width}" height="{_SIDE}" '
        f'viewBox="0 0 {width} {_SIDE}" style="max-width:100%;height:auto" fill="none" stroke-linecap="round" '
        f'stroke-width="{_DOT}" stroke-opacity=".75">{"".join(drawn)}</svg>'
    )


def _placed(x: Tensor) -> Tensor:
    """Return points `[n, 2]` scaled to one frame and centred in it."""
    low, high = x.min(0).values, x.max(0).values
    scale = (_SIDE - 2 * _MARGIN) / max(float((high - low).max()), 1e-12)
    return (x - (low + high) / 2) * torch.tensor([scale, -scale], dtype=x.dtype) + _SIDE / 2
