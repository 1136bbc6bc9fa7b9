"""Freed memory is kept for the next step."""

from __future__ import annotations

from functools import cache

import torch

_LARGEST = 31 * 2**20
"""Just below the largest block for which glibc adapts: 32 MiB."""


@cache
def keep_freed_memory() -> None:
    """Let the C library keep the memory that a step frees, for the next step takes as much again.

    glibc gives every block above 128 KiB back to the system when it is freed, and the system clears it before it gives
    it out again, which takes a small network as long as its arithmetic. But the limit moves up to the size of the
    largest block freed so far, at most 32 MiB (mallopt(3), M_MMAP_THRESHOLD): so free one, never touched, at once.
    With other C libraries nothing changes.
    """
    torch.empty(_LARGEST, dtype=torch.uint8)
