"""Muon: its moves, which weights it is for, and that a training with it resumes bit for bit."""

import pytest
import torch
from torch import nn

import fromnoise as fn
from fromnoise.errors import CheckpointDamaged
from fromnoise.nn import DiT, UNet, UNetDDPM
from fromnoise.run import RunFolder
from fromnoise.training.learner import Learner
from fromnoise.training.muon import Muon, hidden_matrices, orthogonal


@pytest.mark.parametrize("shape", [(5, 40), (40, 5), (16, 16), (1, 7)])
def test_a_move_turns_as_the_gradient_and_is_as_long_in_every_direction(shape):
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(0)).double()
    u, _, vt = torch.linalg.svd(x, full_matrices=False)
    moves = orthogonal(x)
    turned = u.transpose(1, 2) @ moves @ vt.transpose(1, 2)
    s = turned.diagonal(dim1=1, dim2=2)
    assert float(s.min()) > 0.6  # Jordan et al. 2024: between about 0.7 and 1.2
    assert float(s.max()) < 1.25
    torch.testing.assert_close(turned, torch.diag_embed(s))
    torch.testing.assert_close(orthogonal(100 * x), moves)  # the gradient's size does not matter


def test_a_wide_matrix_moves_as_the_steps_on_it_say(monkeypatch):
    generator = torch.Generator().manual_seed(1)
    full = torch.randn(2, 12, 108, generator=generator)
    u, _, vt = torch.linalg.svd(full, full_matrices=False)
    steep = u * torch.logspace(0, -5, 12) @ vt  # directions that the gradient hardly has
    lone = torch.randn(2, 12, 1, generator=generator) * full[:, :1]
    for x in (full, steep, lone, 0 * full):
        by_gram = orthogonal(x)
        monkeypatch.setattr("fromnoise.training.muon._WIDE", 1000)
        torch.testing.assert_close(by_gram, orthogonal(x.double()).float(), rtol=1e-3, atol=1e-3)
        monkeypatch.undo()
    assert not torch.equal(orthogonal(full, torch.bfloat16), orthogonal(full.bfloat16()).float())  # not rounded


def test_matrices_of_one_shape_move_as_each_alone():
    weights = [torch.randn(6, 4, 3, 3), torch.randn(6, 36), torch.randn(5, 5)]
    gradients = [torch.randn_like(w) for w in weights]

    def moved(group):
        parameters = [nn.Parameter(weights[k].clone()) for k in group]
        optimizer = Muon(parameters, 0.1, weight_decay=0.5)
        for _ in range(3):
            for p, k in zip(parameters, group, strict=True):
                p.grad = gradients[k].clone()
            optimizer.step()
        return [p.detach() for p in parameters]

    alone = [moved([k])[0] for k in range(3)]
    for a, b in zip(moved([0, 1, 2]), alone, strict=True):
        torch.testing.assert_close(a, b)


def test_without_a_gradient_nothing_moves():
    p = nn.Parameter(torch.ones(3, 3))
    Muon([p], 0.1).step()
    assert torch.equal(p, torch.ones(3, 3))


def test_the_first_step_is_the_formula():
    p, g = nn.Parameter(torch.ones(8, 4)), torch.randn(8, 4, generator=torch.Generator().manual_seed(3))
    p.grad = g.clone()
    Muon([p], 0.1, momentum=0.9, weight_decay=0.2).step()
    expected = torch.ones(8, 4) * (1 - 0.1 * 0.2) - 0.1 * 2**0.5 * orthogonal(1.9 * g[None])[0]
    torch.testing.assert_close(p.detach(), expected)


@pytest.mark.parametrize(
    ("net", "ends"),
    [
        (fn.nn.MLP(2, 8, depth=3), {"first", "out"}),
        (UNet((1, 8, 8), (16, 32), classes=3), {"first", "last"}),
        (UNetDDPM((1, 8, 8), (32, 32), classes=3), {"conv_in", "conv_out"}),
        (
            DiT((1, 8, 8), 16, 1, classes=3, cond_dim=2),
            {"x_embedder.proj", "final_layer.linear", "t_embedder.mlp.0", "t_embedder.mlp.2", "y_embedder.vector"}
            | {"blocks.0.adaLN_modulation.1", "final_layer.adaLN_modulation.1"},
        ),
    ],
)
def test_it_is_for_all_matrices_but_the_first_the_last_and_those_of_the_condition(net, ends):
    matrices = {
        f"{name}.weight" for name, layer in net.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
    }  # fmt: skip
    assert {f"{name}.weight" for name in ends} <= matrices
    assert set(hidden_matrices(net)) == matrices - {f"{name}.weight" for name in ends}


def test_of_a_module_of_ones_own_the_first_and_last_layers_are_left_out():
    net = nn.Sequential(nn.Linear(2, 8), nn.SiLU(), nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 2))
    assert hidden_matrices(net) == ["2.weight"]


def config(**options):
    return fn.TrainConfig(
        **{"steps": 12, "batch_size": 16, "log_every": 5, "save_every": 6, "optimizer": "muon", "lr": 1e-3, **options}
    )


def denoiser():
    with fn.rng.seeded(0, "test"):
        return fn.Denoiser(fn.nn.MLP(2, 16, depth=3, residual=True), fn.EDM(), "edm")


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_training_with_it_resumes_bit_for_bit(tmp_path, precision):
    data = fn.data.moons(200)
    *_, whole = fn.fit(denoiser(), data, config(precision=precision), out=tmp_path / "whole")
    *_, _ = fn.fit(denoiser(), data, config(precision=precision, steps=6, decay="constant"), out=tmp_path / "half")
    *_, other = fn.fit(denoiser(), data, config(precision=precision, decay="constant"), out=tmp_path / "other")
    *_, rest = fn.fit(
        denoiser(), data, config(precision=precision, decay="constant"), out=tmp_path / "half", resume=True
    )
    for a, b in zip(other.run.denoiser.parameters(), rest.run.denoiser.parameters(), strict=True):
        assert torch.equal(a, b)
    kept = RunFolder(tmp_path / "whole").load(whole.run.denoiser, optimizer=True).optimizer
    kinds = {name.rpartition(".")[2] for name in kept}
    assert kinds == {"step", "exp_avg", "exp_avg_sq", "momentum_buffer"}


def test_another_optimizers_state_is_refused(tmp_path):
    made = denoiser()
    *_, _ = fn.fit(made, fn.data.moons(200), config(), out=tmp_path / "run")
    checkpoint = RunFolder(tmp_path / "run").load(made, optimizer=True)
    with pytest.raises(CheckpointDamaged, match="another optimizer's"):
        Learner(config(optimizer="adam").task(made), config(optimizer="adam")).restore(checkpoint)


def test_adam_has_no_weight_decay_and_adamw_has():
    def after(optimizer, decay):
        network = {"name": "unet", "widths": (8,)}
        run = fn.train("digits", steps=4, batch_size=8, network=network, optimizer=optimizer, weight_decay=decay)
        return torch.cat([p.flatten() for p in run.denoiser.network.parameters()])

    assert torch.equal(after("adam", 0.5), after("adam", 0.0))
    assert torch.equal(after("adamw", 0.0), after("adam", 0.0))
    assert not torch.equal(after("adamw", 0.5), after("adamw", 0.0))
