"""Sources: samples by number, wherever they are kept.

A training asks a source for rows and for nothing else, so which rows a step takes follows from its own random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner, kept_of
from fromnoise.errors import InputError
from fromnoise.rng import hashed, stream

if TYPE_CHECKING:
    from fromnoise.data.distribution import Distribution


class Batch(NamedTuple):
    """Some samples.

    Attributes:
        x: `[B, *S]`.
        cond: the condition of each, or None.
    """

    x: Tensor
    cond: Cond | None


@runtime_checkable
class Source(Protocol):
    """Samples by number, with what is known of them. `Dataset` is one."""

    @property
    def name(self) -> str:
        """For titles and messages."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape S of one sample."""
        ...

    @property
    def suggests(self) -> Mapping[str, Any]:
        """The recipe that fits this form of data, and settings to lay over it."""
        ...

    @property
    def conditioners(self) -> tuple[Conditioner, ...]:
        """What turns a user's words into the conditions that the samples have."""
        ...

    @property
    def distribution(self) -> Distribution | None:
        """What the samples were drawn from, where it is known."""
        ...

    @property
    def identity(self) -> dict[str, Any]:
        """What a run keeps of the data, and compares when it is resumed."""
        ...

    def __len__(self) -> int:
        """Return the number of samples."""
        ...

    def read(self, rows: slice | Tensor) -> Batch:
        """Return the samples of these rows, a slice or indices `[n]`, with their conditions."""
        ...

    def take(self, rows: Tensor) -> Source:
        """Return the source of some rows only, `[n]`."""
        ...

    def resident(self, device: torch.device, budget: float) -> Source:
        """Return the source with its samples on a device, if they take at most `budget` bytes; else as it is."""
        ...


_MEASURED = 2**28
"""How many numbers of a source are measured at most."""


def samples(data: Source | Tensor, most: int | None = None) -> Tensor:
    """Return the samples that something is measured on, `[n, *S]`: all of them where they have at most 2^28 numbers.

    Of more, as many rows as have that number are drawn without replacement; they are the same every time.

    Args:
        data: the samples.
        most: how many numbers instead.
    """
    return data if isinstance(data, Tensor) else data.read(measured_rows(data, most)).x


def measured_rows(data: Source, most: int | None = None) -> slice | Tensor:
    """Return the rows of the samples that something is measured on; see `samples`."""
    count = max(2, (most or _MEASURED) // max(math.prod(data.shape), 1))
    if len(data) <= count:
        return slice(None)
    return torch.randperm(len(data), generator=stream(0, "measured"))[:count].sort().values


def cond_for(cond: Cond | None, known: Sequence[Conditioner]) -> Cond | None:
    """Return conditions as far as these conditioners know them; None where they know none."""
    part = None if cond is None else cond.only([one.value for one in known])
    return None if part is None else Cond(part.values, part.given, kept_of(known))


def held_apart(source: Source, share: float, seed: int) -> tuple[Source, Source | None]:
    """Return the samples to train on, and those held out; None of the latter where the share is 0.

    Raises:
        InputError: if either would be empty.
    """
    if not share:
        return source, None
    if hasattr(source, "apart"):  # a source whose rows belong together says how
        return source.apart(share, seed)  # pyright: ignore[reportAttributeAccessIssue]
    rows, held = split(len(source), share, seed)
    if not len(rows) or not len(held):
        raise InputError(
            f"train: held_out = {share:g} of {len(source)} samples leaves none "
            f"{'to train on' if not len(rows) else 'out'}: take another share, or give more data"
        )
    return source.take(rows), source.take(held)


def of_label(source: Source, number: int) -> Source:
    """Return the samples of a source that have a label, by its number."""
    told = [_told(source, rows) for rows in torch.arange(len(source)).split(_TOGETHER)]
    labels, given = (torch.cat(each) for each in zip(*told, strict=True))
    return source.take(((labels == number) & given).nonzero().flatten())


_TOGETHER = 1024
"""How many samples are read at a time for their labels, where these cannot be had alone."""


def _told(source: Source, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the labels of rows, and which of them are given."""
    cond: Cond | None = getattr(source, "cond", None)
    cond = source.read(rows).cond if cond is None else cond.rows(rows)
    if cond is None or "label" not in cond.values:
        raise InputError(f"{source.name} has no labels")
    labels, given = cond.values["label"], cond.mask("label")
    given = torch.ones(1, dtype=torch.bool) if given is None else given
    return labels.expand(len(rows)), given.expand(len(rows))


def split(count: int, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split rows 0, 1, ..., count - 1 in those to train on and those held out, int64 each.

    Whether a row is held out follows from the seed and its number alone, so rows that are added later move none.

    Args:
        count: how many rows there are.
        share: of the rows to hold out, in [0, 1).
        seed: of the choice.
    """
    out = hashed(seed, "held out", count) < share
    return (~out).nonzero().flatten(), out.nonzero().flatten()
