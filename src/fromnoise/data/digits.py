"""Handwritten digits, 1,797 grey pictures of 8 x 8 pixels: the built-in data set of pictures.

Source: E. Alpaydin and C. Kaynak 1998, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49 (CC BY 4.0): its test part, whose 17 grey levels are spread over 0..255 here.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

import numpy as np
import torch

from fromnoise.data.dataset import Dataset
from fromnoise.errors import ConfigError, whole_number

COUNT = 1797


def digits(n: int = COUNT, seed: int = 0) -> Dataset:
    """Return n of the 1,797 digits, `[n, 1, 8, 8]` uint8, with their labels "0" to "9".

    Args:
        n: how many; all, unless told otherwise.
        seed: of the choice, where n is less than all.

    Raises:
        ConfigError: if there are not so many.
    """
    if whole_number("n", n) > COUNT:
        raise ConfigError(f"there are {COUNT:,} digits, fewer than n = {n:,}")
    x, labels = _file()
    rows = np.arange(COUNT) if n == COUNT else np.sort(np.random.default_rng(seed).permutation(COUNT)[:n])
    config = {"name": "digits", "n": n, "seed": seed}
    names = [str(k) for k in range(10)]
    return Dataset(torch.from_numpy(x[rows]), torch.from_numpy(labels[rows]), names, "digits", config=config)


@cache
def _file() -> tuple[np.ndarray, np.ndarray]:
    with (resources.files("fromnoise.data") / "digits.npz").open("rb") as file, np.load(file) as arrays:
        levels = arrays["x"].astype(np.uint16)
        return ((levels * 255 + 8) // 16).astype(np.uint8)[:, None], arrays["labels"].astype(np.int64)
