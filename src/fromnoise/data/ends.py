"""Which numbers are black and white, in pictures of floats that do not say."""

from __future__ import annotations

from typing import Any

import numpy as np

Ends = tuple[float, float]
"""The numbers that are black and white."""

_USUAL = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
"""What the numbers of pictures mostly lie in; samples overstep it by a part of `_SLACK`, and use as much of it as
`_USED`."""

_SLACK, _USED = 0.15, 0.3

_LOOKED_AT = 2**22
"""How many numbers are looked at, to tell what nearly all of them lie in."""


def ends_of(x: Any) -> Ends:
    """Return the numbers that are black and white in pictures where nothing is said of them.

    They are the ends of the range in which nearly all numbers lie: 0 to 1, -1 to 1, 0 to 255, or, where they are far
    from filling one, their own.

    Args:
        x: a tensor or an array, of any shape.
    """
    array = x.detach().cpu().numpy() if hasattr(x, "detach") else np.asarray(x)
    if not array.size:
        return _USUAL[0]
    some = array.ravel()[:: -(-array.size // _LOOKED_AT)]
    low, high = (float(np.quantile(some, share)) for share in (0.005, 0.995))
    least, most = float(array.min()), float(array.max())
    for black, white in _USUAL:
        slack, used = _SLACK * (white - black), _USED * (white - black)
        if low >= black - slack and high <= white + slack and (most - least >= used or most == least):
            return black, white
    return (low, high) if high - low >= _USED * (most - least) else (least, most)
