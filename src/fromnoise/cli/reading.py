"""Samples that are given on the command line: pictures to complete, to enlarge, to encode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fromnoise.cli.common import say
from fromnoise.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from fromnoise.conditioners import Words
    from fromnoise.denoiser_like import DenoiserLike


def samples_from(path: Path, denoiser: DenoiserLike, option: str) -> Tensor:
    """Return the samples in a file, `[n, *X]` in the units of a denoiser's data.

    Args:
        path: a picture, a folder or an archive of pictures, or a file of numbers.
        denoiser: whose samples they must be like.
        option: what to call the file in messages.

    Raises:
        InputError: if they cannot be read, or are of another shape.
    """
    codec = denoiser.codec
    shape = codec.sample_shape(denoiser.shape) or denoiser.shape
    return pictures_from(path, shape, option) if codec.of_bytes else _numbers(path, shape, option)


def pictures_from(path: Path, shape: Sequence[int], option: str) -> Tensor:
    """Return the pictures in a file, a folder or an archive, `[n, C, H, W]` uint8 of the shape wanted.

    Pictures of another size are scaled, and cut to a square; grey and colour are turned into what is wanted.
    """
    import torch

    from fromnoise.data.files import KINDS
    from fromnoise.data.images import Files, PictureSettings, is_pictures

    if path.suffix.lower() in KINDS:
        x = _numbers(path, shape, option)
        if x.dtype != torch.uint8:
            raise InputError(f"{option} {path}: pictures are whole numbers 0..255 in uint8, not {x.dtype}")
        return x
    channels, height, width = shape
    beside = channels not in (1, 3)  # as such pictures are drawn, channel beside channel
    size, changes = {"size": height} if height == width and not beside else {}, list[str]()
    if path.exists() and is_pictures(path):
        source = Files(path, PictureSettings(size=size.get("size", 0)))
        x, sizes = source.read(slice(None)).x, list(source.found.sizes)
    else:
        x, sizes = _picture(path, size.get("size", 0), option)
        x = x[None]
    odd = next((one for one in sizes if one != f"{height} x {width}"), None)
    if odd is not None and size:
        changes.append(f"brought from {odd} to {height} x {width}")
    if beside and tuple(x.shape[1:]) == (1, height, channels * width):
        x = x.unflatten(3, (channels, width))[:, 0].movedim(2, 1)
    if x.shape[1] != channels and beside:
        raise InputError(f"{option} {path}: pictures of {channels} channels are read from .npz or .npy")
    if x.shape[1] != channels:
        changes.append("turned to colour" if x.shape[1] == 1 else "turned to grey")
        x = x.expand(-1, channels, -1, -1) if x.shape[1] == 1 else _grey(x)
    x = _fitting(x, shape, path, option)
    if changes:
        say(f"note: {option} {path}: {' and '.join(changes)}")
    return x


def _picture(path: Path, size: int, option: str) -> tuple[Tensor, list[str]]:
    """Return a picture `[C, H, W]` brought to a size, and the height and width that it had."""
    import torch

    from fromnoise.data.decode import Decoder, Unreadable

    try:
        found = Decoder(size)(path.read_bytes())
        return torch.from_numpy(found.pixels.copy()), [f"{found.size[0]} x {found.size[1]}"]
    except OSError as error:
        raise InputError(f"{option} {path}: {error.strerror or 'cannot be read'}") from None
    except Unreadable as error:
        raise InputError(f"{option} {path} {error}") from None


def _grey(x: Tensor) -> Tensor:
    """Return the luma of colour pictures. Source: ITU-R BT.601."""
    import torch

    weights = torch.tensor([0.299, 0.587, 0.114]).reshape(1, 3, 1, 1)
    return (x.float() * weights).sum(1, keepdim=True).round().to(torch.uint8)


def _numbers(path: Path, shape: Sequence[int], option: str) -> Tensor:
    from fromnoise.data.files import read_file
    from fromnoise.data.numbers import as_data

    x = as_data(read_file(path)[0])
    return _fitting(x[None] if tuple(x.shape) == tuple(shape) else x, shape, path, option)


def _fitting(x: Tensor, shape: Sequence[int], path: Path, option: str) -> Tensor:
    if tuple(x.shape[1:]) != tuple(shape):
        raise InputError(f"{option} {path}: samples of shape {list(x.shape[1:])}, and {list(shape)} are wanted")
    return x


def _check_alike(known: Path, mask: Path) -> None:
    """Refuse a mask of another shape than its picture: cut to the run's size each, one would not lie on the other."""
    from fromnoise.data.files import KINDS
    from fromnoise.data.images import is_pictures

    if any(path.suffix.lower() in KINDS or (path.exists() and is_pictures(path)) for path in (known, mask)):
        return
    (high, wide), (tall, broad) = (
        _picture(path, 0, option)[0].shape[1:] for path, option in ((known, "--known"), (mask, "--mask"))
    )
    if abs(wide * tall - broad * high) > max(wide, high):  # but for the rounding of a pixel
        raise InputError(
            f"--mask {mask} is {broad} x {tall}, and --known {known} is {wide} x {high}: draw the mask on the picture"
        )


def completing(denoiser: DenoiserLike, known: Path | None, mask: Path | None) -> DenoiserLike:
    """Return a denoiser that completes the pictures in a file, where a mask says; or the denoiser where none is given.

    Args:
        denoiser: of whole pictures.
        known: the pictures, one for all samples or one for each.
        mask: a picture, white where something is to be made, black where the known one is kept.

    Raises:
        InputError: if only one of the two is given, or they cannot be read.
    """
    from fromnoise.guidance import Inpainted

    if known is None and mask is None:
        return denoiser
    if known is None or mask is None:
        raise InputError("--known and --mask go together: the picture, and white where something is to be made")
    if denoiser.codec.form != "images":
        raise InputError("--known and --mask are for runs on pictures")
    _check_alike(known, mask)
    given = samples_from(known, denoiser, "--known")
    white = pictures_from(mask, (1, *given.shape[2:]), "--mask") >= 128
    kept = (~white).expand(-1, given.shape[1], -1, -1)
    return Inpainted(denoiser, given if len(given) > 1 else given[0], kept if len(kept) > 1 else kept[0])


def prompts_from(denoiser: DenoiserLike, prompt: str | None, prompts: Path | None) -> list[str]:
    """Return what --prompt or the lines of --prompts say; empty where neither is given.

    Raises:
        InputError: if both are given, the file cannot be read or is empty, or the run knows no captions.
    """
    if prompt is None and prompts is None:
        return []
    if prompt is not None and prompts is not None:
        raise InputError("--prompt is one text and --prompts a file of them: give one of the two")
    if "text" not in {one.value for one in denoiser.conditioners}:
        names = ", ".join(denoiser.label_names[:6])
        what = f"it knows labels, --label: {names}" if names else "it knows no conditions"
        raise InputError(f"--prompt is for runs on pictures with captions, and this is none: {what}")
    if prompts is None:
        return [prompt or ""]
    try:
        lines = [line.strip() for line in prompts.read_text(encoding="utf-8-sig").splitlines()]
    except OSError as error:
        raise InputError(f"--prompts {prompts}: {error.strerror or 'cannot be read'}") from None
    except UnicodeDecodeError:
        raise InputError(f"--prompts {prompts} is no text in UTF-8") from None
    if not any(lines):
        raise InputError(f"--prompts {prompts} is empty: a line for each prompt is wanted")
    return [line for line in lines if line]


def check_label(denoiser: DenoiserLike, label: str | None) -> None:
    """Refuse a label of a run on pictures without labels.

    Raises:
        InputError: saying what there is instead.
    """
    if label is None or denoiser.label_names:
        return
    captions = any(one.value == "text" for one in denoiser.conditioners)
    has = "knows captions: say it by --prompt" if captions else "has none: leave --label out"
    raise InputError(f"--label is for runs on labelled pictures, and this one {has}")


def told(
    denoiser: DenoiserLike, label: str | None, image: Path | None, prompts: Sequence[str] = (), n: int | None = None
) -> Words:
    """Return the condition that --label, --image and the prompts mean, which the samples take in turn.

    Raises:
        InputError: if an image is given to a run that takes none, or cannot be read.
    """
    if label is not None and any(one.value == "text" for one in denoiser.conditioners):
        check_label(denoiser, label)
    more: dict[str, Any] = {} if label is None else {"label": label}
    if prompts:
        every = [prompts[k % len(prompts)] for k in range(n or len(prompts))]
        more["text"] = prompts[0] if len(prompts) == 1 else every
    if image is None:
        return more if prompts else label
    from fromnoise.pictures_cond import Image

    shape = next((one.shape for one in denoiser.conditioners if isinstance(one, Image)), None)
    if shape is None:
        raise InputError("--image is for runs that enlarge pictures: train one with --from-size")
    pictures = pictures_from(image, shape, "--image")
    return {"image": pictures if len(pictures) > 1 else pictures[0], **more}
