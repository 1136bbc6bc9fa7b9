"""Our own rules on the benchmark's problems: on their own grids, on two paths."""

from __future__ import annotations

from collections.abc import Iterator

from problems import Problem
from solver_rule import Ended, Rule
from torch import Tensor

import fromnoise as fn
from fromnoise.arrays import Time
from fromnoise.conditioners import Words
from fromnoise.denoiser_like import DenoiserLike, Wrapper, spread
from fromnoise.samplers import Sampler, walk
from fromnoise.schedule import Schedule


class _Asked(Wrapper):
    """The problem's exact denoiser on a path, every evaluation counted by the problem."""

    def __init__(self, problem: Problem, schedule: Schedule) -> None:
        super().__init__(problem.law.denoiser(schedule))
        self._problem = problem

    def __call__(self, x_t: Tensor, t: Time, cond: Words = None) -> Tensor:
        self._problem.calls += 1
        return self.base(x_t, t, cond)

    def on(self, schedule: Schedule) -> DenoiserLike:
        return _Asked(self._problem, schedule)


def ours() -> Iterator[Rule]:
    """Yield our rules, the default rule on the default schedule first."""
    edm, linear = fn.EDM(), fn.LinearBeta()
    yield _on("multistep, linear", fn.Multistep(), linear)
    yield _on("multistep, edm", fn.Multistep(), edm)
    for order in (2, 3, 4):
        if order != fn.Multistep().order:
            yield _on(f"multistep {order}, edm", fn.Multistep(order=order), edm)
    yield _on("ddim, linear", fn.DDIM(), linear)
    yield _on("dpm-solver 2, linear", fn.DPMSolver(order=2), linear)
    yield _on("unipc 3, linear", fn.UniPC(order=3), linear)


def _on(name: str, rule: Sampler, schedule: Schedule) -> Rule:
    level = float(schedule.noise_level(1.0))

    def run(problem: Problem, evaluations: int) -> Ended:
        denoiser: DenoiserLike = _Asked(problem, schedule)
        x = float(schedule.sigma(1.0)) * problem.z
        for step in walk(denoiser, rule, rule.grid(schedule, evaluations, spread(denoiser)), x):
            x = step.x_s
        return Ended(x, level)

    return Rule("fromnoise", name, run)
