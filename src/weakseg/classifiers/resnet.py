"""Slice classifier: a 2D network (a ResNet, but for studies) that learns from labels whether a slice shows a lesion."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from weakseg import nifti
from weakseg.data.grid import image_file, read_foreground
from weakseg.data.index import read_cases
from weakseg.data.labels import LESION, UNLABELLED, read_labels
from weakseg.data.views import pixel_area
from weakseg.errors import WeaksegError
from weakseg.evaluation.classification import auc, sensitivity_specificity, youden_threshold
from weakseg.execution import Context, write_json
from weakseg.networks import freeze, save_weights, slice_network
from weakseg.randomness import rng
from weakseg.training import Schedule, augment, train

BATCH = 64
"""Slices per forward when predicting; results do not depend on it."""


def run(context: Context) -> None:
    """Train on the fold's training labels, choose the epoch and the threshold on its validation labels.

    Writes ``weights.safetensors``, ``predictions.csv`` (case, position, role, logit; all but training cases),
    ``history.csv`` and ``metrics.json``.

    Raises:
        WeaksegError: the fold's training or validation slices are all of one class.
    """
    preprocessed = context.folder("preprocess")
    slices, images = read_slices(context), SliceImages(preprocessed)
    network = fit(context, slices, images)
    evaluated = slices[slices["role"] != "train"].copy()
    with torch.inference_mode():
        evaluated["logit"] = predict(network, images, evaluated, context.device)
    save_weights(context.out / "weights.safetensors", network)
    # Without labels, so that no map can see those of tested cases.
    evaluated.drop(columns="label").to_csv(context.out / "predictions.csv", index=False)
    channels = context.record("preprocess")["params"]["channels"]
    write_json(context.out / "metrics.json", _metrics(evaluated, preprocessed, images, channels))


def fit(context: Context, slices: pd.DataFrame, images: SliceImages) -> nn.Module:
    """Train a network on the labelled training slices, choose its epoch on the validation slices, and freeze it.

    Writes ``history.csv`` and counts the labels used.

    Args:
        context: with the network, ``seed`` and ``training`` in its parameters; these alone decide the initial weights,
            the order of slices and their augmentation.
        slices: of :func:`read_slices`.
        images: what the network is shown of a slice.

    Raises:
        WeaksegError: the fold's training or validation slices are all of one class.
    """
    params = context.params
    torch.set_num_threads(context.threads)
    torch.use_deterministic_algorithms(True)
    train_rows, val_rows = labelled(slices, "train"), labelled(slices, "val")
    network = slice_network(images.channels(train_rows), params, params["seed"]).to(context.device)
    batches = TrainingBatches(images, train_rows, params)

    def validation_auc(model: nn.Module) -> float:
        return auc(predict(model, images, val_rows, context.device), val_rows["label"])

    balance = torch.tensor((train_rows["label"] != LESION).sum() / (train_rows["label"] == LESION).sum())
    loss = nn.BCEWithLogitsLoss(pos_weight=balance.float().to(context.device))
    settings = params["training"]
    schedule = Schedule(
        settings["epochs"],
        settings["patience"],
        settings["learning_rate"],
        settings["weight_decay"],
        settings["averaging"],
        batches.steps,
    )
    history = train(
        network,
        batches,
        lambda logits, labels: loss(logits[:, 0], labels),
        validation_auc,
        schedule,
        context.state,
        context.device,
    )
    context.count("training_slices", len(train_rows))
    context.count("labels_used", len(train_rows) + len(val_rows))
    pd.DataFrame(history).to_csv(context.out / "history.csv", index=False)
    return freeze(network, context.device)


def read_slices(context: Context) -> pd.DataFrame:
    """Every slice unit with its label and its role in this fold."""
    cases = read_cases(context.folder("index"))
    role = f"role_f{context.params['fold']}"
    slices = read_labels(context.folder("labels")).merge(cases[["case", role]], on="case", validate="many_to_one")
    return slices.rename(columns={role: "role"})


def labelled(slices: pd.DataFrame, role: str) -> pd.DataFrame:
    """The slices of a role that have a label, of both classes.

    Raises:
        WeaksegError: they are all of one class.
    """
    rows = slices[(slices["role"] == role) & (slices["label"] != UNLABELLED)].reset_index(drop=True)
    if rows["label"].nunique() < 2:
        raise WeaksegError(f"classifier: the {role} slices of this fold are all of one class; add cases or folds")
    return rows


class SliceImages:
    """Slices of preprocessed cases, read from memory maps when asked for."""

    def __init__(self, preprocessed: Path) -> None:
        self.open = cache(lambda case: nifti.open_channels(image_file(preprocessed, case)))

    def channels(self, rows: pd.DataFrame) -> int:
        return int(self.open(rows["case"].iloc[0]).shape[0])

    def batch(self, rows: pd.DataFrame) -> NDArray:
        """Slices (N, C, X, Y) float32 of the rows' cases and positions."""
        pairs = zip(rows["case"], rows["position"], strict=True)
        return np.stack([self.open(case)[..., position] for case, position in pairs]).astype(np.float32)


class TrainingBatches:
    """The batches of an epoch: shuffled, augmented, and a function of (seed, epoch) alone."""

    def __init__(self, images: SliceImages, rows: pd.DataFrame, params: dict[str, Any]) -> None:
        self.images, self.rows, self.params = images, rows, params
        self.size = params["training"]["batch_size"]
        self.steps = -(-len(rows) // self.size)

    def __call__(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        draws = rng(self.params["seed"], "augmentation", str(epoch))
        order = rng(self.params["seed"], "order", str(epoch)).permutation(len(self.rows))
        # Batches of about equal size: a last one of a single slice could not be batch-normalised.
        for chosen in np.array_split(order, self.steps):
            rows = self.rows.iloc[chosen]
            inputs = torch.from_numpy(self.images.batch(rows))
            if self.params["training"]["augmentation"]:
                inputs = augment(inputs, draws.random((len(rows), 8 + 2 * inputs.shape[1])))
            yield inputs, torch.from_numpy(rows["label"].to_numpy(np.float32))


def predict(network: nn.Module, images: SliceImages, rows: pd.DataFrame, device: str) -> NDArray:
    """Logits (N,) of the rows' slices."""
    logits = [
        network(torch.from_numpy(images.batch(rows.iloc[start : start + BATCH])).to(device))[:, 0].float().cpu()
        for start in range(0, len(rows), BATCH)
    ]
    return torch.cat(logits).numpy()


def _metrics(evaluated: pd.DataFrame, preprocessed: Path, images: SliceImages, channels: list[str]) -> dict[str, Any]:
    """AUC, sensitivity and specificity by role at the validation threshold, and the AUC of plain statistics."""
    labelled = evaluated[evaluated["label"] != UNLABELLED]
    val = labelled[labelled["role"] == "val"]
    threshold = youden_threshold(val["logit"], val["label"])
    metrics: dict[str, Any] = {"threshold": threshold, "roles": {}}
    for role, rows in labelled.groupby("role"):
        sensitivity, specificity = sensitivity_specificity(rows["logit"], rows["label"], threshold)
        metrics["roles"][role] = {
            "slices": len(rows),
            "positive": int((rows["label"] == LESION).sum()),
            "auc": auc(rows["logit"], rows["label"]),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "plain_auc": plain_aucs(rows, preprocessed, images, channels),
        }
    return metrics


def plain_aucs(rows: pd.DataFrame, preprocessed: Path, images: SliceImages, channels: list[str]) -> dict[str, float]:
    """AUC of what needs no learning: slice position, foreground area, and percentiles of each channel.

    Low ones and the median too, since kidney tumours are dark. Each in its better direction, chosen on these very
    slices, so in favour of the plain statistic.
    """
    records = []
    for case, group in rows.groupby("case"):
        foreground, affine = read_foreground(preprocessed, str(case))
        occupied = np.flatnonzero(foreground.any(axis=(0, 1)))
        for position in group["position"]:
            inside = foreground[..., position]
            relative = (position - occupied[0]) / max(int(np.ptp(occupied)), 1)
            record = {
                "position": relative,
                "distance_to_middle": abs(relative - 0.5),
                "foreground_area": inside.sum() * pixel_area(affine),
            }
            voxels = images.open(case)[..., position][:, inside]
            for percent in (5, 50, 95, 99):
                for channel, value in zip(channels, np.percentile(voxels, percent, axis=1), strict=True):
                    record[f"{channel}_p{percent}"] = value
            records.append(record)
    statistics = pd.DataFrame(records)
    labels = np.concatenate([group["label"].to_numpy() for _, group in rows.groupby("case")])
    values = {name: auc(statistics[name], labels) for name in statistics.columns}
    return {name: max(value, 1 - value) for name, value in values.items()}
