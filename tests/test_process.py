import pytest
import torch

import fromnoise as fn
from fromnoise import process
from fromnoise.errors import InputError

NAMES = ["eps", "x0", "v", "flow", "score", "edm"]


@pytest.mark.parametrize("given_", NAMES)
@pytest.mark.parametrize("wanted", NAMES)
@pytest.mark.parametrize("schedule", [fn.LinearBeta(), fn.CosineBeta(), fn.VP(), fn.EDM(), fn.RectifiedFlow()])
def test_conversions_agree_with_the_definitions(given_, wanted, schedule):
    g = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(64, 3, generator=g, dtype=torch.float64) for _ in range(2))
    t = torch.rand(64, generator=g, dtype=torch.float64) * 0.9 + 0.05
    alpha, sigma = (v[:, None] for v in schedule.scales(t))
    x_t = process.add_noise(schedule, x0, t, eps)
    truth = {name: process.prediction(name).target(x0, eps, alpha, sigma) for name in NAMES}
    found = process.convert(schedule, truth[given_], x_t, t, given=given_, wanted=wanted)
    # errors grow as x0 is divided by alpha on the way in, and eps by sigma on the way out
    condition = (1 + sigma / alpha + sigma**2 / alpha) * (1 + alpha / sigma) * (1 + 1 / sigma + sigma)
    assert ((found - truth[wanted]).abs() / (condition * (1 + x_t.abs()))).max() < 1e-12


def test_targets_are_what_the_papers_say():
    x0, eps, alpha, sigma = torch.randn(5, 2), torch.randn(5, 2), 0.6, 0.8
    say = {name: process.prediction(name).target(x0, eps, alpha, sigma) for name in NAMES}
    torch.testing.assert_close(say["v"], 0.6 * eps - 0.8 * x0)
    torch.testing.assert_close(say["flow"], eps - x0)
    torch.testing.assert_close(say["score"], -eps / 0.8)
    torch.testing.assert_close(say["edm"], -say["v"])  # sigma_data 1 on a variance-preserving path


def test_edm_is_the_published_preconditioning():
    sd, sigma = 0.5, torch.tensor([0.01, 0.5, 30.0], dtype=torch.float64)
    p = process.EDMPrediction(sigma_data=sd)
    c_skip, c_out = p.coefficients(torch.ones(3, dtype=torch.float64), sigma)
    torch.testing.assert_close(c_skip, sd**2 / (sigma**2 + sd**2))
    torch.testing.assert_close(c_out, sigma * sd / (sigma**2 + sd**2).sqrt())
    torch.testing.assert_close(p.input_scale(torch.ones(3).double(), sigma), 1 / (sigma**2 + sd**2).sqrt())
    x0, eps = torch.randn(3).double(), torch.randn(3).double()
    x_t = x0 + sigma * eps
    torch.testing.assert_close(p.target(x0, eps, torch.ones(3).double(), sigma), (x0 - c_skip * x_t) / c_out)


def test_input_is_scaled_only_where_the_path_explodes():
    eps = process.prediction("eps")
    assert eps.input_scale(*fn.LinearBeta().scales(0.37)) == 1
    assert eps.input_scale(*fn.RectifiedFlow().scales(0.5)) == 1
    alpha, sigma = fn.EDM().scales(1.0)
    assert eps.input_scale(alpha, sigma) * (alpha**2 + sigma**2) ** 0.5 == pytest.approx(1)


def test_steps_in_the_wrong_direction_are_refused():
    with pytest.raises(InputError, match="later t"):
        process.transition(fn.LinearBeta(), 0.5, 0.5)
    with pytest.raises(InputError, match="earlier s"):
        process.posterior(fn.LinearBeta(), 0.2, 0.5)


def test_the_step_onto_clean_data_is_x0_itself():
    assert process.posterior(fn.CosineBeta(), 0.3, 0.0) == (0, 1, 0)
