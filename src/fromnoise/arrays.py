"""Shape types, devices, and the helpers that expand times to a batch.

`B` is the batch, `*S` the shape of one sample ("2" for points, "channels height width" for images).
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from fromnoise.errors import InputError

Batch: TypeAlias = Float[Tensor, "B *S"]
"""Samples, noisy or clean: `[B, *S]`."""

Time: TypeAlias = float | Float[Tensor, ""] | Float[Tensor, "B"]
"""A time in [0, 1]: one float for all rows, or one per row `[B]`."""

Scale: TypeAlias = float | Float[Tensor, ""] | Float[Tensor, "B"]
"""A signal or noise scale at a time: a float where the time was one, a tensor of the time's shape otherwise."""


def expand_to(level: float | Shaped[Tensor, ...], x: Tensor) -> float | Tensor:
    """Give `level` trailing axes, so that it multiplies `x` row by row.

    Args:
        level: a float, `[]` or `[B]`.
        x: `[B, *S]`.

    Returns:
        The float itself, `[]`, or `[B, 1, ..., 1]`, in x's dtype and on x's device.
    """
    if not isinstance(level, Tensor):
        return level
    level = level.to(device=x.device, dtype=x.dtype)
    return level if level.dim() == 0 else level.reshape(-1, *([1] * (x.dim() - 1)))


def path_ratio(own_alpha: Any, own_sigma: Any, alpha: Any, sigma: Any) -> Any:
    """Return own/this by the larger of the two scales, as the other may be 0."""
    if isinstance(alpha, Tensor) or isinstance(sigma, Tensor):
        noisy = torch.as_tensor(sigma > alpha)
        return torch.where(noisy, own_sigma / sigma, own_alpha / alpha)
    return own_sigma / sigma if sigma > alpha else own_alpha / alpha


def finest(device: torch.device | str) -> torch.dtype:
    """Return the finest floating type that a device computes in: float64, but float32 on mps."""
    return torch.float32 if torch.device(device).type == "mps" else torch.float64


def usable_device(name: str | torch.device) -> torch.device:
    """Return the device of this name, after it has drawn, multiplied and answered a few numbers.

    Raises:
        InputError: if it cannot, naming the devices that can.
    """
    try:
        device = torch.device(name)
        x = torch.randn(2, 2, generator=torch.Generator(device).manual_seed(0), device=device)
        (x @ x).cpu().tolist()
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        have = ", ".join(kind for kind, is_there in there.items() if is_there)
        raise InputError(f"device {name}: there is no such device here that can compute; there is {have}") from None
    return device


def weighted(a: float | Tensor, x: Batch, b: float | Tensor, y: Batch) -> Batch:
    """Return a x + b y for weights that are floats, `[]`, `[B]` or `[B, 1, ...]`; floats take one pass over y."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return expand_to(a, x) * x + expand_to(b, y) * y
    return torch.add(a * x, y, alpha=b)


def rows_dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum a * b over everything but the batch: `[B, *S]` -> `[B]`."""
    return torch.einsum("bi,bi->b", a.flatten(1), b.flatten(1))


def equal(a: Any, b: Any) -> bool:
    """Return whether two sets of samples are the same, value for value and in type."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a.cpu(), b.cpu())
    return type(a) is type(b) and bool(a == b)
