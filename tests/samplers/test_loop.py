import math
import subprocess
import sys

import numpy as np
import pytest
import torch

import fromnoise as fn
from fromnoise.denoiser_like import Wrapper
from fromnoise.errors import InputError, LabelError
from fromnoise.samplers import samplers
from fromnoise.samplers.loop import chunks

OF_MEANS = [name for name in samplers.names() if not samplers.build(name).of_few_steps]
"""The samplers of every denoiser."""


@pytest.mark.parametrize("rule", [fn.DDPM(), fn.DDIM(), fn.DDIM(eta=0.5), fn.Multistep()], ids=str)
def test_sample_i_is_the_same_for_any_n(trained, rule):
    denoiser = fn.load(trained).denoiser
    many = fn.sample(denoiser, 3000, sampler=rule, steps=4)
    for n in (1, 2, 303, 304, 305, 913, 2999):
        assert torch.equal(fn.sample(denoiser, n, sampler=rule, steps=4), many[:n])


def test_chunks_cover_everything_once_with_fixed_boundaries():
    for n in (1, 304, 305, 10_000):
        plan = list(chunks(n, (2,)))
        assert plan[0][:2] == (0, 0)
        assert all(a[1] + a[2] == b[1] for a, b in zip(plan, plan[1:], strict=False))
        assert plan[-1][1] < n <= plan[-1][1] + plan[-1][2]
        assert plan == list(chunks(10_000, (2,)))[: len(plan)]


def test_chunks_of_a_network_that_says_what_suits_it():
    plan = list(chunks(300, (1, 8, 8), chunk_rows=64))
    assert [rows for _, _, rows in plan] == [16, 32, 64, 64, 64, 64]
    assert plan == list(chunks(1000, (1, 8, 8), chunk_rows=64))[: len(plan)]
    assert [rows for *_, rows in chunks(3, (9,), chunk_rows=8)] == [8]


def test_the_network_sees_whole_chunks_only(trained):
    denoiser = fn.load(trained).denoiser
    rows = []
    denoiser.network.register_forward_hook(lambda m, i, o: rows.append(len(i[0])))
    fn.sample(denoiser, 1000, steps=2)
    assert sorted(set(rows)) == [304, 608, 1216]


def test_a_trajectory_ends_in_the_samples(trained):
    denoiser = fn.load(trained).denoiser
    way = fn.trajectory(denoiser, 400, steps=6, seed=3)
    assert way.x.shape == (7, 400, 2)
    assert way.x0_hat.shape == (6, 400, 2)
    assert torch.equal(way.x[-1], fn.sample(denoiser, 400, steps=6, seed=3))
    assert way.times[0] == 1
    assert way.times[-1] == 0


def test_seeds_and_starts_matter(trained):
    denoiser = fn.load(trained).denoiser
    a, b = fn.sample(denoiser, 5, seed=0), fn.sample(denoiser, 5, seed=1)
    assert not torch.equal(a, b)
    start = torch.randn(5, 2)
    assert torch.equal(fn.sample(denoiser, 5, start=start, seed=0), fn.sample(denoiser, 5, start=start, seed=7))


@pytest.mark.unchecked
def test_samples_are_in_the_datas_units():
    data = fn.data.spiral(2000)
    shifted = fn.data.open(data.x * 10 + 100)
    run = fn.train(shifted, steps=200)
    x = fn.sample(run.denoiser, 500)
    torch.testing.assert_close(x.mean(0), shifted.x.mean(0), atol=3, rtol=0)
    assert 4 < float(x.std()) < 40


def test_labels_by_name_number_and_one_each(trained_shapes):
    denoiser = fn.load(trained_shapes).denoiser
    by_name = fn.sample(denoiser, 7, cond="circles", steps=3)
    assert torch.equal(by_name, fn.sample(denoiser, 7, cond=1, steps=3))
    assert torch.allclose(by_name, fn.sample(denoiser, 7, cond=["circles"] * 7, steps=3), atol=1e-5)
    assert not torch.allclose(by_name, fn.sample(denoiser, 7, cond="moons", steps=3))
    assert not torch.allclose(by_name, fn.sample(denoiser, 7, steps=3))


@pytest.mark.parametrize(
    ("cond", "words"),
    [(-1, "out of range"), (3, "out of range"), ("circle", "did you mean 'circles'"), (["moons"], "1 conditions were")],
)
def test_wrong_labels_are_refused(trained_shapes, cond, words):
    with pytest.raises(LabelError, match=words):
        fn.sample(fn.load(trained_shapes).denoiser, 4, cond=cond)


def test_a_label_without_labels_is_refused(trained):
    with pytest.raises(LabelError, match="no labels"):
        fn.sample(fn.load(trained).denoiser, 4, cond=0)


@pytest.mark.parametrize(("options", "words"), [({"n": 0}, "n must be"), ({"n": 3, "seed": -1}, "seed must be"),
                                                ({"n": 3, "steps": 0}, "steps must be"),
                                                ({"n": 3, "grid": [1.0, 0.5]}, "fall strictly"),
                                                ({"n": 3, "grid": [1.0, 0.0], "steps": 4}, "1 steps, not 4"),
                                                ({"n": 3, "start": torch.zeros(2, 2)}, "start must be")])  # fmt: skip
def test_wrong_input_is_refused(trained, options, words):
    with pytest.raises(InputError, match=words):
        fn.sample(fn.load(trained).denoiser, **options)


def test_a_given_grid_is_used(trained):
    denoiser = fn.load(trained).denoiser
    seen = []
    original = denoiser.forward

    def spy(x, t, cond=None):
        seen.append(t)
        return original(x, t, cond)

    denoiser.forward = spy
    fn.sample(denoiser, 3, sampler=fn.DDIM(), grid=[1.0, 0.6, 0.1, 0.0])
    assert seen == [1.0, 0.6, 0.1]


def test_bf16_is_close_and_float32_elsewhere(trained):
    denoiser = fn.load(trained).denoiser
    a, b = (fn.sample(denoiser, 500, precision=p, steps=10) for p in ("float32", "bf16"))
    assert b.dtype == torch.float32
    assert not torch.equal(a, b)
    assert float((a - b).abs().median()) < 0.03


@pytest.mark.unchecked
def test_a_precision_that_is_none_is_refused(trained):
    for word in ("fp16", "nonsense"):
        with pytest.raises(InputError, match="float32 or bf16"):
            fn.sample(fn.load(trained).denoiser, 2, steps=2, precision=word)


def test_progress_counts_every_step(trained):
    seen = []
    fn.sample(fn.load(trained).denoiser, 1000, steps=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 9) for k in range(1, 10)]


@pytest.mark.alone
@pytest.mark.slow
def test_memory_does_not_grow_with_n_when_written_to_a_file(trained, tmp_path):
    script = (
        "import resource, sys, fromnoise.cli.main as m\n"
        "code = m.main(['sample', sys.argv[1], '-n', sys.argv[2], '--steps', '2', '--out', sys.argv[3]])\n"
        "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)\nsys.exit(code)\n"
    )
    peaks = []
    for n in (20_000, 520_000):
        out = subprocess.run(
            [sys.executable, "-c", script, str(trained), str(n), str(tmp_path / f"{n}.npy")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        peaks.append(int(out.stdout.split("peak")[1]))
    assert np.load(tmp_path / "520000.npy", mmap_mode="r").shape == (520_000, 2)
    assert (peaks[1] - peaks[0]) / 500_000 <= 64  # bytes a point


FAR = {
    "linear, 4,000 steps": fn.LinearBeta(T=4000), "cosine": fn.CosineBeta(), "sigmoid": fn.SigmoidBeta(),
    "edm to a million": fn.EDM(sigma_max=1e6), "no signal": fn.Trig(),
}  # fmt: skip


@pytest.mark.parametrize("spacing", ["karras", "uniform", "quadratic"])
@pytest.mark.parametrize("path", FAR)
def test_a_first_level_far_above_the_data_harms_no_rule(path, spacing):
    # Heun's weights grow with the ratio of the levels: from 6e8 to 80 they threw points 563 times too far
    x = fn.data.spiral(400, seed=0).x
    data = (x - x.mean(0)) / x.std()
    law = fn.FiniteSet(data)
    denoiser = law.denoiser(FAR[path])
    rules = (fn.Heun, fn.DPMSolver, fn.UniPC, fn.SDE, fn.samplers.DPMSolverSinglestep)
    euler = fn.metrics.energy_distance(fn.sample(denoiser, 300, sampler=fn.Euler(spacing=spacing), steps=25), data)
    for rule in rules:
        drawn = fn.sample(denoiser, 300, sampler=rule(spacing=spacing), steps=25)
        assert fn.metrics.energy_distance(drawn, data) < euler + 0.05, rule


@pytest.mark.unchecked
@pytest.mark.parametrize("T", [20, 100])
def test_the_start_is_as_wide_as_noisy_data_are(T):
    data = fn.data.spiral(500, seed=0).x
    data = (data - data.mean(0)) / data.std()
    schedule = fn.LinearBeta(T=T)
    denoiser = fn.FiniteSet(data).denoiser(schedule)
    alpha, sigma = schedule.scales(1.0)
    width = math.hypot(alpha * denoiser.sigma_data, sigma)
    way = fn.trajectory(denoiser, 4000, steps=10)
    assert float(way.x[0].std()) == pytest.approx(width, rel=0.03)
    assert torch.equal(way.x[-1], fn.sample(denoiser, 4000, steps=10))
    narrow = fn.sample(denoiser, 4000, steps=10, start=sigma / width * torch.randn(4000, 2))
    assert fn.metrics.energy_distance(way.x[-1], data) < fn.metrics.energy_distance(narrow, data)
    noise = torch.randn(
        50, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )  # the flow's noise is the start, too
    flow = fn.ProbabilityFlow(denoiser).decode(noise)
    drawn = fn.sample(denoiser, 50, start=noise, steps=400, dtype=torch.float64)
    assert float((flow - drawn).norm(dim=1).median()) < 3e-3


def test_a_denoiser_may_take_a_gradient_of_its_own():
    class Steered(Wrapper):
        def __call__(self, x_t, t, cond=None):
            with torch.enable_grad():
                x = x_t.detach().requires_grad_()
                (slope,) = torch.autograd.grad((x**2).sum(), x)
            return self.base(x_t, t, cond) - 0.05 * slope

    plain = fn.FiniteSet(fn.data.spiral(100).x).denoiser(fn.EDM())
    for sampler in (fn.Multistep(), fn.DDIM(), fn.Heun()):
        x = fn.sample(Steered(plain), 50, sampler=sampler, steps=5)
        assert not x.requires_grad
        assert not torch.equal(x, fn.sample(plain, 50, sampler=sampler, steps=5))
        with torch.inference_mode():
            assert fn.sample(plain, 5, sampler=sampler, steps=5).shape == (5, 2)


@pytest.mark.unchecked
@pytest.mark.parametrize("predict", ["eps", "score"])
@pytest.mark.parametrize("schedule", [fn.CosineBeta(), fn.SigmoidBeta(), fn.LinearBeta(T=4000)], ids=str)
def test_a_network_is_not_believed_where_its_error_counts_a_thousandfold(predict, schedule):
    # a network that is right but for 2% of the noise, on a path that ends in noise alone
    law = fn.GaussianMixture(torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64), 0.3)

    class NearlyRight(torch.nn.Module):
        shape = (2,)

        def __init__(self):
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x, c_noise, cond=None):
            t = (float(c_noise) + 1) / schedule.T
            alpha, sigma = schedule.scales(t)
            eps = (x - alpha * law.denoiser(schedule)(x.double(), t).to(x)) / sigma + 0.02
            return eps if predict == "eps" else -eps / sigma

    denoiser = fn.Denoiser(NearlyRight(), schedule, predict, sigma_data=law.denoiser(schedule).sigma_data)
    for name in OF_MEANS:
        x = fn.sample(denoiser, 300, sampler=name, steps=20)
        assert x.abs().max() < 4, name


@pytest.mark.slow
def test_a_short_table_has_default_steps_for_every_sampler():
    data = fn.data.spiral(100).x
    for T in (1, 3, 10):
        denoiser = fn.FiniteSet(data).denoiser(fn.CosineBeta(T=T))
        for name in OF_MEANS:
            rule = samplers.build(name)
            assert rule.steps_on(denoiser.schedule) <= rule.default_steps
            x = fn.sample(denoiser, 20, sampler=rule)
            assert torch.isfinite(x).all(), (T, name)
    assert fn.DDPM().steps_on(fn.LinearBeta()) == 1000
    assert fn.DDIM().steps_on(fn.CosineBeta(T=10)) == 10
    assert fn.Multistep().steps_on(fn.CosineBeta(T=10)) == 30


def test_a_start_may_be_any_array_of_numbers():
    denoiser = fn.FiniteSet(fn.data.spiral(50).x).denoiser(fn.VP())
    start = torch.randn(6, 2)
    x = fn.sample(denoiser, 6, steps=3, start=start)
    assert torch.equal(x, fn.sample(denoiser, 6, steps=3, start=start.numpy()))
    assert torch.equal(x, fn.sample(denoiser, 6, steps=3, start=start.tolist()))
    with pytest.raises(InputError, match="start must be"):
        fn.sample(denoiser, 5, steps=3, start=start)
