"""Every exception and every public value survives pickle, and so reaches other processes."""

import pickle
import threading

import pytest
import torch

import fromnoise as fn
from fromnoise import errors
from fromnoise.training import Interrupted


def kinds(base):
    return [base, *(kind for child in base.__subclasses__() for kind in kinds(child))]


@pytest.mark.parametrize("kind", kinds(errors.FromnoiseError), ids=lambda kind: kind.__name__)
def test_every_exception(kind):
    error = kind("sampler", "mltistep", ["multistep"]) if kind is errors.UnknownName else kind("what went wrong")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (kind, str(error))


def test_interrupted(tmp_path):
    again = pickle.loads(pickle.dumps(Interrupted(7, tmp_path)))
    assert (again.step, again.path) == (7, tmp_path)
    assert "after step 7" in str(again)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fn.train(fn.data.shapes(120), steps=4, out=tmp_path_factory.mktemp("runs") / "r")


def test_every_data_set_and_its_distribution():
    for name in fn.data.points.names():
        data = pickle.loads(pickle.dumps(fn.data.make({"name": name, "n": 30})))
        assert torch.equal(data.x, fn.data.make({"name": name, "n": 30}).x)
        assert torch.equal(data.draw(50, seed=1).x, fn.data.make({"name": name, "n": 30}).draw(50, seed=1).x)


def test_values(run):
    denoiser, x = run.denoiser, fn.sample(run.denoiser, 30, cond="moons", steps=3)
    exact = fn.FiniteSet(run.source).denoiser(fn.VP())
    values = [
        run, denoiser, fn.Guided(denoiser, 2.0), fn.Inpainted(denoiser, [1.0, 0.0], [True, False]), exact,
        fn.trajectory(denoiser, 3, cond="moons", steps=3), fn.loss_floor(run.source, fn.VP()), fn.TrainConfig(),
        fn.evaluate(x, against=fn.data.moons(100)), fn.Multistep(), fn.LinearBeta(), denoiser.codec,
    ]  # fmt: skip
    for value in values:
        assert type(pickle.loads(pickle.dumps(value))) is type(value)
    again = pickle.loads(pickle.dumps(run))
    assert torch.equal(fn.sample(again.denoiser, 30, cond="moons", steps=3), x)


def test_networks_are_built_alike_in_threads():
    def first(seed):
        return fn.train(fn.data.spiral(20), steps=1, seed=seed).denoiser.network.state_dict()["first.weight"]

    alone, state, found = [first(seed) for seed in range(3)], torch.get_rng_state(), {}
    threads = [threading.Thread(target=lambda k=k: found.update({k: first(k % 3)})) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(found[k], alone[k % 3]) for k in range(12))
    assert torch.equal(torch.get_rng_state(), state)
