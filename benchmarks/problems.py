"""Problems with an exact denoiser, for which the end points of the probability-flow ODE are known to many digits.

| name | what it is |
| --- | --- |
| spiral, moons | the library's curves with jitter 0.05, as mixtures of 512 Gaussians |
| ring | 8 Gaussians of standard deviation 0.1 on a circle of radius 1.5 |
| mixture-16 | 64 Gaussians of standard deviation 0.1 in 16 dimensions, their means standard normal |
| images-64, images-256 | 50 smooth random pictures of 8 x 8 pixels, contrast 0.5, with noise of 0.05; 80 of 16 x 16 |
| mnist-784, cifar-3072 | 1,000 real pictures in [-1, 1], their mean removed, with noise of 0.05; from `ARCHIVES` |
| grid-2 | 25 Gaussians of standard deviation 0.05 on a square grid |
| tree-3 | 60 Gaussians of unequal weights and scales in clusters, in 3 dimensions |
| torus-4 | the flat torus of radii 1 and 0.4 in 4 dimensions with jitter 0.05, as 1,024 Gaussians |
| sparse-8 | 100 points in 8 dimensions, their coordinates Laplace-distributed, with noise of 0.02 |

A path never enters: a problem is D(x, v) = E[x0 | x0 + v eps = x] and a start x = v z, z standard normal. Every rule is
judged by where the exact flow takes its own start.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pictures
import torch
from torch import Tensor

import fromnoise as fn
from fromnoise.denoiser_like import start_std
from fromnoise.dynamics import ProbabilityFlow

FLOAT = torch.float64
D = Callable[[Tensor, float], Tensor]
"""The exact denoiser at a noise level v, on points x0 + v eps."""


def _curve(name: str, count: int = 512) -> fn.GaussianMixture:
    law = fn.data.make({"name": name, "n": 1}).distribution
    assert law is not None
    assert law.centres is not None
    return fn.GaussianMixture(law.centres((torch.arange(count, dtype=FLOAT) + 0.5) / count), law.jitter)


def _ring() -> fn.GaussianMixture:
    angle = torch.arange(8, dtype=FLOAT) * (math.pi / 4)
    return fn.GaussianMixture(1.5 * torch.stack([angle.cos(), angle.sin()], dim=1), 0.1)


def _mixture_16() -> fn.GaussianMixture:
    return fn.GaussianMixture(_normal(0, 64, 16), 0.1)


def _images(count: int, side: int) -> fn.GaussianMixture:
    """Return pictures whose spectrum falls with the square of the frequency."""
    wave = torch.fft.fftfreq(side, dtype=FLOAT)
    fall = 1 / (1 / 8 + 4 * (wave[:, None] ** 2 + wave**2).sqrt()) ** 2
    smooth = torch.fft.ifft2(torch.fft.fft2(_normal(0, count, side, side)) * fall).real
    return fn.GaussianMixture((0.5 * smooth / smooth.std()).flatten(1), 0.05)


def _real(*shape: int) -> fn.GaussianMixture:
    channels, height, width = shape
    return fn.GaussianMixture(pictures.read(ARCHIVES, (channels, height, width)), 0.05)


def _tree() -> fn.GaussianMixture:
    """Return clusters of clusters in three dimensions, their sizes and weights over an order of magnitude."""
    trunk, twigs = _normal(7, 5, 1, 3), 0.3 * _normal(8, 5, 12, 3)
    stds = 0.02 * 10 ** torch.rand(60, generator=torch.Generator().manual_seed(9), dtype=FLOAT)
    weights = torch.arange(1, 61, dtype=FLOAT) ** -0.5
    return fn.GaussianMixture((2 * trunk + twigs).flatten(0, 1), stds, weights=weights)


def _grid() -> fn.GaussianMixture:
    side = torch.linspace(-1, 1, 5, dtype=FLOAT)
    return fn.GaussianMixture(torch.cartesian_prod(side, side), 0.05)


def _torus() -> fn.GaussianMixture:
    angle = torch.arange(32, dtype=FLOAT) * (2 * math.pi / 32)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    both = [circle[:, None].expand(32, 32, 2), 0.4 * circle[None].expand(32, 32, 2)]
    return fn.GaussianMixture(torch.cat(both, dim=2).flatten(0, 1), 0.05)


def _sparse() -> fn.GaussianMixture:
    uniform = torch.rand(100, 8, generator=torch.Generator().manual_seed(11), dtype=FLOAT) - 0.5
    return fn.GaussianMixture(-uniform.sign() * (1 - 2 * uniform.abs()).log(), 0.02)


LAWS: dict[str, Callable[[], fn.GaussianMixture]] = {
    "spiral": functools.partial(_curve, "spiral"),
    "moons": functools.partial(_curve, "moons"),
    "ring": _ring,
    "mixture-16": _mixture_16,
    "images-64": functools.partial(_images, 50, 8),
    "images-256": functools.partial(_images, 80, 16),
    "mnist-784": functools.partial(_real, 1, 28, 28),
    "cifar-3072": functools.partial(_real, 3, 32, 32),
    "grid-2": _grid,
    "tree-3": _tree,
    "torus-4": _torus,
    "sparse-8": _sparse,
}

ARCHIVES: list[Path] = []
"""Where the real pictures are; a law that finds none of its own among them raises `pictures.NoPictures`."""

STARTS = {"mnist-784": 1024, "cifar-3072": 256}
"""At most so many starts, where an exact answer is dear."""


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=FLOAT)


@dataclass
class Problem:
    """A law, where to start, and where each start ends.

    Attributes:
        name: of the law.
        law: its exact answers.
        z: standard normal starts `[n, D]`.
        ends: where the flow takes v z, by v.
        calls: how many times D was asked since it was last set to 0.
    """

    name: str
    law: fn.GaussianMixture
    z: Tensor
    ends: dict[float, Tensor] = field(default_factory=dict)
    calls: int = 0

    def denoise(self, x: Tensor, level: float) -> Tensor:
        """Return D(x, v)."""
        self.calls += 1
        return self.law.posterior_mean(x, 1.0, level)

    def end(self, level: float) -> Tensor:
        """Return where the exact flow takes v z."""
        if level not in self.ends:
            denoiser = self.law.denoiser(fn.EDM(sigma_max=level))
            self.ends[level] = ProbabilityFlow(denoiser).decode(self.z * (level / start_std(denoiser)))
        return self.ends[level]

    def error(self, x: Tensor, level: float) -> tuple[float, float]:
        """Return the root mean square and the median distance of x from where it should have ended."""
        off = (x - self.end(level)).norm(dim=1)
        return float(off.square().mean().sqrt()), float(off.median())


def problem(name: str, n: int) -> Problem:
    """Return a problem with n starts, or fewer where an exact answer is dear."""
    law, n = LAWS[name](), min(n, STARTS.get(name, n))
    return Problem(name, law, _normal(1, n, law.flat.shape[1]))
