"""What a run keeps of its data, and how it notices that they are others."""

import dataclasses

import pytest
import torch
from PIL import Image

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.errors import CheckpointDamaged, ConfigChanged, InputError, RunError
from fromnoise.export import payload, to_html

SMALL = {"name": "dit", "width": 16, "depth": 1, "heads": 1, "patch": 4}


def train(data, path, **settings):
    return fn.train(data, steps=3, batch_size=16, out=path, **settings)


def pictures(place, n, mode="L"):
    """Write digits as files, and return their folder."""
    place.mkdir()
    for k, x in enumerate(fn.data.digits(n).x):
        Image.fromarray(x[0].numpy()).convert(mode).save(place / f"{k}.png")
    return place


def test_a_changed_built_in_is_stored_and_not_made_again(tmp_path):
    spiral = fn.data.spiral(100)
    larger = dataclasses.replace(spiral, x=10 * spiral.x)
    train(larger, tmp_path / "replaced")
    assert torch.equal(fn.load(tmp_path / "replaced").source.x, larger.x)
    in_place = fn.data.spiral(100)
    in_place.x.mul_(3)
    train(in_place, tmp_path / "in place")
    assert torch.equal(fn.load(tmp_path / "in place").source.x, in_place.x)
    train(spiral, tmp_path / "as made")
    assert not (tmp_path / "as made" / "data.safetensors").exists()
    with pytest.raises(ConfigChanged, match="data"):
        train(larger, tmp_path / "as made", resume=True)


def test_masks_of_conditions_are_kept(tmp_path):
    shapes = fn.data.shapes(60)
    given = {"label": torch.arange(60) % 4 > 0}
    data = fn.Dataset(shapes.x, cond=Cond({"label": shapes.labels}, given), conditioners=shapes.conditioners)
    train(data, tmp_path / "r")
    again = fn.load(tmp_path / "r").source
    assert torch.equal(again.cond.mask("label"), given["label"])
    assert again.identity == data.identity


def test_swapped_labels_are_noticed(tmp_path):
    x, labels = torch.randn(40, 2), torch.arange(40) % 2
    train(fn.Dataset(x, labels, ("a", "b")), tmp_path / "r")
    train(fn.Dataset(x, labels, ("a", "b")), tmp_path / "r", resume=True)
    with pytest.raises(ConfigChanged, match=r"data\.conditions"):
        train(fn.Dataset(x, 1 - labels, ("a", "b")), tmp_path / "r", resume=True)
    other = fn.Dataset(x, 1 - labels, ("a", "b"))
    train(other, tmp_path / "other")
    (tmp_path / "other" / "data.safetensors").replace(tmp_path / "r" / "data.safetensors")
    with pytest.raises(CheckpointDamaged, match="edited"):
        fn.load(tmp_path / "r").source  # noqa: B018


class Own:
    """A user's source that calls itself what a built-in is called, and says nothing else of itself."""

    shape, suggests, conditioners, distribution = (2,), {"recipe": "points"}, (), None

    def __init__(self, x, identity):
        self.x, self.identity, self.name = x, identity, "spiral"

    def __len__(self):
        return len(self.x)

    def read(self, rows):
        return fn.data.Batch(self.x[rows], None)

    def take(self, rows):
        return Own(self.x[rows], self.identity)

    def resident(self, device, budget):
        return self


@pytest.mark.parametrize("identity", [{"name": "spiral", "n": 40, "seed": 0}, {"version": 3}, {}])
def test_a_users_source_is_not_taken_for_a_built_in(tmp_path, identity):
    source = Own(torch.randn(40, 2), identity)
    train(source, tmp_path / "r")
    run = fn.load(tmp_path / "r")
    assert fn.sample(run.denoiser, 3, steps=2).shape == (3, 2)
    with pytest.raises(RunError, match="holds none of its training data, and they were 'spiral': give them by --data"):
        run.source  # noqa: B018
    assert fn.load(tmp_path / "r", data=source).source is source
    with pytest.raises(RunError, match="was trained on other data"):
        fn.load(tmp_path / "r", data=Own(source.x, {"version": 4}))
    train(source, tmp_path / "r", resume=True)


def test_data_that_a_run_does_not_hold_are_given_when_it_is_loaded(tmp_path):
    x, labels = torch.randn(40, 2), ["a", "b"] * 20
    train((x, labels), tmp_path / "r", keep_data=False)
    run = fn.load(tmp_path / "r", data=(x, labels))
    assert torch.equal(run.source.x, x)
    assert run.holds_data
    for other in (2 * x, (x, labels[::-1]), x):
        with pytest.raises(RunError, match=r"other data than 'data': their (samples or labels|conditions) differ"):
            fn.load(tmp_path / "r", data=other)
    with pytest.raises(InputError, match="no such file"):
        fn.load(tmp_path / "r", data="mine.csv")


def test_pictures_that_were_moved_are_found_where_a_user_says(tmp_path):
    place = pictures(tmp_path / "here", 40)
    source = fn.data.open(place, settings={"flip": True, "size": 4})
    train(source, tmp_path / "r", network={**SMALL, "patch": 2})
    there = place.rename(tmp_path / "there")
    assert not fn.load(tmp_path / "r").holds_data
    run = fn.load(tmp_path / "r", data=there)
    assert len(run.source) == 80  # with mirror images, as the run was begun
    assert run.source.shape == (1, 4, 4)
    (there / "3.png").unlink()
    with pytest.raises(RunError, match="was trained on other data than 'there': their samples or labels differ"):
        fn.load(tmp_path / "r", data=there)


@pytest.mark.parametrize("labelled", [False, True])
def test_a_run_without_its_data_is_sampled_exported_and_resumed(tmp_path, labelled):
    x = torch.randn(60, 2, generator=torch.Generator().manual_seed(0)) + 5
    data = fn.Dataset(x, labels=["a", "b"] * 30) if labelled else fn.Dataset(x)
    fn.train(data, steps=2, out=tmp_path / "r", keep_data=False)
    fn.train(data, steps=2, out=tmp_path / "with")
    rows = x[:5].numpy().tobytes()
    assert any(rows in path.read_bytes() for path in (tmp_path / "with").rglob("*") if path.is_file())
    assert not any(rows in path.read_bytes() for path in (tmp_path / "r").rglob("*") if path.is_file())
    run = fn.load(tmp_path / "r")
    assert (run.holds_data, fn.load(tmp_path / "with").holds_data) == (False, True)
    assert fn.sample(run.denoiser, 3, steps=2).shape == (3, 2)
    with pytest.raises(RunError, match="holds none of its training data, and they were 'data': give them by --data"):
        run.source  # noqa: B018
    part = payload([("r", run)])["runs"][0]
    assert (part["points"], part["law"], part["truth"], part["samples_held"]) == (None, None, {}, 0)
    assert part["training"]["floor"] is None
    assert part["network"] is not None
    again = fn.train(data, steps=4, out=tmp_path / "r", resume=True, keep_data=False)
    assert again.step == 4
    assert not fn.load(tmp_path / "r").holds_data
    with pytest.raises(ConfigChanged):
        fn.train(x[:50], steps=6, out=tmp_path / "r", resume=True)


def test_a_page_without_data_holds_none_of_a_run_that_has_them(tmp_path):
    x = torch.randn(60, 2)
    run = fn.train(x, steps=2, out=tmp_path / "r")
    with_data, without = (to_html(run, with_data=each) for each in (True, False))
    assert payload([("r", run)])["runs"][0]["samples_held"] == 60
    held = payload([("r", run)], with_data=False)["runs"][0]
    assert (held["points"], held["law"], held["truth"], held["samples_held"]) == (None, None, {}, 0)
    assert held["training"]["floor"] is not None  # one number, no sample
    assert len(without) < len(with_data)
    built_in = fn.train(fn.data.spiral(3000), steps=2)
    assert payload([("b", built_in)])["runs"][0]["samples_held"] == 3000


def test_data_that_are_given_are_seen_as_the_run_saw_them(tmp_path):
    x = fn.data.digits(40).x
    source = fn.data.open(x, settings={"flip": True})
    train(source, tmp_path / "r", network=SMALL, keep_data=False)
    for given in (x, fn.Dataset(x), source):
        assert len(fn.load(tmp_path / "r", data=given).source) == 80
    with pytest.raises(RunError, match=r"trained on other data than 'data': their data\.from_size differ"):
        fn.load(tmp_path / "r", data=fn.data.open(x, settings={"from_size": 4, "flip": True}))
    train(x, tmp_path / "plain", network=SMALL, keep_data=False)
    with pytest.raises(RunError, match=r"their data\.flip differ"):
        fn.load(tmp_path / "plain", data=source)


def test_labels_of_other_names_are_others(tmp_path):
    x = torch.randn(40, 2)
    train((x, ["cat", "dog"] * 20), tmp_path / "r", keep_data=False)
    with pytest.raises(RunError, match="was trained with the labels 'cat, dog', not 'owl, rat'"):
        fn.load(tmp_path / "r", data=(x, ["owl", "rat"] * 20))


def test_a_built_in_is_given_by_its_name(tmp_path):
    train(fn.data.spiral(90, seed=3), tmp_path / "r")
    assert len(fn.load(tmp_path / "r", data="spiral").source) == 90
    with pytest.raises(RunError, match="other data"):
        fn.load(tmp_path / "r", data="moons")


def test_a_run_in_colour_reads_pictures_that_are_grey_by_content(tmp_path):
    place = pictures(tmp_path / "pictures", 20, "RGB")
    train(fn.data.open(place, settings={"channels": 3}), tmp_path / "r", network=SMALL)
    config = tmp_path / "r" / "config.toml"
    assert "channels = 3\n" in config.read_text()
    config.write_text(config.read_text().replace("channels = 3\n", "", 1))  # as earlier releases kept it
    assert fn.load(tmp_path / "r").source.shape == (3, 8, 8)
    assert fn.load(tmp_path / "r", data=place).source.shape == (3, 8, 8)


def test_captions_that_were_moved_are_told_of(tmp_path):
    place, captions = pictures(tmp_path / "pictures", 20), tmp_path / "said.csv"
    rows = "".join(f"{k}.png,the digit {int(label)}\n" for k, label in enumerate(fn.data.digits(20).labels))
    captions.write_text(f"file_name,text\n{rows}")
    train(fn.data.open(place, settings={"captions": str(captions)}), tmp_path / "r", network=SMALL)
    moved = captions.rename(tmp_path / "moved.csv")
    with pytest.raises(RunError, match=r"said.csv', which is not there: say where they are, fn\.load"):
        fn.load(tmp_path / "r", data=place)
    given = fn.data.open(place, settings={"captions": str(moved)})
    assert fn.load(tmp_path / "r", data=given).source is given
