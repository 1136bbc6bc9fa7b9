import pytest
import torch
from torch import nn

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.errors import ConfigError, LabelError
from fromnoise.nn import SinusoidalEmbedding, networks


def test_the_articles_network_has_its_parameters():
    assert sum(p.numel() for p in fn.nn.MLP.article().parameters()) == 83_458


def test_the_articles_network_is_the_plain_one():
    # 2 + 64 -> 256 -> 256 -> 2 with the embedding concatenated, as every tutorial writes it
    ours = fn.nn.MLP.article().double()
    plain = nn.Sequential(ours.first, nn.LeakyReLU(0.01), ours.layers[0], nn.LeakyReLU(0.01), ours.out)
    x, t = torch.randn(9, 2).double(), torch.randint(1000, (9,)).double()
    freqs = torch.exp(-torch.log(torch.tensor(10_000.0)) * torch.arange(32) / 32).double()
    angles = t[:, None] * freqs
    expected = plain(torch.cat([x, angles.sin(), angles.cos()], 1))
    torch.testing.assert_close(ours(x, t), expected, rtol=1e-5, atol=1e-5)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x, t), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{}, {"residual": True, "depth": 3}, {"fourier": 8}, {"activation": "gelu"}, {"cond_dim": 3}, {"classes": 4},
     {"classes": 4, "cond_dim": 3, "residual": True}],
)  # fmt: skip
def test_a_scalar_time_equals_a_batch_of_it(options):
    net = fn.nn.MLP(2, 32, **options).double()
    for p in net.parameters():  # residual blocks start as the identity
        nn.init.normal_(p, std=0.3)
    x = torch.randn(5, 2).double()
    one, each = net(x, torch.tensor(3.5).double()), net(x, torch.full((5,), 3.5).double())
    torch.testing.assert_close(one, each)
    with torch.inference_mode():
        torch.testing.assert_close(net(x, 3.5), one)
    torch.testing.assert_close(net(x, 3.5), one)
    net(x, 3.5).sum().backward()  # what was remembered in inference serves training too


def test_the_times_part_is_computed_once_for_all_rows():
    net = fn.nn.MLP(2, 32)
    shapes = []
    net.embed.register_forward_hook(lambda m, i, o: shapes.append(tuple(o.shape)))
    net(torch.randn(100, 2), torch.tensor(3.0))
    net(torch.randn(100, 2), torch.full((100,), 3.0))
    assert shapes == [(1, 64), (100, 64)]


def label(*numbers, given=None):
    return Cond({"label": torch.tensor(numbers)}, {} if given is None else {"label": torch.tensor(given)})


def test_no_condition_is_the_null_row():
    net = fn.nn.MLP(2, 32, classes=3)
    x, t = torch.randn(4, 2), torch.tensor(1.0)
    torch.testing.assert_close(net(x, t), net(x, t, label(0, 1, 2, 0).null()))
    torch.testing.assert_close(net(x, t), net(x, t, label(1).null()))
    assert not torch.allclose(net(x, t), net(x, t, label(0)))
    torch.testing.assert_close(net(x, t, label(1)), net(x, t, label(1, 1, 1, 1)))
    mixed = net(x, t, label(1, 1, 2, 2, given=[True, False, True, False]))
    torch.testing.assert_close(mixed[1::2], net(x, t)[1::2])
    torch.testing.assert_close(mixed[0], net(x, t, label(1))[0])


def test_a_label_out_of_range_is_never_the_null_row():
    net = fn.nn.MLP(2, 32, classes=3)
    denoiser = fn.Denoiser(net, fn.EDM())
    for bad in (-1, 3, 4):
        with pytest.raises(LabelError, match="out of range"):
            denoiser(torch.randn(1, 2), 0.5, torch.tensor([bad]))


@pytest.mark.parametrize("classes", [0, 3])
def test_a_row_without_a_vector_is_as_without_condition(classes):
    net = fn.nn.MLP(2, 32, cond_dim=3, classes=classes)
    x, t = torch.randn(2, 2), torch.tensor(1.0)
    vectors = torch.randn(2, 3)
    out = net(x, t, Cond({"vector": vectors}, {"vector": torch.tensor([True, False])}))
    torch.testing.assert_close(out[1], net(x, t)[1])
    torch.testing.assert_close(out[0], net(x, t, Cond({"vector": vectors[:1]}))[0])
    assert not torch.allclose(out[0], net(x, t)[0])


def test_the_embedding_is_as_published():
    e = SinusoidalEmbedding(8)(torch.tensor([0.0, 7.0]))
    freqs = 10_000.0 ** (-torch.arange(4) / 4)
    torch.testing.assert_close(e[1], torch.cat([(7 * freqs).sin(), (7 * freqs).cos()]))
    assert e[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_settings_build_the_same_network():
    settings = networks.settings(fn.nn.MLP(3, 20, fourier=4))
    again = networks.build(settings)
    assert networks.settings(again) == settings
    assert settings["hidden"] == 20


def test_wrong_sizes_are_refused():
    for options in ({"dim": 0}, {"dim": 2, "time_dim": 7}, {"dim": 2, "activation": "swish"}, {"dim": 2, "width": 3}):
        with pytest.raises(ConfigError):
            networks.build({"name": "mlp", **options})
