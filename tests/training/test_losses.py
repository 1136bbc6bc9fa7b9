"""Score matching, with and without a target, and the learned variance: each against exact answers."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch.distributions import Normal, kl_divergence

import fromnoise as fn
from fromnoise import process
from fromnoise.data import Batch
from fromnoise.errors import ConfigError, InputError
from fromnoise.nn.network import Network
from fromnoise.report import respaced, score_fields
from fromnoise.rng import stream
from fromnoise.training import Draws, Plan, time_laws
from fromnoise.training.losses import Hybrid, Sliced, losses, mean_square, steps_of
from fromnoise.training.noising import objective
from fromnoise.training.task import Drawn, Task

MIXTURE = fn.GaussianMixture(torch.tensor([[1.0, 0.5], [-1.0, -0.4], [0.6, -1.2]]), 0.35)
DATA = fn.Dataset(MIXTURE.sample(50_000, seed=0), name="mixture")
LEVELS = {"name": "geometric-levels", "levels": 20, "high": 10.0, "low": 0.05}


class Exact(Network):
    """The best network there can be for a prediction on a table, with a fraction beside it if asked; off by `off`."""

    def __init__(self, schedule, predict, off=0.0, fraction=None):
        super().__init__()
        self.shape, self.schedule, self.off, self.fraction = (2,), schedule, off, fraction
        self.prediction = process.prediction(predict)
        self.learned_variance = fraction is not None
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x, c_noise, cond=None):
        alpha, sigma = self.schedule.scales((c_noise + 1) / self.schedule.T)
        alpha, sigma = alpha[:, None].double(), sigma[:, None].double()
        x_t = x.double()
        # differentiable, unlike the library's own answer, which is made block by block
        total = (alpha * 0.35) ** 2 + sigma**2
        m = MIXTURE.flat.double()
        logs = -(x_t[:, None] - alpha[..., None] * m).square().sum(2) / (2 * total)
        r = logs.softmax(1)
        gain = alpha * 0.35**2 / total
        x0_hat = (1 - alpha * gain) * (r @ m) + gain * x_t
        c_skip, c_out = self.prediction.coefficients(alpha, sigma)
        out = (x0_hat - c_skip * x_t) / c_out + self.off
        return out if self.fraction is None else torch.cat([out, 2 * self.fraction(out) - 1], dim=1)


def mean_loss(kind, denoiser, weighting="uniform", rounds=8, n=20_000):
    task, law = kind.bound(denoiser, objective(denoiser, weighting)), MIXTURE._in(torch.float64)
    values = []
    for i in range(rounds):
        clean = Batch(law.sample(n, seed=100 + i), None)
        values.append(float(task.loss(task.draw(clean, Draws(i, n, name="losses"))).detach()))
    values = torch.tensor(values)
    return float(values.mean()), float(values.std() / math.sqrt(rounds))


# -- score matching ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "predict", "weighting"),
    [
        ("denoising", "v", "min-snr"),
        *((loss, *kind) for loss in ("denoising", "sliced") for kind in (("score", "snr"), ("eps", "uniform"))),
    ],
)
def test_the_best_network_has_the_loss_of_the_floor_and_any_other_has_more(loss, predict, weighting):
    schedule = fn.LinearBeta(T=100)
    floor = fn.loss_floor(MIXTURE, schedule, predict, weighting, loss=loss, draws=100_000)
    best, error = mean_loss(losses.build(loss), fn.Denoiser(Exact(schedule, predict), schedule, predict), weighting)
    assert best == pytest.approx(floor.value, abs=4 * math.hypot(error, floor.error))
    worse, error = mean_loss(
        losses.build(loss), fn.Denoiser(Exact(schedule, predict, off=0.3), schedule, predict), weighting
    )
    assert worse > floor.value + 4 * math.hypot(error, floor.error)


def test_sliced_and_denoising_losses_differ_by_a_constant():
    # E|s - s*|^2 is both: what a change of the network adds is the same for the two
    schedule, added = fn.LinearBeta(T=100), {}
    for loss in ("denoising", "sliced"):
        kind = losses.build(loss)
        values = [mean_loss(kind, fn.Denoiser(Exact(schedule, "eps", off=off), schedule, "eps")) for off in (0.0, 0.4)]
        added[loss] = values[1][0] - values[0][0]
    assert added["denoising"] == pytest.approx(0.16, abs=0.01)
    assert added["sliced"] == pytest.approx(0.16, abs=0.02)


@pytest.mark.unchecked
@pytest.mark.slow
@pytest.mark.parametrize(("loss", "most"), [("denoising", 0.03), ("sliced", 0.1)])
def test_training_reaches_the_exact_score_of_a_mixture(loss, most):
    network = fn.nn.MLP(2, 64, 3, fourier=32, time_dim=32)
    denoiser = fn.Denoiser(network, fn.EDM(sigma_max=10.0), "score")
    config = fn.TrainConfig(steps=4000, batch_size=256, loss=loss, weighting="snr", times=LEVELS)
    *_, last = fn.fit(denoiser, DATA, config)
    assert last.run is not None
    fields = score_fields(last.run, (0.2, 0.5, 1.0, 3.0))
    assert [f.error < most for f in fields] == [True] * 4, [f.error for f in fields]
    assert last.progress > 0.9


def test_the_score_of_a_trained_model_is_minus_eps_over_sigma():
    config = fn.TrainConfig(steps=50, weighting="snr", times=LEVELS)
    denoiser = fn.Denoiser(fn.nn.MLP(2, 32), fn.EDM(sigma_max=10.0), "score")
    for _ in fn.fit(denoiser, DATA, config):
        pass
    x_t, t = torch.randn(64, 2), 0.6
    said = denoiser.prediction_of(x_t, t)
    eps = process.convert(denoiser.schedule, said, x_t, t, given="score", wanted="eps")
    torch.testing.assert_close(said, -eps / denoiser.schedule.sigma(t))
    # and by Tweedie's formula, from what the denoiser answers
    alpha, sigma = denoiser.schedule.scales(t)
    torch.testing.assert_close((alpha * denoiser(x_t, t) - x_t) / sigma**2, said, rtol=1e-4, atol=1e-4)


def test_geometric_levels_come_each_as_often_as_the_others():
    schedule = fn.EDM(sigma_max=10.0)
    t = time_laws.build(LEVELS).draw(schedule, 20_000, stream(0, "test"))
    levels, counts = schedule.noise_level(t).double().round(decimals=6).unique(return_counts=True)
    assert len(levels) == 20
    assert float(levels[0]) == pytest.approx(0.05, rel=1e-3)
    assert float(levels[-1]) == pytest.approx(10.0, rel=1e-3)
    torch.testing.assert_close((levels[1:] / levels[:-1]).log(), torch.full((19,), math.log(200) / 19).double(),
                               rtol=1e-3, atol=1e-3)  # fmt: skip
    assert set(counts.tolist()) == {1000}


def test_predicting_the_score_weights_it_by_sigma_squared():
    assert Plan.from_recipe("points", {"predict": "score"}).train.weighting["name"] == "snr"
    assert Plan.from_recipe("points", {"predict": "v"}).train.weighting["name"] == "uniform"
    chosen = Plan.from_recipe("points", {"predict": "score", "train": {"weighting": "min-snr"}})
    assert chosen.train.weighting["name"] == "min-snr"
    goal = objective(fn.Denoiser(fn.nn.MLP(2), fn.EDM(), "score"), "snr")
    sigma = torch.tensor([0.1, 2.0], dtype=torch.float64)
    times = fn.EDM().time_of_level(sigma)
    torch.testing.assert_close(goal.weight(times, goal.schedule.scales(times)), sigma**2)


# -- a learned variance ------------------------------------------------------------------------------------------------


def test_a_steps_divergence_is_that_of_the_two_gaussians():
    schedule, t, s = fn.LinearBeta(), 0.4, 0.3
    x0, x0_hat, x_t = torch.randn(3, 50, dtype=torch.float64)
    on_x_t, on_x0, std = process.posterior(schedule, t, s)
    large = process.transition(schedule, s, t).std
    for fraction in (0.0, 0.3, 1.0):
        model = Normal(on_x_t * x_t + on_x0 * x0_hat, std * (large / std) ** fraction)
        exact = kl_divergence(Normal(on_x_t * x_t + on_x0 * x0, torch.tensor(std)), model)
        gap = math.exp(schedule.log_snr(s)) - math.exp(schedule.log_snr(t))
        ratio = 2 * math.log(schedule.sigma(t) / schedule.sigma(s))
        torch.testing.assert_close(process.step_divergence(gap * (x0 - x0_hat) ** 2, fraction * ratio), exact)


def test_the_hybrid_loss_leaves_the_mean_to_the_simple_one():
    schedule = fn.LinearBeta(T=100)
    denoiser = fn.Denoiser(fn.nn.MLP(2, 16, learned_variance=True), schedule, "eps")
    t = torch.linspace(0.01, 1, 256, dtype=torch.float64)
    noised = objective(denoiser).noised(DATA.x[:256], t, torch.randn(256, 2))
    c_noise = torch.as_tensor(denoiser.c_noise(t)).float()
    drawn = Drawn(noised.x_t, c_noise, None, noised.target, None, t, DATA.x[:256])
    mean, _ = denoiser.split_variance(denoiser.network_output(drawn.x, drawn.c_noise))
    mean_square(mean, drawn.target, None).backward()
    simple = denoiser.network.out.weight.grad.clone()
    denoiser.zero_grad()
    Hybrid(vlb_weight=0.5).bound(denoiser).loss(drawn).backward()
    hybrid = denoiser.network.out.weight.grad
    torch.testing.assert_close(hybrid[:2], simple[:2])
    assert simple[2:].abs().max() == 0
    assert hybrid[2:].abs().max() > 0


def test_the_hybrid_floor_is_the_loss_at_the_best_mean_and_variance():
    schedule, holder = fn.LinearBeta(T=100), {}

    def fraction(out):
        x_t, t = holder["x_t"], holder["t"]
        gap, log_ratio, _ = (part[:, None] for part in steps_of(schedule, t))
        alpha, sigma = schedule.scales(t)
        variance = MIXTURE.posterior_variance(x_t, alpha, sigma)
        return torch.where(log_ratio > 0, torch.log1p(gap * variance) / log_ratio.clamp(min=1e-12), 0)

    class Best(Exact):
        def forward(self, x, c_noise, cond=None):
            holder.update(x_t=x, t=(c_noise + 1) / schedule.T)
            return super().forward(x, c_noise, cond)

    denoiser = fn.Denoiser(Best(schedule, "eps", fraction=fraction), schedule, "eps")
    floor = fn.loss_floor(MIXTURE, schedule, "eps", loss={"name": "hybrid", "vlb_weight": 0.05}, draws=100_000)
    best, error = mean_loss(Hybrid(vlb_weight=0.05), denoiser)
    assert best == pytest.approx(floor.value, abs=4 * math.hypot(error, floor.error))
    plain = fn.loss_floor(MIXTURE, schedule, "eps", draws=100_000)
    assert floor.value > plain.value + 0.01


@pytest.mark.parametrize(("fraction", "same"), [(0.0, "small"), (1.0, "large")])
def test_a_fraction_of_nought_is_the_small_variance_and_of_one_the_large(fraction, same):
    schedule = fn.LinearBeta(T=100)
    denoiser = fn.Denoiser(Exact(schedule, "eps", fraction=lambda out: torch.full_like(out, fraction)), schedule, "eps")
    got = fn.sample(_table(denoiser), 32, sampler=fn.DDPM(variance="learned"), steps=10)
    torch.testing.assert_close(got, fn.sample(_table(denoiser), 32, sampler=fn.DDPM(variance=same), steps=10))
    learned, fixed = (
        fn.elbo(_table(denoiser), DATA.x[:500], steps=10, variance=kind, draws=64) for kind in ("learned", same)
    )
    assert learned.nats == pytest.approx(fixed.nats, rel=1e-6)


def _table(denoiser):
    """The test's network wants a row's time for every row."""
    forward = denoiser.network.forward
    denoiser.network.forward = lambda x, c_noise, cond=None: forward(
        x, torch.as_tensor(c_noise, dtype=torch.float64).expand(len(x)), cond
    ).to(x)
    return denoiser


@pytest.mark.unchecked
@pytest.mark.slow
def test_a_learned_variance_bounds_the_likelihood_better_than_either_fixed_one():
    plan = Plan.from_recipe("improved", {"train": {"steps": 5000}})
    data = fn.data.spiral(100_000, seed=0)
    denoiser = plan.denoiser(data)
    *_, last = fn.fit(denoiser, data, plan.train)
    found = respaced(last.run, (25, 50, 100))
    for learned, small, large in zip(*(found.nats[k] for k in ("learned", "small", "large")), strict=True):
        assert found.truth < learned < min(small, large)
    x = fn.sample(last.run.denoiser, 500, sampler=fn.DDPM(variance="learned"), steps=50)
    assert torch.isfinite(x).all()
    assert last.floor is not None
    assert 0.9 < last.progress < 1.05


def test_what_cannot_be_trained_or_sampled_says_why(tmp_path):
    plain = fn.Denoiser(fn.nn.MLP(2), fn.LinearBeta(), "eps")
    with pytest.raises(ConfigError, match=r"learned_variance"):
        next(fn.fit(plain, DATA, fn.TrainConfig(steps=1, loss="hybrid"), out=tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    continuous = fn.Denoiser(fn.nn.MLP(2, learned_variance=True), fn.VP(), "v")
    with pytest.raises(ConfigError, match="table"):
        next(fn.fit(continuous, DATA, fn.TrainConfig(steps=1, loss="hybrid")))
    with pytest.raises(InputError, match="no learned variance"):
        fn.sample(plain, 4, sampler=fn.DDPM(variance="learned"), steps=5)
    for loss in ("denoising", "sliced"):
        saying = fn.Denoiser(fn.nn.MLP(2, learned_variance=True), fn.LinearBeta(), "eps")
        with pytest.raises(ConfigError, match="hybrid"):
            next(fn.fit(saying, DATA, fn.TrainConfig(steps=1, loss=loss)))
    with pytest.raises(ConfigError, match="predict score, or eps"):
        next(fn.fit(fn.Denoiser(fn.nn.MLP(2), fn.VP(), "v"), DATA, fn.TrainConfig(steps=1, loss="sliced")))
    with pytest.raises(InputError, match="floor"):
        fn.loss_floor(MIXTURE, fn.VP(), "v", loss="hybrid")
    with pytest.raises(InputError, match="low must lie below high"):
        time_laws.build({"name": "geometric-levels", "low": 1.0, "high": 1.0})
    with pytest.raises(ConfigError, match="a name or settings"):
        fn.TrainConfig(loss=7)
    with pytest.raises(InputError, match="gives no learned variance"):
        fn.sample(MIXTURE.denoiser(fn.LinearBeta()), 4, sampler=fn.DDPM(variance="learned"), steps=5)
    with pytest.raises(InputError, match="table"):
        respaced(fn.train(DATA, steps=2))
    assert isinstance(losses.build("sliced"), Sliced)


def test_the_sliced_loss_stays_finite_where_the_noise_nearly_vanishes():
    for predict in ("score", "eps"):
        denoiser = fn.Denoiser(fn.nn.MLP(2, 16), fn.EDM(), predict)
        for event in fn.fit(denoiser, DATA, fn.TrainConfig(steps=200, loss="sliced", weighting="snr")):
            assert math.isfinite(event.loss)


def test_a_loss_of_the_users_own_has_no_floor():
    @losses.register("test-only")
    @dataclass(frozen=True)
    class Mine(Task):
        def loss(self, drawn):
            return self.network_output(drawn).square().mean()

    *_, last = fn.fit(fn.Denoiser(fn.nn.MLP(2, 16), fn.VP(), "v"), DATA, fn.TrainConfig(steps=3, loss="test-only"))
    assert last.floor is None
    assert last.progress is None


@pytest.mark.parametrize("rule", [fn.Multistep(), fn.Langevin(), fn.Heun()], ids=str)
def test_a_table_of_one_entry_is_sampled_in_one_step(rule):
    exact = MIXTURE.denoiser(fn.LinearBeta(T=1))
    assert torch.isfinite(fn.sample(exact, 4, sampler=rule, steps=1)).all()
    with pytest.raises(InputError, match="steps=1"):
        fn.sample(exact, 4, sampler=rule, steps=5)


def test_a_score_field_is_drawn_where_the_model_knows_the_noise():
    run = fn.train(fn.data.shapes(300), schedule="cosine", predict="v", steps=2)
    field = score_fields(run, (0.5,), label="moons")[0]
    assert field.learned.shape == field.exact.shape == field.at.shape == (361, 2)
    for level in (1e-4, 0.0, -1.0, 1e9):
        with pytest.raises(InputError, match="no noise level"):
            score_fields(run, (level,))
    point = fn.train(torch.zeros(1, 2), predict="v", steps=2)
    assert torch.isfinite(score_fields(point, (0.5,))[0].error * torch.ones(1)).all()
    with pytest.raises(InputError, match="plane"):
        score_fields(fn.train(torch.randn(50, 3), steps=2))
