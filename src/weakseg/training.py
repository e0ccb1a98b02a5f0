"""The one training loop: resumes after a kill, keeps the best epoch, stops early."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from weakseg.feeding import ahead, laid_out, moved

Batches = Callable[[int], Iterable[tuple[Tensor, Tensor]]]


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: most epochs.
        patience: epochs without a better score after which training stops.
        learning_rate: peak of one cycle.
        weight_decay: of AdamW.
        averaging: decay per step of the exponential moving average of the weights, batch statistics too, that is
            evaluated and kept (Polyak & Juditsky 1992, 10.1137/0330046); 0 keeps the weights as they are.
        steps_per_epoch: as it says.
    """

    epochs: int
    patience: int
    learning_rate: float
    weight_decay: float
    averaging: float
    steps_per_epoch: int


def train(
    network: nn.Module,
    batches: Batches,
    loss: Callable[[Tensor, Tensor], Tensor],
    evaluate: Callable[[nn.Module], float],
    schedule: Schedule,
    state: Path,
    device: str,
) -> list[dict[str, float]]:
    """Train in place; the network ends with the averaged weights of the epoch that evaluates best.

    Args:
        network: on ``device`` already.
        batches: epoch -> (input, target) pairs; must depend on the epoch alone, so that a resumed run is the same run.
        loss: (output, target) -> scalar.
        evaluate: higher is better; called in evaluation mode without gradients. Ties go to the earlier epoch.
        schedule: lengths and rates.
        state: folder for the checkpoint of each finished epoch.
        device: ``cpu`` or ``cuda``; on the latter forwards run in bfloat16, and batches are made meanwhile.

    Returns:
        Per epoch: ``epoch``, ``loss`` (mean over steps), ``score``.
    """
    laid_out(network, device)
    optimizer = torch.optim.AdamW(
        network.parameters(), schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
    )
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(schedule.averaging), use_buffers=True)
    total = schedule.epochs * schedule.steps_per_epoch
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.learning_rate, total_steps=total)
    history: list[dict[str, float]] = []
    best: dict[str, Tensor] = {}
    checkpoint = state / "training.pt"
    if checkpoint.exists():
        saved = torch.load(checkpoint, map_location=device, weights_only=True)
        network.load_state_dict(saved["network"])
        averaged.load_state_dict(saved["averaged"])
        optimizer.load_state_dict(saved["optimizer"])
        rate.load_state_dict(saved["rate"])
        history, best = saved["history"], saved["best"]
    bar = tqdm(total=schedule.epochs, initial=len(history), desc="train", unit="epoch", disable=None)
    while len(history) < schedule.epochs and _epochs_without_gain(history) < schedule.patience:
        epoch = len(history)
        losses = []
        for batch in ahead(batches(epoch), device):
            losses.append(_step(network, optimizer, rate, loss, *batch, device))
            averaged.update_parameters(network)
        averaged.eval()
        with torch.inference_mode():
            score = evaluate(averaged.module)
        history.append({"epoch": epoch, "loss": float(np.mean(losses)), "score": score})
        if _epochs_without_gain(history) == 0:
            best = {name: tensor.detach().clone() for name, tensor in averaged.module.state_dict().items()}
        parts: dict[str, Any] = {"network": network, "averaged": averaged, "optimizer": optimizer, "rate": rate}
        states = {name: part.state_dict() for name, part in parts.items()}
        _save(checkpoint, {**states, "history": history, "best": best})
        bar.set_postfix(loss=history[-1]["loss"], score=score)
        bar.update()
    bar.close()
    network.load_state_dict(best)
    return history


def _step(
    network: nn.Module, optimizer: Any, rate: Any, loss: Callable, inputs: Tensor, targets: Tensor, device: str
) -> float:
    network.train()
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
        value = loss(network(moved(inputs, device)), moved(targets, device))
    value.backward()
    optimizer.step()
    rate.step()
    return value.item()


def _epochs_without_gain(history: list[dict[str, float]]) -> int:
    scores = [record["score"] for record in history]
    return len(scores) - 1 - int(np.argmax(scores)) if scores else 0


def _save(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save(content, temporary)
    temporary.replace(path)


def augment(images: Tensor, draws: NDArray) -> Tensor:
    """Flip, rotate, scale, shift, and change contrast and noise of slices.

    Widely, since there are few patients: what tells slices apart should hold at any pose.

    Args:
        images: (N, C, X, Y), 0 outside the foreground.
        draws: (N, 8 + 2 C) standard uniform numbers, one row an image.

    Returns:
        (N, C, X, Y): flipped along X, Y, both or not, rotated by up to 29 degrees, scaled by 0.75 to 1.25, shifted by
        up to 5 % of the field of view; per channel gain 0.85 to 1.15 and offset up to 0.15; noise of standard deviation
        up to 0.1 in the foreground.
    """
    uniform = torch.as_tensor(draws, dtype=images.dtype)
    signed = 2 * uniform - 1
    flip_x, flip_y = (torch.where(uniform[:, column] < 0.5, -1.0, 1.0) for column in (0, 7))
    angle, scale = 0.5 * signed[:, 1], 1 + 0.25 * signed[:, 2]
    shift = 0.1 * signed[:, 3:5]  # the field of view is 2 wide in these coordinates
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    # Coordinates run from -1 to 1 along either axis: without their ratio a rotation would shear. grid_sample's first
    # coordinate is the last axis (Y), so the flip of X acts on the second one.
    ratio = images.shape[2] / images.shape[3]
    rows = (
        [cos * flip_y, -sin * ratio * flip_y, shift[:, 0]],
        [sin / ratio * flip_x, cos * flip_x, shift[:, 1]],
    )
    theta = torch.stack([torch.stack(row, 1) for row in rows], 1)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return _recolour(moved, draws[:, 5], 0.15 * signed[:, 8:], 0.1 * uniform[:, 6])


def augment_volumes(images: Tensor, draws: NDArray) -> Tensor:
    """Flip, rotate, scale, shift, and change contrast and noise of volumes.

    Left and right alone are flipped: a head that lies upside down is nothing to be learnt from.

    Args:
        images: (N, C, X, Y, Z), 0 outside the foreground; voxels are taken as cubes.
        draws: (N, 12 + 2 C) standard uniform numbers, one row an image.

    Returns:
        (N, C, X, Y, Z): flipped along X or not, rotated by up to 29 degrees about each axis, scaled by 0.75 to 1.25
        along each, shifted by up to 5 % of the field of view; contrast and noise twice as much as in :func:`augment`.
    """
    uniform = torch.as_tensor(draws, dtype=images.dtype)
    signed = 2 * uniform - 1
    matrix = _rotation(0.5 * signed[:, 1:4]) * (1 + 0.25 * signed[:, None, 4:7])
    matrix = matrix * torch.where(uniform[:, :1, None] < 0.5, signed.new_tensor([-1.0, 1, 1]), 1)
    # Coordinates run from -1 to 1 along each axis: without their ratio a rotation would shear.
    size = torch.tensor(images.shape[2:], dtype=images.dtype)
    theta = torch.cat([matrix * (size / size[:, None]), 0.1 * signed[:, 7:10, None]], dim=2)
    # grid_sample's first coordinate is the last axis.
    theta = torch.cat([theta[:, :, :3].flip(1, 2), theta[:, :, 3:].flip(1)], dim=2)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    return _recolour(moved, draws[:, 10], 0.3 * signed[:, 12:], 0.2 * uniform[:, 11])


def _rotation(angles: Tensor) -> Tensor:
    """Rotations (N, 3, 3) by angles (N, 3) about X, then Y, then Z."""
    cos, sin, one, zero = angles.cos(), angles.sin(), torch.ones(len(angles)), torch.zeros(len(angles))

    def matrix(*entries: Tensor) -> Tensor:
        return torch.stack(entries, 1).reshape(-1, 3, 3)

    about_x = matrix(one, zero, zero, zero, cos[:, 0], -sin[:, 0], zero, sin[:, 0], cos[:, 0])
    about_y = matrix(cos[:, 1], zero, sin[:, 1], zero, one, zero, -sin[:, 1], zero, cos[:, 1])
    about_z = matrix(cos[:, 2], -sin[:, 2], zero, sin[:, 2], cos[:, 2], zero, zero, zero, one)
    return about_z @ about_y @ about_x


def _recolour(images: Tensor, seeds: NDArray, changes: Tensor, strength: Tensor) -> Tensor:
    """Change contrast and add noise where images (N, C, *spatial) are not 0.

    Args:
        images: to be changed.
        seeds: (N,) in [0, 1); the first decides the noise.
        changes: (N, 2 C), of each channel's gain from 1, then its offset.
        strength: (N,), standard deviation of the noise.
    """
    channels = images.shape[1]
    each = (len(images), -1, *[1] * (images.ndim - 2))
    gain, offset = 1 + changes[:, :channels].reshape(each), changes[:, channels:].reshape(each)
    generator = torch.Generator().manual_seed(int(seeds[0] * 2**53))
    noise = torch.randn(images.shape, generator=generator) * strength.reshape(each)
    return torch.where(images != 0, images * gain + offset + noise, images)
