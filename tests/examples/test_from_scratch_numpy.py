"""The library is held to the NumPy example: same weights, same noise, same numbers.

Everything runs in float64. The library keeps the embedding's frequencies in float32, so two networks of equal weights
differ by some 1e-6; where more digits are asked for, the frequencies are put in at full precision (`exact`).
"""

from __future__ import annotations

import ast
import importlib.util
import math
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.nn import MLP
from fromnoise.samplers.loop import walk
from fromnoise.training import EMA
from fromnoise.training.losses import mean_square
from fromnoise.training.noising import objective

pytestmark = pytest.mark.unchecked

SCRIPT = Path(__file__).parents[2] / "examples" / "from_scratch_numpy.py"
T, CLASSES = 1000, 3
SCHEDULE = fn.LinearBeta(T=T)
Array = NDArray[Any]
Params = dict[str, Array]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("from_scratch_numpy", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


numpy_model = load()
ALPHA_BARS = np.cumprod(1 - numpy_model.linear_betas(T))


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """Thousands of small steps: two threads wait for each other longer than they work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def split(params: Params) -> dict[str, Array]:
    """Name the example's parameters, or gradients, as the library does."""
    named = {
        "first.weight": params["w1"],
        "first.bias": params["b1"],
        "layers.0.weight": params["w2"],
        "layers.0.bias": params["b2"],
        "out.weight": params["w3"],
        "out.bias": params["b3"],
    }
    return named | ({"condition.table.weight": params["label"]} if "label" in params else {})


def network_of(params: Params, *, exact: bool = False) -> MLP:
    """Return the article's network with the example's weights; `exact` has float64 frequencies in its embedding."""
    network = MLP.article(classes=len(params["label"]) - 1 if "label" in params else 0).double()
    network.load_state_dict({name: torch.tensor(p) for name, p in split(params).items()})
    if exact:
        half = len(network.embed.freqs)
        network.embed.freqs = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float64) / half)
    return network


def denoiser_of(params: Params, *, exact: bool = False) -> fn.Denoiser:
    return fn.Denoiser(network_of(params, exact=exact), SCHEDULE, "eps")


def cond_of(label: Array | None) -> Cond | None:
    """Return labels of which the last, CLASSES, is the example's null label, as a condition with a mask."""
    if label is None:
        return None
    numbers = torch.tensor(label)
    return Cond({"label": numbers.clamp(max=CLASSES - 1)}, {"label": numbers < CLASSES})


def untrained(classes: int = 0) -> Params:
    return numpy_model.init_params(np.random.default_rng(0), classes=classes, dtype=np.float64)


@pytest.fixture(scope="module")
def trained() -> Params:
    """Give weights after 200 updates of the example's own training on a spiral."""
    rng = np.random.default_rng(1)
    data = numpy_model.points("spiral", 300, rng)
    return numpy_model.train(untrained(), data, ALPHA_BARS, rng, 200, batch=128)[0]


def largest(a: Tensor | Array, b: Tensor | Array) -> float:
    a, b = (np.asarray(v.detach() if isinstance(v, Tensor) else v) for v in (a, b))
    assert a.shape == b.shape
    assert a.dtype == b.dtype == np.float64
    return float(np.abs(a - b).max())


# -- schedule, grid, data --------------------------------------------------------------------------------------------


def test_alpha_bars_of_the_linear_and_the_cosine_schedule_are_the_same() -> None:
    for length in (10, 1000):
        assert largest(numpy_model.linear_betas(length), fn.LinearBeta(T=length).betas) == 0
        assert largest(numpy_model.cosine_betas(length), fn.CosineBeta(T=length).betas) == 0
    for betas, schedule in (
        (numpy_model.linear_betas(), fn.LinearBeta()),
        (numpy_model.cosine_betas(), fn.CosineBeta()),
    ):
        assert largest(np.cumprod(1 - betas), schedule.alpha_bars) == 0


def test_the_time_grid_is_the_same_for_every_number_of_steps() -> None:
    for steps in range(1, T + 1):
        assert [j / T for j in numpy_model.time_grid(T, steps)] == SCHEDULE.grid(steps)


def test_noising_is_the_same_at_every_index() -> None:
    x0, eps = np.random.default_rng(0).standard_normal((2, T, 2))
    t = torch.arange(1, T + 1, dtype=torch.float64) / T
    ours = fn.process.add_noise(SCHEDULE, torch.tensor(x0), t, torch.tensor(eps))
    assert largest(ours, numpy_model.corrupt(x0, np.arange(T), eps, ALPHA_BARS)) <= 1e-13


def test_the_spiral_is_the_same_curve_with_the_same_jitter() -> None:
    law = fn.data.spiral(n=1).distribution
    u = np.random.default_rng(0).random(50)
    assert (
        largest(law.centres(torch.tensor(u)), numpy_model.points("spiral", 50, np.random.default_rng(0), 0.0)) <= 1e-14
    )
    assert numpy_model.points.__defaults__ == (law.jitter,)


# -- network ---------------------------------------------------------------------------------------------------------


def test_the_article_network_has_the_examples_parameters_and_no_others() -> None:
    for classes, count in ((0, 83_458), (CLASSES, 83_458 + 4 * 256)):
        params = untrained(classes)
        assert sum(p.size for p in params.values()) == count
        assert sum(p.numel() for p in MLP.article(classes=classes).parameters()) == count


def test_the_embedding_is_the_same_to_the_float32_of_its_frequencies() -> None:
    k = np.arange(T)
    told = torch.tensor(k, dtype=torch.float64)
    assert largest(network_of(untrained()).embed(told), numpy_model.embed(k)) <= 5e-5  # angles up to 999
    assert largest(network_of(untrained(), exact=True).embed(told), numpy_model.embed(k)) <= 1e-12


@pytest.mark.parametrize(("exact", "tolerance"), [(False, 1e-5), (True, 1e-12)])
def test_the_network_says_the_same(exact: bool, tolerance: float) -> None:
    x = np.random.default_rng(0).standard_normal((T, 2))
    params = untrained()
    denoiser = denoiser_of(params, exact=exact)
    with torch.inference_mode():
        each = denoiser.prediction_of(torch.tensor(x), torch.arange(1, T + 1, dtype=torch.float64) / T)
        assert largest(each, numpy_model.forward(params, x, np.arange(T))[0]) <= tolerance
        for k in (0, 1, 500, T - 1):  # one time for all rows takes another way through the first layer
            shared = denoiser.prediction_of(torch.tensor(x), (k + 1) / T)
            assert largest(shared, numpy_model.forward(params, x, k)[0]) <= tolerance


@pytest.mark.parametrize(("exact", "tolerance"), [(False, 1e-5), (True, 1e-12)])
def test_the_conditional_network_says_the_same(exact: bool, tolerance: float) -> None:
    rng = np.random.default_rng(0)
    params, x = untrained(CLASSES), rng.standard_normal((T, 2))
    params["label"] *= 50  # from 0.02 to 1, so that the label counts
    label = rng.integers(0, CLASSES + 1, T)  # the last one is null
    denoiser, t = denoiser_of(params, exact=exact), torch.arange(1, T + 1, dtype=torch.float64) / T
    with torch.inference_mode():
        each = denoiser.prediction_of(torch.tensor(x), t, cond_of(label))
        none = denoiser.prediction_of(torch.tensor(x), t, None)
        one = denoiser.prediction_of(torch.tensor(x), t, torch.tensor(2))
    assert largest(each, numpy_model.forward(params, x, np.arange(T), label)[0]) <= tolerance
    assert largest(none, numpy_model.forward(params, x, np.arange(T))[0]) <= tolerance
    assert largest(one, numpy_model.forward(params, x, np.arange(T), 2)[0]) <= tolerance
    assert largest(none, one) > 0.1


def test_guidance_is_the_same_combination() -> None:
    rng = np.random.default_rng(0)
    params, x, label = untrained(CLASSES), rng.standard_normal((60, 2)), rng.integers(0, CLASSES, 60)
    params["label"] *= 50
    denoiser = denoiser_of(params, exact=True)
    with torch.inference_mode():
        cond, uncond = (denoiser.prediction_of(torch.tensor(x), 0.4, given) for given in (torch.tensor(label), None))
    for w in (0, 1, 3):
        assert largest(uncond + w * (cond - uncond), numpy_model.guided(params, x, 399, label, w)) <= 1e-12


# -- sampling --------------------------------------------------------------------------------------------------------

SAMPLERS = [(fn.DDPM(), 1000, 1.0), (fn.DDIM(1.0), 1000, 1.0), (fn.DDIM(), 50, 0.0), (fn.DDIM(), 10, 0.0)]


def both_sample(
    model: Any, denoiser: Any, sampler: fn.DDPM | fn.DDIM, steps: int, eta: float
) -> tuple[Tensor, NDArray[np.float64]]:
    """Sample with the library and with the example from the same start with the same noise."""
    rng = np.random.default_rng(steps)
    start, noises = rng.standard_normal((100, 2)), rng.standard_normal((steps, 100, 2))
    draws = iter(torch.tensor(noises))
    way = walk(denoiser, sampler, SCHEDULE.grid(steps), torch.tensor(start), noise=lambda: next(draws))
    *_, last = way
    assert last.s == 0
    return last.x_s, numpy_model.sample(model, ALPHA_BARS, steps, eta, start, noises)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize(("sampler", "steps", "eta"), SAMPLERS)
def test_samples_of_the_same_weights_are_the_same(
    trained: Params, sampler: fn.DDPM | fn.DDIM, steps: int, eta: float, exact: bool
) -> None:
    ours, theirs = both_sample(
        lambda x, k: numpy_model.forward(trained, x, k)[0], denoiser_of(trained, exact=exact), sampler, steps, eta
    )
    assert largest(ours, theirs) <= (1e-10 if exact else 1e-5)
    assert 0.3 < float(ours.std()) < 3  # samples, not a point or a blow-up


@pytest.mark.parametrize(("steps", "eta"), [(50, 0.0), (50, 0.5), (50, 1.0), (10, 0.0)])
def test_samples_of_the_optimal_denoiser_are_the_same(steps: int, eta: float) -> None:
    data = numpy_model.points("spiral", 100, np.random.default_rng(0))
    ours, theirs = both_sample(
        lambda x, k: numpy_model.optimal_eps(x, np.full(len(x), k), data, ALPHA_BARS),
        fn.FiniteSet(torch.tensor(data)).denoiser(SCHEDULE),
        fn.DDIM(eta),
        steps,
        eta,
    )
    assert largest(ours, theirs) <= 1e-5


def test_public_sample_gives_the_same_samples_of_a_given_start(trained: Params) -> None:
    """The library scales the start to the width of x_1; the example is given it so here."""
    start = torch.tensor(np.random.default_rng(0).standard_normal((304, 2)))
    denoiser = denoiser_of(trained)
    ours = fn.sample(denoiser, 304, sampler=fn.DDIM(), steps=10, start=start, dtype=torch.float64)
    x_start = fn.denoiser.start_std(denoiser) * start.numpy()
    theirs = numpy_model.sample(lambda x, k: numpy_model.forward(trained, x, k)[0], ALPHA_BARS, 10, 0.0, x_start)
    assert largest(ours, theirs) <= 1e-5


# -- training --------------------------------------------------------------------------------------------------------


def batch_of(denoiser: fn.Denoiser, x0: Tensor, seed: int) -> tuple[Any, Array, Array]:
    """Draw the library's training batch; return it with the index and the noise it stands for."""
    goal, generator = objective(denoiser, "uniform", "uniform"), torch.Generator().manual_seed(seed)
    t = goal.times.draw(denoiser.schedule, len(x0), generator)
    batch = goal.noised(x0, t, torch.randn(x0.shape, generator=generator, dtype=x0.dtype))
    return batch, (t * T).round().long().numpy() - 1, batch.target.numpy()


def test_training_draws_the_same_indices_0_to_999_and_standard_normal_noise() -> None:
    rng, n = np.random.default_rng(0), 20_000
    _, k, eps = batch_of(denoiser_of(untrained()), torch.zeros(n, 2, dtype=torch.float64), 0)
    _, numpy_k, numpy_eps, _ = numpy_model.draw_batch(np.zeros((n, 2)), T, n, rng)
    assert set(k) == set(numpy_k) == set(range(T))
    for drawn, noise in ((k, eps), (numpy_k, numpy_eps)):
        assert abs(drawn.mean() - 499.5) <= 4 * 288.7 / math.sqrt(n)
        assert abs(noise.mean()) <= 4 / math.sqrt(2 * n)
        assert abs((noise**2).mean() - 1) <= 4 * math.sqrt(2 / (2 * n))


@pytest.mark.parametrize("classes", [0, CLASSES])
def test_loss_and_gradients_of_a_batch_are_the_same(classes: int) -> None:
    rng = np.random.default_rng(0)
    params, x0 = untrained(classes), rng.standard_normal((256, 2))
    label = rng.integers(0, classes + 1, 256) if classes else None
    denoiser = denoiser_of(params, exact=True)
    batch, k, eps = batch_of(denoiser, torch.tensor(x0), 0)
    assert len(np.unique(k)) > 150
    assert largest(batch.x_t, numpy_model.corrupt(x0, k, eps, ALPHA_BARS)) <= 1e-13
    out = denoiser.network_output(batch.x_t, denoiser.c_noise(batch.t), cond_of(label))
    loss = mean_square(out, batch.target, batch.weight)
    loss.backward()
    numpy_loss, grads = numpy_model.loss_and_grads(params, x0, k, eps, ALPHA_BARS, label)
    assert loss.item() == pytest.approx(numpy_loss, rel=1e-12)
    own = dict(denoiser.network.named_parameters())
    assert set(own) == set(split(grads))
    for name, grad in split(grads).items():
        assert largest(own[name].grad, grad) <= 1e-12 * (1 + np.abs(grad).max())
        assert np.abs(grad).max() > 1e-5


def test_twenty_updates_of_adam_are_those_of_torch() -> None:
    rng = np.random.default_rng(0)
    params = {"a": rng.standard_normal((5, 7)), "b": rng.standard_normal(3)}
    tensors = {name: torch.tensor(p, requires_grad=True) for name, p in params.items()}
    optimizer, state = torch.optim.Adam(tensors.values(), lr=7e-3), (0, {}, {})
    before = params
    for n in range(20):
        # gradients of very different sizes, down to where the 1e-8 in the denominator counts
        grads = {
            name: rng.standard_normal(p.shape) * 10.0 ** rng.integers(-10, 2, p.shape) for name, p in params.items()
        }
        lr = 7e-3 * (1 - n / 20)
        params, state = numpy_model.adam(params, grads, state, lr)
        optimizer.param_groups[0]["lr"] = lr
        for name, tensor in tensors.items():
            tensor.grad = torch.tensor(grads[name])
        optimizer.step()
    for name, tensor in tensors.items():
        assert largest(tensor, params[name]) <= 1e-13
        assert largest(params[name], before[name]) > 1e-2


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_the_average_of_the_weights_is_the_same(decay: float) -> None:
    """Its decay warms up as (1 + n)/(10 + n), which reaches 0.5 at update 8 and stays below 0.999 here."""
    rng = np.random.default_rng(0)
    params = untrained(CLASSES)
    network = network_of(params)
    average, own = params, EMA(network, decay)
    for n in range(20):
        params = {name: p + 0.1 * rng.standard_normal(p.shape) for name, p in params.items()}
        network.load_state_dict({name: torch.tensor(p) for name, p in split(params).items()})
        own.update(n)
        average = numpy_model.ema(average, params, n, decay)
    for name, value in split(average).items():
        assert largest(own.network.state_dict()[name], value) <= 1e-14
        assert largest(value, split(params)[name]) > 0.01


@pytest.mark.parametrize("classes", [0, CLASSES])
def test_twenty_steps_of_training_leave_the_same_weights_and_the_same_average(classes: int) -> None:
    rng = np.random.default_rng(0)
    params = untrained(classes)
    data, labels = numpy_model.labelled(100, rng)
    denoiser = denoiser_of(params, exact=True)
    own, optimizer = EMA(denoiser.network, 0.999), torch.optim.Adam(denoiser.network.parameters(), lr=7e-3, fused=True)
    average, state, losses = params, (0, {}, {}), []
    for n in range(20):
        rows = rng.integers(0, len(data), 128)
        label = np.where(rng.random(128) < 0.1, classes, labels[rows]) if classes else None
        batch, k, eps = batch_of(denoiser, torch.tensor(data[rows]), n)
        out = denoiser.network_output(batch.x_t, denoiser.c_noise(batch.t), cond_of(label))
        loss = mean_square(out, batch.target, batch.weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        own.update(n)
        numpy_loss, grads = numpy_model.loss_and_grads(params, data[rows], k, eps, ALPHA_BARS, label)
        params, state = numpy_model.adam(params, grads, state, 7e-3)
        average = numpy_model.ema(average, params, n)
        assert loss.item() == pytest.approx(numpy_loss, rel=1e-8)
        losses.append(numpy_loss)
    for ours, theirs in ((denoiser.network, params), (own.network, average)):
        for name, value in split(theirs).items():
            assert largest(ours.state_dict()[name], value) <= 1e-8
    assert losses[-1] < 0.7 * losses[0]


def test_backward_is_the_derivative_of_the_loss() -> None:
    assert numpy_model.gradient_check() < 1e-6


# -- the best there is -----------------------------------------------------------------------------------------------


def test_the_optimal_prediction_is_that_of_the_finite_set() -> None:
    rng = np.random.default_rng(0)
    data = numpy_model.points("spiral", 200, rng)
    k, eps = np.arange(T), rng.standard_normal((T, 2))
    x_t = numpy_model.corrupt(data[rng.integers(0, 200, T)], k, eps, ALPHA_BARS)
    t = torch.tensor((k + 1) / T)
    x0_hat = fn.FiniteSet(torch.tensor(data)).denoiser(SCHEDULE)(torch.tensor(x_t), t)
    ours = fn.process.convert(SCHEDULE, x0_hat, torch.tensor(x_t), t, given="x0", wanted="eps")
    assert largest(ours, numpy_model.optimal_eps(x_t, k, data, ALPHA_BARS)) <= 1e-8


def test_the_optimal_prediction_given_a_label_is_that_of_the_finite_set() -> None:
    rng = np.random.default_rng(0)
    data, labels = numpy_model.labelled(60, rng)
    k, eps, rows = np.arange(T), rng.standard_normal((T, 2)), rng.integers(0, len(data), T)
    label = np.where(rng.random(T) < 0.2, CLASSES, labels[rows])  # some are null: then every point may explain x_t
    x_t = numpy_model.corrupt(data[rows], k, eps, ALPHA_BARS)
    allowed = (label[:, None] == labels) | (label[:, None] == CLASSES)
    t = torch.tensor((k + 1) / T)
    law = fn.FiniteSet(torch.tensor(data), torch.tensor(labels))
    x0_hat = law.denoiser(SCHEDULE)(torch.tensor(x_t), t, cond_of(label))
    ours = fn.process.convert(SCHEDULE, x0_hat, torch.tensor(x_t), t, given="x0", wanted="eps")
    assert largest(ours, numpy_model.optimal_eps(x_t, k, data, ALPHA_BARS, allowed)) <= 1e-8


@pytest.mark.parametrize("shapes", [("spiral",), ("spiral", "circles", "moons")])
def test_the_floor_that_the_example_prints_is_that_of_the_library(shapes: tuple[str, ...]) -> None:
    """Two estimates of one number by different ways; 4 standard errors of their difference."""
    data, labels = numpy_model.labelled(300, np.random.default_rng(0), shapes)
    one = len(shapes) == 1
    net = untrained(0 if one else CLASSES)
    known = fn.Dataset(
        torch.tensor(data, dtype=torch.float32),
        None if one else torch.tensor(labels),
        () if one else shapes,
    )
    law = fn.exact.mixture_of_data(known)  # in the data's units, as the example trains
    floor = fn.loss_floor(law, fn.LinearBeta(), "eps", "uniform", "uniform", drop_cond=0.0 if one else 0.1)
    rng = np.random.default_rng(1)
    rounds = [
        numpy_model.loss_and_floor(net, data, ALPHA_BARS, rng, None if one else labels, rounds=1)[1] for _ in range(100)
    ]
    error = math.hypot(np.std(rounds, ddof=1) / math.sqrt(len(rounds)), floor.error)
    assert error < 0.005
    assert abs(np.mean(rounds) - floor.value) <= 4 * error


# -- the script ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_script_runs_and_leaves_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "from_scratch.png"
    numpy_model.main(["--quick", "--out", str(picture)])
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    printed = capsys.readouterr().out
    losses = [float(line.split("loss")[1].split()[0]) for line in printed.splitlines() if " loss " in line]
    assert len(losses) == 14
    assert losses[6] < 0.35 * losses[0]  # the averaged weights of the first training, and none at all
    assert losses[13] < 0.35 * losses[7]


def test_the_script_has_at_most_300_lines_and_needs_numpy_alone() -> None:
    text = SCRIPT.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 300
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert "numpy" in imported
    # matplotlib draws the picture and nothing else
    assert imported <= {"argparse", "functools", "itertools", "math", "time", "numpy", "matplotlib"}
