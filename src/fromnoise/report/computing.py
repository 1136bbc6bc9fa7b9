"""How much less computing a model in latents takes than the same network on pixels, measured side by side."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fromnoise.cond import Cond
from fromnoise.errors import ConfigError
from fromnoise.nn.network import networks, plain
from fromnoise.report.pictures import STEPS
from fromnoise.rng import seeded
from fromnoise.run import Run

_ROWS, _TIMES = 16, 3
"""How many rows are computed together, and how often each is timed; the quickest counts."""


@dataclass(frozen=True)
class Computing:
    """Milliseconds of one row in latents and of one row in pixels, by networks of the same settings.

    Attributes:
        positions: how many times fewer places latents have.
        step, step_in_pixels: a forward and a backward pass.
        sample, sample_in_pixels: twelve evaluations; in latents, decoding too.
    """

    positions: float
    step: float
    step_in_pixels: float
    sample: float
    sample_in_pixels: float

    def line(self) -> str:
        """Return it as a line of text."""
        return (
            f"computing beside the same network on pixels: {self.positions:g} times fewer positions; a training step "
            f"takes {_beside(self.step, self.step_in_pixels)}, a sample of {STEPS} evaluations with decoding "
            f"{_beside(self.sample, self.sample_in_pixels)}"
        )

    def row(self) -> dict[str, Any]:
        """Return it as data."""
        return asdict(self)


def _beside(own: float, other: float) -> str:
    """Return two times of a picture and their ratio as text."""
    ratio = f"{other / own:.1f} times less" if other >= own else f"{own / other:.1f} times as long"
    return f"{own:.2f} ms a picture and not {other:.2f}, {ratio}"


def computing_of(run: Run) -> Computing | None:
    """Measure a run in latents beside its network on pixels; None where that cannot be built for them.

    What follows from the shape, such as the patch of a U-Net that was left to it, follows from that of the pictures.
    """
    denoiser, codec = run.denoiser, run.denoiser.codec
    shape = codec.sample_shape(denoiser.shape)
    if shape is None:
        return None
    try:
        with seeded(0, "network"):
            wide = networks.build({**run.config.network, "shape": list(shape)})
    except ConfigError:
        return None
    latents = plain(denoiser.network)
    z, x = (torch.zeros(_ROWS, *one, device=denoiser.device) for one in (denoiser.shape, shape))
    wide = wide.to(denoiser.device)
    low = run.config.train["precision"] == "bf16"
    told = _told(run)
    step, step_wide = (_training(one, rows, told, low) for one, rows in ((latents, z), (wide, x)))
    ask, ask_wide = (_asking(one, rows, told, low) for one, rows in ((latents, z), (wide, x)))
    decode = _milliseconds(lambda: codec.out(z))
    positions = math.prod(shape[1:]) / math.prod(denoiser.shape[1:])
    return Computing(positions, step, step_wide, STEPS * ask + decode, STEPS * ask_wide)


def _told(run: Run) -> Cond | None:
    """Return a condition of each row, the first label, where there are labels."""
    labels = run.denoiser.label_names
    return Cond({"label": torch.zeros(_ROWS, dtype=torch.long, device=run.denoiser.device)}) if labels else None


def _training(network: nn.Module, x: Tensor, cond: Cond | None, low: bool) -> float:
    def step() -> None:
        with torch.enable_grad():
            rows = x.clone().requires_grad_()  # the parameters of a loaded network take no gradient
            with torch.autocast(x.device.type, torch.bfloat16, enabled=low):
                out = network(rows, torch.ones(len(x), device=x.device), cond)
            out.float().square().mean().backward()

    taking = [p for p in network.parameters() if not p.requires_grad]
    for p in taking:
        p.requires_grad_(True)
    try:
        return _milliseconds(step)
    finally:
        for p in network.parameters():
            p.grad = None
        for p in taking:
            p.requires_grad_(False)


def _asking(network: nn.Module, x: Tensor, cond: Cond | None, low: bool) -> float:
    def ask() -> None:
        with torch.no_grad(), torch.autocast(x.device.type, torch.bfloat16, enabled=low):
            network(x, 1.0, cond)

    return _milliseconds(ask)


def _milliseconds(work: Callable[[], object]) -> float:
    """Return the least time of some work, in milliseconds a row."""
    best = math.inf
    for _ in range(1 + _TIMES):  # the first is slower than the others
        _wait()
        began = time.perf_counter()
        work()
        _wait()
        best = min(best, time.perf_counter() - began)
    return 1000 * best / _ROWS


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
