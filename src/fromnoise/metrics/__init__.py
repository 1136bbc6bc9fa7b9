"""Distances of samples to data, each beside its floor."""

from fromnoise.metrics.distances import diversity, energy_distance, precision_recall, sliced_wasserstein2, wasserstein2
from fromnoise.metrics.evaluation import Evaluation, LowNoise, Measure, evaluate, low_noise, wasserstein_floor

__all__ = [
    "Evaluation",
    "LowNoise",
    "Measure",
    "diversity",
    "energy_distance",
    "evaluate",
    "low_noise",
    "precision_recall",
    "sliced_wasserstein2",
    "wasserstein2",
    "wasserstein_floor",
]
