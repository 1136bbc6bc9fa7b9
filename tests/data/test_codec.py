import numpy as np
import pytest
import torch

import fromnoise as fn
from fromnoise.data import Affine


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
