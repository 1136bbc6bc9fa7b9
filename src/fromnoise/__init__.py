"""Diffusion models from 2-D points to images: one library, one command line.

Four words: a **schedule** maps a time to signal and noise scale, a **denoiser** answers E[x0 | x_t], a **sampler** is a
rule for one step, a **run** is the folder of one training.

    import fromnoise as fn

    points = fn.data.spiral(n=300, seed=0)
    run = fn.train(points, out="runs/spiral", seed=0)
    x = fn.sample(run.denoiser, n=300, seed=1)
    fn.plot.scatter(x).savefig("spiral.png")

`__init__.pyi` lists what is here, and from where. Each name is imported when it is first used, so that
`import fromnoise` costs little more than nothing.
"""

import gc
from typing import Any

import lazy_loader

from fromnoise import deprecated

_find, _, __all__ = lazy_loader.attach_stub(__name__, __file__)
_find_renamed = deprecated.renamed(__name__, {"Flow": "fromnoise.dynamics:ProbabilityFlow"}, stacklevel=4)
deprecated.moved("fromnoise.sample", "fromnoise.samplers")
deprecated.moved("fromnoise.train", "fromnoise.training")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        return _find_renamed(name)
    was_on = gc.isenabled()
    gc.disable()  # imports make no garbage, and looking for it while torch is imported costs 0.2 s on two cores
    try:
        return _find(name)
    finally:
        if was_on:
            gc.enable()


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


__version__ = "0.1.0"
