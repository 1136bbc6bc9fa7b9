"""Data sets: points with a known distribution, and what every data set has in common."""

from fromnoise.data.dataset import Dataset, Law, Scaling, even_start, find_label, rms_about_mean, sobol
from fromnoise.data.points import (
    checkerboard,
    circles,
    dino,
    eight_gaussians,
    labelled,
    make,
    moons,
    names,
    pinwheel,
    shapes,
    spiral,
    swiss_roll,
    two_spirals,
)

__all__ = [
    "Dataset",
    "Law",
    "Scaling",
    "checkerboard",
    "circles",
    "dino",
    "eight_gaussians",
    "even_start",
    "find_label",
    "labelled",
    "make",
    "moons",
    "names",
    "pinwheel",
    "rms_about_mean",
    "shapes",
    "sobol",
    "spiral",
    "swiss_roll",
    "two_spirals",
]
