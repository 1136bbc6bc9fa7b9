"""Files that are written whole or not at all, and read with distrust."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from fromnoise.cond import Cond
from fromnoise.conditioners import Conditioner
from fromnoise.data.dataset import Dataset
from fromnoise.errors import CheckpointDamaged, LabelError, RunError, one_line, shown
from fromnoise.run.guard import STATE_BYTES, checked_size, distrusting, read_header


class Writing:
    """Turn an operating system's refusal to write into one line that says what to do."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            reason = getattr(error, "strerror", None) or str(error)
            raise RunError(
                f"{self._path} cannot be written: {reason}; free some space, or choose another out"
            ) from None


def check_header(path: Path, wanted: Mapping[str, Tensor]) -> None:
    """Check that a file holds exactly the tensors wanted, by name, dtype and shape, from its header alone.

    Raises:
        CheckpointDamaged: if it does not.
    """
    found = read_header(path)
    odd = sorted(set(found) ^ set(wanted))
    if odd:
        raise CheckpointDamaged(f"{path} does not fit the configuration: {odd[0]:.60} is missing or not wanted")
    for name, like in wanted.items():
        dtype, shape = found[name]
        if shape != tuple(like.shape) or dtype != _DTYPES.get(like.dtype):
            raise CheckpointDamaged(
                f"{path}: {name} is {dtype}{list(shape)} and the configuration says "
                f"{_DTYPES.get(like.dtype)}{list(like.shape)}"
            )


def read_tensors(path: Path, wanted: Mapping[str, Tensor], sha256: Any) -> dict[str, Tensor]:
    """Read tensors that must be exactly those wanted, by name, shape and dtype, and finite.

    Args:
        path: of the file.
        wanted: tensors of the shapes and dtypes wanted; they may be on the meta device.
        sha256: the sum that the file must have.

    Raises:
        CheckpointDamaged: if they are not.
    """
    check_header(path, wanted)
    check_sum(path, sha256)
    with distrusting(path, CheckpointDamaged), safe_open(path, "pt") as file:
        return {name: _finite(path, name, file.get_tensor(name)) for name in wanted}


def _finite(path: Path, name: str, tensor: Tensor) -> Tensor:
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise CheckpointDamaged(f"{path}: {name} holds a NaN or an infinity")
    return tensor


_DTYPES = {
    torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def read_measured(path: Path, most: int) -> dict[str, Tensor]:
    """Read what a codec measured, of `most` bytes at most.

    Raises:
        CheckpointDamaged: if the file cannot be read, or is larger.
    """
    with distrusting(path, CheckpointDamaged):
        checked_size(path, STATE_BYTES + most)
        names = read_header(path)
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in names}


def read_optimizer(
    path: Path, parameters: Mapping[str, Tensor], called: Mapping[str, str], sha256: Any
) -> dict[str, Tensor]:
    """Read an optimizer's state of each parameter that had a gradient: Adam's step and two moments, or Muon's momentum.

    Args:
        path: of the file.
        parameters: by name.
        called: what each is called in the file.
        sha256: the sum that the file must have.

    Returns:
        `name.step`, `name.exp_avg` and `name.exp_avg_sq`, or `name.momentum_buffer`.

    Raises:
        CheckpointDamaged: if it does not fit the parameters.
    """
    count = torch.empty((), dtype=torch.float32, device="meta")
    present = {(name.rpartition(".")[0], name.rpartition(".")[2]) for name in read_header(path)}
    keys = {"step": False, "exp_avg": True, "exp_avg_sq": True}, {"momentum_buffer": True}
    wanted, new = dict[str, Tensor](), dict[str, str]()
    for name, p in parameters.items():
        for key, is_like in keys[(called[name], "momentum_buffer") in present].items():
            if any((called[name], one) in present for one in (*keys[0], *keys[1])):
                wanted[f"{called[name]}.{key}"] = p if is_like else count
                new[f"{called[name]}.{key}"] = f"{name}.{key}"
    tensors = read_tensors(path, wanted, sha256)
    for name, tensor in tensors.items():
        if name.endswith((".step", ".exp_avg_sq")) and bool((tensor < 0).any()):
            raise CheckpointDamaged(f"{path}: {name} is negative")
    return {new[name]: tensor for name, tensor in tensors.items()}


def save_data(path: Path, data: Dataset) -> None:
    """Store samples and their conditions."""
    tensors = {"x": data.x.contiguous().cpu()}
    for name, values in ({} if data.cond is None else data.cond.tensors()).items():
        tensors[f"cond.{name}"] = values.contiguous().cpu()
    save_tensors(path, tensors, {"name": data.name})


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Store tensors, down to the disk, readable for whom the user's other files are."""
    path.touch()
    mode = path.stat().st_mode
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, path, metadata=metadata)
    path.chmod(mode)  # which `save_file` narrows to the user alone
    flush(path)


def apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors on the CPU, each with memory of its own: parameters may be tied."""
    out, taken = dict[str, Tensor](), set[int]()
    for name, tensor in tensors.items():
        own = tensor.detach().contiguous().cpu()
        if own.numel() and own.untyped_storage().data_ptr() in taken:
            own = own.clone()
        taken.add(own.untyped_storage().data_ptr())
        out[name] = own
    return out


def load_data(path: Path, known: Sequence[Conditioner], rows: Any = None) -> Dataset:
    """Read stored samples and their conditions, as far as the run knows them.

    Args:
        path: of the file.
        known: the run's conditioners.
        rows: how many samples there must be, where the configuration says so.

    Raises:
        CheckpointDamaged: if they cannot be read, or their conditions are none that the run knows.
    """
    found = read_header(path)
    dtype, shape = found.get("x", ("", ()))
    kinds = ("F32", "F64", "U8") if len(shape) == 4 else ("F32", "F64")
    if dtype not in kinds or len(shape) < 2 or 0 in shape or rows not in (None, shape[0]):
        said = "" if rows is None else f", {shown(rows)} of them"
        raise CheckpointDamaged(
            f"{path}: x is {dtype}{list(shape)}, and samples are F32 or F64 [N, ...], or pictures of U8{said}"
        )
    names = {"labels" if one.value == "label" and "labels" in found else f"cond.{one.value}": one for one in known}
    for name, one in names.items():  # "labels" in format 1
        kind, size = found.get(name, ("", ()))
        if size[:1] != shape[:1] or len(size) != 1 + one.ndim:
            raise CheckpointDamaged(f"{path}: {name} is {kind}{list(size)} for {shape[0]} samples")
    masks = {one.value: f"cond.given.{one.value}" for one in known if f"cond.given.{one.value}" in found}
    for name in masks.values():
        if found[name] != ("BOOL", shape[:1]):
            raise CheckpointDamaged(f"{path}: {name} is {found[name][0]}{list(found[name][1])}")
    with distrusting(path, CheckpointDamaged), safe_open(path, "pt") as file:
        title = one_line((file.metadata() or {}).get("name", "data"), 200)
        x = _finite(path, "x", file.get_tensor("x"))
        values = {one.value: _finite(path, name, file.get_tensor(name)) for name, one in names.items()}
        given = {value: file.get_tensor(name) for value, name in masks.items()}
    try:
        cond = Cond(values, given) if values else None
        return Dataset(x, name=title, cond=cond, conditioners=tuple(known) if values else ())
    except LabelError as error:
        raise CheckpointDamaged(f"{path}: {error}") from None


def file_sum(path: Path) -> str:
    """Return a file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sum(path: Path, sha256: Any) -> None:
    """Raise CheckpointDamaged if a file's sha256 is another."""
    with distrusting(path, CheckpointDamaged):
        checked_size(path)
        if file_sum(path) != sha256:
            raise CheckpointDamaged(f"{path} is truncated or was edited: its sum is not the manifest's")


def write_json(path: Path, value: Any) -> None:
    """Write data as JSON, whole or not at all."""
    write(path, json.dumps(value, indent=2).encode())


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, down to the disk."""
    staging = path.with_name(f".{path.name}.part")
    with staging.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staging, path)
    flush(path.parent)


_PARTS = frozenset({".environment.json.part", ".config.toml.part", ".lock"})
_BEGINNING = frozenset({"environment.json", "codec.safetensors", "data.safetensors"})


def is_unbegun(path: Path) -> bool:
    """Return whether a folder is empty, or holds what a run that was broken off at its very beginning leaves."""
    with contextlib.suppress(OSError, ValueError):
        names = {entry.name for entry in path.iterdir()} - _PARTS - {"rounds"}  # of a distillation that is to end here
        made = json.loads((path / "environment.json").read_text(encoding="utf-8")) if names else {"fromnoise": ""}
        return names <= _BEGINNING and isinstance(made, dict) and "fromnoise" in made
    return False


def make_folder(path: Path, *, exist_ok: bool) -> None:
    """Make a folder and its parents, down to the disk."""
    new = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=exist_ok)
    for each in new:
        flush(each.parent)


def flush(path: Path) -> None:
    """Have the system put a file or a folder's entries on the disk."""
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":  # which has no such call
        return
    descriptor = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not is_folder or error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that know no such call
            raise
    finally:
        os.close(descriptor)
