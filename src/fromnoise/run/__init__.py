"""The run folder: configuration, checkpoints, metrics and samples of one training."""

from fromnoise.run.config import Measured, RunConfig, describe
from fromnoise.run.folder import Checkpoint, RunFolder
from fromnoise.run.log import held_out_losses, last_loss
from fromnoise.run.run import Run, load

__all__ = [
    "Checkpoint",
    "Measured",
    "Run",
    "RunConfig",
    "RunFolder",
    "describe",
    "held_out_losses",
    "last_loss",
    "load",
]
