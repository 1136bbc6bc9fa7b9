"""Distances between the features that a network says of pictures, as a loss."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fromnoise.cache import cache_folder
from fromnoise.data.codec import Affine, Codec
from fromnoise.data.pixels import Pixels
from fromnoise.data.source import Source
from fromnoise.errors import ConfigError, InputError, one_line
from fromnoise.run.files import file_sum
from fromnoise.training.feature_files import features_from
from fromnoise.training.judge import Judge, Progress, judge_of

if TYPE_CHECKING:
    from fromnoise.training.config import TrainConfig


class Perceptual:
    """The features of a network at one or more depths, each of length 1 over its channels at every place.

    Source: Zhang et al. 2018, "The unreasonable effectiveness of deep features as a perceptual metric", eq. 1, with
    equal weights.

    Args:
        features: returns the features `[B, C, ...]` of pictures in the data's own units, at each depth.
        codec: of the autoencoder, between the data's units and its own.
    """

    def __init__(self, features: Callable[[Tensor], list[Tensor]], codec: Codec) -> None:
        self._features, self._codec = features, codec

    def distance(self, x_hat: Tensor, x: Tensor) -> Tensor:
        """Return the mean squared distance of features of x_hat and x, `[B, *S]` in the autoencoder's units."""
        with torch.no_grad():
            wanted = self._normed(x)
        found = self._normed(x_hat)
        return torch.stack([(a - b).square().sum(1).mean() for a, b in zip(found, wanted, strict=True)]).mean()

    def _normed(self, x: Tensor) -> list[Tensor]:
        return [h / h.square().sum(1, keepdim=True).add(1e-10).sqrt() for h in self._features(_samples(x, self._codec))]

    @classmethod
    def from_file(cls, path: str, total: str, codec: Codec) -> Perceptual:
        """Return the features of a network's file.

        Raises:
            ConfigError: if it is not there, or has changed since the training was begun.
        """
        if not Path(path).is_file():
            raise ConfigError(f"train.loss.features: there is no file {path}")
        if total and file_sum(Path(path)) != total:
            raise ConfigError(f"train.loss.features: {path} is not the file that the training was begun with")
        space = features_from(path)
        network = space.network
        for p in network.parameters():
            p.requires_grad_(False)

        def features(x: Tensor) -> list[Tensor]:
            network.to(x.device)
            return _of_judge(space, x) if isinstance(space, Judge) else [network(space.prepare(x))]

        return cls(features, codec)

    def check(self, x: Tensor) -> None:
        """Raise InputError if no loss can be taken of x, `[B, *S]` in the autoencoder's units, before the training."""
        try:
            moved = (x + 0.1).requires_grad_()
            with torch.enable_grad():
                distance = self.distance(moved, x)
                known = distance.requires_grad and torch.autograd.grad(distance, moved, allow_unused=True)[0]
        except Exception as error:  # a network of the user's may raise anything
            what = one_line(str(error), 120)
            raise InputError(f"train.loss.features: the network cannot take these pictures: {what}") from None
        if not isinstance(known, Tensor):
            raise InputError(
                "train.loss.features: the network gives no gradient for pictures of floats, so nothing can be learned "
                "of it: it may turn them into whole numbers"
            )

    @staticmethod
    def find(features: str, source: Source, train: TrainConfig, progress: Progress | None) -> tuple[str, str]:
        """Return the file that a setting names, and its sum: "classifier" is the judge of the data's own labels.

        Raises:
            InputError: if there is no such file, or the data have no labels.
        """
        if features != "classifier":
            path = Path(features)
            if not path.is_file():
                raise InputError(f"train.loss.features is classifier, or a network's file, not {features!r}")
            features_from(path)
            return str(path.resolve()), file_sum(path)
        judge = judge_of(source, held_out=train.held_out, seed=train.seed, progress=progress)
        folder = cache_folder() / "features"
        folder.mkdir(parents=True, exist_ok=True)
        staged = folder / f".judge-{os.getpid()}"
        judge.save(staged)
        total = file_sum(staged)
        path = folder / f"judge-{total[:16]}.safetensors"
        staged.replace(path)
        return str(path), total


def _samples(x: Tensor, codec: Codec) -> Tensor:
    """Return z `[B, *S]` in the data's units, neither rounded nor clamped, so that gradients pass."""
    if isinstance(codec, Pixels):
        return codec.levels(x)
    assert isinstance(codec, Affine)
    return codec.out(x)


def _of_judge(judge: Judge, x: Tensor) -> list[Tensor]:
    """Return what a judge's network says after each of its two stages, and before the labels."""
    h, found = judge.codec.into(x), list[Tensor]()
    for layer in judge.network.stages:
        h = layer(h)
        if isinstance(layer, torch.nn.AvgPool2d):
            found.append(h)
    return [*found, judge.network.hidden(h.flatten(1))]
