"""Operations of a training step, forward and backward, as torch counts them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode


def of_step(step: Callable[[], object]) -> float:
    """Return the operations of convolutions and matrix products in a step."""
    with FlopCounterMode(display=False, custom_mapping={torch.ops.aten.convolution_backward: _backward}) as counter:
        step()
    return float(counter.get_total_flops())


def _backward(
    grad: Sequence[int], x: Sequence[int], weight: Sequence[int], _bias: Any, _stride: Any, _padding: Any,
    _dilation: Any, transposed: bool, _output_padding: Any, _groups: int, mask: Sequence[bool], **_: Any,
) -> int:  # fmt: skip
    """Return the operations of a convolution's gradients from shapes: of each what the convolution itself took.

    torch's own count of the weight's takes every convolution for one without groups, and so counts one of a group for
    each channel a hundredfold.
    """
    places = x if transposed else grad
    return 2 * places[0] * math.prod(places[2:]) * math.prod(weight) * sum(map(bool, mask[:2]))
