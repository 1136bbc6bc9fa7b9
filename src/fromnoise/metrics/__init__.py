"""Distances of samples to data, each beside its floor."""

from fromnoise.metrics.distances import diversity, energy_distance, precision_recall, sliced_wasserstein2, wasserstein2
from fromnoise.metrics.evaluation import Evaluation, LowNoise, Measure, evaluate, low_noise, wasserstein_floor
from fromnoise.metrics.features import (
    Features,
    PixelComponents,
    frechet_distance,
    kernel_distance,
    manifold_precision_recall,
)
from fromnoise.metrics.neighbours import Memorisation, Nearest, memorisation, nearest
from fromnoise.metrics.reconstruction import psnr, ssim

__all__ = [
    "Evaluation",
    "Features",
    "LowNoise",
    "Measure",
    "Memorisation",
    "Nearest",
    "PixelComponents",
    "diversity",
    "energy_distance",
    "evaluate",
    "frechet_distance",
    "kernel_distance",
    "low_noise",
    "manifold_precision_recall",
    "memorisation",
    "nearest",
    "precision_recall",
    "psnr",
    "sliced_wasserstein2",
    "ssim",
    "wasserstein2",
    "wasserstein_floor",
]
