"""Samplers: small frozen rules under one loop."""

from fromnoise.sample.ddim import DDIM
from fromnoise.sample.ddpm import DDPM
from fromnoise.sample.loop import Trajectory, sample, sample_chunks, trajectory, walk
from fromnoise.sample.multistep import Multistep
from fromnoise.sample.sampler import Sampler, samplers

__all__ = [
    "DDIM",
    "DDPM",
    "Multistep",
    "Sampler",
    "Trajectory",
    "sample",
    "sample_chunks",
    "samplers",
    "trajectory",
    "walk",
]
