"""The article's network as anyone would write it, its schedule, and a reference DDIM to check every contender with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

T = 1000
PARAMETERS = 83_458

_BARS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, T, dtype=torch.float64), 0)
ALPHAS, SIGMAS = _BARS.sqrt(), (1 - _BARS).sqrt()
"""Signal and noise scale at the indices 0..T-1, float64."""


class Plain(nn.Module):
    """[x, sinusoidal embedding of each row's index] -> 256 -> 256 -> 2, LeakyReLU 0.01 between."""

    freqs: Tensor

    def __init__(self) -> None:
        super().__init__()
        freqs = torch.exp(-math.log(10_000) * torch.arange(32, dtype=torch.float64) / 32)
        self.register_buffer("freqs", freqs.float())
        self.layers = nn.Sequential(
            nn.Linear(66, 256), nn.LeakyReLU(0.01), nn.Linear(256, 256), nn.LeakyReLU(0.01), nn.Linear(256, 2)
        )
        assert sum(p.numel() for p in self.parameters()) == PARAMETERS

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """Predict the noise `[B, 2]` in x `[B, 2]` at indices `[B]`."""
        angles = index[:, None] * self.freqs
        return self.layers(torch.cat([x, angles.sin(), angles.cos()], dim=1))


class BareTraining:
    """The hand-tuned loop that every training is measured against.

    Args:
        points: `[N, 2]`, on the device to train on.
        batch: rows a step.
        lr: Adam's.
    """

    def __init__(self, points: Tensor, batch: int, lr: float = 1e-4) -> None:
        self.points, self.batch = points, batch
        self.network = Plain().to(points.device)
        self.alphas, self.sigmas = (table.to(points)[:, None] for table in (ALPHAS, SIGMAS))
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=lr, fused=True)
        self.current = [p.detach() for p in self.network.parameters()]
        self.average = [p.clone() for p in self.current]

    def run(self, steps: int) -> None:
        """Do so many steps."""
        points, batch, network, optimizer = self.points, self.batch, self.network, self.optimizer
        for _ in range(steps):
            x0 = points[torch.randint(len(points), (batch,), device=points.device)]
            index = torch.randint(T, (batch,), device=points.device)
            eps = torch.randn_like(x0)
            x_t = self.alphas[index] * x0 + self.sigmas[index] * eps
            F.mse_loss(network(x_t, index), eps).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            torch._foreach_lerp_(self.average, self.current, 0.001)  # pyright: ignore[reportPrivateImportUsage]


def trained(points: Tensor, steps: int = 1_000) -> Plain:
    """Return a network that knows roughly where the points are, so that samples stay finite and near them."""
    training = BareTraining(points, batch=256, lr=2e-3)
    training.run(steps)
    return training.network.eval().requires_grad_(False)


def indices(steps: int) -> list[int]:
    """Return the indices that DDIM visits in `steps` steps: T - 1 first, evenly spaced ("trailing")."""
    return [round(T - i * T / steps) - 1 for i in range(steps)]


def every_row(index: float, x: Tensor) -> Tensor:
    """Return an index for each row of x."""
    return torch.full((len(x),), index, dtype=x.dtype)


def bare_passes(network: Plain, x: Tensor, steps: int) -> Tensor:
    """Evaluate the network `steps` times on the whole batch and do nothing else."""
    out = x
    with torch.inference_mode():
        for index in indices(steps):
            out = network(x, every_row(index, x))
    return out


def reference_ddim(
    x0_hat: Callable[[Tensor, int], Tensor], x: Tensor, alphas: Sequence[float], sigmas: Sequence[float]
) -> Tensor:
    """Walk DDIM (eta = 0) in float64 scalars: x_s = alpha_s x0_hat + sigma_s (x_t - alpha_t x0_hat)/sigma_t.

    Args:
        x0_hat: answers x_t and the number of the step.
        x: x_t at the first scales.
        alphas: one more than there are steps.
        sigmas: the same.
    """
    with torch.inference_mode():
        for i in range(len(alphas) - 1):
            clean = x0_hat(x, i)
            x = alphas[i + 1] * clean + sigmas[i + 1] * (x - alphas[i] * clean) / sigmas[i]
    return x


def expected(network: Plain, x: Tensor, steps: int, last: tuple[float, float] = (1.0, 0.0)) -> Tensor:
    """Return what DDIM must make of x, by the reference; `last` are alpha and sigma where it ends."""
    visited = indices(steps)
    alphas = [*ALPHAS[visited].tolist(), last[0]]
    sigmas = [*SIGMAS[visited].tolist(), last[1]]

    def x0_hat(x_t: Tensor, i: int) -> Tensor:
        return (x_t - sigmas[i] * network(x_t, every_row(visited[i], x_t))) / alphas[i]

    return reference_ddim(x0_hat, x, alphas, sigmas)


class Rows:
    """Count the rows a network is given, while it is watched."""

    def __init__(self, network: nn.Module) -> None:
        self._network, self.count = network, 0

    def __enter__(self) -> Rows:
        self._hook = self._network.register_forward_hook(self._add)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _add(self, _module: nn.Module, _args: object, out: Tensor) -> None:
        self.count += len(out)
