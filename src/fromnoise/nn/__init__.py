"""Denoiser networks: functions of x, c_noise and a condition that know no schedule."""

from fromnoise.nn.dit import DiT
from fromnoise.nn.embed import Condition, FourierFeatures, SinusoidalEmbedding
from fromnoise.nn.mlp import MLP
from fromnoise.nn.network import Network, networks
from fromnoise.nn.unet import UNet
from fromnoise.nn.unet_ddpm import UNetDDPM

__all__ = [
    "Condition",
    "DiT",
    "FourierFeatures",
    "MLP",
    "Network",
    "SinusoidalEmbedding",
    "UNet",
    "UNetDDPM",
    "networks",
]
