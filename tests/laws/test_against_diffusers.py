"""fromnoise and diffusers give the same trajectory from the same start and noise, wherever they use the same grid.

diffusers' index k = 0..999 is our time t = (k + 1)/1000. Both are given the exact denoiser of 60 points of a spiral,
each at its own x_t. Where the two differ, a test states the difference:

- **Rounding.** diffusers keeps alpha_bar in float32. On the grids that both share a comparison is made twice: with its
  table replaced by the same one in float64, where only float64's rounding may differ, and as it is shipped.
- **The grid.** diffusers' DDIM takes t - T//n for the next time, which is the next entry of its list for only 16 n in
  1..1000; its "trailing" list has n + 1 entries for 62 n, the last one -1; "leading" does not start at the noisy end.
- **The last step.** diffusers' DDPM adds noise to the finished sample where n < T.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler
from diffusers.schedulers import scheduling_ddpm
from torch import Tensor

import fromnoise as fn
from fromnoise import process
from fromnoise.exact import ExactDenoiser
from fromnoise.samplers.loop import walk

T = 1000
ROWS = 64
SCHEDULE = fn.LinearBeta(T=T)
LAW = fn.FiniteSet(fn.data.spiral(n=60, seed=0).x.double())


class _Exact(ExactDenoiser):
    """`LAW.denoiser(SCHEDULE)` in three lines (a test below compares them); type checks slow the original down."""

    def __call__(self, x_t: Tensor, t: float, cond: None = None) -> Tensor:
        alpha, sigma = self.schedule.scales(t)
        squares = (x_t[:, None] - alpha * self.law.flat).square().sum(2)
        return (squares / (-2 * sigma**2)).softmax(1) @ self.law.flat


EXACT = _Exact(LAW, SCHEDULE)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Thousands of steps of 64 rows: two threads wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


SOUND_FOR_DDIM = [1, 2, 4, 5, 8, 10, 20, 25, 40, 50, 100, 125, 200, 250, 500, 1000]
"""The n in 1..1000 for which t - T//n is the next entry of diffusers' own list: the divisors of T."""

SAME_TABLE = 1e-9
"""Float64 throughout: 1e-11 at most is seen, after 1000 steps; rounding grows where the nearest point changes."""

SHIPPED_MAX, SHIPPED_RMS, STRAY_MAX = 2e-4, 2e-5, 2e-2
"""For diffusers' float32 table, along the whole trajectory."""


def eps_hat(x: Tensor, k: int) -> Tensor:
    alpha, sigma = SCHEDULE.scales((k + 1) / T)
    return (x - alpha * EXACT(x, (k + 1) / T)) / sigma


def indices(steps: int) -> list[int]:
    """Return our grid as diffusers counts: k at the start of each step."""
    return [round(t * T) - 1 for t in SCHEDULE.grid(steps)[:-1]]


def start_and_noise(steps: int) -> tuple[Tensor, Tensor]:
    """Draw the start and the noise of each step; the last step has none (see the test on it)."""
    generator = torch.Generator().manual_seed(steps)
    start = torch.randn(ROWS, 2, generator=generator, dtype=torch.float64)
    noise = torch.randn(steps, ROWS, 2, generator=generator, dtype=torch.float64)
    noise[-1] = 0
    return start, noise


def our_trajectory(sampler: fn.DDPM | fn.DDIM, start: Tensor, noise: Tensor) -> Tensor:
    draws = iter(noise)
    walked = walk(EXACT, sampler, SCHEDULE.grid(len(noise)), start, noise=lambda: next(draws))
    return torch.stack([start, *(step.x_s for step in walked)])


def scheduler_of(kind: type, *, float64: bool, **settings: object) -> DDIMScheduler | DDPMScheduler:
    scheduler = kind(
        num_train_timesteps=T,
        trained_betas=SCHEDULE.betas,
        timestep_spacing="trailing",
        clip_sample=False,
        **settings,
    )
    assert scheduler.alphas_cumprod.dtype == torch.float32
    if float64:
        scheduler.alphas_cumprod = torch.tensor(SCHEDULE.alpha_bars)
    return scheduler


def ddim_trajectory(start: Tensor, noise: Tensor, eta: float, *, float64: bool, true_previous: bool = False) -> Tensor:
    """Walk diffusers' DDIM on its own list, or on our grid with the true previous index given to its formula."""
    scheduler = scheduler_of(DDIMScheduler, float64=float64, set_alpha_to_one=True)
    scheduler.set_timesteps(len(noise))
    ks = indices(len(noise)) if true_previous else scheduler.timesteps.tolist()
    assert len(ks) == len(noise)
    xs = [start]
    for (k, after), z in zip(pairwise([*ks, -1]), noise, strict=True):
        if true_previous:  # its formula takes k - T // num_inference_steps
            scheduler.num_inference_steps = T // (k - after)
            assert k - T // scheduler.num_inference_steps == after
        x = xs[-1]
        xs.append(scheduler.step(eps_hat(x, k), k, x, eta=eta, variance_noise=z if eta else None).prev_sample)
    return torch.stack(xs)


def ddpm_trajectory(
    patch: pytest.MonkeyPatch, start: Tensor, noise: Tensor, variance: str, *, float64: bool, our_grid: bool = False
) -> Tensor:
    """Walk diffusers' DDPM with `noise` in place of its own draws, on its own list or on our grid."""
    scheduler = scheduler_of(DDPMScheduler, float64=float64, variance_type=f"fixed_{variance}")
    if our_grid:
        scheduler.set_timesteps(timesteps=indices(len(noise)))
    else:
        scheduler.set_timesteps(len(noise))
    ks = scheduler.timesteps.tolist()
    xs = [start]
    for k, z in zip(ks, noise, strict=True):
        patch.setattr(scheduling_ddpm, "randn_tensor", lambda *_, z=z, **__: z)
        x = xs[-1]
        xs.append(scheduler.step(eps_hat(x, k), k, x).prev_sample)
    return torch.stack(xs)


def assert_same(ours: Tensor, theirs: Tensor) -> None:
    assert ours.shape == theirs.shape
    assert ours.dtype == theirs.dtype == torch.float64
    assert (ours - theirs).abs().max() <= SAME_TABLE


def assert_near(ours: Tensor, theirs: Tensor, *, strays: int = 0) -> None:
    """Check against diffusers as shipped, leaving out `strays` rows, whose bound is wider.

    A row that comes close to the border between two points amplifies the rounding of the float32 table. In 1000 noisy
    steps about 1 row in 80 strays by more than 2e-4 (measured on 2000); none does with the table in float64.
    """
    assert ours.shape == theirs.shape
    off = (ours - theirs).abs()
    rows = off.amax(dim=(0, 2)).argsort()[: ROWS - strays]
    assert off[:, rows].max() <= SHIPPED_MAX
    assert off[:, rows].square().mean().sqrt() <= SHIPPED_RMS
    assert off.max() <= STRAY_MAX


def test_the_denoiser_used_here_is_that_of_the_finite_set() -> None:
    x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own = LAW.denoiser(SCHEDULE)
    for k in (0, 1, 10, 100, 500, 999):
        t = (k + 1) / T
        x_t = process.add_noise(SCHEDULE, LAW.flat[torch.arange(500) % 60], t, x)
        assert (EXACT(x_t, t) - own(x_t, t)).abs().max() <= 1e-10


# -- the same trajectory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [10, 50, 1000])
def test_ddim_has_the_trajectory_of_diffusers(steps: int, eta: float) -> None:
    start, noise = start_and_noise(steps)
    ours = our_trajectory(fn.DDIM(eta), start, noise)
    assert_same(ours, ddim_trajectory(start, noise, eta, float64=True))
    assert_near(ours, ddim_trajectory(start, noise, eta, float64=False), strays=3 if eta and steps == T else 0)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("steps", [10, 30, 50, 1000])
def test_ddpm_has_the_trajectory_of_diffusers(steps: int, variance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start, noise = start_and_noise(steps)
    ours = our_trajectory(fn.DDPM(variance), start, noise)
    assert_same(ours, ddpm_trajectory(monkeypatch, start, noise, variance, float64=True))
    assert_near(
        ours, ddpm_trajectory(monkeypatch, start, noise, variance, float64=False), strays=3 if steps == T else 0
    )


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("steps", [30, 48, 61, 600])
def test_ddim_is_the_formula_of_diffusers_with_the_true_previous_time(steps: int, eta: float) -> None:
    start, noise = start_and_noise(steps)
    theirs = ddim_trajectory(start, noise, eta, float64=True, true_previous=True)
    assert_same(our_trajectory(fn.DDIM(eta), start, noise), theirs)


@pytest.mark.parametrize("variance", ["small", "large"])
@pytest.mark.parametrize("steps", [48, 61, 600])
def test_ddpm_has_the_trajectory_of_diffusers_on_our_grid(
    steps: int, variance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, noise = start_and_noise(steps)
    theirs = ddpm_trajectory(monkeypatch, start, noise, variance, float64=True, our_grid=True)
    assert_same(our_trajectory(fn.DDPM(variance), start, noise), theirs)


def test_ddim_of_eta_1_is_ddpm_in_both_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    start, noise = start_and_noise(50)
    ours = our_trajectory(fn.DDPM("small"), start, noise)
    assert_same(ours, our_trajectory(fn.DDIM(1.0), start, noise))
    assert_same(ours, ddim_trajectory(start, noise, 1.0, float64=True))
    assert_same(ours, ddpm_trajectory(monkeypatch, start, noise, "small", float64=True))


# -- noising and tables ----------------------------------------------------------------------------------------------


def test_noising_and_velocity_are_those_of_diffusers() -> None:
    generator = torch.Generator().manual_seed(0)
    x0, eps = torch.randn(2, T, 2, generator=generator, dtype=torch.float64)
    k = torch.arange(T)
    t = (k + 1).double() / T
    scheduler = scheduler_of(DDPMScheduler, float64=True)
    x_t = process.add_noise(SCHEDULE, x0, t, eps)
    v = process.convert(SCHEDULE, eps, x_t, t, given="eps", wanted="v")
    assert (x_t - scheduler.add_noise(x0, eps, k)).abs().max() <= 1e-13
    assert (v - scheduler.get_velocity(x0, eps, k)).abs().max() <= 1e-11  # x0 by way of (x_t - sigma eps)/alpha


@pytest.mark.parametrize(
    ("name", "schedule"), [("linear", fn.LinearBeta()), ("squaredcos_cap_v2", fn.CosineBeta())], ids=str
)
def test_schedules_are_those_of_diffusers_to_float32(name: str, schedule: fn.LinearBeta | fn.CosineBeta) -> None:
    theirs = DDPMScheduler(num_train_timesteps=T, beta_schedule=name)
    # their cosine's f(t)/f(t - 1) is rounded to float32 before it is taken from 1
    assert (theirs.betas.double() - torch.tensor(schedule.betas)).abs().max() <= 1e-7
    assert (theirs.alphas_cumprod.double() - torch.tensor(schedule.alpha_bars)).abs().max() <= 5e-6


# -- where the grids differ ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lists() -> dict[int, list[int]]:
    """Give diffusers' trailing list of every n."""
    scheduler = scheduler_of(DDIMScheduler, float64=False)
    found = {}
    for steps in range(1, T + 1):
        scheduler.set_timesteps(steps)
        found[steps] = scheduler.timesteps.tolist()
    return found


def test_our_grid_has_exactly_n_steps_that_fall_from_1_to_0_for_every_n() -> None:
    for steps in range(1, T + 1):
        grid = SCHEDULE.grid(steps)
        assert len(grid) == steps + 1
        assert (grid[0], grid[-1]) == (1.0, 0.0)
        assert all(t > s for t, s in pairwise(grid))
        assert all(abs(t * T - round(t * T)) < 1e-9 for t in grid)  # on the table


def test_diffusers_trailing_list_has_one_entry_too_many_for_62_n(lists: dict[int, list[int]]) -> None:
    too_long = [steps for steps, ks in lists.items() if len(ks) != steps]
    assert len(too_long) == 62
    assert too_long[:5] == [61, 103, 121, 122, 201]
    assert all(len(lists[steps]) == steps + 1 for steps in too_long)
    assert [steps for steps, ks in lists.items() if ks[-1] < 0] == too_long
    # but for the last entry and the rounding of halves it is our grid
    assert all(
        abs(k - own) <= 1 for steps in too_long for k, own in zip(lists[steps][:-1], indices(steps), strict=True)
    )


def test_diffusers_trailing_list_is_our_grid_but_for_the_rounding_of_halves(lists: dict[int, list[int]]) -> None:
    """diffusers adds up -T/n in float64, so that a half may come out below or above; ours rounds the exact value."""
    other = [steps for steps, ks in lists.items() if len(ks) == steps and ks != indices(steps)]
    assert len(other) == 49
    assert other[:3] == [48, 96, 112]
    for steps in other:
        for i, (k, own) in enumerate(zip(lists[steps], indices(steps), strict=True)):
            assert k == own or (abs(k - own) == 1 and 2 * i * T % (2 * steps) == steps)


def test_diffusers_ddim_assumes_the_true_next_index_for_the_divisors_of_t_only(lists: dict[int, list[int]]) -> None:
    def sound(steps: int, ks: list[int]) -> bool:
        in_list = all(k - T // steps == after for k, after in pairwise(ks))
        return len(ks) == steps and in_list and ks[-1] - T // steps < 0

    assert [steps for steps, ks in lists.items() if sound(steps, ks)] == SOUND_FOR_DDIM
    assert [steps for steps in range(1, T + 1) if T % steps == 0] == SOUND_FOR_DDIM


@pytest.mark.parametrize(("steps", "wrong"), [(30, 10), (600, 399)])
def test_diffusers_ddim_steps_to_another_index_than_its_list_goes_on_from(
    steps: int, wrong: int, lists: dict[int, list[int]]
) -> None:
    ks = lists[steps]
    assert len(ks) == steps
    assert sum(k - T // steps != after for k, after in pairwise(ks)) == wrong
    scheduler = scheduler_of(DDIMScheduler, float64=True)
    scheduler.set_timesteps(steps)
    k, after = next((k, after) for k, after in pairwise(ks) if k - T // steps != after)
    # a clean sample of 1 without noise comes out as sqrt(alpha_bar) at the index that the step went to
    x = torch.ones(1, 1, dtype=torch.float64) * scheduler.alphas_cumprod[k].sqrt()
    went_to = scheduler.step(torch.zeros_like(x), k, x).prev_sample
    assert float(went_to) == pytest.approx(float(scheduler.alphas_cumprod[k - T // steps].sqrt()), rel=1e-12)
    assert float(went_to) != pytest.approx(float(scheduler.alphas_cumprod[after].sqrt()), rel=1e-3)


@pytest.mark.parametrize(("steps", "least"), [(30, 0.003), (600, 0.1)])
def test_diffusers_ddim_as_shipped_has_another_trajectory_there(steps: int, least: float) -> None:
    start, noise = start_and_noise(steps)
    ours = our_trajectory(fn.DDIM(), start, noise)
    off = (ours - ddim_trajectory(start, noise, 0.0, float64=True)).square().mean(dim=(1, 2)).sqrt()
    assert off.max() >= least


def test_the_entry_too_many_makes_diffusers_read_the_noisiest_scale_for_the_cleanest() -> None:
    scheduler = scheduler_of(DDIMScheduler, float64=True)
    scheduler.set_timesteps(61)
    assert scheduler.timesteps[-1] == -1
    x = torch.ones(1, 1, dtype=torch.float64)
    out = scheduler.step(torch.zeros_like(x), -1, x).prev_sample
    assert float(out) == pytest.approx(1 / SCHEDULE.alpha(1.0), rel=1e-9)  # 157 times too large
    assert float(out) > 150


def test_diffusers_leading_list_starts_at_the_noisy_end_for_n_equal_to_t_only() -> None:
    scheduler = DDIMScheduler(num_train_timesteps=T, timestep_spacing="leading")
    starts = {}
    for steps in range(1, T + 1):
        scheduler.set_timesteps(steps)
        starts[steps] = int(scheduler.timesteps[0])
    assert [steps for steps, k in starts.items() if k == T - 1] == [T]
    assert starts[600] == 599


@pytest.mark.parametrize("steps", [10, 30])
def test_diffusers_ddpm_adds_noise_to_the_finished_sample_and_ours_does_not(
    steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, noise = start_and_noise(steps)
    noise[-1] = 1.0
    k = indices(steps)[-1]
    assert k > 0
    sigma = SCHEDULE.sigma((k + 1) / T)
    assert sigma > 0.08
    for variance, std, tolerance in (("small", 1e-10, 1e-12), ("large", sigma, 1e-9)):
        ours = our_trajectory(fn.DDPM(variance), start, noise)
        theirs = ddpm_trajectory(monkeypatch, start, noise, variance, float64=True)
        assert (theirs[:-1] - ours[:-1]).abs().max() <= SAME_TABLE
        assert (theirs[-1] - ours[-1] - std).abs().max() <= tolerance
