"""Training: tasks and their floors, the loop, the moving average."""

from fromnoise.training.autoencoder import AutoencoderPlan, Autoencoding, train_autoencoder
from fromnoise.training.config import TrainConfig
from fromnoise.training.consistency import ConsistencyTraining
from fromnoise.training.distill import Distilling
from fromnoise.training.distillation import Round, distill, distill_rounds
from fromnoise.training.draws import Draws
from fromnoise.training.ema import EMA
from fromnoise.training.floor import loss_floor
from fromnoise.training.held_out import HeldOutLoss
from fromnoise.training.loop import Event, check_fit, fit
from fromnoise.training.loss_aware import LossAware
from fromnoise.training.losses import Denoising, Hybrid, Sliced
from fromnoise.training.noising import Objective, objective
from fromnoise.training.optimum import Floor
from fromnoise.training.plan import Plan, Training, train
from fromnoise.training.stop import Interrupted, Stop, stop_on_signals
from fromnoise.training.task import AnyTask, Drawn, Task
from fromnoise.training.times import TimeLaw, time_laws
from fromnoise.training.weighting import Weighting, weightings

__all__ = [
    "AnyTask",
    "AutoencoderPlan",
    "Autoencoding",
    "ConsistencyTraining",
    "Denoising",
    "Distilling",
    "Drawn",
    "Draws",
    "EMA",
    "Event",
    "Floor",
    "HeldOutLoss",
    "Hybrid",
    "Interrupted",
    "LossAware",
    "Objective",
    "Plan",
    "Round",
    "Sliced",
    "Stop",
    "Task",
    "TimeLaw",
    "TrainConfig",
    "Training",
    "Weighting",
    "check_fit",
    "distill",
    "distill_rounds",
    "fit",
    "loss_floor",
    "objective",
    "stop_on_signals",
    "time_laws",
    "train",
    "train_autoencoder",
    "weightings",
]
