"""Training by steps, with no validation to stop it; it resumes after a kill."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from tqdm import tqdm


class HasState(Protocol):
    """A network, an optimizer, or anything else that a resumed training needs."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> Any: ...


def learn(
    parts: dict[str, HasState],
    step: Callable[[int], dict[str, float]],
    steps: int,
    every: int,
    state: Path,
    device: str,
) -> list[dict[str, float]]:
    """Take steps until there are enough; networks end with the weights of the last one.

    Args:
        parts: all that has a state.
        step: number of a step -> its losses; must draw from nothing but the number, so that a resumed run is the same
            run.
        steps: how many.
        every: steps between two checkpoints.
        state: folder for the last checkpoint.
        device: that the parts are on.

    Returns:
        Per checkpoint: ``step`` and the mean of each loss since the one before.
    """
    history: list[dict[str, float]] = []
    path = state / "training.pt"
    if path.exists():
        saved = torch.load(path, map_location=device, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        history = saved["history"]
    done = int(history[-1]["step"]) if history else 0
    sums: dict[str, list[float]] = defaultdict(list)
    with tqdm(total=steps, initial=done, desc="train", unit="step", disable=None) as bar:
        for number in range(done, steps):
            for name, loss in step(number).items():
                sums[name].append(loss)
            bar.update()
            if (number + 1) % every and number + 1 < steps:
                continue
            history.append({"step": number + 1, **{name: float(np.mean(losses)) for name, losses in sums.items()}})
            sums.clear()
            _save(path, {**{name: part.state_dict() for name, part in parts.items()}, "history": history})
    return history


def _save(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".partial")
    torch.save(content, temporary)
    temporary.replace(path)
