"""The conditioner of captions: a text as the numbers of its tokens, for an encoder that is trained along.

A text is put in small letters and cut into words and marks. A word of the vocabulary is one token; any other is
spelled, a token for each of its bytes, so nothing is unknown. Token 0 fills up what is shorter than the longest.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner, conditioners
from fromnoise.errors import LabelError
from fromnoise.text_features import EMPTY, EncodedText, are_texts, plain, texts_of, warn_of_longer

_BYTES = 256
_MOST_WORDS, _LEAST_TOKENS, _MOST_TOKENS = 4096, 16, 64
"""Of what is fitted to captions: how many words a vocabulary has at most, and how many tokens a text."""

_PIECES = re.compile(r"\w+|[^\w\s]")


@conditioners.register("tokens")
@dataclass(frozen=True)
class Tokens(Conditioner):
    """Token numbers as they are, of a network whose words are not known.

    Args:
        vocabulary: how many tokens there are; 0 fills up shorter texts.
        length: how many a text has.
    """

    vocabulary: Annotated[int, Field(ge=2)]
    length: Annotated[int, Field(ge=1, le=4096)]

    value = "text"
    ndim = 1
    optional = False

    def takes(self, words: Any) -> bool:
        return isinstance(words, Tensor) and words.dtype == torch.int64 and words.dim() in (1, 2)

    def read(self, words: Any) -> Tensor:
        """Return token numbers, int64 `[length]` or `[n, length]`."""
        if not self.takes(words):
            raise LabelError("this network was not told the words of its captions: give token numbers, int64")
        self.check(words.reshape(-1, words.shape[-1]))
        return words

    def check(self, values: Tensor) -> None:
        if values.dtype != torch.int64 or values.dim() != 2 or values.shape[1] != self.length:
            raise LabelError(f"captions are kept as {self.length} token numbers each, int64")
        if bool(((values < 0) | (values >= self.vocabulary)).any()):
            raise LabelError(
                f"a token number is not in 0..{self.vocabulary - 1}: the captions are of another vocabulary"
            )

    def sizes(self) -> dict[str, Any]:
        return {"text": [self.vocabulary, self.length]}

    def check_fits(self, other: Conditioner | None) -> None:
        sizes = None if other is None or other.value != "text" else other.sizes().get("text")
        if sizes != [self.vocabulary, self.length]:
            had = "no captions" if sizes is None else f"features of {sizes} numbers"
            had = f"captions of {sizes[0]} tokens, {sizes[1]} each" if isinstance(sizes, list) else had
            raise LabelError(
                f"the network knows {self.vocabulary} tokens, {self.length} a text, and the data have {had}"
            )


@conditioners.register("text")
@dataclass(frozen=True)
class Text(Conditioner):
    """Captions, as `[length]` token numbers.

    Args:
        length: how many tokens a text has at most; what is longer is cut off.
        words: the vocabulary; without one every word is spelled in bytes.
    """

    length: Annotated[int, Field(ge=1, le=4096)] = _MOST_TOKENS
    words: tuple[str, ...] = ()

    value = "text"
    ndim = 1
    optional = False

    @classmethod
    def fitted(cls, captions: Sequence[str]) -> Text:
        """Return the conditioner of captions: its words occur twice or more in them, its length is the longest's.

        At most 4,096 words, the most frequent; 16 tokens at least, which leaves room for other words, and 64 at most.
        """
        counts = Counter(piece for caption in captions for piece in pieces(caption))
        known = sorted(word for word, count in counts.items() if count > 1)
        known = sorted(known, key=lambda word: -counts[word])[:_MOST_WORDS]
        made = cls(words=tuple(known))
        longest = max((len(made.tokens(caption)) for caption in captions), default=1)
        return cls(length=max(_LEAST_TOKENS, min(longest, _MOST_TOKENS)), words=made.words)

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return 1 + _BYTES + len(self.words)

    @functools.cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: 1 + _BYTES + k for k, word in enumerate(self.words)}

    def tokens(self, text: str) -> list[int]:
        """Return the token numbers of a text, however long it is."""
        found, spelled = list[int](), False
        for piece in pieces(text):
            number = self._numbers.get(piece)
            if number is not None:
                found.append(number)
            else:  # a space parts it from another that is spelled
                found += [1 + byte for byte in (" " * spelled + piece).encode(errors="replace")]
            spelled = number is None
        return found

    def said(self, numbers: Tensor) -> str:
        """Return the text that token numbers `[length]` spell, words with spaces between them."""
        parts, spelled = list[str](), bytearray()
        for number in [*numbers.tolist(), 0]:
            if 0 < number <= _BYTES:
                spelled.append(number - 1)
                continue
            if spelled:
                parts.append(spelled.decode(errors="replace"))
                spelled = bytearray()
            parts += [self.words[number - 1 - _BYTES]] if number else []
        return " ".join(parts)

    def takes(self, words: Any) -> bool:
        return are_texts(words)

    def read(self, words: Any) -> Tensor:
        """Return token numbers, int64 `[length]` or `[n, length]`."""
        each = [self.tokens(text) for text in texts_of(words)]
        if not all(each):
            raise LabelError(EMPTY)
        warn_of_longer(map(len, each), self.length)
        rows = torch.zeros(len(each), self.length, dtype=torch.long)
        for row, tokens in zip(rows, each, strict=True):
            row[: min(len(tokens), self.length)] = torch.tensor(tokens[: self.length])
        return rows[0] if isinstance(words, str) else rows

    def check(self, values: Tensor) -> None:
        Tokens(self.vocabulary, self.length).check(values)

    def sizes(self) -> dict[str, Any]:
        return {"text": [self.vocabulary, self.length]}

    def check_fits(self, other: Conditioner | None) -> None:
        Tokens(self.vocabulary, self.length).check_fits(other)


def pieces(text: str) -> list[str]:
    """Return the words and marks of a text, in small letters."""
    return _PIECES.findall(plain(text).lower())


def with_captions(
    cond: Cond | None, captions: Sequence[str], n: int, encoder: str | None = None
) -> tuple[Cond, Conditioner]:
    """Return conditions with a caption for each of n rows, "" where there is none, and the conditioner fitted to these.

    Args:
        cond: other conditions of the rows.
        captions: of the rows.
        n: how many there are.
        encoder: a frozen encoder, by its folder or name; the network's own where none is given.

    Raises:
        LabelError: if they are no texts, not n, or all empty.
        InputError: if there is no such encoder.
    """
    if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
        raise LabelError("captions are a list of texts, one for each sample")
    if len(captions) != n:
        raise LabelError(
            f"{len(captions)} captions were given for {n} samples: give one for each, empty where there is none"
        )
    captions = [plain(caption) for caption in captions]
    there = torch.tensor([bool(pieces(caption)) for caption in captions], dtype=torch.bool)
    said = [caption for caption in captions if pieces(caption)]
    if not said:
        raise LabelError("every caption is empty")
    text = EncodedText.fitted(said, encoder) if encoder else Text.fitted(said)
    told = text.read(said)
    values = told.new_zeros(n, *told.shape[1:])
    values[there] = told
    known, given = (dict[str, Tensor](), dict[str, Tensor]())
    if cond is not None:  # captions of before give way
        known, given = ({k: v for k, v in of.items() if k != text.value} for of in (cond.values, cond.given))
    masks = {} if bool(there.all()) else {text.value: there}
    return Cond({**known, text.value: values}, {**given, **masks}), text
