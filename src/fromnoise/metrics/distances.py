"""Distances between two sets of samples, as functions of arrays alone, in the samples' own units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from torch import Tensor

from fromnoise.data.numbers import as_samples
from fromnoise.errors import InputError
from fromnoise.rng import stream

EXACT_UP_TO = 2000
"""The largest sets whose Wasserstein distance is computed by assignment: n^3 operations, about half a second."""


def _flat(x: Any) -> Tensor:
    return as_samples(x).cpu().double().flatten(1)


def wasserstein2(a: Tensor, b: Tensor) -> float:
    """Return the 2-Wasserstein distance of two equally large sets `[N, *S]`: the rms distance of the best matching.

    Raises:
        InputError: if the sets differ in size.
    """
    if len(a) != len(b):
        raise InputError(f"the exact 2-Wasserstein distance takes sets of one size, not {len(a)} and {len(b)}")
    a, b = _flat(a), _flat(b)
    if a.var(0).sum() < b.var(0).sum() / 2:  # the search takes minutes where all rows of the cost are alike
        a, b = b, a
    cost = torch.cdist(a, b).square().numpy()
    rows, columns = linear_sum_assignment(cost)
    return float(np.sqrt(cost[rows, columns].mean()))


def sliced_wasserstein2(a: Tensor, b: Tensor, *, directions: int = 256, seed: int = 0) -> float:
    """Return sqrt(D E W2^2), the mean taken over random one-dimensional projections, D the dimension.

    With the factor D it equals the 2-Wasserstein distance for two sets that differ by a shift. Sets may differ in
    size. Source: Bonneel et al. 2015, eq. 2.
    """
    a, b = _flat(a), _flat(b)
    along = torch.randn(a.shape[1], directions, generator=stream(seed, "directions"), dtype=torch.float64)
    along = along / along.norm(dim=0)
    q = (torch.arange(max(len(a), len(b)), dtype=torch.float64) + 0.5) / max(len(a), len(b))
    total = 0.0
    for part in along.split(16, dim=1):
        x, y = (_quantiles((s @ part).sort(dim=0).values, q) for s in (a, b))
        total += float((x - y).square().mean(0).sum())
    return math.sqrt(a.shape[1] * total / directions)


def _quantiles(ordered: Tensor, q: Tensor) -> Tensor:
    rows = (q * len(ordered)).long().clamp(max=len(ordered) - 1)
    return ordered[rows]


def energy_distance(a: Tensor, b: Tensor) -> float:
    """Return sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|), every mean over all pairs of the two sets.

    Pairs of a point with itself count, so that this is a distance of the two sets and never negative under the root.
    Between two draws of n samples of one distribution it falls as 1/sqrt(n); this is its floor. Source: Szekely &
    Rizzo 2013 (the two-sample energy statistic, without its factor nm/(n + m)).
    """
    a, b = _flat(a), _flat(b)
    square = 2 * _mean_distance(a, b) - _mean_distance(a, a) - _mean_distance(b, b)
    return math.sqrt(max(square, 0.0))  # rounding alone can make it negative


def diversity(samples: Tensor, data: Tensor) -> float:
    """Return the mean distance between two samples over that between two data points: 1 is as varied as the data."""
    a, b = _flat(samples), _flat(data)
    return _mean_distance(a, a) * len(a) / max(len(a) - 1, 1) / (_mean_distance(b, b) * len(b) / max(len(b) - 1, 1))


def _mean_distance(a: Tensor, b: Tensor) -> float:
    rows = max(1, 4_000_000 // len(b))
    return sum(float(torch.cdist(part, b).sum()) for part in a.split(rows)) / (len(a) * len(b))


def precision_recall(samples: Tensor, data: Tensor, *, neighbours: int = 5) -> tuple[float, float]:
    """Return the fraction of samples that lie among the data, and the fraction of data that lie among the samples.

    A point lies among a set if it is closer to some member than that member's k-th neighbour in the set.
    Source: Kynkaanniemi et al. 2019, eq. 2-3.
    """
    x, y = _flat(samples).numpy(), _flat(data).numpy()
    return _fraction_among(x, y, neighbours), _fraction_among(y, x, neighbours)


def _fraction_among(points: np.ndarray, members: np.ndarray, k: int) -> float:
    if len(members) <= k:
        raise InputError(f"precision and recall need more than {k} samples on each side, not {len(members)}")
    tree = KDTree(members)
    radius = tree.query(members, k=k + 1)[0][:, -1]
    nearest = min(len(members), 64)  # a member whose ball holds the point is almost always among the nearest
    distance, index = tree.query(points, k=nearest)
    return float((distance <= radius[index]).any(axis=1).mean())
