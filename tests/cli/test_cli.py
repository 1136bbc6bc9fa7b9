"""The command line from outside: its output, its files, its errors."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fromnoise as fn
from fromnoise.run import RunFolder

QUICK = ["--steps", "60", "--no-report", "-n", "200"]


def snapshot(path: Path):
    return {p: p.stat().st_mtime_ns for p in sorted(path.rglob("*"))} if path.exists() else {}


# -- what works --


def test_train_sample_evaluate_plot_info(run_cli, tmp_path):
    run = tmp_path / "spiral"
    code, out, err = run_cli("train", "spiral", "--steps", "120", "--out", run)
    assert code == 0
    assert "of the way" in out
    assert "with the exact denoiser" in out
    assert "floor" in err
    page = (run / "report.html").read_text()
    assert "data:image/png;base64" in page
    assert "http" not in page.replace("http-equiv", "")
    code, out, _ = run_cli("sample", run, "-n", "300", "--sampler", "ddim", "--steps", "50", "--seed", "1")
    assert code == 0
    written = np.loadtxt(run / "samples" / "ddim-50-seed1.csv", delimiter=",", skiprows=1)
    denoiser = fn.load(run).denoiser.on(fn.LinearBeta())
    np.testing.assert_allclose(written, fn.sample(denoiser, 300, sampler=fn.DDIM(), steps=50, seed=1), rtol=1e-6)
    code, out, _ = run_cli("evaluate", run, "-n", "200", "--pairs", "2")
    assert code == 0
    assert "2-Wasserstein" in out
    assert "little noise" in out
    code, out, _ = run_cli("info", run)
    assert code == 0
    assert "parameters" in out
    for kind in ("samples", "dissolve", "loss", "schedule", "trajectory"):
        code, out, _ = run_cli("plot", run, kind, "-n", "50", "--steps", "5")
        assert code == 0
        with Image.open(run / f"{kind}.{'gif' if kind == 'trajectory' else 'png'}") as image:
            assert image.size[0] > 200


def test_json_is_json(run_cli, trained, tmp_path):
    for arguments in (
        ["train", "moons", "--out", tmp_path / "r", *QUICK],
        ["sample", trained, "--out", tmp_path / "a.npy"],
        ["evaluate", trained, "-n", "100", "--pairs", "2"],
        ["schedule", "linear", "edm"],
        ["info"],
        ["info", trained],
        ["plot", trained, "loss", "--out", tmp_path / "l.png"],
    ):
        code, out, _ = run_cli(*arguments, "--json")
        assert code == 0
        assert isinstance(json.loads(out), dict)


def test_the_schedule_table_is_printed_and_drawn(run_cli, tmp_path):
    code, out, _ = run_cli("schedule", "linear", "cosine", "--plot", tmp_path / "s.png")
    assert code == 0
    for figure in ("9999.00", "1.0895", "0.0844", "24221.33", "5.4888", "0.9696", "0.1671"):
        assert figure in out
    assert (tmp_path / "s.png").exists()
    code, out, _ = run_cli("schedule", "linear", "--set", "linear.T=10", "--at", "0,9")
    assert code == 0
    assert len(out.strip().splitlines()) == 4


def test_a_labelled_run_is_conditional(run_cli, trained_shapes, tmp_path):
    for label in ("circles", "1"):
        code, _, _ = run_cli("sample", trained_shapes, "--label", label, "--out", tmp_path / f"{label}.npy")
        assert code == 0
    a, b = np.load(tmp_path / "circles.npy"), np.load(tmp_path / "1.npy")
    assert np.array_equal(a, b)
    assert run_cli("evaluate", trained_shapes, "-n", "100", "--pairs", "2", "--label", "moons")[0] == 0
    assert run_cli("evaluate", trained_shapes, "-n", "100", "--pairs", "2")[0] == 0
    assert run_cli("plot", trained_shapes, "samples", "-n", "90", "--out", tmp_path / "s.svg")[0] == 0


def test_guidance_changes_samples_and_its_picture_shows_each_scale(run_cli, trained_shapes, tmp_path):
    files = {}
    for scale in ("1", "5"):
        files[scale] = tmp_path / f"{scale}.npy"
        code, _, _ = run_cli("sample", trained_shapes, "--label", "spiral", "--guidance", scale, "--out", files[scale])
        assert code == 0
    plain = tmp_path / "plain.npy"
    assert run_cli("sample", trained_shapes, "--label", "spiral", "--out", plain)[0] == 0
    np.testing.assert_array_equal(np.load(files["1"]), np.load(plain))
    assert np.abs(np.load(files["5"]) - np.load(plain)).max() > 0.01
    picture = tmp_path / "g.png"
    code, out, _ = run_cli(
        "plot", trained_shapes, "guidance", "--scales", "0,1,3", "-n", "200", "--out", picture, "--json"
    )
    assert code == 0
    rows = json.loads(out)["scales"]
    assert [row["scale"] for row in rows] == [0, 1, 3]
    assert all(0 <= row["accuracy"] <= 1 and row["diversity"] > 0 for row in rows)
    with Image.open(picture) as image:
        assert image.size[0] > 800
    code, out, _ = run_cli("plot", trained_shapes, "guidance", "-n", "100", "--label", "moons", "--out", picture)
    assert code == 0
    assert "class accuracy" in out


@pytest.mark.slow
@pytest.mark.unchecked
def test_the_likelihood_is_shown_beside_the_truth(run_cli, trained, tmp_path):
    run = tmp_path / "endless"  # 20,000 points are too many for a finite set: their distribution is used
    assert run_cli("train", "spiral", "--out", run, "--steps", "200", "--no-report", "-n", "20000")[0] == 0
    code, out, _ = run_cli("evaluate", run, "-n", "200", "--pairs", "2", "--no-exact", "--elbo", "--json")
    assert code == 0
    found = json.loads(out)["likelihood"]
    assert found["nats"] + 4 * found["error"] > found["truth_nats"]
    assert found["exact_nats"] > found["truth_nats"] - 0.2
    assert found["nats"] == pytest.approx(found["prior"] + found["steps"] + found["reconstruction"] + found["units"])
    code, out, _ = run_cli("plot", trained, "elbo", "-n", "200", "--out", tmp_path / "elbo.png")
    assert code == 0
    assert "reconstruction" in out
    with Image.open(tmp_path / "elbo.png") as image:
        assert image.size[0] > 400


def test_the_article_recipe_has_the_settings_of_the_article(run_cli, tmp_path):
    code, _, _ = run_cli(
        "train", "spiral", "--recipe", "article", "--steps", "5", "--no-report", "--out", tmp_path / "r"
    )
    assert code == 0
    run = fn.load(tmp_path / "r")
    assert len(run.source) == 300
    assert run.denoiser.schedule == fn.LinearBeta(T=1000, beta_start=1e-4, beta_end=0.02)
    assert sum(p.numel() for p in run.denoiser.network.parameters()) == 83_458
    c = run.config
    assert (c.predict["name"], c.train["lr"], c.train["batch_size"], c.train["weighting"]) == (
        "eps",
        1e-4,
        64,
        {"name": "uniform"},
    )
    assert torch.equal(run.denoiser.codec.out(run.source.x), run.source.x)


def test_settings_of_flags_override_pairs_and_pairs_the_file(run_cli, tmp_path):
    file = tmp_path / "my.toml"
    file.write_text('predict = "v"\nschedule = "cosine"\n[network]\nhidden = 20\n[train]\nlr = 0.01\nbatch_size = 4\n')
    code, _, _ = run_cli(
        "train", "moons", "--config", file, "--set", "network.hidden=24", "--set", "train.batch_size=8",
        "--batch-size", "16", "--out", tmp_path / "r", *QUICK,
    )  # fmt: skip
    assert code == 0
    c = RunFolder(tmp_path / "r").config
    assert (c.predict["name"], c.schedule["name"], c.network["hidden"]) == ("v", "cosine", 24)
    assert (c.train["lr"], c.train["batch_size"], c.train["weighting"]) == (0.01, 16, {"name": "uniform"})


def test_a_plugin_registers_a_network(run_cli, tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "import torch\nfrom fromnoise.nn import networks\n"
        "@networks.register('mine')\n"
        "class Mine(torch.nn.Module):\n"
        "    def __init__(self, dim: int, width: int = 8):\n"
        "        super().__init__()\n"
        "        self.shape = (dim,)\n"
        "        L = torch.nn.Linear\n"
        "        self.net = torch.nn.Sequential(L(dim + 1, width), torch.nn.Tanh(), L(width, dim))\n"
        "    def forward(self, x, c_noise, cond=None):\n"
        "        return self.net(torch.cat([x, c_noise.expand(len(x))[:, None] / 20], 1))\n"
    )
    run = tmp_path / "r"
    code, _, _ = run_cli(
        "train", "moons", "--plugin", plugin, "--net", "mine", "--set", "network.width=12", "--out", run, *QUICK
    )
    assert code == 0
    assert RunFolder(run).config.network == {"name": "mine", "dim": 2, "width": 12}
    assert run_cli("sample", run, "--plugin", plugin, "--out", tmp_path / "a.csv")[0] == 0


def test_sample_writes_the_same_points_for_any_n(run_cli, trained, tmp_path):
    for n in (10, 700):
        assert run_cli("sample", trained, "-n", n, "--steps", "4", "--out", tmp_path / f"{n}.npy")[0] == 0
    assert np.array_equal(np.load(tmp_path / "10.npy"), np.load(tmp_path / "700.npy")[:10])


def test_progress_goes_to_standard_error(run_cli, tmp_path):
    code, out, err = run_cli("train", "moons", "--out", tmp_path / "r", *QUICK)
    assert code == 0
    assert "steps/s" in err
    assert "steps/s" not in out


@pytest.mark.slow
def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    run = tmp_path / "r"
    command = [sys.executable, "-m", "fromnoise", "train", "moons", "--out", str(run), "--steps", "20000",
               "--no-report", "-n", "200", "--set", "train.log_every=10"]  # fmt: skip
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.time() + 60
    while not (run / "metrics.jsonl").exists() or not (run / "metrics.jsonl").stat().st_size:
        assert time.time() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    err = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "go on with: fromnoise train moons" in err
    assert err.strip().endswith("--resume")
    assert RunFolder(run).steps()[0] > 0


@pytest.mark.slow
def test_the_demo_ends_with_a_table_and_pictures(run_cli, tmp_path):
    out_dir = tmp_path / "demo"
    for _ in range(2):  # a second demo replaces the first
        code, out, _ = run_cli("demo", "--steps", "100", "--out", out_dir)
        assert code == 0
    for name in ("ddpm 1000", "ddim 50", "ddim 10", "multistep 10", "exact denoiser"):
        assert name in out
    assert {"report.html", "trajectory.gif", "spiral.png"} <= {p.name for p in out_dir.iterdir()}
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    code, _, err = run_cli("demo", "--steps", "100", "--out", tmp_path / "mine")
    assert code == 2
    assert "not a demo" in err


# -- how it refuses --


def refused(result, words):
    code, out, err = result
    assert code == 2, err
    assert out == ""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("error: ")
    for word in [words] if isinstance(words, str) else words:
        assert word in lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["spirla"], ["unknown data set", "did you mean 'spiral'"]),
        (["spiral", "--schedule", "cosin"], ["unknown schedule", "did you mean 'cosine'"]),
        (["spiral", "--predict", "noise"], ["unknown prediction", "eps"]),
        (["spiral", "--recipe", "artcle"], ["unknown recipe", "did you mean 'article'"]),
        (["spiral", "--net", "unett"], "unknown network"),
        (["spiral", "--steps", "0"], "steps should be greater than or equal to 1"),
        (["spiral", "--steps", "-1"], "steps"),
        (["spiral", "--steps", "x"], "--steps"),
        (["spiral", "--lr", "nan"], ["lr", "finite"]),
        (["spiral", "--seed", "-1"], "seed"),
        (["spiral", "-n", "0"], "n must be a whole number of at least 1"),
        (["spiral", "--batch-size", "0"], "batch_size"),
        (["spiral", "--set", "train.lrr=1"], "lrr is not a setting of train"),
        (["spiral", "--set", "lr"], "key=value"),
        (["spiral", "--set", "network.hiden=3"], "hiden is not a setting of network 'mlp'"),
        (["spiral", "--config", "nowhere.toml"], "nowhere.toml"),
        (["spiral", "--device", "tpu9"], "no such device"),
        (["spiral", "--schedule", "flow", "--predict", "eps"], 'predict "v"'),
        (["spiral", "--nonsense"], "--nonsense"),
        (["spiral", "--plugin", "nowhere.py"], "no such file"),
        (["spiral", "--threads", "0"], "--threads"),
        ([], "Missing argument 'data'"),
    ],
)
def test_train_refuses_in_one_line_and_writes_nothing(run_cli, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    refused(run_cli("train", *arguments), words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "0"], "steps must be a whole number of at least 1"),
        (["--steps", "-1"], "steps must be"),
        (["--sampler", "ddpm", "--steps", "1001"], "at most T = 1000"),
        (["--sampler", "ddim", "--steps", "2000"], "at most T = 1000"),
        (["-n", "0"], "n must be"),
        (["--seed", "-1"], "seed must be"),
        (["--sampler", "dpm"], ["unknown sampler", "ddpm"]),
        (["--sampler", "ddim", "--eta", "1.5"], "eta"),
        (["--sampler", "multistep", "--set", "order=9"], "order"),
        (["--eta", "0.5"], "eta is not a setting of sampler 'multistep'"),
        (["--label", "spiral"], "no labels"),
        (["--out", "points.txt"], ".csv"),
        (["--weights", "best"], "weights"),
        (["--precision", "fp8"], "--precision"),
        (["--schedule", "liner"], "did you mean 'linear'"),
        (["--device", "cuda:77"], "no such device"),
    ],
)
def test_sample_refuses_in_one_line_and_writes_nothing(run_cli, trained, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    before = snapshot(trained)
    code, out, err = run_cli("sample", trained, *arguments)
    err = "\n".join(line for line in err.splitlines() if not line.startswith("note: "))
    refused((code, out, err), words)
    assert snapshot(trained) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sample", "nowhere"], "no run at nowhere"),
        (["evaluate", "nowhere"], "no run at"),
        (["plot", "nowhere"], "no run at"),
        (["info", "nowhere"], "unknown data set 'nowhere'"),
        (["info", "spirl"], "did you mean 'spiral'"),
        (["schedule", "linaer"], "did you mean 'linear'"),
        (["schedule", "linear", "--at", "1000"], "0 to T - 1 = 999"),
        (["schedule", "linear", "--at", "x"], "whole numbers"),
        (["schedule", "linear", "--plot", "s.bmp"], "must end in .png"),
        (["schedule", "linear", "--set", "cosine.T=3"], "not among"),
        (["schedule", "linear", "--set", "linear.T=0"], "greater than or equal to 1"),
        (["demo", "spirla"], "did you mean 'spiral'"),
        (["tran", "spiral"], "tran"),
    ],
)
def test_other_commands_refuse_in_one_line(run_cli, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    refused(run_cli(*arguments), words)
    assert list(tmp_path.iterdir()) == []


def test_wrong_plots_and_evaluations_are_refused(run_cli, trained, trained_shapes, tmp_path):
    refused(run_cli("plot", trained, "trajectori"), "did you mean 'trajectory'")
    refused(run_cli("plot", trained, "trajectory", "--out", tmp_path / "t.png"), ".gif")
    refused(run_cli("evaluate", trained, "-n", "5"), "too few")
    refused(run_cli("evaluate", trained, "--samples", tmp_path / "none.csv"), "no such file")
    (tmp_path / "bad.csv").write_text("x,y\n1,a\n")
    refused(run_cli("evaluate", trained, "--samples", tmp_path / "bad.csv"), "line 2, column 'y': 'a' is no number")
    refused(run_cli("sample", trained_shapes, "--label", "-1"), ["out of range", "0 spiral, 1 circles, 2 moons"])
    refused(run_cli("sample", trained_shapes, "--label", "3"), "out of range")
    refused(run_cli("sample", trained_shapes, "--label", "circls"), "did you mean 'circles'")
    refused(run_cli("sample", trained_shapes, "--guidance", "3"), ["--label", "spiral, circles, moons"])
    refused(run_cli("sample", trained_shapes, "--guidance", "nan", "--label", "moons"), "finite")
    refused(run_cli("sample", trained, "--guidance", "3"), "without labels")
    refused(run_cli("sample", trained, "--sampler", "multistep", "--set", "order=9"), "order")
    refused(run_cli("sample", trained, "--sampler", "multistep", "--set", "order=0"), "order")
    refused(run_cli("plot", trained, "guidance"), "labels")
    refused(run_cli("plot", trained_shapes, "guidance", "--scales", "1,two"), "--scales")
    refused(run_cli("plot", trained_shapes, "guidance", "--label", "star"), "unknown label")


def test_another_run_in_the_folder_is_refused_and_left_alone(run_cli, trained):
    before = snapshot(trained)
    refused(run_cli("train", "spiral", "--out", trained), ["already holds a run", "--resume"])
    refused(
        run_cli("train", "spiral", "--out", trained, "--resume", "--lr", "0.5"), ["another configuration", "train.lr"]
    )
    assert snapshot(trained) == before


def test_a_newer_format_and_a_damaged_checkpoint_are_refused(run_cli, tmp_path):
    run = tmp_path / "r"
    assert run_cli("train", "moons", "--out", run, *QUICK)[0] == 0
    for step in RunFolder(run).steps():
        file = RunFolder(run).place(step) / "ema.safetensors"
        file.write_bytes(file.read_bytes()[:-4])
    refused(run_cli("sample", run), ["truncated or was edited", "no sound checkpoint"])
    config = run / "config.toml"
    config.write_text(config.read_text().replace("format_version = 2", "format_version = 3"))
    refused(run_cli("sample", run), "install a newer fromnoise")


@pytest.mark.filterwarnings("always::UserWarning")
def test_a_fallback_is_a_warning_not_an_error(run_cli, tmp_path):
    run = tmp_path / "r"
    assert run_cli("train", "moons", "--out", run, *QUICK)[0] == 0
    (RunFolder(run).place(60) / "ema.safetensors").write_bytes(b"")
    code, _, err = run_cli("sample", run, "--out", tmp_path / "a.csv")
    assert code == 0
    assert "warning: " in err
    assert "fell back to the checkpoint at step 0" in err


@pytest.mark.skipif(not Path("/dev/full").exists() or os.name != "posix", reason="needs a file that is always full")
def test_what_cannot_be_written_is_refused(run_cli, trained, tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    refused(run_cli("train", "moons", "--out", blocked / "r", *QUICK), "cannot be written")
    refused(run_cli("sample", trained, "--out", blocked / "a.csv"), "cannot be written")


def test_debug_shows_the_traceback(trained):
    from fromnoise.cli.main import main
    from fromnoise.errors import InputError

    with pytest.raises(InputError):
        main(["sample", str(trained), "--steps", "0", "--debug"])


@pytest.mark.alone
def test_help_answers_quickly():
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-m", "fromnoise", "--help"], capture_output=True, check=True)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.5


def test_version(run_cli):
    assert run_cli("--version")[1].strip() == f"fromnoise {fn.__version__}"


def test_a_training_that_learns_by_heart_is_called_so_and_drawn(run_cli, tmp_path):
    out = tmp_path / "r"
    settings = ("train.held_out=0.5", "train.check_every=100", "train.patience=4", "train.log_every=50")
    words = [word for one in settings for word in ("--set", one)]
    code, said, news = run_cli("train", "spiral", "-n", "60", "--steps", "6000", "--out", out, "--no-report", *words)
    assert code == 0
    assert "held-out" in news
    assert "memorising" in said
    assert json.loads(run_cli("info", out, "--json")[1])["step"] < 6000
    assert run_cli("plot", out, "loss")[0] == 0
    code, _, err = run_cli("train", "spiral", "--set", "train.patience=3", "--out", tmp_path / "s")
    assert code == 2
    assert "held_out" in err
    assert not (tmp_path / "s").exists()


def test_no_two_ways_to_sample_share_a_default_name(trained_shapes, run_cli):
    ways = (
        "", "--sampler ddim --steps 10 --eta 0", "--sampler ddim --steps 10 --eta 1", "--guidance 0 --label moons",
        "--label moons", "-n 20", "--set order=2", "--schedule flow", "--weights model", "--precision bf16", "--seed 1",
    )  # fmt: skip
    names = []
    for way in ways:
        code, out, _ = run_cli("sample", trained_shapes, "--json", *way.split())
        assert code == 0, way
        names.append(json.loads(out)["out"])
    assert len(set(names)) == len(ways)
    assert all(Path(name).parent == trained_shapes / "samples" for name in names)


def test_bare_fromnoise_is_the_help(run_cli):
    code, out, err = run_cli()
    assert (code, err) == (0, "")
    assert "Usage: fromnoise" in out
    assert "certify" in out


def test_json_is_json_where_a_number_is_not_finite(trained, run_cli):
    code, out, _ = run_cli("evaluate", trained, "--pairs", 1, "-n", 50, "--json")

    def refuse(name):
        raise AssertionError(name)

    assert code == 0
    assert json.loads(out, parse_constant=refuse)["measures"]["2-Wasserstein"]["floor_error"] is None


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full and a shell")
def test_closed_and_full_streams(trained, tmp_path):
    command = f"{sys.executable} -m fromnoise"

    def shell(line):
        return subprocess.run(["bash", "-o", "pipefail", "-c", line], check=False, capture_output=True, text=True)

    done = shell(f"{command} info {trained} 2>&-")
    assert (done.returncode, "samples" in done.stdout) == (0, True)
    done = shell(f"{command} sample {tmp_path}/nope --json 2>&-")
    assert (done.returncode, done.stdout) == (2, "")
    assert shell(f"{command} info | true").returncode == 0
    done = shell(f"{command} info > /dev/full")
    assert (done.returncode, done.stderr) == (2, "error: No space left on device\n")
    done = shell(f"PYTHONIOENCODING=ascii {command} info {trained}")
    assert done.returncode == 0


def test_samples_that_are_not_finite_are_not_written(run_cli, trained_shapes, tmp_path):
    for name in ("x.csv", "x.npy", "x.png"):
        out = tmp_path / name
        words = ["--label", "moons", "--guidance", "1e308", "--steps", 3, "--out", out]
        code, _, err = run_cli("sample", trained_shapes, *words)
        assert code == 2
        assert "is not finite, and nothing is written" in err
        assert list(tmp_path.iterdir()) == []


def test_files_of_samples_of_several_forms_are_read(run_cli, trained, tmp_path):
    code, _, _ = run_cli("sample", trained, "-n", 40, "--out", tmp_path / "a.NPY")
    assert code == 0
    x = np.load(tmp_path / "a.NPY")
    np.savetxt(tmp_path / "headless.csv", x, delimiter=",")
    np.savetxt(tmp_path / "headed.csv", x, delimiter=",", header="grösse,y", comments="", encoding="utf-8")
    found = []
    for name in ("a.NPY", "headless.csv", "headed.csv"):
        code, out, _ = run_cli("evaluate", trained, "--samples", tmp_path / name, "--json")
        assert code == 0
        found.append(json.loads(out))
        assert found[-1]["n"] == 40
    values = [round(one["measures"]["2-Wasserstein"]["value"], 4) for one in found]
    assert values[0] == values[1] == values[2]


def test_a_terminated_command_leaves_nothing_half_written(trained, tmp_path):
    command = [sys.executable, "-m", "fromnoise", "sample", str(trained), "-n", "3000000", "--out", "x.csv"]
    process = subprocess.Popen(command, cwd=tmp_path)
    deadline = time.time() + 60
    while not list(tmp_path.iterdir()):
        assert time.time() < deadline
        time.sleep(0.05)
    process.terminate()
    assert process.wait(60) == 143
    assert list(tmp_path.iterdir()) == []


def test_a_table_of_one_step_is_trained_and_sampled(run_cli, tmp_path):
    settings = ["--schedule", "linear", "--predict", "v", "--set", "schedule.T=1"]
    code, out, _ = run_cli("train", "spiral", "-n", 200, *settings, "--steps", 5, "--out", tmp_path / "r")
    assert code == 0
    assert "multistep 1" in out
    for name in ("multistep", "ddpm", "ddim"):
        code, out, _ = run_cli("sample", tmp_path / "r", "--sampler", name)
        assert code == 0
        assert "in 1 steps" in out


def test_a_resume_that_finds_no_run_says_so(run_cli, tmp_path):
    words = ["train", "spiral", "-n", 60, "--resume", "--no-report", "--out", tmp_path / "r"]
    code, _, err = run_cli(*words, "--steps", 5)
    assert code == 0
    assert "there is no run at" in err
    code, out, err = run_cli(*words, "--steps", 8)
    assert code == 0
    assert "8 steps" in out
    assert "there is no run at" not in err
    assert "begun with 5 steps, and goes on to 8" in err


def test_a_table_in_a_file_is_trained_sampled_and_measured(run_cli, tmp_path):
    units = torch.tensor([1.0, 1e4, 1e-3])
    path = tmp_path / "mine.csv"
    np.savetxt(path, torch.randn(200, 3) * units, delimiter=",", header="a,b,c", comments="")
    run = tmp_path / "r"
    code, out, err = run_cli("train", path, "--steps", 60, "--out", run)
    assert code == 0, err
    assert "2-Wasserstein" in out
    assert run_cli("sample", run, "-n", 100, "--out", tmp_path / "s.csv")[0] == 0
    code, out, _ = run_cli("evaluate", run, "--samples", tmp_path / "s.csv")
    assert code == 0
    assert "the columns' standard deviations" in out
    refused(run_cli("train", path, "-n", 50, "--out", tmp_path / "other"), "data.n is for built-in data")
    refused(run_cli("train", tmp_path / "none.csv"), "there is no such file")
    assert not (tmp_path / "other").exists()


def test_a_run_without_its_data_says_so_and_is_used_as_far_as_it_goes(run_cli, tmp_path):
    path, run = tmp_path / "mine.csv", tmp_path / "r"
    np.savetxt(path, np.random.default_rng(0).normal(size=(300, 2)), delimiter=",")
    code, out, _ = run_cli("train", path, "--steps", 20, "--out", tmp_path / "with")
    assert code == 0
    assert "the folder holds the 300 training samples; --no-data leaves them out" in out
    code, out, _ = run_cli("train", path, "--steps", 20, "--no-data", "--out", run)
    assert code == 0
    assert (
        "the folder holds none of the training samples: evaluate, floors and exact answers need them by --data" in out
    )
    assert not (run / "data.safetensors").exists()
    code, out, _ = run_cli("train", "spiral", "-n", 60, "--steps", 5, "--no-report", "--out", tmp_path / "built-in")
    assert "training samples" not in out
    assert run_cli("sample", run, "--out", tmp_path / "s.csv")[0] == 0
    assert run_cli("plot", run, "samples", "--out", tmp_path / "s.png")[0] == 0
    assert run_cli("plot", run, "loss", "--out", tmp_path / "l.png")[0] == 0
    code, out, _ = run_cli("info", run)
    assert code == 0
    assert re.search(r"holds data +(no|False)", out)
    refused(run_cli("evaluate", run), "holds none of its training data, and they were 'mine': give them by --data")
    code, out, _ = run_cli("evaluate", run, "--data", path, "-n", 100)
    assert code == 0
    assert "floor" in out.splitlines()[-1]
    assert run_cli("plot", run, "score", "--data", path, "--out", tmp_path / "f.png")[0] == 0
    np.savetxt(tmp_path / "other.csv", np.random.default_rng(1).normal(size=(300, 2)), delimiter=",")
    refused(run_cli("evaluate", run, "--data", tmp_path / "other.csv"), "was trained on other data than 'other'")
    refused(run_cli("evaluate", run, "--data", tmp_path / "none.csv"), "there is no such file")
    code, out, _ = run_cli("export", run, tmp_path / "none.html")
    assert code == 0
    assert "holds no training samples of r" in out
    code, out, _ = run_cli("export", tmp_path / "with", tmp_path / "some.html")
    assert "holds 300 training samples of with; --no-data leaves them out" in out
    code, out, _ = run_cli("export", tmp_path / "with", tmp_path / "left.html", "--no-data", "--json")
    assert json.loads(out)["training_samples"] == {"with": 0}
    code, _, err = run_cli("train", path, "--steps", 30, "--no-data", "--resume", "--out", run)
    assert code == 0, err
    assert not (run / "data.safetensors").exists()


def test_a_handful_of_samples_is_trained_without_a_report(run_cli, tmp_path):
    np.save(tmp_path / "few.npy", np.random.default_rng(0).normal(size=(5, 2)))
    code, out, err = run_cli("train", tmp_path / "few.npy", "--steps", 3, "--out", tmp_path / "r")
    assert code == 0, err
    assert "5 samples are too few to measure distances against" in out
    (tmp_path / "r" / "metrics.jsonl").unlink()
    code, out, err = run_cli("train", tmp_path / "few.npy", "--steps", 3, "--out", tmp_path / "r", "--resume", "--json")
    assert code == 0, err
    assert json.loads(out)["loss"] is None


def test_guidance_of_a_table_is_judged_in_its_columns_units(run_cli, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 2
    x = np.stack([6 * labels + rng.normal(size=300), rng.normal(size=300), 1e4 * rng.normal(size=300)], 1)
    np.savez(tmp_path / "g.npz", x=x, labels=labels)
    assert run_cli("train", tmp_path / "g.npz", "--steps", 600, "--no-report", "--out", tmp_path / "r")[0] == 0
    code, out, _ = run_cli("plot", tmp_path / "r", "guidance", "--label", 1, "--scales", "1", "-n", 200, "--json")
    assert code == 0
    assert json.loads(out)["scales"][0]["accuracy"] > 0.9
