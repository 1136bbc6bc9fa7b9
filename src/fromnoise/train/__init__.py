"""Training: the loss and its floor, the loop, the moving average."""

from fromnoise.train.config import TrainConfig
from fromnoise.train.ema import EMA
from fromnoise.train.loop import Event, Interrupted, fit
from fromnoise.train.loss import Floor, Objective, loss_floor, objective, time_laws, weightings
from fromnoise.train.plan import Plan, train

__all__ = [
    "EMA",
    "Event",
    "Floor",
    "Interrupted",
    "Objective",
    "Plan",
    "TrainConfig",
    "fit",
    "loss_floor",
    "objective",
    "time_laws",
    "train",
    "weightings",
]
