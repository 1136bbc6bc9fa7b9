"""What the networks for pictures share: sizes, patches, and refusals of sizes that they cannot halve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from fromnoise.cond import Cond
from fromnoise.errors import ConfigError

Size = Annotated[int, Field(ge=1, le=2**16)]
Shape = tuple[Size, Size, Size]
"""Channels, height and width of a picture."""

Width = Annotated[int, Field(ge=1, le=2**14)]
Range = tuple[float, float]
"""The highest and the lowest log SNR of a continuous schedule; see `embed.timestep`."""


def fitting_patch(shape: Sequence[int], patch: int, across: int, *, least: int = 1, halvings: int = 0) -> int:
    """Return the side of a patch; where it is 0, the largest power of two that leaves `across` patches a side.

    It is `least` where that is larger. A power of two is halved until the patches can be halved `halvings` times.
    """
    if patch:
        return patch
    patch = least
    while 2 * patch * across <= min(shape[1:]):
        patch *= 2
    while patch > 1 and any(side % (patch * 2**halvings) for side in shape[1:]):
        patch //= 2
    return patch


def are_tiny(shape: Sequence[int]) -> bool:
    """Return whether pictures have less than 12 pixels a side, for which a smaller network does as well."""
    return min(shape[1:]) < 12


def start_at_zero(*layers: nn.Module) -> None:
    """Set all parameters of some layers to 0, so that what they are added to starts as the identity."""
    for layer in layers:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)


def through(block: nn.Module, *inputs: Any, checkpointing: bool) -> Tensor:
    """Return block(*inputs); with `checkpointing` its inner values are computed again for the gradient, not kept."""
    if checkpointing and torch.is_grad_enabled():
        return checkpoint(block, *inputs, use_reentrant=False)  # pyright: ignore[reportReturnType] what the block gives
    return block(*inputs)


def check_divisible(what: str, shape: Sequence[int], by: int, way_out: str) -> None:
    """Refuse pictures whose sides a network cannot divide.

    Raises:
        ConfigError: saying by what they must be divisible.
    """
    height, width = shape[1:]
    if height % by or width % by:
        near = max(by, round(min(height, width) / by) * by)
        raise ConfigError(
            f"{what} divides the sides of a picture by {by}, and {height} x {width} cannot be: "
            f"bring the pictures to {near} x {near} (--size {near}, for pictures in files), or {way_out}"
        )


def beside(x: Tensor, cond: Cond | None, image: Sequence[int] | None) -> Tensor:
    """Return pictures `[B, C, H, W]` with those that are conditions in channels of their own, `[B, C + c, H, W]`.

    Args:
        x: the network's input.
        cond: its "image" `[1, c, h, w]` or `[B, c, h, w]` is brought to the size of x; 0 where it is not given.
        image: the shape of such a picture; None for a network that takes none.

    Source: Saharia et al. 2021, "Image super-resolution via iterative refinement", section 2.3.
    """
    if image is None:
        return x
    if cond is None or "image" not in cond.values:
        return torch.cat([x, x.new_zeros(len(x), image[0], *x.shape[2:])], dim=1)
    mask = cond.mask("image")
    small = cond.values["image"].to(x)
    small = small if mask is None else small * mask.to(x)[:, None, None, None]
    return torch.cat([x, enlarged(small, x.shape[2:]).expand(len(x), -1, -1, -1)], dim=1)


def enlarged(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return pictures `[n, C, h, w]` at another size, bilinear."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
