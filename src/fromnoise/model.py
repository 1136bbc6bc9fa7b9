"""What a training trains and a run keeps: a network between a codec's units, with what was measured of the data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from fromnoise.conditioners import Conditioner
from fromnoise.data.codec import Affine, Codec
from fromnoise.data.moments import rms_and_dimension
from fromnoise.data.source import Source
from fromnoise.data.stored import stored_samples
from fromnoise.errors import InputError
from fromnoise.nn.network import plain
from fromnoise.rng import stream

_MEASURED = 2**25
"""Of how many numbers of the data, at most, the spread and the effective dimension are measured."""


class Model(nn.Module):
    """A network with its codec: what `Denoiser` and `Autoencoder` share.

    Args:
        network: says the shape of one z by its attribute `shape`.
        codec: between the data's units and the network's; one is measured on the data where none is given.

    Attributes:
        shape: S, of one z.
        sigma_data: one coordinate's standard deviation about the mean, of z.
        effective_dimension: in how many directions z varies.
        conditioners: what turns a user's words into conditions; empty where the network takes none.
        grid: of a model of few steps, how it is sampled; None for all others.

    Raises:
        InputError: if the network says no shape.
    """

    codec: Codec
    sigma_data: float
    effective_dimension: float
    conditioners: tuple[Conditioner, ...] = ()
    grid: Any = None

    def __init__(self, network: nn.Module, codec: Codec | None = None) -> None:
        super().__init__()
        self.network = network
        inside = plain(network)
        if not hasattr(inside, "shape"):
            raise InputError(
                f"a network says the shape of one sample by its attribute `shape`, and {type(inside).__name__} has none"
            )
        self.shape: tuple[int, ...] = tuple(inside.shape)  # pyright: ignore[reportArgumentType] every network has one
        self._may_measure = codec is None

    def measure(self, data: Source, codec: Codec | None = None) -> None:
        """Take codec, sigma_data and conditioners from the data, unless a codec was given at construction.

        Args:
            data: what will be trained on.
            codec: measured on the data, unless it was already; `Affine()` when not given.

        Raises:
            InputError: if the data's shape is not the network's, or the codec makes no finite numbers of them.
            LabelError: if the network takes other conditions than the data have.
        """
        if self._may_measure:
            codec = codec or Affine()
            codec = codec if codec.shape else codec.fitted(data)
        else:
            codec = self.codec
        if codec.shape_of(data.shape) != self.shape:
            raise InputError(f"the data's samples have shape {list(data.shape)}, the network's {list(self.shape)}")
        self._know(data.conditioners)
        if self._may_measure:
            z = codec.into(stored_samples(data, codec, _MEASURED), stream(0, "measured"))
            bad = int((~torch.isfinite(z)).flatten(1).any(1).sum())
            if bad:
                raise InputError(f"{bad:,} of {len(z):,} samples are not finite once the codec has taken them in")
            sigma_data, dimension = rms_and_dimension(z)
            self.rescale(codec, sigma_data or 1.0, dimension)  # a point has no spread

    def rescale(self, codec: Codec, sigma_data: float, effective_dimension: float | None = None) -> None:
        """Take these as what was measured of the data.

        Args:
            codec: between the data's units and the network's.
            sigma_data: one coordinate's standard deviation about the mean.
            effective_dimension: in how many directions the data vary; in all, where it was not measured.
        """
        self.codec, self.sigma_data, self._may_measure = codec.shaped(self.shape), sigma_data, False
        self.effective_dimension = effective_dimension or float(math.prod(self.shape))

    def trained_dropping(self, drop_cond: float) -> None:
        """Note with which probability the training left conditions out."""

    def _know(self, given: Sequence[Conditioner]) -> None:
        """Take conditioners for what the network takes; of what it does not take it need not know."""

    @property
    def chunk_rows(self) -> int | None:
        """How many rows suit the network at once; None where it does not say."""
        return getattr(plain(self.network), "chunk_rows", None)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device
