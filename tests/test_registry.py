from dataclasses import dataclass
from typing import Annotated

import pytest
from pydantic import Field

from fromnoise.errors import ConfigError, UnknownName
from fromnoise.nn import networks
from fromnoise.pictures_cond import Image
from fromnoise.registry import Registry
from fromnoise.schedule import schedules
from fromnoise.training.plan import Plan
from fromnoise.training.task import losses
from fromnoise.training.times import time_laws


@pytest.fixture
def shapes():
    registry = Registry("shape")

    @registry.register("box")
    @dataclass(frozen=True)
    class Box:
        width: Annotated[float, Field(gt=0)]
        height: float = 2.0

    registry.Box = Box
    return registry


def test_a_component_remembers_what_it_was_built_from(shapes):
    box = shapes.Box(3)
    assert shapes.settings(box) == {"name": "box", "width": 3.0, "height": 2.0}
    assert shapes.build(shapes.settings(box)) == box
    assert shapes.complete({"name": "box", "width": 1}) == {"name": "box", "width": 1.0, "height": 2.0}


def test_arguments_are_checked_however_they_come(shapes):
    for make in (lambda: shapes.Box(-1), lambda: shapes.build({"name": "box", "width": -1})):
        with pytest.raises(ConfigError, match="width should be greater than 0, not -1"):
            make()
    with pytest.raises(ConfigError, match="width is missing"):
        shapes.build("box")
    with pytest.raises(ConfigError, match="depth"):
        shapes.Box(1, depth=3)
    with pytest.raises(UnknownName, match="did you mean 'box'"):
        shapes.build("bx")


def test_a_class_that_was_never_registered_cannot_be_named(shapes):
    with pytest.raises(ConfigError, match="not a registered shape"):
        shapes.settings(object())


def test_the_schema_is_the_signature(shapes):
    properties = shapes.schema("box").model_json_schema()["properties"]
    assert properties["width"]["exclusiveMinimum"] == 0
    assert properties["height"]["default"] == 2.0


def test_installed_packages_offer_components_of_their_own(tmp_path, monkeypatch):
    about = tmp_path / "other_package-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: other-package\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[fromnoise.losses]\nabsolute = other_package_of_a_test:Absolute\n")
    (tmp_path / "other_package_of_a_test.py").write_text(
        "class Absolute:\n    def __init__(self, scale: float = 1.0) -> None:\n        self.scale = scale\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("loss", "losses")
    assert registry.names() == ["absolute"]
    assert registry.build({"name": "absolute", "scale": 2}).scale == 2.0
    assert [losses.many, time_laws.many, schedules.many] == ["losses", "times", "schedules"]


def test_a_data_class_may_have_a_parent_whose_names_are_unknown_here():
    registry = Registry("condition")

    @registry.register("mine")
    @dataclass(frozen=True)
    class Mine(Image):
        extra: float = 1.0

    made = registry.build({"name": "mine", "shape": [1, 4, 4], "extra": 2})
    assert made == Mine((1, 4, 4), extra=2.0)
    assert registry.settings(made) == {"name": "mine", "shape": (1, 4, 4), "noise": 0.0, "extra": 2.0}
    with pytest.raises(ConfigError, match="shape"):
        registry.build({"name": "mine", "shape": [0, 4, 4]})


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"schedule": {"name": "edm", "sigma_max": 0}},
            "the configuration: schedule 'edm': sigma_max should be greater",
        ),
        ({"train": {"seed": 1e30}}, "seed should be a smaller whole number, not 1e+30"),
        ({"train": {"weighting": "nope"}}, "train: unknown weighting 'nope': known"),
    ],
)
def test_what_is_wrong_is_said_once(settings, says):
    with pytest.raises((ConfigError, UnknownName)) as caught:
        Plan.from_recipe("image", settings)
    assert says in str(caught.value)
    assert str(caught.value).count(", not ") <= 1


def test_too_few_of_something_are_counted_in_plain_words():
    with pytest.raises(ConfigError, match=r"network 'unet': widths should have at least 1 item, not \[\]$"):
        networks.build({"name": "unet", "shape": (1, 8, 8), "widths": []})
