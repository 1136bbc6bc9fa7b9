"""Codecs: between a sample as its user knows it and the tensor z that a denoiser sees, of about unit variance.

A codec is fitted to the data once; it belongs to the run (codec.safetensors), never to a checkpoint.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fromnoise.arrays import finest
from fromnoise.data.ends import Ends, ends_of
from fromnoise.data.source import Source, samples
from fromnoise.deprecated import alias, warn
from fromnoise.errors import InputError
from fromnoise.registry import Registry

codecs: Registry[Codec] = Registry("codec")


class Codec:
    """Between the data's units and the denoiser's.

    Attributes:
        shape: the shape S of z; () until the codec is fitted.
        ends: the numbers that are black and white in pictures of floats, as they were found in the data; else None.
    """

    shape: tuple[int, ...] = ()
    ends: Ends | None = None
    keeps_order: ClassVar[bool] = True
    """Whether a greater number of a sample is a greater one of z, in its place."""

    @property
    def suits(self) -> Mapping[str, Any]:
        """Settings of data, such as the size of pictures, that suit a codec which is no longer fitted to any shape."""
        return {}

    @property
    def of_bytes(self) -> bool:
        """Whether samples are whole numbers 0..255."""
        return self.spacing is not None

    @property
    def form(self) -> str:
        """What samples are, under which plots, reports, exports and commands find what fits: "points", "images"."""
        raise NotImplementedError

    @property
    def log_volume(self) -> float | None:
        """Log |d sample/d z|, in nats; None where the codec is not affine."""
        return None

    @property
    def density_of(self) -> str:
        """What densities of z are of, where they cannot be carried to samples."""
        return "z, in the denoiser's units"

    def fitted(self, data: Source | Tensor) -> Codec:
        """Return the codec measured on data, a source or `[N, *X]`."""
        raise NotImplementedError

    def check_fits(self, data: Source | Tensor) -> None:
        """Raise InputError if samples are none that the codec can ever be fitted to, before they are all read."""

    def shape_of(self, sample: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of z for samples of this shape; that of z as it was measured, unless a codec knows more."""
        return self.shape

    def sample_shape(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the shape of a sample whose z has this shape; None where the codec does not say."""
        return None

    def ndim(self, of_z: int) -> int:
        """Return how many axes a sample has, `of_z` being those of z; as many, unless a codec knows more."""
        return of_z

    def sizes(self) -> dict[str, Any]:
        """Return the settings of a network that follow from the codec, where a network has them and none are given."""
        return {}

    def store(self, x: Tensor) -> Tensor:
        """Return what is kept of samples `[N, *X]`: the slow and deterministic part, done once."""
        return x

    def into(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return z `[B, *S]`, float32, of stored samples; it may draw from the generator."""
        raise NotImplementedError

    def variance(self, stored: Tensor) -> Tensor | None:
        """Return the variance with which `into` draws each number of z, `[B, *S]`; None where it draws nothing."""
        return None

    def out(self, z: Tensor) -> Tensor:
        """Return samples `[B, *X]` in the user's units and type, of z `[B, *S]`."""
        raise NotImplementedError

    def cells(self, z: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return between which z lie the values that are rounded to the samples of z `[B, *S]`; None without rounding.

        The lowest and the highest of a sample's values take in all that lies beyond.
        """
        return None

    @property
    def spacing(self) -> float | None:
        """How far apart in z the values are to which samples are rounded; None without rounding."""
        return None

    def out_at(self, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        """Return x_t = alpha z + sigma eps in the user's units, to be looked at; of unit variance before `out`."""
        return self.out(x_t / math.hypot(alpha, sigma))

    def equals(self, other: Codec) -> bool:
        """Return whether another codec is the same map, but for rounding."""
        mine, its = self.tensors(), other.tensors()
        return (
            type(other) is type(self)
            and codecs.settings(other) == codecs.settings(self)
            and all(mine[name].shape == its[name].shape and _close(mine[name], its[name]) for name in mine)
        )

    def resumed(self, kept: Codec) -> Codec:
        """Return the codec with which a run goes on that was begun with another: itself, unless it chose by itself."""
        return self

    def mask(self, known: Tensor) -> Tensor:
        """Return which parts of z are known, bool `[*S]`, where these parts of a sample are.

        Raises:
            InputError: if z has no such parts.
        """
        raise InputError("parts of these samples cannot be kept: their codec mixes them")

    def shaped(self, shape: tuple[int, ...]) -> Codec:
        """Return the codec for z of this shape; itself, where it was fitted."""
        return self

    def to(self, device: torch.device) -> Codec:
        """Return the codec with its tensors on a device."""
        return self

    @property
    def store_key(self) -> str | None:
        """What `store` depends on, as a sum, where it is slow: what it gives is then kept in the cache under it.

        None where it is quick, as it mostly is.
        """
        return None

    def tensors(self) -> dict[str, Tensor]:
        """Return what was measured, as the run keeps it."""
        raise NotImplementedError

    def most_bytes(self, shape: tuple[int, ...]) -> int:
        """Return how many bytes `tensors` has at most where z has this shape; a file that has more is not read."""
        return 64 * math.prod(shape)

    def with_tensors(self, tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> Codec:
        """Return the codec with what a run kept of it.

        Raises:
            KeyError, ValueError: if something is missing or does not fit the shape.
        """
        raise NotImplementedError


@codecs.register("affine")
@dataclass(frozen=True, eq=False)
class Affine(Codec):
    """sample = mean + std z.

    Data of float32 are taken in and given back in float32. Whole numbers of 32 or more bits and float64 lose nothing:
    they are centred in float64, and samples come back in float64.

    Args:
        kind: "isotropic", a mean for each coordinate and one std for all, so that round stays round; "columns", a std
            for each coordinate too; "none", the identity; "auto", which `fitted` makes "columns" for a table and
            "isotropic" for all else. What never varies keeps its unit. A table is `[N, D]` with D > 2, or with two
            columns whose standard deviations differ by a factor of 4 or more.
    """

    kind: Literal["auto", "isotropic", "columns", "none"] = "auto"

    mean: ClassVar[Tensor] = torch.tensor(0.0)
    std: ClassVar[Tensor] = torch.tensor(1.0)
    chosen: ClassVar[bool] = False  # whether "auto" has chosen the kind

    @classmethod
    def given(cls, mean: Tensor | float, std: Tensor | float, shape: tuple[int, ...] = ()) -> Affine:
        """Return the codec of this mean and std, each of a sample's shape or `[]`."""
        std = torch.as_tensor(std)
        return cls("columns" if std.dim() else "isotropic")._with(torch.as_tensor(mean), std, shape)

    @property
    def form(self) -> str:
        return {1: "points", 3: "images"}.get(len(self.shape), "arrays")

    @property
    def log_volume(self) -> float:
        return float(self.std.double().log().expand(self.shape).sum())

    def fitted(self, data: Source | Tensor) -> Affine:
        x = samples(data)
        precise = torch.float64 if x.dtype == torch.float64 else torch.float32
        shape, ends, x = tuple(x.shape[1:]), ends_of(x) if x.dim() == 4 else None, x.double()
        if self.kind == "none":
            return self._with(torch.tensor(0.0, dtype=precise), torch.tensor(1.0, dtype=precise), shape, ends)
        mean, std = x.mean(0), x.std(0, correction=0)
        least = 1e-12 * x.abs().amax(0)  # below it only rounding varies
        of_each = torch.where(std > least, std, 1.0)
        kind = self.kind if self.kind != "auto" else "columns" if _is_table(of_each) else "isotropic"
        if kind == "isotropic":
            std, least = std.square().mean().sqrt(), least.max()
            std = torch.where(std > least, std, 1.0)
        else:
            std = of_each
        fitted = replace(self, kind=kind)._with(mean.to(precise), std.to(precise), shape, ends)
        object.__setattr__(fitted, "chosen", self.kind == "auto")
        return fitted

    def resumed(self, kept: Codec) -> Codec:
        return kept if self.chosen and isinstance(kept, Affine) else self

    def shape_of(self, sample: tuple[int, ...]) -> tuple[int, ...]:
        return sample

    def sample_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def into(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.exactly_into(stored).float()

    def exactly_into(self, x: Tensor) -> Tensor:
        """Return z of samples in the finer of their precision and the codec's."""
        x = x.to(torch.promote_types(x.dtype, self.mean.dtype))
        return (x - self.mean.to(x)) / self.std.to(x)

    def out(self, z: Tensor) -> Tensor:
        z = z.to(torch.promote_types(z.dtype, self.mean.dtype))
        return self.mean.to(z) + self.std.to(z) * z

    def out_at(self, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        return self.out(x_t) - (1 - alpha) * self.mean.to(x_t.device)  # of x_t only the signal has a mean

    def mask(self, known: Tensor) -> Tensor:
        return known

    def shaped(self, shape: tuple[int, ...]) -> Affine:
        return self if self.shape else self._with(self.mean, self.std, shape, self.ends)

    def to(self, device: torch.device) -> Affine:
        coarse = torch.float32 if finest(device) == torch.float32 else self.mean.dtype
        mean, std = (part.to(device, coarse) for part in (self.mean, self.std))
        return self._with(mean, std, self.shape, self.ends)

    def tensors(self) -> dict[str, Tensor]:
        ends = {} if self.ends is None else {"ends": torch.tensor(self.ends, dtype=torch.float64)}
        return {"mean": self.mean, "std": self.std, **ends}

    def with_tensors(self, tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> Affine:
        mean, std = tensors["mean"], tensors["std"]
        for part in (mean, std):
            if tuple(part.shape) not in ((), shape) or not torch.isfinite(part).all():
                raise ValueError(f"a mean or std of shape {list(part.shape)} for samples of {list(shape)}")
        if not bool((std > 0).all()) or mean.dtype != std.dtype or not std.is_floating_point():
            raise ValueError("a std that is not positive, or of another type than the mean")
        ends = tensors.get("ends")
        if ends is not None and (tuple(ends.shape) != (2,) or not torch.isfinite(ends).all()):
            raise ValueError(f"black and white of shape {list(ends.shape)}")
        return self._with(mean, std, shape, None if ends is None else (float(ends[0]), float(ends[1])))

    def equals(self, other: Codec) -> bool:
        return isinstance(other, Affine) and _close(self.mean, other.mean) and _close(self.std, other.std)

    def _with(self, mean: Tensor, std: Tensor, shape: tuple[int, ...], ends: Ends | None = None) -> Affine:
        made = copy.copy(self)
        for name, value in (("mean", mean), ("std", std), ("shape", shape), ("ends", ends)):
            object.__setattr__(made, name, value)
        return made


def _is_table(std: Tensor) -> bool:
    """Return whether samples of these standard deviations `[*S]` are rows of a table, and not points in the plane."""
    return std.dim() == 1 and (len(std) > 2 or bool(std.max() >= 4 * std.min()))


def _close(u: Tensor, v: Tensor) -> bool:
    return torch.allclose(u.cpu().double(), v.cpu().double(), rtol=1e-6, atol=0.0)


def codec_of(scaling: Any) -> Any:
    """Return the codec for what used to be called a scaling: "isotropic", "columns", "none", or an object."""
    return codecs.build({"name": "affine", "kind": scaling}) if isinstance(scaling, str) else scaling


class Scaling:
    """`Affine` as it was called: `Scaling(mean, std)` and `Scaling.of(x, kind)`."""

    def __new__(cls, mean: Tensor | float = 0.0, std: Tensor | float = 1.0) -> Affine:  # pyright: ignore[reportInconsistentConstructor]
        warn("data.Scaling", "data.Affine.given")
        return Affine.given(mean, std)


alias(Scaling, "of", "data.Affine(kind).fitted(x)", lambda x, kind="isotropic": codec_of(kind).fitted(x))
