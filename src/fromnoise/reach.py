"""How far data reach, and what lies between two paths of the same noise level."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


class Spread(float):
    """The data's root mean square distance from its mean, R = sigma_data sqrt(dimension), in a denoiser's units.

    Attributes:
        dimension: the number of coordinates.
        effective_dimension: in how many directions the data vary, between 1 and `dimension`.
    """

    dimension: int
    effective_dimension: float

    def __new__(cls, rms: float, dimension: int = 2, effective_dimension: float | None = None) -> Spread:
        self = super().__new__(cls, rms)
        self.dimension, self.effective_dimension = dimension, effective_dimension or float(dimension)
        return self

    @property
    def std(self) -> float:
        """Return sigma_data, the root mean square standard deviation of a coordinate."""
        return self / math.sqrt(self.dimension)


def path_ratio(own_alpha: Any, own_sigma: Any, alpha: Any, sigma: Any) -> Any:
    """Return own/this by the larger of the two scales, as the other may be 0."""
    if isinstance(alpha, Tensor) or isinstance(sigma, Tensor):
        noisy = torch.as_tensor(sigma > alpha)
        return torch.where(noisy, own_sigma / sigma, own_alpha / alpha)
    return own_sigma / sigma if sigma > alpha else own_alpha / alpha
