"""The slices that a generator is trained and chosen on, held in memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

RANGE = (0.5, 99.5)
"""Percentiles of the foreground of training slices between which the range of a channel lies."""


@dataclass(frozen=True)
class Slices:
    """Units and what the explained classifier says of them.

    Attributes:
        images: (N, C, *spatial) float32, in the classifier's units.
        foreground: (N, 1, *spatial) bool.
        probability: (N,) of a lesion; 0.5 is the classifier's threshold.
        organ: (N, 1, *spatial) bool; None where no loss asks for it.
    """

    images: Tensor
    foreground: Tensor
    probability: Tensor
    organ: Tensor | None = None

    @property
    def called(self) -> Tensor:
        """(N,) bool: those that the classifier calls lesion."""
        return self.probability >= 0.5

    def of(self, rows: Tensor, device: str) -> Slices:
        """Some of them, on a device."""
        organ = None if self.organ is None else self.organ[rows].to(device)
        return Slices(
            self.images[rows].to(device), self.foreground[rows].to(device), self.probability[rows].to(device), organ
        )

    def draw(self, size: int, generator: np.random.Generator) -> Tensor:
        """Indices (size,) of slices drawn with replacement: every other one is called lesion, if any is, or normal."""
        kinds = [kind for kind in (self.called, ~self.called) if kind.any()]
        groups = [torch.nonzero(kind)[:, 0].numpy() for kind in kinds]
        return torch.from_numpy(np.array([generator.choice(groups[place % len(groups)]) for place in range(size)]))

    def ranges(self) -> tuple[Tensor, Tensor]:
        """Low and high end (C,) of each channel's range; 1 apart where a channel has no contrast."""
        inside = self.foreground[:, 0]
        ends = np.array([_range_of(self.images[:, channel][inside].numpy()) for channel in range(self.images.shape[1])])
        low, high = torch.from_numpy(ends.astype(np.float32)).T
        return low, torch.where(high > low, high, low + 1)


def _range_of(values: NDArray) -> NDArray:
    ends: NDArray = np.percentile(values, RANGE) if values.size else np.array([0.0, 1.0])
    return ends
