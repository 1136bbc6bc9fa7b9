"""Diffusion models from 2-D points to images: one library, one command line.

Four words: a **schedule** maps a time to signal and noise scale, a **denoiser** answers E[x0 | x_t], a **sampler** is a
rule for one step, a **run** is the folder of one training.

    import fromnoise as fn

    points = fn.data.spiral(n=300, seed=0)
    run = fn.train(points, out="runs/spiral", seed=0)
    x = fn.sample(run.denoiser, n=300, seed=1)
    fn.plot.scatter(x).savefig("spiral.png")

Everything named here is imported when it is first used, so that `import fromnoise` costs little more than nothing.
"""

from __future__ import annotations

import gc
import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fromnoise import data, export, metrics, nn, plot, process
    from fromnoise.data import Dataset
    from fromnoise.denoiser import Denoiser, DenoiserLike
    from fromnoise.dynamics import Flow, ForwardSDE, ReverseSDE
    from fromnoise.errors import FromnoiseError
    from fromnoise.exact import FiniteSet, GaussianMixture
    from fromnoise.export import widget
    from fromnoise.guidance import AutoGuided, Guided, Inpainted
    from fromnoise.likelihood import elbo, log_likelihood
    from fromnoise.metrics import evaluate
    from fromnoise.run import Run, load
    from fromnoise.sample import (
        DDIM,
        DDPM,
        SDE,
        DPMSolver,
        DPMSolverSinglestep,
        Euler,
        Heun,
        Langevin,
        Multistep,
        PredictorCorrector,
        RePaint,
        Trajectory,
        UniPC,
        sample,
        sample_chunks,
        trajectory,
    )
    from fromnoise.schedule import (
        EDM,
        VP,
        CosineBeta,
        FromBetas,
        LinearBeta,
        RectifiedFlow,
        SigmoidBeta,
        Trig,
    )
    from fromnoise.train import TrainConfig, fit, loss_floor, train

__version__ = "0.1.0"

_HOME = {
    "AutoGuided": "guidance",
    "CosineBeta": "schedule",
    "DDIM": "sample",
    "DDPM": "sample",
    "DPMSolver": "sample",
    "DPMSolverSinglestep": "sample",
    "Dataset": "data",
    "Denoiser": "denoiser",
    "DenoiserLike": "denoiser",
    "EDM": "schedule",
    "Euler": "sample",
    "FiniteSet": "exact",
    "Flow": "dynamics",
    "ForwardSDE": "dynamics",
    "FromBetas": "schedule",
    "FromnoiseError": "errors",
    "GaussianMixture": "exact",
    "Guided": "guidance",
    "Heun": "sample",
    "Inpainted": "guidance",
    "Langevin": "sample",
    "LinearBeta": "schedule",
    "Multistep": "sample",
    "PredictorCorrector": "sample",
    "RePaint": "sample",
    "RectifiedFlow": "schedule",
    "ReverseSDE": "dynamics",
    "Run": "run",
    "SDE": "sample",
    "SigmoidBeta": "schedule",
    "TrainConfig": "train",
    "Trajectory": "sample",
    "Trig": "schedule",
    "UniPC": "sample",
    "VP": "schedule",
    "elbo": "likelihood",
    "evaluate": "metrics",
    "fit": "train",
    "load": "run",
    "log_likelihood": "likelihood",
    "loss_floor": "train",
    "sample": "sample",
    "sample_chunks": "sample",
    "train": "train",
    "trajectory": "sample",
    "widget": "export",
}
_MODULES = ("data", "export", "metrics", "nn", "plot", "process")

__all__ = [
    "AutoGuided",
    "CosineBeta",
    "DDIM",
    "DDPM",
    "DPMSolver",
    "DPMSolverSinglestep",
    "Dataset",
    "Denoiser",
    "DenoiserLike",
    "EDM",
    "Euler",
    "FiniteSet",
    "Flow",
    "ForwardSDE",
    "FromBetas",
    "FromnoiseError",
    "GaussianMixture",
    "Guided",
    "Heun",
    "Inpainted",
    "Langevin",
    "LinearBeta",
    "Multistep",
    "PredictorCorrector",
    "RePaint",
    "RectifiedFlow",
    "ReverseSDE",
    "Run",
    "SDE",
    "SigmoidBeta",
    "TrainConfig",
    "Trajectory",
    "Trig",
    "UniPC",
    "VP",
    "data",
    "elbo",
    "evaluate",
    "export",
    "fit",
    "load",
    "log_likelihood",
    "loss_floor",
    "metrics",
    "nn",
    "plot",
    "process",
    "sample",
    "sample_chunks",
    "train",
    "trajectory",
    "widget",
]


def _load(module: str) -> ModuleType:
    """Import a room, the garbage collector paused: imports make no garbage, and looking for it costs 0.2 s here."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(f"fromnoise.{module}")
    finally:
        if was_on:
            gc.enable()


class _Package(ModuleType):
    """This package, whose `sample` and `train` are the functions, though folders of those names exist.

    Importing a folder would otherwise put the module where the function is meant to be found.
    """

    def __getattr__(self, name: str) -> Any:
        if name in _MODULES:
            return _load(name)
        if name not in _HOME:
            raise AttributeError(f"module 'fromnoise' has no attribute {name!r}")
        return getattr(_load(_HOME[name]), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted([*self.__dict__, *__all__])


sys.modules[__name__].__class__ = _Package
