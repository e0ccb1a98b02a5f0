"""How a raw map becomes one that can be cut. Nothing here looks at a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def normalise(raw: NDArray, foreground: NDArray) -> NDArray:
    """Scale a case's raw map to [0, 1]: 0 stays 0, the 99.9th percentile inside the foreground becomes 1.

    Args:
        raw: (X, Y, Z); negative values count as no evidence.
        foreground: (X, Y, Z) bool; all else becomes 0.

    Returns:
        (X, Y, Z) float32 in [0, 1]; all 0 if there is no evidence.
    """
    clipped = np.where(foreground, np.maximum(raw, 0), 0).astype(np.float32)
    inside = clipped[foreground]
    if not inside.size or inside.max() <= 0:
        return np.zeros_like(clipped)
    # Where evidence fills less than a thousandth of the foreground, the percentile is 0: its peak then becomes 1.
    top = float(np.percentile(inside, 99.9)) or float(inside.max())
    return np.minimum(clipped / top, 1)
