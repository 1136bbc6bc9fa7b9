"""How far data reach, and in how many directions."""

from __future__ import annotations

import math


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
