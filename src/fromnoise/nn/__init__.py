"""Denoiser networks: functions of x, c_noise and a condition that know no schedule."""

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
