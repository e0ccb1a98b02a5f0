"""Unsupervised pseudo-masks: clusters of intensity, kept where they agree with the map."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.cluster import KMeans
from sklearn.mixture import GaussianMixture

from weakseg.refinements.case import Case, NotRefinedError, box_around, scaled

SAMPLE = 4096
"""Voxels that clusters are fitted to, evenly spaced in the order of intensities; more move no centre visibly."""
FUZZINESS = 2.0
"""Exponent of fuzzy c-means, as nearly always."""
TOLERANCE = 1e-4
"""Fuzzy c-means ends when no centre, in [0, 1], moves further."""
ITERATIONS = 300

Algorithm = Literal["kmeans", "gaussian_mixture", "fuzzy_cmeans"]


def refine(
    relevance: NDArray,
    case: Case,
    *,
    algorithm: Algorithm,
    number: int,
    channels: Sequence[int],
    smoothing_mm: float,
    agreement: float,
    overlap: float,
) -> NDArray:
    """Pseudo-masks in the manner of Ramananda & Sundaresan 2023, arXiv 2309.16627.

    Their abstract says "pseudo-ICH masks obtained in an unsupervised manner" and no more, so all that follows is ours.
    Intensities are clustered in the foreground of the slices (along Z) that hold any relevance. A cluster is kept if
    its mean relevance is near that of the best one, then each connected piece (by faces) of what is kept if enough of
    it lies where the map is above half its peak. The result is a piece's mean relevance over that of the piece that
    holds most relevance, at most 1, and 0 elsewhere: so that one has 1, and a piece that the map says less of is lower.

    Args:
        relevance: (X, Y, Z) in [0, 1].
        case: its image, foreground and spacing.
        algorithm: what clusters.
        number: of clusters.
        channels: places of the channels in the image.
        smoothing_mm: standard deviation of a Gaussian over the image before, within the foreground; 0 leaves it out.
        agreement: least mean relevance of a cluster, as a share of the best one's.
        overlap: least share of a piece where the map is above half its peak.

    Returns:
        (X, Y, Z) float32 in [0, 1].

    Raises:
        NotRefinedError: the image is constant, or no piece agrees with the map.
    """
    box = box_around(case.foreground & relevance.any(axis=(0, 1)))
    cut = relevance[box]
    inside = case.foreground[box] & cut.any(axis=(0, 1))
    image = scaled(case, channels, box)
    if smoothing_mm > 0:
        image = smooth(image, case.foreground[box], [smoothing_mm / size for size in case.spacing])
    clusters = cluster(image[:, inside].T, algorithm, number)
    means = np.bincount(clusters, cut[inside]) / np.maximum(np.bincount(clusters), 1)
    mask = np.zeros(inside.shape, dtype=bool)
    mask[inside] = (means >= agreement * means.max())[clusters]
    pieces, _ = ndimage.label(mask)
    refined = np.zeros(relevance.shape, dtype=np.float32)
    refined[box] = _agreeing(pieces, cut, overlap)[pieces]
    return refined


def _agreeing(pieces: NDArray, relevance: NDArray, overlap: float) -> NDArray:
    """The value in [0, 1] of each piece, by its label."""
    labels = pieces.ravel()
    sizes = np.bincount(labels)
    sums = np.bincount(labels, relevance.ravel())
    high = np.bincount(labels, (relevance > relevance.max() / 2).ravel())
    agree = high >= overlap * sizes
    agree[0] = False
    if not agree.any():
        raise NotRefinedError("missed")
    means = sums / np.maximum(sizes, 1)
    main = np.flatnonzero(agree)[np.argmax(sums[agree])]
    return np.where(agree, np.minimum(means / means[main], 1), 0)


def smooth(image: NDArray, foreground: NDArray, sigma: Sequence[float]) -> NDArray:
    """A Gaussian mean (sigma in voxels) of an image (C, X, Y, Z) over the foreground alone, 0 outside it.

    What is outside does not seep in, and what is constant stays so up to the border.
    """
    weight = ndimage.gaussian_filter(foreground.astype(np.float32), sigma)
    return np.stack(
        [np.where(foreground, ndimage.gaussian_filter(of, sigma) / np.maximum(weight, 1e-6), 0) for of in image]
    )


def cluster(values: NDArray, algorithm: Algorithm, number: int) -> NDArray:
    """Assign every voxel to a cluster of intensities; the voxels' order does not matter.

    Args:
        values: (voxels, C) in [0, 1].
        algorithm: ``kmeans`` (Lloyd 1982), ``gaussian_mixture`` (full covariances; scikit-learn fits both) or
            ``fuzzy_cmeans`` (Bezdek 1981; a voxel goes to the cluster it belongs to most).
        number: of clusters; fewer if there are fewer different intensities.

    Returns:
        (voxels,) integers; the clusters' order has no meaning.
    """
    ordered = values[np.lexsort(values.T)]
    sample = ordered[np.linspace(0, len(ordered) - 1, min(SAMPLE, len(ordered))).round().astype(int)].astype(np.float64)
    different = np.unique(sample, axis=0)
    # Centres begin at evenly spaced ranks along the direction in which intensities spread most.
    along = different[np.argsort(different @ _main_direction(sample), kind="stable")]
    number = min(number, len(along))
    start = along[((np.arange(number) + 0.5) / number * len(along)).astype(int)]
    return _FITS[algorithm](sample, start)(values)


def _main_direction(sample: NDArray) -> NDArray:
    return np.linalg.eigh(np.atleast_2d(np.cov(sample.T)))[1][:, -1]


def _kmeans(sample: NDArray, start: NDArray) -> Callable[[NDArray], NDArray]:
    return _nearest(KMeans(len(start), init=start, n_init=1).fit(sample).cluster_centers_)


def _gaussian_mixture(sample: NDArray, start: NDArray) -> Callable[[NDArray], NDArray]:
    # It starts from a k-means of its own: covariances that it draws from there would not fit other centres.
    return GaussianMixture(len(start), random_state=0).fit(sample).predict


def _fuzzy_cmeans(sample: NDArray, start: NDArray) -> Callable[[NDArray], NDArray]:
    return _nearest(fuzzy_centres(sample, start))


def fuzzy_centres(sample: NDArray, start: NDArray) -> NDArray:
    """Bezdek 1981: u_ik = 1 / sum_j (d_ik / d_jk)^(2 / (m - 1)); centres are means weighted with u^m.

    Args:
        sample: (voxels, C).
        start: (K, C) where centres begin.

    Returns:
        (K, C).
    """
    centres = start
    for _ in range(ITERATIONS):
        squares = np.maximum(((sample[:, None] - centres) ** 2).sum(2), 1e-12)
        inverse = squares ** (-1 / (FUZZINESS - 1))
        weights = (inverse / inverse.sum(1, keepdims=True)) ** FUZZINESS
        moved = weights.T @ sample / weights.sum(0)[:, None]
        shift = np.abs(moved - centres).max()
        centres = moved
        if shift < TOLERANCE:
            break
    return centres


def _nearest(centres: NDArray) -> Callable[[NDArray], NDArray]:
    """The nearest centre, which is also the one of largest membership in fuzzy c-means."""
    # |v - c|^2 without its |v|^2, which is the same for all centres.
    return lambda values: np.argmin(
        (centres**2).sum(1).astype(np.float32) - 2 * values @ centres.T.astype(np.float32), 1
    )


_FITS: dict[str, Callable[[NDArray, NDArray], Callable[[NDArray], NDArray]]] = {
    "kmeans": _kmeans,
    "gaussian_mixture": _gaussian_mixture,
    "fuzzy_cmeans": _fuzzy_cmeans,
}
