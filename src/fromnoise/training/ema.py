"""Moving averages of a network's parameters."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from fromnoise.run.averages import exponent


class Average:
    """An average that follows each parameter of a network: average <- d average + (1 - d) parameter.

    Args:
        network: whose parameters are averaged.

    Attributes:
        averages: by the parameters' names.
    """

    def __init__(self, network: nn.Module) -> None:
        self.original = network
        self._parameters = dict(network.named_parameters())
        self.averages = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._lists = list(self.averages.values()), [p.detach() for p in self._parameters.values()]

    def decay_at(self, step: int) -> float:
        """Return d after optimizer step 0, 1, ..."""
        raise NotImplementedError

    def update(self, step: int) -> None:
        """Follow the parameters after optimizer step 0, 1, ..."""
        weight = 1 - self.decay_at(step)
        torch._foreach_lerp_(*self._lists, weight)  # pyright: ignore[reportPrivateImportUsage] no public name

    @property
    def network(self) -> nn.Module:
        """A copy of the network with the averages for parameters."""
        averaged = copy.deepcopy(self.original).requires_grad_(False)
        averaged.load_state_dict(self.state_dict())
        return averaged

    def state_dict(self) -> dict[str, Tensor]:
        """Return the network's state with the averages in place of the parameters."""
        average_of = {id(p): self.averages[name] for name, p in self._parameters.items()}
        state: dict[str, Tensor] = self.original.state_dict(keep_vars=True)
        return {name: average_of.get(id(value), value.detach()) for name, value in state.items()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take the averages from such a state."""
        for name, average in self.averages.items():
            average.copy_(state[name])

    @contextlib.contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Give the network the averages for parameters inside the block."""
        own = {name: p.data for name, p in self._parameters.items()}
        try:
            for name, p in self._parameters.items():
                p.data = self.averages[name]
            yield
        finally:
            for name, p in self._parameters.items():
                p.data = own[name]


class EMA(Average):
    """The exponential moving average, whose decay warms up as (1 + k)/(10 + k) at update k.

    Args:
        network: whose parameters are averaged.
        decay: the highest decay.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network)
        self.decay = decay

    def decay_at(self, step: int) -> float:
        return min(self.decay, (1 + step) / (10 + step))


class PowerAverage(Average):
    """The average that weighs the parameters after step tau by tau^gamma: d = (1 - 1/t)^(gamma + 1) after step t.

    Args:
        network: whose parameters are averaged.
        length: sigma_rel, the standard deviation of the profile in parts of the training.

    Source: Karras et al. 2024, eq. 1; see `fromnoise.run.averages`.
    """

    def __init__(self, network: nn.Module, length: float) -> None:
        super().__init__(network)
        self.length, self.gamma = length, exponent(length)

    def decay_at(self, step: int) -> float:
        return (1 - 1 / (step + 1)) ** (self.gamma + 1)
