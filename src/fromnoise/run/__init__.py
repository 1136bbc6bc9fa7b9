"""The run folder: configuration, checkpoints, metrics and samples of one training."""

from fromnoise.run.config import AnyConfig, AutoencoderConfig, Measured, RunConfig, describe
from fromnoise.run.folder import Checkpoint, RunFolder
from fromnoise.run.log import held_out_losses, last_loss
from fromnoise.run.run import AnyRun, AutoencoderRun, Run, latents_of, load, load_any, load_autoencoder, run_of

__all__ = [
    "AnyConfig",
    "AnyRun",
    "AutoencoderConfig",
    "AutoencoderRun",
    "Checkpoint",
    "Measured",
    "Run",
    "RunConfig",
    "RunFolder",
    "describe",
    "held_out_losses",
    "last_loss",
    "latents_of",
    "load",
    "load_any",
    "load_autoencoder",
    "run_of",
]
