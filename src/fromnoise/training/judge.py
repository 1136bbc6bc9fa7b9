"""A judge of pictures: a small classifier trained on the data's own labels, for class agreement and as feature space.

It is trained once for each data set and kept in the cache. A tenth of the data is held out, on which its accuracy is
measured: no agreement with it can be trusted beyond that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.data.cache import entry
from fromnoise.data.codec import Affine, Codec
from fromnoise.data.pixels import Pixels
from fromnoise.data.source import Source, held_apart
from fromnoise.errors import InputError
from fromnoise.nn.classifier import Classifier
from fromnoise.rng import seeded, stream

_VERSION = 1
"""Of how a judge is trained; another number is another judge."""

_PICTURES, _BATCH, _LR, _HELD_OUT = 200_000, 128, 2e-3, 0.1
"""How many pictures it is trained on in all, how many a step, the highest learning rate, and the share held out."""

_WEIGHTS = "judge.safetensors"

Progress = Callable[[int, int], None]


class Judge:
    """A classifier of pictures in the data's own units, a `metrics.Features`.

    Attributes:
        network: of z, the codec's units.
        codec: of the pictures.
        label_names: its labels.
        accuracy: on pictures it was not trained on.
    """

    name = "classifier features"

    def __init__(self, network: Classifier, codec: Codec, label_names: tuple[str, ...], accuracy: float) -> None:
        self.network, self.codec, self.label_names, self.accuracy = network.eval(), codec, label_names, accuracy

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features `[n, d]` of pictures `[n, C, H, W]`."""
        return self._of(x, self.network.features)

    def labels(self, x: Tensor) -> Tensor:
        """Return the label of each picture, `[n]` int64."""
        return self._of(x, self.network).argmax(1)

    def agreement(self, x: Tensor, labels: Tensor) -> float:
        """Return the fraction of pictures that it takes for what they were asked to be, labels `[n]`."""
        return float((self.labels(x) == labels.cpu()).double().mean())

    def _of(self, x: Tensor, ask: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.no_grad():
            return torch.cat([ask(self.codec.into(part.cpu())) for part in x.split(1024)])


def judge_of(source: Source, *, seed: int = 0, progress: Progress | None = None) -> Judge:
    """Return the judge of a labelled source of pictures; trained if it is not in the cache.

    Args:
        source: pictures [C, H, W] with labels.
        seed: of the training.
        progress: called with the steps done and the steps in all, while it is trained.

    Raises:
        InputError: if the source has no labels, or fewer than 20 pictures.
    """
    names = tuple(getattr(source, "label_names", ()))
    if len(source.shape) != 3 or len(names) < 2:
        raise InputError(f"a judge needs pictures with two labels or more, and {source.name} has none")
    if len(source) < 20:
        raise InputError(f"a judge needs 20 pictures at least, and {source.name} has {len(source)}")
    codec = Pixels().fitted(source) if _are_bytes(source) else Affine("isotropic").fitted(source)
    about = {key: value for key, value in source.identity.items() if key != "path"}
    key = hashlib.sha256(json.dumps([_VERSION, seed, about], sort_keys=True).encode()).hexdigest()
    network = _fresh(source.shape, len(names), seed)

    def make(folder: Path) -> dict[str, Any]:
        rows, held = held_apart(source, _HELD_OUT, seed)
        assert held is not None
        _train(network, rows, codec, seed, progress)
        save_file({name: value.contiguous() for name, value in network.state_dict().items()}, folder / _WEIGHTS)
        return {"accuracy": _accuracy(Judge(network, codec, names, 0.0), held), "held_out": len(held)}

    place, index = entry("judges", key, make)
    network.load_state_dict(load_file(place / _WEIGHTS))
    return Judge(network, codec, names, float(index["accuracy"]))


def _are_bytes(source: Source) -> bool:
    return source.read(slice(0, 1)).x.dtype == torch.uint8


def _fresh(shape: tuple[int, ...], classes: int, seed: int) -> Classifier:
    channels, height, width = shape
    with seeded(seed, "judge"):
        return Classifier((channels, height, width), classes)


def _train(network: Classifier, source: Source, codec: Codec, seed: int, progress: Progress | None) -> None:
    """Train a classifier with AdamW under a learning rate that rises and falls, on pictures moved by up to a pixel."""
    steps = max(300, min(_PICTURES, 40 * len(source)) // _BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=_LR, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, total_steps=steps)
    network.train()
    for step in range(steps):
        generator = stream(seed, "judge/batch", step)
        x, labels = _batch(source, torch.randint(len(source), (_BATCH,), generator=generator), codec)
        down, right = torch.randint(-1, 2, (2,), generator=generator).tolist()
        with torch.enable_grad():
            F.cross_entropy(network(_shifted(x, down, right)), labels, label_smoothing=0.05).backward()
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        if progress is not None:
            progress(step + 1, steps)


def _accuracy(judge: Judge, held: Source) -> float:
    right = 0
    for rows in torch.arange(len(held)).split(1024):
        x, cond = held.read(rows)
        assert cond is not None
        right += int((judge.labels(x) == cond.values["label"]).sum())
    return right / len(held)


def _batch(source: Source, rows: Tensor, codec: Codec) -> tuple[Tensor, Tensor]:
    x, cond = source.read(rows)
    assert cond is not None
    return codec.into(codec.store(x)), cond.values["label"]


def _shifted(x: Tensor, down: int, right: int) -> Tensor:
    """Return pictures moved by up to a pixel, their edges repeated."""
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    return padded[:, :, 1 + down : 1 + down + x.shape[2], 1 + right : 1 + right + x.shape[3]]
