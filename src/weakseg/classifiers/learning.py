"""What all classifiers share: batches, training on image-level labels, prediction, and how good they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from weakseg.data.labels import LESION, UNLABELLED
from weakseg.errors import WeaksegError
from weakseg.evaluation.classification import auc, sensitivity_specificity, youden_threshold
from weakseg.execution import Context, write_json
from weakseg.networks import classifier_network, freeze, reproducible, save_weights
from weakseg.randomness import rng
from weakseg.training import Schedule, train


class Images(Protocol):
    """What a network is shown of units; ``together`` of them in one forward when predicting, which decides nothing."""

    together: int

    def channels(self, rows: pd.DataFrame) -> int:
        """Number of channels of the rows' images."""

    def batch(self, rows: pd.DataFrame) -> NDArray:
        """Images (N, C, *spatial) float32 of the rows' units."""

    def augment(self, images: Tensor, generator: np.random.Generator) -> Tensor:
        """Other views of a batch (N, C, *spatial) for training."""


Score = Callable[[NDArray, pd.Series], float]
"""How good logits (N,) are for labels (N,); higher is better."""


class TrainingBatches:
    """The batches of an epoch: shuffled, augmented, and a function of (seed, epoch) alone."""

    def __init__(self, images: Images, rows: pd.DataFrame, params: dict[str, Any]) -> None:
        self.images, self.rows, self.params = images, rows, params
        self.steps = -(-len(rows) // params["training"]["batch_size"])

    def __call__(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        draws = rng(self.params["seed"], "augmentation", str(epoch))
        order = rng(self.params["seed"], "order", str(epoch)).permutation(len(self.rows))
        for rows in self.batches(order):
            inputs = torch.from_numpy(self.images.batch(rows))
            if self.params["training"]["augmentation"]:
                inputs = self.images.augment(inputs, draws)
            yield inputs, torch.from_numpy(rows["label"].to_numpy(np.float32))

    def batches(self, order: NDArray) -> Iterator[pd.DataFrame]:
        """The units of each batch, given all (N,) in the order of an epoch."""
        # Of about equal size: a last one of a single unit could not be batch-normalised.
        for chosen in np.array_split(order, self.steps):
            yield self.rows.iloc[chosen]


def predict(network: nn.Module, images: Images, rows: pd.DataFrame, device: str) -> NDArray:
    """Logits (N,) of the rows' units."""
    logits = [
        network(torch.from_numpy(images.batch(rows.iloc[start : start + images.together])).to(device))[:, 0]
        .float()
        .cpu()
        for start in range(0, len(rows), images.together)
    ]
    return torch.cat(logits).numpy()


def run(
    context: Context,
    units: pd.DataFrame,
    images: Images,
    plain: Callable[[pd.DataFrame], pd.DataFrame],
    score: Score = auc,
    batches: Callable[..., TrainingBatches] = TrainingBatches,
    predict: Callable[..., NDArray] = predict,
) -> None:
    """Train on the fold's training labels, choose the epoch and the threshold on its validation labels.

    Writes ``weights.safetensors``, ``predictions.csv`` (the units but for training cases, with role and logit),
    ``history.csv`` and ``metrics.json``.

    Args:
        context: with the parameters of :func:`fit`.
        units: one row each: ``case``, ``role``, ``label`` (1, 0, or -1 for none), and what else tells them apart.
        images: what the network is shown of a unit.
        plain: what can be said of units without learning: a column per statistic, a row per unit.
        score: by which the epoch is chosen.
        batches, predict: how units are shown, if not one by one: as :class:`TrainingBatches` and :func:`predict`.

    Raises:
        WeaksegError: the fold's training or validation units are all of one class.
    """
    network = fit(context, units, images, score, batches, predict)
    evaluated = units[units["role"] != "train"].copy()
    with torch.inference_mode():
        evaluated["logit"] = predict(network, images, evaluated, context.device)
    save_weights(context.out / "weights.safetensors", network)
    # Without labels, so that no map can see those of tested cases.
    evaluated.drop(columns="label").to_csv(context.out / "predictions.csv", index=False)
    write_json(context.out / "metrics.json", _metrics(evaluated, plain))


def fit(
    context: Context,
    units: pd.DataFrame,
    images: Images,
    score: Score = auc,
    batches: Callable[..., TrainingBatches] = TrainingBatches,
    predict: Callable[..., NDArray] = predict,
) -> nn.Module:
    """Train a network on the labelled training units, choose its epoch on the validation units, and freeze it.

    Writes ``history.csv`` and counts the labels used.

    Args:
        context: with the network, ``seed`` and ``training`` in its parameters; these alone decide the initial weights,
            the order of units and their augmentation.
        units: as in :func:`run`.
        images: what the network is shown of a unit.
        score: of the validation units, by which the epoch is chosen.
        batches, predict: as in :func:`run`.

    Raises:
        WeaksegError: the fold's training or validation units are all of one class.
    """
    params = context.params
    reproducible(context.threads, context.device)
    train_rows, val_rows = labelled(units, "train"), labelled(units, "val")
    network = classifier_network(images.channels(train_rows), params, params["seed"]).to(context.device)
    training = batches(images, train_rows, params)

    def validation_score(model: nn.Module) -> float:
        return score(predict(model, images, val_rows, context.device), val_rows["label"])

    balance = torch.tensor((train_rows["label"] != LESION).sum() / (train_rows["label"] == LESION).sum())
    entropy = nn.BCEWithLogitsLoss(pos_weight=balance.float().to(context.device))

    def loss(logits: Tensor, labels: Tensor) -> Tensor:
        """Of all logits (N, L) of the units that have a label."""
        known = labels != UNLABELLED
        value: Tensor = entropy(logits[known], labels[known, None].expand(-1, logits.shape[1]))
        return value

    history = train(
        network,
        training,
        loss,
        validation_score,
        schedule_of(params["training"], training.steps),
        context.state,
        context.device,
    )
    context.count("training_units", len(train_rows))
    context.count("labels_used", len(train_rows) + len(val_rows))
    pd.DataFrame(history).to_csv(context.out / "history.csv", index=False)
    return freeze(network, context.device)


def schedule_of(settings: dict[str, Any], steps: int) -> Schedule:
    """How long to train with these settings, at so many steps an epoch.

    One number of epochs would leave a small data set with few steps, so both epochs and patience grow with
    ``least_steps``.
    """
    longer = max(1, settings["least_steps"] / (settings["epochs"] * steps))
    epochs, patience = (math.ceil(longer * settings[name]) for name in ("epochs", "patience"))
    return Schedule(epochs, patience, settings["learning_rate"], settings["weight_decay"], settings["averaging"], steps)


def labelled(units: pd.DataFrame, role: str) -> pd.DataFrame:
    """The units of a role that have a label, of both classes.

    Raises:
        WeaksegError: they are all of one class.
    """
    rows = units[(units["role"] == role) & (units["label"] != UNLABELLED)].reset_index(drop=True)
    if rows["label"].nunique() < 2:
        raise WeaksegError(f"classifier: the {role} labels of this fold are not of two classes; add cases or folds")
    return rows


def _metrics(evaluated: pd.DataFrame, plain: Callable[[pd.DataFrame], pd.DataFrame]) -> dict[str, Any]:
    """AUC, sensitivity and specificity by role at the validation threshold, and the AUC of plain statistics."""
    known = evaluated[evaluated["label"] != UNLABELLED]
    val = known[known["role"] == "val"]
    threshold = youden_threshold(val["logit"], val["label"])
    metrics: dict[str, Any] = {"threshold": threshold, "roles": {}}
    for role, rows in known.groupby("role"):
        sensitivity, specificity = sensitivity_specificity(rows["logit"], rows["label"], threshold)
        metrics["roles"][role] = {
            "units": len(rows),
            "positive": int((rows["label"] == LESION).sum()),
            "auc": auc(rows["logit"], rows["label"]),
            "sensitivity": sensitivity,
            "specificity": specificity,
            "plain_auc": plain_aucs(plain(rows), rows["label"]),
        }
    return metrics


def plain_aucs(statistics: pd.DataFrame, labels: pd.Series) -> dict[str, float]:
    """AUC of statistics that need no learning, by name.

    Each in its better direction, chosen on these very units, so in favour of the plain statistic.
    """
    values = {name: auc(statistics[name], labels) for name in statistics.columns}
    return {name: max(value, 1 - value) for name, value in values.items()}
