"""The well-known solvers, compared with diffusers' for an exact denoiser, the same start and the same noise.

Both use diffusers' own list of noise levels. This list and diffusers' arithmetic on it are float32: along the whole
trajectory the two differ by at most 2e-4, and by 2e-5 on average (rms). Where diffusers' rules lower their order
towards the end, a flag set here makes both do the same, or they are compared up to there.
"""

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    DPMSolverSinglestepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)

import fromnoise as fn
from fromnoise.samplers import walk

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of numpy, within diffusers

MOST, RMS = 2e-4, 2e-5
ROWS = 64
TABLE = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
    "timestep_spacing": "trailing",
}
SCHEDULE = fn.LinearBeta()
MEANS = fn.data.spiral(n=60, seed=0).x.double()
EXACT = fn.GaussianMixture(MEANS, 0.1).denoiser(SCHEDULE)

each_spacing = pytest.mark.parametrize("karras", [False, True], ids=["trailing", "karras"])
each_length = pytest.mark.parametrize("steps", [10, 30])


def normal(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def times(levels):
    """Our times for diffusers' noise levels, the last of which is 0."""
    inner = [float(SCHEDULE.time_of_level(float(level))) for level in levels[1:-1]]
    return [float(SCHEDULE.time_of_level(float(levels[0]))), *inner, 0.0]


def theirs(scheduler, steps, noise=None, *, exploding):
    """Walk diffusers' solver; return the levels and x/alpha (its own x on an exploding path) after every step."""
    scheduler.set_timesteps(steps)
    levels = scheduler.sigmas.double()
    x = normal(ROWS, 2) * (float(levels[0]) if exploding else float(levels[0] / (1 + levels[0] ** 2).sqrt()))
    xs, first = [], x
    for i, timestep in enumerate(scheduler.timesteps):
        level = float(levels[i])
        alpha = 1.0 if exploding else (1 + level**2) ** -0.5
        own_t = float(SCHEDULE.time_of_level(level))
        own_alpha = float(SCHEDULE.alpha(own_t))
        scheduler.scale_model_input(
            x, timestep
        )  # required by diffusers; the result, the model's input, is not needed here
        x0_hat = EXACT(own_alpha * x / alpha, own_t)
        eps_hat = (x / alpha - x0_hat) / level
        extra = {} if noise is None else {"variance_noise": noise[i]}
        x = scheduler.step(eps_hat, timestep, x, **extra).prev_sample.double()
        after = float(levels[i + 1])
        xs.append(x if exploding else x * (1 + after**2) ** 0.5)
    return levels, first if exploding else first * float((1 + levels[0] ** 2).sqrt()), xs


def ours(rule, levels, start, noise=None):
    """Walk our rule over diffusers' levels; return x/alpha after every step."""
    draws = iter([] if noise is None else noise)
    on = times(levels)
    x = float(SCHEDULE.alpha(on[0])) * start
    walked = walk(EXACT, rule, on, x, noise=lambda: next(draws))
    return [step.x_s / float(SCHEDULE.alpha(step.s)) for step in walked]


def held_together(rule, scheduler, steps, *, noise=None, exploding=False, up_to=None, every=slice(None)):
    levels, start, there = theirs(scheduler, steps, noise, exploding=exploding)
    here = ours(rule, levels[every], start, noise)
    there = there[1::2] + there[-1:] if every != slice(None) else there
    assert len(here) == len(there)
    off = torch.stack(here)[:up_to] - torch.stack(there)[:up_to]
    scale = (
        1 + levels[every][1:][:up_to, None, None] if up_to else 1 + levels[every][1:, None, None]
    )  # the scale of x/alpha
    assert float((off / scale).abs().max()) < MOST
    assert float((off / scale).square().mean().sqrt()) < RMS


@each_spacing
@each_length
def test_euler(karras, steps):
    held_together(fn.Euler(), EulerDiscreteScheduler(**TABLE, use_karras_sigmas=karras), steps, exploding=True)


@each_spacing
@each_length
def test_heun_and_its_evaluations(karras, steps):
    scheduler = HeunDiscreteScheduler(**TABLE, use_karras_sigmas=karras)
    scheduler.set_timesteps(steps)
    assert len(scheduler.timesteps) == fn.Heun().evaluations(steps)
    # diffusers lists every level twice except the first and the last: two entries are one step
    levels = scheduler.sigmas.double()
    levels, twice = torch.cat([levels[:1], levels[1:-1:2], levels[-1:]]), levels
    assert torch.equal(twice[1:-1:2], twice[2:-1:2]) or len(twice) % 2
    start = normal(ROWS, 2) * float(levels[0])
    x, xs = start, []
    for i, timestep in enumerate(scheduler.timesteps):
        level = float(twice[i]) if i % 2 == 0 else float(levels[i // 2 + 1])
        t = float(SCHEDULE.time_of_level(level))
        eps_hat = (x - EXACT(float(SCHEDULE.alpha(t)) * x, t)) / level
        x = scheduler.step(eps_hat, timestep, x).prev_sample.double()
        if i % 2 == 1 or i == len(scheduler.timesteps) - 1:
            xs.append(x)
    here = ours(fn.Heun(), levels, start)
    off = (torch.stack(here) - torch.stack(xs)) / (1 + levels[1:, None, None])
    assert float(off.abs().max()) < MOST
    assert float(off.square().mean().sqrt()) < RMS


@each_spacing
@each_length
@pytest.mark.parametrize("order", [1, 2, 3])
def test_dpm_solver_multistep(karras, steps, order):
    scheduler = DPMSolverMultistepScheduler(
        **TABLE, use_karras_sigmas=karras, solver_order=order, lower_order_final=False
    )
    held_together(fn.DPMSolver(order), scheduler, steps)


@each_spacing
@each_length
@pytest.mark.parametrize("order", [1, 2])
def test_the_sde(karras, steps, order):
    scheduler = DPMSolverMultistepScheduler(
        **TABLE, use_karras_sigmas=karras, solver_order=order, lower_order_final=False, algorithm_type="sde-dpmsolver++"
    )
    held_together(fn.SDE(order), scheduler, steps, noise=list(normal(steps, ROWS, 2)))


@each_spacing
@each_length
@pytest.mark.parametrize("order", [1, 2, 3])
def test_unipc(karras, steps, order):
    scheduler = UniPCMultistepScheduler(**TABLE, use_karras_sigmas=karras, solver_order=order, final_sigmas_type="zero")
    # theirs ends with orders 2, 1 where ours ends with 3, 1: the last two steps differ at order 3
    held_together(fn.UniPC(order), scheduler, steps, up_to=steps - 2 if order == 3 else None)


@each_length
def test_dpm_solver_singlestep(steps):
    order = 2
    # on levels even in their logarithm a step's inner points, which theirs takes from its list, are where ours are;
    # at order 3 theirs gets to the second of them by its midpoint rule, ours by the paper's exact integral
    levels_in_all = order * (steps // order) + 1
    scheduler = DPMSolverSinglestepScheduler(
        **{k: v for k, v in TABLE.items() if k != "timestep_spacing"},
        solver_order=order, use_exponential_sigmas=True, final_sigmas_type="zero", lower_order_final=True,
    )  # fmt: skip
    levels, start, there = theirs(scheduler, levels_in_all, exploding=False)
    assert scheduler.order_list[-1] == 1
    inner = torch.cat([levels[:-1:order], levels[-1:]])
    here = ours(fn.DPMSolverSinglestep(order), inner, start)
    there = there[order - 1 :: order] + there[-1:]
    off = (torch.stack(here) - torch.stack(there)) / (1 + inner[1:, None, None])
    assert float(off.abs().max()) < MOST
    assert float(off.square().mean().sqrt()) < RMS
