"""The law of a data set itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from fromnoise.data.codec import Codec, codec_of
from fromnoise.data.dataset import Dataset
from fromnoise.data.numbers import as_data
from fromnoise.data.pixels import Pixels
from fromnoise.data.source import Source
from fromnoise.deprecated import renamed_argument
from fromnoise.errors import InputError
from fromnoise.exact.denoiser import ExactDenoiser
from fromnoise.exact.mixture import GaussianMixture
from fromnoise.schedule import Schedule


class FiniteSet(GaussianMixture):
    """The law that draws one of the given samples, each equally likely: the data set itself.

    It is of the samples in their own units; but of pictures of whole numbers 0..255, which no schedule is made for, it
    is of z in the units of a codec, and its denoiser's samples are pictures again.

    Args:
        x: `[N, *S]`, a tensor, an array or a list; or a data set or another source.
        labels: `[N]`, a tensor of numbers in 0..classes-1, or a list of numbers or names; a data set brings its own.
        label_names: one for each class; their numbers where none are given.
        note: what this law stands for, for captions.

    Attributes:
        codec: between pictures and z; None where samples are in their own units.

    Raises:
        InputError: if shapes do not fit.
    """

    def __init__(
        self,
        x: Any,
        labels: Any = None,
        label_names: Sequence[str] = (),
        note: str | None = None,
    ) -> None:
        cond, conditioners = None, ()
        if isinstance(x, Dataset | Source):  # in this order: the second looks at every property
            conditioners = x.conditioners
            x, cond = x.read(slice(None))
        x = as_data(x)
        note = note or f"all {len(x):,} samples"
        self.codec: Codec | None = None
        if x.dtype == torch.uint8 and x.dim() == 4 and len(x):
            self.codec = Pixels().fitted(x)
            x = self.codec.into(x)
        super().__init__(
            x, 0.0, labels=labels, label_names=label_names, cond=cond, conditioners=conditioners, note=note
        )

    @renamed_argument("scaling", "codec", codec_of)
    def denoiser(self, schedule: Schedule | str, codec: Codec | None = None) -> ExactDenoiser:
        """Return the exact denoiser E[x0 | x_t, cond] on a schedule.

        Args:
            schedule: the path.
            codec: from this law's units to the data's, if they differ; pictures bring their own.

        Raises:
            InputError: if another codec is given for pictures.
        """
        if codec is not None and self.codec is not None and not self.codec.equals(codec):
            raise InputError(
                "these pictures have a codec of their own: for another, give FiniteSet(codec.into(x)), and it here"
            )
        return super().denoiser(schedule, self.codec or codec)
