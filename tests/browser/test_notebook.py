"""Panels in a notebook's cell: frames that survive being saved as HTML, and the widget's two-way state."""

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import fromnoise as fn
import fromnoise.export.notebook

HOST = "<!doctype html><html lang='en'><head><title>notebook</title></head><body><p>a cell</p>{}</body></html>"


def in_frame(opened):
    """Return the page inside the host's frame, once it is ready."""
    frame = opened.page.frame_locator("iframe")
    frame.locator("html[data-ready]").wait_for(state="attached")
    return frame


def test_a_run_shows_its_panels(open_page, spiral_run, tmp_path):
    path = tmp_path / "cell.html"
    path.write_text(HOST.format(fn.show(spiral_run)._repr_html_()))
    opened = open_page(path, wait=False)
    frame = in_frame(opened)
    assert frame.locator("h2").count() == 5
    frame.locator("#reverse button.primary").click()
    frame.locator("#reverse button.primary:enabled").wait_for()
    assert "300 points in" in frame.locator("#reverse .status").inner_text()
    opened.assert_clean()


def test_a_trajectory_shows_its_way(open_page, spiral_run, tmp_path):
    way = fn.trajectory(spiral_run.denoiser, 200, steps=12, seed=1)
    path = tmp_path / "cell.html"
    path.write_text(HOST.format(fn.show(way)._repr_html_()))
    opened = open_page(path, wait=False)
    frame = in_frame(opened)
    assert frame.locator("h1").inner_text() == "200 points in 12 steps"
    assert frame.locator("output").inner_text() == "t = 0.000"
    frame.locator("input[type=range]").evaluate(
        "slider => { slider.value = 0; slider.dispatchEvent(new Event('input', {bubbles: true})) }"
    )
    assert frame.locator("output").inner_text() == "t = 1.000"
    opened.assert_clean()


def test_a_trajectory_in_other_dimensions_has_a_card_and_no_panel():
    way = fn.trajectory(fn.GaussianMixture(torch.zeros(1, 3), 1.0).denoiser(fn.EDM()), 10, steps=3)
    assert "<svg" not in way._repr_html_()
    assert "A trajectory" in way._repr_html_()
    with pytest.raises(fn.FromnoiseError, match="points in the plane"):
        fn.show(way)


def test_the_cards_of_a_run_and_a_trajectory_draw_their_points(open_page, spiral_run, tmp_path):
    way = fn.trajectory(spiral_run.denoiser, 200, steps=12, seed=1)
    path = tmp_path / "cell.html"
    path.write_text(HOST.format(spiral_run._repr_html_() + way._repr_html_()))
    page = open_page(path, wait=False).page
    assert page.locator("svg[role=img]").count() == 2
    assert len(page.locator("svg path").first.get_attribute("d").split("M")) == 301
    assert len(path.read_bytes()) < 60_000


def test_long_trajectories_are_thinned(spiral_run):
    way = fn.trajectory(spiral_run.denoiser, 700, steps=400, sampler=fn.DDIM())
    held = fromnoise.export.notebook.trajectory_payload(way)["trajectory"]
    assert held["x"]["shape"] == [120, 500, 2]
    assert (held["times"][0], held["times"][-1]) == (1.0, 0.0)
    assert all(a > b for a, b in zip(held["times"], held["times"][1:], strict=False))


def test_the_frame_holds_the_page_whole(spiral_run):
    text = fn.show(spiral_run).html
    document = html.unescape(re.search(r'srcdoc="([^"]*)"', text)[1])
    assert json.loads(re.search(r'id="payload">(.*?)</script>', document, re.S)[1])["runs"]


# -- the widget ---------------------------------------------------------------------------------------------------

# What a notebook gives a widget's code: a model with traits, here kept in the page for the test to read.
MODEL = """
const traits = JSON.parse(document.getElementById('traits').textContent);
const listeners = {};
const model = {
  get: name => traits[name],
  set: (name, value) => { traits[name] = value; },
  save_changes: () => {},
  on: (event, listener) => { (listeners[event] ??= new Set()).add(listener); },
  off: (event, listener) => { listeners[event]?.delete(listener); },
};
window.fromPython = (name, value) => { traits[name] = value; listeners['change:' + name]?.forEach(f => f()); };
window.traits = traits;
"""


@pytest.fixture
def cell(open_page, spiral_run, tmp_path):
    """The widget in a page that stands for the notebook's front end."""
    widget = fn.widget(spiral_run)
    names = ("document", "choices", "time", "pressed", "drawn", "drawn_by_hand")
    traits = json.dumps({name: getattr(widget, name) for name in names}).replace("<", "\\u003c")
    code = Path(fromnoise.export.notebook.__file__).with_name("widget.js").read_text()
    code = code.replace("export default { render };", "window.close_widget = render({ model, el: document.body });")
    path = tmp_path / "notebook.html"
    path.write_text(
        HOST.format(
            f'<script type="application/json" id="traits">{traits}</script><script type="module">{MODEL}{code}</script>'
        )
    )
    opened = open_page(path, wait=False)
    yield opened, in_frame(opened), widget
    opened.assert_clean()


def test_the_page_hears_what_python_sets(cell, spiral_run):
    opened, frame, _ = cell
    choices = {"sampler": {"name": "ddim", "eta": 0.5}, "steps": 7, "seed": 4, "label": None, "guidance": None}
    opened.page.evaluate("choices => window.fromPython('choices', choices)", choices)
    frame.get_by_label("Noise η").wait_for()
    assert frame.get_by_label("Steps", exact=True).input_value() == "7"
    opened.page.evaluate("() => window.fromPython('pressed', 1)")
    opened.page.wait_for_function("() => window.traits.drawn.x")
    drawn = opened.page.evaluate("() => window.traits.drawn")
    x = torch.tensor(drawn["x"]).reshape(-1, drawn["dim"])
    path = fn.LinearBeta()  # where ddim walks
    ours = fn.sample(spiral_run.denoiser.on(path), 300, sampler=fn.DDIM(eta=0.5), steps=7, seed=4)
    assert float((x - ours).abs().max()) < 1e-4


def test_python_hears_what_the_page_does(cell):
    opened, frame, widget = cell
    frame.get_by_label("Steps", exact=True).fill("6")
    frame.get_by_label("Seed", exact=True).fill("9")
    frame.get_by_label("Seed", exact=True).press("Tab")
    frame.locator("#reverse button.primary").click()
    frame.locator("#reverse button.primary:enabled").wait_for()
    frame.get_by_role("button", name="Stamp").click()
    traits = opened.page.evaluate("() => ({...window.traits, document: null})")
    assert (traits["choices"]["steps"], traits["choices"]["seed"]) == (6, 9)
    for name in ("choices", "drawn", "drawn_by_hand"):  # as the notebook's kernel sets them
        setattr(widget, name, traits[name])
    assert widget.samples.shape == (300, 2)
    assert widget.points.shape == (1500, 2)
    assert np.isfinite(widget.samples).all()


def test_the_widget_begins_empty_and_counts_its_button(spiral_run):
    widget = fn.widget(spiral_run)
    assert widget.samples is None
    assert widget.points.shape == (0, 2)
    widget.generate()
    assert widget.pressed == 1


def test_without_anywidget_it_says_what_to_install(spiral_run, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "anywidget", None)
    with pytest.raises(fn.FromnoiseError, match=r"pip install 'fromnoise\[notebook\]'"):
        fn.widget(spiral_run)
