"""A data set in memory: samples, perhaps conditions, perhaps the distribution they were drawn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from fromnoise.arrays import finest
from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner, check_cond, conditions_of, find_label, label_names_of, labels_of
from fromnoise.data.distribution import Distribution
from fromnoise.data.numbers import as_data, sum_of
from fromnoise.data.pixels import suggested_for
from fromnoise.data.source import Batch, cond_for
from fromnoise.deprecated import Renamed
from fromnoise.errors import InputError
from fromnoise.text_cond import with_captions


@dataclass(frozen=True, eq=False, init=False)
class Dataset:
    """A `Source` in memory: samples with what is known of them.

    Args:
        x: `[N, *S]`, a tensor, array or list in the data's own units.
        labels: of each sample, its class's number or name; or None.
        label_names: one name for each class; the labels themselves when not given.
        name: for titles and messages.
        config: how to make it again (`fromnoise.data.make`), or None where only the samples are known.
        distribution: what they were drawn from, or None.
        cond: the condition of each sample, of N rows; made from `labels` where these are given.
        conditioners: what turns a user's words into such conditions.
        made: the sum of what `config` makes; taken of the samples when not given.

    Attributes:
        x: `[N, *S]`, float64 where float32 would round it, else float32; pictures of whole numbers 0..255 stay uint8.
        labels: `[N]` int64 in 0..classes-1, or None.

    Raises:
        InputError: if the samples are no finite numbers.
        LabelError: if labels or conditions cannot be read.
    """

    x: Tensor
    labels: Tensor | None
    label_names: tuple[str, ...]
    name: str
    config: dict[str, Any] | None
    distribution: Distribution | None
    cond: Cond | None
    conditioners: tuple[Conditioner, ...]
    made: str | None

    law, fresh, even = Renamed("distribution"), Renamed("draw"), Renamed("draw_stratified")

    def __init__(
        self,
        x: Any,
        labels: Any = None,
        label_names: Sequence[str] = (),
        name: str = "data",
        *,
        config: dict[str, Any] | None = None,
        distribution: Distribution | None = None,
        cond: Cond | None = None,
        conditioners: Sequence[Conditioner] = (),
        made: str | None = None,
    ) -> None:
        x = _checked(as_data(x))
        if cond is not None:
            if len(cond) != len(x):
                raise InputError(f"{len(cond)} conditions were given for {len(x)} samples: give one for each")
            check_cond(cond, conditioners)
            cond, label_names = cond.expand(len(x)), label_names_of(conditioners)
        elif labels is not None:
            cond, own = labels_of(labels, tuple(label_names))
            if len(cond) != len(x):
                raise InputError(f"labels must be [{len(x)}], one for each sample, not [{len(cond)}]")
            conditioners, label_names = (own,), own.names
        self._set(x=x, labels=None if cond is None else cond.values.get("label"), label_names=tuple(label_names))
        self._set(name=name, config=config, distribution=distribution, cond=cond, conditioners=tuple(conditioners))
        self._set(made=self._sums[0] if config is not None and made is None else made)

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def conditioned(self, words: Any) -> Dataset:
        """Return the same samples with a condition each.

        Args:
            words: N labels, names or whole numbers, or vectors `[N, D]`.

        Raises:
            LabelError: if they cannot be read.
        """
        cond, conditioner = conditions_of(words)
        return Dataset(self.x, name=self.name, cond=cond, conditioners=(conditioner,))

    def captioned(self, captions: Sequence[str], encoder: str | None = None) -> Dataset:
        """Return the same samples with a caption each, "" for none, besides conditions of other kinds that they have.

        Args:
            captions: N texts.
            encoder: a frozen encoder of these: its folder, or the name of an installed package or of a model in the
                Hugging Face cache; without one the network has its own, which is trained along.

        Raises:
            LabelError: if they are no texts, or not one for each sample.
            InputError: if there is no such encoder.
        """
        cond, text = with_captions(self.cond, captions, len(self), encoder)
        others = (one for one in self.conditioners if one.value != text.value)
        return Dataset(self.x, name=self.name, cond=cond, conditioners=(*others, text))

    @property
    def suggests(self) -> Mapping[str, Any]:
        """The recipe that fits this form of data, and settings to lay over it."""
        if self.x.dim() < 4:
            return {"recipe": "points"}
        codec = {} if self.x.dtype == torch.uint8 else {"codec": {"name": "affine"}}
        return {**suggested_for(len(self), self.shape), **codec}

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
        """What a run keeps of the data: how to make them again, or their name, number and sums."""
        of_all, of_conditions = self._sums
        if self.config is not None and of_all == self.made:  # they are still what was made
            return self.config
        known = {"name": self.name, "n": len(self), "sha256": sum_of([self.x])}
        return known if of_conditions is None else {**known, "conditions": of_conditions}

    @property
    def _sums(self) -> tuple[str, str | None]:
        """The sum of samples and conditions, and that of the conditions alone."""
        parts = [] if self.cond is None else [part for _, part in sorted(self.cond.tensors().items())]
        return sum_of([self.x, *parts]), sum_of(parts) if parts else None

    def __len__(self) -> int:
        return len(self.x)

    def __repr__(self) -> str:
        size = f"{len(self):,} x {list(self.shape)}"
        few = 0 < self.classes <= 6
        known = [f"labels {', '.join(self.label_names)}" if few else f"{self.classes:,} labels"] if self.classes else []
        known += ["of known distribution"] if self.distribution is not None else []
        return f"Dataset({', '.join([self.name, size, *known])})"

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
        names = self.label_names if labels is not None else ()
        return Dataset(x, labels if self.classes else None, names, self.name, distribution=self.distribution)


def _checked(x: Tensor) -> Tensor:
    """Return samples as they are, if there are some and all are finite."""
    if x.dim() < 2 or 0 in x.shape:
        raise InputError(f"data must be [N, *S] with N at least 1 and no empty axis, not of shape {list(x.shape)}")
    if not torch.isfinite(x).all():
        rows = (~torch.isfinite(x.flatten(1)).all(1)).nonzero().flatten()
        raise InputError(f"data must be finite: {len(rows)} rows are not, the first is row {int(rows[0])}")
    return x
