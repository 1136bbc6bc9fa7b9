"""A run as one HTML file: what the payload holds, and what the command line says."""

import base64
import io
import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

import fromnoise as fn
from fromnoise.export import page, payload, run_payload, to_html
from fromnoise.export.payload import LARGEST, code_shown


def floats(packed):
    return torch.from_numpy(np.frombuffer(base64.b64decode(packed["data"]), "<f4").copy()).reshape(packed["shape"])


def test_the_payload_holds_the_network_to_the_bit(trained):
    run = fn.load(trained)
    tensors = run_payload("spiral", run)["network"]["tensors"]
    state = run.denoiser.network.state_dict()
    assert tensors.keys() == state.keys()
    assert all(torch.equal(floats(tensors[name]), state[name]) for name in state)


def test_the_payload_holds_data_law_and_floor(trained_shapes):
    run = fn.load(trained_shapes)
    data = run_payload("shapes", run)
    assert data["labels"] == ["spiral", "circles", "moons"]
    assert data["truth"].keys() == {"", "spiral", "circles", "moons"}
    shown = floats(data["points"]["x"])
    rows = {tuple(row) for row in run.source.x.tolist()}
    assert len(shown) == 2000
    assert all(tuple(row) in rows for row in shown.tolist())
    labels = torch.tensor(data["points"]["labels"]).bincount(minlength=3)
    assert (labels.float() / 2000 - 1 / 3).abs().max() < 0.01  # evenly over the set
    for label, truth in data["truth"].items():
        drawn = floats(truth["draws"])
        assert drawn.shape == (3, 300, 2)
        assert 0.05 < truth["floor"] < 0.6, label
    assert data["training"]["floor"]["value"] < data["training"]["loss"] < data["training"]["floor"]["zero_output_loss"]


def test_the_floor_is_the_distance_of_fresh_draws(trained):
    from fromnoise.metrics import wasserstein2

    run = fn.load(trained)
    truth = run_payload("spiral", run)["truth"][""]
    fresh = [wasserstein2(run.source.draw(300, 100 + k).x, floats(truth["draws"])[k]) for k in range(3)]
    assert truth["floor"] == pytest.approx(sum(fresh) / 3, rel=0.35)


def test_code_shown_is_what_stands_there():
    from pathlib import Path

    root = Path(fn.__file__).parents[2]
    for name, code in code_shown().items():
        lines = (root / code["file"]).read_text().splitlines()
        first = code["text"].splitlines()[0].strip()
        assert lines[code["line"] - 1].strip() == first, name
        assert len(code["text"].splitlines()) > 2, name


def test_a_page_is_one_file_that_may_ask_nobody(trained):
    text = to_html(fn.load(trained))
    assert 300_000 < len(text) < 800_000
    assert "default-src &#x27;none&#x27;" in text
    assert not re.search(r'(?:src|href)="(?!data:|#)', text)
    held = json.loads(re.search(r'id="payload">(.*?)</script>', text, re.S)[1])
    assert [run["name"] for run in held["runs"]] == ["spiral"]


def test_a_nonce_is_on_every_script_and_style(trained):
    text = page(payload([("spiral", fn.load(trained))]), nonce="abc")
    assert re.findall(r"<(script|style)(?![^>]*(?:nonce=\"abc\"|application/json))[^>]*>", text) == []
    assert "http-equiv" not in text


def test_several_runs_on_one_page(trained, trained_shapes):
    runs = [fn.load(trained), fn.load(trained_shapes)]
    held = json.loads(re.search(r'id="payload">(.*?)</script>', to_html(runs), re.S)[1])
    assert [run["name"] for run in held["runs"]] == ["spiral", "shapes"]


def test_what_a_page_cannot_run_is_said(tmp_path):
    points = fn.data.moons(100)
    large = fn.train(points, network=fn.nn.MLP(2, hidden=1500, depth=2), steps=1)
    found = run_payload("large", large)
    assert found["network"] is None
    assert f"{LARGEST:,}" in found["why_not"]
    vectors = fn.train(points.x, cond=torch.randn(100, 3), steps=1)
    assert "takes other conditions" in run_payload("vectors", vectors)["why_not"]


def test_small_data_and_data_of_unknown_law(tmp_path):
    run = fn.train(torch.randn(30, 2, generator=torch.Generator().manual_seed(0)), steps=1)
    assert run_payload("few", run)["truth"] == {}  # halves of 15 are too few to measure with
    run = fn.train(torch.randn(200, 2, generator=torch.Generator().manual_seed(0)), steps=1)
    assert floats(run_payload("some", run)["truth"][""]["draws"]).shape == (3, 100, 2)


# -- the command line ---------------------------------------------------------------------------------------------


def test_export_writes_a_page(run_cli, trained, tmp_path):
    out = tmp_path / "pages" / "out.html"
    code, text, _ = run_cli("export", trained, "--to", "html", out)
    assert code == 0
    assert "needs no network" in text
    assert out.stat().st_size > 300_000
    code, text, _ = run_cli("export", trained, out, "--json")  # a page is made anew in the old one's place
    assert code == 0
    assert json.loads(text)["bytes"] == out.stat().st_size


def test_export_puts_runs_beside_one_another(run_cli, trained, trained_shapes, tmp_path):
    code, text, _ = run_cli("export", trained, tmp_path / "out.html", "--beside", trained_shapes, "--json")
    assert code == 0
    assert json.loads(text)["runs"] == ["spiral", "shapes"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--to", "pdf"], "unknown kind of export 'pdf'"),
        (["out.txt"], "must end in .html"),
        (["folder.html"], "is a folder"),
    ],
)
def test_export_refuses_in_one_line(run_cli, trained, tmp_path, monkeypatch, arguments, why):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.html").mkdir()
    before = sorted(tmp_path.iterdir())
    code, out, err = run_cli("export", trained, *arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert why in err
    assert sorted(tmp_path.iterdir()) == before


def test_export_of_no_run(run_cli, tmp_path):
    code, _, err = run_cli("export", tmp_path / "nothing", tmp_path / "out.html")
    assert code == 2
    assert "no run at" in err
    assert list(tmp_path.iterdir()) == []


def test_a_tables_distances_are_in_the_units_of_evaluate():
    units = torch.tensor([1.0, 10.0])
    run = fn.train(torch.randn(400, 2) * units, steps=2)
    truth = run_payload("table", run)["truth"][""]
    assert truth["unit"] == pytest.approx(run.source.x.std(0, correction=0).tolist(), rel=1e-5)
    assert floats(truth["draws"]).std(1) == pytest.approx(torch.ones(3, 2), abs=0.2)
    assert truth["floor"] == pytest.approx(fn.metrics.wasserstein_floor(run.source, 200), rel=0.3)
    assert run_payload("points", fn.train(fn.data.moons(100), steps=2))["truth"][""]["unit"] == [1.0, 1.0]


def test_a_run_of_pictures_is_shown_by_sheets_that_are_drawn_here(run_cli, tmp_path):
    small = ("--steps", "2", "--batch-size", "8", "--set", "network.widths=[8,16]", "--no-report")
    assert run_cli("train", "digits", *small, "--out", tmp_path / "r")[0] == 0
    part = payload([("r", fn.load(tmp_path / "r"))])["runs"][0]
    for name in ("sheet", "strip"):
        kind, content = part["pictures"][name].split(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(content))) as image:
            assert min(image.size) > 100
    assert part["samples_held"] == 0
    code, out, err = run_cli("export", tmp_path / "r", "--to", "html", tmp_path / "a.html")
    assert code == 0, err
    assert "shows samples of r, drawn now" in out
