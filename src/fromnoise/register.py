"""Decorators that make components of your own known by a name, to Python, the command line, runs and the studio.

    import fromnoise as fn

    @fn.register.schedule("mine")
    @dataclass(frozen=True)
    class Mine(fn.schedule.Schedule):
        ...

The constructor's signature is the component's schema: names, types, ranges and defaults. A file of such classes is
given to a command as `--plugin file.py`; a package offers them as entry points of the groups `fromnoise.schedules`,
`fromnoise.networks` and so on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

C = TypeVar("C", bound=type)


def schedule(name: str) -> Callable[[C], C]:
    """Register a `fromnoise.schedule.Schedule`: alpha and sigma at every time."""
    from fromnoise.schedule import schedules

    return schedules.register(name)


def network(name: str) -> Callable[[C], C]:
    """Register a `fromnoise.nn.Network`: what is trained."""
    from fromnoise.nn import networks

    return networks.register(name)


def prediction(name: str) -> Callable[[C], C]:
    """Register a `fromnoise.process.Prediction`: what a network's output means."""
    from fromnoise.process import predictions

    return predictions.register(name)


def loss(name: str) -> Callable[[C], C]:
    """Register a `fromnoise.training.Task`: what a step draws and minimizes."""
    from fromnoise.training.task import losses

    return losses.register(name)


def weighting(name: str) -> Callable[[C], C]:
    """Register a `fromnoise.training.Weighting`: a weight of the loss for each noise level."""
    from fromnoise.training import weightings

    return weightings.register(name)


def times(name: str) -> Callable[[C], C]:
    """Register a `fromnoise.training.TimeLaw`: a distribution of training times."""
    from fromnoise.training import time_laws

    return time_laws.register(name)


def sampler(name: str) -> Callable[[C], C]:
    """Register a `fromnoise.samplers.Sampler`: a rule for one step."""
    from fromnoise.samplers import samplers

    return samplers.register(name)


def codec(name: str) -> Callable[[C], C]:
    """Register a `fromnoise.data.Codec`: what lies between the data's units and the denoiser's."""
    from fromnoise.data import codecs

    return codecs.register(name)


def conditioner(name: str) -> Callable[[C], C]:
    """Register a `fromnoise.conditioners.Conditioner`: what turns a user's words into conditions."""
    from fromnoise.conditioners import conditioners

    return conditioners.register(name)
