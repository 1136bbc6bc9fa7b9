"""Captions as conditions: tokens, what a network is told, and guidance by them."""

import pytest
import torch

import fromnoise as fn
from fromnoise.cond import Cond
from fromnoise.errors import InputError, LabelError
from fromnoise.nn import DiT, UNet
from fromnoise.text_cond import Text, Tokens, pieces

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
DIGITS = fn.data.digits(300)
CAPTIONED = fn.data.Dataset(DIGITS.x).captioned([f"the digit {NAMES[k]}" for k in DIGITS.labels.tolist()])

NETWORKS = {
    "unet": lambda text: UNet((1, 8, 8), (16, 32), text=text, text_width=32),
    "dit, across": lambda text: DiT((1, 8, 8), 32, 2, text=text),
    "dit, jointly": lambda text: DiT((1, 8, 8), 32, 2, text=text, text_by="joint"),
}


def test_words_of_the_vocabulary_are_one_token_and_others_are_spelled():
    text = Text.fitted(["a red heart", "a red car", "A blue heart!"])
    assert set(text.words) == {"a", "red", "heart"}
    assert len(text.tokens("a red heart")) == 3
    assert text.tokens("blue") == [1 + byte for byte in b"blue"]
    assert text.tokens("RED") == text.tokens("red")
    assert text.said(text.read("a blue heart")) == "a blue heart"
    assert text.length == 16
    assert Text.fitted(["a " * 30]).length == 30


def test_what_is_too_long_is_cut_and_said():
    text = Text(length=3, words=("a", "red", "heart"))
    with pytest.warns(UserWarning, match="a caption is longer than 3 tokens"):
        row = text.read("a red heart a")
    assert torch.equal(row, text.read("a red heart"))
    with pytest.warns(UserWarning, match="2 captions are longer"):
        text.read(["a a a a", "red", "red red red red"])


def test_nothing_is_unknown():
    text = Text(length=40)
    for caption in ("naïve café", "日本語", "🙂 ok", "x_1, y!"):
        row = text.read(caption)
        assert row.dtype == torch.int64
        assert row.shape == (40,)
        assert text.said(row).replace(" ", "") == "".join(pieces(caption))
        text.check(row[None])


@pytest.mark.parametrize("words", ["", "   ", [], ["a", ""], 3, None, ["a", 3]])
@pytest.mark.unchecked
def test_what_is_no_caption_is_refused(words):
    with pytest.raises(LabelError):
        Text().read(words)


def test_captions_of_data_are_checked():
    for captions, says in (
        (["a"] * 299, "299 captions"),
        ([""] * 300, "every caption is empty"),
        ("a", "a list of texts"),
    ):
        with pytest.raises(LabelError, match=says):
            fn.data.Dataset(DIGITS.x).captioned(captions)
    some = fn.data.Dataset(DIGITS.x).captioned(["a digit"] * 299 + [""])
    assert some.cond.given["text"].tolist() == [True] * 299 + [False]


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_fills_up_a_text_changes_no_bit(kind):
    network = NETWORKS[kind]((50, 6)).eval()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x, ids = torch.randn(3, 1, 8, 8), torch.tensor([[5, 9, 0, 0, 0, 0], [7, 0, 0, 0, 0, 0], [1, 2, 3, 4, 5, 6]])
    with torch.no_grad():
        before = network(x, 0.5, Cond({"text": ids}))
        network.texts.table.weight[0] = 1000.0
        assert torch.equal(network(x, 0.5, Cond({"text": ids})), before)
        other = network(x, 0.5, Cond({"text": ids.flip(0)}))
    assert not torch.allclose(other, before, atol=1e-3)


@pytest.mark.parametrize("kind", NETWORKS)
def test_no_caption_is_no_condition_and_one_row_is_all_rows(kind):
    network = NETWORKS[kind]((50, 6)).eval()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x, row = torch.randn(3, 1, 8, 8), torch.tensor([[5, 9, 0, 0, 0, 0]])
    with torch.no_grad():
        none = network(x, 0.5)
        absent = network(x, 0.5, Cond({"text": row.expand(3, -1)}, {"text": torch.zeros(3, dtype=torch.bool)}))
        torch.testing.assert_close(absent, none, atol=1e-5, rtol=1e-5)
        one, each = network(x, 0.5, Cond({"text": row})), network(x, 0.5, Cond({"text": row.expand(3, -1)}))
        torch.testing.assert_close(one, each, atol=1e-5, rtol=1e-5)
        mixed = network(x, 0.5, Cond({"text": row.expand(3, -1)}, {"text": torch.tensor([True, False, True])}))
        torch.testing.assert_close(mixed[1], none[1], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(mixed[::2], one[::2], atol=1e-5, rtol=1e-5)


SMALL = {"name": "unet", "widths": [16, 32], "text_width": 32}


@pytest.mark.parametrize("network", [SMALL, {"name": "dit", "width": 32, "depth": 2, "text_by": "joint"}])
def test_guidance_at_1_is_the_conditional_model_and_a_negative_prompt_moves_away(network):
    run = fn.train(CAPTIONED, network=network, steps=10, seed=0)
    d, x = run.denoiser, torch.randn(4, 1, 8, 8)
    cond = d.read("the digit three", 4)
    assert torch.equal(fn.Guided(d, 1.0)(x, 0.5, cond), d(x, 0.5, cond))
    away = fn.Guided(d, 3.0, negative="the digit two")(x, 0.5, cond)
    two, three = d(x, 0.5, d.read("the digit two", 4)), d(x, 0.5, cond)
    torch.testing.assert_close(away, two + 3 * (three - two), atol=1e-4, rtol=1e-4)
    with pytest.raises(LabelError, match="a caption is"):
        d.read(["the digit three", ""], 2)


@pytest.mark.slow
def test_a_caption_is_heard():
    run = fn.train(CAPTIONED, network={"name": "unet", "widths": [32, 64]}, steps=250, seed=0)
    d = fn.Guided(run.denoiser, 2.0)
    zeros, ones = (fn.sample(d, 40, cond=f"the digit {name}", steps=8, seed=1).float() for name in ("zero", "one"))
    own = DIGITS.x.float()
    mean = [own[DIGITS.labels == k].mean(0) for k in (0, 1)]
    for x, right, wrong in ((zeros, 0, 1), (ones, 1, 0)):
        near = (x - mean[right]).square().mean((1, 2, 3)) < (x - mean[wrong]).square().mean((1, 2, 3))
        assert near.float().mean() > 0.9


def test_a_run_keeps_its_words(tmp_path):
    run = fn.train(CAPTIONED, network=SMALL, steps=5, out=tmp_path / "r", seed=0)
    again = fn.load(tmp_path / "r")
    assert again.denoiser.conditioners == run.denoiser.conditioners
    assert again.source.cond.values["text"].equal(CAPTIONED.cond.values["text"])
    whole = fn.sample(run.denoiser, 8, cond="the digit one", steps=3, seed=0)
    assert fn.equal(fn.sample(again.denoiser, 8, cond="the digit one", steps=3, seed=0), whole)


def test_a_label_and_a_caption_are_given_together_or_alone():
    both = DIGITS.captioned([f"the digit {NAMES[k]}" for k in DIGITS.labels.tolist()])
    d = fn.train(both, network=SMALL, steps=5, seed=0).denoiser
    for cond in ({"label": "3"}, "the digit three", {"label": "3", "text": "the digit three"}):
        assert fn.sample(d, 2, cond=cond, steps=2).shape == (2, 1, 8, 8)


def test_another_vocabulary_does_not_fit():
    network = UNet((1, 8, 8), (16, 32), text=(50, 6))
    assert fn.Denoiser(network, fn.EDM(), "edm").conditioners == (Tokens(50, 6),)
    with pytest.raises(LabelError, match="the network knows 50 tokens, 6 a text, and the data have captions of"):
        fn.train(CAPTIONED, network=network, steps=1)
    with pytest.raises(LabelError, match="no captions"):
        fn.train(DIGITS, network=network, steps=1)
    with pytest.raises(LabelError, match="another vocabulary"):
        Text(length=2).check(torch.tensor([[1, 999]]))


def test_points_have_no_captions():
    with pytest.raises(InputError, match="takes no text"):
        fn.train(fn.data.Dataset(torch.randn(20, 2)).captioned(["a"] * 20), steps=1)
