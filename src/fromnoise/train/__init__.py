"""Training: the loss and its floor, the loop, the moving average."""

from fromnoise.train.config import TrainConfig
from fromnoise.train.ema import EMA
from fromnoise.train.floor import Floor, loss_floor
from fromnoise.train.loop import Event, Interrupted, check_fit, fit
from fromnoise.train.loss import Objective, objective, weightings
from fromnoise.train.plan import Plan, train
from fromnoise.train.times import time_laws

__all__ = [
    "EMA",
    "Event",
    "Floor",
    "Interrupted",
    "Objective",
    "Plan",
    "TrainConfig",
    "check_fit",
    "fit",
    "loss_floor",
    "objective",
    "time_laws",
    "train",
    "weightings",
]
