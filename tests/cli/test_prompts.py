"""Captions from the command line: a folder with captions, prompts, and what does not go together."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

import fromnoise as fn
from encoders import clip, forget

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root = tmp_path_factory.mktemp("captioned")
    digits, photos = fn.data.digits(200), root / "photos"
    photos.mkdir()
    for k in range(200):
        Image.fromarray(digits.x[k, 0].numpy()).save(photos / f"{k:03}.png")
        (photos / f"{k:03}.txt").write_text(f"the digit {NAMES[digits.labels[k]]}")
    small = {"name": "unet", "widths": [16, 32], "text_width": 32}
    fn.train(fn.data.open(photos), network=small, steps=5, held_out=0.3, out=root / "run")
    fn.train(fn.data.digits(50), network={"name": "unet", "widths": [16, 32]}, steps=1, out=root / "labels")
    return root


@pytest.mark.slow
def test_a_folder_with_captions_is_trained_on(runs, run_cli, tmp_path):
    code, said, err = run_cli("train", runs / "photos", "--steps", "5", "--out", tmp_path / "r")
    assert code == 0, err
    assert "200 of the pictures have captions" in err
    assert "--prompt" in said
    assert "<h2>Samples</h2>" in (tmp_path / "r" / "report.html").read_text()


def test_prompts_are_under_the_pictures_and_in_their_files(runs, run_cli, tmp_path):
    out = tmp_path / "sheet.png"
    code, _, err = run_cli(
        "sample", runs / "run", "--prompt", "the digit one", "--negative", "the digit two", "--guidance", "2",
        "-n", "3", "--steps", "3", "--out", out,
    )  # fmt: skip
    assert code == 0, err
    with Image.open(out) as sheet:
        assert sheet.text["prompt"] == "the digit one"
    file = tmp_path / "prompts.txt"
    file.write_text("the digit one\n\nthe digit seven\n")
    code, said, err = run_cli(
        "sample", runs / "run", "--prompts", file, "--steps", "3", "--out", tmp_path / "s", "--json"
    )
    assert code == 0, err
    assert json.loads(said)["n"] == 2
    for name, prompt in (("0.png", "the digit one"), ("1.png", "the digit seven")):
        with Image.open(tmp_path / "s" / name) as picture:
            assert picture.text["prompt"] == prompt
    code, _, err = run_cli(
        "sample", runs / "run", "--prompts", file, "-n", "5", "--steps", "2", "--out", tmp_path / "x.npz"
    )
    assert code == 0, err
    assert np.load(tmp_path / "x.npz")["x"].shape == (5, 1, 8, 8)


def test_pictures_of_a_run_on_captions_can_be_seen(runs, run_cli, tmp_path):
    for kind in ("samples", "trajectory"):
        out = tmp_path / f"{kind}.png"
        code, _, err = run_cli("plot", runs / "run", kind, "--steps", "2", "--out", out)
        assert code == 0, err
    for more in ((), ("--guidance", "2")):
        code, _, err = run_cli("evaluate", runs / "run", "-n", "60", "--steps", "2", *more)
        assert code == 0, err
        code, _, err = run_cli("plot", runs / "run", "--steps", "2", "--out", tmp_path / "guided.png", *more)
        assert code == 0, err


REFUSED = {
    "a prompt without captions": (("labels", "--prompt", "x"), "it knows labels"),
    "a label without labels": (("run", "--label", "3"), "say it by --prompt"),
    "two kinds of prompts": (("run", "--prompt", "x", "--prompts", "p.txt"), "give one of the two"),
    "an empty prompt": (("run", "--prompt", ""), "a caption is empty"),
    "a file that is not there": (("run", "--prompts", "none.txt"), "none.txt"),
    "a negative prompt without guidance": (("run", "--prompt", "x", "--negative", "y"), "give --guidance too"),
    "a negative prompt without captions": (
        ("labels", "--label", "3", "--guidance", "2", "--negative", "y"),
        "no captions",
    ),
    "guidance towards nothing": (("run", "--guidance", "2"), "needs a --prompt"),
    "an empty negative prompt": (("run", "--prompt", "x", "--guidance", "2", "--negative", " "), "a caption is empty"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_does_not_go_together_is_refused_in_one_line(kind, runs, run_cli, tmp_path):
    (run, *options), says = REFUSED[kind]
    code, _, err = run_cli("sample", runs / run, *options, "--out", tmp_path / "x.png")
    assert (code, len(err.splitlines())) == (2, 1), err
    assert says in err
    assert not (tmp_path / "x.png").exists()


@pytest.mark.slow
def test_a_frozen_encoder_from_the_command_line(runs, run_cli, tmp_path, monkeypatch):
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "cache"))
    encoder, out = clip(tmp_path / "clip"), tmp_path / "r"
    photos, small = shutil.copytree(runs / "photos", tmp_path / "photos"), ("--set", "network.widths=[16,32]")
    code, said, err = run_cli("train", photos, "--text-encoder", encoder, "--steps", "6", "--out", out, *small)
    assert code == 0, err
    assert "--prompt" in said
    code, _, err = run_cli(
        "sample", out, "--prompt", "the digit one", "--guidance", "2", "--negative", "two", "-n", "2", "--steps", "2",
        "--out", tmp_path / "sheet.png",
    )  # fmt: skip
    assert code == 0, err
    commands = (("evaluate", out, "-n", "60", "--steps", "2"), ("plot", out, "samples", "--steps", "2"))
    for command in commands:
        code, _, err = run_cli(*command)
        assert code == 0, err
    moved, there = encoder.rename(tmp_path / "moved"), photos.rename(tmp_path / "there")
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "another cache"))
    forget()
    for command in commands:
        code, _, err = run_cli(*command, "--text-encoder", moved, "--data", there)
        assert code == 0, err
    code, _, err = run_cli("train", runs / "photos", "--text-encoder", "nobody/nothing", "--out", tmp_path / "x")
    assert (code, len(err.splitlines())) == (2, 1), err
    assert "hf download nobody/nothing" in err
    assert not (tmp_path / "x").exists()


def test_a_file_of_captions_from_the_command_line(run_cli, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((20, 1, 8, 8), np.uint8))
    (tmp_path / "c.csv").write_text("a,title\n" + "".join(f"{k},the digit {NAMES[k % 10]}\n" for k in range(20)))
    options = ("--set", "data.caption_column=title", "--captions", tmp_path / "c.csv", "--steps", "2", "--no-report")
    code, said, err = run_cli("train", tmp_path / "x.npy", "--out", tmp_path / "r", *options)
    assert code == 0, err
    assert "--prompt" in said
    code, _, err = run_cli("sample", tmp_path / "r", "--prompt", "the digit one", "-n", "2", "--steps", "2")
    assert code == 0, err
