import json
import subprocess
import sys

import pytest
import torch

import fromnoise as fn
from fromnoise.certify import Contender, certify, errors, foreign, own
from fromnoise.certify.contender import shipped
from fromnoise.errors import InputError

pytestmark = pytest.mark.unchecked


@pytest.mark.slow
def test_every_shipped_sampler_satisfies_every_law():
    # in a process of its own, without the type checks of the tests, which make it ten times as long
    command = [sys.executable, "-m", "fromnoise", "certify", "--all", "--json"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    found = json.loads(done.stdout)
    broken = [(name, c) for name, laws in found["samplers"].items() for c in laws if not c["passed"]]
    assert broken == []
    assert found["passed"]
    assert done.returncode == 0
    assert set(found["samplers"]) == {own(rule).name for rule in shipped()}
    for rule in shipped():
        laws = {c["law"] for c in found["samplers"][own(rule).name]}
        assert laws >= {"budget", "point mass", "Gaussian", "bias", "ends", "kept", "rows"}
        if rule.convergence is not None:
            assert laws >= {"order", "error", "Euler"}


def verdicts(run, evaluations=lambda steps: steps):
    return {c.name: c.passed for c in certify(Contender("broken", run, evaluations))}


@pytest.mark.slow
def test_each_law_detects_the_sampler_that_breaks_it():
    good = own(fn.DDIM()).run
    assert all(verdicts(good).values())

    def spends_more(denoiser, noise, steps, draw):
        more = min(steps + steps // 50, 1000)  # as leading spacings do where N does not divide T
        return good(denoiser, noise, more, draw)

    found = verdicts(spends_more)
    assert not found["budget"]
    assert not found["Euler"]  # on a table of 50 steps it asks for 51, which is an error of its own and no crash

    def stops_early(denoiser, noise, steps, draw):
        return good(denoiser, noise, steps, draw) + 1e-3  # like a loop without the last denoising step

    assert not verdicts(stops_early)["point mass"]

    def gets_worse(denoiser, noise, steps, draw):
        return good(denoiser, noise, steps, draw) * (1 + steps / 500)

    assert not verdicts(gets_worse)["error"]
    assert not verdicts(gets_worse)["Gaussian"]

    def too_narrow(denoiser, noise, steps, draw):
        return 0.85 * good(denoiser, noise, steps, draw)

    def off_the_mean(denoiser, noise, steps, draw):
        return good(denoiser, noise, steps, draw) + 0.2

    for rule in (too_narrow, off_the_mean):
        assert not verdicts(rule)["bias"]
        assert not verdicts(rule)["Gaussian"]

    def mixes_rows(denoiser, noise, steps, draw):
        return good(denoiser, noise - noise.mean(0) / 10, steps, draw)

    assert not verdicts(mixes_rows)["rows"]

    def blows_up(denoiser, noise, steps, draw):
        return good(denoiser, noise, steps, draw) / denoiser.schedule.alpha(1.0) ** 0

    def nan_at_zero_snr(denoiser, noise, steps, draw):
        alpha = torch.tensor(float(denoiser.schedule.alpha(1.0)))
        return good(denoiser, noise, steps, draw) + 0 * torch.log(alpha)

    def explodes_on_short_tables(denoiser, noise, steps, draw):
        x = good(denoiser, noise, steps, draw)  # as an extrapolation does whose last levels crowd above a gap
        return x * 50 if denoiser.schedule.table_length == 10 and steps == 10 else x

    assert not verdicts(explodes_on_short_tables)["Euler"]

    def moves_what_is_fixed(denoiser, noise, steps, draw):
        return good(denoiser, noise, steps, draw) * (1 + 1e-6)

    assert not verdicts(moves_what_is_fixed)["kept"]
    assert verdicts(blows_up)["ends"]
    assert not verdicts(nan_at_zero_snr)["ends"]


def test_a_false_claim_of_order_is_detected():
    class Boastful(fn.DDIM):
        @property
        def convergence(self):
            return 2

    rule = Boastful()
    checks = {c.name: c for c in certify(Contender("boastful", own(fn.DDIM()).run, lambda n: n, rule))}
    assert not checks["order"].passed
    assert checks["order"].found == "1.00"


def test_errors_are_against_the_exact_end_points():
    fine = errors(own(fn.UniPC(3)), (400,))[0]
    coarse = errors(own(fn.DDIM()), (10,))[0]
    assert fine < 1e-5 < coarse


def euler(denoiser, noise, steps):
    """Euler's method, as a user would write it."""
    schedule = denoiser.schedule
    grid = schedule.grid(steps)
    x = schedule.sigma(1.0) * noise
    for t, s in zip(grid, grid[1:], strict=False):
        x0_hat = denoiser(x, t)
        if s == 0:
            return x0_hat
        alpha, sigma = schedule.scales(t)
        x = schedule.alpha(s) * x0_hat + schedule.sigma(s) * (x - alpha * x0_hat) / sigma
    return x


def shapeless(denoiser, noise, steps):
    return denoiser(noise, 1.0)[:, :1].squeeze(1)


def nowhere(denoiser, noise, steps):
    return euler(denoiser, noise, steps) * float("nan")


def test_a_foreign_sampler_is_certified_by_its_path():
    assert all(c.passed for c in certify(foreign(f"{__name__}:euler")))
    with pytest.raises(InputError, match="shape"):
        certify(foreign(f"{__name__}:shapeless"))
    with pytest.raises(InputError, match="NaN"):
        certify(foreign(f"{__name__}:nowhere"))
    for path in ("no.such:thing", f"{__name__}:nothing", f"{__name__}:__name__", "os:"):
        with pytest.raises(InputError):
            foreign(path)


@pytest.mark.slow
def test_the_command(run_cli, tmp_path):
    code, out, _ = run_cli("certify", "ddim", "heun", "--plot", tmp_path / "c.png")
    assert code == 0
    assert "all hold" in out
    assert (tmp_path / "c.png").stat().st_size > 10_000
    code, out, _ = run_cli("certify", "unipc", "--set", "order=3", "--json")
    assert code == 0
    assert json.loads(out)["passed"] is True
    for arguments, words in (
        (["certify"], "--all"),
        (["certify", "dim"], "did you mean 'ddim'"),
        (["certify", "--all", "ddim"], "leave out"),
        (["certify", "nosuch.module:f"], "cannot be loaded"),
        (["certify", "multistep", "--set", "order=9"], "order"),
        (["certify", "sde", "--plot", str(tmp_path / "n.png")], "draw noise"),
    ):
        code, _, err = run_cli(*arguments)
        assert code == 2
        assert words in err


def test_a_broken_law_is_exit_code_one(run_cli, tmp_path, monkeypatch):
    lines = ["def f(denoiser, noise, steps):", "    for _ in range(steps):", "        x = denoiser(noise, 1.0)"]
    code = "\n".join([*lines, "    return x + 1", ""])
    (tmp_path / "worse.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    code, out, _ = run_cli("certify", "worse:f")
    assert code == 1
    assert "FAIL" in out
