"""The published layouts: weights and outputs are those of diffusers, with this library's networks in their place."""

import warnings

import pytest
import torch

from fromnoise import errors as fn_errors
from fromnoise.cond import Cond
from fromnoise.nn import DiT, UNetDDPM, networks
from fromnoise.nn.autoencoder import KLAutoencoder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from diffusers import AutoencoderKL, DiTTransformer2DModel, UNet2DModel

T = torch.tensor([0.0, 5.0, 500.0, 999.0])


def filled(module, seed=0):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(0.15 * torch.randn(p.shape, generator=generator))
    return module.eval()


UNETS = {
    "plain": ({}, {}),
    "as google/ddpm-cifar10-32": (
        {"blocks": 2, "attention": (1,), "downsample_padding": 0},
        {"layers_per_block": 2, "downsample_padding": 0},
    ),
    "as the class's defaults": (
        {"head_dim": 8, "cos_first": True, "freq_shift": 0, "norm_eps": 1e-5, "attention": (-1, -2), "groups": 32},
        {"attention_head_dim": 8, "flip_sin_to_cos": True, "freq_shift": 0, "norm_eps": 1e-5, "norm_num_groups": 32},
    ),
    "with labels": ({"classes": 9, "blocks": 1}, {"num_class_embeds": 10, "layers_per_block": 1}),
    "no attention but in the middle": ({"attention": ()}, {}),
    "with a learned variance": ({"learned_variance": True}, {"out_channels": 6}),
}


def unets(kind, widths=(32, 64, 64)):
    ours, theirs = UNETS[kind]
    levels = len(widths)
    attending = {level % levels for level in ours.get("attention", (-1,))}
    down = ["AttnDownBlock2D" if k in attending else "DownBlock2D" for k in range(levels)]
    up = ["AttnUpBlock2D" if k in attending else "UpBlock2D" for k in reversed(range(levels))]
    usual = {
        "in_channels": 3, "out_channels": 3, "layers_per_block": 2, "attention_head_dim": None, "norm_eps": 1e-6,
        "flip_sin_to_cos": False, "freq_shift": 1, "norm_num_groups": 16,
    }  # fmt: skip
    peer = UNet2DModel(
        sample_size=16, block_out_channels=widths, down_block_types=down, up_block_types=up, **{**usual, **theirs}
    )
    return UNetDDPM((3, 16, 16), widths, **{"groups": 16, **ours}), peer


@pytest.mark.parametrize("kind", UNETS)
def test_the_unets_weights_and_outputs_are_those_of_diffusers(kind):
    ours, theirs = unets(kind)
    filled(theirs)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ours.eval()
    labels = torch.tensor([0, 3, 8, 2]) if theirs.class_embedding is not None else None
    x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    cond = None if labels is None else Cond({"label": labels})
    with torch.no_grad():
        expected = theirs(x, T, class_labels=labels).sample
        torch.testing.assert_close(ours(x, T, cond), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())
        if labels is not None:  # no label is the last row
            last = torch.full((4,), 9)
            torch.testing.assert_close(ours(x, T), theirs(x, T, class_labels=last).sample, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", UNETS)
def test_diffusers_loads_our_unets_weights(kind):
    ours, theirs = unets(kind)
    filled(ours)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(2, 3, 16, 16)
    cond, labels = (Cond({"label": torch.tensor([1])}), torch.tensor([1, 1])) if ours.classes else (None, None)
    with torch.no_grad():
        expected = theirs.eval()(x, 7, class_labels=labels).sample
        torch.testing.assert_close(ours(x, 7.0, cond), expected, rtol=1e-5, atol=1e-5 * expected.abs().max().item())


def test_the_configuration_of_ddpm_cifar10_has_its_size():
    net = networks.build({
        "name": "unet-ddpm", "shape": (3, 32, 32), "widths": (128, 256, 256, 256), "attention": (1,), "groups": 32,
        "downsample_padding": 0,
    })  # fmt: skip
    assert sum(p.numel() for p in net.parameters()) == 35_746_307  # 35.7M: Ho et al. 2020, appendix B


def as_diffusers(state, depth):
    """The published names of a DiT's parameters -> those of diffusers' model."""
    time = {
        f"linear_{k}.{kind}": state[f"t_embedder.mlp.{2 * k - 2}.{kind}"] for k in (1, 2) for kind in ("weight", "bias")
    }
    labels = state["y_embedder.embedding_table.weight"]
    out = {f"pos_embed.proj.{kind}": state[f"x_embedder.proj.{kind}"] for kind in ("weight", "bias")}
    out["pos_embed.pos_embed"] = state["pos_embed"]
    for k in range(depth):
        old, new = f"blocks.{k}", f"transformer_blocks.{k}"
        out |= {f"{new}.norm1.emb.timestep_embedder.{name}": value for name, value in time.items()}
        out[f"{new}.norm1.emb.class_embedder.embedding_table.weight"] = labels
        for kind in ("weight", "bias"):
            out[f"{new}.norm1.linear.{kind}"] = state[f"{old}.adaLN_modulation.1.{kind}"]
            parts = state[f"{old}.attn.qkv.{kind}"].chunk(3)
            out |= {f"{new}.attn1.to_{letter}.{kind}": part for letter, part in zip("qkv", parts, strict=True)}
            out[f"{new}.attn1.to_out.0.{kind}"] = state[f"{old}.attn.proj.{kind}"]
            out[f"{new}.ff.net.0.proj.{kind}"] = state[f"{old}.mlp.fc1.{kind}"]
            out[f"{new}.ff.net.2.{kind}"] = state[f"{old}.mlp.fc2.{kind}"]
    for kind in ("weight", "bias"):
        out[f"proj_out_1.{kind}"] = state[f"final_layer.adaLN_modulation.1.{kind}"]
        out[f"proj_out_2.{kind}"] = state[f"final_layer.linear.{kind}"]
    return out


def test_the_transformer_is_the_published_one():
    ours = DiT(
        (4, 8, 8), 32, 3, 2, patch=2, qk_norm=False, activation="gelu", local=False, classes=10, learned_variance=True
    )
    filled(ours)
    theirs = DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=8, num_layers=3, sample_size=8,
        patch_size=2, num_embeds_ada_norm=10, norm_eps=1e-6,
    )  # fmt: skip
    wanted = theirs.state_dict()
    given = {k: v for k, v in as_diffusers(ours.state_dict(), 3).items() if k in wanted or k != "pos_embed.pos_embed"}
    theirs.load_state_dict(given, strict=True)
    places = theirs.pos_embed.pos_embed
    torch.testing.assert_close(ours.pos_embed, places.float(), rtol=1e-5, atol=1e-5)
    for block in theirs.transformer_blocks:
        block.norm1.emb.time_proj.downscale_freq_shift = 0  # as the paper's code has it; diffusers has 1
    x, labels = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(2)), torch.tensor([0, 9, 4, 1])
    with torch.no_grad():
        expected = theirs.eval()(x, T, labels).sample
        got = ours(x, T, Cond({"label": labels}))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * expected.abs().max().item())


def test_the_published_transformers_have_their_names_and_sizes():
    # Peebles & Xie 2023, table 1, in millions, with 1,000 labels on latents of 4 x 32 x 32
    sizes = {"S": 33, "B": 130, "L": 458, "XL": 675}
    for size, millions in sizes.items():
        with torch.device("meta"):
            net = DiT.published(size, (4, 32, 32), classes=1000)
        assert round(sum(p.numel() for p in net.parameters()) / 1e6) == millions
    names = {name.replace("blocks.0", "blocks.k") for name in net.state_dict() if ".0." in name or "blocks" not in name}
    assert {"x_embedder.proj.weight", "y_embedder.embedding_table.weight", "pos_embed", "blocks.k.attn.qkv.weight",
            "blocks.k.mlp.fc1.bias", "blocks.k.adaLN_modulation.1.weight", "final_layer.linear.weight",
            "t_embedder.mlp.2.bias", "final_layer.adaLN_modulation.1.bias"} <= names  # fmt: skip


AUTOENCODERS = {
    "factor 2": (2, {"widths": (16, 32), "groups": 8}, {"norm_num_groups": 8}),
    "factor 4, the default": (4, {}, {"norm_num_groups": 4}),
    "factor 8, two blocks": (
        8, {"widths": (8, 16, 16, 32), "blocks": 2, "groups": 8}, {"norm_num_groups": 8, "layers_per_block": 2}
    ),
    "no attention": (4, {"attention": False}, {"norm_num_groups": 4, "mid_block_add_attention": False}),
    "16 channels": (2, {"channels": 16}, {"norm_num_groups": 4, "latent_channels": 16}),
}  # fmt: skip


@pytest.mark.parametrize("kind", AUTOENCODERS)
def test_the_autoencoders_weights_and_outputs_are_those_of_diffusers(kind):
    factor, ours, theirs = AUTOENCODERS[kind]
    mine = filled(KLAutoencoder((3, 32, 16), factor, **ours), seed=1)
    widths = ours.get("widths", {2: (16, 48), 4: (16, 32, 64)}[factor] if factor < 8 else None)
    levels = len(widths)
    peer = AutoencoderKL(
        in_channels=3, out_channels=3, block_out_channels=widths, latent_channels=theirs.pop("latent_channels", 4),
        down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels, **theirs,
    ).eval()  # fmt: skip
    peer.load_state_dict(mine.state_dict(), strict=True)
    mine.load_state_dict(filled(peer, seed=2).state_dict(), strict=True)
    x = torch.randn(2, 3, 32, 16)
    with torch.no_grad():
        law, its = mine.encode(x), peer.encode(x).latent_dist
        torch.testing.assert_close(law.mean, its.mean, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(law.log_variance, its.logvar, rtol=1e-5, atol=1e-5)
        latent = torch.randn_like(law.mean)
        torch.testing.assert_close(mine.decode(latent), peer.decode(latent).sample, rtol=1e-5, atol=1e-5)
        kl = law.kl().sum((1, 2, 3))
    torch.testing.assert_close(kl, its.kl(), rtol=1e-5, atol=1e-3)
    assert tuple(law.mean.shape[1:]) == mine.latent_shape


def test_an_autoencoder_has_a_level_for_each_halving():
    with pytest.raises(fn_errors.ConfigError, match="takes 3 levels"):
        KLAutoencoder((1, 32, 32), 4, widths=(16, 32, 32, 32))
    with pytest.raises(fn_errors.ConfigError, match="bring the pictures to 32 x 32"):
        KLAutoencoder((1, 30, 30), 4)
    with pytest.raises(fn_errors.ConfigError, match="groups"):
        KLAutoencoder((1, 32, 32), 2, widths=(10, 32))
