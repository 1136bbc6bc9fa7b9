"""Files that are written whole or not at all, and read with distrust."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from fromnoise.cond import Cond, Conditioner
from fromnoise.data.dataset import Dataset
from fromnoise.errors import CheckpointDamaged, RunError


class Writing:
    """Turn an operating system's refusal to write into one line that says what to do."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError) or type(error).__name__ == "SafetensorError":
            reason = getattr(error, "strerror", None) or str(error)
            raise RunError(
                f"{self._path} cannot be written: {reason}; free some space or choose another --out"
            ) from None


def read_tensors(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read tensors that must be exactly those wanted, by name, shape and dtype, and finite.

    Raises:
        CheckpointDamaged: if they are not.
    """
    try:
        return _read_tensors(path, wanted)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointDamaged(f"{path} cannot be read: {error}") from None


def _read_tensors(path: Path, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = _header_names(path)
    if sorted(names) != sorted(wanted):
        odd = sorted(set(names) ^ set(wanted)) or ["a name that occurs twice"]
        raise CheckpointDamaged(f"{path} does not fit the configuration: {odd[0]} is missing or not wanted")
    with safe_open(path, "pt") as file:
        for name, like in wanted.items():
            part = file.get_slice(name)
            shape, dtype = tuple(part.get_shape()), part.get_dtype()
            if shape != tuple(like.shape) or dtype != _DTYPES.get(like.dtype):
                raise CheckpointDamaged(
                    f"{path}: {name} is {dtype}{list(shape)} and the configuration says "
                    f"{_DTYPES.get(like.dtype)}{list(like.shape)}"
                )
        tensors = {name: file.get_tensor(name) for name in wanted}
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointDamaged(f"{path}: {name} holds a NaN or an infinity")
    return tensors


_DTYPES = {torch.float32: "F32", torch.float64: "F64", torch.bfloat16: "BF16", torch.float16: "F16", torch.int64: "I64"}


def _header_names(path: Path) -> list[str]:
    """Return the tensors' names as the file lists them, doubles included (its reader would drop those silently)."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > 100_000_000:
            raise CheckpointDamaged(f"{path} is not a safetensors file")
        pairs = json.loads(file.read(length), object_pairs_hook=list)
    return [name for name, _ in pairs if name != "__metadata__"]


def save_data(path: Path, data: Dataset) -> None:
    """Store samples and their conditions."""
    tensors = {"x": data.x.contiguous().cpu()}
    for name, values in ({} if data.cond is None else data.cond.values).items():
        tensors[f"cond.{name}"] = values.contiguous().cpu()
    save_tensors(path, tensors, {"name": data.name})


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Store tensors, down to the disk."""
    save_file({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, path, metadata=metadata)
    flush(path)


def load_data(path: Path, known: Sequence[Conditioner]) -> Dataset:
    """Read stored samples and their conditions, as far as the run knows them."""
    try:
        with safe_open(path, "pt") as file:
            name = (file.metadata() or {}).get("name", "data")
        tensors = load_file(path)
        values = {key.removeprefix("cond."): value for key, value in tensors.items() if key.startswith("cond.")}
        if "labels" in tensors:  # format 1
            values["label"] = tensors["labels"]
        cond = Cond(values).only([one.value for one in known])
        return Dataset(tensors["x"], name=name, cond=cond, conditioners=tuple(known) if cond is not None else ())
    except (OSError, KeyError, SafetensorError) as error:
        raise CheckpointDamaged(f"{path} cannot be read: {error}") from None


def file_sum(path: Path) -> str:
    """Return a file's sha256."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write data as JSON, whole or not at all."""
    write(path, json.dumps(value, indent=2).encode())


def write(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    staging = path.with_name(f".{path.name}.part")
    with staging.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(staging, path)


def flush(path: Path) -> None:
    """Have the system put a file or folder on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
