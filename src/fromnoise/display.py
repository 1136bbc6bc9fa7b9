"""What a notebook shows of a run or a trajectory: a live panel.

The room that makes panels stands far above those whose objects are shown; it is found by its name, when a notebook
asks, and knows them, while they know only this.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


def notebook_html(shown: Any) -> str | None:
    """Return a panel in a frame, or None where there is none for this object; the notebook then shows its text."""
    return import_module("fromnoise.export.notebook").html_of(shown)
