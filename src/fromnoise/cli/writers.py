"""Files of samples, by the form of the samples and the ending of the file's name."""

from __future__ import annotations

import shlex
import zipfile
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from fromnoise.cli.common import save_figure, whole_file
from fromnoise.errors import InputError, RunError

if TYPE_CHECKING:
    from PIL.PngImagePlugin import PngInfo
    from torch import Tensor

    from fromnoise.data.ends import Ends
    from fromnoise.denoiser import Denoiser


class Known(NamedTuple):
    """What is known of samples beside their numbers.

    Attributes:
        prompts: of each; empty where there are none.
        ends: the numbers that are black and white in pictures; None where the samples themselves must say.
    """

    prompts: Sequence[str] = ()
    ends: Ends | None = None


_NOTHING = Known()

Writer = Callable[[Path, "Tensor", "Iterable[Tensor]", int, Known], None]
"""Writes samples to a file: its path, the first part of the samples, the others, how many there are in all, and what
else is known of them."""


def writer_for(form: str, out: Path) -> Writer:
    """Return what writes samples of a form to a file of this name, or to a folder where it has no ending.

    Raises:
        InputError: if nothing does.
    """
    known = {**_ANY, **_FORMS.get(form, {})}
    if out.suffix.lower() not in known:
        endings = ", ".join(sorted(ending for ending in known if ending))
        folder = ", or have none, for a folder" if "" in known else ""
        raise InputError(f"--out {out}: the name of a file of {form} must end in {endings}{folder}")
    return known[out.suffix.lower()]


def usual(form: str) -> tuple[str, int]:
    """Return the ending of the file and the number of samples where the user says neither."""
    return {"images": (".png", 100)}.get(form, (".csv", 300))


def write(parts: Iterable[Tensor], n: int, form: str, out: Path, known: Known = _NOTHING) -> None:
    """Write samples as they come, so that memory does not grow with n; pictures with their prompts, if any."""
    writer = writer_for(form, out)
    each = iter(parts)
    first = next(each)  # wrong input raises here, before anything is written
    writer(out, first, each, n, known)


def _csv(out: Path, first: Tensor, rest: Iterable[Tensor], _n: int, _known: Known) -> None:
    import numpy as np

    columns = first[0].numel()
    names = ["x", "y"] if columns == 2 else [f"x{k}" for k in range(columns)]
    with whole_file(out) as staging, staging.open("w", encoding="utf-8") as file:
        file.write(",".join(names) + "\n")
        for part in chain([first], rest):
            np.savetxt(file, part.flatten(1).cpu().numpy(), delimiter=",", fmt="%.9g")


def _npy(out: Path, first: Tensor, rest: Iterable[Tensor], n: int, _known: Known) -> None:
    with whole_file(out) as staging, staging.open("wb") as file:
        _array(file, first, rest, n)


def _npz(out: Path, first: Tensor, rest: Iterable[Tensor], n: int, _known: Known) -> None:
    with (
        whole_file(out) as staging,
        zipfile.ZipFile(staging, "w", zipfile.ZIP_STORED) as archive,
        archive.open("x.npy", "w", force_zip64=True) as file,
    ):
        _array(file, first, rest, n)


def _array(file: IO[bytes], first: Tensor, rest: Iterable[Tensor], n: int) -> None:
    """Write samples `[n, *X]` as a NumPy array: floats as float32, whole numbers as they are."""
    import numpy as np

    kind = np.dtype("<f4") if first.is_floating_point() else first.cpu().numpy().dtype
    header = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": (n, *first.shape[1:])}
    np.lib.format.write_array_header_1_0(file, header)  # pyright: ignore[reportArgumentType]
    for part in chain([first], rest):
        file.write(part.cpu().numpy().astype(kind).tobytes())


def _figure(out: Path, first: Tensor, rest: Iterable[Tensor], _n: int, _known: Known) -> None:
    import torch

    from fromnoise import plot

    save_figure(plot.scatter(torch.cat([first, *rest])), out)


def _sheet(out: Path, first: Tensor, rest: Iterable[Tensor], n: int, known: Known) -> None:
    import torch

    from fromnoise import plot

    if n > _MOST_ON_A_SHEET:
        raise InputError(
            f"--out {out}: {n:,} pictures are too many for one: give the name of a folder, or one that ends in .npz"
        )
    columns = 10 if n % 10 == 0 and not known.prompts else None
    sheet = plot.contact_sheet(torch.cat([first, *rest]), columns=columns, captions=known.prompts, ends=known.ends)
    with whole_file(out) as staging:
        sheet.save(staging, "PNG", pnginfo=_about("\n".join(dict.fromkeys(known.prompts))))


def _about(prompt: str) -> PngInfo | None:
    """Return what a PNG file tells of its prompt; None where there is none."""
    from PIL.PngImagePlugin import PngInfo

    if not prompt:
        return None
    info = PngInfo()
    info.add_itxt("prompt", prompt)
    return info


_MOST_ON_A_SHEET = 2500


def _folder(out: Path, first: Tensor, rest: Iterable[Tensor], n: int, known: Known) -> None:
    from PIL import Image

    from fromnoise.data.ends import ends_of
    from fromnoise.plot.images import as_pixels

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out {out}: there is something already: choose another folder")
    width, number = len(str(n - 1)), 0
    try:
        out.mkdir(parents=True, exist_ok=True)
        ends = known.ends or (ends_of(first) if first.is_floating_point() else None)  # for all
        for part in chain([first], rest):
            for picture in as_pixels(part, ends):
                about = _about(known.prompts[number] if known.prompts else "")
                Image.fromarray(picture).save(out / f"{number:0{width}d}.png", pnginfo=about)
                number += 1
    except OSError as error:
        raise RunError(f"{out} cannot be written: {error.strerror or error}; choose another --out") from None


_ANY: dict[str, Writer] = {".npy": _npy, ".npz": _npz}
_POINTS: dict[str, Writer] = {".csv": _csv, ".png": _figure, ".svg": _figure, ".pdf": _figure}
_FORMS: dict[str, dict[str, Writer]] = {
    "points": _POINTS,
    "arrays": {".csv": _csv},
    "images": {".png": _sheet, "": _folder},
}
"""What writes samples of each form, by the ending of the file's name."""


def suggested(denoiser: Denoiser) -> str:
    """Return options of `sample` that suit a denoiser, for what to do next."""
    from fromnoise.conditioners import needed_of

    needed = needed_of(denoiser.conditioners)
    if needed:  # it denoises nothing without them
        return " ".join(f"--{name} FILE" for name in sorted(needed))
    form = denoiser.codec.form
    labels = denoiser.label_names if form == "images" else ()
    if any(one.value == "text" for one in denoiser.conditioners):
        return f'-n {usual(form)[1]} --prompt "..."{_guidance(denoiser, 2.0)}'
    return f"-n {usual(form)[1]}" + (f" --label {shlex.quote(labels[0])}{_guidance(denoiser, 1.5)}" if labels else "")


def _guidance(denoiser: Denoiser, scale: float) -> str:
    """Return the option of a guidance scale near this one; empty where guidance cannot move the denoiser."""
    from fromnoise.guidance_cond import scale_of

    taught = scale_of(tuple(denoiser.conditioners))
    if taught is not None:
        return f" --guidance {min(max(scale, taught.low), taught.high):g}"
    return f" --guidance {scale:g}" if denoiser.grid is None and denoiser.unconditional else ""
