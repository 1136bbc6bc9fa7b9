"""The conditioner of captions that a frozen encoder reads, and of its features as they are.

A caption travels as its bytes. What the encoder says of it is looked up where the network is asked, so that batches,
files and guidance handle short rows of numbers; captions that are trained on are encoded once and kept in the cache.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from fromnoise.cache import entry, kept
from fromnoise.conditioners import Conditioner, conditioners
from fromnoise.errors import InputError, LabelError, shown

_LEAST_TOKENS, _MOST_TOKENS, _LEAST_BYTES, _MOST_BYTES = 16, 77, 256, 8000
"""Of what is fitted to captions: how many tokens and bytes a text has."""

_REMEMBERED = 4096
"""How many texts of no training are kept encoded."""

EMPTY = "a caption is empty: give no condition where there is nothing to say"


def are_texts(words: Any) -> bool:
    """Return whether words are a text, or texts."""
    return isinstance(words, str) or (
        isinstance(words, Sequence) and bool(words) and all(isinstance(word, str) for word in words)
    )


def texts_of(words: Any) -> list[str]:
    """Return the texts that words are.

    Raises:
        LabelError: if they are none.
    """
    if not are_texts(words):
        raise LabelError(f"a caption is a text, or a list of them, not {shown(words)}")
    return [words] if isinstance(words, str) else list(words)


def plain(text: str) -> str:
    """Return a text in one line, without what no encoding can hold."""
    return " ".join(text.encode(errors="replace").decode().replace("\0", " ").split())


def warn_of_longer(counts: Iterable[int], most: int, unit: str = "tokens") -> None:
    """Warn where texts of so many tokens, or bytes, are longer than they may be."""
    longer = sum(count > most for count in counts)
    if longer:
        count = "a caption is" if longer == 1 else f"{longer:,} captions are"
        warnings.warn(f"{count} longer than {most} {unit}, and cut off there", stacklevel=3)


@conditioners.register("text-features")
@dataclass(frozen=True)
class Features(Conditioner):
    """The features of texts as they are, of a network whose encoder is not known.

    Args:
        width: E, how many numbers each has.
    """

    width: Annotated[int, Field(ge=1, le=2**16)]

    value = "text"
    ndim = 2
    optional = False

    def takes(self, words: Any) -> bool:
        return isinstance(words, Tensor) and words.dtype == torch.float32 and words.dim() in (2, 3)

    def read(self, words: Any) -> Tensor:
        """Return features, float32 `[1 + L, E]` or `[n, 1 + L, E]`, the pooled one first, zeros where texts end."""
        if not self.takes(words):
            raise LabelError("this network was not told the encoder of its captions: give features, float32")
        self.check(words.reshape(-1, *words.shape[-2:]))
        return words

    def check(self, values: Tensor) -> None:
        if values.dtype != torch.float32 or values.dim() != 3 or values.shape[2] != self.width or values.shape[1] < 2:
            raise LabelError(f"features of captions are [n, 1 + L, {self.width}], float32, the pooled one first")
        if not torch.isfinite(values).all():
            raise LabelError("a feature of a caption is NaN or infinite")

    def sizes(self) -> dict[str, Any]:
        return {"text": self.width}

    def check_fits(self, other: Conditioner | None) -> None:
        sizes = None if other is None or other.value != "text" else other.sizes().get("text")
        if sizes != self.width:
            had = "no captions" if sizes is None else "captions that are read otherwise"
            had = f"features of {sizes} numbers" if isinstance(sizes, int) else had
            raise LabelError(
                f"the network takes features of captions, {self.width} numbers each, and the data have {had}"
            )


@conditioners.register("encoded-text")
@dataclass(frozen=True)
class EncodedText(Conditioner):
    """Captions that a frozen encoder reads, as bytes `[length]` in UTF-8, filled up with zeros.

    Args:
        encoder: its folder or name; see `fromnoise.text_encoder.find`.
        weights: the sum of its files.
        width: E, how many numbers it says of a token.
        tokens: L, how many tokens a text has at most; what is longer is cut off.
        length: how many bytes.
    """

    encoder: str
    weights: str
    width: Annotated[int, Field(ge=1, le=2**16)]
    tokens: Annotated[int, Field(ge=1, le=4096)]
    length: Annotated[int, Field(ge=1, le=2**16)]

    value = "text"
    ndim = 1
    optional = False

    @classmethod
    def fitted(cls, captions: Sequence[str], encoder: str) -> EncodedText:
        """Return the conditioner of captions: as many tokens as the longest has, 16 to 77, and as many bytes.

        Raises:
            InputError: if there is no such encoder.
        """
        from fromnoise.text_encoder import opened

        found, texts = opened(encoder), sorted({plain(caption) for caption in captions})
        tokens = max(_LEAST_TOKENS, min(max(found.counts(texts)), _MOST_TOKENS))
        length = max(_LEAST_BYTES, min(max(len(text.encode()) for text in texts), _MOST_BYTES))
        return cls(found.name, found.weights, found.width, min(tokens, found.most), length)

    def at(self, place: str | Path) -> EncodedText:
        """Return the conditioner with its encoder in another place.

        Raises:
            InputError: if that is another encoder.
        """
        moved = replace(self, encoder=str(place))
        moved._opened()
        return moved

    def takes(self, words: Any) -> bool:
        return are_texts(words)

    def read(self, words: Any) -> Tensor:
        """Return texts, uint8 `[length]` or `[n, length]`.

        Raises:
            LabelError: if they are no texts, or empty.
            InputError: if the encoder is not there, or is another.
        """
        texts = [plain(text) for text in texts_of(words)]
        if not all(texts):
            raise LabelError(EMPTY)
        unknown = [text for text in set(texts) if self._known.get(text) is None]
        if unknown:
            warn_of_longer(self._opened().counts(unknown), self.tokens)
        warn_of_longer((len(text.encode()) for text in texts), self.length, "bytes")
        rows = self.as_bytes(texts)
        return rows[0] if isinstance(words, str) else rows

    def as_bytes(self, texts: Sequence[str]) -> Tensor:
        """Return texts in UTF-8, uint8 `[n, length]`, cut off between two characters and filled up with zeros."""
        rows = torch.zeros(len(texts), self.length, dtype=torch.uint8)
        for row, text in zip(rows, texts, strict=True):
            cut = plain(text).encode()[: self.length].decode(errors="ignore").encode()
            row[: len(cut)] = torch.tensor(list(cut), dtype=torch.uint8)
        return rows

    def said(self, values: Tensor) -> str:
        """Return the text of a value `[length]`."""
        return bytes(values.tolist()).rstrip(b"\0").decode(errors="replace")

    def check(self, values: Tensor) -> None:
        if values.dtype != torch.uint8 or values.dim() != 2 or values.shape[1] != self.length:
            raise LabelError(f"captions are kept as {self.length} bytes each, uint8")

    def sizes(self) -> dict[str, Any]:
        return {"text": self.width}

    def check_fits(self, other: Conditioner | None) -> None:
        Features(self.width).check_fits(other)
        if isinstance(other, EncodedText) and other.weights != self.weights:
            raise LabelError(
                f"the network was trained on what the text encoder {shown(self.encoder)} says, and that of the data, "
                f"{shown(other.encoder)}, has other weights"
            )

    def prepare(
        self, values: Tensor, progress: Callable[[int, int], None] | None = None, *, if_kept: bool = False
    ) -> None:
        """Encode the texts of values `[N, length]` once, and keep the features of their tokens in the cache."""
        from fromnoise.text_encoder import opened

        texts = sorted({self.said(row) for row in values.unique(dim=0).cpu()} - {""})
        if all(text in self._known.trained for text in texts):
            return
        key = hashlib.sha256(json.dumps([2, self.weights, self.tokens, texts]).encode()).hexdigest()

        def make(folder: Path) -> dict[str, Any]:
            counts = list[int]()
            with (folder / "features.f32").open("wb") as file:
                for part in self._opened().encode(texts, self.tokens):
                    for row in part:
                        real = (row != 0).any(1).nonzero().flatten().tolist()
                        counts.append(1 + max([1, *real]))
                        file.write(row[: counts[-1]].numpy().tobytes())
                    if progress is not None:
                        progress(len(counts), len(texts))
            return {"counts": counts}

        if if_kept and kept("texts", key) is None:
            return
        place, index = entry("texts", key, make)
        opened.cache_clear()  # a large encoder need not stay in memory through the training
        counts = index["counts"]
        mapped = np.memmap(place / "features.f32", np.float32, "r", shape=(sum(counts), self.width))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that the array cannot be written to: nothing here does
            table = torch.from_numpy(mapped)
        self._known.trained.update(zip(texts, table.split(counts), strict=True))

    def encoded(self, values: Tensor) -> Tensor:
        """Return the features of texts `[n, length]`, `[n, 1 + L, E]` float32; zeros of what is no text.

        Raises:
            InputError: if features of a text are not at hand, and the encoder is not there.
        """
        distinct, rows = values.cpu().unique(dim=0, return_inverse=True)
        texts = [self.said(row) for row in distinct]
        missing = [text for text in texts if text and self._known.get(text) is None]
        new = torch.cat([*self._opened().encode(missing, self.tokens)]) if missing else ()
        self._known.remember(dict(zip(missing, new, strict=True)))
        table = torch.zeros(len(texts), 1 + self.tokens, self.width)
        for row, text in zip(table, texts, strict=True):
            features = self._known.get(text)
            if features is not None:
                row[: len(features)] = features
        return table[rows].to(values.device)

    def _opened(self) -> Any:
        """Return the encoder, if it is the one that the network was trained with."""
        from fromnoise.text_encoder import NoEncoder, opened

        try:
            return opened(self.encoder, self.weights)
        except NoEncoder as error:
            raise InputError(
                f"{error}; where it was moved, say so: --text-encoder, load(run, text_encoder=...), or encoder "
                "in the run's config.toml"
            ) from None

    @property
    def _known(self) -> _Known:
        return _KNOWN.setdefault((self.weights, self.tokens), _Known())


class _Known:
    """Features of texts that were encoded in this process, `[1 + L, E]` each."""

    def __init__(self) -> None:
        self.trained: dict[str, Tensor] = {}
        """Of a training, mapped from the cache."""
        self.others: dict[str, Tensor] = {}
        """The last ones of others."""

    def get(self, text: str) -> Tensor | None:
        """Return a text's features, if they are known."""
        found = self.trained.get(text)
        return self.others.get(text) if found is None else found

    def remember(self, features: Mapping[str, Tensor]) -> None:
        """Keep the features of texts of no training for a while."""
        self.others.update(features)
        while len(self.others) > max(_REMEMBERED, len(features)):
            del self.others[next(iter(self.others))]


_KNOWN: dict[tuple[str, int], _Known] = {}
"""By the encoder's sum, and L."""
