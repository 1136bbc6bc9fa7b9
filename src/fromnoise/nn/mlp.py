"""A multilayer perceptron for points and tables.

The first layer of the usual form sees [x, emb(t)]. Written as the sum of its two halves,

    W [x, emb(t)] + b  =  W_x x + (W_t emb(t) + b),

its second half, with the label's vector, is one `[1, H]` row while all rows share one time, as they do in sampling.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.nn.embed import Condition, FourierFeatures, SinusoidalEmbedding
from fromnoise.nn.network import Network, networks

Count = Annotated[int, Field(ge=0)]
Width = Annotated[int, Field(ge=1)]

_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "silu": (F.silu, partial(F.silu, inplace=True)),
    "gelu": (F.gelu, F.gelu),
    "relu": (F.relu, torch.relu_),
    "leaky_relu": (F.leaky_relu, F.leaky_relu_),
    "tanh": (torch.tanh, torch.tanh_),
}
"""Each activation, and the same in place: sampling has no use for the values before it."""


class ResidualBlock(nn.Module):
    """h + W2 act(W1 act(h) + V g), g being what the network is told; starts as the identity."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(hidden, hidden)
        self.told = nn.Linear(hidden, hidden, bias=False)
        self.second = nn.Linear(hidden, hidden)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, h: Tensor, g: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
        """Map `[B, H]` to `[B, H]`, g being `[1, H]` or `[B, H]`."""
        return h + self.second(act(self.first(act(h)) + self.told(act(g))))


@networks.register("mlp")
class MLP(Network):
    """A perceptron that is told the time and, perhaps, a label or a condition vector.

    Args:
        dim: D, the length of x.
        hidden: H, the width of every hidden layer.
        depth: how many hidden layers; with `residual`, how many blocks after the first layer.
        activation: between the layers.
        residual: join the hidden layers into residual blocks, each told the time anew.
        fourier: how many random Fourier features of x stand beside x.
        fourier_scale: their frequencies' standard deviation, in cycles per unit of x.
        time_dim: the width of the time's embedding, even.
        classes: how many labels; 0 for none.
        cond_dim: the length of a condition vector; 0 for none.
    """

    def __init__(
        self,
        dim: Width,
        hidden: Width = 128,
        depth: Width = 2,
        *,
        activation: Literal["silu", "gelu", "relu", "leaky_relu", "tanh"] = "silu",
        residual: bool = False,
        fourier: Count = 0,
        fourier_scale: Annotated[float, Field(gt=0)] = 0.4,
        time_dim: Annotated[int, Field(ge=2, multiple_of=2)] = 64,
        classes: Count = 0,
        cond_dim: Count = 0,
    ) -> None:
        super().__init__()
        self.shape, self.classes = (dim,), classes
        self._act, self._act_in_place = _ACTIVATIONS[activation]
        self.features = FourierFeatures(dim, fourier, fourier_scale) if fourier else None
        self.embed = SinusoidalEmbedding(time_dim)
        self.condition = Condition(hidden, classes, cond_dim) if classes or cond_dim else None
        self.x_in, self.t_in = _split_linear(dim + 2 * fourier, time_dim, hidden)
        kind = ResidualBlock if residual else lambda width: nn.Linear(width, width)
        self.layers = nn.ModuleList(kind(hidden) for _ in range(depth if residual else depth - 1))
        self.out = nn.Linear(hidden, dim)

    @classmethod
    def article(cls, dim: int = 2, classes: int = 0) -> MLP:
        """Return the teaching article's network: 2 + 64 -> 256 -> 256 -> 2, LeakyReLU 0.01; 83,458 parameters."""
        return cls(dim, hidden=256, depth=2, activation="leaky_relu", classes=classes)

    def act(self, h: Tensor) -> Tensor:
        """Apply the activation, in place where no gradient asks for the values before it."""
        return self._act(h) if h.requires_grad else self._act_in_place(h)

    def forward(self, x: Tensor, told: Tensor, cond: Tensor | None = None) -> Tensor:
        g = F.linear(self.embed(told), self.t_in.weight, self.t_in.bias)  # [1, H] or [B, H]
        if self.condition is not None:
            g = g + self.condition(cond)
        h = F.linear(x if self.features is None else self.features(x), self.x_in.weight).add_(g)
        for layer in self.layers:
            h = layer(h, g, self._act) if isinstance(layer, ResidualBlock) else _affine(layer, self.act(h))
        # W h^T + b, transposed: for a few outputs several times as quick as h W^T + b
        return torch.addmm(self.out.bias[:, None], self.out.weight, self.act(h).T).T


def _affine(layer: nn.Module, h: Tensor) -> Tensor:
    """Return layer(h) for a linear layer, its bias added in place: a little quicker than spreading it out first."""
    assert isinstance(layer, nn.Linear)
    return F.linear(h, layer.weight).add_(layer.bias)


def _split_linear(from_x: int, from_t: int, width: int) -> tuple[nn.Linear, nn.Linear]:
    """Return the two halves of nn.Linear(from_x + from_t, width), initialized as the whole would be."""
    x_in, t_in = nn.Linear(from_x, width, bias=False), nn.Linear(from_t, width)
    bound = 1 / math.sqrt(from_x + from_t)
    for parameter in (x_in.weight, t_in.weight, t_in.bias):
        nn.init.uniform_(parameter, -bound, bound)
    return x_in, t_in
