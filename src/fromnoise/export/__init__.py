"""What was trained, for elsewhere: a run as one HTML file."""

from fromnoise.export.html import frame, page, to_html
from fromnoise.export.notebook import Panel, show, widget
from fromnoise.export.payload import payload, run_payload

__all__ = [
    "Panel",
    "frame",
    "page",
    "payload",
    "run_payload",
    "show",
    "to_html",
    "widget",
]
