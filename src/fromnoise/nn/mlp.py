"""A multilayer perceptron for points and tables.

Its first layer takes [x, emb(t)]. Split in two, W = [W_x, W_t],

    W [x, emb(t)] + b  =  W_x x + (W_t emb(t) + b),

the second part, with the label's vector added, is one `[1, H]` row where all rows share one time, as in sampling.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.cond import Cond
from fromnoise.nn.embed import Condition, FourierFeatures, Scales, SinusoidalEmbedding
from fromnoise.nn.network import Network, networks

Count = Annotated[int, Field(ge=0, le=2**20)]
Width = Annotated[int, Field(ge=1, le=2**20)]

_ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "silu": (F.silu, partial(F.silu, inplace=True)),
    "gelu": (F.gelu, F.gelu),
    "relu": (F.relu, torch.relu_),
    "leaky_relu": (F.leaky_relu, F.leaky_relu_),
    "tanh": (torch.tanh, torch.tanh_),
}
"""Each activation and its in-place form, for sampling, where no gradient needs the values before it."""


class ResidualBlock(nn.Module):
    """h + W2 act(W1 act(h) + V act(g)), g the embedding of time and condition; initialised as the identity."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.first = nn.Linear(hidden, hidden)
        self.modulation = nn.Linear(hidden, hidden, bias=False)
        self.second = nn.Linear(hidden, hidden)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, h: Tensor, g: Tensor, act: Callable[[Tensor], Tensor]) -> Tensor:
        """Map h `[B, H]` to `[B, H]`, with g `[1, H]` or `[B, H]`."""
        return h + self.second(act(self.first(act(h)) + self.modulation(act(g))))


@networks.register("mlp")
class MLP(Network):
    """A multilayer perceptron of x, the time and, optionally, a label or a condition vector.

    Args:
        dim: D, the length of x.
        hidden: H, the width of every hidden layer.
        depth: the number of hidden layers; with `residual`, the number of blocks after the first layer.
        activation: the activation between the layers.
        residual: use residual blocks for the hidden layers; each block also takes the time's embedding.
        fourier: the number of random Fourier features of x that are concatenated to x.
        fourier_scale: the standard deviation of their frequencies, in cycles per unit of x.
        time_dim: the width of the time's embedding, an even number.
        classes: the number of labels; 0 for none.
        cond_dim: the length of a condition vector; 0 for none.
        guidance: the lowest and highest guidance scale that is a condition, as distilling makes it; left out for none.
        learned_variance: also predict the variance of a step, in the second half of the output.
    """

    ends = ("first", "out")

    def __init__(
        self,
        dim: Width,
        hidden: Width = 128,
        depth: Annotated[int, Field(ge=1, le=4096)] = 2,
        *,
        activation: Literal["silu", "gelu", "relu", "leaky_relu", "tanh"] = "silu",
        residual: bool = False,
        fourier: Count = 0,
        fourier_scale: Annotated[float, Field(gt=0)] = 0.4,
        time_dim: Annotated[int, Field(ge=2, le=2**20, multiple_of=2)] = 64,
        classes: Count = 0,
        cond_dim: Count = 0,
        guidance: Scales | None = None,
        learned_variance: bool = False,
    ) -> None:
        super().__init__()
        self.shape, self.classes, self.cond_dim, self.residual = (dim,), classes, cond_dim, residual
        self.guidance = guidance
        self._act, self._act_in_place = _ACTIVATIONS[activation]
        self.features = FourierFeatures(dim, fourier, fourier_scale) if fourier else None
        self.embed = SinusoidalEmbedding(time_dim)
        any_of = bool(classes or cond_dim or guidance)
        self.condition = Condition(hidden, classes, cond_dim, guidance=guidance) if any_of else None
        self.first = nn.Linear(dim + 2 * fourier + time_dim, hidden)
        kind = ResidualBlock if residual else lambda width: nn.Linear(width, width)
        self.layers = nn.ModuleList(kind(hidden) for _ in range(depth if residual else depth - 1))
        self.learned_variance = learned_variance
        self.out = nn.Linear(hidden, 2 * dim if learned_variance else dim)

    @classmethod
    def article(cls, dim: int = 2, classes: int = 0) -> MLP:
        """Return the teaching article's network: 2 + 64 -> 256 -> 256 -> 2, LeakyReLU 0.01; 83,458 parameters."""
        return cls(dim, hidden=256, depth=2, activation="leaky_relu", classes=classes)

    def act(self, h: Tensor) -> Tensor:
        """Apply the activation, in place where no gradient needs the values before it."""
        return self._act(h) if h.requires_grad else self._act_in_place(h)

    def forward(self, x: Tensor, c_noise: float | Tensor, cond: Cond | None = None) -> Tensor:
        features = x if self.features is None else self.features(x)
        emb = self.embed(c_noise, like=x)  # [1, E] or [B, E]
        vector = None if self.condition is None else self.condition(cond)  # [1, H] or [B, H]
        if self.residual or len(emb) < len(x):
            weight, n = self.first.weight, features.shape[1]
            g = F.linear(emb, weight[:, n:], self.first.bias)
            g = g if vector is None else g + vector
            h = _added(F.linear(features, weight[:, :n]), g)
        else:
            g, h = emb, self.first(torch.cat([features, emb], dim=1))
            h = h if vector is None else h + vector
        for layer in self.layers:
            h = layer(h, g, self._act) if isinstance(layer, ResidualBlock) else _affine(layer, self.act(h))
        h = self.act(h)
        if h.requires_grad:
            return self.out(h)
        # (W h^T + b)^T: with few outputs this is several times as quick as h W^T + b
        return torch.addmm(self.out.bias[:, None], self.out.weight, h.T).T


def _affine(layer: nn.Module, h: Tensor) -> Tensor:
    """Return layer(h) for a linear layer; without gradients, adding the bias in place is a little quicker."""
    assert isinstance(layer, nn.Linear)
    return layer(h) if h.requires_grad else _added(F.linear(h, layer.weight), layer.bias)


def _added(h: Tensor, row: Tensor) -> Tensor:
    """Add row to h in place, in h's dtype: under autocast a sum of two dtypes takes several times as long."""
    return h.add_(row.to(h.dtype))
