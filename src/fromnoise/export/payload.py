"""What a page needs to show a run and to sample it: one tree of plain data.

Arrays travel as {"shape": [...], "data": base64 of little-endian float32}. Points are in the data's units; the exact
law and the network work in the denoiser's. The page draws its noise from the streams of `fromnoise.rng`, worked out
anew in the page, so a seed there means what it means here: its samples are those of `fromnoise.sample`.
"""

from __future__ import annotations

import base64
import inspect
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fromnoise import __version__, dynamics, guidance, process
from fromnoise.data.dataset import Dataset
from fromnoise.errors import InputError
from fromnoise.exact import ExactDenoiser, GaussianMixture, mixture_of_data
from fromnoise.export.pictures import pictures_payload
from fromnoise.metrics import wasserstein2
from fromnoise.metrics.evaluation import column_std, draws
from fromnoise.nn import MLP
from fromnoise.nn.network import plain
from fromnoise.own_grid import AnySteps
from fromnoise.process import EDMPrediction, predictions
from fromnoise.rng import stream
from fromnoise.run import Run
from fromnoise.samplers import DDIM, DDPM, Consistency, Multistep
from fromnoise.schedule import CosineBeta, LinearBeta, schedules

Tree = dict[str, Any]

FORMAT = 1
"""Of the payload; a page refuses another."""

POINTS = 300
"""How many points a panel shows, and how many samples it draws."""

LARGEST = 2_000_000
"""The most parameters that a page runs: 8 MB of weights, and about a millisecond for each step of a point."""

_SHOWN, _COMPONENTS, _PAIRS = 2000, 10_000, 3
_SCHEDULES = ("linear", "cosine", "sigmoid", "betas", "vp", "edm", "flow", "trig")
_PREDICTIONS = ("eps", "x0", "v", "flow", "score", "edm")


def payload(runs: Sequence[tuple[str, Run]], *, live: Tree | None = None, with_data: bool = True) -> Tree:
    """Return the whole page's data.

    Args:
        runs: each with the name that the page calls it by.
        live: where a server answers, if one does.
        with_data: whether samples of the training data are part of it.
    """
    return {
        "format": FORMAT,
        "fromnoise": __version__,
        "runs": [run_payload(name, run, with_data=with_data) for name, run in runs],
        "code": code_shown(),
        **({"live": live} if live is not None else {}),
    }


def run_payload(name: str, run: Run, *, with_data: bool = True) -> Tree:
    """Return one run's part: what it is, its data and their exact law, its network if a page can run it.

    Without data, or where the run holds none, the parts that are made of samples are left out.
    """
    denoiser, about = run.denoiser, run.config.data
    data = run.source if with_data and run.holds_data and isinstance(run.source, Dataset) else None
    codec = denoiser.codec
    if codec.form not in ("points", "images") or not {"mean", "std"} <= codec.tensors().keys():
        raise InputError("the page shows points and pictures, and this run has neither")
    network, why_not = network_payload(run)
    shown = data if denoiser.shape == (2,) else None  # no panel shows others
    law = None if shown is None else mixture_of_data(shown, codec, at_most=_COMPONENTS)
    return {
        "name": name,
        "data_name": run.name,
        "shape": list(denoiser.shape),
        "step": run.step,
        "batch_size": run.config.train["batch_size"],
        "schedule": _schedule(run),
        "predict": run.config.predict["name"],
        "sigma_data": denoiser.sigma_data,
        "effective_dimension": denoiser.effective_dimension,
        "scaling": {name: array(codec.tensors()[name].reshape(-1)) for name in ("mean", "std")},
        "labels": list(denoiser.label_names),
        "few_steps": _few_steps(run),
        "parameters": sum(p.numel() for p in denoiser.network.parameters()),
        "network": network,
        "why_not": why_not,
        "samples": about.get("n", 0) if data is None else len(data),
        "points": None if shown is None else points_payload(shown),
        "pictures": pictures_payload(run),
        "samples_held": 0 if shown is None or law is None else _held(shown, law),
        "law": None if law is None else law_payload(law),
        "truth": {} if shown is None else truths(shown, denoiser.label_names),
        "training": training(run),
    }


def _held(data: Dataset, law: GaussianMixture) -> int:
    """Return how many training samples a page holds: those that it shows, or all of which its exact law is made."""
    is_finite_set = law.variances is not None and not law.variances.any()
    return max(min(len(data), _SHOWN), len(law.flat) if is_finite_set else 0)


def array(x: Tensor) -> Tree:
    """Return a tensor as data."""
    x = x.detach().cpu().float().contiguous()
    return {"shape": list(x.shape), "data": base64.b64encode(x.numpy().astype("<f4").tobytes()).decode()}


def network_payload(run: Run) -> tuple[Tree | None, str]:
    """Return the network's settings and weights, or None and why a page cannot run it."""
    network, config = plain(run.denoiser.network), run.config
    size = sum(p.numel() for p in network.parameters())
    if not isinstance(network, MLP):
        return None, f"the page runs perceptrons, and this is a network {config.network['name']!r}"
    if any(one.value not in ("label", "guidance") for one in run.denoiser.conditioners):
        return None, "the page knows labels, and this network takes other conditions"
    if size > LARGEST:
        return None, f"{size:,} parameters are more than the {LARGEST:,} that a page runs"
    if config.schedule["name"] not in _SCHEDULES or not _known(config.predict):
        return None, "the page does not know this run's schedule or prediction"
    tensors = {name: array(tensor) for name, tensor in network.state_dict().items()}
    return {"settings": config.network, "tensors": tensors}, ""


def _few_steps(run: Run) -> Tree | None:
    """Return how a model of few steps is sampled; None for any other."""
    way, schedule = run.denoiser.grid, run.denoiser.schedule
    if way is None:
        return None
    any_number = isinstance(way, AnySteps)
    return {
        "sampler": way.rule,
        "steps": way.steps,
        "most": way.of if any_number else None,
        "finest": way.finest(schedule) if any_number else way.times(schedule),
    }


def _known(predict: Tree) -> bool:
    """Return whether the page knows a prediction: one of the library's, fitted to the data where it depends on them."""
    return predict["name"] in _PREDICTIONS and predictions.complete(predict) == predictions.complete(predict["name"])


def _schedule(run: Run) -> Tree:
    settings = schedules.settings(run.denoiser.schedule)
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def points_payload(data: Dataset) -> Tree:
    """Return up to 2,000 of the data's points and their labels, evenly over the set."""
    rows = torch.arange(len(data)) if len(data) <= _SHOWN else torch.arange(_SHOWN) * len(data) // _SHOWN
    rows = rows[torch.randperm(len(rows), generator=stream(0, "shown"))]
    labels = None if data.labels is None else data.labels[rows].tolist()
    return {"x": array(data.x[rows]), "labels": labels}


def law_payload(law: GaussianMixture) -> Tree | None:
    """Return a mixture of round Gaussians, in the denoiser's units."""
    if law.variances is None:
        return None
    variances = law.variances.unique()
    return {
        "means": array(law.flat),
        "std": float(variances[0].sqrt()) if len(variances) == 1 else array(law.variances.sqrt()),
        "weights": None if law.log_weights.unique().numel() == 1 else array(law.log_weights.exp()),
        "labels": None if law.labels is None else law.labels.tolist(),
        "note": law.note,
    }


def truths(data: Dataset, label_names: Sequence[str]) -> Tree:
    """Return, for all labels together ("") and for each alone, fresh draws of the data and their floor.

    A set of samples stands at a mean 2-Wasserstein distance from the draws; the floor is that of other fresh draws. As
    in `evaluate`, a table is measured in the standard deviations of its columns, which are its `unit`.
    """
    parts = {"": Dataset(data.x, name=data.name, distribution=data.distribution)}
    parts |= {label: data.only(label) for label in label_names}
    found: Tree = {}
    for label, part in parts.items():
        n = POINTS if part.distribution is not None else min(POINTS, len(part) // 2)
        if n < 20:
            continue
        unit = column_std(part)
        pairs = [(first / unit, second / unit) for first, second in draws(part, n, _PAIRS, 0)]
        floor = sum(wasserstein2(a, b) for a, b in pairs) / len(pairs)
        found[label] = {
            "draws": array(torch.stack([second for _, second in pairs])),
            "floor": floor,
            "unit": unit.double().expand(2).tolist(),
        }
    return found


def losses(run: Run) -> Tree:
    """Return the losses that the training has logged, at most 200 of them."""
    rows = run.history
    shown = rows[:: max(1, math.ceil(len(rows) / 200))]
    return {"loss": run.loss, "steps": [row["step"] for row in shown], "losses": [row["loss"] for row in shown]}


def training(run: Run) -> Tree:
    """Return the training's loss, step by step, beside its floor."""
    from fromnoise.training.floor import floor_of

    known = run.holds_data and run.denoiser.codec.form == "points"
    floor = floor_of(run.denoiser, run.source, run.config.train) if known else None
    return {
        **losses(run),
        "floor": None
        if floor is None
        else {"value": floor.value, "zero_output_loss": floor.zero_output_loss, "law": floor.note},
    }


_CODE = {
    "add_noise": process.add_noise,
    "ddpm": DDPM.step,
    "ddim": DDIM.step,
    "multistep": Multistep.step,
    "consistency": Consistency.step,
    "guided": guidance.Guided.__call__,
    "linear": LinearBeta.betas,
    "cosine": CosineBeta.betas,
    "edm": EDMPrediction,
    "flow": dynamics.ProbabilityFlow,
    "exact": GaussianMixture.posterior_mean,
    "exact_denoiser": ExactDenoiser.__call__,
}


def code_shown() -> Tree:
    """Return the lines of the library that the panels speak of, where they stand, and how they read."""
    found: Tree = {}
    for name, thing in _CODE.items():
        plain = inspect.unwrap(getattr(thing, "func", thing))  # of a cached property; under type checks
        lines, first = inspect.getsourcelines(plain)
        path = Path(inspect.getsourcefile(plain) or "")
        found[name] = {
            "file": f"src/fromnoise/{path.relative_to(Path(__file__).parents[1]).as_posix()}",
            "line": first,
            "text": inspect.cleandoc("\n" + "".join(lines)),
        }
    return found


__all__ = ["FORMAT", "LARGEST", "POINTS", "payload", "run_payload"]
