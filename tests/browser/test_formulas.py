"""Formulas look and fit the same whatever fonts a machine has: the page and the documentation bring their own."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

import fromnoise as fn
from fromnoise.export import to_html

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WIDTHS = [184.0, 185.8, 92.2, 121.3, 155.6, 245.3]
"""Of the page's formulas in their order, in pixels: those of STIX Two Math at 1.1 rem."""

FONT = "STIX Two Math"
READY = "html[data-ready]"

FONTCONFIG = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig><dir>{fonts}</dir><cachedir>{fonts}/cache</cachedir></fontconfig>"""


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    """A page with all five panels."""
    path = tmp_path_factory.mktemp("formulas") / "page.html"
    path.write_text(to_html(fn.train(fn.data.moons(200), steps=1)))
    return path


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    """The documentation, built."""
    for package in ("sphinx", "furo", "myst_parser", "latex2mathml"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install -e '.[docs]'")
    target = tmp_path_factory.mktemp("docs")
    subprocess.run([sys.executable, "-m", "sphinx", "-q", str(ROOT / "docs"), str(target)], check=True)
    return target


@pytest.fixture(params=["installed", "one"])
def machine(request, chromium, launch, tmp_path):
    """A browser on a machine with the fonts installed here, and one on a machine whose only font is DejaVu Sans."""
    if request.param == "installed":
        yield chromium
        return
    shutil.copy(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", tmp_path)
    config = tmp_path / "fonts.conf"
    config.write_text(FONTCONFIG.format(fonts=tmp_path))
    browser = launch({**os.environ, "FONTCONFIG_FILE": str(config)})
    yield browser
    browser.close()


def opened(browser, path, width, ready="html"):
    """Open a page from disk, wait until it is ready and its fonts are loaded."""
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(path.as_uri())
    page.wait_for_selector(ready, state="attached")
    page.evaluate("() => document.fonts.ready.then(() => null)")
    return page


def fonts_of_formulas(page):
    """Return the names of the fonts in which the formulas' signs are drawn, and whether the page brought each."""
    session = page.context.new_cdp_session(page)
    for domain in ("DOM", "CSS"):
        session.send(f"{domain}.enable")
    root = session.send("DOM.getDocument", {"depth": 0})["root"]["nodeId"]
    signs = session.send("DOM.querySelectorAll", {"nodeId": root, "selector": "math :is(mi, mn, mo, mtext)"})
    found = {}
    for sign in signs["nodeIds"]:
        for font in session.send("CSS.getPlatformFontsForNode", {"nodeId": sign})["fonts"]:
            text = session.send("DOM.getOuterHTML", {"nodeId": sign})["outerHTML"]
            found.setdefault((font["familyName"], font["isCustomFont"]), []).append(text)
    return found


def too_wide(page, selector):
    """Return the elements that need more room than they have."""
    return page.locator(selector).evaluate_all(
        "all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.textContent.slice(0, 80))"
    )


def test_the_page_draws_its_formulas_in_its_own_font(machine, page_file):
    page = opened(machine, page_file, 1280, READY)
    assert page.evaluate("() => [...document.fonts].map(f => `${f.family}: ${f.status}`)") == ["fromnoise math: loaded"]
    fonts = fonts_of_formulas(page)
    assert list(fonts) == [(FONT, True)], fonts


@pytest.mark.parametrize("width", [320, 360, 1280])
def test_the_formulas_of_the_page_have_one_width_everywhere_and_fit(machine, page_file, width):
    page = opened(machine, page_file, width, READY)
    widths = page.locator(".formula math").evaluate_all("all => all.map(e => e.getBoundingClientRect().width)")
    assert widths == pytest.approx(WIDTHS, abs=1)
    assert too_wide(page, ".formula") == []


def test_brackets_keep_their_height(chromium, page_file):
    page = opened(chromium, page_file, 1280, READY)
    heights = page.locator(".formula mo").evaluate_all(
        "all => all.filter(e => '()‖'.includes(e.textContent)).map(e => e.getBoundingClientRect().height)"
    )
    assert len(heights) > 10
    assert max(heights) < 22  # a line of text has 17.6


def test_the_docs_draw_their_formulas_in_their_own_font_and_fit(machine, docs):
    pages = [path for path in sorted(docs.glob("*.html")) if "<math" in path.read_text()]
    assert len(pages) >= 5
    for path in pages:
        page = opened(machine, path, 360)
        fonts = fonts_of_formulas(page)
        assert list(fonts) == [(FONT, True)], (path.name, fonts)
        assert too_wide(page, ".formula") == [], path.name
        page.close()


@pytest.mark.parametrize("width", [360, 1280])
def test_the_docs_show_no_scroll_bar_for_nothing_and_cut_no_code(chromium, docs, width):
    for path in sorted(docs.glob("*.html")):
        page = opened(chromium, path, width)
        bars = page.locator(".math-wrapper").evaluate_all(
            "all => all.filter(e => ['auto', 'scroll'].includes(getComputedStyle(e).overflowY)).length"
        )
        assert bars == 0, path.name
        assert too_wide(page, ":is(.highlight-python, .highlight-shell) pre") == [], path.name
        page.close()


def test_a_functions_name_stands_apart_from_its_argument(monkeypatch):
    pytest.importorskip("latex2mathml", reason="latex2mathml is not installed: pip install -e '.[docs]'")
    monkeypatch.syspath_prepend(ROOT / "docs" / "_ext")
    from mathml import math

    space = '<mspace width="0.167em" />'
    assert f"<mi>log</mi>{space}<mi>p</mi>" in math(r"\log p", "inline")[0]
    assert f"{space}<mi>log</mi>{space}<msub>" in math(r"\nabla \log p_t", "inline")[0]
    assert space not in math(r"\log(x) = \exp(y)", "inline")[0]
    assert len(math(r"a = b, \qquad c = d", "block")) == 2


def test_shell_commands_of_the_docs_are_not_coloured_as_python():
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text()
        for block in text.split("```")[1::2]:
            language, _, code = block.partition("\n")
            if code.startswith(("fromnoise ", "# ", "make ", "pip ")):
                assert language in ("shell", "console"), (path.name, code[:60])
