"""Networks without numbers: their names, shapes and dtypes, known before any memory is taken for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fromnoise.errors import FromnoiseError
from fromnoise.nn.network import networks
from fromnoise.registry import Registry
from fromnoise.rng import seeded


def skeleton(settings: Mapping[str, Any], registry: Registry[Any] = networks) -> nn.Module:
    """Build a network on the meta device; one of a user's own that cannot be built there is built for real.

    Args:
        settings: of the network, as `networks.build` takes them.
        registry: of what it is, where it is no network of a denoiser.

    Raises:
        UnknownName: if no network has that name.
        ConfigError: if a setting is unknown, missing or out of range.
    """
    with seeded(0, "network"):
        try:
            with torch.device("meta"), _Unfilled():
                return registry.build(settings)
        except FromnoiseError:
            raise
        except Exception:  # whatever a user's constructor does with the values of its tensors
            return registry.build(settings)


_FILLING = frozenset(
    {Tensor.normal_, Tensor.uniform_, Tensor.zero_, Tensor.fill_, Tensor.mul_, Tensor.div_, Tensor.exp_}
)


class _Unfilled(TorchFunctionMode):
    """Leave out what gives new tensors their values.

    On the meta device the first of these calls would have torch import 800 modules, which takes two seconds.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        if func in _FILLING or getattr(func, "__module__", "") == "torch.nn.init":
            return args[0] if args else given["tensor"]
        if func in (torch.randn, torch.rand):
            given.pop("generator", None)
            return torch.empty(*args, **given)
        if func is torch.arange and all(type(number) is int for number in args):
            return torch.empty(len(range(*args)), **{"dtype": torch.int64, **given})
        return func(*args, **given)
