"""Pictures: contact sheets as files, rows of pictures as figures."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

from fromnoise.data.ends import Ends, ends_of
from fromnoise.errors import InputError, whole_number
from fromnoise.plot.style import new_figure, styled

_ACROSS = 900
"""About how many pixels a contact sheet has at least: small pictures are enlarged, each pixel to a square."""


def as_pixels(x: Any, ends: Ends | None = None) -> np.ndarray:
    """Return pictures as whole numbers 0..255, `[n, H, W]` if they are grey, else `[n, H, W, 3]`.

    Args:
        x: `[n, C, H, W]`, uint8 or floats. One channel is grey and three are colours; the channels of any other number
            are drawn beside one another, grey, `[n, H, C W]`.
        ends: the floats that are black and white; those of `fromnoise.data.ends_of` when not given.

    Raises:
        InputError: if they are no pictures.
    """
    array = _array(x)
    if array.ndim != 4:
        raise InputError(f"pictures are [n, C, H, W], not of shape {list(array.shape)}")
    if array.shape[1] > 4 and array.shape[2] > 4 and array.shape[3] in (1, 3):
        raise InputError(
            f"pictures of shape {list(array.shape)} have their channels last: move that axis to the second"
        )
    if array.shape[1] not in (1, 3):
        array = array.transpose(0, 2, 1, 3).reshape(len(array), 1, array.shape[2], -1)
    if array.dtype != np.uint8:
        array = array.astype(np.float64)
        low, high = ends or ends_of(array)
        array = np.rint(255 * ((array - low) / max(high - low, 1e-12)).clip(0, 1)).astype(np.uint8)
    return array[:, 0] if array.shape[1] == 1 else array.transpose(0, 2, 3, 1)


def _array(x: Any) -> np.ndarray:
    return x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)


def contact_sheet(
    x: Any, *, columns: int | None = None, gap: int = 1, captions: Sequence[str] = (), ends: Ends | None = None
) -> Image.Image:
    """Return pictures side by side in rows, as one Pillow image: `.save("sheet.png")`.

    Args:
        x: `[n, C, H, W]`, as for `as_pixels`.
        columns: how many in a row; about as many as there are rows when not given.
        gap: between pictures, in pixels of theirs.
        captions: what stands under each picture; nothing when not given.
        ends: the floats that are black and white, such as a codec's.

    Raises:
        InputError: if they are no pictures, or not as many as captions.
    """
    pixels = as_pixels(x, ends)
    n, height, width = pixels.shape[:3]
    columns = columns if columns is None else whole_number("columns", columns)
    if not n:
        raise InputError("a contact sheet needs one picture at least")
    if captions and len(captions) != n:
        raise InputError(f"{len(captions)} captions were given for {n} pictures: give one for each")
    if captions:
        return _captioned(pixels, captions, columns)
    columns = columns or math.ceil(math.sqrt(n * height / width))
    rows = math.ceil(n / columns)
    size = (rows * (height + gap) + gap, columns * (width + gap) + gap)
    sheet = np.full((*size, *pixels.shape[3:]), 128, np.uint8)
    for k, picture in enumerate(pixels):
        top, left = (
            place * (side + gap) + gap for place, side in zip(divmod(k, columns), (height, width), strict=True)
        )
        sheet[top : top + height, left : left + width] = picture
    times = max(1, min(_ACROSS // size[1], 16))
    return Image.fromarray(sheet.repeat(times, 0).repeat(times, 1))


_TILE = 128
"""How many pixels across a picture has at least above its caption."""


def _captioned(pixels: np.ndarray, captions: Sequence[str], columns: int | None) -> Image.Image:
    """Return pictures `[n, H, W]` or `[n, H, W, 3]` in rows, each above its caption."""
    times = max(1, _TILE // pixels.shape[2])
    height, width = (times * side for side in pixels.shape[1:3])
    columns = columns or min(len(pixels), max(1, _ACROSS // width), math.ceil(math.sqrt(len(pixels))))
    font = ImageFont.truetype(findfont("DejaVu Sans"), 12)  # which matplotlib brings along
    lines = [textwrap.wrap(caption, max(8, width // 7))[:3] for caption in captions]
    below = 4 + 15 * max((len(each) for each in lines), default=0)
    size = columns * (width + 4) + 4, math.ceil(len(pixels) / columns) * (height + below + 4) + 4
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for k, picture in enumerate(pixels):
        row, column = divmod(k, columns)
        left, top = 4 + column * (width + 4), 4 + row * (height + below + 4)
        sheet.paste(Image.fromarray(picture.repeat(times, 0).repeat(times, 1)), (left, top))
        for j, line in enumerate(lines[k] if k < len(lines) else ()):
            draw.text((left + 2, top + height + 2 + 15 * j), line, fill="black", font=font)
    return sheet


def pictures(
    rows: Mapping[str, Any], *, columns: Sequence[str] = (), title: str = "", ends: Ends | None = None
) -> Figure:
    """Draw rows of pictures, each row with its name.

    Args:
        rows: name -> `[n, C, H, W]`; all of one size.
        columns: what stands above each column.
        title: of the figure.
        ends: the floats that are black and white, such as a codec's; those of all rows together when not given.

    Raises:
        InputError: if they are no pictures, or differ in size.
    """
    numbers = [_array(x).ravel() for x in rows.values()]
    floats = [each for each in numbers if each.dtype != np.uint8]
    if floats and ends is None:
        ends = ends_of(np.concatenate(floats))
    each = {name: as_pixels(x, ends) for name, x in rows.items()}
    shapes = {pixels.shape[1:] for pixels in each.values()}
    if len(shapes) != 1:
        raise InputError(f"rows of pictures must have one size, not {sorted(shapes)}")
    height, width = shapes.pop()[:2]
    most = max(len(pixels) for pixels in each.values())
    with styled():
        figure, (axes,) = new_figure(
            1, width=min(9.0, 0.9 + 0.62 * most), height=0.3 + 0.62 * len(each) * height / width
        )
        for k, pixels in enumerate(each.values()):
            for j, picture in enumerate(pixels):
                extent = (j, j + 0.94, (k + 0.94) * height / width, k * height / width)
                axes.imshow(picture, cmap="gray", vmin=0, vmax=255, extent=extent, interpolation="nearest")
        axes.set(xlim=(0, most), ylim=(len(each) * height / width, 0), title=title)
        axes.set_aspect("equal")
        axes.set_yticks([(k + 0.47) * height / width for k in range(len(each))], list(each))
        axes.set_xticks([j + 0.47 for j in range(len(columns))], columns)
        axes.tick_params(length=0, labeltop=True, labelbottom=False)
        for side in axes.spines.values():
            side.set_visible(False)
    return figure
