"""Every test runs with the library's shapes and types checked at each call (jaxtyping with beartype).

The checks take several times as long as what they check: `FROMNOISE_TYPECHECK=off` leaves them out, for a quick look.
The Makefile does so for tests marked `slow`, `unchecked` or `alone`, whose code other tests run with the checks.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # thread counts change bits, and small work is quicker on one

from contextlib import nullcontext

import pytest
from jaxtyping import install_import_hook

CHECKED = os.environ.get("FROMNOISE_TYPECHECK") != "off"

with install_import_hook("fromnoise", "typecheck.check") if CHECKED else nullcontext():
    import fromnoise.plot
    import fromnoise.report
    import fromnoise.training

import torch

import fromnoise.cli.main  # outside the hook: typer hands over types of its own

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    """Keep decoded pictures away from the user's cache."""
    os.environ["FROMNOISE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _seeded():
    """Let a test draw the same numbers each time, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture
def run_cli(capsys):
    """Run the command line in this process; return its exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = fromnoise.cli.main.main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def emoji_folder(tmp_path_factory):
    """Captioned emoji of 16 x 16 pixels, as the example draws them."""
    from emoji_example import EMOJI

    out = tmp_path_factory.mktemp("emoji")
    EMOJI.build(out, 16, EMOJI.found("a font", None, EMOJI.FONTS), EMOJI.found("names", None, EMOJI.NAMES))
    return out


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A small run on the spiral, with the default recipe cut short."""
    import fromnoise as fn

    path = tmp_path_factory.mktemp("runs") / "spiral"
    fn.train(fn.data.spiral(5000), steps=300, out=path)
    return path


@pytest.fixture(scope="session")
def trained_shapes(tmp_path_factory):
    """A small labelled run."""
    import fromnoise as fn

    path = tmp_path_factory.mktemp("runs") / "shapes"
    fn.train(fn.data.shapes(3000), steps=600, out=path)
    return path
