"""An exponential moving average of a network's parameters."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """A copy of a network whose parameters follow the original's: p <- d p + (1 - d) original.

    The decay d warms up as (1 + k)/(10 + k) at update k, so that the start is soon forgotten. Buffers are
    copied when the average is asked for.

    Args:
        network: the original; the copy is `self.network`.
        decay: the highest decay.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.network = copy.deepcopy(network).requires_grad_(False)
        self._averages = [p.detach() for p in self.network.parameters()]
        self._originals = [p.detach() for p in network.parameters()]
        self._buffers = list(zip(self.network.buffers(), network.buffers(), strict=True))

    def update(self, step: int) -> None:
        """Follow the original's parameters after optimizer step 0, 1, ..."""
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self._averages, self._originals, 1 - decay)  # pyright: ignore[reportPrivateImportUsage] no public name

    @torch.no_grad()
    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the averages, with the original's buffers as they are now."""
        for average, original in self._buffers:
            average.copy_(original)
        return self.network.state_dict()
