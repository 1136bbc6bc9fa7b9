"""What the networks for pictures share: sizes, patches, a layer that doubles, refusals of sizes they cannot halve."""

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


class DoublingConv(nn.Conv2d):
    """A 3 x 3 convolution of pictures at twice their size, `[B, C, H, W]` -> `[B, C', 2 H, 2 W]`.

    Every pixel becomes four equal ones first, of which a window of 3 x 3 sees at most 2 x 2 different ones. So the same
    sums are those of a transposed convolution of stride 2, whose kernel K of 4 x 4 adds neighbours of the kernel k,
    turned by half a circle: K[i, j] = k[i, j] + k[i-1, j] + k[i, j-1] + k[i-1, j-1]. It takes 16 products where 36
    were taken, in half the time on a processor.

    Args:
        wide: C.
        narrow: C'.
    """

    def __init__(self, wide: int, narrow: int) -> None:
        super().__init__(wide, narrow, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        """Return the convolution of the doubled pictures."""
        if input.device.type != "cpu":
            return super().forward(F.interpolate(input, scale_factor=2.0, mode="nearest"))
        turned = self.weight.flip(2, 3).transpose(0, 1)
        kernel = torch.stack([F.pad(turned, (x, 1 - x, y, 1 - y)) for x in (0, 1) for y in (0, 1)]).sum(0)
        return F.conv_transpose2d(input, kernel, self.bias, stride=2, padding=1)


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
