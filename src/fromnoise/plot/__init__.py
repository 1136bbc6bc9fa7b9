"""Stills and animations: arrays in, figures out. Every figure has `.savefig(path)`."""

from fromnoise.plot.curves import bounds, convergence, elbo, levels, loss, schedules
from fromnoise.plot.few_steps import few_steps
from fromnoise.plot.fields import fields
from fromnoise.plot.images import contact_sheet, pictures
from fromnoise.plot.points import animate_trajectory, dissolve, scatter, side_by_side

__all__ = [
    "animate_trajectory",
    "bounds",
    "contact_sheet",
    "convergence",
    "dissolve",
    "elbo",
    "few_steps",
    "fields",
    "levels",
    "loss",
    "pictures",
    "scatter",
    "schedules",
    "side_by_side",
]
