"""The conditioner of pictures: a picture as a condition, such as the small one that a cascade enlarges."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fromnoise.conditioners import Conditioner, Random, conditioners
from fromnoise.errors import LabelError

_Side = Annotated[int, Field(ge=1, le=2**16)]


@conditioners.register("image")
@dataclass(frozen=True)
class Image(Conditioner):
    """Pictures as conditions: whole numbers 0..255, taken to -1..1; floats are in -1..1 already.

    It is never left out in training, so guidance goes towards a label and keeps the picture.

    Args:
        shape: channels, height and width.
        noise: the most noise that training puts on them, a standard deviation in these units, of which each picture
            gets a part drawn uniformly: so a model does not trust their pixels more than an earlier model's samples
            deserve. Sampling adds none.

    Source: Ho et al. 2021, "Cascaded diffusion models", sections 2 (a picture of low resolution as condition) and 4.1
    (noise on it; there the network is told how much).
    """

    shape: tuple[_Side, _Side, _Side]
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0

    value = "image"
    ndim = 3
    droppable = False

    def takes(self, words: Any) -> bool:
        return isinstance(words, Tensor | np.ndarray) and words.ndim in (3, 4)

    def read(self, words: Any) -> Tensor:
        """Return pictures, float32 `[c, h, w]` or `[n, c, h, w]`."""
        try:
            x = torch.as_tensor(words)
        except (TypeError, ValueError, RuntimeError):
            raise LabelError(f"a picture is an array {list(self.shape)}, not {type(words).__name__}") from None
        if x.dim() not in (3, 4) or tuple(x.shape[-3:]) != self.shape:
            raise LabelError(
                f"pictures that are conditions have the shape {list(self.shape)}, or [n] of them, not {list(x.shape)}"
            )
        if x.dtype == torch.uint8:
            return x.cpu().float() / 127.5 - 1
        if not x.is_floating_point():
            raise LabelError(f"pictures are whole numbers 0..255 in uint8, or floats in -1..1, not {x.dtype}")
        x = x.detach().cpu().float()
        if not bool((x.abs() <= 1 + 1e-6).all()):
            raise LabelError("pictures of floats lie in -1..1, and these do not: give them as uint8")
        if x.numel() and 0 <= float(x.min()) < float(x.max()):
            warnings.warn("pictures of floats are taken to lie in -1..1: if 0 is black, give 2 * x - 1", stacklevel=2)
        return x

    def check(self, values: Tensor) -> None:
        if values.dtype != torch.float32 or tuple(values.shape[1:]) != self.shape or not torch.isfinite(values).all():
            raise LabelError(f"pictures that are conditions are not finite and {list(self.shape)} each")

    @property
    def augments(self) -> bool:
        return self.noise > 0

    def augmented(self, values: Tensor, draws: Random) -> Tensor:
        if not self.noise:
            return values
        std = self.noise * draws.uniform("noise of conditions' level").to(values).reshape(-1, 1, 1, 1)
        return values + std * draws.normal("noise of conditions", values)

    def sizes(self) -> dict[str, Any]:
        return {"image": list(self.shape)}

    def check_fits(self, other: Conditioner | None) -> None:
        if not isinstance(other, Image) or other.shape != self.shape:
            had = f"of {list(other.shape)}" if isinstance(other, Image) else "none"
            raise LabelError(f"the network takes pictures of {list(self.shape)} as conditions, and the data have {had}")
