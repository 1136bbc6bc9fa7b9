"""Pictures on the command line, from a folder to samples and plots."""

import json
import math
import re

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import fromnoise as fn
from fromnoise.cli.reading import samples_from
from fromnoise.cli.writers import write
from fromnoise.report import write_report


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A small run on digits."""
    from fromnoise.cli.main import main

    path = tmp_path_factory.mktemp("pictures") / "run"
    small = ["--set", "network.widths=[8,16]", "--steps", "6", "--batch-size", "16", "--no-report"]
    assert main(["train", "digits", "--out", str(path), *small]) == 0
    return path


def test_a_training_ends_with_a_report_and_says_what_comes_next(run_cli, tmp_path):
    code, out, _ = run_cli("train", "digits", "--out", tmp_path / "r", "--set", "network.widths=[8,16]", "--steps", "2")
    assert code == 0
    assert "held-out loss" in out
    assert f"next: fromnoise sample {tmp_path / 'r'} -n 100 --label 0 --guidance 1.5" in out
    page = (tmp_path / "r/report.html").read_text()
    assert page.count("data:image/png;base64") >= 4
    assert "Training pictures" in page


@pytest.mark.parametrize("channels", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_pictures_of_any_number_of_channels_are_drawn_channel_beside_channel(channels, run_cli, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (40, channels, 8, 8), np.uint8)
    np.save(tmp_path / "bands.npy", x)
    small = ["--set", "network.widths=[8,16]", "--steps", "2", "--out", tmp_path / "r"]
    assert run_cli("train", tmp_path / "bands.npy", *small)[0] == 0
    assert (tmp_path / "r/report.html").exists()
    assert run_cli("sample", tmp_path / "r", "-n", "3", "--steps", "2", "--out", tmp_path / "folder")[0] == 0
    assert run_cli("sample", tmp_path / "r", "-n", "3", "--steps", "2", "--out", tmp_path / "x.npy")[0] == 0
    drawn = np.asarray(Image.open(tmp_path / "folder/1.png"))
    assert np.array_equal(drawn, np.concatenate(list(np.load(tmp_path / "x.npy")[1]), axis=1))
    for kind in ("samples", "trajectory", "neighbours"):
        assert run_cli("plot", tmp_path / "r", kind, "--out", tmp_path / f"{kind}.png")[0] == 0
        assert (tmp_path / f"{kind}.png").exists()
    assert run_cli("info", tmp_path / "bands.npy", "--out", tmp_path / "sheet.png")[0] == 0
    assert (tmp_path / "sheet.png").exists()


@pytest.mark.parametrize("kind", ["samples", "trajectory", "guidance", "neighbours", "dissolve", "loss", "schedule"])
def test_every_kind_of_plot(kind, run, run_cli, tmp_path):
    out = tmp_path / f"a.{'gif' if kind == 'trajectory' else 'png'}"
    code, said, err = run_cli("plot", run, kind, "--steps", "2", "--out", out, "--json")
    assert code == 0, err
    json.loads(said)
    with Image.open(out) as image:
        assert min(image.size) > 50
        assert kind != "trajectory" or image.n_frames == 3


def test_a_trajectory_may_be_a_strip_and_a_plot_of_one_label(run, run_cli, tmp_path):
    assert run_cli("plot", run, "trajectory", "--steps", "3", "--out", tmp_path / "a.png")[0] == 0
    assert (
        run_cli("plot", run, "samples", "--label", "7", "--guidance", "2", "--steps", "2", "--out", tmp_path / "b.png")[
            0
        ]
        == 0
    )


def test_one_label_is_measured_against_pictures_of_that_label(run, run_cli):
    code, out, _ = run_cli(
        "evaluate", run, "-n", "60", "--steps", "2", "--label", "3", "--features", "pixels", "--json"
    )
    assert code == 0
    found = json.loads(out)
    threes = int((fn.data.digits().cond.values["label"] == 3).sum())
    assert 0.8 * threes < int(re.findall(r"\d+", found["against"])[0]) < threes  # a tenth of them was held out
    assert found["measures"]["kernel distance (pixel components)"]["ratio"] is None


def test_options_that_make_no_difference_to_a_plot_are_told_of(run, run_cli, tmp_path):
    code, _, err = run_cli("plot", run, "loss", "--steps", "2", "--label", "3", "--out", tmp_path / "a.png")
    assert code == 0
    assert "note: --label, --steps make no difference to loss" in err
    code, _, err = run_cli("plot", run, "samples", "--steps", "2", "--scales", "1,2", "--out", tmp_path / "b.png")
    assert "note: --scales makes no difference to samples" in err
    assert "note" not in run_cli("plot", run, "samples", "--steps", "2", "--out", tmp_path / "c.png")[2]


def test_samples_in_a_folder_of_pictures_are_measured(run, run_cli, tmp_path):
    assert run_cli("sample", run, "-n", "40", "--steps", "2", "--out", tmp_path / "made")[0] == 0
    assert run_cli("sample", run, "-n", "40", "--steps", "2", "--out", tmp_path / "made.npz")[0] == 0
    pixels = ("--features", "pixels", "--pairs", "2", "--json")
    by_folder, by_file = (
        json.loads(run_cli("evaluate", run, "--samples", tmp_path / name, *pixels)[1]) for name in ("made", "made.npz")
    )
    for name, found in by_file["measures"].items():  # of the same pictures in another order
        assert by_folder["measures"][name]["floor"] == found["floor"]
        assert by_folder["measures"][name]["value"] == pytest.approx(found["value"], rel=0.5)
    for odd, says in ((tmp_path / "made/00.png", "give a folder of pictures"), (tmp_path / "none", "No such file")):
        code, _, err = run_cli("evaluate", run, "--samples", odd, *pixels)
        assert (code, err.count("\n")) == (2, 1)
        assert says in err


def test_pictures_of_other_channels_than_1_and_3_are_read_back_as_they_were_drawn(run_cli, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (40, 4, 8, 8), np.uint8))
    small = ["--set", "network.widths=[8,16]", "--steps", "2", "--no-report", "--out", tmp_path / "r"]
    assert run_cli("train", tmp_path / "x.npy", *small)[0] == 0
    for name in ("made", "made.npz"):
        assert run_cli("sample", tmp_path / "r", "-n", "24", "--steps", "2", "--out", tmp_path / name)[0] == 0
    read = samples_from(tmp_path / "made", fn.load(tmp_path / "r").denoiser, "--samples")
    assert np.array_equal(read.numpy(), np.load(tmp_path / "made.npz")["x"])
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "one.png")
    code, _, err = run_cli("encode", tmp_path / "r", tmp_path / "one.png")
    assert (code, err.count("\n")) == (2, 1)
    assert "pictures of 4 channels are read from" in err


@pytest.mark.parametrize("option", [["--pairs", "0"], ["-n", "-5"]])
def test_numbers_below_one_are_refused(option, run, run_cli):
    code, _, err = run_cli("evaluate", run, "--steps", "1", *option)
    assert (code, err.count("\n")) == (2, 1)
    assert f"{option[0]} must be" in err


def test_a_sheet_is_not_written_among_the_pictures(run_cli, tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    for k in range(3):
        Image.fromarray(np.full((8, 8), k, np.uint8)).save(tmp_path / f"in/{k}.png")
    monkeypatch.chdir(tmp_path / "in")
    for _ in range(2):
        assert run_cli("info", ".")[0] == 0
    assert (tmp_path / "in-sheet.png").exists()


def test_what_is_decoded_is_noise(run, run_cli, tmp_path):
    np.save(tmp_path / "x.npy", fn.data.digits(3).x.numpy())
    code, _, err = run_cli("decode", run, tmp_path / "x.npy", "--out", tmp_path / "y.npz")
    assert (code, err.count("\n")) == (2, 1)
    assert "whole numbers, as samples do, and no noise" in err
    for name in ("a", "b"):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / f"{name}.png")
    code, _, err = run_cli("interpolate", run, tmp_path / "a.png", tmp_path / "b.png", "-n", "1")
    assert (code, err.count("\n")) == (2, 1)
    assert "-n must be" in err


def test_a_given_picture_that_is_changed_is_told_of(run, run_cli, tmp_path):
    Image.fromarray(np.full((16, 16, 3), (200, 10, 10), np.uint8)).save(tmp_path / "large.png")
    code, _, err = run_cli("encode", run, tmp_path / "large.png", "--tolerance", "0.1", "--out", tmp_path / "z.npz")
    assert code == 0
    assert f"note: encode {tmp_path / 'large.png'}: brought from 16 x 16 to 8 x 8 and turned to grey" in err


@pytest.mark.parametrize("command", ["evaluate", "plot"])
def test_a_label_of_pictures_without_any_is_refused(command, run_cli, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((40, 1, 8, 8), np.uint8))
    small = ["--set", "network.widths=[8,16]", "--steps", "1", "--no-report", "--out", tmp_path / "r"]
    assert run_cli("train", tmp_path / "x.npy", *small)[0] == 0
    code, _, err = run_cli(command, tmp_path / "r", "--label", "cat")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "this one has none" in err


def test_pictures_of_floats_in_a_folder_have_one_black_and_one_white(tmp_path):
    x = torch.randn(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)) + 2  # of no usual range
    write([x[:20], 0.1 * x[20:]], 40, "images", tmp_path / "all")
    drawn = np.stack([np.asarray(Image.open(path)) for path in sorted((tmp_path / "all").iterdir())]).astype(float)
    assert 100 < drawn[:20].mean() < 160
    assert drawn[20:].std() < 0.3 * drawn[:20].std()


def test_pictures_of_floats_have_the_black_and_white_of_their_data(run_cli, tmp_path):
    x = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0)).numpy() * 40 + 1000
    np.save(tmp_path / "x.npy", x)
    small = ["--set", "network.widths=[8,16]", "--steps", "4", "--out", tmp_path / "r"]
    assert run_cli("train", tmp_path / "x.npy", *small)[0] == 0
    ends = fn.load(tmp_path / "r").denoiser.codec.ends
    assert ends == pytest.approx(tuple(np.quantile(x, (0.005, 0.995))), abs=1)
    for seed in ("0", "1"):
        made = ("sample", tmp_path / "r", "-n", "3", "--steps", "3", "--seed", seed)
        for name in (f"folder{seed}", f"{seed}.npy", f"{seed}.png"):
            assert run_cli(*made, "--out", tmp_path / name)[0] == 0
        floats, drawn = np.load(tmp_path / f"{seed}.npy"), np.asarray(Image.open(tmp_path / f"folder{seed}/1.png"))
        expected = 255 * ((floats[1, 0] - ends[0]) / (ends[1] - ends[0])).clip(0, 1)
        assert np.abs(drawn - expected).max() < 1
        sheet = np.asarray(Image.open(tmp_path / f"{seed}.png"))
        assert set(np.unique(drawn)) <= set(np.unique(sheet))


def test_a_run_from_before_black_and_white_were_kept_still_loads(run_cli, tmp_path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((40, 1, 8, 8), np.float32))
    small = ["--set", "network.widths=[8,16]", "--steps", "1", "--no-report", "--out", tmp_path / "r"]
    assert run_cli("train", tmp_path / "x.npy", *small)[0] == 0
    place = tmp_path / "r/codec.safetensors"
    kept = load_file(place)
    assert kept.pop("ends").tolist() == [0, 1]
    save_file(kept, place)
    assert fn.load(tmp_path / "r").denoiser.codec.ends is None
    assert run_cli("sample", tmp_path / "r", "-n", "3", "--steps", "1", "--out", tmp_path / "x.png")[0] == 0
    for bad in (torch.zeros(3), torch.tensor([0.0, math.nan])):
        save_file({**kept, "ends": bad}, place)
        code, _, err = run_cli("sample", tmp_path / "r", "-n", "3", "--steps", "1", "--out", tmp_path / "y.png")
        assert (code, err.count("\n")) == (2, 1)


def test_a_mask_of_another_size_than_its_picture_is_refused(run, run_cli, tmp_path):
    for name, size in (("picture", (50, 30)), ("mask", (30, 50))):
        Image.new("L", size).save(tmp_path / f"{name}.png")
    given = ["--known", tmp_path / "picture.png", "--mask", tmp_path / "mask.png"]
    code, _, err = run_cli("sample", run, "-n", "1", "--steps", "1", *given, "--out", tmp_path / "x.npz")
    assert code == 2
    assert "is 30 x 50, and" in err
    assert "is 50 x 30: draw the mask on the picture" in err
    half = Image.new("L", (100, 60))  # of the same shape, and twice as large
    half.paste(255, (0, 0, 100, 30))
    half.save(tmp_path / "mask.png")
    assert run_cli("sample", run, "-n", "1", "--steps", "1", *given, "--out", tmp_path / "x.npz")[0] == 0


def test_info_takes_settings_of_the_data_and_tells_of_captions(run, run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("last.npy", np.zeros((4, 8, 8, 3), np.uint8))
    assert run_cli("info", "last.npy")[0] == 2
    code, out, _ = run_cli("info", "last.npy", "--set", "data.channels_last=true", "--json")
    assert (code, json.loads(out)["shape"]) == (0, [3, 8, 8])
    code, _, err = run_cli("info", "last.npy", "--set", "train.steps=3")
    assert (code, "settings of the data alone" in err) == (2, True)
    code, _, err = run_cli("info", run, "--set", "data.size=4")
    assert (code, f"--set is for data, and {run} is none" in err) == (2, True)
    (tmp_path / "photos").mkdir()
    for k in range(3):
        Image.new("L", (8, 8), 40 * k).save(tmp_path / "photos" / f"{k}.png")
    (tmp_path / "photos/metadata.csv").write_text("file_name,text\n0.png,dark\n9.png,gone\n")
    captions = json.loads(run_cli("info", "photos", "--json")[1])["captions"]
    assert captions.startswith("1, such as: dark; ")
    assert "but not there (first 9.png)" in captions


def test_kinds_that_are_not_for_pictures_are_refused(run, run_cli, trained):
    for path, kind in ((run, "score"), (trained, "neighbours")):
        code, _, err = run_cli("plot", path, kind)
        assert code == 2
        assert f"there is no plot '{kind}' of " in err


def test_info_describes_data_and_writes_a_sheet(run_cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for k in range(3):
            Image.fromarray(np.full((8, 8, 3), [40 * k, 9, 9], np.uint8)).save(tmp_path / "photos" / label / f"{k}.png")
    (tmp_path / "photos/cat/broken.png").write_bytes(b"")
    code, out, _ = run_cli("info", "photos", "--json")
    assert code == 0
    data = json.loads(out)
    assert data["labels"] == {"cat": 3, "dog": 3}
    assert data["shape"] == [3, 8, 8]
    assert data["skipped"] == "1 left out: 1 is empty (first cat/broken.png)"
    assert data["sizes"] == {"8 x 8": 6}
    with Image.open(tmp_path / data["sheet"]) as sheet:
        assert sheet.mode == "RGB"
    assert run_cli("info", "photos", "--size", "4", "--out", tmp_path / "x.png")[0] == 0
    assert (tmp_path / "x.png").exists()
    assert json.loads(run_cli("info", "spiral", "--json")[1])["recipe"] == "points"
    assert run_cli("info", tmp_path / "nothing")[0] == 2


def test_samples_of_pictures_go_to_files_that_can_hold_them(run, run_cli, tmp_path):
    code, out, _ = run_cli("sample", run, "-n", "12", "--steps", "2", "--label", "3", "--guidance", "1.5")
    assert code == 0
    with Image.open(out.split(": ")[0]) as sheet:
        assert sheet.mode == "L"
    for name in ("x.npz", "x.npy", "x.png", "folder"):
        assert run_cli("sample", run, "-n", "12", "--steps", "2", "--out", tmp_path / name)[0] == 0
    with np.load(tmp_path / "x.npz") as arrays:
        x = arrays["x"]
    assert x.shape == (12, 1, 8, 8)
    assert x.dtype == np.uint8
    assert np.array_equal(np.load(tmp_path / "x.npy"), x)
    pictures = sorted((tmp_path / "folder").iterdir())
    assert [p.name for p in pictures] == [f"{k:02}.png" for k in range(12)]
    assert np.array_equal(np.asarray(Image.open(pictures[5])), x[5, 0])
    for bad, says in (("x.csv", "must end in"), ("x.svg", "must end in"), ("folder", "there is something already")):
        code, _, err = run_cli("sample", run, "-n", "12", "--steps", "2", "--out", tmp_path / bad)
        assert code == 2
        assert says in err
    code, _, err = run_cli("sample", run, "-n", "3000", "--steps", "1", "--out", tmp_path / "y.png")
    assert code == 2
    assert "too many for one" in err


@pytest.mark.unchecked
def test_bits_per_dimension_of_held_out_and_of_training_pictures(run, run_cli, tmp_path, monkeypatch):
    monkeypatch.setattr("fromnoise.report.density.CHAIN", 12)
    code, out, err = run_cli("evaluate", run, "-n", "20", "--steps", "2", "--features", "pixels", "--elbo", "--json")
    assert code == 0, err
    found = json.loads(out)["likelihood"]
    assert found["of_held_out"]
    assert found["bits_per_dim"] > 1
    assert found["bits_per_dim"] == pytest.approx(found["bits_per_dim_trained_on"], rel=0.2)
    assert run_cli("plot", run, "elbo", "--out", tmp_path / "e.png")[0] == 0


@pytest.fixture(scope="module")
def enlarging(tmp_path_factory):
    """A small run that enlarges digits of 4 x 4."""
    from fromnoise.cli.main import main

    path = tmp_path_factory.mktemp("pictures") / "enlarging"
    assert main([*ENLARGING, "--out", str(path)]) == 0
    return path


ENLARGING = ["train", "digits", "--from-size", "4", "--set", "network.widths=[8,16]", "--steps", "6"]
ENLARGING += ["--batch-size", "16", "--no-report"]


def test_what_to_do_next_names_the_pictures_that_a_run_needs(enlarging, run_cli):
    out = run_cli(*ENLARGING, "--out", enlarging, "--resume")[1]
    assert out.splitlines()[-1] == f"next: fromnoise sample {enlarging} --image FILE"


def test_pictures_that_are_conditions_come_from_files(enlarging, run, run_cli, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (6, 1, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "small.npz", x=x)
    assert (
        run_cli("sample", enlarging, "--image", tmp_path / "small.npz", "--steps", "2", "--out", tmp_path / "a.npz")[0]
        == 0
    )
    with np.load(tmp_path / "a.npz") as arrays:
        assert arrays["x"].shape == (6, 1, 8, 8)
    Image.fromarray(np.repeat(np.repeat(x[0, 0], 9, 0), 9, 1)).save(tmp_path / "large.png")  # scaled to 4 x 4 again
    code, out, _ = run_cli(
        "sample",
        enlarging,
        "--image",
        tmp_path / "large.png",
        "--label",
        "3",
        "--guidance",
        "2",
        "-n",
        "5",
        "--steps",
        "2",
    )
    assert code == 0
    assert "from-large" in out
    assert "What they were enlarged from" in write_report(fn.load(enlarging), []).read_text()
    for arguments, says in (
        ((enlarging,), "never without a condition 'image'"),
        ((enlarging, "--image", tmp_path / "none.png"), "No such file"),
        ((enlarging, "--image", tmp_path / "a.npz"), "are wanted"),
        ((enlarging, "--image", tmp_path / "small.npz", "-n", "7"), "6 conditions were given for 7 samples"),
        ((run, "--image", tmp_path / "large.png"), "for runs that enlarge"),
    ):
        code, _, err = run_cli("sample", *arguments, "--steps", "2")
        assert (code, err.count("\n")) == (2, 1)
        assert says in err


def test_a_run_that_enlarges_is_evaluated_and_drawn_with_small_pictures_of_its_data(enlarging, run_cli, tmp_path):
    assert run_cli("evaluate", enlarging, "-n", "24", "--steps", "2", "--features", "pixels")[0] == 0
    for kind in ("samples", "trajectory", "guidance", "neighbours"):
        out = tmp_path / f"{kind}.png"
        assert run_cli("plot", enlarging, kind, "--steps", "2", "--out", out)[0] == 0
    for data, says in (("spiral", "for pictures"), ("digits", "smaller than the pictures")):
        code, _, err = run_cli("train", data, "--from-size", "8", "--out", tmp_path / "x")
        assert code == 2
        assert says in err
    code, _, err = run_cli("train", "digits", "--from-size", "4", "--net", "unet-ddpm", "--out", tmp_path / "x")
    assert code == 2
    assert "takes no image as condition" in err


def test_a_picture_is_completed_where_a_mask_is_white(run, run_cli, tmp_path):
    known = np.random.default_rng(1).integers(0, 256, (8, 8), dtype=np.uint8)
    mask = np.zeros((8, 8), np.uint8)
    mask[4:] = 255
    Image.fromarray(known).save(tmp_path / "known.png")
    Image.fromarray(mask).save(tmp_path / "mask.png")
    files = ("--known", tmp_path / "known.png", "--mask", tmp_path / "mask.png")
    for sampler in ("multistep", "repaint"):
        out = tmp_path / f"{sampler}.npz"
        assert run_cli("sample", run, *files, "-n", "5", "--sampler", sampler, "--steps", "3", "--out", out)[0] == 0
        with np.load(out) as arrays:
            x = arrays["x"]
        assert (x[:, 0, :4] == known[:4]).all()
        assert (x[:, 0, 4:] != known[4:]).any()
    assert run_cli("sample", run, *files[:2])[0] == 2
    Image.fromarray(mask[:, :4]).save(tmp_path / "narrow.png")
    (tmp_path / "text.png").write_text("no picture")
    for bad in (("--known", tmp_path / "text.png", *files[2:]), (*files[:2], "--mask", tmp_path / "nothing.png")):
        code, _, err = run_cli("sample", run, *bad)
        assert (code, err.count("\n")) == (2, 1)


def test_pictures_to_noise_and_back_and_what_lies_between_two(run, run_cli, tmp_path):
    x = np.stack([np.eye(8) * 255, np.ones((8, 8)) * 60])[:, None]
    np.savez(tmp_path / "x.npz", x=x.astype(np.uint8))
    for k in range(2):
        Image.fromarray(x[k, 0].astype(np.uint8)).save(tmp_path / f"{k}.png")
    code, out, err = run_cli("encode", run, tmp_path / "x.npz", "--label", "3", "--out", tmp_path / "z.npz", "--json")
    assert code == 0, err
    assert 0.3 < json.loads(out)["rms"] < 3
    assert run_cli("decode", run, tmp_path / "z.npz", "--label", "3", "--out", tmp_path / "y.npz")[0] == 0
    with np.load(tmp_path / "y.npz") as arrays:
        assert np.abs(arrays["x"].astype(int) - x).max() <= 2
    ends = (tmp_path / "0.png", tmp_path / "1.png")
    assert run_cli("interpolate", run, *ends, "-n", "5", "--out", tmp_path / "b.npz")[0] == 0
    with np.load(tmp_path / "b.npz") as arrays:
        between = arrays["x"].astype(int)
    assert between.shape == (5, 1, 8, 8)
    assert np.abs(between[[0, 4]] - x).max() <= 2
    assert run_cli("interpolate", run, *ends)[0] == 0
    for arguments, says in (
        (("encode", run, tmp_path / "none.npz"), "no such file"),
        (("encode", run, tmp_path / "x.npz", "--out", tmp_path / "z.png"), "ends in .npy or .npz"),
        (("decode", run, tmp_path / "0.png"), "files of numbers end in"),
        (("interpolate", run, *ends, "-n", "1"), "at least 2"),
        (("interpolate", run, *ends, "--tolerance", "0"), "--tolerance must lie"),
        (("interpolate", run, *ends, "--label", "x"), "'x'"),
    ):
        code, _, err = run_cli(*arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert says in err


def test_the_flow_of_a_run_that_enlarges_is_given_the_small_pictures(enlarging, run_cli, tmp_path):
    rng = np.random.default_rng(3)
    np.savez(tmp_path / "x.npz", x=rng.integers(0, 256, (66, 1, 8, 8), dtype=np.uint8))
    np.savez(tmp_path / "small.npz", x=rng.integers(0, 256, (66, 1, 4, 4), dtype=np.uint8))
    Image.fromarray(np.full((4, 4), 90, np.uint8)).save(tmp_path / "small.png")
    loose = ("--tolerance", "1e-2")
    noises = {}
    for small in ("small.npz", "small.png"):
        files = ("--image", tmp_path / small, *loose)
        assert run_cli("encode", enlarging, tmp_path / "x.npz", *files, "--out", tmp_path / "z.npz")[0] == 0
        with np.load(tmp_path / "z.npz") as arrays:
            noises[small] = arrays["x"]
        assert noises[small].shape == (66, 1, 8, 8)
    assert np.abs(noises["small.npz"] - noises["small.png"]).max() > 1e-3  # each is told its own
    assert run_cli("decode", enlarging, tmp_path / "z.npz", *files, "--out", tmp_path / "y.npz")[0] == 0
    with np.load(tmp_path / "x.npz") as first, np.load(tmp_path / "y.npz") as second:
        assert np.abs(first["x"].astype(int) - second["x"]).mean() < 8
    ends = (tmp_path / "x.npz", tmp_path / "y.npz")
    assert run_cli("interpolate", enlarging, *ends, *files, "-n", "3")[0] == 0
    for arguments, says in (
        (("encode", enlarging, tmp_path / "x.npz"), "never without a condition 'image'"),
        (("interpolate", enlarging, *ends, "--image", tmp_path / "small.npz"), "66 conditions were given for 1"),
    ):
        code, _, err = run_cli(*arguments)
        assert (code, err.count("\n")) == (2, 1)
        assert says in err


def test_small_pictures_are_computed_in_one_thread_unless_the_user_chose(monkeypatch):
    import torch

    from fromnoise.cli.common import settle_threads

    set_to = []
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for threads, shape, expected in (
        (8, (1, 8, 8), [1]), (8, (1, 28, 28), []), (2, (1, 28, 28), [1]), (2, (3, 64, 64), []), (8, (2,), []),
    ):  # fmt: skip
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        set_to.clear()
        settle_threads(shape)
        assert set_to == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    settle_threads((1, 8, 8))
    assert set_to == []
