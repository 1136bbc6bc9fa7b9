"""Pictures of whole numbers 0..255, between which and a denoiser's units the codec `Pixels` lies."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from fromnoise.data.codec import Codec, codecs
from fromnoise.data.source import Source, samples
from fromnoise.errors import InputError


@codecs.register("pixels")
@dataclass(frozen=True, eq=False)
class Pixels(Codec):
    """pixel = 255 (mean + std z), clamped to 0..255 and rounded in `out` alone.

    Args:
        kind: "scaled", one mean and one std for all pixels, so that z has about unit variance; "channels", a mean and
            std for each channel; "signed", mean = std = 1/2, so that z lies in [-1, 1], as for the published models.
    """

    kind: Literal["scaled", "channels", "signed"] = "scaled"

    mean: ClassVar[Tensor] = torch.tensor(0.5)
    std: ClassVar[Tensor] = torch.tensor(0.5)

    @property
    def of_bytes(self) -> bool:
        return True

    @property
    def form(self) -> str:
        return "images"

    @property
    def log_volume(self) -> float:
        """Log |d pixel/d z|, before rounding."""
        return float((255 * self.std.double()).log().expand(self.shape).sum())

    def fitted(self, data: Source | Tensor) -> Pixels:
        x = samples(data)
        if x.dtype != torch.uint8 or x.dim() != 4:
            raise InputError(
                f"the codec pixels is for pictures of whole numbers 0..255, [N, C, H, W] uint8, not for {x.dtype} of "
                f"shape {list(x.shape)}: take the codec affine"
            )
        shape = tuple(x.shape[1:])
        if self.kind == "signed":
            return self._with(torch.tensor(0.5), torch.tensor(0.5), shape)
        counts = torch.stack([torch.bincount(channel.flatten(), minlength=256) for channel in x.unbind(1)]).double()
        counts = counts if self.kind == "channels" else counts.sum(0, keepdim=True)
        levels = torch.arange(256, dtype=torch.float64) / 255
        weights = counts / counts.sum(1, keepdim=True)
        mean = (weights * levels).sum(1)
        std = (weights * (levels - mean[:, None]).square()).sum(1).sqrt()
        std = torch.where(std > 0, std, 1.0)  # what never varies keeps its unit
        mean, std = (part.float()[:, None, None] if len(part) > 1 else part.float()[0] for part in (mean, std))
        return self._with(mean, std, shape)

    def shape_of(self, sample: tuple[int, ...]) -> tuple[int, ...]:
        return sample

    def sample_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return shape

    def store(self, x: Tensor) -> Tensor:
        check_levels(x, "these samples")
        return x

    def into(self, stored: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, std = self.mean.to(stored.device), self.std.to(stored.device)
        return (stored.float() - 255 * mean) / (255 * std)

    def out(self, z: Tensor) -> Tensor:
        if not torch.isfinite(z).all():
            raise InputError(
                "these samples are not finite, and no pixels: less guidance, more steps or another sampler may help"
            )
        return self.levels(z).round().clamp(0, 255).to(torch.uint8)

    def levels(self, z: Tensor) -> Tensor:
        """Return the pixels of z, `[B, *S]`, neither rounded nor clamped."""
        z = z if z.dtype == torch.float64 else z.float()
        return 255 * (self.mean.to(z) + self.std.to(z) * z)

    def cells(self, z: Tensor) -> tuple[Tensor, Tensor]:
        level, unit = self.levels(z).round(), 1 / (255 * self.std.to(z))
        low, high = (z + (level + half - self.levels(z)) * unit for half in (-0.5, 0.5))
        return low.masked_fill(level <= 0, -math.inf), high.masked_fill(level >= 255, math.inf)

    @property
    def spacing(self) -> float:
        return 1 / (255 * float(self.std.double().mean()))

    def out_at(self, x_t: Tensor, alpha: float, sigma: float) -> Tensor:
        return self.out(x_t / max(1.0, math.hypot(alpha, sigma)))

    def mask(self, known: Tensor) -> Tensor:
        return known

    def shaped(self, shape: tuple[int, ...]) -> Pixels:
        return self if self.shape else self._with(self.mean, self.std, shape)

    def to(self, device: torch.device) -> Pixels:
        return self._with(self.mean.to(device), self.std.to(device), self.shape)

    def tensors(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "std": self.std}

    def with_tensors(self, tensors: Mapping[str, Tensor], shape: tuple[int, ...]) -> Pixels:
        mean, std = tensors["mean"], tensors["std"]
        for part in (mean, std):
            fits = tuple(part.shape) in ((), (*shape[:1], 1, 1)) and part.dtype == torch.float32
            if not fits or not torch.isfinite(part).all():
                raise ValueError(f"a mean or std {part.dtype} of shape {list(part.shape)} for pictures {list(shape)}")
        if not bool((std > 0).all()):
            raise ValueError("a std that is not positive")
        return self._with(mean, std, shape)

    def _with(self, mean: Tensor, std: Tensor, shape: tuple[int, ...]) -> Pixels:
        made = copy.copy(self)
        for name, value in (("mean", mean), ("std", std), ("shape", shape)):
            object.__setattr__(made, name, value)
        return made


_NO_LEVELS = 2.0
"""What pictures in 0..255 exceed somewhere, and pictures in -1..1 nowhere, even where they overstep that."""


def check_levels(x: Tensor, what: str) -> None:
    """Refuse floats within -1..1 where pixels 0..255 are meant.

    Args:
        x: samples `[n, *S]` of any type.
        what: to call them.

    Raises:
        InputError: saying how to bring them there.
    """
    x = x.detach()
    if x.is_floating_point() and x.numel() and 0 < float(x.abs().max()) <= _NO_LEVELS:
        low = "-1" if float(x.min()) < -0.5 else "0"
        way = "127.5 * (x + 1)" if low == "-1" else "255 * x"
        raise InputError(f"{what} lie in about {low}..1, and the pictures are whole numbers 0..255: give {way}")


def suggested_for(count: int, shape: tuple[int, ...]) -> dict[str, Any]:
    """Return what suits so many pictures of a shape [C, H, W]: the recipe `image`, shorter for the smallest of them.

    Of fewer than a hundred none are held out.
    """
    train: dict[str, Any] = {"steps": 1000, "save_every": 100} if math.prod(shape) <= 64 else {}
    return {"recipe": "image", "train": {**train, **({"held_out": 0.0} if count < 100 else {})}}
