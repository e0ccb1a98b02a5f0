r"""Optimal perturbation, in the manner of Rajapaksa & Khalvati 2022: a U-Net learns what to take away.

Of an image :math:`x` the U-Net :math:`g` makes a field, whose mean :math:`p_r` over each supervoxel :math:`r` gives
the mask :math:`m_r = \mathrm{sigmoid}(p_r)` and the perturbed image :math:`x' = x (1 - m) + v m` with a fill :math:`v`.
With the frozen classifier's logit :math:`f` of the explained class, in its standard deviations :math:`\sigma` over the
validation units, it minimises

.. math:: -\frac{f(x) - f(x')}{\sigma} + \lambda_a \overline{m} + \lambda_{tv} \mathrm{TV}(m).

The first term is the one that the paper states, :math:`-|f(x) - f(x')|`, in the logit, since probabilities of a sure
classifier stay at 1, and signed, since evidence for a class is what its logit loses. By itself it is least where all is
perturbed: the area term (the mean over the foreground) and the smoothness term
(:func:`weakseg.maps.regions.total_variation`) are ours, as are U-Net, fill and weights, which the paper's abstract does
not give. The map is :math:`m`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from monai.networks.nets.unet import UNet
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from weakseg import nifti
from weakseg.evaluation.faithfulness import baseline
from weakseg.maps.base import Explained, Methods
from weakseg.maps.fit import Examples, Fitted
from weakseg.maps.gated import Maps
from weakseg.maps.regions import foreground_means, region_means, total_variation
from weakseg.networks import freeze, initial_weights
from weakseg.randomness import rng
from weakseg.training import Schedule, train

BATCH = 32
"""Units per forward; results do not depend on it."""
LEVELS = 4
"""Resolutions of the U-Net, each half of the one before."""

Value = TypeVar("Value")


class FieldNetwork(nn.Module):
    """A U-Net from an image (N, C, *spatial) of any size to one value a voxel, (N, 1, *spatial).

    Its convolutions begin at half the resolution, since only means over supervoxels count, and images are normalised
    one by one, so that no unit depends on its batch.
    """

    def __init__(self, channels: int, width: int, seed: int, spatial_dims: int) -> None:
        super().__init__()
        with initial_weights(seed):
            self.unet = UNet(
                spatial_dims,
                channels,
                1,
                channels=[width * 2**level for level in range(LEVELS)],
                strides=[2] * (LEVELS - 1),
                norm="instance",
            )

    def forward(self, images: Tensor) -> Tensor:
        multiple = 2 ** (LEVELS - 1)
        missing = [-size % multiple for size in images.shape[2:]]
        padded = F.pad(images, [side for size in reversed(missing) for side in (0, size)])
        field: Tensor = self.unet(padded)
        for axis, size in enumerate(images.shape[2:], 2):
            field = field.narrow(axis, 0, size)
        return field


def mask_of(field: Tensor, labels: Tensor) -> Tensor:
    """The mask :math:`m` in [0, 1], (N, *spatial), of a field (N, 1, *spatial) and supervoxels (N, *spatial)."""
    return torch.where(labels > 0, region_means(field[:, 0].float(), labels).sigmoid(), 0)


@dataclass(frozen=True)
class PerturbationLoss:
    """The loss of fields.

    Attributes:
        classifier: frozen, one logit.
        scale: standard deviation of its logits.
        area, smoothness: weights of these terms.
        threshold: units whose logit is below it explain the other class; None where all explain the same one.
    """

    classifier: nn.Module
    scale: float
    area: float
    smoothness: float
    threshold: float | None = None

    def terms(self, field: Tensor, target: Tensor) -> Tensor:
        """Drop of the logit in standard deviations, area and smoothness of each unit, without weights: (3, N).

        Args:
            field: (N, 1, *spatial).
            target: of :func:`target_of`.
        """
        channels = target.shape[1] // 2
        image, fill, labels = target[:, :channels], target[:, channels:-1], target[:, -1].long()
        mask = mask_of(field, labels)
        with torch.no_grad():
            before = self.classifier(image)[:, 0]
        after = self.classifier(torch.lerp(image, fill, mask[:, None]))[:, 0]
        sign = 1 if self.threshold is None else torch.where(before >= self.threshold, 1, -1)
        drop = sign * (before - after) / self.scale
        return torch.stack([drop.float(), foreground_means(mask, labels), total_variation(mask, labels)])

    def __call__(self, field: Tensor, target: Tensor) -> Tensor:
        drop, area, smoothness = self.terms(field, target).mean(1)
        return self.area * area + self.smoothness * smoothness - drop


def target_of(explained: Explained, chosen: NDArray, params: dict[str, Any]) -> Tensor:
    """What the loss needs to know of some units: their image, fill and supervoxels, (N, 2 C + 1, *spatial)."""
    units, labels = explained.units, _given(explained.supervoxels)
    sigma = tuple(params["blur_mm"] / size for size in nifti.spacing_of(units.affine)[: units.image.ndim - 2])
    parts = []
    for unit in chosen:
        image, foreground = units.image[unit : unit + 1], units.foreground[unit : unit + 1]
        generator = rng(explained.seed, "optimal-fill", f"{units.case}/{units.positions[unit]}")
        fill = baseline(params["fill"], image, foreground, sigma, generator)
        parts.append(np.concatenate([image, fill, labels[unit : unit + 1, None]], axis=1, dtype=np.float32))
    return torch.from_numpy(np.concatenate(parts))


def fit(examples: Examples, methods: Methods) -> Fitted:
    """Train the U-Net for one classifier: each step is some units of one training case.

    Its epoch is chosen by the loss on the validation cases. See :class:`weakseg.maps.fit.Fit`.
    """
    (params,) = methods.values()
    settings = params["training"]
    loss = PerturbationLoss(examples.network, examples.scale, params["area"], params["smoothness"], examples.threshold)

    def batches(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for case in rng(examples.seed, "optimal-order", str(epoch)).permutation(sorted(examples.train)):
            explained = examples.open(case)
            drawn = rng(examples.seed, "optimal-units", f"{epoch}/{case}").permutation(explained.selected)
            target = target_of(explained, drawn[: settings["units"]], params)
            yield target[:, : target.shape[1] // 2], target

    def validation_terms(network: nn.Module) -> NDArray:
        found = []
        for case in sorted(examples.val):
            explained = examples.open(case)
            for start in range(0, len(explained.selected), BATCH):
                target = target_of(explained, explained.selected[start : start + BATCH], params).to(examples.device)
                found.append(loss.terms(network(target[:, : target.shape[1] // 2]), target).cpu())
        return torch.cat(found, 1).double().mean(1).numpy()

    def score(network: nn.Module) -> float:
        drop, area, smoothness = validation_terms(network)
        return float(drop - params["area"] * area - params["smoothness"] * smoothness)

    image = examples.open(min(examples.train)).units.image
    network = FieldNetwork(image.shape[1], params["width"], examples.seed, image.ndim - 2).to(examples.device)
    schedule = Schedule(
        settings["epochs"],
        settings["patience"],
        settings["learning_rate"],
        settings["weight_decay"],
        averaging=0,
        steps_per_epoch=len(examples.train),
    )
    history = train(network, batches, loss, score, schedule, examples.state, examples.device)
    with torch.inference_mode():
        drop, area, smoothness = validation_terms(freeze(network, examples.device))
    return Fitted(network, history, {"drop": float(drop), "area": float(area), "smoothness": float(smoothness)})


def explain(explained: Explained, methods: Methods) -> Maps:
    """Masks of the case's selected units, in [0, 1], 0 outside the foreground; see :class:`weakseg.maps.base.Explain`.

    The U-Net alone is asked, not the classifier that it was fitted to.
    """
    ((name, params),) = methods.items()
    images, labels = explained.units.image[explained.selected], _given(explained.supervoxels)[explained.selected]
    network = FieldNetwork(images.shape[1], params["width"], explained.seed, images.ndim - 2)
    network.load_state_dict(_given(explained.fitted))
    freeze(network, explained.device)
    explained.forwards += len(images)
    masks = []
    with torch.inference_mode():
        for start in range(0, len(images), BATCH):
            batch, regions = (torch.from_numpy(part[start : start + BATCH]) for part in (images, labels))
            field = network(batch.to(explained.device))
            masks.append(mask_of(field, regions.long().to(explained.device)).cpu().numpy())
    return {name: np.concatenate(masks)[:, None]}


def _given(value: Value | None) -> Value:
    if value is None:
        raise ValueError("optimal perturbation is explained with supervoxels and what `fit` has learnt")
    return value
