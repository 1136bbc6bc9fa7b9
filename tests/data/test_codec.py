import copy
import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import Tensor

import fromnoise as fn
from fromnoise.data import Affine, Codec
from fromnoise.errors import InputError


@pytest.mark.parametrize("kind", ["isotropic", "columns", "none"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_out_inverts_into_in_the_datas_own_type(kind, dtype):
    x = (torch.randn(500, 3, dtype=torch.float64) * torch.tensor([1.0, 10.0, 0.1]) + 5).to(dtype)
    codec = Affine(kind).fitted(x)
    z = codec.into(x)
    assert (z.dtype, codec.out(z).dtype) == (torch.float32, dtype)
    torch.testing.assert_close(codec.out(z), x, rtol=1e-5, atol=1e-4)
    assert codec.form == "points"
    assert codec.shape == (3,)


def test_float64_and_whole_numbers_far_from_zero_lose_nothing():
    far = torch.arange(100, dtype=torch.float64)[:, None] + 1e9  # float32 has steps of 64 here
    codec = Affine("columns").fitted(far)
    torch.testing.assert_close(codec.out(codec.into(far)), far, rtol=0, atol=1e-4)
    run = fn.train(np.arange(1_000_000_000, 1_000_000_300)[:, None].repeat(2, axis=1), steps=200, batch_size=64)
    x = fn.sample(run.denoiser, 200, steps=10)
    assert x.dtype == torch.float64
    assert 1e9 - 200 < float(x.min()) < float(x.max()) < 1e9 + 500
    assert len(x.unique()) > 200


@pytest.mark.parametrize(
    ("shape", "units", "kind"),
    [
        ((2,), [1.0, 3.0], "isotropic"),
        ((2,), [1.0, 5.0], "columns"),
        ((1,), [7.0], "isotropic"),
        ((3,), [1.0, 1.0, 1.0], "columns"),
        ((6,), [1e-6, 1.0, 1e6, 3.0, 2.0, 9.0], "columns"),
        ((1, 4, 4), [1.0], "isotropic"),
    ],
)
def test_a_table_is_scaled_by_column_and_points_and_pictures_stay_round(shape, units, kind):
    x = torch.randn(500, *shape).double() * torch.tensor(units).double().reshape(-1, *[1] * (len(shape) - 1)) + 2
    codec = Affine().fitted(x)
    assert (codec.kind, codec.form) == (kind, "points" if len(shape) == 1 else "images")
    z = codec.into(x).flatten(1)
    of_all = z.std(0, correction=0) if kind == "columns" else z.square().mean().sqrt()
    torch.testing.assert_close(of_all, torch.ones_like(of_all), rtol=1e-4, atol=0)
    assert codec.equals(Affine(kind).fitted(x))
    assert Affine("isotropic").fitted(x).std.dim() == 0


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e6])
@pytest.mark.parametrize("kind", ["isotropic", "columns"])
def test_the_codec_turns_with_the_datas_unit(kind, scale):
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([1.0, 3.0])
    one, other = Affine(kind).fitted(x), Affine(kind).fitted(scale * x)
    torch.testing.assert_close(other.std, scale * one.std, rtol=1e-12, atol=0)
    torch.testing.assert_close(other.into(scale * x), one.into(x), rtol=1e-5, atol=1e-6)


def test_what_never_varies_keeps_its_unit():
    x = torch.stack([torch.randn(50), torch.full((50,), 0.1)], 1)
    assert Affine("columns").fitted(x).std[1] == 1
    assert Affine().fitted(x[:, 1:]).std == 1
    assert torch.isfinite(Affine().fitted(x[:1]).into(x)).all()


def test_what_was_measured_is_kept_and_checked():
    codec = Affine("columns").fitted(torch.randn(20, 4).double() * 3 + 1)
    again = Affine("columns").with_tensors(codec.tensors(), (4,))
    z = torch.randn(5, 4)
    assert torch.equal(again.out(z), codec.out(z))
    for damaged in ({"mean": torch.zeros(3)}, {"std": torch.zeros(4).double()}, {"mean": torch.full((4,), torch.nan)}):
        with pytest.raises(ValueError, match=r"a mean or std|a std that"):
            Affine("columns").with_tensors({**codec.tensors(), **damaged}, (4,))


def test_log_volume_is_the_determinant():
    codec = Affine("columns").fitted(torch.randn(50, 3).double() * torch.tensor([1.0, 10.0, 0.1]))
    jacobian = torch.autograd.functional.jacobian(codec.out, torch.zeros(3, dtype=torch.float64))
    assert codec.log_volume == pytest.approx(float(torch.linalg.slogdet(jacobian)[1]), rel=1e-9)


@fn.register.codec("test-log")
@dataclass(frozen=True, eq=False)
class Log(Codec):
    """sample = base^(centre + z), of positive numbers: a codec of a user's own, not affine."""

    base: Annotated[float, Field(gt=1)] = 10.0
    centre: ClassVar[Tensor] = torch.zeros(())

    @property
    def form(self):
        return "points"

    def fitted(self, data):
        logs = fn.data.samples(data).log() / math.log(self.base)
        return self.with_tensors({"centre": logs.mean(0)}, logs.shape[1:])

    def into(self, stored, generator=None):
        return stored.log() / math.log(self.base) - self.centre.to(stored)

    def out(self, z):
        return self.base ** (z + self.centre.to(z))

    def mask(self, known):
        return known

    def tensors(self):
        return {"centre": self.centre}

    def with_tensors(self, tensors, shape):
        made = copy.copy(self)
        object.__setattr__(made, "centre", tensors["centre"])
        object.__setattr__(made, "shape", tuple(shape))
        return made


def positive(n=2000):
    return torch.exp(torch.randn(n, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[2.0, 1.0], [0, 1]]))


def test_codecs_are_equal_where_they_are_the_same_map():
    x = positive()
    one, other = Affine("isotropic").fitted(x), Affine("isotropic").fitted(x.flip(0))
    assert one.equals(other)
    assert Affine("none").fitted(x).equals(Affine.given(torch.zeros(2), torch.ones(2), (2,)))
    assert Log().fitted(x).equals(Log().fitted(x.clone()))
    for others in (Affine("columns").fitted(x), Affine("isotropic").fitted(1.001 * x), Log().fitted(x)):
        assert not one.equals(others)
    for others in (Log(2.0).fitted(x), Log().fitted(1.001 * x), one):
        assert not Log().fitted(x).equals(others)


def test_a_codec_of_the_users_own_goes_the_whole_way(tmp_path):
    x = positive()
    run = fn.train(x, codec={"name": "test-log", "base": 2.0}, out=tmp_path / "r", steps=600, batch_size=256, seed=0)
    again = fn.load(tmp_path / "r").denoiser
    assert again.codec.equals(run.denoiser.codec)
    made = fn.sample(again, 1000, steps=20)
    assert (made > 0).all()
    assert fn.equal(made, fn.sample(run.denoiser, 1000, steps=20))
    torch.testing.assert_close(made.log().std(0), x.log().std(0), rtol=0.1, atol=0)
    way = fn.trajectory(again, 20, steps=5)
    assert (way.x >= 0).all()
    assert torch.equal(way.x[-1], fn.sample(again, 20, steps=5))
    assert fn.evaluate(made, against=x, seed=0)
    known = torch.tensor([True, False])
    kept = fn.sample(fn.Inpainted(again, x[0], known), 10, sampler=fn.DDIM(), steps=5)
    torch.testing.assert_close(kept[:, 0], x[:1, 0].expand(10), rtol=1e-4, atol=0)
    other = fn.train(x, codec={"name": "test-log", "base": 3.0}, steps=5)
    with pytest.raises(InputError, match="scaled otherwise"):
        fn.AutoGuided(again, other.denoiser, 2.0)


def test_a_codec_that_cannot_take_the_data_says_so():
    with pytest.raises(InputError, match="100 of 100 samples are not finite once the codec"):
        fn.train(torch.cat([torch.ones(80, 2), -torch.ones(20, 2)]) + torch.rand(100, 2) / 2, codec="test-log", steps=1)
