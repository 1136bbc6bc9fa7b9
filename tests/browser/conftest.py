"""Tests in a real browser: the system's Chromium, driven by playwright, on pages opened from disk."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import fromnoise as fn
from fromnoise.export import to_html

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def _chromium() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((found for name in names if (found := shutil.which(name))), None)


def _refuse(reason: str) -> None:
    """Skip, or fail where a browser is part of the bargain (CI says so)."""
    if os.environ.get("FROMNOISE_NEEDS_BROWSER"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def launch():
    """Start Chromium, with an environment; for one file of tests, as playwright keeps an event loop running."""
    path = _chromium()
    if path is None:
        _refuse("no Chromium on this machine: install Debian's package chromium, or Chrome")
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install -e '.[test]'"
    )
    with sync_api.sync_playwright() as playwright:
        yield lambda env=None: playwright.chromium.launch(executable_path=path, args=FLAGS, env=env)


@pytest.fixture(scope="module")
def chromium(launch):
    """A running Chromium."""
    browser = launch()
    yield browser
    browser.close()


@dataclass
class Opened:
    """A page, with everything it complained of or asked for."""

    page: object
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def sample(self, **question):
        """Return samples that the page draws, `[n * dim]`, by the test hook."""
        return self.page.evaluate("question => window.fromnoise.sample(question)", question)

    def assert_clean(self, *origins: str) -> None:
        """Assert that nothing was complained of, and nothing asked for outside the origins given."""
        assert self.complaints == []
        allowed = ("file://", "data:", "blob:", *origins)
        assert [url for url in self.requests if not url.startswith(allowed)] == []


@pytest.fixture
def open_page(chromium):
    """Open addresses, each in a fresh context; returns a function."""
    contexts = []

    def open_(address: str | Path, *, wait: bool = True, **options) -> Opened:
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)
        opened = Opened(page)
        page.on("console", lambda m: m.type in ("error", "warning") and opened.complaints.append(m.text))
        page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        page.on("request", lambda request: opened.requests.append(request.url))
        page.goto(address.as_uri() if isinstance(address, Path) else address)
        if wait:
            page.wait_for_selector("html[data-ready]", state="attached")
        return opened

    yield open_
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def spiral_run(tmp_path_factory):
    """A spiral trained well enough that its samples stand at the floor."""
    return fn.train(fn.data.spiral(20_000), steps=3000, out=tmp_path_factory.mktemp("runs") / "spiral")


@pytest.fixture(scope="session")
def shapes_run(tmp_path_factory):
    """Spiral, circles and moons, told apart by their labels."""
    return fn.train(fn.data.shapes(20_000), steps=3000, out=tmp_path_factory.mktemp("runs") / "shapes")


@pytest.fixture(scope="session")
def spiral_page(spiral_run, tmp_path_factory):
    """The spiral's page on disk."""
    path = tmp_path_factory.mktemp("pages") / "spiral.html"
    path.write_text(to_html(spiral_run))
    return path


@pytest.fixture(scope="session")
def shapes_page(shapes_run, tmp_path_factory):
    """The labelled run's page on disk."""
    path = tmp_path_factory.mktemp("pages") / "shapes.html"
    path.write_text(to_html(shapes_run))
    return path


@pytest.fixture(scope="module")
def hook(chromium, spiral_page):
    """A page whose test hook computes for us."""
    page = chromium.new_page()
    page.goto(spiral_page.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    yield page
    page.close()
