"""Muon: momentum whose matrices are made orthogonal before each step.

    M <- mu M + G,    W <- (1 - lr wd) W - lr sqrt(max(1, rows/columns)) O(G + mu M)

O(X) is about U V^T for X = U S V^T: every direction of a matrix is moved by as much. It is found by Newton-Schulz
steps, X <- P X with P = a I + b A + c A^2 and A = X X^T, from X/|X|; they bring all singular values near 1, not to it.

P and A commute, so X = P_5 ... P_1 X_0 can be had from A alone, A <- P A P, and X_0 be multiplied once. Of a matrix
much wider than it is high, such as a convolution's, that is several times less work, in float32 as quick as in bf16.
Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from fromnoise.nn.network import plain

_COEFFICIENTS, _STEPS = (3.4445, -4.7750, 2.0315), 5
"""a, b, c and the number of steps. Source: Jordan et al. 2024."""

_WIDE = 4
"""How many times as wide as high a matrix must be for A alone to be quicker."""


def hidden_matrices(module: nn.Module) -> list[str]:
    """Return the names of the weights that Muon is for: of linear layers and convolutions, but the first and the last.

    A network names those by its attribute `ends`; without it they are the first and the last in its own order. It is
    not for a network's `modulators` either: a transformer of pictures learns faster that leaves them to AdamW.
    """
    inside = plain(module)
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    layers = [name for name, layer in inside.named_modules() if isinstance(layer, kinds)]
    ends = getattr(inside, "ends", None) or (layers[:1] + layers[-1:])
    prefix = next((name for name, one in module.named_modules() if one is inside), "")
    aside = set(getattr(inside, "modulators", ()))
    hidden = [name for name in layers if name not in ends and not aside.intersection(name.split("."))]
    return [".".join(filter(None, [prefix, name, "weight"])) for name in hidden]


class Muon(torch.optim.Optimizer):
    """Muon for parameters of two axes and more; of a convolution's the first is one axis, the others are the second.

    Args:
        params: the parameters.
        lr: the learning rate, in root mean square changes of an orthogonal matrix.
        momentum: mu.
        weight_decay: wd.
        dtype: in which matrices are made orthogonal that are not very wide; bfloat16 is enough.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.02,
        *,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] without a loss
        """Move every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[nn.Parameter]] = {}
            for p in group["params"]:
                if p.grad is not None:
                    by_shape.setdefault((len(p), p[0].numel()), []).append(p)
            for alike in by_shape.values():
                self._move(alike, group)

    def _move(self, alike: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Move parameters of one shape together."""
        lr, mu = group["lr"], group["momentum"]
        gradients = [p.grad for p in alike if p.grad is not None]
        for p in alike:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p)
        momenta = [self.state[p]["momentum_buffer"] for p in alike]
        for momentum, gradient in zip(momenta, gradients, strict=True):
            momentum.mul_(mu).add_(gradient)
        ahead = [g.add(m, alpha=mu).flatten(1) for g, m in zip(gradients, momenta, strict=True)]
        moves = orthogonal(torch.stack(ahead), self.dtype)
        rows, columns = moves.shape[1:]
        by = lr * max(1.0, rows / columns) ** 0.5
        for p, move in zip(alike, moves, strict=True):
            p.mul_(1 - lr * group["weight_decay"]).sub_(move.view_as(p), alpha=by)


def orthogonal(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """Return about U V^T of each matrix X = U S V^T in `[K, rows, columns]`: its singular values come near 1.

    Args:
        x: the matrices.
        dtype: to compute in where they are not very wide; that of x when not given.
    """
    if x.shape[1] > x.shape[2]:
        return orthogonal(x.transpose(1, 2), dtype).transpose(1, 2)
    start = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    if x.shape[2] > _WIDE * x.shape[1]:
        return _product(start @ start.transpose(1, 2)) @ start
    a, b, c = _COEFFICIENTS
    moved = start if dtype is None else start.to(dtype)
    for _ in range(_STEPS):
        gram = moved @ moved.transpose(1, 2)
        moved = torch.baddbmm(moved, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), moved, beta=a)
    return moved.to(x.dtype)


def _product(gram: Tensor) -> Tensor:
    """Return P_5 ... P_1 for A = X_0 X_0^T, `[K, rows, rows]`."""
    a, b, c = _COEFFICIENTS
    product = None
    for _ in range(_STEPS):
        p = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        p.diagonal(dim1=1, dim2=2).add_(a)
        product, gram = p if product is None else p @ product, p @ gram @ p
    assert product is not None
    return product
