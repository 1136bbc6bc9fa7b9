"""The means of a mixture's components, `[K, D]`, perhaps as large as memory allows: distances to them, and their sums.

Up to 16 dimensions |x - alpha m_k|^2 is summed up coordinate by coordinate. Above it is a matrix product in float64,
about a centre c so that data far from the origin lose no digits: with y = x - alpha c and n_k = m_k - c,

    |x - alpha m_k|^2 = |y|^2 - 2 alpha y.n_k + alpha^2 |n_k|^2,    wrong by about eps sqrt(D) (|y| + alpha |n_k|)^2

Tiles of the set are made float64 one at a time, and |n_k|^2 is kept: a large set is never copied.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SMALL = 16
"""Up to how many dimensions distances are summed up coordinate by coordinate."""

_TILE = 2**21
"""How many numbers of the set are float64 at once: 16 MiB; far smaller tiles wait for each other's threads."""

_COPIED = 2**22
"""Up to how many numbers the set is copied into another precision; above, it is converted tile by tile."""


@dataclass(frozen=True, eq=False)
class Means:
    """The means `[K, D]`; tensors that go in and come out may be more precise than they are."""

    flat: Tensor

    def to(self, dtype: torch.dtype) -> Means:
        """Return them in another precision; a large set as it is."""
        if dtype == self.flat.dtype or self.flat.numel() > _COPIED:
            return self
        return Means(self.flat.to(dtype))

    def take(self, keep: Tensor) -> Means:
        """Return some of them: a mask `[K]` or numbers."""
        taken = Means(self.flat[keep])
        if "centre" in self.__dict__:  # what is known need not be measured again
            taken.__dict__.update(centre=self.centre, square_norms=self.square_norms[keep])
        return taken

    def tiles(self) -> Iterator[tuple[slice, Tensor]]:
        """Yield the set in parts that fit into memory again, with their place."""
        k, d = self.flat.shape
        count = max(1, _TILE // d)
        for start in range(0, k, count):
            part = slice(start, min(start + count, k))
            yield part, self.flat[part]

    @functools.cached_property
    def centre(self) -> Tensor:
        """The mean of about a hundred of them, float64 `[D]`."""
        return self.flat[:: 1 + len(self.flat) // 128].double().mean(0)

    @functools.cached_property
    def square_norms(self) -> Tensor:
        """|m_k - c|^2, float64 `[K]`."""
        norms = self.centre.new_empty(len(self.flat))
        for part, tile in self.tiles():
            norms[part] = (tile - self.centre).square_().sum(1)
        return norms

    def square_distances(self, rows: Tensor, alpha: Any) -> Tensor:
        """Return |x - alpha m_k|^2, rows `[b, D]` -> `[b, K]`; above 16 dimensions float64."""
        if rows.shape[1] > SMALL:
            return self._by_products(rows.double(), alpha)
        squares = (rows[:, :1] - alpha * self.flat[:, 0].to(rows)).square_()
        for j in range(1, rows.shape[1]):
            squares += (rows[:, j : j + 1] - alpha * self.flat[:, j].to(rows)).square_()
        return squares

    def _by_products(self, rows: Tensor, alpha: Any) -> Tensor:
        y = rows - alpha * self.centre
        products = y.new_empty(len(y), len(self.flat))  # made first: small results between tiles would scatter memory
        for part, tile in self.tiles():
            products[:, part] = y @ (tile - self.centre).T
        squares = products.mul_(-2 * alpha).add_(y.square().sum(1, keepdim=True)).add_(alpha**2 * self.square_norms)
        return squares.clamp_(min=0)

    def error(self, rows: Tensor, alpha: Any) -> Tensor:
        """Return about how wrong `square_distances` may be for each row above 16 dimensions, float64 `[b, 1]`."""
        y = rows.double() - alpha * self.centre
        longest = y.norm(dim=1, keepdim=True) + alpha * self.square_norms.max().sqrt()
        return torch.finfo(torch.float64).eps * math.sqrt(rows.shape[1]) * longest.square()

    def by_differences(self, rows: Tensor, alpha: Any, which: Tensor) -> Tensor:
        """Return sum_j (x_j - alpha m_kj)^2 of the pairs (row, k) `[n, 2]`, float64 `[n]`: right to the last digits."""
        count = max(1, _TILE // rows.shape[1])
        squares = rows.new_empty(len(which), dtype=torch.float64)  # made first, as in `_by_products`
        for pairs, answers in zip(which.split(count), squares.split(count), strict=True):
            row, k = pairs.unbind(1)
            a = alpha[row] if isinstance(alpha, Tensor) and alpha.dim() else alpha
            answers.copy_((rows[row].double() - a * self.flat[k].double()).square_().sum(1))
        return squares

    def mix(self, r: Tensor, power: int = 1) -> Tensor:
        """Return sum_k r_k m_k^power, r `[b, K]` -> `[b, D]`, as precise as r; unused components cost nothing."""
        if self.flat.numel() <= _COPIED:
            return r @ _power(self.flat.to(r), power)
        mixed = r.new_zeros(len(r), self.flat.shape[1])
        for part, tile in self.tiles():
            taken = (r[:, part] != 0).any(0)
            if bool(taken.all()):
                mixed = mixed + r[:, part] @ _power(tile.to(r), power)
            elif bool(taken.any()):
                mixed = mixed + r[:, part][:, taken] @ _power(tile[taken].to(r), power)
        return mixed

    def covariance(self, w: Tensor, mean: Tensor) -> Tensor:
        """Return sum_k w_k (m_k - mean)(m_k - mean)^T, `[D, D]`, as precise as the weights."""
        covariance = w.new_zeros(len(mean), len(mean))
        for part, tile in self.tiles():
            off = tile.to(w) - mean.to(w)
            covariance += off.T @ (w[part, None] * off)
        return covariance


def _power(tile: Tensor, power: int) -> Tensor:
    return tile if power == 1 else tile**power  # x**1 would be a copy
