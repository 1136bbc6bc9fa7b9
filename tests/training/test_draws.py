import pytest
import torch

import fromnoise as fn
from fromnoise.rng import Streams
from fromnoise.training import Draws, time_laws


@pytest.mark.parametrize(("batch", "parts"), [(256, 8), (8, 8), (12, 4), (100, 4), (30, 2), (7, 1), (1, 1)])
def test_a_batch_is_drawn_in_eight_parts_or_as_many_as_divide_it(batch, parts):
    draws = Draws(0, batch, 3)
    assert draws.parts == parts
    rows = draws.rows(10)
    assert [len(part) for part in rows] == [3 * batch // parts] * parts
    assert draws.assemble(rows).shape == (3 * batch,)


def test_rows_come_step_after_step_and_part_after_part():
    draws = Draws(0, 16, 3)  # three steps of eight parts of two rows
    parts = [torch.arange(6) + 100 * part for part in range(8)]  # rows 0, 1 for the first step, 2, 3 for the second
    steps = draws.assemble(parts).reshape(3, 16)
    for k in range(3):
        assert steps[k].tolist() == [100 * part + 2 * k + j for part in range(8) for j in range(2)]


def test_each_part_and_purpose_has_a_stream_of_its_own():
    draws = Draws(5, 16, 2).at(3)
    noise = draws.each("noise", lambda generator, _: torch.randn(4, generator=generator))
    for part in range(8):  # what a process that computes this part alone would draw
        alone = torch.randn(4, generator=Streams(5, "train/noise").at(3 * 8 + part))
        assert torch.equal(noise[part], alone)
    others = [draws.uniform(purpose) for purpose in ("times", "drop", "codec")]
    others += [Draws(6, 16, 2).at(3).uniform("times"), Draws(5, 16, 2).at(4).uniform("times")]
    others += [Draws(5, 16, 2, name="held out").at(3).uniform("times")]
    assert len({tuple(numbers.tolist()) for numbers in others}) == len(others)
    assert torch.equal(draws.uniform("times"), Draws(5, 16, 2).at(3).uniform("times"))


def test_what_is_drawn_before_changes_nothing():
    plain, other = Draws(1, 8).at(2), Draws(1, 8).at(2)
    other.signs("probe", torch.zeros(1, 3))
    other.rows(50)
    assert torch.equal(plain.normal("noise", torch.zeros(1, 5)), other.normal("noise", torch.zeros(1, 5)))


@pytest.mark.parametrize(("batch", "steps"), [(16, 1), (16, 4), (24, 64), (25, 4), (7, 3)])
def test_stratified_times_are_so_in_every_step_and_every_part_of_it(batch, steps):
    schedule, draws = fn.RectifiedFlow(), Draws(0, batch, steps)
    u = 1 - draws.times(time_laws.build("stratified"), schedule)
    for step in u.reshape(steps, batch):
        assert (step * batch).long().sort().values.tolist() == list(range(batch))
        for part in step.reshape(draws.parts, -1):
            assert (part * len(part)).long().sort().values.tolist() == list(range(len(part)))
    assert (u * len(u)).long().sort().values.tolist() == list(range(len(u)))


def test_independent_times_are_not_stratified():
    u = 1 - Draws(0, 64, 64).times(time_laws.build("uniform"), fn.RectifiedFlow())
    assert len((u * len(u)).long().unique()) < 0.7 * len(u)  # 1 - 1/e of them are hit


def test_draws_have_the_laws_they_name():
    draws = Draws(0, 4096, 16)
    noise, signs = draws.normal("noise", torch.zeros(1, 2)), draws.signs("probe", torch.zeros(1, 2))
    assert float(noise.mean()) == pytest.approx(0, abs=0.015)  # 131,072 numbers: error 0.003
    assert float(noise.std()) == pytest.approx(1, abs=0.01)
    assert signs.unique().tolist() == [-1, 1]
    assert float(signs.mean()) == pytest.approx(0, abs=0.015)
    counts = draws.assemble(draws.rows(8)).bincount(minlength=8)
    assert counts.min() > 7_800  # of 8,192; error 85
    assert counts.max() < 8_600
