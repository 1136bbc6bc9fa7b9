"""Other libraries' deterministic rules on an exact denoiser, each with exactly so many evaluations.

A rule is given the problem's D(x, v) as the model it expects: a noise prediction at an index of the linear table
(diffusers; its highest level is 157), a denoiser of x0 + v eps (k-diffusion; Karras et al.'s levels from 80 to 0.002),
or a posterior mean on its own schedule (azula). The model is evaluated at the very noise level that a rule means, also
where diffusers would round it to an index.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from problems import FLOAT, Problem
from solver_rule import Ended, Rule
from torch import Tensor, nn

os.environ.setdefault("HF_HUB_OFFLINE", "1")


# -- diffusers -------------------------------------------------------------------------------------------------------

_TABLE = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}


def _diffusers() -> Iterator[Rule]:
    lib: Any = importlib.import_module("diffusers")
    warnings.filterwarnings("ignore", module="diffusers")
    lib.utils.logging.set_verbosity_error()
    trailing = {**_TABLE, "timestep_spacing": "trailing"}
    yield Rule("diffusers", "DDIM", lambda p, n: _ddim(lib.DDIMScheduler(**trailing, clip_sample=False), p, n))
    for karras in (False, True):
        grid = {**trailing, "use_karras_sigmas": karras}
        said = ", Karras" if karras else ""
        for order in (2, 3):
            yield _by_levels(f"DPM++ {order}M{said}", lib.DPMSolverMultistepScheduler, grid, solver_order=order)
            yield _by_levels(f"UniPC {order}{said}", lib.UniPCMultistepScheduler, grid, solver_order=order)
        yield _by_levels(f"Heun{said}", lib.HeunDiscreteScheduler, grid, twice=True, exploding=True)
        yield _by_levels(f"Euler{said}", lib.EulerDiscreteScheduler, grid, exploding=True)


def _ddim(scheduler: Any, problem: Problem, steps: int) -> Ended | None:
    scheduler.set_timesteps(steps)
    if len(scheduler.timesteps) != steps:
        return None  # its trailing spacing gives one time too many for some numbers
    bars = scheduler.alphas_cumprod.double()
    start = bars[int(scheduler.timesteps[0])]
    x = (1 - start).sqrt() * problem.z
    for index in scheduler.timesteps:
        bar = bars[int(index)]
        x0_hat = problem.denoise(x / bar.sqrt(), float((1 / bar - 1).sqrt()))
        x = scheduler.step((x - bar.sqrt() * x0_hat) / (1 - bar).sqrt(), int(index), x).prev_sample
    return Ended(x, float((1 / start - 1).sqrt()))


def _by_levels(
    name: str, scheduler: Any, grid: dict[str, Any], *, twice: bool = False, exploding: bool = False, **settings: Any
) -> Rule:
    def run(problem: Problem, evaluations: int) -> Ended | None:
        if twice and evaluations % 2 == 0:
            evaluations += 1  # the nearest that it can do, in its favour
        steps = (evaluations + 1) // 2 if twice else evaluations
        rule = scheduler(**grid, **settings)
        rule.set_timesteps(steps)
        if len(rule.timesteps) != (2 * steps - 1 if twice else steps):
            return None  # as above
        levels = [float(level) for level in rule.sigmas]
        first = levels[0]
        x = problem.z * (first if exploding else first / (1 + first**2) ** 0.5)
        for i, index in enumerate(rule.timesteps):
            level = levels[i]
            rule.scale_model_input(x, index)
            scale = 1.0 if exploding else (1 + level**2) ** 0.5
            x0_hat = problem.denoise(scale * x, level)
            x = rule.step((scale * x - x0_hat) / level, index, x).prev_sample.double()
        return Ended(x, first)

    return Rule("diffusers", name, run)


# -- k-diffusion -----------------------------------------------------------------------------------------------------

_HIGHEST, _LOWEST = 80.0, 0.002


def _k_diffusion() -> Iterator[Rule]:
    from peers import inert_torchvision, only_module

    with inert_torchvision():
        lib: Any = only_module("k_diffusion", "sampling")
    stochastic = {"sample_dpmpp_2m_sde", "sample_dpmpp_3m_sde", "sample_dpmpp_2s_ancestral", "sample_dpmpp_sde"}
    for name in (
        "euler",
        "heun",
        "dpm_2",
        "lms",
        "dpmpp_2m",
        "dpmpp_2s_ancestral",
        "dpmpp_sde",
        "dpmpp_2m_sde",
        "dpmpp_3m_sde",
    ):
        function = getattr(lib, f"sample_{name}")
        twice = name in ("heun", "dpm_2", "dpmpp_2s_ancestral", "dpmpp_sde")
        extra = {"eta": 0.0} if f"sample_{name}" in stochastic else {}
        shown = f"{name}, eta 0" if extra else name
        yield Rule("k-diffusion", shown, _karras(lib, function, twice, extra))

    def fast(problem: Problem, evaluations: int) -> Ended:
        # its time is -log sigma; it stops at the lowest level and is given no last step
        x = lib.sample_dpm_fast(_told_rows(problem), _HIGHEST * problem.z, _LOWEST, _HIGHEST, evaluations, disable=True)
        return Ended(x, _HIGHEST)

    yield Rule("k-diffusion", "dpm_fast", fast)


def _karras(lib: Any, function: Any, twice: bool, extra: dict[str, Any]) -> Callable[[Problem, int], Ended]:
    def run(problem: Problem, evaluations: int) -> Ended:
        steps = evaluations // 2 + 1 if twice else evaluations  # the last step, onto 0, takes one
        levels = lib.get_sigmas_karras(steps, _LOWEST, _HIGHEST).double()
        silent = {"noise_sampler": lambda *_: torch.zeros_like(problem.z)} if extra else {}
        x = function(_told_rows(problem), float(levels[0]) * problem.z, levels, disable=True, **extra, **silent)
        return Ended(x, float(levels[0]))

    return run


def _told_rows(problem: Problem) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the denoiser as k-diffusion calls it, with a level for every row."""
    return lambda x, levels: problem.denoise(x, float(levels.reshape(-1)[0]))


# -- azula -----------------------------------------------------------------------------------------------------------


def _azula() -> Iterator[Rule]:
    samplers: Any = importlib.import_module("azula.sample")
    noise: Any = importlib.import_module("azula.noise")
    denoise: Any = importlib.import_module("azula.denoise")
    paths = {"VP": noise.VPSchedule(), "VE": noise.VESchedule(sigma_max=_HIGHEST), "flow": noise.RectifiedSchedule()}
    rules = {"DDIM": {}, "Heun": {}} | {f"{kind} {order}": {"order": order} for kind in _MULTISTEP for order in (2, 3)}
    for path, schedule in paths.items():
        for name, settings in rules.items():
            sampler = getattr(samplers, f"{name.split()[0]}Sampler")
            yield Rule("azula", f"{name}, {path}", _on_path(denoise, schedule, sampler, name == "Heun", settings))


_MULTISTEP = ("zAB", "vAB", "zEAB", "xEAB", "REAB")


def _on_path(
    denoise: Any, schedule: Any, sampler: Any, twice: bool, settings: dict[str, Any]
) -> Callable[[Problem, int], Ended]:
    class Exact(denoise.Denoiser):
        """The exact posterior mean on azula's path."""

        def __init__(self, problem: Problem) -> None:
            nn.Module.__init__(self)
            self.schedule, self.problem = schedule, problem

        def forward(self, x_t: Tensor, t: Tensor, **_: Any) -> Any:
            alpha, sigma = schedule(t.double())
            return denoise.DiracPosterior(self.problem.denoise(x_t / alpha, float(sigma / alpha)))

    def run(problem: Problem, evaluations: int) -> Ended:
        steps = (evaluations + 1) // 2 if twice else evaluations
        alpha, sigma = schedule(torch.ones((), dtype=FLOAT))
        rule = sampler(Exact(problem), steps=steps, silent=True, dtype=FLOAT, **settings)
        return Ended(rule(sigma * problem.z), float(sigma / alpha))

    return run


PEERS: dict[str, Callable[[], Iterator[Rule]]] = {
    "diffusers": _diffusers, "k-diffusion": _k_diffusion, "azula": _azula
}  # fmt: skip
