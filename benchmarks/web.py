"""The page in a browser: how fast it samples, draws and opens, and how large it is.

    python benchmarks/web.py            about half a minute; also: make bench-web

It trains the default spiral, exports it, and opens the file in the system's Chromium. Beside the page's sampling time
stands PyTorch's for the same samples in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fromnoise as fn
from fromnoise.export import to_html

N, STEPS = 300, 50
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
BARS = {"DDIM 50 of 300 points, ms": 120.0, "median frame, ms": 16.7, "first paint, ms": 1000.0}

_DRAG = """async seconds => {
  const slider = document.querySelector('#forward input[type=range]');
  const times = [];
  let before = null;
  const began = performance.now();
  await new Promise(resolve => {
    const frame = now => {
      if (before !== null) times.push(now - before);
      before = now;
      slider.value = Math.round(500 + 499 * Math.sin((now - began) / 400));
      slider.dispatchEvent(new Event('input', {bubbles: true}));
      if (now - began < 1000 * seconds) requestAnimationFrame(frame); else resolve();
    };
    requestAnimationFrame(frame);
  });
  return times;
}"""
"""Drag the forward panel's slider anew in every frame; return how long each frame took."""


def main() -> None:
    """Measure, print, and write the results if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--run", type=Path, help="a run to show instead of a fresh default spiral")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/web.json and web.md")
    options = parser.parse_args()
    found = measure(options.run)
    text = report(found)
    print(text)
    if options.write:
        where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
        results = Path(__file__).parent / "results"
        (results / "web.json").write_text(json.dumps(found, indent=2) + "\n")
        (results / "web.md").write_text(
            f"# The page in {found['browser']}\n\n`python benchmarks/web.py --write` on {where}.\n\n```\n{text}\n```\n"
        )


def measure(path: Path | None) -> dict[str, Any]:
    """Return every figure."""
    from playwright.sync_api import sync_playwright

    chromium = next(
        (c for name in ("chromium", "chromium-browser", "google-chrome") if (c := shutil.which(name))), None
    )
    if chromium is None:
        sys.exit("no Chromium on this machine: install Debian's package chromium, or Chrome")
    with tempfile.TemporaryDirectory() as work, sync_playwright() as playwright:
        run = fn.load(path) if path else fn.train(fn.data.spiral(100_000), out=Path(work) / "spiral")
        file = Path(work) / "page.html"
        file.write_text(to_html(run))
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        paints = [_first_paint(browser, file) for _ in range(7)]
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        frames = page.evaluate(_DRAG, 5)
        sampling = {backend: _sampling(page, backend) for backend in ("relaxed", "simd", "plain")}
        version = f"Chromium {browser.version}"
        browser.close()
        unlimited = playwright.chromium.launch(
            executable_path=chromium, args=[*FLAGS, "--disable-frame-rate-limit", "--disable-gpu-vsync"]
        )
        page = unlimited.new_page(viewport={"width": 1280, "height": 900})
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        free = page.evaluate(_DRAG, 3)
        unlimited.close()
        size = file.stat().st_size
    return {
        "browser": version,
        "file, MB": size / 1e6,
        "first paint, ms": statistics.median(paints),
        "median frame, ms": statistics.median(frames),
        "median frame without a limit, ms": statistics.median(free),
        "slowest of 20 frames, ms": statistics.quantiles(frames, n=20)[-1],
        "sampling, ms": sampling,
        "PyTorch, ms": _pytorch(run),
    }


def _first_paint(browser: Any, file: Path) -> float:
    """Return when something was first painted, in a context that knows nothing of the page."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector("html[data-ready]", state="attached")
    entries = page.evaluate("() => performance.getEntriesByName('first-contentful-paint').map(e => e.startTime)")
    context.close()
    return entries[0]


def _sampling(page: Any, backend: str) -> dict[str, Any]:
    """Return what the page computes with, and the median time of the same 300 samples."""
    got = page.evaluate("backend => window.fromnoise.backend(backend)", backend)
    question = {"sampler": {"name": "ddim"}, "steps": STEPS, "n": N}
    answers = [page.evaluate("q => window.fromnoise.sample(q)", question) for _ in range(15)]
    return {"backend": got, "median": statistics.median(a["milliseconds"] for a in answers[2:])}


def _pytorch(run: fn.Run) -> float:
    denoiser = run.denoiser.on(fn.LinearBeta())
    times = []
    for _ in range(15):
        began = time.perf_counter()
        fn.sample(denoiser, N, sampler=fn.DDIM(), steps=STEPS)
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[2:])


_NAMES = {"relaxed": "WebAssembly, fused multiply-add", "simd": "WebAssembly, SIMD", "plain": "plain JavaScript"}


def report(found: dict[str, Any]) -> str:
    """Return the figures as text, each beside its bar where it has one."""
    lines = [f"{'':<46}{'measured':>10}{'at most':>10}"]

    def line(name: str, value: float, bar: float | None = None) -> None:
        mark = "" if bar is None else f"{bar:10.1f}  {'holds' if round(value, 1) <= bar else 'MISSED'}"
        lines.append(f"{name:<46}{value:10.2f}{mark}")

    line("file, MB", found["file, MB"])
    line("first paint from disk, ms", found["first paint, ms"], BARS["first paint, ms"])
    line("median frame while the slider is dragged, ms", found["median frame, ms"], BARS["median frame, ms"])
    line("  the slowest twentieth, above", found["slowest of 20 frames, ms"])
    line("  were there no screen to wait for", found["median frame without a limit, ms"])
    for backend, got in found["sampling, ms"].items():
        what = f"{N} points, {STEPS} DDIM steps, ms: "
        here = "" if got["backend"] == backend else f" (not here: {got['backend']})"
        bar = BARS["DDIM 50 of 300 points, ms"] if backend == "simd" else None
        line(f"{what if backend == 'relaxed' else '  '}{_NAMES[backend]}{here}", got["median"], bar)
    line("  PyTorch, in the same run", found["PyTorch, ms"])
    return "\n".join(lines)


if __name__ == "__main__":
    main()
