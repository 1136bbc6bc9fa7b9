"""Contenders: what `certify` checks, a rule of this library or any function that turns noise into samples."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fromnoise.denoiser_like import DenoiserLike, spread
from fromnoise.errors import InputError
from fromnoise.samplers import DDIM, Sampler, samplers, walk


@dataclass(frozen=True)
class Contender:
    """A sampler in the form that the laws use.

    Attributes:
        name: its name in tables.
        run: (denoiser, standard normal noise `[B, *S]`, steps, a function that draws more noise) -> samples, on the
            sampler's own grid and in the denoiser's units.
        evaluations: the number of evaluations as a function of the number of steps.
        rule: the rule, if it is one of this library; None otherwise.
    """

    name: str
    run: Callable[[DenoiserLike, Tensor, int, Callable[[], Tensor]], Tensor]
    evaluations: Callable[[int], int]
    rule: Sampler | None = None

    @property
    def order(self) -> int | None:
        """Return the order of convergence that the rule claims; None for one that draws noise or claims nothing."""
        return None if self.rule is None else self.rule.convergence


def own(rule: Sampler) -> Contender:
    """Return a rule of this library as a contender."""

    def run(denoiser: DenoiserLike, noise: Tensor, steps: int, draw: Callable[[], Tensor]) -> Tensor:
        times = rule.grid(denoiser.schedule, steps, spread(denoiser))
        x = float(denoiser.schedule.sigma(1.0)) * noise
        for step in walk(denoiser, rule, times, x, noise=draw):
            x = step.x_s
        return x

    settings = samplers.settings(rule)
    eta = f" eta {rule.eta:g}" if isinstance(rule, DDIM) and rule.eta else ""
    order = f" {settings['order']}" if "order" in settings else ""
    return Contender(f"{settings['name']}{order}{eta}", run, rule.evaluations, rule)


def foreign(path: str) -> Contender:
    """Load `package.module:callable`, called as f(denoiser, noise, steps) -> samples.

    The denoiser is called as denoiser(x_t, t), has a `schedule` with `scales(t)` and `grid(steps)`, and the walk starts
    from x_t = sigma(1) noise. One evaluation a step is expected, unless the callable has an attribute `evaluations`,
    itself a function of steps.

    Raises:
        InputError: if it cannot be imported or called.
    """
    module, _, name = path.partition(":")
    try:
        function: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"{path} cannot be loaded: {error}; give package.module:callable") from None
    if not callable(function):
        raise InputError(f"{path} is not a function")

    def run(denoiser: DenoiserLike, noise: Tensor, steps: int, draw: Callable[[], Tensor]) -> Tensor:
        del draw
        answer = function(denoiser, noise, steps)
        if not isinstance(answer, Tensor) or answer.shape != noise.shape:
            got = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise InputError(f"{path} returned {got} where samples of shape {list(noise.shape)} were expected")
        return answer

    return Contender(path, run, getattr(function, "evaluations", lambda steps: steps))


def draws(seed: int, like: Tensor) -> Callable[[], Tensor]:
    """Return a function that draws noise of a tensor's shape; row i is the same for any number of rows up to 64."""
    generator = torch.Generator().manual_seed(seed)
    rows = max(64, len(like))

    def draw() -> Tensor:
        return torch.randn((rows, *like.shape[1:]), generator=generator, dtype=like.dtype)[: len(like)]

    return draw


def shipped() -> Sequence[Sampler]:
    """Return every shipped rule in the settings worth certifying."""
    rules: list[Sampler] = []
    for name in samplers.names():
        rule = samplers.build(name)
        if rule.of_few_steps:  # the exact denoiser is none of their models
            continue
        if "order" not in samplers.settings(rule):
            rules.append(rule)
            continue
        for order in range(1, 5):
            try:
                rules.append(samplers.build({"name": name, "order": order}))
            except InputError:
                break
    return rules
