"""Post-hoc EMA: the averages that are kept, and those of other lengths that are made of them."""

import json

import pytest
import torch

import fromnoise as fn
from fromnoise.cli.main import main
from fromnoise.errors import CheckpointDamaged, InputError
from fromnoise.run import RunFolder
from fromnoise.run.averages import Snapshot, exponent, mix
from fromnoise.training import Interrupted, Stop
from fromnoise.training.ema import PowerAverage

LENGTHS = (0.05, 0.1)


def deviation(gamma, t=1.0, n=200_001):
    """The standard deviation of the profile tau^gamma on [0, t], in parts of t, by quadrature."""
    tau = torch.linspace(0, t, n, dtype=torch.float64)
    p = tau**gamma
    mean = (p * tau).sum() / p.sum()
    return float(((p * (tau - mean) ** 2).sum() / p.sum()).sqrt() / t)


@pytest.mark.parametrize("length", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_the_exponent_is_that_of_a_profile_of_the_length(length):
    assert deviation(exponent(length)) == pytest.approx(length, rel=1e-3)


def test_the_exponents_of_the_paper():
    assert exponent(0.05) == pytest.approx(16.97, abs=0.01)  # Karras et al. 2024, section 3.1
    assert exponent(0.10) == pytest.approx(6.94, abs=0.01)


@pytest.mark.parametrize("length", [0.0, -0.1, 0.3, float("nan"), float("inf")])
def test_a_length_out_of_range_is_refused(length):
    with pytest.raises(InputError, match=r"between 0.001 and 0.28"):
        exponent(length)


def test_the_running_average_weighs_the_steps_by_the_profile():
    net = torch.nn.Linear(1, 1, bias=False).double()
    average, values = PowerAverage(net, 0.1), torch.randn(400, dtype=torch.float64)
    for k, value in enumerate(values):
        net.weight.data.fill_(value)
        average.update(k)
    tau = torch.arange(1, 401, dtype=torch.float64) ** (average.gamma + 1)
    weights = torch.diff(tau, prepend=torch.zeros(1, dtype=torch.float64)) / tau[-1]  # the profile's integral by steps
    assert float(average.averages["weight"]) == pytest.approx(float((weights * values).sum()), abs=1e-9)


def test_a_snapshot_mixes_to_itself_and_others_close_to_it():
    snapshots = [Snapshot(step, length) for step in range(100, 1001, 100) for length in LENGTHS]
    same = mix(snapshots, 0.1, 1000)
    assert same.error < 1e-5
    assert same.factors[-1] == pytest.approx(1, abs=1e-4)
    for length, most in ((0.07, 0.01), (0.15, 0.03), (0.25, 0.2)):
        found = mix(snapshots, length, 1000)
        assert found.error < most
        assert sum(found.factors) == pytest.approx(1, abs=1e-9)
    assert mix(snapshots[-2:], 0.2, 1000).error > 0.25  # of two, both of the end, nothing that long is made


def trained(out, **given):
    """Train a small run that keeps averages."""
    settings = {"steps": 200, "save_every": 20, "log_every": 50, "batch_size": 32, "post_hoc_ema": LENGTHS, **given}
    return fn.train(fn.data.moons(80), out=out, network={"name": "mlp", "hidden": 16}, **settings)


def test_an_average_of_a_third_length_is_that_which_was_kept_along(tmp_path):
    trained(tmp_path / "r")
    three = trained(tmp_path / "three", post_hoc_ema=(*LENGTHS, 0.15)).folder.averages
    last = fn.load(tmp_path / "r", weights="model").denoiser.network
    wanted = dict(last.named_parameters())
    kept = three.read(Snapshot(200, 0.15), wanted)
    made = dict(fn.load(tmp_path / "r", ema=0.15).denoiser.network.named_parameters())
    far = sum(float((kept[name] - wanted[name]).square().sum()) for name in wanted) ** 0.5
    off = sum(float((kept[name] - made[name]).square().sum()) for name in wanted) ** 0.5
    assert off < 0.02 * far


def test_a_resumed_training_keeps_the_same_averages(tmp_path):
    trained(tmp_path / "whole")
    stop = Stop()
    with pytest.raises(Interrupted):
        d = fn.training.Plan.from_recipe("points", {
            "network": {"name": "mlp", "hidden": 16},
            "train": {"steps": 200, "save_every": 20, "log_every": 50, "batch_size": 32, "post_hoc_ema": LENGTHS},
        }).assemble(fn.data.moons(80))  # fmt: skip
        for event in d.fit(tmp_path / "r", stop=stop):
            if event.step >= 100:
                stop.asked = True
    trained(tmp_path / "r", resume=True)
    for place in sorted((tmp_path / "whole/averages").glob("*.safetensors")):
        assert (tmp_path / "r/averages" / place.name).read_bytes() == place.read_bytes()


def test_a_damaged_average_is_refused_by_name_and_a_run_without_says_how_to_keep_them(tmp_path):
    trained(tmp_path / "r")
    place = sorted((tmp_path / "r/averages").glob("*.safetensors"))[3]
    content = bytearray(place.read_bytes())
    content[-3] ^= 1
    place.write_bytes(bytes(content))
    with pytest.raises(CheckpointDamaged, match=place.name):
        fn.load(tmp_path / "r", ema=0.1)
    fn.load(tmp_path / "r")
    trained(tmp_path / "none", steps=40, post_hoc_ema=())
    assert not (tmp_path / "none/averages").exists()
    with pytest.raises(InputError, match="kept no averages"):
        fn.load(tmp_path / "none", ema=0.1)
    assert RunFolder(tmp_path / "none").averages.found(1000) == []


def test_evaluate_shows_the_curve(tmp_path, capsys):
    trained(tmp_path / "r", held_out=0.2)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "r"), "--ema", "0.05,0.2", "-n", "40", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["ema"]
    assert [row["ema"] for row in rows] == [0.05, 0.2]
    assert rows[0]["held_out"] != rows[1]["held_out"]
    assert rows[0]["profile_error"] < 1e-4 < rows[1]["profile_error"]
    assert main(["sample", str(tmp_path / "r"), "--ema", "0.1", "-n", "5", "--out", str(tmp_path / "x.csv")]) == 0
    for bad in ("0.05,x", "0.5", ""):
        assert main(["evaluate", str(tmp_path / "r"), "--ema", bad]) == 2


def test_damaged_or_later_averages_are_written_again_when_the_training_goes_on(tmp_path):
    whole = trained(tmp_path / "whole").folder.path / "averages"
    trained(tmp_path / "r")
    here = tmp_path / "r/averages"
    last = here / "000000200-0.050.safetensors"
    last.write_bytes(last.read_bytes()[:-8])
    with pytest.warns(UserWarning, match="fell back"):
        trained(tmp_path / "r", resume=True)
    assert sorted(p.name for p in here.iterdir()) == sorted(p.name for p in whole.iterdir())
    for place in whole.iterdir():
        assert (here / place.name).read_bytes() == place.read_bytes()
    fn.load(tmp_path / "r", ema=0.15)


@pytest.mark.parametrize("lengths", [(0.05, 0.05), (0.0501, 0.1), (0.3,), (0.001,)])
def test_lengths_that_files_cannot_be_called_by_are_refused(lengths):
    with pytest.raises(InputError):
        fn.TrainConfig(post_hoc_ema=lengths)


def test_many_manifests_without_files_are_no_snapshots(tmp_path):
    trained(tmp_path / "r")
    folder = RunFolder(tmp_path / "r")
    before = folder.averages.found(200)
    names = {f"000000010-0.{k:03d}.safetensors": {"sha256": "0"} for k in range(1, 250)}
    (tmp_path / "r/averages/000000010.json").write_text(json.dumps({"step": 10, "files": names}))
    assert folder.averages.found(200) == before
    with pytest.raises(InputError, match="one of the two"):
        fn.load(tmp_path / "r", weights="model", ema=0.1)
