"""What `fromnoise plot` is asked to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fromnoise.denoiser_like import DenoiserLike
    from fromnoise.run import Run
    from fromnoise.samplers import Sampler


@dataclass(frozen=True)
class Wish:
    """The run and the options of a picture."""

    run: Run
    denoiser: DenoiserLike
    sampler: Sampler
    steps: int
    n: int
    seed: int
    label: str | None
    scales: tuple[float, ...]
