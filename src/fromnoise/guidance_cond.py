"""The conditioner of distilled models that were taught by a guided one: the scale of its guidance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from fromnoise.conditioners import Conditioner, Random, conditioners
from fromnoise.errors import InputError, LabelError

_Scale = Annotated[float, Field(ge=-1000, le=1000)]


@conditioners.register("guidance")
@dataclass(frozen=True)
class Scale(Conditioner):
    """A guidance scale as a condition, never left out in training; where none is given it is the usual one.

    Args:
        low: the smallest scale that was trained.
        high: the largest.

    Source: Meng et al. 2023, "On distillation of guided diffusion models", section 3.1.
    """

    low: _Scale
    high: _Scale

    value = "guidance"
    ndim = 0
    droppable = False
    needed = False

    def __post_init__(self) -> None:
        if not -1000 <= self.low <= self.high <= 1000:
            raise InputError(
                f"guidance scales go from low to high, at most 1,000 from 0, not from {self.low:g} to {self.high:g}"
            )

    @property
    def usual(self) -> float:
        """The scale where none is given: 1, no guidance, or the nearest that was trained."""
        return min(max(1.0, self.low), self.high)

    def takes(self, words: Any) -> bool:
        return False  # a number alone may be a label

    def read(self, words: Any) -> Tensor:
        """Return scales, float32 `[]` or `[n]`."""
        try:
            scales = torch.as_tensor(words, dtype=torch.float32).detach().cpu()
        except (TypeError, ValueError, RuntimeError):
            raise LabelError(f"a guidance scale is a number, not {type(words).__name__}") from None
        if scales.dim() > 1:
            raise LabelError(f"guidance scales are one number or [n], not of shape {list(scales.shape)}")
        self.check(scales)
        return scales

    def check(self, values: Tensor) -> None:
        outside = values[~((values >= self.low - 1e-6) & (values <= self.high + 1e-6))]
        if len(outside.reshape(-1)):
            known = f"{self.low:g} to {self.high:g}" if self.low < self.high else f"{self.low:g} alone"
            raise LabelError(
                f"this model was distilled for guidance scales of {known}, and {float(outside.reshape(-1)[0]):g} was "
                "asked for: distill the teacher for others (--guidance LOW,HIGH)"
            )

    def drawn(self, draws: Random) -> Tensor:
        """Return a scale for each row of a training step, `[N]`, uniform between the lowest and the highest."""
        return self.low + (self.high - self.low) * draws.uniform("guidance")

    def sizes(self) -> dict[str, Any]:
        return {"guidance": [self.low, self.high]}

    def check_fits(self, other: Conditioner | None) -> None:
        pass  # no data have scales: training draws them


def scale_of(known: tuple[Conditioner, ...]) -> Scale | None:
    """Return the conditioner of guidance scales among others; None where there is none."""
    return next((one for one in known if isinstance(one, Scale)), None)
