"""Samplers: small frozen rules under one loop."""

from fromnoise.sample.ddim import DDIM
from fromnoise.sample.ddpm import DDPM
from fromnoise.sample.dpm_solver import DPMSolver, DPMSolverSinglestep, UniPC
from fromnoise.sample.heun import Euler, Heun
from fromnoise.sample.langevin import Langevin, PredictorCorrector
from fromnoise.sample.loop import (
    Trajectory,
    TrajectoryStep,
    sample,
    sample_chunks,
    trajectory,
    trajectory_steps,
    walk,
)
from fromnoise.sample.multistep import Multistep
from fromnoise.sample.repaint import RePaint
from fromnoise.sample.sampler import Sampler, samplers
from fromnoise.sample.sde import SDE

__all__ = [
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
    "trajectory",
    "trajectory_steps",
    "walk",
]
