"""The panels as a reader uses them: every control is clicked, dragged or typed at, on a page opened from disk."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch

import fromnoise as fn
from fromnoise.export import to_html
from fromnoise.metrics import wasserstein2


def number(page, selector, name):
    """Return the number that a readout shows under a name."""
    text = page.locator(f"{selector} .readout div", has=page.locator("dt", has_text=re.compile(f"^{name}$"))).locator(
        "dd"
    )
    return float(text.inner_text().replace("−", "-").replace("∞", "inf"))


def drag(page, selector, value):
    """Put a slider somewhere, as a drag does."""
    page.locator(f"{selector} input[type=range]").evaluate(
        "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})) }",
        str(value),
    )
    page.wait_for_timeout(150)


def generate(page):
    """Click Generate and wait until samples are drawn and measured."""
    page.click("#reverse button.primary")
    page.locator("#reverse button.primary:enabled").wait_for()


def pixels(page, selector):
    """Return how many of a canvas's pixels are drawn on, as a fraction."""
    return page.locator(f"{selector} canvas").first.evaluate(
        """canvas => {
          const copy = Object.assign(document.createElement('canvas'), {width: canvas.width, height: canvas.height});
          const context = copy.getContext('2d', {willReadFrequently: true});
          context.drawImage(canvas, 0, 0);
          const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
          let drawn = 0;
          for (let i = 3; i < data.length; i += 4) drawn += data[i] > 0;
          return drawn / (data.length / 4);
        }"""
    )


def test_the_page_opens_from_disk_and_asks_nobody(open_page, spiral_page):
    opened = open_page(spiral_page)
    page = opened.page
    assert page.title() == "spiral: a diffusion model, live"
    titles = page.locator("h2").all_inner_texts()
    assert titles == [
        "Forward: structure dissolves", "Reverse: structure re-emerges", "Schedules: when does it happen?",
        "Draw your own", "Exact against learned",
    ]  # fmt: skip
    page.wait_for_timeout(1000)
    opened.assert_clean()


@pytest.mark.parametrize("schedule", ["linear", "cosine", "edm"])
def test_the_slider_dissolves_the_points_as_alpha_says(open_page, spiral_page, spiral_run, schedule):
    page = open_page(spiral_page).page
    if schedule != "edm":
        page.select_option("#forward select", schedule)
    scaling = spiral_run.denoiser.codec
    path = {"linear": fn.LinearBeta(), "cosine": fn.CosineBeta(), "edm": fn.EDM()}[schedule]
    clean = None
    for k in (0, 250, 600, 1000):
        drag(page, "#forward", k)
        spread = number(page, "#forward", "rms distance from the mean")
        alpha, sigma = path.scales(k / 1000)
        clean = clean or spread
        # independent noise of unit variance: the variances add up, within what 300 points vary by
        size = math.hypot(alpha, sigma)
        expected = math.hypot(alpha * clean, sigma * math.sqrt(2) * float(scaling.std)) / size
        assert spread == pytest.approx(expected, rel=0.07)
        assert number(page, "#forward", "ᾱ") == pytest.approx((alpha / size) ** 2, rel=2e-3, abs=1e-12)
    spread = number(page, "#forward", "rms distance from the mean")
    assert spread == pytest.approx(math.sqrt(2) * float(scaling.std), rel=0.07)


def test_play_moves_the_slider_and_pause_stops_it(open_page, spiral_page):
    page = open_page(spiral_page).page
    page.click("#forward .play")
    page.wait_for_timeout(700)
    moved = int(page.input_value("#forward input[type=range]"))
    assert moved > 20
    page.click("#forward .play")
    stopped = int(page.input_value("#forward input[type=range]"))
    page.wait_for_timeout(300)
    assert int(page.input_value("#forward input[type=range]")) == stopped


def test_motion_is_in_few_steps_where_it_is_not_wanted(open_page, spiral_page):
    page = open_page(spiral_page, reduced_motion="reduce").page
    page.click("#forward .play")
    seen = set()
    for _ in range(30):
        seen.add(int(page.input_value("#forward input[type=range]")))
        page.wait_for_timeout(60)
    assert all(value % 100 == 0 for value in seen)


@pytest.mark.parametrize(("sampler", "steps"), [("multistep", 10), ("ddim", 50), ("ddpm", 200)])
def test_generate_ends_at_the_data(open_page, spiral_page, sampler, steps):
    opened = open_page(spiral_page)
    page = opened.page
    page.locator("#reverse select").first.select_option(sampler)
    page.locator("#reverse input[type=number]").first.fill(str(steps))
    page.keyboard.press("Tab")
    generate(page)
    assert number(page, "#reverse", "distance / floor") < 1.35  # of 300 points; fresh data vary by a fifth
    assert number(page, "#reverse", "evaluations") == steps
    assert "300 points in" in page.inner_text("#reverse .status")
    opened.assert_clean()


def test_the_samples_shown_are_those_of_the_library(open_page, spiral_page, spiral_run):
    opened = open_page(spiral_page)
    shown = torch.tensor(opened.sample(sampler={"name": "multistep"}, steps=10, seed=5)["x"]).reshape(-1, 2)
    ours = fn.sample(spiral_run.denoiser, 300, sampler=fn.Multistep(), steps=10, seed=5)
    assert float((shown - ours).abs().max()) < 1e-4


def test_scrubbing_goes_back_to_noise_and_overlays_draw(open_page, spiral_page):
    opened = open_page(spiral_page)
    page = opened.page
    generate(page)
    page.wait_for_timeout(3300)  # the way has been played
    assert page.inner_text("#reverse output") == "step 10 of 10"
    drag(page, "#reverse", 4)
    assert page.inner_text("#reverse output") == "step 4 of 10"
    before = pixels(page, "#reverse")
    for name in ("paths", "arrows to x̂₀", "score field", "density contours"):
        page.get_by_label(name, exact=True).check()
        page.wait_for_timeout(400)
        after = pixels(page, "#reverse")
        assert after > before, name
        before = after
    opened.assert_clean()


def test_labels_and_guidance_move_samples_to_the_class(open_page, shapes_page, shapes_run):
    page = open_page(shapes_page).page
    law = fn.FiniteSet(shapes_run.source)
    accuracy = {}
    for scale in ("0", "1", "3"):
        page.get_by_label("Label").first.select_option("moons")
        page.get_by_label("Guidance").fill(scale)
        page.keyboard.press("Tab")
        generate(page)
        question = {"label": 2, "guidance": float(scale), "steps": 10, "sampler": {"name": "multistep"}}
        x = torch.tensor(page.evaluate("q => window.fromnoise.sample(q)", question)["x"]).reshape(-1, 2)
        # judged by the exact posterior of the labelled data under a little noise
        accuracy[scale] = float((law.label_probs(x, 1.0, 0.05).argmax(1) == 2).float().mean())
        shown = number(page, "#reverse", "distance to the data")
        truth = fn.data.moons(300, seed=11).x
        assert shown == pytest.approx(wasserstein2(x, truth), rel=0.35)
    assert accuracy["0"] < 0.6
    assert 0.85 < accuracy["1"] <= accuracy["3"]


def test_the_two_schedules_differ_as_their_snr_says(open_page, spiral_page):
    page = open_page(spiral_page).page
    rows = page.locator("#schedules tbody tr")
    for k in (100, 250, 500, 900):
        drag(page, "#schedules", k)
        cells = [float(text.replace("−", "-")) for text in rows.nth(1).locator("td").all_inner_texts()]
        for value, path in zip(cells, (fn.LinearBeta(), fn.CosineBeta()), strict=True):
            assert value == pytest.approx(math.exp(path.log_snr(k / 1000)), rel=2e-3)
    page.get_by_label("Right").select_option("linear")
    page.wait_for_timeout(100)
    left, right = (page.locator("#schedules canvas").nth(k).evaluate("c => c.toDataURL()") for k in (0, 1))
    assert left == right  # the same schedule, points and noise are the same picture
    page.get_by_label("Right").select_option("cosine")
    page.wait_for_timeout(100)
    assert page.locator("#schedules canvas").nth(1).evaluate("c => c.toDataURL()") != left


@pytest.mark.slow
def test_draw_train_generate(open_page, spiral_page):
    opened = open_page(spiral_page)
    page = opened.page
    page.locator("#draw").scroll_into_view_if_needed()
    assert page.locator("#draw button.primary").is_disabled()
    box = page.locator("#draw canvas").bounding_box()
    centre, radius = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2), 0.3 * box["width"]
    page.mouse.move(centre[0] + radius, centre[1])
    page.mouse.down()
    for k in range(1, 49):
        angle = 2 * math.pi * k / 48
        page.mouse.move(centre[0] + radius * math.cos(angle), centre[1] + radius * math.sin(angle))
    page.mouse.up()
    drawn = number(page, "#draw", "points")
    assert drawn > 200
    page.click("#draw button.primary")
    page.locator("#draw .status", has_text="trained in").wait_for(timeout=120_000)
    assert number(page, "#draw", "loss") < number(page, "#draw", "floor") + 0.1
    page.get_by_role("button", name="Generate").nth(1).click()
    page.locator("#draw .status", has_text="seed 1").wait_for()
    x = torch.tensor(
        opened.page.evaluate("q => window.fromnoise.sample(q)", {"run": "drawing", "steps": 15})["x"]
    ).reshape(-1, 2)
    r = x.norm(dim=1)  # a circle of radius 0.3 of a plane 4.8 wide was drawn
    assert float((r - 1.44).abs().median()) < 0.1
    assert float((r - 1.44).abs().quantile(0.95)) < 0.4
    opened.assert_clean()


def test_drawing_by_keyboard_word_undo_and_clear(open_page, spiral_page):
    page = open_page(spiral_page).page
    page.locator("#draw canvas").focus()
    for key in ("ArrowRight", "ArrowUp", "Space", "ArrowLeft", "Space", "Space", "Space"):
        page.keyboard.press(key)
    assert number(page, "#draw", "points") == 24
    assert page.locator("#draw button.primary").is_enabled()
    page.get_by_role("button", name="Undo").click()
    assert number(page, "#draw", "points") == 18
    page.get_by_label("Word").fill("ok")
    page.get_by_role("button", name="Stamp").click()
    assert number(page, "#draw", "points") == 1518
    page.get_by_role("button", name="Clear").click()
    assert number(page, "#draw", "points") == 0


def test_exact_stands_beside_learned(open_page, spiral_page):
    opened = open_page(spiral_page)
    page = opened.page
    page.locator("#exact .readout dt", has_text="typical difference").wait_for()
    few = {}
    for k in (20, 90):
        drag(page, "#exact", k)
        page.wait_for_timeout(800)
        few[k] = number(page, "#exact", "typical difference in ε̂")
    assert 0 < few[90] < 0.2
    assert few[20] < 0.6
    assert page.locator("#exact polyline").count() == 1
    opened.assert_clean()


def test_a_browser_without_wasm_computes_the_same(open_page, spiral_page, chromium):
    context = chromium.new_context()
    # WebAssembly is taken away from page and worker alike before any of their code runs
    page = context.new_page()
    text = spiral_page.read_text().replace("'wasm-unsafe-eval'", "")
    plain = spiral_page.with_name("plain.html")
    plain.write_text(text.replace("&#x27;wasm-unsafe-eval&#x27;", ""))
    page.goto(plain.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    answer = page.evaluate("() => window.fromnoise.sample({sampler: {name: 'ddim'}, steps: 10})")
    other = open_page(spiral_page).sample(sampler={"name": "ddim"}, steps=10)
    assert answer["backend"] == "plain"
    assert other["backend"] in ("relaxed", "simd")
    assert max(abs(a - b) for a, b in zip(answer["x"], other["x"], strict=True)) < 1e-4
    context.close()


def test_runs_that_are_not_in_the_plane_say_so(open_page, tmp_path):
    x = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    run = fn.train(x, steps=20)
    path = tmp_path / "five.html"
    path.write_text(to_html(run))
    opened = open_page(path)
    absent = opened.page.locator(".absent").all_inner_texts()
    assert len(absent) == 3
    assert all("samples have shape [5]" in text for text in absent)
    assert opened.page.locator("#schedules svg").count() == 1
    opened.assert_clean()


def test_a_network_too_large_for_the_page_says_so(open_page, tmp_path):
    run = fn.train(fn.data.moons(200), network=fn.nn.MLP(2, hidden=1500, depth=2), steps=1)
    path = tmp_path / "large.html"
    path.write_text(to_html(run))
    opened = open_page(path)
    texts = " ".join(opened.page.locator(".absent").all_inner_texts())
    assert "more than the 2,000,000 that a page runs" in texts
    assert "fromnoise studio" in texts
    opened.assert_clean()


def test_a_short_table_bounds_the_steps(open_page, tmp_path):
    run = fn.train(fn.data.moons(200), schedule=fn.CosineBeta(T=40), predict="v", steps=5)
    path = tmp_path / "short.html"
    path.write_text(to_html(run))
    opened = open_page(path)
    page = opened.page
    page.get_by_label("Sampler").select_option("ddpm")
    assert page.get_by_label("Steps", exact=True).input_value() == "40"
    page.get_by_label("Steps", exact=True).fill("900")
    page.keyboard.press("Tab")
    assert page.get_by_label("Steps", exact=True).input_value() == "40"
    generate(page)
    assert page.inner_text("#reverse .status").startswith("300 points in")
    with pytest.raises(Exception, match="at most T = 40"):
        opened.sample(sampler={"name": "ddim"}, steps=41)
    opened.assert_clean()


def test_names_cannot_break_out_of_the_page(open_page, tmp_path):
    from fromnoise.data import Dataset

    evil = "</script><script>document.title='taken'</script>"
    run = fn.train(Dataset(fn.data.moons(200).x, name=evil), steps=1)
    path = tmp_path / "evil.html"
    path.write_text(to_html(run))
    opened = open_page(path)
    assert opened.page.title() != "taken"
    assert evil in opened.page.inner_text("h1")
    opened.assert_clean()


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 360), ("dark", 360)])
def test_accessible_and_within_the_screen(open_page, shapes_page, scheme, width):
    from axe_playwright_python.sync_playwright import Axe

    opened = open_page(shapes_page, color_scheme=scheme, viewport={"width": width, "height": 800})
    page = opened.page
    page.wait_for_timeout(500)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width
    small = page.evaluate(
        """() => [...document.querySelectorAll('body *')]
          .filter(e => e.childNodes.length && [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
          .filter(e => !e.closest('math, details:not([open]), .skip, noscript, script'))
          .map(e => {
            const svg = e.closest('svg');
            const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
            return [e.tagName + '.' + e.className, parseFloat(getComputedStyle(e).fontSize) * scale, e.textContent];
          })
          .filter(([, size]) => size < 12)"""
    )
    assert small == []
    found = Axe().run(page).response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    assert serious == [], json.dumps([(v["id"], [n["html"][:120] for n in v["nodes"]]) for v in serious], indent=1)


def test_everything_can_be_reached_by_the_keyboard(open_page, spiral_page):
    page = open_page(spiral_page).page
    reached = set()
    for _ in range(90):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate(
                "() => { const e = document.activeElement; return e.closest('section')?.id + ' ' + e.tagName }"
            )
        )
    for panel in ("forward", "reverse", "schedules", "draw", "exact"):
        assert f"{panel} INPUT" in reached
        assert f"{panel} BUTTON" in reached
    assert "draw CANVAS" in reached


def test_a_page_without_data_samples_and_says_what_is_missing(open_page, spiral_run, tmp_path):
    path = tmp_path / "without.html"
    path.write_text(to_html(spiral_run, with_data=False))
    opened = open_page(path)
    page = opened.page
    for panel in ("#forward", "#exact"):
        assert "needs the training data, and this page was made without them" in page.locator(panel).inner_text()
    assert "not in this page" in page.locator(".summary").inner_text()
    generate(page)
    assert pixels(page, "#reverse") > 0.001
    assert page.locator("#reverse .readout", has_text="distance").count() == 0
    opened.assert_clean()
