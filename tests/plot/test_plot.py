import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import fromnoise as fn
from fromnoise import plot
from fromnoise.data.ends import ends_of
from fromnoise.errors import InputError


def test_a_scatter_shows_labels_and_legend(tmp_path):
    figure = fn.plot.scatter(fn.data.shapes(90), title="shapes")
    assert isinstance(figure, Figure)
    axes = figure.axes[0]
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["spiral", "circles", "moons"]
    assert len({tuple(c) for c in axes.collections[0].get_facecolors()}) == 3
    figure.savefig(tmp_path / "s.png")
    with Image.open(tmp_path / "s.png") as image:
        assert image.size[0] > 300


def test_side_by_side_shares_one_frame():
    figure = fn.plot.side_by_side({"a": torch.randn(50, 2), "b": torch.randn(50, 2) * 9}, captions=["", "wide"])
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    assert figure.axes[1].get_xlabel() == "wide"


def test_the_dissolve_strip_spreads_as_sigma_says():
    x0, eps = fn.data.spiral(500).x, torch.randn(500, 2)
    times = [0.0, 0.5, 1.0]
    schedule = fn.CosineBeta()
    alphas, sigmas = zip(*(schedule.scales(t) for t in times), strict=True)
    figure = fn.plot.dissolve(x0, alphas, sigmas, times, eps)
    for axes, a, s in zip(figure.axes, alphas, sigmas, strict=True):
        drawn = torch.as_tensor(axes.collections[0].get_offsets().data).float()
        torch.testing.assert_close(drawn, a * x0 + s * eps, rtol=1e-4, atol=1e-4)


def test_a_trajectory_is_an_animation(tmp_path):
    way = fn.trajectory(fn.FiniteSet(fn.data.moons(50).x).denoiser(fn.VP()), 60, steps=12)
    path = fn.plot.animate_trajectory(way.x, way.times, [1.0] * 13, tmp_path / "t.gif", frames=8)
    with Image.open(path) as image:
        assert image.n_frames == 8
        first = image.convert("RGB").tobytes()
        image.seek(7)
        assert image.convert("RGB").tobytes() != first


def test_the_picture_does_not_jump_from_frame_to_frame(tmp_path):
    still = np.repeat(fn.data.moons(50).x.numpy()[None], 12, axis=0)
    times = [1.0, *np.linspace(0.97, 0, 11)]
    path = fn.plot.animate_trajectory(still, times, [1.0] * 12, tmp_path / "t.gif", title="moons")
    with Image.open(path) as image:
        shown = []
        for k in range(image.n_frames):
            image.seek(k)
            shown.append(np.asarray(image.convert("RGB"))[:370])  # above the time that is written below
    assert all(np.array_equal(shown[0], other) for other in shown[1:])


def test_a_figure_is_a_picture_in_a_notebook():
    for figure in (fn.plot.scatter(fn.data.moons(50)), fn.plot.schedules({"vp": ([0.1, 1.0], [0.9, 0.1], [0.1, 0.9])})):
        assert figure._repr_png_().startswith(b"\x89PNG")


def test_the_loss_is_drawn_above_its_floor():
    figure = fn.plot.loss(range(10, 200, 10), [1 / k + 0.5 for k in range(1, 20)], floor=0.5, what="all 300 samples")
    labels = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert labels == ["training loss", "floor: all 300 samples"]


def test_schedules_are_drawn_with_their_scales():
    t = torch.linspace(0.01, 1, 50)
    figure = fn.plot.schedules({n: (t, *s.scales(t)) for n, s in {"linear": fn.LinearBeta(), "edm": fn.EDM()}.items()})
    assert len(figure.axes) == 2
    assert [x.get_text() for x in figure.axes[0].get_legend().get_texts()] == ["linear", "edm"]


def test_one_coordinate_cannot_be_scattered(tmp_path):
    with pytest.raises(InputError, match="two coordinates"):
        fn.plot.scatter(torch.randn(5, 1))
    with pytest.raises(InputError, match=r"a trajectory of two coordinates or more, not of shape .1."):
        fn.plot.animate_trajectory(torch.randn(4, 5, 1), [1.0, 0.6, 0.3, 0.0], [1.0] * 4, tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())


def test_the_callers_matplotlib_is_left_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    fn.plot.scatter(torch.randn(5, 2))
    assert dict(mpl.rcParams) == before


def test_points_that_are_not_finite_are_refused(tmp_path):
    bad = np.zeros((20, 2))
    bad[3, 1] = np.nan
    with pytest.raises(InputError, match="1 of 20 points are not finite"):
        fn.plot.scatter(bad)
    with pytest.raises(InputError, match="1 of 40 points are not finite"):
        fn.plot.animate_trajectory(np.stack([bad, np.zeros((20, 2))]), [1.0, 0.0], [1.0, 1.0], tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())


def test_floats_are_drawn_in_the_range_that_they_are_of():
    noise = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    sparse = torch.zeros(400, 1, 8, 8)
    sparse[:3, 0, 0, 0] = torch.tensor([0.66, 0.31, 0.09])
    for x, ends in (
        (noise, (0, 1)), (2.1 * noise - 1.05, (-1, 1)), (255 * noise, (0, 255)), (sparse, (0, 1)),
        (torch.full((2, 1, 8, 8), 0.5), (0, 1)),
    ):  # fmt: skip
        assert ends_of(x) == ends
    low, high = ends_of(5 * noise - 2)  # standardised: neither of the usual
    assert low == pytest.approx(-2, abs=0.1)
    assert high == pytest.approx(3, abs=0.1)


def test_rows_of_floats_in_one_figure_have_one_range():
    rows = {"whole": torch.rand(5, 1, 8, 8) * 5 - 2, "faint": torch.full((5, 1, 8, 8), 0.5)}
    each = fn.plot.pictures(rows).axes[0].images
    assert np.asarray(each[-1].get_array()).mean() == pytest.approx(127, abs=12)  # halfway between -2 and 3


@pytest.mark.parametrize(
    ("x", "settings", "says"),
    [
        (np.zeros((0, 1, 8, 8), np.uint8), {}, "one picture at least"),
        (np.zeros((2, 8, 8, 3), np.uint8), {}, "channels last"),
        (np.zeros((2, 8, 8), np.uint8), {}, "pictures are"),
        (np.zeros((2, 1, 8, 8), np.uint8), {"columns": 0}, "columns"),
        (np.zeros((2, 1, 8, 8), np.uint8), {"captions": ["a"]}, "1 captions were given for 2 pictures"),
    ],
)
def test_a_contact_sheet_of_what_is_none_is_refused(x, settings, says):
    with pytest.raises(InputError, match=says):
        plot.contact_sheet(x, **settings)
