"""Memory: what the process holds, and keeping what is freed for the next step."""

from __future__ import annotations

import sys
from functools import cache

import torch

_LARGEST = 31 * 2**20
"""Bytes, just below 32 MiB, the largest block size to which glibc adapts."""


@cache
def keep_freed_memory() -> None:
    """Make the C library keep the memory that a step frees, because the next step needs as much again.

    glibc returns every block above 128 KiB to the system when it is freed, and the system clears the memory before it
    gives it out again; for a small network this takes as long as its arithmetic. But the limit of 128 KiB rises to the
    size of the largest block freed so far, at most 32 MiB (mallopt(3), M_MMAP_THRESHOLD). So this function allocates
    such a block, without writing to it, and frees it at once. With other C libraries nothing changes.
    """
    torch.empty(_LARGEST, dtype=torch.uint8)


def most_held(device: torch.device) -> int:
    """Return the most bytes that the process has held until now, on a CUDA device those that PyTorch has there.

    0 where the system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
