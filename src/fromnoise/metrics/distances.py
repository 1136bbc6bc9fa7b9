"""Distances between two sets of samples, arrays or data sets, in the samples' own units."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial import KDTree
from torch import Tensor

from fromnoise.data.dataset import Dataset
from fromnoise.data.numbers import as_samples
from fromnoise.data.source import Source
from fromnoise.errors import InputError
from fromnoise.rng import stream

EXACT_UP_TO = 2000
"""The largest sets whose Wasserstein distance is computed by assignment: n^3 operations, about half a second."""


def _flat(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Return two sets of samples, or those of data sets or other sources, `[N, D]` float64 each."""
    a, b = (as_samples(x.read(slice(None)).x if isinstance(x, Dataset | Source) else x) for x in (a, b))
    if a.dim() < 2 or a.shape[1:] != b.shape[1:] or not a.numel() or not b.numel():
        raise InputError(f"two sets of samples [N, *S] alike are compared, not {list(a.shape)} and {list(b.shape)}")
    return a.cpu().double().flatten(1), b.cpu().double().flatten(1)


def wasserstein2(a: Any, b: Any) -> float:
    """Return the 2-Wasserstein distance of two equally large sets `[N, *S]`: the rms distance of the best matching.

    Raises:
        InputError: if the sets differ in size.
    """
    a, b = _flat(a, b)
    if len(a) != len(b):
        raise InputError(f"the exact 2-Wasserstein distance takes sets of one size, not {len(a)} and {len(b)}")
    if a.var(0).sum() < b.var(0).sum() / 2:  # the search takes minutes where all rows of the cost are alike
        a, b = b, a
    cost = torch.cdist(a, b).square().numpy()
    rows, columns = linear_sum_assignment(cost)
    return float(np.sqrt(cost[rows, columns].mean()))


def sliced_wasserstein2(a: Any, b: Any, *, directions: int = 256, seed: int = 0) -> float:
    """Return sqrt(D E W2^2), the mean taken over random one-dimensional projections, D the dimension.

    With the factor D it equals the 2-Wasserstein distance for two sets that differ by a shift. Sets may differ in
    size. Source: Bonneel et al. 2015, eq. 2.
    """
    a, b = _flat(a, b)
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


def energy_distance(a: Any, b: Any) -> float:
    """Return sqrt(2 E|X - Y| - E|X - X'| - E|Y - Y'|), every mean over all pairs of the two sets.

    Pairs of a point with itself count, so that this is a distance of the two sets and never negative under the root.
    Between two draws of n samples of one distribution it falls as 1/sqrt(n); this is its floor. Source: Szekely &
    Rizzo 2013 (the two-sample energy statistic, without its factor nm/(n + m)).
    """
    a, b = _flat(a, b)
    square = 2 * _mean_distance(a, b) - _mean_distance(a, a) - _mean_distance(b, b)
    return math.sqrt(max(square, 0.0))  # rounding alone can make it negative


def diversity(samples: Any, data: Any) -> float:
    """Return the mean distance between two samples over that between two data points: 1 is as varied as the data.

    Raises:
        InputError: if the data are one sample, or all alike.
    """
    a, b = _flat(samples, data)
    if bool((b == b[0]).all()):
        raise InputError("diversity is in parts of the data's, and these are all alike")
    return _mean_distance(a, a) * len(a) / max(len(a) - 1, 1) / (_mean_distance(b, b) * len(b) / max(len(b) - 1, 1))


def _mean_distance(a: Tensor, b: Tensor) -> float:
    rows = max(1, 4_000_000 // len(b))
    return sum(float(torch.cdist(part, b).sum()) for part in a.split(rows)) / (len(a) * len(b))


def precision_recall(samples: Any, data: Any, *, neighbours: int = 5) -> tuple[float, float]:
    """Return the fraction of samples that lie among the data, and the fraction of data that lie among the samples.

    A point lies among a set if it is closer to some member than that member's k-th neighbour in the set.
    Source: Kynkaanniemi et al. 2019, eq. 2-3.
    """
    x, y = (part.numpy() for part in _flat(samples, data))
    return _fraction_among(x, y, neighbours), _fraction_among(y, x, neighbours)


def _fraction_among(points: np.ndarray, members: np.ndarray, k: int) -> float:
    if len(members) <= k:
        raise InputError(f"precision and recall need more than {k} samples on each side, not {len(members)}")
    tree = KDTree(members)
    radius = tree.query(members, k=k + 1)[0][:, -1]
    nearest = min(len(members), 64)  # a member whose ball holds the point is almost always among the nearest
    distance, index = tree.query(points, k=nearest)
    return float((distance <= radius[index]).any(axis=1).mean())
