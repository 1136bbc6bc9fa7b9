"""The interface of networks: `network(x, c_noise, cond) -> network_output`, registered by name."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner, Labels, Vector
from fromnoise.guidance_cond import Scale
from fromnoise.pictures_cond import Image
from fromnoise.registry import Registry
from fromnoise.text_cond import Tokens
from fromnoise.text_features import Features

networks: Registry[Network] = Registry("network")


class Network(nn.Module):
    """Base of the networks here; a user's own needs only the same `forward` and a `shape`.

    A module that is not a `Network` gets a c_noise that all rows share as a `[]` tensor, never as a float.

    Attributes:
        shape: the shape S of one sample.
        classes: the number of labels it knows; 0 for none.
        cond_dim: the length of its condition vectors; 0 for none.
        image: the shape of the pictures that it takes as conditions; None for none.
        text: of the captions that it takes as conditions, how many tokens there are and how many each has, or the width
            of the features that a frozen encoder makes of them; None for none.
        guidance: the lowest and highest guidance scale that it takes as condition; None for none.
        conditioners: of whatever else it is told.
        learned_variance: whether its output is twice as long as x, the second half predicting the variance of a step.
        checkpointing: whether its blocks compute their inner values again for the gradient.
        can_checkpoint: whether they can.
        chunk_rows: how many rows suit it at once in sampling; None where it does not matter.
        ends: the names of the layers that take x and give the output; optimizers for hidden matrices leave them out.
        modulators: the names, at any depth, of modules that embed time and condition or turn the embedding into scales;
            optimizers for hidden matrices leave their layers out too.
    """

    shape: tuple[int, ...]
    classes: int = 0
    cond_dim: int = 0
    image: tuple[int, int, int] | None = None
    text: tuple[int, int] | int | None = None
    guidance: tuple[float, float] | None = None
    conditioners: tuple[Conditioner, ...] = ()
    learned_variance: bool = False
    checkpointing: bool = False
    can_checkpoint: ClassVar[bool] = False
    chunk_rows: ClassVar[int | None] = None
    ends: ClassVar[tuple[str, ...]] = ()
    modulators: ClassVar[tuple[str, ...]] = ()

    def forward(self, x: Tensor, c_noise: float | Tensor, cond: Cond | None = None) -> Tensor:
        """Return the output for x, of x's shape `[B, *S]`; `[B, 2 S_1, ...]` with a learned variance.

        Args:
            x: `[B, *S]`, scaled to about unit variance by the denoiser.
            c_noise: what the network is told of the time, a float or `[]` when all rows share it, else `[B]`.
            cond: of one row, which all samples share, or of B rows; None for no condition.
        """
        raise NotImplementedError


def plain(network: nn.Module) -> nn.Module:
    """Return the network inside what compiles it or copies it to several devices; its parameters are the same."""
    while True:
        if isinstance(network, nn.DataParallel | nn.parallel.DistributedDataParallel):
            network = network.module
        elif isinstance(getattr(network, "_orig_mod", None), nn.Module):  # torch.compile's
            network = network._orig_mod  # pyright: ignore[reportAssignmentType]
        else:
            return network


def conditioners_of(network: nn.Module) -> tuple[Conditioner, ...]:
    """Return the conditioners of what a network takes: numbered labels, vectors as they are, and its own."""
    classes, dim = int(getattr(network, "classes", 0)), int(getattr(network, "cond_dim", 0))
    own: tuple[Conditioner, ...] = tuple(getattr(network, "conditioners", ()))
    image = getattr(network, "image", None)
    own = own if image is None else (*own, Image(shape=tuple(image)))
    text = getattr(network, "text", None)
    heard = () if text is None else (Features(text),) if isinstance(text, int) else (Tokens(*text),)
    own = (*own, *heard)
    scales = getattr(network, "guidance", None)
    own = own if scales is None else (*own, Scale(*scales))
    return ((Labels.numbered(classes),) if classes else ()) + ((Vector(dim=dim),) if dim else ()) + own
