"""Spaces of features from files that the user supplies: a judge, Inception's weights, any TorchScript network."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.errors import InputError, one_line
from fromnoise.nn.inception import SIDE, Inception
from fromnoise.training.judge import Judge


class FromNetwork:
    """The features that a network says of pictures, a `metrics.Features`.

    Attributes:
        name: what stands in the names of distances.
        network: of what `prepare` makes of pictures `[n, C, H, W]` uint8; answers `[n, d]`.
        prepare: the change from pictures to what the network takes.
    """

    def __init__(self, name: str, network: nn.Module, prepare: Callable[[Tensor], Tensor]) -> None:
        self.name, self.network, self.prepare = name, network.eval(), prepare

    def __call__(self, x: Tensor) -> Tensor:
        """Return the features `[n, d]` of pictures `[n, C, H, W]` uint8.

        Raises:
            InputError: if they are no pictures of whole numbers, or the network cannot take them.
        """
        if x.dim() != 4 or x.shape[1] not in (1, 3) or (x.dtype != torch.uint8 and not _are_levels(x)):
            raise InputError(
                f"{self.name} are of pictures [n, 1 or 3, H, W] with values 0..255, not of {x.dtype} {list(x.shape)}"
            )
        x = x.round().to(torch.uint8)
        try:
            with torch.no_grad():
                parts = [self.network(self.prepare(part.cpu())) for part in x.split(64)]
        except Exception as error:  # a network of the user's may raise anything
            raise InputError(f"{self.name}: the network cannot take these: {one_line(str(error), 120)}") from None
        if not all(isinstance(part, Tensor) for part in parts):
            raise InputError(f"{self.name} must be [n, d], and the network answers {type(parts[0]).__name__}")
        found = torch.cat(parts).float()
        if found.dim() != 2 or len(found) != len(x):
            raise InputError(f"{self.name} must be [n, d], and the network answers {list(found.shape)} for {len(x)}")
        return found


def _are_levels(x: Tensor) -> bool:
    return x.is_floating_point() and bool(((x >= 0) & (x <= 255)).all())


def features_from(path: str | Path) -> Judge | FromNetwork:
    """Return the space of features in a file.

    Args:
        path: a judge (`Judge.save`); the weights of Inception v3 by their published names, `.safetensors`; or any
            network as TorchScript, `.pt`, `.pth` or `.torchscript`, which is given `[n, 3, H, W]` uint8 and answers
            `[n, d]`.

    Raises:
        InputError: if it holds none of these.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"--features {path}: there is no such file")
    if path.suffix != ".safetensors":
        return _scripted(path)
    try:
        with safe_open(path, "pt") as file:
            if "judge" in (file.metadata() or {}):
                return Judge.load(path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 no mapping
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {one_line(str(error), 120)}") from None
    return FromNetwork("Inception features", _inception(path, tensors), inception_input)


def inception_input(x: Tensor) -> Tensor:
    """Return pictures `[n, C, H, W]` uint8 as Inception sees them: in colour, 299 x 299, in [-1, 1]."""
    wide = x.float().expand(-1, 3, -1, -1)
    return F.interpolate(wide, size=(SIDE, SIDE), mode="bilinear", align_corners=False) / 127.5 - 1


def _inception(path: Path, tensors: dict[str, Tensor]) -> Inception:
    network = Inception()
    wanted = network.state_dict()
    known = {name: value for name, value in tensors.items() if not name.startswith(("fc.", "AuxLogits."))}
    wrong = [
        name for name in wanted
        if not name.endswith("num_batches_tracked") and (name not in known or known[name].shape != wanted[name].shape)
    ]  # fmt: skip
    if wrong:
        raise InputError(f"{path} holds neither a judge nor the weights of Inception v3: {wrong[0]} is not in it")
    network.load_state_dict({name: known.get(name, value) for name, value in wanted.items()})
    return network


def _scripted(path: Path) -> FromNetwork:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # no other format is one file of code and weights
            network = torch.jit.load(path, map_location="cpu")
    except (RuntimeError, OSError, ValueError) as error:
        raise InputError(f"{path} is no TorchScript file: {one_line(str(error), 120)}") from None
    return FromNetwork(f"{path.stem} features", network, lambda x: x.expand(-1, 3, -1, -1))
