"""What was trained, for elsewhere: a run as one HTML file."""

from fromnoise.export.html import frame, page, to_html
from fromnoise.export.notebook import widget
from fromnoise.export.payload import payload, run_payload

__all__ = [
    "frame",
    "page",
    "payload",
    "run_payload",
    "to_html",
    "widget",
]
