"""fromnoise, trained and sampled through its public functions, with the article's recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from network import PARAMETERS, Plain
from torch import Tensor

import fromnoise as fn
from fromnoise.training import Plan

NAME = "fromnoise"

Precision = Literal["float32", "bf16"]


def spiral(n: int) -> fn.Dataset:
    """Return the spiral that everything is trained on."""
    return fn.data.spiral(n=n, seed=0)


def training(points: fn.Dataset, batch: int, window: int) -> Iterator[object]:
    """Train with the recipe "article", `window` steps for each item; set-up comes before the first.

    No run folder. A line of its log is made every `window` steps (the recipe's own number is 100).
    """
    plan = Plan.from_recipe("article", {"train": {"batch_size": batch, "log_every": window, "steps": 10**9}})
    training = plan.assemble(points)
    assert sum(p.numel() for p in training.denoiser.parameters()) == PARAMETERS
    return training.fit()


def denoiser_of(plain: Plain) -> fn.Denoiser:
    """Return the recipe's denoiser with the plain network's weights."""
    denoiser = Plan.from_recipe("article").denoiser(spiral(300))
    with torch.no_grad():
        for theirs, own in zip(denoiser.network.parameters(), plain.parameters(), strict=True):
            assert theirs.shape == own.shape
            theirs.copy_(own)
    return denoiser.eval().requires_grad_(False)


def sample(
    denoiser: fn.Denoiser,
    n: int,
    steps: int,
    *,
    start: Tensor | None = None,
    precision: Precision = "float32",
) -> Tensor:
    """Sample n points with DDIM."""
    return fn.sample(denoiser, n, sampler=fn.DDIM(), steps=steps, start=start, precision=precision)


def sample_to_file(denoiser: fn.Denoiser, n: int, steps: int, path: Path) -> None:
    """Sample n points with DDIM, each chunk going to a .npy or .csv file as soon as it is made."""
    with path.open("wb") as file:
        if path.suffix == ".npy":
            header = {"descr": "<f4", "fortran_order": False, "shape": (n, 2)}
            np.lib.format.write_array_header_1_0(file, header)
        for chunk in fn.sample_chunks(denoiser, n, sampler=fn.DDIM(), steps=steps):
            rows = chunk.numpy().astype("<f4")
            if path.suffix == ".npy":
                file.write(rows.tobytes())
            else:
                np.savetxt(file, rows, fmt="%.8g", delimiter=",")
