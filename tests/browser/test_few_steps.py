"""Models of few steps in the page: its samples are the library's, and one click is one evaluation."""

import re

import pytest
import torch

import fromnoise as fn
from fromnoise.export import run_payload, to_html

QUICK = {"steps": 20, "batch_size": 64}
SMALL = {"name": "mlp", "hidden": 24}


@pytest.fixture(scope="module")
def students(tmp_path_factory):
    """Students of shapes: one, three and any number of steps; guided, all but one."""
    path = tmp_path_factory.mktemp("students")
    teacher = fn.train("shapes", network=SMALL, steps=40, batch_size=64, out=path / "shapes")
    table = fn.train(
        "shapes", network=SMALL, schedule=fn.CosineBeta(T=30), predict="v", steps=20, batch_size=64, out=path / "table"
    )
    found = {
        "one": fn.distill(teacher, 1, of=4, out=path / "one", **QUICK),
        "three": fn.distill(teacher, 3, of=12, out=path / "three", guidance=(0.0, 2.5), **QUICK),
        "plain": fn.distill(teacher, 2, of=4, out=path / "plain", guidance=(1.0, 1.0), **QUICK),
        "table": fn.distill(table, 5, of=20, out=path / "of table", **QUICK),
        "any": fn.distill(teacher, 2, method="consistency", out=path / "any", **QUICK),
    }
    for run in found.values():
        if run.denoiser.network.guidance:  # a scale that is heard
            run.denoiser.network.condition.guidance.series.weight.data.normal_(0, 0.2)
    return found


def drawn(hook, run, steps, label, guidance):
    hook.evaluate("([run]) => window.fromnoise.load('tested', run, null)", [run_payload("tested", run)])
    question = {
        "run": "tested", "sampler": {"name": run.denoiser.grid.rule}, "steps": steps, "seed": 3, "n": 300,
        "label": label, "guidance": guidance,
    }  # fmt: skip
    answer = hook.evaluate("question => window.fromnoise.sample(question)", question)
    return torch.tensor(answer["x"], dtype=torch.float64).reshape(300, 2)


@pytest.mark.parametrize("name", ["one", "three", "plain", "table", "any"])
def test_the_pages_samples_are_the_librarys(hook, students, name):
    run = students[name]
    counts = (1, 2, 7) if name == "any" else (run.denoiser.grid.steps,)
    scales = (None, 1.0, 2.5) if run.denoiser.network.guidance else (None, 1.0)
    for steps in counts:
        for label, scale in [(None, None), *((2, scale) for scale in scales)]:
            ours = drawn(hook, run, steps, label, scale)
            denoiser = run.denoiser if scale is None else fn.Guided(run.denoiser, scale)
            theirs = fn.sample(denoiser, 300, steps=steps, cond=label, seed=3).double()
            size = float(theirs.abs().max().clamp(min=1))
            assert float((ours - theirs).abs().max()) / size < 1e-4, (steps, label, scale)


def test_one_click_is_one_evaluation(open_page, students, tmp_path):
    (tmp_path / "one.html").write_text(to_html(students["one"]))
    opened = open_page(tmp_path / "one.html")
    page = opened.page
    page.click("#reverse button.primary")
    page.locator("#reverse button.primary:enabled").wait_for()
    shown = page.locator("#reverse .readout div", has=page.locator("dt", has_text=re.compile("^evaluations$")))
    assert shown.locator("dd").inner_text() == "1"
    fields = page.locator("#reverse .controls")
    assert fields.locator("select").first.locator("option").all_inner_texts() == ["DDIM"]
    assert "Noise" not in fields.inner_text()
    scale = fields.locator(".field", has_text="Guidance").locator("input")
    assert (scale.get_attribute("min"), scale.get_attribute("max")) == ("1", "5")
    assert "taught by another one" in page.locator("#reverse").inner_text()
    assert "needs a denoiser that answers with a mean" in page.locator("#exact").inner_text()
    assert page.locator("#reverse .checks").inner_text().count("score") == 0
    assert not opened.complaints
