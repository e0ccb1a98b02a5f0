"""A fully connected conditional random field of two labels, solved by mean field."""

from __future__ import annotations

from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.special import expit, logit

from weakseg.evaluation.histogram import histogram, otsu
from weakseg.refinements.case import Case, box_around, scaled

SURE = 3.0
"""Largest log-odds that the map may give a voxel, about 0.95 against 0.05, so that other voxels can overrule it."""
TRUNCATE = 3.0
"""Standard deviations at which a Gaussian ends."""
LEVELS = 2
"""Levels of intensity to one standard deviation."""
BLOCK = 1 << 14
"""Voxels whose corners in the grid are written at a time."""


def refine(
    relevance: NDArray,
    case: Case,
    *,
    channel: int,
    appearance: float,
    appearance_mm: float,
    appearance_intensity: float,
    smoothness: float,
    smoothness_mm: float,
    iterations: int,
) -> NDArray:
    """Dense CRF in the manner of Krahenbuhl & Koltun 2011, arXiv 1210.5644, with distances in mm.

    The mean-field updates of their algorithm 1 with the two kernels of their equation 3, for two labels:

        q_i = sigmoid(u_i + appearance * A_i(2q - 1) + smoothness * S_i(2q - 1))

    A_i is the mean over the foreground with weights exp(-|x_i - x_j|^2 / 2 appearance_mm^2
    - |I_i - I_j|^2 / 2 appearance_intensity^2), S_i that over other voxels with a Gaussian of smoothness_mm. Ours are
    the log-odds u: a map is no probability, so they are taken against Otsu's threshold of it, which stands for even
    odds; that kernels are divided by their sums; and the filter (:class:`BilateralGrid`), of one channel.

    Args:
        relevance: (X, Y, Z) in [0, 1].
        case: its image, foreground and spacing.
        channel: place of the channel in the image.
        appearance, smoothness: weights of the kernels, in log-odds.
        appearance_mm, smoothness_mm: standard deviations in mm.
        appearance_intensity: standard deviation of intensity, which is in [0, 1].
        iterations: updates, all voxels at once.

    Returns:
        (X, Y, Z) float32 in [0, 1]: q, 0 outside the foreground.

    Raises:
        NotRefinedError: the image is constant.
    """
    box = box_around(case.foreground)
    (image,) = scaled(case, [channel], box)
    inside = case.foreground[box]
    cut = otsu(histogram(relevance, np.zeros_like(case.foreground), case.foreground, 1.0))
    values = relevance[box][inside]
    unary = np.clip(_log_odds(values) - _log_odds(_middle(values, cut)), -SURE, SURE)
    alike = BilateralGrid(inside, image, case.spacing, appearance_mm, appearance_intensity)
    near = Neighbours(inside, case.spacing, smoothness_mm)
    belief = expit(unary)
    for _ in range(iterations):
        signed = 2 * belief - 1
        belief = expit(unary + appearance * alike.mean(signed) + smoothness * near.mean(signed))
    refined = np.zeros(relevance.shape, dtype=np.float32)
    refined[box][inside] = belief
    return refined


def _middle(values: NDArray, cut: float) -> NDArray:
    """The middle of the gap in which a threshold lies, as all thresholds in a gap part the values alike."""
    low, high = values[values <= cut], values[values > cut]
    return (low.max() + high.min()) / 2 if low.size and high.size else values.mean()


def _log_odds(values: NDArray) -> NDArray:
    return logit(np.clip(values, 1e-3, 1 - 1e-3).astype(np.float32))


class Neighbours:
    """Gaussian means over the voxels around one, without it.

    Args:
        inside: (X, Y, Z) bool, the voxels that have a value.
        spacing: voxel size in mm.
        width_mm: standard deviation.
    """

    def __init__(self, inside: NDArray, spacing: tuple[float, float, float], width_mm: float) -> None:
        self.inside = inside
        self.sigma = [width_mm / size for size in spacing]
        self.dense = inside.astype(np.float32)
        # What a voxel itself weighs, in the filter's own arithmetic.
        single = np.zeros([2 * int(TRUNCATE * sigma + 0.5) + 1 for sigma in self.sigma], dtype=np.float32)
        middle = tuple(size // 2 for size in single.shape)
        single[middle] = 1
        self.own = _blur(single, self.sigma)[middle]
        self.total = _blur(self.dense, self.sigma)[inside] - self.own

    def mean(self, values: NDArray) -> NDArray:
        """The mean (voxels,) around each voxel of values (voxels,); 0 for one that has nothing near."""
        self.dense[self.inside] = values
        sums = _blur(self.dense, self.sigma)[self.inside] - self.own * values
        return np.where(self.total > 1e-5, sums / np.maximum(self.total, 1e-5), 0)


class BilateralGrid:
    """Gaussian means over voxels that are near and alike, by way of a coarse grid of place and intensity.

    Chen, Paris & Durand 2007, 10.1145/1276377.1276506: values are splatted to the grid, blurred there and sliced back.
    Cells are one standard deviation of place wide and lie symmetrically, so that flips change nothing; levels of
    intensity are :data:`LEVELS` to one. Splat and slice are linear over place and to the nearest level, which each
    widen the kernel, by 1/6 of a squared cell and 1/12 of a squared level on average; the blur is that much narrower.

    Args:
        inside: (X, Y, Z) bool, the voxels that have a value.
        image: (X, Y, Z) in [0, 1].
        spacing: voxel size in mm.
        width_mm: standard deviation of place.
        width_intensity: standard deviation of intensity.
    """

    def __init__(
        self,
        inside: NDArray,
        image: NDArray,
        spacing: tuple[float, float, float],
        width_mm: float,
        width_intensity: float,
    ) -> None:
        level = np.rint(image[inside] * np.float32(LEVELS / width_intensity)).astype(np.int32)
        self.shape = [int(np.rint(LEVELS / width_intensity)) + 1]
        self.sigma = [(LEVELS**2 - 1 / 6) ** 0.5]
        first, shares = level, []
        for place, length, size in zip(np.nonzero(inside), inside.shape, spacing, strict=True):
            side = (length - 1) * size / width_mm
            cells = int(np.ceil(side)) + 2
            # What holds for all voxels of a plane is computed once.
            position = np.arange(length, dtype=np.float32) * np.float32(size / width_mm)
            position += np.float32((cells - 1 - side) / 2)
            lower = np.clip(position.astype(np.int32), 0, cells - 2)
            above = position - lower
            first = first * cells + lower[place]
            shares.append(((1 - above)[place], above[place]))
            self.shape.append(cells)
            self.sigma.append((1 - 1 / 3) ** 0.5)
        _, _, across, along = self.shape
        corners, weights = (np.empty((len(first), 8), dtype=kind) for kind in (np.int32, np.float32))
        # In blocks that fit a processor's cache: a corner's column is strewn over all rows.
        for block in (slice(start, start + BLOCK) for start in range(0, len(first), BLOCK)):
            for corner, (z, y, x) in enumerate(product((0, 1), repeat=3)):
                corners[block, corner] = first[block] + ((x * across + y) * along + z)
                weights[block, corner] = shares[0][x][block] * shares[1][y][block] * shares[2][z][block]
        starts = np.arange(0, corners.size + 1, corners.shape[1], dtype=np.int32)
        shape = (len(corners), int(np.prod(self.shape)))
        self.slicing = sparse.csr_array((weights.ravel(), corners.ravel(), starts), shape=shape)
        self.total = self._filter(np.ones(len(corners), dtype=np.float32))

    def mean(self, values: NDArray) -> NDArray:
        """The mean (voxels,) around each voxel of values (voxels,), itself among them."""
        return self._filter(values) / self.total

    def _filter(self, values: NDArray) -> NDArray:
        grid = (self.slicing.T @ values).reshape(self.shape)
        return self.slicing @ _blur(grid, self.sigma).ravel()


def _blur(volume: NDArray, sigma: list[float]) -> NDArray:
    return ndimage.gaussian_filter(volume, sigma, mode="constant", truncate=TRUNCATE)
