"""Sources: samples by number, what a codec keeps of them, and rows that are held out."""

import pytest
import torch

import fromnoise as fn
from fromnoise.data import Affine, Batch, Source
from fromnoise.data.source import of_label, samples, split
from fromnoise.data.stored import Stored
from fromnoise.data.views import Flipped, FromSmall, Rows
from fromnoise.errors import InputError
from fromnoise.rng import hashed


class Squares:
    """A source of the user's own that keeps nothing: sample k is (k, k^2)/100."""

    name, shape, suggests, conditioners, distribution = "squares", (2,), {"recipe": "points"}, (), None

    def __init__(self, rows):
        self.rows = rows

    @property
    def identity(self):
        return {"name": self.name, "n": len(self)}

    def __len__(self):
        return len(self.rows)

    def read(self, rows):
        k = self.rows[rows].float()
        return Batch(torch.stack([k, k * k], 1) / 100, None)

    def take(self, rows):
        return Squares(self.rows[rows])

    def resident(self, device, budget):
        return self


def test_a_data_set_is_a_source_and_reads_its_rows():
    data = fn.data.shapes(30)
    assert isinstance(data, Source)
    rows = torch.tensor([3, 3, 29])
    batch = data.read(rows)
    assert torch.equal(batch.x, data.x[rows])
    assert torch.equal(batch.cond.values["label"], data.labels[rows])
    assert torch.equal(data.read(slice(4)).x, data.x[:4])
    assert data.resident(torch.device("cpu"), 0.0) is data


def test_data_stay_where_they_are_if_they_do_not_fit():
    data = fn.data.shapes(30)
    other = torch.device("cpu:0")
    assert data.resident(other, data.x.nbytes - 1) is data
    moved = data.resident(other, data.x.nbytes)
    assert moved is not data
    assert torch.equal(moved.x, data.x)
    assert torch.equal(moved.cond.values["label"], data.labels)


@pytest.mark.parametrize("held_out", [0.0, 0.2])
def test_a_source_of_the_users_own_is_trained_on(tmp_path, held_out):
    source = Squares(torch.arange(100))
    assert isinstance(source, Source)
    config = fn.TrainConfig(steps=20, batch_size=16, held_out=held_out)
    *_, last = fn.fit(fn.Denoiser(fn.nn.MLP(2, 16), fn.EDM(), "edm"), source, config, out=tmp_path / "r")
    assert last.run.source is source
    assert (last.held_out is None) == (not held_out)
    again = fn.load(tmp_path / "r")
    assert torch.equal(fn.sample(again.denoiser, 5, steps=3), fn.sample(last.run.denoiser, 5, steps=3))
    in_memory = fn.Dataset(source.read(slice(None)).x)
    *_, other = fn.fit(fn.Denoiser(fn.nn.MLP(2, 16), fn.EDM(), "edm"), in_memory, config)
    assert other.run.denoiser.sigma_data == last.run.denoiser.sigma_data


def test_of_a_large_source_the_same_rows_are_measured_every_time(monkeypatch):
    monkeypatch.setattr("fromnoise.data.source._MEASURED", 200)
    source = Squares(torch.arange(5000))
    once = samples(source)
    assert once.shape == (100, 2)
    assert len(once.unique(dim=0)) == 100
    assert torch.equal(once, samples(source))
    assert float(once[:, 0].mean()) == pytest.approx(25, abs=5)  # of 0..50, standard error 1.4
    assert Affine().fitted(source).mean[0] == pytest.approx(float(once[:, 0].mean()))


def test_what_is_stored_becomes_z_row_by_row():
    data = fn.Dataset(torch.randn(40, 3) * 5 + 2)
    codec = Affine("columns").fitted(data)
    stored, rows = Stored(data, codec), torch.tensor([7, 0, 7])
    assert torch.equal(stored.z(rows), codec.into(data.x)[rows])
    assert stored.cond(rows) is None


def test_what_does_not_fit_in_memory_is_read_a_batch_at_a_time():
    data = fn.data.labelled(a=fn.data.spiral(30), b=fn.data.moons(30))
    codec, rows = Affine().fitted(data), torch.tensor([7, 59, 7])
    whole, lazily = (Stored(data, codec, data.conditioners, budget) for budget in (1e9, 1))
    assert torch.equal(whole.z(rows), lazily.z(rows))
    assert len(whole) == len(lazily) == 60
    for stored in (whole, lazily):
        assert stored.cond(rows).values["label"].tolist() == [0, 1, 0]


def test_held_out_rows_follow_from_seed_and_number_alone():
    train, held = split(10_000, 0.1, seed=3)
    assert len(train) + len(held) == 10_000
    assert len(set(train.tolist()) & set(held.tolist())) == 0
    assert len(held) == pytest.approx(1000, abs=120)  # standard error 30
    assert split(20_000, 0.1, seed=3)[1][: len(held)].tolist() == held.tolist()  # rows that are added move none
    more = split(10_000, 0.2, seed=3)[1]
    assert set(held.tolist()) <= set(more.tolist())
    assert split(10_000, 0.1, seed=4)[1].tolist() != held.tolist()
    assert len(split(10, 0.0, seed=0)[1]) == 0


def test_hashed_numbers_are_uniform_and_unrelated():
    """100,000 numbers: the mean's standard error is 0.0009, a correlation's 0.003."""
    u, v = hashed(0, "a", 100_000), hashed(1, "a", 100_000)
    assert 0 <= float(u.min()) <= float(u.max()) < 1
    assert float(u.mean()) == pytest.approx(0.5, abs=0.005)
    assert (u * 100).long().bincount(minlength=100).min() > 850
    for other in (v, u.roll(1), hashed(0, "b", 100_000)):
        assert abs(float(torch.corrcoef(torch.stack([u, other]))[0, 1])) < 0.015


def test_the_samples_of_one_label_of_any_kind_of_source():
    x = torch.arange(48, dtype=torch.uint8).reshape(12, 1, 2, 2)
    whole = fn.data.Dataset(x, torch.arange(12) % 3, label_names=["a", "b", "c"])

    class Own:
        """A user's own source, which must read its samples to know their labels."""

        name, shape, conditioners, distribution = "own", (1, 2, 2), whole.conditioners, None
        suggests, identity = {"recipe": "image"}, {"name": "own"}

        def __len__(self):
            return 12

        def read(self, rows):
            return whole.read(rows)

        def take(self, rows):
            return Rows(self, rows)

        def resident(self, device, budget):
            return self

    every = torch.arange(12)
    for source in (whole, whole.take(every), FromSmall(whole, 1), FromSmall(whole, 1).take(every), Own()):
        assert torch.equal(of_label(source, 1).read(slice(None)).x, x[1::3])
    twice = of_label(Flipped(whole), 1)
    assert torch.equal(twice.read(slice(None)).x, torch.cat([x[1::3], x[1::3].flip(3)]))
    with pytest.raises(InputError, match="no labels"):
        of_label(fn.data.Dataset(x, name="bare"), 1)
