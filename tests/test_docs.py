"""Every block of Python in the docs and the README runs, page by page; every figure they show is there."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
README = DOCS.parent / "README.md"
PAGES = [*sorted(DOCS.glob("*.md")), pytest.param(README, marks=pytest.mark.slow, id="README")]


@pytest.mark.unchecked
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_figures_of_a_page_are_there(page):
    for figure in re.findall(r"!\[.*?\]\((.*?)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / figure).exists(), figure


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_exist(page, run_cli):
    for command in re.findall(r"^fromnoise (\w+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE):
        code, out, _ = run_cli(command, "--help")
        assert code == 0
        assert "Usage" in out
