"""Keep freed memory for the next step."""

from __future__ import annotations

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
