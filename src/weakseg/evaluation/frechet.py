r"""How far apart two sets of images are, by the features that a network has of them.

The papers take features of an Inception network that was trained on ImageNet. Ours are the penultimate features of the
*evaluator* judge, a small network of the benchmark's own: **not Inception's**, so neither number compares with
published ones, and both compare methods within one run alone.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

COMPONENTS = 64
"""Principal components in which Gaussians are fitted; all of them where there are fewer features."""
LEAST = 640
"""Ten for each component: a covariance of fewer has no reliable distance."""
ROWS = 1024
"""Rows of a kernel's matrix that are held at once; results do not depend on it."""


def frechet_distance(real: NDArray, made: NDArray) -> float:
    r"""Fréchet distance of the Gaussians of two sets of features, from 0 on; 0 for the same set.

    :math:`|\mu - \mu'|^2 + \mathrm{tr}(\Sigma + \Sigma' - 2 (\Sigma \Sigma')^{1/2})` (Heusel et al. 2017, arXiv
    1706.08500, equation 6), in the :data:`COMPONENTS` leading principal components of the real set. Covariances are
    those of samples, with n - 1.

    Args:
        real: (n, F), to which the components are fitted.
        made: (m, F).

    Returns:
        The distance in squared units of the features. NaN if a set has fewer than :data:`LEAST`.
    """
    if min(len(real), len(made)) < LEAST:
        return float("nan")
    real, made = real.astype(float), made.astype(float)
    centre = real.mean(axis=0)
    # Ascending; rounding makes the variance of a direction without any slightly negative.
    variances, axes = np.linalg.eigh(np.cov(real, rowvar=False).reshape(2 * [real.shape[1]]))
    variances, axes = np.maximum(variances[-COMPONENTS:], 0), axes[:, -COMPONENTS:]
    projected = (made - centre) @ axes
    covariance = np.cov(projected, rowvar=False).reshape(2 * [axes.shape[1]])
    # The real covariance is diagonal there; this symmetric product has the eigenvalues of the two covariances' product.
    deviations = np.sqrt(variances)
    product = np.linalg.eigvalsh(deviations[:, None] * covariance * deviations)
    spread = variances.sum() + np.trace(covariance) - 2 * np.sqrt(np.maximum(product, 0)).sum()
    return float(np.square(projected.mean(axis=0)).sum() + max(spread, 0))


def kernel_distance(one: NDArray, other: NDArray) -> float:
    r"""Kernel distance (KID) of two sets of features: the unbiased estimate of their squared maximum mean discrepancy.

    :math:`\overline{k(x, x')}_{x \neq x'} + \overline{k(y, y')}_{y \neq y'} - 2 \overline{k(x, y)}` with the cubic
    kernel :math:`k(x, y) = (x \cdot y / F + 1)^3` (Binkowski et al. 2018, arXiv 1801.01401, section 3), over whole sets
    instead of subsets. 0 is expected of two samples of one distribution; single values may be negative.

    Args:
        one: (n, F).
        other: (m, F).

    Returns:
        NaN if a set has fewer than two.
    """
    if min(len(one), len(other)) < 2:
        return float("nan")
    one, other = one.astype(float), other.astype(float)
    return _mean_kernel_within(one) + _mean_kernel_within(other) - 2 * _kernel_sum(one, other) / len(one) / len(other)


def _mean_kernel_within(features: NDArray) -> float:
    """Mean kernel over all pairs of two different ones."""
    own = float(_kernel(np.square(features).sum(axis=1), features.shape[1]).sum())
    return (_kernel_sum(features, features) - own) / len(features) / (len(features) - 1)


def _kernel_sum(one: NDArray, other: NDArray) -> float:
    blocks = (one[start : start + ROWS] for start in range(0, len(one), ROWS))
    return float(sum(_kernel(block @ other.T, one.shape[1]).sum() for block in blocks))


def _kernel(products: NDArray, features: int) -> NDArray:
    kernel: NDArray = (products / features + 1) ** 3
    return kernel
