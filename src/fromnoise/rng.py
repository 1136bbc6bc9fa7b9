"""Every random number of the library comes from a stream made here; there is no global state.

A stream is named by a seed, a purpose and an index: `stream(seed, "chunk", 3)`. The same name gives the same
numbers, whatever was drawn before, so a resumed run needs no saved generator and sample i can be drawn without
sample i - 1.

torch's CPU generator (mt19937) uses only the low 32 bits of its seed, so with a plain hash of the name two of 65,000
streams would collide with probability one half. The low bits below are therefore a bijection of the index: two
indices of one seed and purpose never meet.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from fromnoise.errors import InputError, whole_number

_LOW = 0xFFFFFFFF


def _mix(h: int) -> int:
    """Scramble 32 bits one to one, so that every input bit affects every output bit (multiply and xor-shift, twice)."""
    h = ((h ^ (h >> 16)) * 0x85EBCA6B) & _LOW
    h = ((h ^ (h >> 13)) * 0xC2B2AE35) & _LOW
    return h ^ (h >> 16)


class Streams:
    """The streams of one seed and purpose, one for each index.

    Args:
        seed: any integer of at most 64 bits, not negative.
        purpose: what the numbers are for ("train", "chunk", ...); different purposes share nothing.
    """

    def __init__(self, seed: int, purpose: str, device: torch.device | str = "cpu") -> None:
        digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
        self._base = int.from_bytes(digest[:4], "little")
        self._high = int.from_bytes(digest[4:8], "little") >> 1
        self._generator = torch.Generator(device=device)

    def seed_of(self, index: int) -> int:
        """Return the 63-bit seed of the stream at `index` (0 <= index < 2^32)."""
        return (self._high << 32) | _mix((self._base + index) & _LOW)

    def at(self, index: int) -> torch.Generator:
        """Return the generator, set to the start of the stream at `index`. Every call returns the same object."""
        return self._generator.manual_seed(self.seed_of(index))


def stream(seed: int, purpose: str, index: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh generator at the start of the stream named (seed, purpose, index)."""
    return Streams(seed, purpose, device).at(index)


def hashed(seed: int, purpose: str, count: int) -> Tensor:
    """Return a number in [0, 1) for each of 0, 1, ..., count - 1, `[count]` float64: number i does not depend on count.

    Source: the mixing function of SplitMix64 (Steele, Lea & Flood 2014), of a hash of the name plus i steps.
    """
    start = int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[8:16], "little")
    with np.errstate(over="ignore"):
        h = np.uint64(start) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return torch.from_numpy(((h ^ (h >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def check_seed(seed: int) -> int:
    """Return `seed` if it can seed a stream.

    Raises:
        InputError: if it is negative or has more than 64 bits.
    """
    number = whole_number("seed", seed, least=0)
    if number >= 2**64:
        raise InputError(f"seed must be below 2^64, not {seed!r}")
    return number


_SEEDING = threading.RLock()


@contextlib.contextmanager
def seeded(seed: int, purpose: str) -> Iterator[None]:
    """Seed torch's own generator inside the block, for code that draws from it (a module's default initialization).

    After the block the generator has its former state. The generator is the process's: other threads wait.
    """
    with _SEEDING, torch.random.fork_rng(devices=[]):
        torch.manual_seed(Streams(seed, purpose).seed_of(0))
        yield
