"""What each run asks for: passes of images through networks, voxels to go through, bytes to keep. Free of torch.

Counts are those of the code, as far as parameters and the size of the data tell: where a classifier has its say (the
gate, RISE's early stop, early stopping of a training) they are upper bounds, which the rates of finished runs correct.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from weakseg import catalogue
from weakseg.estimate.extent import Extent, above
from weakseg.runs import Run

Runs = Mapping[str, Run]
LEVELS_RANDOMISED = 3
"""Networks with random weights that faithfulness asks for maps."""
SUPERVOXELS_CUT = 1.75
"""Supervoxels of a slice, of all ^ (2/3): what a plane cuts is more than what lies in it."""


@dataclass(frozen=True)
class Passes:
    """Images through a network.

    Attributes:
        kind: of network, as :mod:`weakseg.estimate.timing` builds it.
        params: of the network.
        size: (C, *spatial) of an image.
        forwards: images without a gradient.
        steps: images with one.
        batch: images that go together.
    """

    kind: str
    params: dict[str, Any]
    size: tuple[int, ...]
    forwards: float = 0
    steps: float = 0
    batch: int = 8


@dataclass
class Asked:
    """What a run asks for.

    Attributes:
        rate: name of the rate that turns it into seconds: ``stage``, or ``stage/family``.
        megavoxels: that are read, worked on or written.
        passes: through networks.
        kept: megavoxels that are written, for the bytes on disk.
        weights: networks whose weights are written.
    """

    rate: str
    megavoxels: float = 0
    passes: list[Passes] = field(default_factory=list)
    kept: float = 0
    weights: list[Passes] = field(default_factory=list)


def asked_of(run: Run, runs: Runs, extent: Extent | None) -> Asked:
    """What a run asks for; a run without data of a known size asks for nothing but the time that such a run takes."""
    if extent is None or run.stage not in _STAGES:
        return Asked(run.stage)
    return _STAGES[run.stage](run, runs, extent)


def _data(run: Run, runs: Runs, extent: Extent) -> Asked:
    """Stages over the cases of a data set."""
    voxels = extent.cases * extent.megavoxels * extent.channels
    return Asked(run.stage, voxels, kept=voxels)


def _units(run: Run, extent: Extent) -> tuple[float, tuple[int, ...]]:
    """Units of a case, and the size of each."""
    if _of_volumes(run):
        least = run.params.get("least_mm") or (0, 0, 0)
        box = (
            min(length, math.ceil(mm / spacing)) if mm else length
            for mm, spacing, length in zip(least, extent.spacing, extent.grid, strict=True)
        )
        return 1, (extent.channels, *box)
    return extent.slices, (extent.channels, *extent.grid[:2])


def _of_volumes(run: Run) -> bool:
    return run.params.get("view") == "volume" or run.stage == "volume_classifier"


def _network(
    run: Run, size: tuple[int, ...], forwards: float = 0, steps: float = 0, batch: int | None = None
) -> Passes:
    """Passes through the network of a classifier's run."""
    names = ("architecture", "blocks", "width", "stem_stride", "depth", "growth", "hidden", "layers", "bidirectional")
    params = {name: run.params[name] for name in (*names, "window") if name in run.params}
    # A volume is explained alone.
    return Passes("classifier", params, size, forwards, steps, batch or (2 if len(size) == 4 else 32))


def _classifier(run: Run, runs: Runs, extent: Extent) -> Asked:
    settings = run.params["training"]
    units, size = _units(run, extent)
    train, val = (units * extent.roles.get(role, 0) for role in ("train", "val"))
    steps = max(1, math.ceil(train / settings["batch_size"]))
    epochs = math.ceil(max(1, settings["least_steps"] / (settings["epochs"] * steps)) * settings["epochs"])
    others = units * (extent.cases - extent.roles.get("train", 0))
    passes = _network(run, size, epochs * val + others, epochs * train, settings["batch_size"])
    return Asked(run.stage, passes=[passes], weights=[passes])


def _map_fit(run: Run, runs: Runs, extent: Extent) -> Asked:
    classifier = _classifier_of(run, runs)
    units, size = _units(run, extent)
    cases = extent.roles.get("train", 0) + extent.roles.get("val", 0)
    (family,) = {catalogue.METHODS[name].family for name in run.params["methods"]}
    passes = [_network(classifier, size, forwards=units * cases)] if classifier else []
    weights = []
    for params in run.params["methods"].values():
        settings = params["training"]
        if family == "optimal":
            images = settings["epochs"] * extent.roles.get("train", 0) * min(units * extent.lesion, settings["units"])
            images = max(images, settings["epochs"]) if _of_volumes(run) else images
            together = 2 if _of_volumes(run) else settings["units"]
            learnt = Passes("field", {"width": params["width"]}, size, steps=images, batch=together)
        else:
            names = ("width", "skips", "perturbation", "conditions")
            every = {"generator_every": settings["generator_every"]}
            images = settings["steps"] * settings["batch_size"]
            network = {name: params[name] for name in names} | every
            learnt = Passes("generators", network, size, steps=images, batch=settings["batch_size"])
        passes.append(learnt)
        weights.append(learnt)
        if classifier:
            passes.append(_network(classifier, size, steps=images))
    return Asked(f"map_fit/{family}", passes=passes, weights=weights)


def _classifier_of(run: Run, runs: Runs) -> Run | None:
    stages = ("classifier", "sequence_classifier", "volume_classifier")
    keys = [*run.upstream.get("classifier", []), *run.upstream.get("classifiers", [])]
    return next((runs[key] for key in keys if key in runs and runs[key].stage in stages), None)


def _explained(run: Run, extent: Extent) -> tuple[float, float, tuple[int, ...]]:
    """Cases, and units that the gate lets through, of a run that explains; the size of a unit."""
    units, size = _units(run, extent)
    cases = extent.of_roles(run.params.get("roles", ("test", "val", "shift")), run.params.get("fold", 0))
    gated = run.params.get("gate") == "classifier" and not _of_volumes(run)
    return cases, cases * units * (extent.lesion if gated else 1), size


def _maps(run: Run, runs: Runs, extent: Extent) -> Asked:
    methods = run.params["methods"]
    cases, passing, size = _explained(run, extent)
    family = catalogue.METHODS[next(iter(methods))].family
    classifier = _classifier_of(run, runs)
    written = cases * extent.megavoxels * len(methods)
    asked = Asked(f"{run.stage}/{family}", written, kept=written)
    if run.stage == "mean_mask" or classifier is None:
        return asked
    forwards, steps = explaining(methods, run, runs, extent, classifier, size)
    asked.passes.append(_network(classifier, size, passing * forwards, passing * steps))
    return asked


def explaining(
    methods: dict[str, dict[str, Any]],
    run: Run,
    runs: Runs,
    extent: Extent,
    classifier: Run,
    size: tuple[int, ...],
) -> tuple[float, float]:
    """Forwards, and forwards with a backward, that some methods of one family ask for a unit."""
    forwards, steps = 0.0, 0.0
    dims = len(size) - 1
    supervoxels = above(run, "supervoxels", runs)
    segments = supervoxels.params["segments"] if supervoxels else 400
    regions = segments if dims == 3 else SUPERVOXELS_CUT * segments ** (2 / 3)
    # The CAMs of a family share a forward and its backward.
    if any(catalogue.METHODS[name].family == "cam" or name == "untrained" for name in methods):
        steps += 1
    for name, params in methods.items():
        if name == "occlusion":
            lengths = (n * mm for n, mm in zip(size[1:], extent.spacing, strict=False))
            forwards += 1 + math.prod(math.ceil(length / params["stride_mm"]) for length in lengths)
        elif name == "rise":
            forwards += 1 + params["masks"]
        elif name == "scorecam":
            place = params["layer"].rsplit("layer", 1)[-1]
            deeper = int(place) - 1 if place.isdigit() else 3
            forwards += 1 + classifier.params["width"] * 2**deeper
        elif name == "ablation":
            forwards += 1 + regions
        elif name in ("lime", "kernelshap"):
            forwards += params["samples"]
        elif name == "relevance_map":
            forwards += 1 + len(params["fills"]) * regions * sum(params["scales"])
        elif name == "integrated_gradients":
            steps += params["steps"]
        elif name == "smoothgrad":
            steps += params["samples"]
        elif catalogue.METHODS[name].fits:
            forwards += 1
    return forwards, steps


def _refinement(run: Run, runs: Runs, extent: Extent) -> Asked:
    maps = [runs[key] for key in run.upstream["maps"] if key in runs]
    every = sum(len(of.params["methods"]) for of in maps)
    refined = sum(every if methods is None else len(methods) for methods in run.params["chains"].values())
    roles = maps[0].params["roles"] if maps else ("test", "val", "shift")
    cases = extent.of_roles(roles, run.params.get("fold", 0))
    voxels = cases * extent.megavoxels * refined
    asked = Asked("refinement", voxels, kept=voxels)
    students = [chain for chain in run.params["chains"] if "student" in chain.split("+")]
    if students:
        settings = run.params["settings"]["student"]
        size = (extent.channels, *extent.grid[:2])
        images = settings["steps"] * settings["rounds"] * settings["batch_size"]
        taught = sum(len(run.params["chains"][chain] or ()) for chain in students)
        asked.rate = "refinement/student"
        network, shown = {"width": settings["width"]}, cases * extent.slices * taught
        asked.passes.append(Passes("student", network, size, shown, images * taught, settings["batch_size"]))
    return asked


def _references(run: Run, runs: Runs, extent: Extent) -> Asked:
    (family,) = {catalogue.REFERENCES[name].family for name in run.params["methods"]}
    cases = extent.of_roles(run.params["roles"], run.params["fold"])
    voxels = cases * extent.megavoxels * len(run.params["methods"])
    asked = Asked(f"references/{family}", voxels, kept=voxels)
    for name, params in run.params["methods"].items():
        if family == "cmff":
            asked.passes += [_cycle({**params, **params["transition"]}), _fusion(params, extent, cases)]
        else:
            asked.passes.append(_unet(params, extent, cases, validated=name == "unet"))
    asked.weights += asked.passes
    return asked


def _unet(params: dict[str, Any], extent: Extent, cases: float, validated: bool) -> Passes:
    *patch, depth = params["patch"]
    size = (extent.channels, *patch) if depth == 1 else (extent.channels, *patch, depth)
    stride = 1 - params["overlap"]
    windows = math.prod(
        1 if edge == 1 else max(1, length / (edge * stride))
        for length, edge in zip(extent.grid, params["patch"], strict=True)
    )
    windows *= extent.grid[2] if depth == 1 else 1
    checked = params["steps"] / params["checkpoint"] * extent.roles.get("val", 0) if validated else 0
    network = {name: params[name] for name in ("channels", "residual_units", "patch")}
    return Passes(
        "unet", network, size, windows * (cases + checked), params["steps"] * params["batch_size"], params["batch_size"]
    )


def _cycle(params: dict[str, Any]) -> Passes:
    size = (4, *[params["patch"]] * 3)
    return Passes(
        "cmft",
        {"width": params["width"]},
        size,
        steps=params["steps"] * params["batch_size"],
        batch=params["batch_size"],
    )


def _fusion(params: dict[str, Any], extent: Extent, cases: float) -> Passes:
    size = (4, *[params["patch"]] * 3)
    # Windows overlap by half along each axis.
    windows = max(1, extent.megavoxels * 1e6 / params["patch"] ** 3 * 8)
    network = {"width": params["width"], "network": params.get("network", "cmff")}
    network["guidance"] = params.get("guidance", "mask")
    return Passes("cmff", network, size, windows * cases, params["steps"] * params["batch_size"], params["batch_size"])


def _scores(run: Run, runs: Runs, extent: Extent) -> Asked:
    maps = [runs[key] for key in run.upstream["maps"] if key in runs]
    scored = sum(len(of.params["methods"]) for of in maps) * len(run.params["chains"])
    # Folds test each case once.
    cases = extent.of_roles(("test", "val", "shift")) if maps else 0
    return Asked("scores", cases * extent.megavoxels * scored)


def _faithfulness(run: Run, runs: Runs, extent: Extent) -> Asked:
    params, asked = run.params, Asked("faithfulness")
    _, size = _units(run, extent)
    tested = extent.roles.get("test", 0) * params["slices"]
    again = min(params["randomised_cases"], extent.roles.get("test", 0)) * params["slices"] * LEVELS_RANDOMISED
    for key in run.upstream["classifier"]:
        classifier = runs.get(key)
        maps = [
            runs[of] for of in run.upstream["maps"] if of in runs and key in runs[of].upstream.get("classifier", [])
        ]
        if classifier is None:
            continue
        methods = sum(len(of.params["methods"]) for of in maps)
        forwards = tested * methods * len(params["baselines"]) * 2 * (params["steps"] - 1)
        steps = 0.0
        for of in maps:
            if not any(catalogue.METHODS[name].fits for name in of.params["methods"]):
                more, backward = explaining(of.params["methods"], of, runs, extent, classifier, size)
                forwards, steps = forwards + more * again, steps + backward * again
        asked.passes.append(_network(classifier, size, forwards, steps))
    return asked


def _repeatability(run: Run, runs: Runs, extent: Extent) -> Asked:
    maps = [runs[key] for key in run.upstream["maps"] if key in runs]
    return Asked(run.stage, sum(len(of.params["methods"]) for of in maps) * extent.megavoxels * extent.roles["test"])


def _cmft(run: Run, runs: Runs, extent: Extent) -> Asked:
    passes = _cycle(run.params)
    return Asked(run.stage, passes=[passes], weights=[passes])


def _cmff(run: Run, runs: Runs, extent: Extent) -> Asked:
    passes = _fusion(run.params, extent, run.params["scored"])
    return Asked(run.stage, passes=[passes], weights=[passes])


_STAGES: dict[str, Callable[[Run, Runs, Extent], Asked]] = {
    **dict.fromkeys(("phantom", "index", "anatomy", "preprocess", "truth", "labels", "supervoxels"), _data),
    **dict.fromkeys(("anomalies", "sneak_masks"), _data),
    **dict.fromkeys(("classifier", "sequence_classifier", "volume_classifier", "sneak_classifier"), _classifier),
    **dict.fromkeys(("maps", "mean_mask", "sneak_maps"), _maps),
    "map_fit": _map_fit,
    "refinement": _refinement,
    "references": _references,
    "scores": _scores,
    "faithfulness": _faithfulness,
    "repeatability": _repeatability,
    "cmft": _cmft,
    "cmff": _cmff,
}
