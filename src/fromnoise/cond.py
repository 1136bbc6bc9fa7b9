"""What a batch is conditioned on besides x: named tensors, each with a mask.

A `Cond` is handed from the caller to the network, and nobody between them asks what kind it is: samplers pass it on,
guidance doubles it, training drops parts of it. Its values are made by conditioners (`fromnoise.conditioners`). What is
not given has no value of its own: the mask says so, and the network selects its null row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Cond:
    """A condition: one row for all samples, or one row for each.

    Attributes:
        values: tensors by name, each `[1, ...]` or `[B, ...]`: "label" int64 `[.]`, "vector" float32 `[., D]`.
        given: for each name the rows that have it, bool `[1]` or `[B]`; a name that is absent has all.
        kept: the names that `null` and `drop` leave as they are.
    """

    values: Mapping[str, Tensor]
    given: Mapping[str, Tensor] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return max((len(value) for value in (*self.values.values(), *self.given.values())), default=1)

    def rows(self, at: slice | Tensor) -> Cond:
        """Return the condition of some rows, a slice or indices `[b]`; what all rows share stays one row."""
        return self._map(lambda tensor: tensor if len(tensor) == 1 else tensor[at])

    def expand(self, n: int) -> Cond:
        """Return the condition with n rows of everything."""
        return self._map(lambda tensor: tensor.expand(n, *tensor.shape[1:]))

    def to(self, device: torch.device | str) -> Cond:
        """Return the condition on a device."""
        return self._map(lambda tensor: tensor.to(device))

    def in_precision(self, dtype: torch.dtype) -> Cond:
        """Return the condition with its vectors in this precision; numbers of labels stay whole."""
        return self._map(lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)

    def null(self) -> Cond:
        """Return the condition of which nothing is given, but for what is kept."""
        return self._masked(torch.zeros_like)

    def dropped(self, p: float, uniform: Callable[[str], Tensor]) -> Cond:
        """Return the condition with parts left out as a training does it, but for what is kept.

        Each row is left out as a whole with probability p; where there are several conditions, then also each alone, so
        that a network hears a label without a caption too.

        Args:
            p: the probability.
            uniform: returns numbers between 0 and 1 for the rows, `[B]`, others for another name.
        """
        cond, apart = self.where(uniform("drop") >= p), sorted(self.values.keys() - self.kept)
        if len(apart) > 1:
            for name in apart:
                cond = cond.where(uniform(f"drop {name}") >= p, only=name)
        return cond

    def where(self, stays: Tensor, only: str | None = None) -> Cond:
        """Return the condition with the rows left out where `stays`, bool `[B]`, is False, but for what is kept.

        Args:
            stays: which rows stay.
            only: leave out the value of this name alone.
        """
        stays = stays.to(next(iter(self.values.values())).device)
        left = self._masked(lambda mask: mask & stays)
        return left if only is None else Cond(self.values, {**self.given, only: left.given[only]}, self.kept)

    @property
    def is_kept(self) -> bool:
        """Whether nothing in it can be left out: with `null` it is the same."""
        return self.values.keys() <= self.kept

    def keeping(self, other: Cond) -> Cond:
        """Return the condition with what another one keeps, and this one has no value of."""
        extra = {name: value for name, value in other.values.items() if name in other.kept and name not in self.values}
        if not extra:
            return self
        given = {name: mask for name, mask in other.given.items() if name in extra}
        return Cond({**self.values, **extra}, {**self.given, **given}, self.kept.union(extra))

    def told(self, **values: Tensor) -> Cond:
        """Return the condition with more values by name."""
        return Cond({**self.values, **values}, self.given, self.kept.union(values))

    def only(self, names: Sequence[str]) -> Cond | None:
        """Return the part of these names; None where nothing is left."""
        values = {name: value for name, value in self.values.items() if name in names}
        return Cond(values, {k: v for k, v in self.given.items() if k in values}, self.kept) if values else None

    def tensors(self) -> dict[str, Tensor]:
        """Return the values and masks by name, those of a mask being "given." and its value's."""
        return {**self.values, **{f"given.{name}": mask for name, mask in self.given.items()}}

    def mask(self, name: str) -> Tensor | None:
        """Return which rows have a value of this name, bool `[1]` or `[B]`; None where all have."""
        return self.given.get(name)

    @staticmethod
    def cat(parts: Sequence[Cond]) -> Cond:
        """Put conditions of as many rows as they have samples after one another; a part need not have every name."""
        like = {name: value for part in parts for name, value in part.values.items()}
        whole = [part._with_names(like) for part in parts]
        values = {name: torch.cat([part.values[name] for part in whole]) for name in like}
        masked = {name for part in whole for name in part.given}
        given = {name: torch.cat([part._mask(name) for part in whole]) for name in masked}
        return Cond(values, given, parts[0].kept)

    def _with_names(self, like: Mapping[str, Tensor]) -> Cond:
        """Return the condition with every name of `like`, those it lacks being not given."""
        n = len(self)
        missing = {name: value.new_zeros((n, *value.shape[1:])) for name, value in like.items()
                   if name not in self.values}  # fmt: skip
        absent = {name: torch.zeros(n, dtype=torch.bool, device=value.device) for name, value in missing.items()}
        return Cond({**self.values, **missing}, {**self.given, **absent}, self.kept)

    def _mask(self, name: str) -> Tensor:
        value = self.values[name]
        return self.given.get(name, torch.ones(len(value), dtype=torch.bool, device=value.device)).expand(len(value))

    def _masked(self, change: Callable[[Tensor], Tensor]) -> Cond:
        given = {name: self._mask(name) if name in self.kept else change(self._mask(name)) for name in self.values}
        return Cond(self.values, given, self.kept)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Cond:
        values = {name: change(value) for name, value in self.values.items()}
        return Cond(values, {name: change(mask) for name, mask in self.given.items()}, self.kept)
