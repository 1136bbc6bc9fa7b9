"""Two-dimensional data sets whose distribution is known: every one can be drawn from without end.

Each is a map from uniform numbers to points (`Distribution`). Most are a curve, perhaps in pieces, with
Gaussian jitter about it. Such a distribution is, to many digits, a mixture of Gaussians, so its optimal denoiser is
known exactly.

    fn.data.spiral(n=300, seed=0)         300 points
    fn.data.make({"name": "spiral"})      the same by name, as the command line and a checkpoint do
"""

from __future__ import annotations

import math
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fromnoise.data.dataset import Dataset
from fromnoise.data.distribution import Distribution, Points, normal_quantile
from fromnoise.errors import InputError, shown, whole_number
from fromnoise.rng import check_seed

_TAU = 2 * math.pi


def _curve(trace: Points, jitter: float) -> Distribution:
    """Return the distribution of trace(u) + N(0, jitter^2) in the plane."""
    return Distribution(partial(_jittered, trace, jitter), dims=3, centres=trace, jitter=jitter)


def _jittered(trace: Points, jitter: float, u: Tensor) -> Tensor:
    return trace(u[:, 0]) + jitter * normal_quantile(u[:, 1:])


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)


def _spiral(u: Tensor) -> Tensor:
    return _polar(2 * u, 4 * math.pi * u)


def _swiss_roll(u: Tensor) -> Tensor:
    angle = 1.5 * math.pi * (1 + 2 * u)
    return _polar(angle / 7, angle)


def _two_spirals(u: Tensor) -> Tensor:
    second = u >= 0.5
    along = torch.where(second, 2 * u - 1, 2 * u)
    angle = 3 * math.pi * along.sqrt()
    return torch.where(second, -1.0, 1.0)[:, None] * _polar(angle / 5, angle)


def _circles(u: Tensor) -> Tensor:
    outer = u < 0.5
    return _polar(torch.where(outer, 1.5, 0.75).to(u), _TAU * 2 * u)


def _moons(u: Tensor) -> Tensor:
    upper = u < 0.5
    angle = math.pi * torch.where(upper, 2 * u, 2 * u - 1)
    x = torch.where(upper, angle.cos(), 1 - angle.cos()) - 0.5
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin()) - 0.25
    return 1.2 * torch.stack([x, y], dim=1)


def _eight_gaussians(u: Tensor) -> Tensor:
    return _polar(torch.full_like(u, 1.5), _TAU / 8 * (8 * u).floor().clamp(max=7))


def _checkerboard(u: Tensor) -> Tensor:
    square = (8 * u[:, 0]).floor().clamp(max=7)
    row, column = (square / 2).floor(), square % 2
    x = 2 * column + row % 2 + (8 * u[:, 0] - square)
    return torch.stack([x - 2, row + u[:, 1] - 2], dim=1)


def _pinwheel(u: Tensor, arms: int = 5) -> Tensor:
    arm = (arms * u[:, 0]).floor().clamp(max=arms - 1)
    radius = 1.0 + 0.3 * normal_quantile(u[:, 1])
    across = 0.05 * normal_quantile(u[:, 2])
    angle = _TAU / arms * arm + 0.25 * radius.exp()
    return torch.stack(
        [radius * angle.cos() - across * angle.sin(), radius * angle.sin() + across * angle.cos()], dim=1
    )


# A long-necked dinosaur looking left, drawn for this library: outline, then eye and smile. Units are arbitrary.
_DINO = (
    ((8, 62), (5, 66), (5, 71), (9, 75), (15, 77), (21, 76), (26, 72), (28, 66), (28, 58), (29, 50), (32, 44),
     (38, 41), (46, 42), (54, 43), (62, 41), (69, 36), (75, 29), (82, 22), (90, 18), (97, 17), (90, 13), (81, 13),
     (73, 16), (68, 20), (67, 12), (66, 4), (58, 4), (58, 12), (57, 19), (50, 17), (42, 17), (36, 19), (35, 12),
     (34, 4), (26, 4), (26, 12), (25, 22), (21, 30), (19, 40), (19, 50), (19, 58), (14, 60), (8, 62)),
    ((16, 70), (17.5, 71), (17.5, 69), (16, 70)),
    ((7, 66), (11, 65), (15, 66)),
)  # fmt: skip


def _polyline(strokes: tuple[tuple[tuple[float, float], ...], ...]) -> Points:
    """Return the map from [0, 1] to the strokes by arc length, centred, with the larger extent 3.6."""
    corners = np.concatenate([np.array(stroke, dtype=float) for stroke in strokes])
    low, high = corners.min(0), corners.max(0)
    starts, ends = [], []
    for stroke in strokes:
        points = (np.array(stroke, dtype=float) - (low + high) / 2) * (3.6 / (high - low).max())
        starts.append(points[:-1])
        ends.append(points[1:])
    a, b = torch.tensor(np.concatenate(starts)), torch.tensor(np.concatenate(ends))
    return partial(_along, a, b)


def _along(a: Tensor, b: Tensor, u: Tensor) -> Tensor:
    """Return the points of the pieces from a to b, `[k, 2]`, at these fractions of their whole length."""
    lengths = (b - a).norm(dim=1)
    reached = lengths.cumsum(0)
    along = u * reached[-1]
    piece = torch.searchsorted(reached, along.contiguous(), right=True).clamp(max=len(a) - 1)
    part = (reached[piece] - along) / lengths[piece]
    return b[piece] + part[:, None] * (a - b)[piece]


_JITTER = 0.05

_DISTRIBUTIONS: dict[str, Distribution] = {
    "spiral": _curve(_spiral, _JITTER),
    "swiss_roll": _curve(_swiss_roll, _JITTER),
    "circles": _curve(_circles, _JITTER),
    "moons": _curve(_moons, _JITTER),
    "checkerboard": Distribution(_checkerboard, dims=2),
    "pinwheel": Distribution(_pinwheel, dims=3),
    "eight_gaussians": _curve(_eight_gaussians, 0.1),
    "two_spirals": _curve(_two_spirals, _JITTER),
    "dino": _curve(_polyline(_DINO), 0.02),
}

_LABELLED: dict[str, tuple[str, ...]] = {"shapes": ("spiral", "circles", "moons")}


_MOST = 10_000_000
"""How many points a built-in data set may have; 400 MB."""


def _number(n: int) -> int:
    number = whole_number("n", n)
    if number > _MOST:
        raise InputError(f"n must be at most {_MOST:,}, not {shown(n)}")
    return number


class Maker(Protocol):
    """Makes a data set of n points."""

    def __call__(self, n: int = 2000, seed: int = 0) -> Dataset:
        """Draw n points; the same n and seed give the same points."""
        ...


def _draw(name: str, n: int = 2000, seed: int = 0) -> Dataset:
    n, seed = _number(n), check_seed(seed)
    x, _ = _DISTRIBUTIONS[name].draw(n, seed)
    return Dataset(x, name=name, config={"name": name, "n": n, "seed": seed}, distribution=_DISTRIBUTIONS[name])


spiral: Maker = partial(_draw, "spiral")
"""theta from 0 to 4 pi, r = 2 theta/(4 pi), jitter 0.05: the teaching article's own."""
swiss_roll: Maker = partial(_draw, "swiss_roll")
"""The swiss roll seen from its end."""
circles: Maker = partial(_draw, "circles")
"""Two concentric circles of radius 1.5 and 0.75."""
moons: Maker = partial(_draw, "moons")
"""Two interleaved half circles."""
checkerboard: Maker = partial(_draw, "checkerboard")
"""Uniform on the black squares of a 4 x 4 board."""
pinwheel: Maker = partial(_draw, "pinwheel")
"""Five bent arms."""
eight_gaussians: Maker = partial(_draw, "eight_gaussians")
"""Eight Gaussians of standard deviation 0.1 on a circle of radius 1.5."""
two_spirals: Maker = partial(_draw, "two_spirals")
"""Two spirals that start in the middle and wind about each other."""
dino: Maker = partial(_draw, "dino")
"""The outline of a dinosaur."""


def labelled(**parts: Dataset) -> Dataset:
    """Put data sets together, each under its own label, in the order given: labelled(spiral=..., moons=...).

    Raises:
        InputError: if there are no parts, or their shapes differ.
    """
    if not parts:
        raise InputError("labelled needs at least one data set: labelled(spiral=fn.data.spiral(), ...)")
    if len({part.shape for part in parts.values()}) > 1:
        shapes = ", ".join(f"{name} {list(part.shape)}" for name, part in parts.items())
        raise InputError(f"the parts of a labelled data set must have one shape, not {shapes}")
    x = torch.cat([part.x for part in parts.values()])
    labels = torch.cat([torch.full((len(part),), k) for k, part in enumerate(parts.values())])
    known = [part.distribution for part in parts.values() if part.distribution is not None]
    whole = Distribution(parts=tuple(known)) if len(known) == len(parts) else None
    return Dataset(x, labels, tuple(parts), "+".join(parts), distribution=whole)


def shapes(n: int = 6000, seed: int = 0) -> Dataset:
    """Draw n points of spiral, circles and moons, labelled so, as near to equally many as can be."""
    n, seed = _number(n), check_seed(seed)
    names = _LABELLED["shapes"]
    counts = [n // len(names) + (k < n % len(names)) for k in range(len(names))]
    if min(counts) < 1:
        raise InputError(f"shapes has {len(names)} labels, so n must be at least {len(names)}, not {n}")
    made = labelled(**{name: _draw(name, count, seed) for name, count in zip(names, counts, strict=True)})
    config = {"name": "shapes", "n": n, "seed": seed}
    return Dataset(made.x, made.labels, made.label_names, "shapes", config=config, distribution=made.distribution)


def names() -> list[str]:
    """Return the names of the built-in points."""
    return sorted([*_DISTRIBUTIONS, *_LABELLED])


def make(name: str, n: int = 2000, seed: int = 0) -> Dataset:
    """Draw n points of the built-in data of that name; `shapes` has 6,000 where the number is not given."""
    return shapes(n, seed) if name in _LABELLED else _draw(name, n, seed)
