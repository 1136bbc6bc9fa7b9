import numpy as np
import pytest
import torch

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.conditioners import Labels, Vector, conditions_of, read_cond
from fromnoise.errors import LabelError
from fromnoise.rng import stream

LABELS, VECTOR = Labels(names=("a", "b", "c")), Vector(dim=2)


def uniform(n, seed=0):
    generator = stream(seed, "test")
    return lambda _: torch.rand(n, generator=generator)


def both(n=6):
    return Cond({"label": torch.arange(n) % 3, "vector": torch.randn(n, 2)})


def test_rows_are_taken_of_what_each_row_has_and_kept_of_what_all_share():
    cond = Cond({"label": torch.arange(5), "vector": torch.ones(1, 2)}, {"label": torch.tensor([True])})
    some = cond.rows(torch.tensor([4, 0]))
    assert some.values["label"].tolist() == [4, 0]
    assert some.values["vector"].shape == (1, 2)
    assert len(cond) == 5
    assert len(cond.rows(slice(1, 3))) == 2
    assert cond.expand(5).values["vector"].shape == (5, 2)


def test_null_gives_nothing_but_what_is_kept():
    cond = Cond(both().values, {}, frozenset({"vector"})).null()
    assert not cond.mask("label").any()
    assert cond.mask("vector").all()


def test_dropping_leaves_out_whole_rows_as_often_as_asked_and_each_of_several_alone():
    n = 20_000
    one = both(n).only(["label"]).dropped(0.3, uniform(n))
    assert float((~one.mask("label")).double().mean()) == pytest.approx(0.3, abs=0.015)
    cond = both(n).dropped(0.3, uniform(n))
    label, vector = cond.mask("label"), cond.mask("vector")
    assert float((~label).double().mean()) == pytest.approx(1 - 0.7**2, abs=0.015)
    assert float((label & ~vector).double().mean()) == pytest.approx(0.7**2 * 0.3, abs=0.015)
    assert float((~label & ~vector).double().mean()) == pytest.approx(0.3 + 0.7 * 0.3**2, abs=0.015)
    kept = Cond(both(n).values, {}, frozenset({"vector"})).dropped(1.0, uniform(n))
    assert not kept.mask("label").any()
    assert kept.mask("vector").all()
    twice = cond.dropped(0.5, uniform(n, 1))
    assert not (twice.mask("label") & ~label).any()


def test_conditions_put_together_have_the_rows_and_masks_of_both():
    cond = both(4)
    whole = Cond.cat([cond, cond.null()])
    assert len(whole) == 8
    assert whole.mask("label").tolist() == [True] * 4 + [False] * 4
    assert Cond.cat([cond, cond]).given == {}
    apart = Cond.cat([cond.only(["label"]), cond.only(["vector"])])
    assert apart.mask("label").tolist() == [True] * 4 + [False] * 4
    assert apart.mask("vector").tolist() == [False] * 4 + [True] * 4
    assert torch.equal(apart.values["vector"][4:], cond.values["vector"])


def test_what_may_not_be_dropped_stays_in_training_and_guidance_alike():
    class Strength(Vector):
        droppable = False

    data = fn.Dataset(torch.randn(5, 2)).conditioned(torch.randn(5, 2))
    for cond in (data.cond_for([Strength(dim=2)]), read_cond([Strength(dim=2)], [0.5, 1.0], 5)):
        assert cond.null().mask("vector").all()
        assert cond.dropped(0.99, uniform(5)).mask("vector").all()


@pytest.mark.parametrize(
    ("words", "expected"),
    [("b", [1]), (2, [2]), ("2", [2]), (torch.tensor(1), [1]), (np.int64(1), [1]), (["a", 2, "1"], [0, 2, 1]),
     (torch.tensor([2, 0, 1]), [2, 0, 1]), (np.array([2, 0, 1], dtype=np.uint8), [2, 0, 1]),
     ((torch.tensor(1), torch.tensor(0), 2), [1, 0, 2])],
)  # fmt: skip
def test_labels_are_read(words, expected):
    assert read_cond([LABELS], words, 3).values["label"].tolist() == expected
    assert read_cond([VECTOR, LABELS], {"label": words}, 3).values["label"].tolist() == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [("d", "unknown label 'd'"), (3, "label 3 is out of range"), (-1, "out of range"), (True, "not True"),
     (0.5, "not float"), ([0.0, 1.0, 2.0], "not 0.0"), ([True, False, True], "not True"),
     (torch.tensor([1.0]), "torch.float32"),
     (torch.tensor([True]), "torch.bool"),
     (torch.tensor([[1, 2, 0]]), "shape"), ([0, 1], "2 conditions were given for 3"),
     ([0], "1 conditions were given for 3"), ({"colour": 1}, "unknown condition 'colour'"), (object(), "not object"),
     (torch.tensor([0, 1, 3]), "label 3 is out of range")],
)  # fmt: skip
def test_what_is_no_label_is_refused_in_one_line(words, message):
    with pytest.raises(LabelError, match=message) as caught:
        read_cond([LABELS], words, 3)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "shape"),
    [([0.5, 1.0], (1, 2)), (torch.ones(2), (1, 2)), (np.ones((3, 2)), (3, 2)), ([[1, 2], [3, 4], [5, 6]], (3, 2))],
)
def test_vectors_are_read(words, shape):
    cond = read_cond([VECTOR], words, 3)
    assert cond.values["vector"].shape == shape
    assert cond.values["vector"].dtype == torch.float32
    assert read_cond([LABELS, VECTOR], {"label": "a", "vector": words}, 3).values["label"].tolist() == [0]


@pytest.mark.parametrize(
    ("words", "message"),
    [([1.0], "2 numbers"), ([[1.0, 2.0]] * 2, "2 conditions were given for 3"), ([float("nan"), 0.0], "NaN"),
     ("a", "2 numbers"), ([True, False], "2 numbers"), ([[1.0], [1.0, 2.0]], "2 numbers")],
)  # fmt: skip
def test_what_is_no_vector_is_refused_in_one_line(words, message):
    with pytest.raises(LabelError, match=message) as caught:
        read_cond([VECTOR], words, 3)
    assert "\n" not in str(caught.value)


def test_conditions_without_conditioners_are_refused():
    with pytest.raises(LabelError, match="no labels here"):
        read_cond([], "a", 3)
    with pytest.raises(LabelError, match="without conditions"):
        read_cond([], {"label": 1}, 3)
    assert read_cond([], None, 3) is None


def test_vectors_of_any_scale_reach_the_network_with_mean_0_and_variance_1():
    raw = torch.randn(500, 3).double() * torch.tensor([1e-6, 1.0, 1e9]) + torch.tensor([0.0, 5.0, 1e9])
    cond, conditioner = conditions_of(torch.cat([raw, torch.full((500, 1), 7.0)], 1))
    seen = cond.values["vector"].double()
    torch.testing.assert_close(seen[:, :3].std(0, correction=0), torch.ones(3).double(), rtol=1e-5, atol=1e-5)
    assert seen[:, 3].abs().max() == 0
    torch.testing.assert_close(conditioner.read(torch.cat([raw[7], torch.tensor([7.0])])), cond.values["vector"][7])


@pytest.mark.parametrize(
    "labels", [["x", "y", "x", "z"], [10, 20, 10, 30], torch.tensor([1, 2, 1, 3]), np.array(list("xyxz"))]
)
def test_labels_to_train_with_are_names_or_numbers(labels):
    cond, conditioner = conditions_of(labels)
    assert cond.values["label"].tolist() == [0, 1, 0, 2]
    assert conditioner.read(conditioner.names[2]).item() == 2


@pytest.mark.parametrize("labels", ["xyz", [None, 1], [0.5, "a"], torch.zeros(2, 2, dtype=torch.long), object()])
def test_what_cannot_be_trained_with_is_refused(labels):
    with pytest.raises(LabelError):
        conditions_of(labels)


def test_condition_vectors_are_trained_and_sampled_with(tmp_path):
    generator = torch.Generator().manual_seed(0)
    where = torch.rand(2000, 1, generator=generator) * 20 - 10
    x = torch.cat([where, -where], 1) + 0.3 * torch.randn(2000, 2, generator=generator)
    run = fn.train(x, cond=where, steps=800, batch_size=128, out=tmp_path / "run", seed=0)
    assert run.config.train["drop_cond"] == 0.1
    for value in (-6.0, 0.0, 7.0):
        middle = fn.sample(run.denoiser, 200, cond=torch.tensor([value]), steps=10).mean(0)
        torch.testing.assert_close(middle, torch.tensor([value, -value]), rtol=0, atol=1.0)
    free = fn.sample(run.denoiser, 500, steps=10)
    assert float(free[:, 0].std()) > 4  # without a condition it is the whole
    again = fn.load(tmp_path / "run")
    each = torch.linspace(-8, 8, 40)[:, None]
    assert torch.equal(
        fn.sample(again.denoiser, 40, cond=each, steps=5), fn.sample(run.denoiser, 40, cond=each, steps=5)
    )
    few = fn.sample(run.denoiser, 25, cond=each[:25], steps=5)  # padding changes no sample
    assert torch.equal(few, fn.sample(run.denoiser, 40, cond=each, steps=5)[:25])
    guided = fn.sample(fn.Guided(run.denoiser, 1.5), 200, cond={"vector": [5.0]}, steps=10).mean(0)
    assert float(guided[0]) > 3
    assert torch.equal(again.source.cond.values["vector"], run.source.cond.values["vector"])


def test_labels_that_are_numbers_are_called_by_these_numbers():
    data = fn.Dataset(torch.randn(60, 2), labels=torch.arange(60) % 3 + 1)
    assert data.label_names == ("1", "2", "3")
    (labels,) = data.conditioners
    for three in (3, "3", np.int64(3), torch.tensor(3), np.array(3)):
        assert int(labels.read(three)) == 2
    assert labels.read(torch.tensor([[3, 1, 2]]).flatten()).tolist() == [2, 0, 1]
    assert labels.read([3, "1", np.uint8(2)]).tolist() == [2, 0, 1]
    for none in (0, 4, "0", torch.tensor([1, 0])):
        with pytest.raises(LabelError, match="out of range: known: 1, 2, 3"):
            labels.read(none)
    run = fn.train(data, steps=5)
    assert torch.equal(fn.sample(run.denoiser, 4, cond=1, steps=2), fn.sample(run.denoiser, 4, cond="1", steps=2))
    assert Labels(names=("a", "b")).read(1) == 1  # by number where names are none


def test_values_that_no_conditioner_gave_are_refused_and_not_taken_for_no_condition():
    data = fn.data.shapes(30)
    run = fn.train(data, steps=2)
    for wrong in (torch.tensor([3]), torch.tensor([-1]), torch.tensor([1], dtype=torch.int32)):
        with pytest.raises(LabelError):
            fn.sample(run.denoiser, 5, cond=Cond({"label": wrong}), steps=2)
        with pytest.raises(LabelError):
            fn.Dataset(data.x, cond=Cond({"label": wrong.expand(30)}), conditioners=data.conditioners)


@pytest.mark.parametrize(
    "labels",
    [np.array([1, 0, 1], np.uint8), torch.tensor([1, 0, 1], dtype=torch.int32), ["b", "a", "b"], (1, 0, 1),
     [np.int64(1), np.int64(0), np.int64(1)], np.array(["b", "a", "b"])],
)  # fmt: skip
def test_a_data_set_takes_labels_of_any_form(labels):
    for names in ((), ("a", "b")):
        data = fn.Dataset(np.zeros((3, 2)), labels=labels, label_names=names)
        assert data.labels.tolist() == [1, 0, 1]
        assert data.labels.dtype == torch.int64
    with pytest.raises(LabelError):
        fn.Dataset(np.zeros((3, 2)), labels=[0.5, 1.5, 2.5])
