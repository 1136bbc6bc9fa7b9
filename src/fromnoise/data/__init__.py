"""Data: sources of samples, codecs between their units and a denoiser's, points with a known distribution."""

from fromnoise.conditioners import find_label
from fromnoise.data.builtin import make, names
from fromnoise.data.codec import Affine, Codec, Scaling, codecs
from fromnoise.data.dataset import Dataset
from fromnoise.data.digits import digits
from fromnoise.data.distribution import Distribution, sobol, sobol_noise
from fromnoise.data.moments import effective_dimension, rms_about_mean
from fromnoise.data.opening import open
from fromnoise.data.pixels import Pixels
from fromnoise.data.points import (
    checkerboard,
    circles,
    dino,
    eight_gaussians,
    labelled,
    moons,
    pinwheel,
    shapes,
    spiral,
    swiss_roll,
    two_spirals,
)
from fromnoise.data.source import Batch, Source, samples
from fromnoise.deprecated import renamed

__getattr__ = renamed(__name__, {"Law": "Distribution", "even_start": "sobol_noise"})

__all__ = [
    "Affine",
    "Batch",
    "Codec",
    "Dataset",
    "Distribution",
    "Pixels",
    "Scaling",
    "Source",
    "checkerboard",
    "circles",
    "codecs",
    "digits",
    "dino",
    "effective_dimension",
    "eight_gaussians",
    "find_label",
    "labelled",
    "make",
    "moons",
    "names",
    "open",
    "pinwheel",
    "rms_about_mean",
    "samples",
    "shapes",
    "sobol",
    "sobol_noise",
    "spiral",
    "swiss_roll",
    "two_spirals",
]
