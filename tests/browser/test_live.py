"""The page served by the studio: runs to choose, trainings to start and watch, samples streamed from Python."""

import json
import shutil

import pytest
import torch
from live_studio import Studio

import fromnoise as fn

pytestmark = pytest.mark.slow


@pytest.fixture
def served(tmp_path, open_page, spiral_run, shapes_run):
    """A studio with two runs, and a page of it."""
    for run in (spiral_run, shapes_run):
        shutil.copytree(run.folder.path, tmp_path / "mine" / run.folder.path.name)
    studio = Studio(tmp_path, "mine/spiral", "mine/shapes")
    try:
        opened = open_page(studio.link)
        yield studio, opened
        opened.assert_clean(studio.origin)
    finally:
        studio.stop()


def choose(page, name):
    """Show a run by its name in the list."""
    page.locator(".runs option", has_text=name).first.wait_for(state="attached")
    value = page.locator(".runs option", has_text=name).first.get_attribute("value")
    page.select_option(".runs", value)
    page.locator("h1", has_text=name).wait_for()


def test_the_link_opens_the_page_and_runs_are_chosen(served):
    studio, opened = served
    page = opened.page
    assert page.url == f"{studio.origin}/"  # the token is gone from the address
    assert page.inner_text("h1") == "spiral"
    choose(page, "shapes")
    assert page.get_by_label("Guidance").count() == 1
    page.click("#reverse button.primary")
    page.locator("#reverse button.primary:enabled").wait_for()
    assert "in this page" in page.inner_text("#reverse .status")


def test_a_training_is_started_watched_and_shown(served, tmp_path):
    _, opened = served
    page = opened.page
    page.get_by_text("Train a new run").click()
    page.get_by_label("Data", exact=True).select_option("moons")
    page.get_by_label("steps", exact=True).fill("900")
    page.get_by_text("All settings").click()
    page.get_by_label("n", exact=True).fill("5000")
    page.get_by_label("hidden", exact=True).fill("64")
    page.get_by_role("button", name="Start training").click()
    watch = page.locator(".watch")
    watch.locator(".readout dt", has_text="floor").wait_for(timeout=60_000)
    watch.locator("canvas").wait_for(timeout=60_000)  # samples of a checkpoint, while it trains or just after
    watch.locator(".status", has_text="done after 900 steps").wait_for(timeout=120_000)
    config = fn.load(tmp_path / "runs" / "moons").config
    assert config.train["steps"] == 900
    assert config.network["hidden"] == 64
    assert config.data["n"] == 5000
    watch.get_by_role("button", name="Show this run").click()
    page.locator("h1", has_text="moons").wait_for()
    x = torch.tensor(opened.sample(steps=10, seed=2)["x"]).reshape(-1, 2)
    ours = fn.sample(fn.load(tmp_path / "runs" / "moons").denoiser, 300, steps=10, seed=2)
    assert float((x - ours).abs().max()) < 1e-4


def test_a_training_is_stopped_and_saved(served, tmp_path):
    _, opened = served
    page = opened.page
    page.get_by_text("Train a new run").click()
    page.get_by_label("steps", exact=True).fill("200000")
    page.get_by_role("button", name="Start training").click()
    page.locator(".watch .readout dt", has_text="loss").wait_for(timeout=60_000)
    page.get_by_role("button", name="Stop and save").click()
    page.locator(".watch .status", has_text="its state is saved").wait_for(timeout=60_000)
    assert fn.load(tmp_path / "runs" / "spiral").step > 0


def test_what_was_drawn_trains_on_the_server(served, tmp_path):
    _, opened = served
    page = opened.page
    page.get_by_label("Word").fill("oo")
    page.get_by_role("button", name="Stamp").click()
    page.get_by_role("button", name="Train on the server").click()
    page.locator(".watch .readout dt", has_text="loss").wait_for(timeout=60_000)
    page.get_by_role("button", name="Stop and save").click()
    page.locator(".watch .status", has_text="saved").wait_for(timeout=60_000)
    run = fn.load(tmp_path / "runs" / "drawing")
    assert run.source.x.shape == (1500, 2)


def test_wrong_settings_are_answered_in_one_line(served):
    _, opened = served
    page = opened.page
    page.get_by_text("Train a new run").click()
    page.get_by_label("predict", exact=True).select_option("eps")
    page.get_by_label("schedule", exact=True).select_option("flow")
    page.get_by_role("button", name="Start training").click()
    page.locator(".live > .status", has_text="cannot be predicted").wait_for()
    assert page.locator(".watch").count() == 0
    opened.complaints.clear()  # the browser notes every answer that is an error


def test_a_run_that_vanishes_while_it_is_shown_says_so(served, tmp_path):
    _, opened = served
    page = opened.page
    shutil.rmtree(tmp_path / "mine" / "spiral")
    page.locator(".live > .status", has_text="gone from the disk").wait_for(timeout=15_000)
    page.click("#reverse button.primary")  # what was loaded still works
    page.locator("#reverse button.primary:enabled").wait_for()
    assert "300 points in" in page.inner_text("#reverse .status")
    opened.complaints.clear()


def test_a_network_too_large_for_the_page_is_streamed_step_by_step(tmp_path, open_page):
    run = fn.train(fn.data.moons(300), network=fn.nn.MLP(2, hidden=1500, depth=2), steps=3, out=tmp_path / "large")
    studio = Studio(tmp_path, "large")
    try:
        opened = open_page(studio.link)
        page = opened.page
        page.get_by_label("Steps", exact=True).fill("6")
        page.keyboard.press("Tab")
        page.click("#reverse button.primary")
        page.locator("#reverse .status", has_text="on the server").wait_for()
        page.locator("#reverse button.primary:enabled").wait_for(timeout=60_000)
        assert page.inner_text("#reverse .status").startswith("300 points in")
        lines = page.evaluate(
            "async run => (await (await fetch(`/api/runs/${run}/walk?steps=6`)).text()).trim().split('\\n')",
            page.evaluate("() => JSON.parse(document.getElementById('payload').textContent).runs[0].id"),
        )
        assert len(lines) == 7
        import base64

        import numpy as np

        x = np.frombuffer(base64.b64decode(json.loads(lines[-1])["x"]), "<f4").reshape(300, 2)
        ours = fn.sample(run.denoiser, 300, steps=6, seed=0).numpy()
        assert np.abs(x - ours).max() < 1e-4
        opened.assert_clean(studio.origin)
    finally:
        studio.stop()


def test_the_studio_gone_is_said(served):
    studio, opened = served
    studio.stop()
    opened.page.locator(".live > .status", has_text="does not answer").wait_for(timeout=15_000)
    opened.complaints.clear()


def test_the_served_page_is_accessible(served):
    from axe_playwright_python.sync_playwright import Axe

    _, opened = served
    opened.page.get_by_text("Train a new run").click()
    opened.page.locator("form.training-form").wait_for()
    opened.page.get_by_text("All settings").click()
    found = Axe().run(opened.page).response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    assert serious == [], json.dumps([(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in serious], indent=1)


def test_a_run_of_pictures_is_shown_by_its_sheets(tmp_path, open_page, spiral_run):
    shutil.copytree(spiral_run.folder.path, tmp_path / "mine/spiral")
    small = {"name": "unet", "widths": (8, 16)}
    fn.train("digits", steps=2, batch_size=8, network=small, out=tmp_path / "mine/digits")
    studio = Studio(tmp_path, "mine/spiral", "mine/digits")
    try:
        opened = open_page(studio.link)
        page = opened.page
        choose(page, "digits")
        for name in ("samples", "way"):
            picture = page.locator(f"#{name} img")
            picture.wait_for()
            assert picture.evaluate("one => one.decode().then(() => one.naturalWidth)") > 100
        assert page.locator("nav").is_hidden()
        assert "drawn where the page was made" in page.inner_text("footer")
        choose(page, "spiral")
        assert page.locator("nav").is_visible()
        assert page.locator("#reverse canvas").count() > 0
        opened.assert_clean(studio.origin)
    finally:
        studio.stop()
