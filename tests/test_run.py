import json
import os
import shutil

import pytest
import torch

import fromnoise as fn
from fromnoise.errors import CheckpointDamaged, FormatTooNew, InputError, NoRun, RunError
from fromnoise.run import RunFolder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of a run with two checkpoints that may be damaged."""
    path = tmp_path / "run"
    shutil.copytree(trained, path)
    return path


def newest(path):
    return RunFolder(path).place(RunFolder(path).steps()[0])


def test_a_loaded_run_samples_like_the_one_in_memory(tmp_path):
    data = fn.data.shapes(300)
    run = fn.train(data, steps=20, out=tmp_path / "r")
    again = fn.load(tmp_path / "r")
    assert torch.equal(fn.sample(run.denoiser, 50, cond="moons"), fn.sample(again.denoiser, 50, cond="moons"))
    assert again.config == run.config
    assert torch.equal(again.source.x, data.x)
    assert again.denoiser.label_names == ("spiral", "circles", "moons")
    assert again.step == 20


def test_data_without_a_name_are_stored(tmp_path):
    x = torch.randn(100, 3)
    fn.train(x, steps=3, out=tmp_path / "r")
    again = fn.load(tmp_path / "r")
    assert torch.equal(again.source.x, x)


def test_last_and_averaged_weights_can_be_loaded(trained):
    ema, model = (fn.load(trained, weights=w).denoiser.network.state_dict() for w in ("ema", "model"))
    assert any(not torch.equal(ema[k], model[k]) for k in ema)
    with pytest.raises(InputError, match="weights must be"):
        fn.load(trained, weights="best")


def test_the_layout_is_the_documented_one(trained):
    assert {"config.toml", "environment.json", "metrics.jsonl", "checkpoints"} <= {p.name for p in trained.iterdir()}
    files = {p.name for p in newest(trained).iterdir()}
    assert files == {"model.safetensors", "ema.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}
    manifest = json.loads((newest(trained) / "manifest.json").read_text())
    assert manifest["format_version"] == 2
    assert set(manifest["files"]) == files - {"manifest.json"}


@pytest.mark.parametrize("name", ["model.safetensors", "ema.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["truncated", "edited", "gone", "empty"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(run, name, damage):
    first, second = RunFolder(run).steps()
    file = newest(run) / name
    content = file.read_bytes()
    if damage == "gone":
        file.unlink()
    elif damage == "edited" and name != "manifest.json":
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        file.write_bytes(b"" if damage == "empty" else content[: len(content) // 2])
    with pytest.warns(UserWarning, match=f"fell back to the checkpoint at step {second}"):
        assert fn.load(run).step == second
    assert first > second


def test_no_sound_checkpoint_is_an_error_that_says_so(run):
    for step in RunFolder(run).steps():
        (RunFolder(run).place(step) / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointDamaged, match="no sound checkpoint is left"):
        fn.load(run)


def rewrite(run, name, content):
    """Replace a file of every checkpoint and mend the manifest, so that only the content is wrong."""
    from fromnoise.run.files import file_sum

    for step in RunFolder(run).steps():
        place = RunFolder(run).place(step)
        (place / name).write_bytes(content)
        manifest = json.loads((place / "manifest.json").read_text())
        manifest["files"][name]["sha256"] = file_sum(place / name)
        (place / "manifest.json").write_text(json.dumps(manifest))


def tensors_of(run):
    from safetensors.torch import load_file

    return load_file(newest(run) / "ema.safetensors")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: {**t, "out.bias": t["out.bias"].double()}, "out.bias is F64"),
        (lambda t: {**t, "out.bias": torch.zeros(3)}, r"out.bias is F32\[3\]"),
        (lambda t: {k: v for k, v in t.items() if k != "out.bias"}, "out.bias is missing or not wanted"),
        (lambda t: {**t, "../evil": torch.zeros(1)}, "evil is missing or not wanted"),
        (lambda t: {**t, "out.bias": torch.full((2,), torch.nan)}, "NaN"),
    ],
)
def test_tensors_must_be_those_of_the_configuration(run, tmp_path, change, words):
    from safetensors.torch import save

    rewrite(run, "ema.safetensors", save(change(tensors_of(run))))
    with pytest.raises(CheckpointDamaged, match=words):
        fn.load(run)


def test_a_name_that_occurs_twice_is_refused(run):
    raw = (newest(run) / "ema.safetensors").read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = raw[8 : 8 + length].decode().rstrip()
    entry = header[header.index('"out.bias"') :]
    entry = entry[: entry.index("}") + 1]
    doubled = (header[:-1] + "," + entry + "}").encode()
    rewrite(run, "ema.safetensors", len(doubled).to_bytes(8, "little") + doubled + raw[8 + length :])
    with pytest.raises(CheckpointDamaged, match=r"occurs twice|cannot be read"):
        fn.load(run)


def test_a_newer_format_is_refused(run):
    config = run / "config.toml"
    config.write_text(config.read_text().replace("format_version = 2", "format_version = 3"))
    with pytest.raises(FormatTooNew, match="install a newer fromnoise"):
        fn.load(run)


def test_a_newer_checkpoint_is_refused(run):
    manifest = newest(run) / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 2', '"format_version": 9'))
    with pytest.raises(FormatTooNew, match="format 9"):
        fn.load(run)


def test_no_run_and_broken_configuration(tmp_path):
    with pytest.raises(NoRun, match="no run at"):
        fn.load(tmp_path / "nothing")
    (tmp_path / "config.toml").write_text("not toml [")
    with pytest.raises(RunError, match="cannot be read"):
        fn.load(tmp_path)
    (tmp_path / "config.toml").write_text('format_version = 1\npredict = "eps"\nsurprise = 3\n')
    with pytest.raises(InputError, match="surprise is not a setting"):
        fn.load(tmp_path)


def test_old_checkpoints_go_and_never_all_of_them(tmp_path):
    config = fn.TrainConfig(steps=50, save_every=10, keep=1, batch_size=8)
    denoiser = fn.Denoiser(fn.nn.MLP(2, 8), fn.EDM(), "edm")
    for event in fn.fit(denoiser, fn.data.spiral(50), config, out=tmp_path / "r"):
        assert event.step
    assert RunFolder(tmp_path / "r").steps() == [50]
    assert not list((tmp_path / "r" / "checkpoints").glob(".*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="cannot be written"):
        fn.train(fn.data.spiral(50), steps=2, out=tmp_path / "r")


def test_a_full_disk_leaves_what_stood_before(tmp_path, monkeypatch):
    import errno

    from fromnoise.run import folder

    path = tmp_path / "r"
    fn.train(fn.data.spiral(50), steps=5, out=path)

    def full(*args, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(folder, "write_json", full)
    place = RunFolder(path)
    checkpoint = place.load(fn.load(path).denoiser)
    from dataclasses import replace

    with pytest.raises(RunError, match="No space left on device; free some space"):
        place.save(replace(checkpoint, step=6), keep=1)
    assert place.steps() == [5, 0]
    assert not list((path / "checkpoints").glob(".*"))
    assert fn.load(path).step == 5
