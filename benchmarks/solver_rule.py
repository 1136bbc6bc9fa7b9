"""A sampler as the benchmark sees it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from problems import FLOAT, Problem
from torch import Tensor

import fromnoise as fn


class Ended(NamedTuple):
    """Where a rule took level z, and that level."""

    x: Tensor
    level: float


class Rule(NamedTuple):
    """A rule by name.

    Attributes:
        library: whose it is.
        name: of the rule and its grid.
        run: (problem, evaluations) -> where it ends; None where it cannot spend just so many.
    """

    library: str
    name: str
    run: Callable[[Problem, int], Ended | None]


def trouble(rule: Rule) -> str:
    """Return what is wrong with a rule's adapter, or nothing: it is tried on a Gaussian, whose flow is known.

    The flow of N(m, S^2) takes x at noise level v to m + (x - m) S/sqrt(S^2 + v^2), axis by axis.
    """
    off = []
    for evaluations in _TRIED:
        mean, std = torch.tensor([[0.4, -0.7]], dtype=FLOAT), torch.tensor([1.0, 0.3], dtype=FLOAT)
        law = fn.GaussianMixture(mean, covariances=torch.diag(std**2)[None])
        known = Problem("a Gaussian", law, torch.randn(64, 2, generator=torch.Generator().manual_seed(5), dtype=FLOAT))
        ended = rule.run(known, evaluations)
        if ended is None:
            continue
        if not evaluations <= known.calls <= evaluations + 1:  # rules of two evaluations a step meet every other number
            return f"{known.calls} evaluations where {evaluations} were asked for"
        exact = mean + (ended.level * known.z - mean) * std / (std**2 + ended.level**2).sqrt()
        off.append(float((ended.x - exact).norm(dim=1).square().mean().sqrt()))
    if not off[-1] < min(_NEAR, off[0]):
        return "off by " + ", ".join(f"{error:.1e}" for error in off) + f" after {_TRIED} evaluations on a Gaussian"
    return ""


_TRIED, _NEAR = (25, 100, 250), 0.03
