import pytest

from fromnoise.errors import ConfigError
from fromnoise.settings import flat, grouped, merge


@pytest.mark.parametrize("order", [1, -1])
def test_a_components_name_and_its_settings_are_given_in_any_order(order):
    pairs = [("codec", "affine"), ("codec.kind", "columns"), ("train.lr", 1e-3), ("train.loss.w", 0.5)][::order]
    assert grouped(pairs) == {
        "codec": {"name": "affine", "kind": "columns"}, "train": {"lr": 1e-3, "loss": {"w": 0.5}},
    }  # fmt: skip


def test_the_last_of_two_values_counts():
    assert grouped([("train.lr", 1), ("train.lr", 2)]) == {"train": {"lr": 2}}
    assert grouped([("codec", "mine"), ("codec.kind", "a"), ("codec", "affine")]) == {
        "codec": {"name": "affine", "kind": "a"}
    }
    assert grouped([("train", {"lr": 1, "seed": 3}), ("train.lr", 2)]) == {"train": {"lr": 2, "seed": 3}}


@pytest.mark.parametrize("pairs", [[("train", 3), ("train.lr", 2)], [("train.lr", 2), ("train", 3)]])
def test_a_number_is_no_group(pairs):
    with pytest.raises(ConfigError, match="train is given twice"):
        grouped(pairs)


def test_keys_of_many_dots_are_refused():
    with pytest.raises(ConfigError, match="16 groups deep"):
        grouped([(".".join("a" * 5000), 1)])


def test_flat_is_the_inverse():
    tree = {"a": {"b": {"c": 1}, "d": [1, 2]}, "e": None}
    assert flat(tree) == {"a.b.c": 1, "a.d": [1, 2], "e": None}
    assert grouped(flat(tree).items()) == tree


def test_a_component_of_another_name_replaces_the_old_one():
    base = {"schedule": {"name": "linear", "T": 5}, "train": {"lr": 1}}
    assert merge(base, {"schedule": {"T": 7}}) == {"schedule": {"name": "linear", "T": 7}, "train": {"lr": 1}}
    assert merge(base, {"schedule": {"name": "vp"}})["schedule"] == {"name": "vp"}
    assert merge(base, {"schedule": "linear"})["schedule"] == {"name": "linear", "T": 5}
