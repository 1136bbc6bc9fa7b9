"""Draw the page's pictures for these pages: `python docs/screenshots.py runs/shapes`.

Each panel by itself, light and dark, wide and narrow, in the system's Chromium.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import fromnoise as fn
from fromnoise.export import to_html

FIGURES = Path(__file__).parent / "figures" / "studio"
PANELS = ("forward", "reverse", "schedules", "draw", "exact")


def main(path: Path) -> None:
    """Draw every picture."""
    from PIL import Image
    from playwright.sync_api import sync_playwright

    chromium = next(c for name in ("chromium", "chromium-browser", "google-chrome") if (c := shutil.which(name)))
    FIGURES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        page_file = Path(work) / "page.html"
        page_file.write_text(to_html(fn.load(path)))
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for scheme, width in (("light", 1200), ("dark", 1200), ("light", 360), ("dark", 360)):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page.goto(page_file.as_uri())
            page.wait_for_selector("html[data-ready]", state="attached")
            _play(page)
            for panel in PANELS:
                file = FIGURES / f"{panel}-{scheme}-{'wide' if width > 600 else 'narrow'}.png"
                page.locator(f"#{panel}").screenshot(path=file)
                Image.open(file).quantize(64).save(file, optimize=True)
            page.close()
        browser.close()


def _play(page: Any) -> None:
    """Use every panel as a reader would, up to where there is something to see."""
    page.add_style_tag(content="header { display: none !important }")
    slide = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})) }"
    page.locator("#forward input[type=range]").evaluate(slide, "420")
    page.get_by_label("density contours").check()
    page.get_by_label("score field").check()
    page.get_by_label("paths", exact=True).check()
    if page.get_by_label("Guidance").count():
        page.get_by_label("Guidance").fill("2")
        page.keyboard.press("Tab")
    page.click("#reverse button.primary")
    page.locator("#reverse button.primary:enabled").wait_for()
    page.wait_for_timeout(3300)
    page.locator("#reverse input[type=range]").evaluate(slide, "7")
    page.get_by_label("Word").fill("noise")
    page.get_by_role("button", name="Stamp").click()
    page.click("#draw button.primary")
    page.locator("#draw .status", has_text="trained in").wait_for(timeout=120_000)
    page.wait_for_timeout(500)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
