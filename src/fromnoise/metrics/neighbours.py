"""Nearest neighbours in the data: whether samples were learned by heart."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fromnoise.data.numbers import as_samples
from fromnoise.data.opening import open as open_data
from fromnoise.data.pixels import check_levels
from fromnoise.errors import InputError
from fromnoise.rng import stream


class Nearest(NamedTuple):
    """The samples of a source that are nearest to some others.

    Attributes:
        rows: their numbers, `[n, k]`, the nearest first.
        distances: to them, `[n, k]`, Euclidean in the data's units.
        x: these samples, `[n, k, *S]`.
    """

    rows: Tensor
    distances: Tensor
    x: Tensor


def nearest(source: Any, x: Any, *, count: int = 1) -> Nearest:
    """Return the `count` samples of a source that are nearest to each of x `[n, *S]`, by Euclidean distance.

    The source, or what `fromnoise.data.open` makes one of, is read in parts, so that memory does not grow with it.

    Raises:
        InputError: if the samples have another shape than the source's, or there are none.
    """
    source, x = open_data(source), as_samples(x)
    n = len(source)
    if tuple(x.shape[1:]) != tuple(source.shape) or not len(x):
        raise InputError(f"samples like these data are [n, {str(list(source.shape))[1:-1]}], not {list(x.shape)}")
    if source.read(slice(0, 1)).x.dtype == torch.uint8:
        check_levels(x, "the samples")
    flat = x.flatten(1).float().cpu()
    part = max(1, _NUMBERS // flat.shape[1])
    best = torch.full((len(x), 0), torch.inf), torch.zeros((len(x), 0), dtype=torch.long)
    for first in range(0, n, part):
        others = source.read(slice(first, min(first + part, n))).x.flatten(1).float().cpu()
        distances = torch.cat([best[0], torch.cdist(flat, others)], dim=1)
        numbers = torch.cat([best[1], torch.arange(first, first + len(others)).expand(len(x), -1)], dim=1)
        order = distances.topk(min(count, distances.shape[1]), largest=False)
        best = order.values, numbers.gather(1, order.indices)
    found = source.read(best[1].flatten()).x.unflatten(0, best[1].shape)
    each = zip(x.cpu().split(256), found.cpu().split(256), strict=True)  # anew: those of products are rounded
    exact = torch.cat([(rows.double()[:, None] - near.double()).flatten(2).norm(dim=2) for rows, near in each])
    return Nearest(best[1], exact.float(), found)


_NUMBERS = 2**24
"""How many numbers of a source are compared at once."""


class Memorisation(NamedTuple):
    """How much nearer samples lie to what was trained on than to what was held out.

    Attributes:
        ratio: the mean distance to the nearest of m training samples over that to the nearest of m held-out ones: 1
            where nothing was learned by heart, 0 where every sample is a copy of one of the m.
        error: the standard error of the ratio.
        nearer: the part of samples whose nearest neighbour among all is a training sample.
        expected: that part where nothing was learned by heart, the part of the data that was trained on.
    """

    ratio: float
    error: float
    nearer: float
    expected: float

    def __str__(self) -> str:
        return (
            f"distance to training over held-out samples {self.ratio:.4f} +- {self.error:.4f} (1: nothing learned by "
            f"heart); the nearest of all is a training sample for {self.nearer:.1%}, expected {self.expected:.1%}"
        )


def memorisation(samples: Any, trained_on: Any, held_out: Any, *, seed: int = 0) -> Memorisation:
    """Compare the distances of samples to the data that were trained on and to those that were held out.

    Both are taken to equally many: as many training samples as were held out, in up to eight disjoint parts, whose mean
    counts; the nearest of more would be nearer. Distances are Euclidean, in the data's units.

    Args:
        samples: `[n, *S]`.
        trained_on: the samples that were trained on.
        held_out: the others.
        seed: of the choice.

    Raises:
        InputError: if there are fewer than two samples.
    """
    if len(samples) < 2:
        raise InputError("memorisation needs two samples at least")
    trained_on, held_out = open_data(trained_on), open_data(held_out)
    apart = nearest(held_out, samples).distances[:, 0]
    order = torch.randperm(len(trained_on), generator=stream(seed, "memorisation"))
    m = min(len(held_out), len(trained_on))
    parts = [nearest(trained_on.take(rows), samples).distances[:, 0] for rows in order.split(m)[:8] if len(rows) == m]
    own = torch.stack(parts).mean(0)
    ratio = float(own.mean() / apart.mean()) if float(apart.mean()) else math.nan
    spread = (own - ratio * apart).std() / math.sqrt(len(apart))
    every = nearest(trained_on, samples).distances[:, 0]
    nearer = float((every < apart).double().mean())
    expected = len(trained_on) / (len(trained_on) + len(held_out))
    return Memorisation(ratio, float(spread / apart.mean()), nearer, expected)
