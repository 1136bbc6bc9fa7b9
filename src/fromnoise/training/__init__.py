"""Training: the loss and its floor, the loop, the moving average."""

from fromnoise.training.config import TrainConfig
from fromnoise.training.ema import EMA
from fromnoise.training.floor import Floor, loss_floor
from fromnoise.training.loop import Event, Interrupted, check_fit, fit
from fromnoise.training.losses import Loss
from fromnoise.training.noising import Objective, objective
from fromnoise.training.plan import Plan, train
from fromnoise.training.times import TimeLaw, time_laws
from fromnoise.training.weighting import Weighting, weightings

__all__ = [
    "EMA",
    "Event",
    "Floor",
    "Interrupted",
    "Loss",
    "Objective",
    "Plan",
    "TimeLaw",
    "TrainConfig",
    "Weighting",
    "check_fit",
    "fit",
    "loss_floor",
    "objective",
    "time_laws",
    "train",
    "weightings",
]
