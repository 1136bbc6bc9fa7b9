"""One picture: from the bytes of its file to whole numbers 0..255."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from PIL import Image, ImageColor, ImageOps, UnidentifiedImageError
from pydantic import Field

from fromnoise.errors import InputError, one_line

_MOST_PIXELS = 2**27
"""The largest picture that is decoded."""

_GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_CLEAR = ("LA", "La", "PA", "RGBA", "RGBa")


class Unreadable(Exception):
    """Why a picture cannot be used, in a few words that follow its name."""


@dataclass(frozen=True)
class Decoded:
    """A picture.

    Attributes:
        pixels: `[C, H, W]` uint8, C being 1 for grey and 3 for colour.
        size: height and width before it was brought to size.
        animated: whether it is the first of several.
        brightest: the largest value of a picture of 16 bits, 0..65535; None for others.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    animated: bool
    brightest: int | None = None


@dataclass(frozen=True)
class Decoder:
    """How pictures become samples.

    Args:
        size: their height and width, to which they are scaled; 0 for the size they have.
        fit: what is done where a picture is no square: "crop" cuts its longer side at both ends, "pad" fills its
            shorter side with the background.
        background: what lies behind clear pixels and around padded pictures, a colour's name or #rrggbb.
        channels: 1 to make all grey, 3 to make all coloured; 0 to leave them as they are, and one whose three channels
            are equal is grey.
    """

    size: Annotated[int, Field(ge=0, le=8192)] = 0
    fit: Literal["crop", "pad"] = "crop"
    background: str = "white"
    channels: Literal[0, 1, 3] = 0

    def __post_init__(self) -> None:
        try:
            ImageColor.getrgb(self.background)
        except ValueError:
            raise InputError(
                f"data.background: {self.background!r} is no colour: give a name, such as black, or #rrggbb"
            ) from None

    def __call__(self, content: bytes) -> Decoded:
        """Decode a file.

        Raises:
            Unreadable: if it cannot be.
        """
        if not content:
            raise Unreadable("is empty")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return self._decode(content)
            except Unreadable:
                raise
            except UnidentifiedImageError:
                raise Unreadable("is no picture") from None
            except Image.DecompressionBombError:
                raise Unreadable(_TOO_MANY) from None
            except (OSError, EOFError) as error:
                cut = "truncated" in str(error) or isinstance(error, EOFError)
                raise Unreadable("is cut off" if cut else "is damaged") from None
            except Exception as error:  # a decoder may raise anything on bytes that were made to mislead it
                raise Unreadable(f"is damaged: {one_line(str(error), 60) or type(error).__name__}") from None

    def _decode(self, content: bytes) -> Decoded:
        with Image.open(io.BytesIO(content)) as image:
            if math.prod(image.size) > _MOST_PIXELS:
                raise Unreadable(_TOO_MANY)
            animated = getattr(image, "n_frames", 1) > 1
            is_deep = image.mode.startswith("I") or any(";16" in str(tile) for tile in image.tile)
            image.load()
            _check_depth(image)
            upright = ImageOps.exif_transpose(image)
        height, width = upright.height, upright.width
        pixels = self._sized(self._opaque(upright))
        if self.channels:
            pixels = pixels.convert("L" if self.channels == 1 else "RGB")
        array = np.asarray(pixels)
        array = array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
        if not self.channels and (array == array[:1]).all():
            array = array[:1]
        return Decoded(array, (height, width), animated, _brightest(upright) if is_deep else None)

    def _opaque(self, image: Image.Image) -> Image.Image:
        """Return a picture in grey or colour, clear pixels laid over the background."""
        if image.mode.startswith("I") or image.mode == "F":
            return _deep_grey(image)
        if image.mode in _CLEAR or "transparency" in image.info:
            clear = image.convert("RGBA")
            behind = Image.new("RGBA", clear.size, (*ImageColor.getrgb(self.background)[:3], 255))
            flat = Image.alpha_composite(behind, clear).convert("RGB")
            grey_behind = len(set(ImageColor.getrgb(self.background)[:3])) == 1
            return flat.convert("L") if image.mode in _GREY and grey_behind else flat
        return image.convert("L" if image.mode in _GREY else "RGB")

    def _sized(self, image: Image.Image) -> Image.Image:
        if not self.size or image.size == (self.size, self.size):
            return image
        side = (self.size, self.size)
        if self.fit == "crop":
            return ImageOps.fit(image, side, Image.Resampling.LANCZOS)
        colour = ImageColor.getrgb(self.background)[:3]
        if image.mode == "L" and len(set(colour)) > 1:
            image = image.convert("RGB")
        return ImageOps.pad(image, side, Image.Resampling.LANCZOS, color=colour[0] if image.mode == "L" else colour)


_TOO_MANY = f"has more than {_MOST_PIXELS // 10**6} million pixels"


def _brightest(image: Image.Image) -> int:
    """Return the largest value 0..65535 of a picture of 16 bits; Pillow has made 8 of them where it has colours."""
    values = np.asarray(image if image.mode.startswith("I") else image.convert("RGB"))
    return int(values.max()) * (1 if image.mode.startswith("I") else 257)


def _check_depth(image: Image.Image) -> None:
    """Refuse a TIFF of 32-bit whole numbers that end where 8 bits do: as one of 16 bits it would be black."""
    if image.mode == "I" and image.format == "TIFF":
        low, high = (int(end) for end in image.getextrema())  # pyright: ignore[reportArgumentType] of one band
        if low >= 0 and 1 < high <= 255:  # of black and white alone nothing can be told
            raise Unreadable("holds 0..255 in numbers of 32 bits: save it in 8")


def _deep_grey(image: Image.Image) -> Image.Image:
    """Return grey of 16 or 32 bits, or of floats in [0, 1], in 8 bits."""
    values = np.asarray(image).astype(np.float64)
    if image.mode == "F":
        if not np.isfinite(values).all():
            raise Unreadable("holds NaN or infinite numbers")
        if values.min() < 0 or values.max() > 1:
            raise Unreadable("holds floats outside [0, 1]")
        values = 255 * values
    else:
        if values.min() < 0 or values.max() > 65535:
            raise Unreadable("holds grey values of more than 16 bits")
        values = values / 257  # 65535 -> 255
    return Image.fromarray(np.rint(values).astype(np.uint8))
