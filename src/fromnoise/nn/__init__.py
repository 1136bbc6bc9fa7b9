"""Denoiser networks: they are told x, the time and a condition, and know no schedule."""

from fromnoise.nn.embed import Condition, FourierFeatures, SinusoidalEmbedding
from fromnoise.nn.mlp import MLP
from fromnoise.nn.network import Network, networks

__all__ = [
    "Condition",
    "FourierFeatures",
    "MLP",
    "Network",
    "SinusoidalEmbedding",
    "networks",
]
