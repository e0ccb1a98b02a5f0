"""The views of a data set: how cases are cut into units, what classifies them, behind which gates. Free of torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from weakseg import catalogue
from weakseg.config import Config
from weakseg.config_data import SequenceViewConfig


@dataclass(frozen=True)
class View:
    """A view as a plan needs it.

    Attributes:
        name: ``slice``, ``sequence`` or ``volume``, as in labels of runs and in rows.
        cutting: parameters of :func:`weakseg.data.views.read_units` beside the name.
        seeds: its repetitions.
        stage: that trains its classifier.
        network: the classifier's parameters.
        labels: the stages beside ``preprocess`` from which the classifier learns.
        gates: as in ``maps.gate``.
        roles: of the cases that are explained and scored.
    """

    name: str
    cutting: dict[str, Any]
    seeds: Sequence[int]
    stage: str
    network: dict[str, Any]
    labels: tuple[str, ...]
    gates: Sequence[str]
    roles: tuple[str, ...] = ("test", "val", "shift")

    @property
    def units(self) -> dict[str, Any]:
        """What says how a case is cut into units."""
        return {"view": self.name, **self.cutting}

    def row_facts(self, gate: str) -> dict[str, str]:
        """What rows of every table say of the maps behind them, of any data set."""
        return {"view": self.name, "classifier": self.network["architecture"], "gate": gate}

    def suffix(self, gate: str) -> str:
        """What labels of runs add where a view has another gate than it has by default."""
        return "-ungated" if self.name != "volume" and gate == "none" else ""


def views_of(config: Config, dataset: str) -> list[View]:
    """The views that a data set has; volumes need grades."""
    network = {"architecture": "resnet", **config.classifiers.resnet.model_dump()}
    network["stem_stride"] = network["stem_stride"][dataset]
    views = [
        View(
            "slice",
            config.views.slice.model_dump(),
            config.seeds,
            "classifier",
            network,
            ("index", "labels"),
            config.maps.gate,
        )
    ]
    if config.views.sequence is not None:
        views.append(sequence_view(config, dataset, config.views.sequence))
    if config.views.volume is not None and catalogue.DATASETS[dataset].grades:
        cutting = config.views.volume.model_dump(exclude={"seeds"})
        seeds = config.seeds[: config.views.volume.seeds]
        network = {"architecture": "resnet3d", **config.classifiers.resnet3d.model_dump(), **cutting}
        # Every case has a tumour and so a grade to explain: there is nothing for a gate to stop.
        views.append(View("volume", cutting, seeds, "volume_classifier", network, ("index",), ["none"]))
    return views


def sequence_view(config: Config, dataset: str, settings: SequenceViewConfig) -> View:
    """The view of slices beside their neighbours; its units are those of the slice view."""
    window = {"window": settings.model_dump(exclude={"seeds"})}
    network = {"architecture": "resnet_lstm", **config.classifiers.resnet_lstm.model_dump(), **window}
    network["stem_stride"] = network["stem_stride"][dataset]
    cutting = {**config.views.slice.model_dump(), **window}
    seeds = config.seeds[: settings.seeds]
    labels = ("index", "labels")
    return View("sequence", cutting, seeds, "sequence_classifier", network, labels, config.maps.gate)


def selector_of(view: View, seed: int) -> tuple[View, int]:
    """What trains the selector of a classifier of slices: the next seed, which a benchmark of several has anyway."""
    return view, seed + 1


def evaluator_of(config: Config, view: View, seed: int) -> tuple[View, int]:
    """What trains the evaluator of a classifier of slices: another architecture and seed.

    It is a network of single slices in every view.
    """
    network = {"architecture": "densenet", **config.classifiers.evaluator.model_dump()}
    return replace(view, name="slice", stage="classifier", network=network), seed + 2


def layer_of(network: dict[str, Any], layer: str | list[str]) -> str | list[str]:
    """The module of a network after the reduction that a stage of a ResNet with a stem of stride 2 has.

    Args:
        network: parameters of the classifier. With a stem of stride 1 it is the next stage, but the last one only for
            ``layer4``: right before the global average CAM, Grad-CAM, XGrad-CAM and HiResCAM are one and the same.
        layer: ``layer1`` (4-fold reduction) to ``layer4`` (32-fold), or several of them.
    """
    if isinstance(layer, list):
        several = list(dict.fromkeys(str(layer_of(network, one)) for one in layer))
        return several if len(several) > 1 else several[0]
    names = list(catalogue.ARCHITECTURES[network["architecture"]].layers)
    place = names.index(layer)
    if network.get("stem_stride") == 1 and place < len(names) - 2:
        place += 1
    return catalogue.ARCHITECTURES[network["architecture"]].layers[names[place]]
