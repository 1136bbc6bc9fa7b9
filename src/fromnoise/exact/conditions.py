"""Which components of a law have a row's condition."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.errors import LabelError

_UNKNOWN, _NONE = -1, -2
"""The numbers of a value that no component has, and of a component without a value."""


@dataclass(frozen=True, eq=False)
class ComponentConditions:
    """The conditions of K components, to be compared with those of rows."""

    cond: Cond

    @functools.cached_property
    def codes(self) -> dict[str, tuple[dict[bytes, int], Tensor]]:
        """For each name of the condition a number for each of its values, and the numbers of the components `[K]`."""
        found: dict[str, tuple[dict[bytes, int], Tensor]] = {}
        for name, values in self.cond.values.items():
            numbers: dict[bytes, int] = {}
            own = torch.tensor([numbers.setdefault(row, len(numbers)) for row in _as_bytes(values)])
            given = self.cond.mask(name)
            found[name] = numbers, own if given is None else own.masked_fill(~given.cpu(), _NONE)
        return found

    def allowed(self, cond: Cond, device: torch.device) -> Tensor:
        """Return which components have each row's condition, bool `[b, K]`: those whose values are equal.

        Where a row has no value of a name every component has its condition; one without a value has no row's.

        Raises:
            LabelError: if none has.
        """
        allowed = torch.ones(len(cond), len(self.cond), dtype=torch.bool, device=device)
        for name, wanted in cond.values.items():
            numbers, own = self.codes[name]
            codes = torch.tensor([numbers.get(row, _UNKNOWN) for row in _as_bytes(wanted)], device=device)
            same, given = codes[:, None] == own.to(device), cond.mask(name)
            allowed &= same if given is None else same | ~given[:, None]
        if not bool(allowed.any(1).all()):
            raise LabelError("a condition was given that no part of this exact law has")
        return allowed


def _as_bytes(values: Tensor) -> list[bytes]:
    """Return each row `[n, ...]` as bytes, equal where the rows are."""
    rows = (values + torch.zeros((), dtype=values.dtype, device=values.device)).cpu().contiguous()  # -0.0 becomes 0.0
    return [row.tobytes() for row in rows.numpy()]
