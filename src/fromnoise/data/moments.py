"""What is measured of data: means, variances, in how many directions they vary."""

from __future__ import annotations

import torch
from torch import Tensor

from fromnoise.rng import stream


def rms_about_mean(x: Tensor) -> float:
    """Return one coordinate's root mean square distance from the mean: the sigma_data of `[N, *S]`."""
    return float(mean_and_variance(x.flatten(1))[1].mean().sqrt())


def mean_and_variance(x: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the mean and the variance of each column of `[N, D]`, both `[D]` float64, without a copy of it.

    Args:
        x: the rows.
        weights: `[N]`, of sum 1; equal when not given.
    """
    w = x.new_full((1,), 1 / len(x), dtype=torch.float64).expand(len(x)) if weights is None else weights.double()
    origin, count = x[0].double(), max(1, 2**19 // x.shape[1])  # about the first row, equal rows vary by exactly 0
    pairs = list(zip(x.split(count), w.split(count), strict=True))
    mean = origin + sum(part @ (rows - origin) for rows, part in pairs)
    return mean, sum((part @ (rows - mean).square_() for rows, part in pairs), torch.zeros_like(mean))


def effective_dimension(x: Tensor) -> float:
    """Return (tr C)^2 / tr C^2 of the covariance C of `[N, *S]`: in how many directions the data vary, from 1 to D.

    Equal variance in d directions and none in the others gives d. Scale and shift do not matter. 1 for data that do not
    vary. Above 4,096 rows tr C^2 is estimated from as many, which are always the same.
    """
    return rms_and_dimension(x)[1]


def rms_and_dimension(x: Tensor) -> tuple[float, float]:
    """Return `rms_about_mean` and `effective_dimension` of `[N, *S]`, measured together."""
    flat = x.flatten(1)
    mean, variance = mean_and_variance(flat)
    dimension = participation(variance.sum(), trace_of_square(flat, mean), flat.shape[1])
    return float(variance.mean().sqrt()), dimension


def participation(trace: Tensor, square: Tensor, dim: int) -> float:
    """Return (tr C)^2 / tr C^2 within 1..dim, where it must lie; 1 where C = 0."""
    return min(max(float(trace.square() / square), 1.0), float(dim)) if float(square) > 0 else 1.0


_ROWS = 4096


def trace_of_square(x: Tensor, mean: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return tr C^2 of the covariance of rows `[N, D]` about their mean, `[]` float64.

    With y = x - mean it is sum_ij w_i w_j (y_i . y_j)^2. Above 4,096 rows as many are drawn by their weights, from a
    fixed seed, and it is estimated, without bias, by the mean of (y_i . y_j)^2 over the pairs i != j.
    """
    n, generator = len(x), stream(0, "effective dimension", device=x.device)
    if n <= _ROWS:
        y = x.double() - mean
        y *= torch.full_like(y[:, :1], n**-0.5) if weights is None else weights.to(y).sqrt()[:, None]
        return _smaller_gram(y).square().sum()
    if weights is None:
        rows = torch.randint(n, (_ROWS,), generator=generator, device=x.device)
    else:
        rows = torch.multinomial(weights, _ROWS, replacement=True, generator=generator)
    y = x[rows].double() - mean
    own = y.square().sum(1).square().sum()
    return (_smaller_gram(y).square().sum() - own).clamp(min=0) / (_ROWS * (_ROWS - 1))


def _smaller_gram(y: Tensor) -> Tensor:
    return y.T @ y if y.shape[0] > y.shape[1] else y @ y.T  # the same singular values, the same sum of squares
