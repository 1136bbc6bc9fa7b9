import pytest
import torch

import fromnoise as fn
from fromnoise.denoiser_like import DenoiserLike
from fromnoise.errors import InputError, LabelError
from fromnoise.schedule import schedules

NAMES = ["eps", "x0", "v", "flow", "score", "edm"]
SCHEDULES = [n for n in schedules.names() if n != "betas"]


@pytest.mark.parametrize("predict", NAMES)
@pytest.mark.parametrize("name", SCHEDULES)
def test_one_time_for_all_equals_one_each(predict, name):
    if predict in ("eps", "score") and name in ("flow", "trig"):
        return
    denoiser = fn.Denoiser(fn.nn.MLP(3, 16, classes=2), schedules.build(name), predict).double()
    x = torch.randn(6, 3).double()
    for t in (0.02, 0.5, 1.0):
        one, each = denoiser(x, t), denoiser(x, torch.full((6,), t).double())
        torch.testing.assert_close(one, each, rtol=1e-5, atol=1e-7)
        assert torch.isfinite(one).all()
    assert torch.isfinite(denoiser(x, 0.0)).all()
    assert isinstance(denoiser, DenoiserLike)


@pytest.mark.parametrize("predict", ["eps", "score"])
@pytest.mark.parametrize("schedule", [fn.RectifiedFlow(), fn.Trig(), fn.CosineBeta(beta_max=1.0)])
def test_eps_at_zero_terminal_snr_is_refused_with_the_way_out(predict, schedule):
    if schedule.alpha(1.0) != 0:
        schedule = fn.FromBetas([*schedule.betas[:-1], 1.0])
    with pytest.raises(InputError, match='predict "v"'):
        fn.Denoiser(fn.nn.MLP(2), schedule, predict)
    fn.Denoiser(fn.nn.MLP(2), schedule, "v")


def test_a_table_model_is_told_its_index():
    denoiser = fn.Denoiser(fn.nn.MLP(2), fn.LinearBeta())
    for k in (0, 1, 17, 500, 998, 999):
        assert denoiser.c_noise((k + 1) / 1000) == pytest.approx(k, abs=1e-9)
        told = denoiser.c_noise(torch.full((4,), (k + 1) / 1000, dtype=torch.float64))
        assert told.float().tolist() == [k] * 4


def test_a_continuous_model_is_told_a_clamped_log_snr():
    denoiser = fn.Denoiser(fn.nn.MLP(2), fn.RectifiedFlow(), "flow")
    assert denoiser.c_noise(0.0) == 20
    assert denoiser.c_noise(1.0) == -20
    assert denoiser.c_noise(0.5) == pytest.approx(0, abs=1e-6)


def test_a_table_model_knows_its_table_only_and_says_so():
    denoiser = fn.Denoiser(fn.nn.MLP(2), fn.LinearBeta())
    assert denoiser.on(fn.LinearBeta()) is denoiser
    with pytest.raises(InputError, match="that table only"):
        denoiser.on(fn.CosineBeta())


def test_a_trained_noise_level_model_gives_the_same_samples_on_every_path(trained):
    denoiser = fn.load(trained).denoiser
    start = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    # the same noise levels on every path, and the deterministic rule, so the same points
    levels = [60.0, 5.0, 1.0, 0.3, 0.05]
    found = []
    for schedule in (fn.EDM(), fn.LinearBeta(), fn.VP(), fn.RectifiedFlow()):
        there = denoiser.on(schedule)
        x = (60.0**2 + 1) ** 0.5 * start
        for v, w in zip(levels, [*levels[1:], 0.0], strict=True):
            t, s = (schedule.time_of_level(level) if level else 0.0 for level in (v, w))
            alpha_t, alpha_s = schedule.alpha(t), schedule.alpha(s)
            x_s, _ = fn.DDIM().step(there, alpha_t * x, t, s, cond=None, noise=lambda: None, state=None)
            x = x_s / alpha_s
        found.append(x)
    for other in found[1:]:
        assert (other - found[0]).abs().max() < 2e-3


def test_measuring_takes_scaling_and_sigma_from_the_data():
    data = fn.data.open(torch.randn(500, 2) * torch.tensor([3.0, 1.0]) + 5)
    denoiser = fn.Denoiser(fn.nn.MLP(2), fn.EDM(), "edm")
    denoiser.measure(data)
    z = denoiser.codec.into(data.x)
    assert float(z.mean()) == pytest.approx(0, abs=1e-5)
    assert float(z.square().mean()) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(denoiser.codec.out(z), data.x, rtol=1e-5, atol=1e-5)
    assert denoiser.prediction.sigma_data == pytest.approx(denoiser.sigma_data)


def test_shapes_and_labels_must_fit():
    with pytest.raises(InputError, match="shape"):
        fn.Denoiser(fn.nn.MLP(3), fn.EDM(), "edm").measure(fn.data.spiral(10))
    with pytest.raises(LabelError, match="knows 2 labels and the data have 3"):
        fn.Denoiser(fn.nn.MLP(2, classes=2), fn.EDM(), "edm").measure(fn.data.shapes(30))
    with pytest.raises(LabelError, match="the network knows 2 labels and the data have 1"):
        fn.Denoiser(fn.nn.MLP(2, classes=2), fn.EDM(), "edm", label_names=["a"])
    with pytest.raises(InputError, match="the network takes none of these"):
        fn.Denoiser(fn.nn.MLP(2), fn.EDM(), "edm", label_names=["a"])


def test_the_effective_dimension_is_measured_kept_and_forwarded(tmp_path):
    x = torch.randn(2000, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 1.0, 1e-3, 1e-3, 1e-3])
    run = fn.train(x, codec=fn.data.Affine("isotropic"), steps=1, out=tmp_path / "run")
    assert run.denoiser.effective_dimension == pytest.approx(2, abs=0.05)
    again = fn.load(tmp_path / "run").denoiser
    assert again.effective_dimension == run.denoiser.effective_dimension
    assert (
        fn.Inpainted(again, x[0], [True, False, False, False, False]).effective_dimension == again.effective_dimension
    )
    exact = fn.FiniteSet(run.denoiser.codec.into(x)).denoiser(fn.EDM())
    assert exact.effective_dimension == pytest.approx(again.effective_dimension, rel=1e-4)
    assert fn.Denoiser(fn.nn.MLP(5), fn.EDM()).effective_dimension == 5


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_of_network_and_of_sampling(trained_shapes, precision):
    denoiser = fn.load(trained_shapes).denoiser
    plain = fn.sample(denoiser, 40, cond="moons", steps=8, seed=3)
    coarse = {torch.float16: 0.02, torch.bfloat16: 0.2, torch.float64: 1e-4}[precision]
    drawn = fn.sample(denoiser, 40, cond="moons", steps=8, seed=3, dtype=precision)  # the same noise in each
    assert float((drawn.float() - plain).norm(dim=1).median()) < coarse
    denoiser.to(precision)
    x = fn.sample(fn.Guided(denoiser, 2.0), 40, cond="moons", steps=8, seed=3)
    assert x.dtype == (torch.float32 if precision != torch.float64 else x.dtype)
    assert torch.isfinite(x).all()
    assert float((fn.sample(denoiser, 40, cond="moons", steps=8, seed=3).float() - plain).norm(dim=1).median()) < coarse


def test_condition_vectors_follow_the_networks_precision():
    denoiser = fn.Denoiser(fn.nn.MLP(2, 16, cond_dim=3), fn.VP(), "v").to(torch.bfloat16).requires_grad_(False)
    assert torch.isfinite(fn.sample(denoiser, 5, cond=torch.randn(3), steps=3)).all()


def test_the_linear_answer_is_taken_row_by_row_where_nothing_is_left_of_the_signal():
    schedule = fn.CosineBeta()
    denoiser = fn.Denoiser(fn.nn.MLP(dim=2, hidden=8, depth=1), schedule, "eps", sigma_data=0.5)
    x, t = torch.randn(4, 2), torch.tensor([1.0, 0.9995, 0.99, 0.5])
    found = denoiser(x, t)
    for k, time in enumerate(t.tolist()):
        alpha, sigma = schedule.scales(time)
        linear = 0.25 * alpha / (alpha**2 * 0.25 + sigma**2) * x[k]
        own = (x[k : k + 1] - sigma * denoiser.prediction_of(x[k : k + 1], time)) / alpha
        torch.testing.assert_close(found[k], linear if sigma > 160 * alpha else own[0], rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(found[k], denoiser(x, time)[k], rtol=1e-3, atol=1e-6)
    assert schedule.sigma(0.99) < 160 * schedule.alpha(0.99) < 160 * schedule.sigma(1.0)
    own = fn.Denoiser(fn.nn.MLP(dim=2, hidden=8, depth=1), fn.LinearBeta(), "eps")  # DDPM's own: never
    assert not own._ends_in_noise
