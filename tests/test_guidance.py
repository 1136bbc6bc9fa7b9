import math

import pytest
import torch

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.denoiser_like import Wrapper
from fromnoise.errors import InputError, LabelError

SHAPES = fn.data.labelled(spiral=fn.data.spiral(60), circles=fn.data.circles(60), moons=fn.data.moons(60))
SCHEDULE = fn.CosineBeta()


class Watched(Wrapper):
    """A denoiser that keeps the numbers of rows that it was asked for: of x_t, and of the condition."""

    def __init__(self, base):
        super().__init__(base)
        self.asked = []

    def __call__(self, x_t, t, cond=None):
        cond = self.read(cond, len(x_t))
        self.asked.append((len(x_t), None if cond is None else len(cond)))
        return self.base(x_t, t, cond)

    def on(self, schedule):
        return Watched(self.base.on(schedule))


def exact():
    return fn.GaussianMixture(SHAPES.x.double(), 0.1, labels=SHAPES.labels, label_names=SHAPES.label_names).denoiser(
        SCHEDULE
    )


def network():
    torch.manual_seed(0)
    return fn.Denoiser(fn.nn.MLP(2, 32, classes=3), SCHEDULE, "v", label_names=SHAPES.label_names).requires_grad_(False)


def one_number():
    return fn.FiniteSet(torch.randn(9, 1), labels=torch.arange(9) % 2).denoiser(SCHEDULE)


def points(n=50):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("base", [exact, network], ids=["exact", "network"])
@pytest.mark.parametrize("cond", [torch.tensor(1), torch.arange(50) % 3], ids=["one label", "one each"])
def test_scale_one_is_the_conditional_model_bit_for_bit_in_one_evaluation(base, cond):
    watched, x = Watched(base()), points()
    assert torch.equal(fn.Guided(watched, 1.0)(x, 0.4, cond), base()(x, 0.4, cond))
    assert watched.asked == [(50, max(cond.numel(), 1))]
    a = fn.sample(fn.Guided(base(), 1.0), 20, cond="moons", steps=5)
    assert torch.equal(a, fn.sample(base(), 20, cond="moons", steps=5))


def test_scale_zero_is_the_unconditional_model_in_one_evaluation():
    watched, x = Watched(network()), points()
    assert torch.equal(fn.Guided(watched, 0.0)(x, 0.4, torch.tensor(1)), network()(x, 0.4))
    assert watched.asked == [(50, 1)]  # one row that says: no condition


@pytest.mark.parametrize("base", [exact, network], ids=["exact", "network"])
@pytest.mark.parametrize("t", [0.4, torch.tensor(0.4), torch.linspace(0.1, 0.9, 50)], ids=["float", "[]", "[B]"])
def test_other_scales_are_the_formula_in_one_batch_of_twice_the_rows(base, t):
    plain, watched, x, cond = base(), Watched(base()), points(), torch.arange(50) % 3
    for scale in (-1.0, 0.5, 3.0):
        watched.asked.clear()
        without, with_cond = plain(x, t), plain(x, t, cond)
        expected = without + scale * (with_cond - without)
        torch.testing.assert_close(fn.Guided(watched, scale)(x, t, cond), expected, rtol=1e-4, atol=1e-4)
        assert watched.asked == [(100, 100)]


def test_guiding_x0_is_guiding_eps():
    plain, x, cond, scale = exact(), points().double(), torch.tensor(2), 2.5
    alpha, sigma = SCHEDULE.scales(0.3)

    def eps(x0_hat):
        return (x - alpha * x0_hat) / sigma

    guided_eps = eps(plain(x, 0.3)) + scale * (eps(plain(x, 0.3, cond)) - eps(plain(x, 0.3)))
    torch.testing.assert_close(eps(fn.Guided(plain, scale)(x, 0.3, cond)), guided_eps)


def test_a_negative_label_takes_the_place_of_none():
    plain, x = exact(), points().double()
    moons, circles = plain(x, 0.5, torch.tensor(2)), plain(x, 0.5, torch.tensor(1))
    away = fn.Guided(plain, 2.0, negative="circles")
    torch.testing.assert_close(away(x, 0.5, torch.tensor(2)), circles + 2 * (moons - circles))
    torch.testing.assert_close(fn.Guided(plain, 0.0, negative="circles")(x, 0.5, torch.tensor(2)), circles)


def test_outside_the_interval_it_is_the_conditional_model():
    plain, x, cond = exact(), points().double(), torch.tensor(0)
    limited, full = fn.Guided(plain, 4.0, interval=(0.2, 1.0)), fn.Guided(plain, 4.0)
    for level, inside in ((0.1, False), (0.5, True), (3.0, False)):
        t = float(SCHEDULE.time_of_level(level))
        assert torch.equal(limited(x, t, cond), (full if inside else plain)(x, t, cond))
    each = torch.tensor([float(SCHEDULE.time_of_level(level)) for level in (0.1, 0.5)]).repeat(25).double()
    torch.testing.assert_close(limited(x, each, cond)[1::2], full(x[1::2], each[1::2], cond), rtol=1e-9, atol=1e-9)


def test_rescaling_puts_the_standard_deviation_back():
    torch.manual_seed(0)
    data = fn.Dataset(torch.randn(40, 3, 4, 4), labels=torch.arange(40) % 2, label_names=("a", "b"))
    plain = fn.FiniteSet(data.x.double(), data.labels, data.label_names).denoiser(SCHEDULE)
    x, cond = torch.randn(5, 3, 4, 4).double(), torch.tensor(1)
    full, part = (fn.Guided(plain, 5.0, rescale=r)(x, 0.9, cond) for r in (1.0, 0.0))
    std = plain(x, 0.9, cond).std((1, 2, 3))
    torch.testing.assert_close(full.std((1, 2, 3)), std)
    half = fn.Guided(plain, 5.0, rescale=0.5)(x, 0.9, cond)
    torch.testing.assert_close(half, (full + part) / 2)


def test_guidance_tightens_samples_of_an_exact_model():
    law = exact().law
    right = []
    for scale in (0.0, 1.0, 4.0):
        x = fn.sample(fn.Guided(exact(), scale), 600, cond="moons", steps=30, dtype=torch.float64)
        right.append(float((law.label_probs(x).argmax(1) == 2).double().mean()))
    assert right[0] < right[1] <= right[2]
    assert right[0] < 0.6
    assert right[2] > 0.97


def test_condition_vectors_are_guided_against_none():
    torch.manual_seed(0)
    plain = fn.Denoiser(fn.nn.MLP(2, 16, cond_dim=5), SCHEDULE, "v").requires_grad_(False)
    x, cond = points(), torch.randn(5)
    without, with_cond = plain(x, 0.5), plain(x, 0.5, cond)
    torch.testing.assert_close(fn.Guided(plain, 3.0)(x, 0.5, cond), without + 3 * (with_cond - without))


def test_a_guided_model_moves_to_another_path_and_back():
    base = fn.FiniteSet(SHAPES.x.double(), SHAPES.labels, SHAPES.label_names).denoiser(fn.EDM())
    guided = fn.Guided(base, 3.0, interval=(0.1, 2.0), negative="moons")
    there = guided.on(fn.RectifiedFlow())
    x, t = points().double(), 0.4
    level = fn.RectifiedFlow().noise_level(t)
    own = float(fn.EDM().time_of_level(level))
    a = there(x, t, torch.tensor(0))
    torch.testing.assert_close(a, guided(x / fn.RectifiedFlow().alpha(t), own, torch.tensor(0)), rtol=1e-6, atol=1e-6)
    assert guided.on(fn.EDM()) is guided


def test_autoguidance_goes_past_the_good_model_from_the_weak_one():
    good, weak = (
        exact(),
        fn.GaussianMixture(SHAPES.x.double(), 0.5, labels=SHAPES.labels, label_names=SHAPES.label_names).denoiser(
            SCHEDULE
        ),
    )
    x = points().double()
    expected = weak(x, 0.5) + 2 * (good(x, 0.5) - weak(x, 0.5))
    torch.testing.assert_close(fn.AutoGuided(good, weak, 2.0)(x, 0.5), expected)
    assert torch.equal(fn.AutoGuided(good, weak, 1.0)(x, 0.5), good(x, 0.5))
    limited = fn.AutoGuided(good, weak, 2.0, interval=(0.0, 1e-3))
    assert torch.equal(limited(x, 0.5), good(x, 0.5))


@pytest.mark.slow
@pytest.mark.unchecked
def test_inpainting_keeps_what_is_known_and_completes_it_on_the_data():
    spiral = fn.data.spiral(2000)
    denoiser = fn.GaussianMixture(spiral.x.double(), 0.02).denoiser(fn.EDM())
    near = spiral.x[(spiral.x[:, 0] - 0.5).abs() < 0.05, 1].double()
    off = {}
    for times in (1, 20):
        x = fn.sample(
            fn.Inpainted(denoiser, [0.5, 0.0], [True, False]), 400, sampler=fn.RePaint(times), steps=50,
            dtype=torch.float64,
        )  # fmt: skip
        assert torch.allclose(x[:, 0], torch.tensor(0.5).double(), atol=1e-6)
        off[times] = float(((x[:, 1:] - near).abs().amin(1) > 0.1).double().mean())  # between the arms
    assert off[20] < 0.03
    assert off[1] > 0.2
    assert len(torch.unique((x[:, 1] * 2).round())) >= 4  # on every arm that crosses x = 0.5


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: fn.Guided(fn.FiniteSet(SHAPES.x).denoiser(SCHEDULE), 2.0), InputError, "without labels"),
        (lambda: fn.Guided(exact(), math.nan), InputError, "finite"),
        (lambda: fn.Guided(exact(), 2.0, negative="stars"), LabelError, "stars"),
        (lambda: fn.Guided(exact(), 2.0, rescale=2), InputError, "rescale"),
        (lambda: fn.Guided(exact(), 2.0, interval=(2, 1)), InputError, "interval"),
        (lambda: fn.AutoGuided(exact(), fn.FiniteSet(SHAPES.x).denoiser(SCHEDULE), 2.0), InputError, "labels"),
        (lambda: fn.Guided(one_number(), 2.0, rescale=0.5), InputError, "single one"),
        (lambda: fn.Guided(exact(), torch.ones(3, 1)), InputError, "one for each"),
        (lambda: fn.Inpainted(exact(), [0.0], [True]), InputError, "shape"),
        (lambda: fn.Inpainted(exact(), torch.zeros(3, 2), torch.ones(4, 2) > 0), InputError, "same shape"),
        (lambda: fn.Inpainted(exact(), [0.0, 0.0], [True, True]), InputError, "mask"),
        (lambda: fn.Inpainted(exact(), [math.nan, 0.0], [True, False]), InputError, "NaN"),
    ],
)
def test_wrong_settings_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize("base", [exact, network], ids=["exact", "network"])
def test_each_sample_may_move_away_from_a_condition_of_its_own(base):
    denoiser, names = base(), [("circles", "moons", "spiral")[k % 3] for k in range(100)]

    def drawn(negative, n=100):
        return fn.sample(fn.Guided(denoiser, 2.0, negative=negative), n, steps=4, cond="spiral", seed=1)

    together = drawn(names)
    for name in set(names):
        own = torch.tensor([one == name for one in names])
        torch.testing.assert_close(together[own], drawn(name)[own])
    assert torch.equal(drawn(torch.tensor([denoiser.label_names.index(name) for name in names])), together)
    with pytest.raises(InputError, match="100 negative conditions were given for more samples"):
        drawn(names, 101)
    with pytest.raises(InputError, match="100 negative conditions were given for 4 samples"):
        fn.Guided(denoiser, 2.0, negative=names)(points(4), 0.5, "spiral")
    with pytest.raises(InputError, match="negative holds no condition"):
        fn.Guided(denoiser, 2.0, negative=[])


def test_what_is_kept_is_kept_at_every_scale_and_beside_a_negative_condition():
    asked = []

    class Listening(Wrapper):
        def __call__(self, x_t, t, cond=None):
            asked.append(cond)
            return self.base(x_t, t, cond.only(["label"]))

        def on(self, schedule):
            raise NotImplementedError

    cond = Cond({"label": torch.tensor([1])}).told(scale=torch.tensor([[2.5]]))
    for guided in (fn.Guided(Listening(network()), 0.0), fn.Guided(Listening(network()), 3.0, negative="circles")):
        guided(points(), 0.5, cond)
        asked_for = asked.pop()
        assert asked_for.values["scale"].unique().tolist() == [2.5]
        assert asked_for.mask("scale") is None or bool(asked_for.mask("scale").all())
    only = Cond({}).told(scale=torch.tensor([[2.5]]))
    assert only.is_kept
    assert not cond.is_kept


def test_every_sample_is_completed_from_its_own_known_part_and_has_its_own_scale():
    denoiser, mask = network(), torch.tensor([True, False])
    known = torch.randn(1000, 2, generator=torch.Generator().manual_seed(3))
    for n in (5, 304, 1000):
        for sampler in (fn.DDIM(), fn.DDPM(), fn.Heun(), fn.UniPC(), fn.RePaint(2)):
            x = fn.sample(fn.Inpainted(denoiser, known[:n], mask), n, sampler=sampler, steps=3)
            torch.testing.assert_close(x[:, 0], known[:n, 0], rtol=1e-5, atol=1e-5)
    few, all_of_them = (fn.sample(fn.Inpainted(denoiser, known[:n], mask), n, steps=5) for n in (7, 1000))
    assert torch.equal(few, all_of_them[:7])
    masks = torch.arange(20)[:, None] % 2 == torch.arange(2)  # the other coordinate in every second row
    x = fn.sample(fn.Guided(fn.Inpainted(denoiser, known[:20], masks), 2.0), 20, cond="moons", steps=4)
    torch.testing.assert_close(x[masks], known[:20][masks], rtol=1e-5, atol=1e-5)
    way = fn.trajectory(fn.Inpainted(denoiser, known[:20], masks), 20, steps=4)
    torch.testing.assert_close(way.x[-1][masks], known[:20][masks], rtol=1e-5, atol=1e-5)
    scales = torch.tensor([1.0, 1.0, 3.0] * 200)
    mixed = fn.sample(fn.Guided(denoiser, scales), 600, cond="spiral", steps=4)
    for scale in (1.0, 3.0):
        alike = fn.sample(fn.Guided(denoiser, scale), 600, cond="spiral", steps=4)
        torch.testing.assert_close(mixed[scales == scale], alike[scales == scale], rtol=1e-4, atol=1e-4)
    with pytest.raises(InputError, match="5 known samples were given"):
        fn.sample(fn.Inpainted(denoiser, known[:5], mask), 6)
    with pytest.raises(InputError, match="5 scales were given"):
        fn.sample(fn.Guided(denoiser, scales[:5]), 6, cond=0)


def test_a_known_part_goes_through_the_codec_and_onto_another_path():
    codec = fn.data.Affine.given(torch.tensor([10.0, -3.0]), torch.tensor([2.0, 0.5]))
    denoiser = fn.Denoiser(fn.nn.MLP(2, 32), fn.VP(), "v", codec=codec).requires_grad_(False)
    known = fn.Inpainted(denoiser, [math.nan, -2.5], [False, True])
    for made in (known, known.on(fn.EDM()), known.on(fn.EDM()).on(fn.VP())):
        torch.testing.assert_close(fn.sample(made, 50, sampler="ddim", steps=5)[:, 1], torch.full((50,), -2.5))


def test_a_model_that_always_had_its_condition_has_no_answer_without(tmp_path):
    data = fn.data.shapes(300)
    denoiser = fn.Denoiser(fn.nn.MLP(dim=2, hidden=16, depth=1, classes=3), fn.VP(), "v")
    *_, last = fn.fit(denoiser, data, fn.TrainConfig(steps=5, drop_cond=0.0), out=tmp_path / "r")
    for model in (last.run.denoiser, fn.load(tmp_path / "r").denoiser):
        with pytest.raises(LabelError, match="drop_cond"):
            fn.sample(model, 5, steps=2)
        with pytest.raises(InputError, match="drop_cond"):
            fn.Guided(model, 3.0)
        assert fn.sample(model, 5, steps=2, cond="moons").shape == (5, 2)
        assert fn.sample(fn.Guided(model, 3.0, negative="spiral"), 5, steps=2, cond="moons").shape == (5, 2)
        assert fn.sample(fn.Guided(model, 1.0), 5, steps=2, cond="moons").shape == (5, 2)
    dropping = fn.train(data, steps=5).denoiser
    assert fn.sample(fn.Guided(dropping, 3.0), 5, steps=2, cond="moons").shape == (5, 2)
    assert fn.sample(dropping, 5, steps=2).shape == (5, 2)


# -- by a classifier --


def mixture(part=None):
    data = SHAPES if part is None else SHAPES.only(part)
    return fn.GaussianMixture(data.x.double(), 0.1)


def exact_classifier(x_t, t):
    """log p(x_t | label) of equally many points a label."""
    t = float(t) if not isinstance(t, torch.Tensor) or t.dim() == 0 else t
    laws = [mixture(k).noised(SCHEDULE, t) for k in range(3)]
    return torch.stack([law.log_prob(x_t) for law in laws], dim=1)


@pytest.mark.parametrize("t", [0.05, 0.3, 0.7, 0.95])
def test_an_exact_classifier_turns_the_exact_denoiser_into_the_one_under_the_label(t):
    plain, under = mixture().denoiser(SCHEDULE), exact()
    x_t = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)).double()
    for label in range(3):
        guided = fn.ClassifierGuided(plain, exact_classifier, label)
        torch.testing.assert_close(guided(x_t, t), under(x_t, t, SHAPES.label_names[label]), rtol=1e-6, atol=1e-6)


def test_it_samples_the_label_asked_for_and_each_sample_its_own():
    plain = mixture().denoiser(SCHEDULE)
    labels = torch.tensor([0, 1, 2] * 20)
    x = fn.sample(fn.ClassifierGuided(plain, exact_classifier, labels), 60, steps=20, dtype=torch.float64)
    expected = fn.sample(exact(), 60, steps=20, dtype=torch.float64, cond=labels)
    assert float((x - expected).norm(dim=1).median()) < 1e-6
    assert float((x - expected).norm(dim=1).max()) < 1e-2
    assert torch.equal(
        fn.sample(fn.ClassifierGuided(plain, exact_classifier, 1, 0.0), 5, steps=4), fn.sample(plain, 5, steps=4)
    )


def test_what_a_classifier_cannot_do_is_refused():
    plain = mixture().denoiser(SCHEDULE)
    for label, scale in ((-1, 1.0), (0, math.nan), ([[0]], 1.0)):
        with pytest.raises(InputError):
            fn.ClassifierGuided(plain, exact_classifier, label, scale)
    x_t = torch.randn(3, 2).double()
    with pytest.raises(InputError, match="one logit a label"):
        fn.ClassifierGuided(plain, exact_classifier, 3)(x_t, 0.5)
    with pytest.raises(InputError, match="its own path"):
        fn.ClassifierGuided(plain, exact_classifier, 0).on(fn.EDM())
    with pytest.raises(InputError, match="a name or a whole number"):
        fn.ClassifierGuided(plain, exact_classifier, 1.7)
    with pytest.raises(LabelError, match="unknown label 'star'"):
        fn.ClassifierGuided(exact(), exact_classifier, "star")


def test_a_classifier_goes_towards_labels_by_name():
    x_t, names = torch.randn(3, 2).double(), SHAPES.label_names
    for named, number in ((names[1], 1), ([names[2], names[0], names[1]], [2, 0, 1])):
        by_name, by_number = (fn.ClassifierGuided(exact(), exact_classifier, label) for label in (named, number))
        assert torch.equal(by_name(x_t, 0.5), by_number(x_t, 0.5))


# -- clipped --


def test_a_clipped_answer_lies_in_the_range_and_is_else_unchanged():
    base = fn.FiniteSet(torch.tensor([[-3.0, 0.5], [2.0, 0.1]])).denoiser(fn.EDM())
    x_t = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    clipped = fn.Clipped(base, -1, 1)
    answer, plain = clipped(x_t, 0.3), base(x_t, 0.3)
    torch.testing.assert_close(answer, plain.clamp(-1, 1))
    wide = fn.Clipped(base, -5, 5)
    assert torch.equal(wide(x_t, 0.3), plain)
    torch.testing.assert_close(fn.Clipped(base, -5, 5, percentile=0.9)(x_t, 0.3), plain)
    assert fn.sample(clipped, 10, sampler=fn.DDIM(), steps=5).abs().max() <= 1


def test_the_range_is_in_the_datas_units():
    data = fn.data.digits(n=40)
    codec = fn.data.Pixels().fitted(data)
    base = fn.FiniteSet(data).denoiser(fn.EDM(), codec)
    z = 30 * torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    clipped = fn.Clipped(base)
    levels = codec.levels(clipped.clip(z))
    assert float(levels.min()) == pytest.approx(0, abs=1e-3)
    assert float(levels.max()) == pytest.approx(255, abs=1e-3)


def test_a_percentile_scales_back_what_oversteps():
    base = fn.FiniteSet(torch.zeros(2, 4)).denoiser(fn.EDM())
    clipped = fn.Clipped(base, -1, 1, percentile=0.75)
    answer = clipped.clip(torch.tensor([[0.5, -2.0, 4.0, 1.0], [0.1, 0.2, -0.3, 0.9]]))
    s = torch.tensor([0.5, 2.0, 4.0, 1.0]).quantile(0.75)
    torch.testing.assert_close(answer[0], torch.tensor([0.5, -2.0, 4.0, 1.0]).clamp(-s, s) / s)
    torch.testing.assert_close(answer[1], torch.tensor([0.1, 0.2, -0.3, 0.9]))


def test_ranges_that_are_none_are_refused():
    base = fn.FiniteSet(torch.zeros(2, 4)).denoiser(fn.EDM())
    for settings in ({"low": 1, "high": 1}, {"percentile": 0.0}, {"percentile": 1.5}):
        with pytest.raises(InputError):
            fn.Clipped(base, **settings)


def test_the_range_of_pictures_of_floats_is_what_was_found_in_them():
    x = torch.randn(60, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 40 + 1000
    run = fn.train(x, steps=1, batch_size=8, network={"name": "unet", "widths": (8,)})
    codec, clipped = run.denoiser.codec, fn.Clipped(run.denoiser)
    for end, found in zip((clipped.low, clipped.high), codec.ends, strict=True):
        torch.testing.assert_close(codec.out(end), torch.full((1, 1, 8, 8), found))
    assert codec.ends == pytest.approx((900, 1100), abs=20)


def test_a_dark_known_part_of_bytes_is_kept():
    run = fn.train("digits", steps=1, batch_size=8, network={"name": "unet", "widths": (8,)})
    known, mask = torch.zeros(1, 8, 8, dtype=torch.uint8), torch.zeros(1, 8, 8, dtype=torch.bool)
    known[0, 0, 0], mask[0, 0] = 1, True
    made = fn.sample(fn.Inpainted(run.denoiser, known, mask), n=2, steps=2)
    assert torch.equal(made[:, 0, 0], known[:, 0].expand(2, -1))
    with pytest.raises(InputError, match="give 255"):
        fn.Inpainted(run.denoiser, torch.full((1, 8, 8), 0.5), mask)
