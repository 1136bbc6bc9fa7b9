"""How near reconstructions are to their pictures, picture by picture."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fromnoise.data.numbers import as_samples
from fromnoise.errors import InputError


def psnr(x_hat: Any, x: Any, *, peak: float = 255.0) -> float:
    """Return the peak signal-to-noise ratio 10 log10(peak^2/E|x_hat - x|^2), in dB, of the mean error of all pictures.

    Args:
        x_hat: reconstructions `[N, C, H, W]`.
        x: their pictures, likewise.
        peak: the range of a number, 255 for pictures of whole numbers.

    Returns:
        Infinity where the two are equal.

    Raises:
        InputError: if the shapes differ, or `peak` is not above 0.
    """
    x_hat, x = _checked(x_hat, x, peak)
    error = float((x_hat.double() - x.double()).square().mean())
    return 10 * math.log10(peak**2 / error) if error else math.inf


def ssim(x_hat: Any, x: Any, *, peak: float = 255.0) -> float:
    """Return the mean structural similarity of pictures, 1 where they are equal.

    Means, variances and covariance are taken under a normal window of standard deviation 1.5, of 11 x 11 pixels, or of
    the largest odd side that a smaller picture has; only where the window lies inside the picture; channels one by one.

    Args:
        x_hat: reconstructions `[N, C, H, W]`.
        x: their pictures, likewise.
        peak: the range of a number, 255 for pictures of whole numbers.

    Raises:
        InputError: if the shapes differ, or `peak` is not above 0.

    Source: Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity", eq. 13.
    """
    x_hat, x = _checked(x_hat, x, peak)
    total = sum(_similarity(a, b, peak) for a, b in zip(x_hat.split(256), x.split(256), strict=True))
    return total / len(x)


def _similarity(x_hat: Tensor, x: Tensor, peak: float) -> float:
    """Return the sum of the similarities of pictures."""
    side = min(11, *(s - 1 + s % 2 for s in x.shape[2:]))
    places = torch.arange(side, dtype=torch.float64) - side // 2
    window = (-0.5 * (places / 1.5).square()).exp()
    window = torch.outer(window, window) / window.sum() ** 2
    a, b = (part.cpu().double().flatten(0, 1)[:, None] for part in (x_hat, x))

    def mean(value: Tensor) -> Tensor:
        return F.conv2d(value, window[None, None])

    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    cov = mean(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    each = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return float(each.mean((1, 2, 3)).sum()) / x.shape[1]


def _checked(x_hat: Any, x: Any, peak: float) -> tuple[Tensor, Tensor]:
    """Return reconstructions and pictures as floats, `[N, C, H, W]` both."""
    if not 0 < peak < math.inf:
        raise InputError(f"peak is the range of a number, such as 255, and must be above 0, not {peak!r}")
    x_hat, x = as_samples(x_hat), as_samples(x)
    if x_hat.shape != x.shape or x.dim() != 4:
        raise InputError(
            f"pictures and reconstructions must be [N, C, H, W] alike, not {list(x.shape)} and {list(x_hat.shape)}"
        )
    return x_hat, x
