"""The package as a whole: what it exports, what it costs to import, what it must never pull in."""

import ast
import graphlib
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fromnoise as fn
from fromnoise.training import Floor, Plan, time_laws
from fromnoise.training.losses import losses

SRC = Path(fn.__file__).parent


def test_everything_that_is_listed_is_there():
    assert list(fn.__all__) == sorted(fn.__all__)
    for name in fn.__all__:
        assert getattr(fn, name) is not None
        assert name in dir(fn)
    assert set(dir(fn)) == {*fn.__all__, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        fn.nope  # noqa: B018


def test_functions_win_over_folders():
    code = "import fromnoise.samplers.ddim, fromnoise.training.ema, fromnoise as fn; print(fn.sample, fn.train)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.count("<function") == 2


USER = """
from typing import assert_type
import torch
import fromnoise as fn
from fromnoise.samplers import Sampler

run = fn.train(fn.data.spiral(300), schedule=fn.VP(), steps=10)
assert_type(run, fn.Run)
assert_type(fn.sample(run.denoiser, 4, sampler=fn.DDIM(eta=0.5), cond=None), torch.Tensor)
assert_type(run.denoiser, fn.Denoiser)
rule: Sampler = fn.Multistep(order=3)
fn.DDIM(eta="much")
fn.sample(run.denoiser)
fn.nope
"""


def test_a_type_checker_sees_through_the_lazy_package(tmp_path):
    """The three wrong lines at the end are found, and nothing else is."""
    script = tmp_path / "user.py"
    script.write_text(USER)
    pyright = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(script)]
    found = json.loads(subprocess.run(pyright, capture_output=True, text=True, check=False, cwd=tmp_path).stdout)
    wrong = {item["range"]["start"]["line"]: item["rule"] for item in found["generalDiagnostics"]}
    lines = USER.splitlines()
    assert {lines[at]: rule for at, rule in wrong.items()} == {
        'fn.DDIM(eta="much")': "reportArgumentType",
        "fn.sample(run.denoiser)": "reportCallIssue",
        "fn.nope": "reportAttributeAccessIssue",
    }


OLD_NAMES = {
    "fn.Flow": "fn.ProbabilityFlow",
    "fn.data.Law": "fn.data.Distribution",
    "fn.data.even_start": "fn.data.sobol_noise",
    "fn.process.step": "fn.process.transition",
    "fn.data.Scaling(1.0, 2.0).mean": "fn.data.Affine.given(1.0, 2.0).mean",
    "fn.data.Scaling.of(data.x, 'columns').kind": "'columns'",
    "fn.Dataset.of(data)": "fn.data.open(data)",
    "fn.train(data, steps=1, scaling='columns').config.codec": "{'name': 'affine', 'kind': 'columns'}",
    "Plan.from_recipe('points', {'scaling': 'none'})": "Plan.from_recipe('points', {'codec': {'kind': 'none'}})",
    "Plan.of('article')": "Plan.from_recipe('article')",
    "Plan.from_recipe('article').for_labels()": "Plan.from_recipe('article', {'train': {'drop_cond': 0.1}})",
    "fn.Denoiser(fn.nn.MLP(2), fn.EDM(), scaling=fn.data.Affine('none')).codec.kind": "'none'",
    "fn.train(data, steps=1).data": "data",
    "denoiser.scaling": "denoiser.codec",
    "importlib.import_module('fromnoise.guidance').Wrapped": "importlib.import_module('fromnoise.denoiser').Wrapper",
    "data.law": "data.distribution",
    "data.fresh": "data.draw",
    "data.even": "data.draw_stratified",
    "denoiser.told": "denoiser.c_noise",
    "denoiser.say": "denoiser.network_output",
    "denoiser.raw": "denoiser.prediction_of",
    "floor.trivial": "floor.zero_output_loss",
    "floor.share": "floor.progress",
    "time_laws.build('ladder')": "time_laws.build('geometric-levels')",
    "losses.build({'name': 'hybrid', 'share': 0.5})": "losses.build({'name': 'hybrid', 'vlb_weight': 0.5})",
    "importlib.import_module('fromnoise.sample').DDIM": "fn.DDIM",
    "importlib.import_module('fromnoise.train').EMA": "importlib.import_module('fromnoise.training').EMA",
}


@pytest.mark.parametrize("old", OLD_NAMES)
def test_an_old_name_works_and_says_what_it_is_called_now(old):
    names = {
        "fn": fn, "importlib": importlib, "data": fn.data.spiral(10), "time_laws": time_laws, "losses": losses,
        "Plan": Plan,
        "denoiser": fn.Denoiser(fn.nn.MLP(dim=2), fn.VP()), "floor": Floor(0.5, 0.01, 1.0, "a note"),
    }  # fmt: skip
    with pytest.warns(DeprecationWarning, match="is now called") as seen:
        found = eval(old, names)
    assert found == eval(OLD_NAMES[old], names)
    ours = ("<string>", __file__, str(SRC.parent))
    assert seen[0].filename.startswith(ours) or "jaxtyping" in seen[0].filename  # the tests' own type checks


@pytest.mark.parametrize("module", sorted(p.parent.name for p in SRC.glob("*/__init__.py")))
def test_every_room_exports_a_sorted_all(module):
    if module in ("cli", "recipes"):
        return
    room = importlib.import_module(f"fromnoise.{module}")
    assert list(room.__all__) == sorted(room.__all__)
    assert all(hasattr(room, name) for name in room.__all__)


def python_imports():
    """Return the modules of the package by name, each with those it imports, for types and inside functions too."""
    files = {
        ".".join(p.with_suffix("").parts).removesuffix(".__init__"): p
        for p in [p.relative_to(SRC) for p in SRC.rglob("*.py")]
    }
    files = {f"fromnoise.{name}": SRC / path for name, path in files.items() if name}
    found = {}
    for name, path in files.items():
        found[name] = set[str]()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("fromnoise"):
                inside = [f"{node.module}.{alias.name}" for alias in node.names]
                found[name] |= {one if one in files else node.module for one in inside} & files.keys()
    return found


def page_imports():
    """Return the modules of the page by path, each with those it imports."""
    root = SRC.parents[1] / "web" / "src"
    return {
        path: {
            (path.parent / f"{to}.ts").resolve()
            for to in re.findall(r'from "(\.[^"]+)"', path.read_text(encoding="utf-8"))
        }
        for path in root.rglob("*.ts")
    }


@pytest.mark.parametrize("imports", [python_imports, page_imports])
def test_no_modules_import_one_another_in_a_circle(imports):
    found = imports()
    assert len(found) > 40
    assert sum(len(to & found.keys()) for to in found.values()) > len(found)
    graphlib.TopologicalSorter(found).prepare()  # raises CycleError, which names the circle


def test_torchvision_is_not_here():
    assert importlib.util.find_spec("torchvision") is None


def test_nothing_heavy_is_imported_for_help():
    code = (
        "import sys, fromnoise.cli.main as m; m.main(['--help']); m.main(['train', '--help']); "
        "print([n for n in ('torch', 'numpy', 'scipy', 'matplotlib') if n in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_importing_everything_needs_no_plots_and_no_scipy():
    code = (
        "import sys, fromnoise as fn; fn.train, fn.sample, fn.data, fn.load, fn.FiniteSet; "
        "print([n for n in ('scipy', 'matplotlib', 'rich', 'typer') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_files_and_functions_stay_short():
    for path in SRC.rglob("*.py"):
        text = path.read_text()
        assert text.count("\n") <= 450, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and "cli" not in path.parts:
                doc = ast.get_docstring(node) or ""
                length = node.end_lineno - node.lineno - doc.count("\n")
                assert length <= 60, f"{path.name}:{node.name} has {length} lines"


def places_of(pattern: str) -> set[str]:
    """Return the files of the package with a line that matches."""
    found = (path for path in SRC.rglob("*.py") if re.search(pattern, path.read_text()))
    return {str(path.relative_to(SRC)) for path in found}


def test_only_what_means_a_tables_own_steps_asks_whether_a_schedule_is_one():
    own_steps = {"training/losses.py", "training/floor.py", "likelihood.py"}  # the hybrid loss, the discrete ELBO
    asking = places_of(r"isinstance\([^()]*TableSchedule")
    assert {place for place in asking if not place.startswith("schedule/")} <= own_steps


def test_whether_samples_are_points_is_asked_of_their_codec_alone():
    assert places_of(r"len\([\w.]*shape\) == 1") == set()
    assert places_of(r"predict == ") <= {"export/payload.py"}


def test_a_conditions_kind_is_asked_by_conditioners_and_networks_alone():
    asking = places_of(r"cond\w*\.(is_floating_point|dtype|dim)\(?|cond\.isnan|cond_dim")
    elsewhere = {place for place in asking if not place.startswith("nn/")}
    assert elsewhere <= {"conditioners.py", "studio/form.py", "training/loop.py"}


def test_no_global_random_numbers():
    # every draw names its generator; a module's default initialization is the one exception, under rng.seeded
    import re

    for path in SRC.rglob("*.py"):
        for call in re.findall(r"torch\.(?:randn|rand|randint|randperm|multinomial)\([^\n]*", path.read_text()):
            assert "generator" in call or path.name == "embed.py", f"{path.name}: {call}"
