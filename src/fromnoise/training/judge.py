"""A judge of pictures: a small classifier trained on the data's own labels, for class agreement and as feature space.

It is trained once for each data set and kept in the cache, or in a file of its own. A part of the data is held out, on
which its accuracy is measured: no agreement with it can be trusted beyond that. For a run it is the part that the run
held out too, so that the judge, like the model, has not seen it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.cache import entry
from fromnoise.data.codec import Affine, Codec, codecs
from fromnoise.data.pixels import Pixels
from fromnoise.data.source import Source, held_apart
from fromnoise.errors import InputError, one_line
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

    def save(self, path: str | Path, *, half: bool = False) -> None:
        """Write the judge to one file, `.safetensors`, from which `load` makes the same again.

        Args:
            path: of the file.
            half: keep the weights in 16 bits, which rounds them.
        """
        tensors = {name: value.contiguous() for name, value in self.network.state_dict().items()}
        if half:
            tensors = {name: t.half() if t.is_floating_point() else t for name, t in tensors.items()}
        tensors |= {f"codec.{name}": value.contiguous() for name, value in self.codec.tensors().items()}
        about = {
            "version": _VERSION, "shape": list(self.network.shape), "labels": list(self.label_names),
            "codec": codecs.settings(self.codec), "accuracy": self.accuracy,
        }  # fmt: skip
        save_file(tensors, path, metadata={"judge": json.dumps(about)})

    @classmethod
    def load(cls, path: str | Path) -> Judge:
        """Return the judge that a file holds.

        Raises:
            InputError: if it holds none.
        """
        try:
            with safe_open(path, "pt") as file:
                about = json.loads((file.metadata() or {})["judge"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 no mapping
            channels, height, width = map(int, about["shape"])
            shape, names = (channels, height, width), tuple(map(str, about["labels"]))
            with torch.device("meta"):  # nothing is made before its size is known to be that of the file's tensors
                wanted = Classifier(shape, len(names)).state_dict()
            own = {name: t for name, t in tensors.items() if not name.startswith("codec.")}
            if {name: t.shape for name, t in own.items()} != {name: t.shape for name, t in wanted.items()}:
                raise ValueError("its tensors are not those of such a classifier")
            network = _fresh(shape, len(names), 0)
            measured = {name.removeprefix("codec."): t for name, t in tensors.items() if name.startswith("codec.")}
            codec = codecs.build(about["codec"]).with_tensors(measured, shape)
            network.load_state_dict(own)
            return cls(network, codec, names, float(about["accuracy"]))
        except (OSError, SafetensorError, RuntimeError, ArithmeticError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{path} is no judge of fromnoise: {one_line(str(error), 120)}") from None

    def _of(self, x: Tensor, ask: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.no_grad():
            return torch.cat([ask(self.codec.into(part.cpu())) for part in x.split(1024)])


def judge_of(source: Source, *, held_out: float = _HELD_OUT, seed: int = 0, progress: Progress | None = None) -> Judge:
    """Return the judge of a labelled source of pictures; trained if it is not in the cache.

    Args:
        source: pictures [C, H, W] with labels.
        held_out: the share of the pictures on which its accuracy is measured; a tenth where it is 0.
        seed: of that choice, and of the training.
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
    share = held_out or _HELD_OUT
    key = hashlib.sha256(json.dumps([_VERSION, seed, share, about], sort_keys=True).encode()).hexdigest()
    network = _fresh(source.shape, len(names), seed)

    def make(folder: Path) -> dict[str, Any]:
        rows, held = held_apart(source, share, seed)
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
