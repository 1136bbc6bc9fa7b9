"""Sources made of another source: some of its rows, its mirror images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import torch
from pydantic import BaseModel, Field, StrictBool, ValidationError
from torch import Tensor
from torch.nn import functional as F

from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner
from fromnoise.data.distribution import Distribution
from fromnoise.data.source import Batch, held_apart
from fromnoise.errors import InputError
from fromnoise.pictures_cond import Image
from fromnoise.registry import STRICT, explain


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
        noise: the most noise on these in training.

    Raises:
        InputError: if the samples are no pictures of whole numbers, or are not larger.
    """

    base: Any
    size: int
    noise: float = 0.0

    def __post_init__(self) -> None:
        shape = self.base.shape
        if len(shape) != 3 or self.base.read(slice(0, 1)).x.dtype != torch.uint8:
            raise InputError("data.from_size is for pictures of whole numbers 0..255")
        if not 1 <= self.size < min(shape[1:]):
            raise InputError(f"data.from_size = {self.size} must be smaller than the pictures, {list(shape[1:])}")

    @property
    def identity(self) -> dict[str, Any]:
        """That of the pictures, and what the smaller ones are."""
        return {**self.base.identity, "from_size": self.size, **({"from_noise": self.noise} if self.noise else {})}

    @property
    def conditioners(self) -> tuple[Conditioner, ...]:
        """Those of the pictures, and that of the smaller ones."""
        return (*self.base.conditioners, self._small)

    @property
    def _small(self) -> Image:
        return Image((self.base.shape[0], self.size, self.size), self.noise)

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
        kept, held = held_apart(self.base, share, seed)
        return replace(self, base=kept), replace(self, base=held)


def shrunk(x: Tensor, size: int) -> Tensor:
    """Return pictures `[n, C, H, W]` uint8 of another height and width, each pixel the mean of those it covers."""
    return F.interpolate(x.float(), size=(size, size), mode="area").round().to(torch.uint8)


_Own = TypeVar("_Own", bound="Seen")


class Seen(BaseModel):
    """How pictures are trained on, whatever they are read from.

    Attributes:
        flip: train on every picture's mirror image too.
        from_size: train to enlarge: the pictures at this height and width are the condition; 0 for no such.
        from_noise: the most noise on these in training; see `Image`.
    """

    model_config = STRICT

    flip: StrictBool = False
    from_size: Annotated[int, Field(ge=0, le=8192)] = 0
    from_noise: Annotated[float, Field(ge=0, le=1)] = 0.0

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise explain(error, "data", type(self).model_fields) from None

    @classmethod
    def among(cls: type[_Own], settings: Mapping[str, Any]) -> tuple[_Own, dict[str, Any]]:
        """Return these of some settings, and the others."""
        own = {key: value for key, value in settings.items() if key in cls.model_fields}
        return cls(**own), {key: value for key, value in settings.items() if key not in own}

    def of(self, source: Any) -> Any:
        """Return pictures with their mirror images, or with smaller ones as conditions, or as they are."""
        source = Flipped(source) if self.flip else source
        if self.from_noise and not self.from_size:
            raise InputError("data.from_noise is noise on smaller pictures: set data.from_size, their size, too")
        return FromSmall(source, self.from_size, self.from_noise) if self.from_size else source


def as_alike(held: Any, kept: Any) -> Any:
    """Return held-out pictures with their mirror images where those kept have theirs."""
    if isinstance(kept, FromSmall) and isinstance(held, FromSmall):
        return replace(held, base=as_alike(held.base, kept.base))
    return Flipped(held) if isinstance(kept, Flipped) and not isinstance(held, Flipped) else held


def every_row(source: Any) -> Any:
    """Return the source of which another one is some rows, mirror images, or smaller ones; itself where it is none."""
    while isinstance(source, Rows | Flipped | FromSmall):
        source = source.base
    return source


def inmost(source: Any) -> Any:
    """Return the whole source that is seen with mirror images or smaller ones; itself where it is no such view."""
    while isinstance(source, Flipped | FromSmall):
        source = source.base
    return source
