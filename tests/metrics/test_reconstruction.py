"""How near reconstructions are: ratios and similarities whose values are known."""

import math

import pytest
import torch

from fromnoise.errors import InputError
from fromnoise.metrics import psnr, ssim


def pictures(n=4, channels=1, side=16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (n, channels, side, side), generator=generator, dtype=torch.uint8)


def test_psnr_of_a_known_error():
    x = torch.full((2, 1, 4, 4), 100, dtype=torch.uint8)
    assert psnr(x + 10, x) == pytest.approx(20 * math.log10(25.5))
    assert psnr(x, x) == math.inf
    assert psnr(x.float() / 255 + 0.1, x.float() / 255, peak=1.0) == pytest.approx(20, abs=1e-4)


def test_psnr_is_of_the_mean_error_of_all_pictures():
    x = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    y = x.clone()
    y[0] += 20
    assert psnr(y, x) == pytest.approx(10 * math.log10(255**2 / 200))


@pytest.mark.parametrize("side", [3, 8, 10, 28])
def test_ssim_is_one_for_equal_pictures_and_symmetric(side):
    x, y = pictures(channels=3, side=side), pictures(channels=3, side=side, seed=1)
    assert ssim(x, x) == pytest.approx(1)
    assert ssim(x, y) == pytest.approx(ssim(y, x))
    assert ssim(x, y) < 0.5


def test_ssim_of_flat_pictures_is_its_first_factor():
    a, b, c1 = 100.0, 140.0, (0.01 * 255) ** 2
    x = torch.full((1, 1, 12, 12), a)
    assert ssim(x, torch.full_like(x, b)) == pytest.approx((2 * a * b + c1) / (a * a + b * b + c1))


def test_ssim_falls_with_noise_and_with_blur():
    x = torch.nn.functional.interpolate(pictures(side=4).float(), size=16, mode="bilinear")
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    each = [ssim(x + s * noise, x) for s in (1, 5, 25)]
    assert 1 > each[0] > each[1] > each[2] > 0
    assert ssim(torch.nn.functional.avg_pool2d(x, 3, 1, 1), x) < 0.999


def test_other_shapes_are_refused():
    for measure in (psnr, ssim):
        with pytest.raises(InputError, match="alike"):
            measure(pictures(), pictures(side=8))


@pytest.mark.parametrize("peak", [0, -1.0, math.inf, math.nan])
def test_a_peak_is_above_0(peak):
    for measure in (psnr, ssim):
        with pytest.raises(InputError, match="must be above 0"):
            measure(pictures(), pictures(seed=1), peak=peak)
