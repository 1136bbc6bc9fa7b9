"""The law of a data set itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fromnoise.data.dataset import Dataset
from fromnoise.exact.mixture import GaussianMixture


class FiniteSet(GaussianMixture):
    """The law that draws one of the given samples, each equally likely: the data set itself.

    Args:
        x: `[N, *S]`, a tensor, an array or a list; or a data set.
        labels: `[N]`, a tensor of numbers in 0..classes-1, or a list of numbers or names; a data set brings its own.
        label_names: one for each class; their numbers where none are given.
        note: what this law stands for, for captions.
    """

    def __init__(
        self,
        x: Any,
        labels: Any = None,
        label_names: Sequence[str] = (),
        note: str | None = None,
    ) -> None:
        cond, conditioners = None, ()
        if isinstance(x, Dataset):
            x, cond, conditioners = x.x, x.cond, x.conditioners
        note = note or f"all {len(x):,} samples"
        super().__init__(
            x, 0.0, labels=labels, label_names=label_names, cond=cond, conditioners=conditioners, note=note
        )
