"""Students of a guided teacher: the scale of its guidance is a condition that they are told."""

import json
import shutil

import pytest
import torch

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.data.source import Batch
from fromnoise.errors import ConfigError, InputError, LabelError
from fromnoise.guidance_cond import Scale
from fromnoise.own_grid import OwnGrid
from fromnoise.samplers import walk
from fromnoise.training import Draws
from fromnoise.training.distill import Distilling
from fromnoise.training.students import Lesson, School

QUICK = {"steps": 12, "batch_size": 32, "save_every": 5, "log_every": 4}
NETWORKS = {
    "mlp": (lambda **more: fn.nn.MLP(2, 8, classes=3, **more), (2,)),
    "residual": (lambda **more: fn.nn.MLP(2, 8, classes=3, residual=True, **more), (2,)),
    "unet": (lambda **more: fn.nn.UNet((1, 8, 8), (16, 16), classes=3, **more), (1, 8, 8)),
    "dit": (lambda **more: fn.nn.DiT((1, 8, 8), 16, 1, classes=3, **more), (1, 8, 8)),
    "unet-ddpm": (lambda **more: fn.nn.UNetDDPM((1, 8, 8), (32, 32), classes=3, **more), (1, 8, 8)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_is_told_a_scale_starts_as_the_one_that_is_not(name):
    make, shape = NETWORKS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = make().eval()
    with torch.no_grad():
        for p in plain.parameters():  # away from the start, where outputs are 0
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    told = make(guidance=(1.0, 5.0)).eval()
    own = told.state_dict()
    told.load_state_dict({**own, **plain.state_dict()})
    assert len(own) == len(plain.state_dict()) + 1
    x, label = torch.randn(4, *shape), torch.tensor([0, 1, 2, 1])
    cond = Cond({"label": label, "guidance": torch.tensor([1.0, 2.0, 3.5, 5.0])})
    torch.testing.assert_close(told(x, 0.3, cond), plain(x, 0.3, Cond({"label": label})))
    with torch.no_grad():
        next(p for key, p in told.named_parameters() if key.endswith("series.weight")).normal_()
    assert not torch.allclose(told(x, 0.3, cond), plain(x, 0.3, Cond({"label": label})))
    none, one = told(x, 0.3, Cond({"label": label})), Cond({"label": label, "guidance": torch.tensor([1.0])})
    torch.testing.assert_close(none, told(x, 0.3, one))  # where no scale is given it is 1


def test_the_target_is_where_the_guided_teacher_goes():
    schedule = fn.VP()
    law = fn.GaussianMixture(
        torch.tensor([[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]]).double(), 0.3, labels=torch.tensor([0, 1, 2])
    )
    grid = OwnGrid(steps=2, of=4, spacing="karras")
    student = fn.Denoiser(fn.nn.MLP(2, 8, classes=3, guidance=(1.0, 4.0)), schedule, "v", grid=grid)
    task = Distilling(teacher="", weights="").bound(student, drop_cond=0.25).taught_by(law.denoiser(schedule))
    label = torch.arange(64) % 3
    x0 = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))
    drawn = task.draw(Batch(x0.double(), Cond({"label": label}, {}, frozenset({"guidance"}))), Draws(0, 64))
    scales = drawn.cond.values["guidance"]
    assert 1 <= float(scales.min()) < 1.5
    assert 3.5 < float(scales.max()) <= 4
    given = drawn.cond.mask("label")
    assert 5 < int((~given).sum()) < 30
    x_t = drawn.x / torch.as_tensor(student.prediction.input_scale(*schedule.scales(drawn.t)))[..., None]
    target, times = task.target_of(x_t, drawn.t, drawn.cond), OwnGrid(steps=4, of=4, spacing="karras").times(schedule)
    for k in (0, 1, int((~given).nonzero()[0])):
        t = float(drawn.t[k])
        at = min(range(4), key=lambda i: abs(times[i] - t))
        guided = fn.Guided(law.denoiser(schedule), float(scales[k]))
        cond = Cond({"label": label[k : k + 1]}) if given[k] else None
        *_, last = walk(guided, fn.DDIM(), times[at : at + 3], x_t[k : k + 1], cond=cond)
        s = times[at + 2]
        (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.scales(t), schedule.scales(s) if s else (1.0, 0.0)
        step = sigma_s / sigma_t * x_t[k] + (alpha_s - sigma_s / sigma_t * alpha_t) * target[k]
        torch.testing.assert_close(step[None], last.x_s, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "shapes"
    return fn.train("shapes", network={"name": "mlp", "hidden": 16, "depth": 2}, steps=60, batch_size=32, out=path)


def test_a_student_takes_the_scale_at_one_evaluation_a_step(teacher, run_cli, tmp_path):
    student = fn.distill(teacher, 4, of=8, out=tmp_path / "student", **QUICK)
    assert student.denoiser.network.guidance == (1.0, 5.0)
    again, calls = fn.load(tmp_path / "student"), []
    again.denoiser.network.register_forward_hook(lambda module, args, out: calls.append(len(args[0])))
    with torch.no_grad():
        again.denoiser.network.condition.guidance.series.weight.normal_()
    ways = {
        "none": fn.sample(again.denoiser, 5, cond="spiral"),
        "guided": fn.sample(fn.Guided(again.denoiser, 3.0), 5, cond="spiral"),
        "told": fn.sample(again.denoiser, 5, cond={"label": "spiral", "guidance": 3.0}),
        "each": fn.sample(fn.Guided(again.denoiser, torch.tensor([1.0, 3, 3, 3, 3])), 5, cond="spiral"),
    }
    assert len(calls) == 4 * len(ways)
    assert len(set(calls)) == 1  # rows: no batch is doubled
    torch.testing.assert_close(ways["guided"], ways["told"], rtol=0, atol=0)
    assert not torch.equal(ways["guided"], ways["none"])
    torch.testing.assert_close(ways["each"][0], ways["none"][0])
    torch.testing.assert_close(ways["each"][1:], ways["guided"][1:])
    _, text, _ = run_cli("sample", tmp_path / "student", "--label", "spiral", "--guidance", "3", "-n", "7", "--json")
    assert json.loads(text)["steps"] == 4
    assert run_cli("plot", tmp_path / "student", "guidance", "-n", "50", "--out", tmp_path / "g.png")[0] == 0


@pytest.mark.parametrize("scale", [0.0, 6.0, float("nan"), "much"])
def test_scales_that_were_not_taught_are_refused(scale):
    with pytest.raises(LabelError, match=r"1 to 5|a number"):
        Scale(1.0, 5.0).read(scale)


def test_a_student_is_guided_as_it_was_taught(teacher, run_cli, tmp_path):
    student = fn.distill(teacher, 2, of=4, out=tmp_path / "student", guidance=(2.0, 3.0), **QUICK)
    with pytest.raises(LabelError, match=r"scales of 2 to 3, and 1\.5"):
        fn.Guided(student.denoiser, 1.5)
    for more in ({"negative": "spiral"}, {"rescale": 0.5}, {"interval": (0.1, 2.0)}):
        with pytest.raises(InputError, match="as it was taught"):
            fn.Guided(student.denoiser, 2.0, **more)
    assert student.denoiser.conditioners[-1] == Scale(2.0, 3.0)
    assert run_cli("plot", tmp_path / "student", "guidance", "-n", "40", "--out", tmp_path / "g.png")[0] == 0
    further = fn.distill(student, 1, out=tmp_path / "further", **QUICK)
    assert further.denoiser.conditioners[-1] == Scale(2.0, 3.0)
    with pytest.raises(InputError, match="distilled for guidance scales of 2 to 3: keep them"):
        fn.distill(student, 1, out=tmp_path / "other", guidance=(1.0, 5.0), **QUICK)


def test_a_range_of_scales_is_refused_where_nothing_can_be_guided(teacher, tmp_path, run_cli):
    points = fn.train("moons", network={"name": "mlp", "hidden": 8}, steps=2, batch_size=8, out=tmp_path / "moons")
    deaf = fn.train(
        "shapes", network={"name": "mlp", "hidden": 8}, steps=2, batch_size=8, drop_cond=0.0, out=tmp_path / "deaf"
    )
    for run, scales, reason in (
        (points, (1.0, 5.0), "a teacher with labels"),
        (deaf, (1.0, 5.0), "without one"),
        (teacher, (5.0, 1.0), "from low to high"),
        (teacher, (1.0, float("nan")), "finite number"),
    ):
        with pytest.raises(InputError, match=reason):
            fn.distill(run, 2, of=4, out=tmp_path / "no", guidance=scales, **QUICK)
    for text, reason in (("1,5", "a teacher with labels"), ("3", "lowest and highest"), ("a,b", "lowest and highest")):
        code, _, err = run_cli("distill", tmp_path / "moons", "--to", "2", "--guidance", text)
        assert (code, err.count("\n")) == (2, 1)
        assert reason in err
    assert not (tmp_path / "no").exists()
    assert fn.distill(deaf, 2, of=4, out=tmp_path / "plain", **QUICK).denoiser.network.guidance is None
    assert (
        fn.distill(teacher, 2, of=4, out=tmp_path / "one", guidance=(1, 1), **QUICK).denoiser.network.guidance is None
    )


def test_a_distillation_that_was_moved_goes_on_bit_for_bit(tmp_path):
    place = tmp_path / "here"
    mlp = {"name": "mlp", "hidden": 16}
    fn.train("shapes", network=mlp, steps=20, batch_size=32, out=place / "shapes")
    whole = fn.distill(place / "shapes", 2, of=8, out=tmp_path / "whole", **QUICK)
    rounds = fn.training.distill_rounds(fn.load(place / "shapes"), 2, place / "student", of=8, **QUICK)
    for one in rounds:  # left in the middle of the second round
        if one.number == 2:
            break
    rounds.close()
    shutil.move(place, tmp_path / "there")
    again = fn.distill(tmp_path / "there" / "shapes", 2, of=8, out=tmp_path / "there" / "student", resume=True, **QUICK)
    for name, tensor in whole.denoiser.network.state_dict().items():
        assert torch.equal(tensor, again.denoiser.network.state_dict()[name]), name


def test_a_student_that_learns_scales_takes_longer_over_its_first_round(teacher):
    lesson = Lesson(OwnGrid(steps=2, of=8), {"name": "distilling"}, "landing")

    def lengths(guidance=None, **given):
        return School.of(teacher, guidance, given).lengths(teacher, [lesson] * 3)

    assert lengths() == [1500, 900, 900]
    assert lengths((1.0, 1.0)) == [300, 300, 300]
    assert lengths(steps=7) == [7, 7, 7]


def test_landing_weighs_a_students_steps_alone(tmp_path):
    with pytest.raises(ConfigError, match="distill a run with it"):
        fn.train("moons", weighting="landing", steps=2, out=tmp_path / "no")
    assert not (tmp_path / "no").exists()
