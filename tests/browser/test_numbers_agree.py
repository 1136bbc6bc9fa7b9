"""What the page computes is what PyTorch computes: noise, schedules, grids, and samples of every kind of model."""

import math

import numpy as np
import pytest
import torch

import fromnoise as fn
from fromnoise.denoiser_like import Spread, spread
from fromnoise.exact import mixture_of_data
from fromnoise.export import run_payload
from fromnoise.nn import MLP
from fromnoise.process import predictions
from fromnoise.report import table_for
from fromnoise.rng import stream
from fromnoise.samplers import samplers
from fromnoise.schedule import schedules

BACKENDS = ("relaxed", "simd", "plain")
SCHEDULES = {
    "linear": fn.LinearBeta(),
    "cosine": fn.CosineBeta(),
    "sigmoid": fn.SigmoidBeta(T=200),
    "betas": fn.FromBetas((*tuple(np.linspace(0.01, 0.2, 50)), 1.0)),
    "vp": fn.VP(),
    "edm": fn.EDM(),
    "flow": fn.RectifiedFlow(),
    "trig": fn.Trig(),
}
COMBINATIONS = [
    (path, predict)
    for path, schedule in SCHEDULES.items()
    for predict in predictions.names()
    if not (predictions.build(predict).needs_signal and schedule.alpha(1.0) == 0)
]


def drawn(hook, payload, sampler, steps, *, seed=0, label=None, guidance=None, backend=None, n=300):
    """Return the page's samples `[n, D]`."""
    hook.evaluate("([run, backend]) => window.fromnoise.load('tested', run, backend)", [payload, backend])
    question = {
        "run": "tested", "sampler": sampler, "steps": steps, "seed": seed, "n": n, "label": label, "guidance": guidance
    }  # fmt: skip
    answer = hook.evaluate("question => window.fromnoise.sample(question)", question)
    return torch.tensor(answer["x"], dtype=torch.float64).reshape(n, -1)


def expected(run, sampler, steps, *, seed=0, label=None, guidance=None, n=300):
    """Return the library's."""
    rule = samplers.build(sampler)
    denoiser = run.denoiser.on(table_for(rule, run.denoiser.schedule))
    denoiser = denoiser if guidance is None else fn.Guided(denoiser, guidance)
    return fn.sample(denoiser, n, sampler=rule, steps=steps, seed=seed, cond=label).double()


@pytest.mark.parametrize(("seed", "purpose", "index"), [(0, "chunk", 0), (7, "chunk", 3), (2**53 - 1, "train", 70_000)])
def test_noise_is_torchs_own(hook, seed, purpose, index):
    theirs = torch.randn(608, generator=stream(seed, purpose, index))
    ours = hook.evaluate("given => window.fromnoise.normal(...given)", [seed, purpose, index, 608])
    assert np.abs(np.array(ours) - theirs.numpy()).max() < 2e-6


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_and_grids_agree(hook, name):
    schedule = SCHEDULES[name]
    settings = {k: list(v) if isinstance(v, tuple) else v for k, v in schedules.settings(schedule).items()}
    times = [*np.linspace(0, 1, 101), 0.0005, 0.3333, 0.99995]
    log_snrs = [*np.linspace(-12, 12, 49)]
    got = hook.evaluate("given => window.fromnoise.schedule(...given)", [settings, times, log_snrs])
    for t, alpha, sigma in zip(times, got["alpha"], got["sigma"], strict=True):
        assert (alpha, sigma) == pytest.approx(schedule.scales(t), rel=1e-9, abs=1e-12)
    assert got["time"] == pytest.approx([float(schedule.time(v)) for v in log_snrs], rel=1e-9, abs=1e-12)
    for rule, steps in (("ddim", 7), ("ddim", 50), ("multistep", 1), ("multistep", 10)):
        for reach in (Spread(1.3), Spread(0.8, 2, 1.2), Spread(9.0, 50, 7.5)):
            given = {"rms": reach, "dimension": reach.dimension, "effectiveDimension": reach.effective_dimension}
            ours = hook.evaluate("given => window.fromnoise.grid(...given)", [settings, {"name": rule}, steps, given])
            assert ours == pytest.approx(samplers.build(rule).grid(schedule, steps, reach), rel=1e-9, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("path", "predict"), COMBINATIONS)
def test_samples_agree_for_every_schedule_and_prediction(hook, path, predict):
    # trained for a moment only: what is compared is arithmetic, and a rough model is smooth enough to compare
    run = fn.train(fn.data.moons(500), schedule=SCHEDULES[path], predict=predict, steps=30, batch_size=64)
    payload = run_payload("tested", run)
    steps = min(20, getattr(run.denoiser.schedule, "T", 20))
    for sampler in ({"name": "ddim"}, {"name": "ddim", "eta": 0.7}, {"name": "ddpm"}, {"name": "multistep"}):
        ours = drawn(hook, payload, sampler, steps, seed=3)
        theirs = expected(run, sampler, steps, seed=3)
        size = float(theirs.abs().max().clamp(min=1))  # an untrained eps model can throw points far away
        apart = (ours - theirs).abs().amax(1) / size
        assert float(apart.quantile(0.99)) < 1e-4, (sampler, size)
        assert float(apart.max()) < 1e-2, (sampler, size)  # a point between two arms carries rounding far


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_trained_model_agrees_by_every_means_of_computing(hook, spiral_run, backend):
    payload = run_payload("tested", spiral_run)
    given = ({"name": "ddim"}, 50), ({"name": "multistep", "order": 3}, 10), ({"name": "ddpm", "variance": "large"}, 40)
    for sampler, steps in given:
        off = (
            drawn(hook, payload, sampler, steps, seed=1, backend=backend) - expected(spiral_run, sampler, steps, seed=1)
        ).abs()
        assert float(off.max()) < 1e-4, sampler


@pytest.mark.unchecked
def test_a_thousand_noisy_steps_agree(hook, spiral_run):
    payload = run_payload("tested", spiral_run)
    off = (drawn(hook, payload, {"name": "ddpm"}, 1000) - expected(spiral_run, {"name": "ddpm"}, 1000)).abs()
    assert float(off.max()) < 1e-4


@pytest.mark.parametrize("guidance", [None, 0.0, 1.0, 3.0])
def test_labels_and_guidance_agree(hook, shapes_run, guidance):
    payload = run_payload("tested", shapes_run)
    for label in (0, 2):
        ours = drawn(hook, payload, {"name": "ddim"}, 20, label=label, guidance=guidance)
        theirs = expected(shapes_run, {"name": "ddim"}, 20, label=label, guidance=guidance)
        assert float((ours - theirs).abs().max()) < 1e-4


NETWORKS = {
    "article": MLP.article(),
    "relu, odd width": MLP(2, hidden=37, depth=3, activation="relu"),
    "tanh": MLP(2, hidden=32, activation="tanh"),
    "gelu": MLP(2, hidden=32, activation="gelu", fourier=12),
    "one layer": MLP(2, hidden=24, depth=1),
    "residual": MLP(2, hidden=40, depth=2, residual=True, fourier=8),
    "residual, labelled": MLP(2, hidden=36, depth=2, residual=True, classes=3, activation="gelu"),
    "learned variance": MLP(2, hidden=32, learned_variance=True, fourier=4),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("backend", ["relaxed", "plain"])
def test_every_kind_of_perceptron_agrees(hook, name, backend):
    network = NETWORKS[name]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():  # a residual block starts at zero, where nothing would be compared
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    data = fn.data.shapes(300) if network.classes else fn.data.spiral(300)
    denoiser = fn.Denoiser(
        network, fn.CosineBeta(T=100), predict="v", label_names=data.label_names if network.classes else ()
    )
    denoiser.measure(data)
    run = fn.Run(None, _config(denoiser, data), denoiser.eval().requires_grad_(False), data, 0)
    payload = run_payload("tested", run)
    label = 1 if network.classes else None
    rules = [{"name": "ddim"}, *([{"name": "ddpm", "variance": "learned"}] if network.learned_variance else [])]
    for sampler in rules:
        ours = drawn(hook, payload, sampler, 10, label=label, backend=backend)
        assert float((ours - expected(run, sampler, 10, label=label)).abs().max()) < 1e-4


def _config(denoiser, data):
    from fromnoise.run import describe

    return describe(denoiser, data, fn.TrainConfig().model_dump(mode="json"))


def test_more_than_two_columns_agree(hook):
    x = torch.randn(400, 5, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3.0, 0.2, 1.0, 8.0]) + 2
    run = fn.train(x, steps=50, codec=fn.data.Affine("columns"))
    ours = drawn(hook, run_payload("tested", run), {"name": "ddim"}, 20)
    assert float((ours - expected(run, {"name": "ddim"}, 20)).abs().max()) < 1e-4 * 8


def test_the_exact_denoiser_agrees(hook, shapes_run):
    run = shapes_run
    payload = run_payload("tested", run)
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    for backend in BACKENDS:
        hook.evaluate("([run, backend]) => window.fromnoise.load('tested', run, backend)", [payload, backend])
        for t in (0.2, 0.5, 0.8):
            denoiser = mixture_of_data(run.source, run.denoiser.codec).denoiser(
                run.denoiser.schedule, run.denoiser.codec
            )
            x_t = x * float(run.denoiser.schedule.sigma(t)) + run.source.x[:1]
            for label in (None, 1):
                cond = None if label is None else torch.tensor(label)
                place = {"x": x_t.flatten().tolist(), "t": t, "path": payload["schedule"], "label": label}
                question = {"run": "tested", "guidance": None, "exact": True, **place}
                ours = torch.tensor(hook.evaluate("q => window.fromnoise.field(q)", question)).reshape(-1, 2)
                assert float((ours - denoiser(x_t, t, cond)).abs().max()) < 2e-4


def test_the_distance_is_the_librarys(hook):
    a, b = fn.data.spiral(120, seed=1).x, fn.data.moons(120, seed=2).x
    ours = hook.evaluate(
        "given => window.fromnoise.distance(...given)", [a.flatten().tolist(), b.flatten().tolist(), 1]
    )
    assert ours == pytest.approx(fn.metrics.wasserstein2(a, b), rel=1e-6)


def test_spread_is_told(spiral_run):
    payload = run_payload("tested", spiral_run)
    assert payload["sigma_data"] * math.sqrt(2) == pytest.approx(spread(spiral_run.denoiser))
    assert payload["effective_dimension"] == spread(spiral_run.denoiser).effective_dimension
