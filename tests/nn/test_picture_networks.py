"""What holds for every network of pictures."""

import re

import pytest
import torch
from torch import nn

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.errors import ConfigError
from fromnoise.nn import DiT, UNet, UNetDDPM, networks
from fromnoise.nn.attention import attend
from fromnoise.nn.dit import Neighbours
from fromnoise.nn.pictures import DoublingConv
from fromnoise.nn.skeleton import skeleton

SMALL = {
    "unet": {"name": "unet", "widths": (16, 32), "embedding": 32, "time_dim": 16},
    "unet-ddpm": {"name": "unet-ddpm", "widths": (32, 64), "blocks": 1, "groups": 8},
    "dit": {"name": "dit", "width": 32, "depth": 2, "heads": 2},
}
EACH = pytest.mark.parametrize("name", SMALL)


def built(name, shape=(3, 16, 8), **settings):
    """A network whose every parameter has a value that matters: none starts at zero."""
    with fn.rng.seeded(0, "test"):
        net = networks.build({**SMALL[name], "shape": shape, **settings})
        for p in net.parameters():
            nn.init.normal_(p, std=0.1)
    return net.double().eval()


def x_of(net, n=3):
    return torch.randn(n, *net.shape, generator=torch.Generator().manual_seed(1)).double()


@EACH
def test_the_output_has_the_pictures_shape_or_twice_its_channels(name):
    for shape in ((1, 8, 8), (3, 16, 8), (4, 28, 28)):
        net = built(name, shape)
        assert net(x_of(net), 3.0).shape == (3, *shape)
        twice = built(name, shape, learned_variance=True)
        assert twice(x_of(twice), 3.0).shape == (3, 2 * shape[0], *shape[1:])


def test_a_patch_hears_its_neighbours_and_texts_pass_by():
    near = Neighbours(4, (3, 2)).double()
    nn.init.normal_(near.conv.weight)
    x = torch.randn(2, 5 + 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    got = near(x)
    assert torch.equal(got[:, :5], x[:, :5])  # what comes before the patches is no patch
    row, column = 1, 1
    wanted = x[:, 5 + 2 * row + column] + near.conv.bias
    for down in (-1, 0, 1):
        for across in (-1, 0):  # there is no third column
            at = 5 + 2 * (row + down) + column + across
            wanted = wanted + near.conv.weight[:, 0, down + 1, across + 1] * x[:, at]
    torch.testing.assert_close(got[:, 5 + 2 * row + column], wanted)


def test_a_transformer_starts_the_same_with_neighbours_or_without():
    x, cond = torch.randn(2, 3, 16, 8), Cond({"label": torch.tensor([0, 1])})
    net = DiT((3, 16, 8), 32, 2, classes=2, text=None)
    nn.init.normal_(net.final_layer.linear.weight)
    without = DiT((3, 16, 8), 32, 2, classes=2, local=False)
    without.load_state_dict({k: v for k, v in net.state_dict().items() if ".local." not in k})
    assert torch.equal(net(x, 1.0, cond), without(x, 1.0, cond))


def test_patches_are_small_enough_to_be_halved_as_often_as_there_are_levels():
    for side, widths, patch in (
        (28, (8, 16), 2),
        (30, (8, 16), 1),
        (52, (8, 16), 2),
        (52, (8, 16, 24), 1),
        (96, (8,), 8),
    ):
        assert UNet((1, side, side), widths).patch == patch


def test_tiny_pictures_have_a_smaller_network_where_nothing_is_said():
    for kind, tiny, usual in ((UNet, ((32, 64),), ((48, 96),)), (DiT, (96, 4), (128, 5))):
        for side, own in ((8, tiny), (10, tiny), (12, usual), (28, usual)):
            mine, theirs = kind((1, side, side)), kind((1, side, side), *own)
            assert {n: p.shape for n, p in mine.named_parameters()} == {
                n: p.shape for n, p in theirs.named_parameters()
            }


@EACH
def test_a_fresh_network_answers_zero_and_learns_from_there(name):
    net = networks.build({**SMALL[name], "shape": (1, 8, 8)})
    assert net(torch.randn(2, 1, 8, 8), 1.0).abs().max() == 0
    (net(torch.randn(2, 1, 8, 8), 1.0) - 1).square().mean().backward()
    assert any(p.grad is not None and p.grad.abs().max() > 0 for p in net.parameters())


@EACH
def test_every_parameter_has_a_gradient(name):
    net = built(name, classes=3, cond_dim=2)
    cond = Cond({"label": torch.tensor([0, 1, 2]), "vector": torch.randn(3, 2).double()},
                {"label": torch.tensor([True, True, False]), "vector": torch.tensor([True, True, False])})  # fmt: skip
    net(x_of(net), torch.rand(3).double(), cond).square().sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


@EACH
def test_a_time_and_a_condition_that_all_rows_share_stay_one_row(name):
    net = built(name, classes=4)
    x = x_of(net, 5)
    one = net(x, 3.5, Cond({"label": torch.tensor([2])}))
    each = net(x, torch.full((5,), 3.5).double(), Cond({"label": torch.full((5,), 2)}))
    torch.testing.assert_close(one, each)
    rows = []
    for module in net.modules():
        if isinstance(module, nn.Linear) and module is not getattr(net, "qkv", None):
            module.register_forward_hook(lambda m, i, o: rows.append(o.shape[0] if o.dim() == 2 else 1))
    net(x, 3.5, Cond({"label": torch.tensor([2])}))
    assert rows
    assert set(rows) == {1}


@EACH
def test_no_condition_is_the_null_row(name):
    net = built(name, classes=3)
    x = x_of(net)
    null = Cond({"label": torch.tensor([1])}).null()
    torch.testing.assert_close(net(x, 1.0), net(x, 1.0, null))
    assert not torch.allclose(net(x, 1.0), net(x, 1.0, Cond({"label": torch.tensor([1])})))
    mixed = net(x, 1.0, Cond({"label": torch.tensor([1, 1, 2])}, {"label": torch.tensor([True, False, True])}))
    torch.testing.assert_close(mixed[1], net(x, 1.0)[1])


@EACH
def test_a_continuous_schedules_log_snr_is_a_timestep(name):
    # the same function of the noise level as in a table of 1,000 steps uniform in log SNR
    level, table = built(name, log_snr=(10.0, -10.0)), built(name)
    x = x_of(level)
    for log_snr, k in ((10.0, 0.0), (0.0, 499.5), (-10.0, 999.0)):
        torch.testing.assert_close(level(x, log_snr), table(x, k))


@EACH
def test_rows_do_not_see_each_other(name):
    net = built(name)
    x = x_of(net, 4)
    torch.testing.assert_close(net(x, 2.0)[1:3], net(x[1:3], 2.0))


@EACH
def test_settings_build_the_same_network_also_without_memory(name):
    net = networks.build({**SMALL[name], "shape": (1, 8, 8), "classes": 2, "log_snr": (20.0, -9.0)})
    settings = networks.settings(net)
    again, bare = networks.build(settings), skeleton(settings)
    assert networks.settings(again) == settings
    shapes = {key: value.shape for key, value in net.state_dict().items()}
    assert {key: value.shape for key, value in bare.state_dict().items()} == shapes
    assert all(value.is_meta for value in bare.parameters())


@EACH
def test_bf16_is_near_float32(name):
    net = built(name).float()
    x = x_of(net).float()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        near = net(x, 2.0)
    torch.testing.assert_close(near.float(), net(x, 2.0), rtol=0.1, atol=0.1)


@EACH
def test_checkpointing_gives_the_same_gradient_and_keeps_less(name):
    gradients, kept = [], []
    for checkpointing in (False, True):
        net = built(name).train()
        net.checkpointing = checkpointing
        numbers = 0

        def pack(tensor):
            nonlocal numbers
            numbers += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = net(x_of(net, 8), torch.rand(8, generator=torch.Generator().manual_seed(2)).double()).square().mean()
        loss.backward()
        gradients.append([p.grad.clone() for p in net.parameters() if p.grad is not None])
        kept.append(numbers)
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
    assert kept[1] < 0.6 * kept[0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"name": "unet", "shape": (1, 30, 30), "patch": 4}, "divides the sides of a picture by 8, and 30 x 30"),
        (
            {"name": "unet", "shape": (1, 9, 9)},
            "bring the pictures to 8 x 8 (--size 8, for pictures in files), or set network.patch",
        ),
        ({"name": "unet-ddpm", "shape": (1, 14, 14), "widths": (32, 32, 32)}, "by 4, and 14 x 14 cannot be"),
        ({"name": "unet-ddpm", "shape": (1, 8, 8), "widths": (48, 96)}, "48 cannot be divided into 32 groups"),
        ({"name": "unet-ddpm", "shape": (1, 8, 8), "head_dim": 24}, "64 cannot be divided into heads of 24"),
        ({"name": "dit", "shape": (1, 9, 9), "patch": 2}, "by 2, and 9 x 9 cannot be: bring the pictures to 8 x 8"),
        ({"name": "dit", "shape": (1, 13, 20), "patch": 4}, "bring the pictures to 12 x 12 (--size 12,"),
        ({"name": "unet", "shape": (1, 8, 8), "attention": (5,)}, "there is no level 5 of 2"),
        ({"name": "dit", "shape": (1, 8, 8), "width": 30}, "must be a multiple of 4 x 2 heads"),
        ({"name": "dit", "shape": (1, 8)}, "shape"),
        ({"name": "unet", "shape": (1, 8, 8), "widths": ()}, "widths"),
        ({"name": "unet", "shape": (0, 8, 8)}, "shape"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_with_the_way_out(settings, says):
    with pytest.raises(ConfigError, match=re.escape(says)):
        networks.build(settings)


@pytest.mark.parametrize(
    ("cls", "patches"),
    [(UNet, {8: 1, 16: 1, 24: 2, 28: 2, 32: 2, 48: 4, 64: 4}), (DiT, {7: 1, 8: 2, 14: 2, 16: 2, 28: 4, 32: 4, 64: 8})],
)
def test_patches_suit_the_size(cls, patches):
    assert {side: cls((1, side, side)).patch for side in patches} == patches


def test_unets_without_attention_and_with_it_everywhere():
    for kind in (UNet, UNetDDPM):
        none, everywhere = (
            sum(p.numel() for p in kind((1, 8, 8), (32, 64), attention=levels).parameters()) for levels in ((), (0, 1))
        )
        assert none < everywhere


@pytest.mark.parametrize("tokens", [7, 300])
def test_attention_is_softmax_of_products_whichever_way_it_is_computed(tokens):
    q, k, v = torch.randn(3, 2, 4, tokens, 8, generator=torch.Generator().manual_seed(0)).double()
    weights = torch.einsum("bhnd,bhmd->bhnm", q, k).div(8**0.5).softmax(-1)
    torch.testing.assert_close(attend(q, k, v), torch.einsum("bhnm,bhmd->bhnd", weights, v))


@pytest.mark.parametrize(("dtype", "close"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 0.05)])
@pytest.mark.parametrize("side", [(1, 1), (3, 5), (7, 7)])
def test_a_convolution_at_twice_the_size_is_that_of_the_doubled_picture(dtype, close, side):
    torch.manual_seed(0)
    layer = DoublingConv(6, 4).to(dtype)
    x = torch.randn(3, 6, *side, dtype=dtype, requires_grad=True)

    def plain(x):
        doubled = torch.nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return torch.nn.functional.conv2d(doubled, layer.weight, layer.bias, padding=1)

    found, expected = layer(x), plain(x)
    assert found.shape == (3, 4, 2 * side[0], 2 * side[1])
    torch.testing.assert_close(found, expected, rtol=close, atol=close)
    along = torch.randn_like(found)
    for mine, theirs in zip(
        *(torch.autograd.grad((y * along).sum(), (x, layer.weight, layer.bias)) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(mine, theirs, rtol=10 * close, atol=10 * close)
    names = {name: p.shape for name, p in layer.named_parameters()}
    assert names == {"weight": (4, 6, 3, 3), "bias": (4,)}  # as any convolution's, so that weights load
