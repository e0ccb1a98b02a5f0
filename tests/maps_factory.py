"""Tiny networks and slices to explain, for tests of map methods."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from weakseg import catalogue
from weakseg.config_maps import MethodsConfig
from weakseg.config_text import load
from weakseg.data.views import Units
from weakseg.maps import base
from weakseg.maps.base import Explained
from weakseg.maps.fit import Examples
from weakseg.maps.judge import Judge
from weakseg.networks import freeze, resnet
from weakseg.plan import build
from weakseg.randomness import rng
from weakseg.sequences import alone

MODALITIES = ["t1", "t1ce", "t2", "flair"]
ARCHITECTURE = {"architecture": "resnet", "blocks": [1, 1, 1, 1], "width": 4, "stem_stride": 1}
SHAPE = (22, 26)
POSITIONS = np.array([2, 3, 4, 6, 7])
GENERATOR = {
    "width": 2,
    # In so few steps a discriminator only leads astray: the classifier alone says what is changed.
    "adversarial": 0,
    "training": {
        "steps": 4,
        "generator_every": 1,
        "batch_size": 4,
        "learning_rate": 1e-2,
        "checkpoint": 4,
        "averaging": 0,
    },
}
SMALL = {
    "occlusion": {"window_mm": 6, "stride_mm": 3},
    "rise": {"masks": 200, "cell_mm": 6, "check": 100},
    "lime": {"samples": 200},
    "kernelshap": {"samples": 200},
    "optimal_perturbation": {"training": {"epochs": 8}},
    "coin": GENERATOR,
    "singla": GENERATOR,
}
"""Parameters for slices as small as these."""

METHODS = {"methods": {name: {"where": None, **SMALL.get(name, {})} for name in MethodsConfig.model_fields}}
BY_VIEW = {
    view: {
        name: params
        for run in build(load({"maps": METHODS, "views": {"sequence": {}}})).of_stage("maps")
        if run.label.startswith(f"brats-{view}-")
        for name, params in run.params["methods"].items()
    }
    for view in ("slice", "sequence")
}
DEFAULTS = BY_VIEW["slice"]
"""The parameters of each method for brain MRI, those by default where :data:`SMALL` has none."""


def network(seed=0):
    """A frozen tiny ResNet whose batch norms have seen some data; a copy of its own for each caller."""
    return deepcopy(trained(seed))


@cache
def trained(seed):
    model = resnet(4, ARCHITECTURE, seed).train()
    with torch.no_grad():
        model(torch.from_numpy(rng(seed, "data").normal(size=(16, 4, *SHAPE)).astype(np.float32)))
    return freeze(model, "cpu")


def units(case="a"):
    """Five slices of noise inside an ellipse that is off the centre."""
    x, y = np.indices(SHAPE)
    inside = ((x - 9) / 8) ** 2 + ((y - 14) / 10) ** 2 <= 1
    foreground = np.stack([inside, inside, inside.T[: SHAPE[0], :].repeat(2, 1)[:, :26] & inside, inside, inside])
    image = rng(0, "image").normal(size=(5, 4, *SHAPE)).astype(np.float32) * foreground[:, None]
    affine = np.array([[1.0, 0, 0, -9], [0, 1.5, 0, 4], [0, 0, 4.0, 30], [0, 0, 0, 1]])
    return Units(image, foreground, POSITIONS, case, affine, (*SHAPE, 9))


def supervoxels():
    """Blocks of 5 x 6 pixels within the foreground, the same numbers in all slices: (5, *SHAPE)."""
    x, y = np.indices(SHAPE)
    return ((x // 5) * 5 + y // 6 + 1).astype(np.int32) * units().foreground


def volume(image, foreground, spacing=(1.0, 1.0, 1.0), case="v"):
    """One volume as the only unit: image (C, X, Y, Z)."""
    affine = np.diag([*spacing, 1.0])
    return Units(image[None], foreground[None], np.array([0]), case, affine, foreground.shape)


def explained(selected=(0, 1, 2, 3, 4), seed=0, **changes):
    parts = {"units": units(), "network": network(), "untrained": network(1), "supervoxels": supervoxels(), **changes}
    return Explained(selected=np.array(selected), channels=MODALITIES, seed=seed, device="cpu", **parts)


def explain_of(name, view="slice"):
    """The function of a method's family, for this method alone: explained -> (M, 1, X, Y)."""
    return lambda task: explain(task, {name: BY_VIEW[view][name]})[name]


def explain(task, methods):
    """Maps of methods of one family. One that has something to learn does so first, from the case that it explains."""
    (family,) = {catalogue.METHODS[name].family for name in methods}
    module = import_module(f"weakseg.maps.{family}")
    if any(catalogue.METHODS[name].fits for name in methods):
        task.fitted = fitted(module, task, methods)
    return base.explain_of(methods)(task, methods)


def fitted(module, task, methods):
    """What a family learns from all units of a case; a tenth of the largest logit stands for their deviation.

    The classifier is its own judge, and calls the upper half of the units lesion.
    """
    learning = {catalogue.METHODS[name].fitted_as or name: params for name, params in methods.items()}
    whole = replace(task, selected=np.arange(len(task.units.positions)), forwards=0)
    network = alone(task.network)
    with torch.no_grad():
        logits = network(torch.from_numpy(task.units.image))[:, 0]
    judge = Judge(network, float(logits.median()))
    with TemporaryDirectory() as state:
        examples = Examples(
            train=[task.units.case],
            val=[task.units.case],
            every={"train": [task.units.case], "val": [task.units.case]},
            open=lambda _case: whole,
            network=network,
            scale=0.1 * float(logits.abs().max()) or 1.0,
            threshold=None,
            seed=task.seed,
            state=Path(state),
            device="cpu",
            judges=dict.fromkeys(("classifier", "selector"), judge),
        )
        return module.fit(examples, learning).network.state_dict()


def state_of(model):
    """What a method must leave alone: weights; mode and hooks of every module, and gradients."""
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    facts = [
        (name, module.training, *(len(getattr(module, kind)) for kind in hooks))
        for name, module in model.named_modules()
    ]
    facts += [(name, weight.requires_grad, weight.grad is None) for name, weight in model.named_parameters()]
    return tensors, facts
