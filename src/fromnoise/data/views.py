"""Sources made of another source: some of its rows, its mirror images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner
from fromnoise.data.distribution import Distribution
from fromnoise.data.source import Batch, held_apart
from fromnoise.errors import InputError
from fromnoise.pictures_cond import Image


class _View:
    """What a view does not say itself its base says."""

    base: Any

    @property
    def name(self) -> str:
        """For titles and messages."""
        return self.base.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape S of one sample."""
        return self.base.shape

    @property
    def suggests(self) -> Mapping[str, Any]:
        """The recipe that fits this form of data."""
        return self.base.suggests

    @property
    def conditioners(self) -> tuple[Conditioner, ...]:
        """What turns a user's words into the conditions that the samples have."""
        return self.base.conditioners

    @property
    def distribution(self) -> Distribution | None:
        """What the samples were drawn from, where it is known."""
        return self.base.distribution

    @property
    def identity(self) -> dict[str, Any]:
        """What a run keeps of the data."""
        return self.base.identity

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("base", "rows"):
            raise AttributeError(name)
        return getattr(self.base, name)

    def take(self, rows: Tensor) -> Rows:
        """Return the source of some rows only, `[n]`."""
        return Rows(self, rows)

    def resident(self, device: torch.device, budget: float) -> Any:
        """Return the source as it is."""
        return self


@dataclass(frozen=True, eq=False)
class Rows(_View):
    """Some rows of a source, as a source.

    Attributes:
        base: the source.
        rows: their numbers there, `[n]`.
    """

    base: Any
    rows: Tensor

    @property
    def cond(self) -> Cond | None:
        """The conditions of the rows."""
        return None if self.base.cond is None else self.base.cond.rows(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: slice | Tensor) -> Batch:
        """Return the samples of these rows, a slice or indices `[n]`, with their conditions."""
        return self.base.read(self.rows[rows])


@dataclass(frozen=True, eq=False)
class Flipped(_View):
    """Pictures and their mirror images: row N + i is row i with left and right exchanged.

    Attributes:
        base: N pictures.

    Raises:
        InputError: if the samples are no pictures.
    """

    base: Any

    def __post_init__(self) -> None:
        if len(self.base.shape) != 3:
            raise InputError(f"only pictures [C, H, W] can be flipped, not samples of shape {list(self.base.shape)}")

    @property
    def identity(self) -> dict[str, Any]:
        """That of the pictures, and that they are flipped."""
        return {**self.base.identity, "flip": True}

    @property
    def cond(self) -> Cond | None:
        """The conditions of pictures and mirror images."""
        every = torch.arange(len(self))
        return None if self.base.cond is None else self.base.cond.rows(every % len(self.base))

    def __len__(self) -> int:
        return 2 * len(self.base)

    def read(self, rows: slice | Tensor) -> Batch:
        """Return the samples of these rows, a slice or indices `[n]`, with their conditions."""
        at = torch.arange(len(self))[rows] if isinstance(rows, slice) else rows.cpu()
        x, cond = self.base.read(at % len(self.base))
        mirrored = (at >= len(self.base)).to(x.device)[:, None, None, None]
        return Batch(torch.where(mirrored, x.flip(3), x), cond)

    def apart(self, share: float, seed: int) -> tuple[Any, Any]:
        """Hold pictures out together with their mirror images; see `held_apart`."""
        kept, held = held_apart(self.base, share, seed)
        return Flipped(kept), held


@dataclass(frozen=True, eq=False)
class FromSmall(_View):
    """Pictures with a smaller version of each as their condition, for a model that enlarges: one stage of a cascade.

    Attributes:
        base: the pictures.
        size: the height and width of the smaller ones.

    Raises:
        InputError: if the samples are no pictures of whole numbers, or are not larger.
    """

    base: Any
    size: int

    def __post_init__(self) -> None:
        shape = self.base.shape
        if len(shape) != 3 or self.base.read(slice(0, 1)).x.dtype != torch.uint8:
            raise InputError("data.from_size is for pictures of whole numbers 0..255")
        if not 1 <= self.size < min(shape[1:]):
            raise InputError(f"data.from_size = {self.size} must be smaller than the pictures, {list(shape[1:])}")

    @property
    def identity(self) -> dict[str, Any]:
        """That of the pictures, and the size of the smaller ones."""
        return {**self.base.identity, "from_size": self.size}

    @property
    def conditioners(self) -> tuple[Conditioner, ...]:
        """Those of the pictures, and that of the smaller ones."""
        return (*self.base.conditioners, self._small)

    @property
    def _small(self) -> Image:
        return Image(shape=(self.base.shape[0], self.size, self.size))

    cond = None  # they are made as they are read

    def __len__(self) -> int:
        return len(self.base)

    def read(self, rows: slice | Tensor) -> Batch:
        """Return the samples of these rows, a slice or indices `[n]`, with their conditions."""
        x, cond = self.base.read(rows)
        values = {} if cond is None else dict(cond.values)
        values["image"] = self._small.read(shrunk(x, self.size))
        return Batch(x, Cond(values, {} if cond is None else cond.given))

    def apart(self, share: float, seed: int) -> tuple[Any, Any]:
        """Hold out what the pictures would hold out; see `held_apart`."""
        return tuple(FromSmall(part, self.size) for part in held_apart(self.base, share, seed))  # pyright: ignore[reportReturnType]


def shrunk(x: Tensor, size: int) -> Tensor:
    """Return pictures `[n, C, H, W]` uint8 of another height and width, each pixel the mean of those it covers."""
    return F.interpolate(x.float(), size=(size, size), mode="area").round().to(torch.uint8)


def seen(source: Any, flip: bool = False, from_size: int = 0) -> Any:
    """Return pictures as they are trained on: with their mirror images, with smaller ones as conditions."""
    source = Flipped(source) if flip else source
    return FromSmall(source, from_size) if from_size else source


def as_alike(held: Any, kept: Any) -> Any:
    """Return held-out pictures with their mirror images where those kept have theirs."""
    if isinstance(kept, FromSmall) and isinstance(held, FromSmall):
        return FromSmall(as_alike(held.base, kept.base), held.size)
    return Flipped(held) if isinstance(kept, Flipped) and not isinstance(held, Flipped) else held


def inmost(source: Any) -> Any:
    """Return the whole source that is seen with mirror images or smaller ones; itself where it is no such view."""
    while isinstance(source, Flipped | FromSmall):
        source = source.base
    return source
