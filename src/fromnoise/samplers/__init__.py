"""Samplers: each a frozen rule for one step, all driven by one loop."""

from fromnoise.samplers.consistency import Consistency
from fromnoise.samplers.ddim import DDIM
from fromnoise.samplers.ddpm import DDPM
from fromnoise.samplers.dpm_solver import DPMSolver, DPMSolverSinglestep, UniPC
from fromnoise.samplers.heun import Euler, Heun
from fromnoise.samplers.langevin import Langevin, PredictorCorrector
from fromnoise.samplers.loop import (
    Trajectory,
    TrajectoryStep,
    sample,
    sample_chunks,
    settled,
    trajectory,
    trajectory_steps,
    usual_steps,
    walk,
)
from fromnoise.samplers.multistep import Multistep
from fromnoise.samplers.repaint import RePaint
from fromnoise.samplers.sampler import Sampler, samplers
from fromnoise.samplers.sde import SDE

__all__ = [
    "Consistency",
    "DDIM",
    "DDPM",
    "DPMSolver",
    "DPMSolverSinglestep",
    "Euler",
    "Heun",
    "Langevin",
    "Multistep",
    "PredictorCorrector",
    "RePaint",
    "SDE",
    "Sampler",
    "Trajectory",
    "TrajectoryStep",
    "UniPC",
    "sample",
    "sample_chunks",
    "samplers",
    "settled",
    "trajectory",
    "trajectory_steps",
    "usual_steps",
    "walk",
]
