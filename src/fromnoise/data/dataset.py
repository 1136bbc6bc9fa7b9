"""A data set in memory: samples, perhaps conditions, perhaps the distribution they were drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fromnoise.arrays import finest
from fromnoise.cond import Cond, Conditioner, Labels, conditions_of, find_label, label_names_of
from fromnoise.data.distribution import Distribution
from fromnoise.data.source import Batch, cond_for
from fromnoise.deprecated import Renamed
from fromnoise.errors import InputError, LabelError


@dataclass(frozen=True, eq=False)
class Dataset:
    """A `Source` in memory: samples with what is known of them.

    Args:
        x: `[N, *S]`, float32 or float64, in the data's own units.
        labels: `[N]` int64 in 0..classes-1, or None.
        label_names: one name for each class.
        name: for titles and messages.
        config: how to make it again (`fromnoise.data.make`), or None where only the samples are known.
        distribution: what they were drawn from, or None.
        cond: the condition of each sample, of N rows; made from `labels` where these are given.
        conditioners: what turns a user's words into such conditions.
    """

    x: Tensor
    labels: Tensor | None = None
    label_names: tuple[str, ...] = ()
    name: str = "data"
    config: dict[str, Any] | None = None
    distribution: Distribution | None = None
    cond: Cond | None = None
    conditioners: tuple[Conditioner, ...] = ()

    law, fresh, even = Renamed("distribution"), Renamed("draw"), Renamed("draw_stratified")

    def __post_init__(self) -> None:
        if self.x.dim() < 2 or len(self.x) == 0:
            raise InputError(f"data must be [N, *S] with N at least 1, not of shape {list(self.x.shape)}")
        if not torch.isfinite(self.x).all():
            rows = (~torch.isfinite(self.x.flatten(1)).all(1)).nonzero().flatten()
            raise InputError(f"data must be finite: {len(rows)} rows are not, the first is row {int(rows[0])}")
        if self.cond is not None:
            if len(self.cond) != len(self.x):
                raise InputError(f"{len(self.cond)} conditions were given for {len(self.x)} samples: give one for each")
            object.__setattr__(self, "labels", self.cond.values.get("label"))
            object.__setattr__(self, "label_names", label_names_of(self.conditioners))
        elif self.labels is not None:
            if self.labels.shape != self.x.shape[:1]:
                raise InputError(f"labels must be [{len(self.x)}], one for each sample, not {list(self.labels.shape)}")
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < 0 or high >= len(self.label_names):
                raise LabelError(f"labels must lie in 0..{len(self.label_names) - 1}, not {low}..{high}")
            names = Labels(names=tuple(self.label_names))
            object.__setattr__(self, "cond", Cond({names.value: self.labels}))
            object.__setattr__(self, "conditioners", (names,))

    def conditioned(self, words: Any) -> Dataset:
        """Return the same samples with a condition each.

        Args:
            words: N labels, names or whole numbers, or vectors `[N, D]`.

        Raises:
            LabelError: if they cannot be read.
        """
        cond, conditioner = conditions_of(words)
        return Dataset(self.x, name=self.name, cond=cond, conditioners=(conditioner,))

    @property
    def suggests(self) -> Mapping[str, Any]:
        """The recipe that fits this form of data, and settings to lay over it."""
        return {"recipe": "points"}

    def read(self, rows: slice | Tensor) -> Batch:
        """Return the samples of these rows, a slice or indices `[n]`, with their conditions."""
        x = self.x[rows] if isinstance(rows, slice) else self.x.index_select(0, rows.to(self.x.device))
        return Batch(x, None if self.cond is None else self.cond.rows(rows))

    def resident(self, device: torch.device, budget: float) -> Dataset:
        """Return the data on a device, if they take at most `budget` bytes there; else as they are."""
        same = self.x.device == device
        fits = self.x.nbytes <= budget and torch.promote_types(self.x.dtype, finest(device)) == finest(device)
        if same or not fits:
            return self
        return replace(self, x=self.x.to(device), cond=None if self.cond is None else self.cond.to(device))

    def cond_for(self, known: Sequence[Conditioner]) -> Cond | None:
        """Return the samples' conditions as far as these conditioners know them; None where they know none."""
        return cond_for(self.cond, known)

    def take(self, rows: Tensor) -> Dataset:
        """Return the samples of these rows `[n]`, with their conditions."""
        cond = None if self.cond is None else self.cond.rows(rows)
        return Dataset(self.x[rows], name=self.name, cond=cond, conditioners=self.conditioners)

    @property
    def identity(self) -> dict[str, Any]:
        """What a run keeps of the data: how to make them again, or their name, number and sum."""
        x = self.x.contiguous().cpu()
        return self.config or {
            "name": self.name, "n": len(self), "sha256": hashlib.sha256(x.numpy().tobytes()).hexdigest()[:16]
        }  # fmt: skip

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape S of one sample."""
        return tuple(self.x.shape[1:])

    @property
    def classes(self) -> int:
        """How many labels there are; 0 without labels."""
        return len(self.label_names)

    def label(self, name: str | int) -> int:
        """Return the number of a label given by name or number.

        Raises:
            LabelError: if there is no such label.
        """
        return find_label(name, self.label_names)

    def only(self, label: str | int) -> Dataset:
        """Return the samples of one label, as data without labels."""
        number = self.label(label)
        assert self.labels is not None
        name = f"{self.name}:{self.label_names[number]}"
        part = self.distribution.only(number) if self.distribution is not None else None
        return Dataset(self.x[self.labels == number], name=name, distribution=part)

    def draw(self, n: int, seed: int = 0) -> Dataset:
        """Draw n new samples from the true distribution, as often as wanted.

        Raises:
            InputError: if only the samples are known.
        """
        return self._instead(*self._truth().draw(n, seed))

    def draw_stratified(self, n: int, seed: int = 0) -> Dataset:
        """Draw n stratified samples, which cover the true distribution evenly: the truth with little sampling noise.

        Raises:
            InputError: if only the samples are known.
        """
        return self._instead(*self._truth().draw_stratified(n, seed))

    def _truth(self) -> Distribution:
        if self.distribution is None:
            raise InputError(f"the distribution of {self.name!r} is not known, only its {len(self)} samples")
        return self.distribution

    def _instead(self, x: Tensor, labels: Tensor | None) -> Dataset:
        return replace(self, x=x, labels=labels if self.classes else None, cond=None, conditioners=(), config=None)
