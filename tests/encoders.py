"""Text encoders of random weights, as folders that `transformers` wrote."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from fromnoise import text_features
from fromnoise.text_encoder import opened

_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CAPTIONS = [f"the digit {name}" for name in _NAMES]
WIDTH = 16


def forget() -> None:
    """Forget what was encoded and opened, as another process would not know it."""
    text_features._KNOWN.clear()
    opened.cache_clear()


def words(
    model: models.Model, trainer: trainers.Trainer, around: tuple[str, str]
) -> transformers.PreTrainedTokenizerFast:
    """Return a tokenizer of a few captions, with marks at the beginning (may be empty) and the end of each text."""
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.train_from_iterator([*CAPTIONS, "a b c d e f g h i j k l m n o p q r s t u v w x y z"], trainer)
    first, last = around
    single = f"{first} $A {last}".strip()
    marks = [(mark, tokenizer.token_to_id(mark)) for mark in around if mark]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=marks)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token=last, model_max_length=40
    )


def clip(folder: Path) -> Path:
    """Write a CLIP, its part for pictures too, as a published one is."""
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", "<start>", "<end>"])
    tokenizer = words(models.BPE(), trainer, ("<start>", "<end>"))
    text = transformers.CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=40, projection_dim=8, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    vision = transformers.CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=8, patch_size=4,
        projection_dim=8,
    )  # fmt: skip
    torch.manual_seed(0)
    made = transformers.CLIPModel(
        transformers.CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=8)
    )
    return saved(folder, made, tokenizer)


def t5(folder: Path) -> Path:
    """Write a T5, its decoder too."""
    trainer = trainers.UnigramTrainer(vocab_size=200, special_tokens=["<pad>", "<end>", "<unk>"], unk_token="<unk>")
    tokenizer = words(models.Unigram(), trainer, ("", "<end>"))
    torch.manual_seed(1)
    made = transformers.T5ForConditionalGeneration(
        transformers.T5Config(
            vocab_size=len(tokenizer),
            d_model=WIDTH,
            d_kv=8,
            d_ff=32,
            num_layers=2,
            num_heads=2,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        )
    )
    return saved(folder, made, tokenizer)


def sentences(folder: Path, pooling: str = "pooling_mode_mean_tokens") -> Path:
    """Write a BERT with a pooling, as sentence encoders are kept."""
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<pad>", "<start>", "<end>"])
    tokenizer = words(models.BPE(), trainer, ("<start>", "<end>"))
    torch.manual_seed(2)
    config = transformers.BertConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=40,
    )  # fmt: skip
    saved(folder, transformers.BertModel(config, add_pooling_layer=False), tokenizer)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({pooling: True}))
    return folder


def saved(folder: Path, model: transformers.PreTrainedModel, tokenizer: transformers.PreTrainedTokenizerFast) -> Path:
    """Write a model and its tokenizer."""
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


KINDS = {"clip": clip, "t5": t5, "sentences": sentences}
