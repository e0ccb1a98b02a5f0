"""The trained classifiers as people share them: weights, and a card with the front matter that Hugging Face reads."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from typing import Any

from weakseg.data.index import read_cases
from weakseg.execution import Context, read_record

DESCRIBED = ("index", "preprocess", "labels")
"""What a classifier may read and its card tells of."""
ROLES = {"val": "validation", "test": "test", "shift": "shift (another source, only tested)"}


def run(context: Context) -> None:
    """Write ``models/<label>/weights.safetensors`` and ``README.md`` for each classifier of every data set."""
    described = {read_record(folder)["key"]: folder for role in DESCRIBED for folder in context.upstream[role]}
    for folder in context.upstream["classifiers"]:
        record = read_record(folder)
        above = {role: described[record["upstream"][role][0]] for role in DESCRIBED if role in record["upstream"]}
        cases = read_cases(above["index"])
        phantom = set(cases.loc[cases["role_f0"] != "shift", "source"]) == {"phantom"}
        data = {role: read_record(folder_)["params"] for role, folder_ in above.items()}
        metrics = json.loads((folder / "metrics.json").read_text())
        out = context.out / "models" / record["label"]
        out.mkdir(parents=True)
        weights = shutil.copyfile(folder / "weights.safetensors", out / "weights.safetensors")
        checksum = hashlib.sha256(weights.read_bytes()).hexdigest()
        (out / "README.md").write_text(card(record, metrics, data, phantom, checksum))


@dataclass(frozen=True)
class Kind:
    """How the card tells of the classifiers of a view.

    Attributes:
        title, sentence: what it is.
        unit: what it is shown; ``axes`` are those of its input after the channels.
        output: what its logit speaks for; ``positive`` in few words.
        label: the rule that gives a unit its label.
        threshold: what the validation threshold means.
        plain: the statistics that need no learning.
        chosen_by: what the best epoch has most of.
        spatial_dims: 2 or 3.
    """

    title: str
    sentence: str
    unit: str
    axes: str
    output: str
    positive: str
    label: str
    threshold: str
    plain: str
    chosen_by: str
    spatial_dims: int


def kind_of(data: dict[str, dict[str, Any]], params: dict[str, Any]) -> Kind:
    """Volumes where there are grades alone, else slices; sequences of them where the network has a window."""
    if "labels" not in data:
        return Kind(
            title="Volume classifier",
            sentence="A 3D ResNet that says whether a glioma is of high or of low grade. It learnt from grades",
            unit="volume",
            axes="X, Y, Z) float32, the box around the foreground in RAS",
            output="high grade (HGG)",
            positive="HGG",
            label="HGG or LGG, as the data set's table of cases says",
            threshold="the logit from which a case is called HGG",
            plain="volume of the foreground, brightness",
            chosen_by="likelihood",
            spatial_dims=3,
        )
    region = data["labels"]["region"].replace("_", " ")
    least = f"{data['labels']['min_lesion_mm2']:g} mm²"
    slices = Kind(
        title="Slice classifier",
        sentence=f"A 2D ResNet that says whether an axial slice shows a lesion ({region}). It learnt from slice labels",
        unit="slice",
        axes="X, Y) float32, axial slices in RAS",
        output='"shows a lesion"',
        positive="with lesion",
        label=f"lesion from {least} on, normal without any, smaller ones left out",
        threshold="the logit from which a slice counts as lesion",
        plain="position, area, brightness",
        chosen_by="AUC",
        spatial_dims=2,
    )
    if "window" not in params:
        return slices
    length, apart = params["window"]["slices"], params["window"]["distance_mm"]
    beside = f"{length} adjacent slices" if apart is None else f"{length} slices {apart:g} mm apart"
    return replace(
        slices,
        title="Sequence classifier",
        sentence=f"A ResNet-LSTM that says whether the middle one of {beside} shows a lesion ({region}). "
        "It learnt from slice labels",
        axes=f"{slices.axes}; N is a multiple of {length}, a window after another",
    )


def card(
    record: dict[str, Any], metrics: dict[str, Any], data: dict[str, dict[str, Any]], phantom: bool, checksum: str
) -> str:
    """The model card of a classifier, as Markdown; no times and no paths, so equal runs give equal cards.

    Args:
        record: ``run.json`` of the classifier.
        metrics: its ``metrics.json``.
        data: parameters of its ``index`` and ``preprocess``, and of ``labels`` if it learnt from slices.
        phantom: it learnt from made-up images only.
        checksum: SHA-256 of its weights.
    """
    params, dataset, kind = record["params"], data["index"]["dataset"], kind_of(data, record["params"])
    channels, counts = data["preprocess"]["channels"], record["counts"]
    return f"""---
license: {"apache-2.0" if phantom else "other"}
pipeline_tag: image-classification
tags:
- medical-imaging
- weak-supervision
- weakseg
- {dataset}
- {"phantom" if phantom else "real-data"}
{_model_index(record["label"], dataset, metrics["roles"], phantom)}---

# {kind.title}, {"phantom model" if phantom else "model"}: {record["label"]}

{kind.sentence}
alone; weakseg turns it into segmentations by explaining it. {_origin(dataset, phantom)}

| | |
| --- | --- |
| data set | {_data(data["index"], phantom)} |
| input | (N, {len(channels)}, {kind.axes}; channels {", ".join(channels)} |
| preprocessing | {_preprocessing(data["preprocess"])} |
| output | {_output(params)} of {kind.output} |
| label | {kind.label} |
| architecture | MONAI `ResNet`, basic blocks {params["blocks"]}, width {params["width"]}, \
stem stride {params["stem_stride"]}{_lstm(params)} |
| training | {_training(params["training"], kind)} |
| labels used | {counts["labels_used"]} {kind.unit}s, {counts["training_units"]} of them for training |
| seed, fold | {params["seed"]}, {params["fold"]} |
| threshold | {metrics["threshold"]!r}: {kind.threshold} (Youden's J, validation) |
| made by | run `{record["key"]}` of stage `{record["stage"]}`, version {record["stage_version"]}, \
with {_packages(record["packages"])} |
| weights | `weights.safetensors`, SHA-256 `{checksum}` |
| licence | {_licence(phantom)} |

## How good it is

By {kind.unit}. Epoch and threshold were chosen on the validation {kind.unit}s. The last column is what the best of some
plain statistics ({kind.plain}) reaches without learning.

{_scores(metrics["roles"], kind)}

## How to load it

```python
from pathlib import Path

{_building(len(channels), params, kind)}
load_weights(Path("weights.safetensors"), network)
freeze(network, "cpu")
```

## What it is for

Research on methods that turn image-level labels into segmentations: to be explained, and to be compared with other
classifiers of the same data. **Not for clinical use**, nor for any decision about a patient. {_limits(phantom)}
"""


def _building(channels: int, params: dict[str, Any], kind: Kind) -> str:
    """Python that makes the network, without its weights."""
    network = {name: params[name] for name in ("blocks", "width", "stem_stride")}
    if "window" in params:
        network |= {name: params[name] for name in ("hidden", "layers", "bidirectional", "window")}
        arguments = f"{channels}, {network!r}, seed=0"
        return f"from weakseg.networks import freeze, load_weights, resnet_lstm\n\nnetwork = resnet_lstm({arguments})"
    arguments = f"channels={channels}, params={json.dumps(network)}, seed=0, spatial_dims={kind.spatial_dims}"
    return f"from weakseg.networks import freeze, load_weights, resnet\n\nnetwork = resnet({arguments})"


def _output(params: dict[str, Any]) -> str:
    """The shape of the output, and where in it the logit stands."""
    if "window" not in params:
        return "(N, 1), logit"
    length = params["window"]["slices"]
    return (
        f"(N, 2), at `[{length // 2}::{length}, 0]` the logit of each window's middle slice, in column 1 that "
        "of the ResNet alone,"
    )


def _lstm(params: dict[str, Any]) -> str:
    if "window" not in params:
        return ""
    directions = "bidirectional" if params["bidirectional"] else "forward"
    return f"; beside its head a {directions} LSTM, layers {params['layers']}, channels {params['hidden']}"


def _origin(dataset: str, phantom: bool) -> str:
    if phantom:
        return f"**It was trained on a phantom in the file layout of `{dataset}`: no patient's image was used.**"
    return f"It was trained on real images in the file layout of `{dataset}`."


def _limits(phantom: bool) -> str:
    if phantom:
        return "It knows made-up images\nonly, and its numbers say nothing about patients."
    return "It knows scans like\nthose it was trained on, and may fail on others without notice."


def _licence(phantom: bool) -> str:
    if phantom:
        return "Apache-2.0, as weakseg itself"
    return (
        "the terms of the data set decide whether and how the weights may be passed on; fill in `license` above "
        "accordingly"
    )


def _data(index: dict[str, Any], phantom: bool) -> str:
    """Which images: a phantom follows from its seed, real images are known by the digest of their files."""
    if phantom:
        return f"`{index['dataset']}`, made-up images (a phantom), data seed {index['data_seed']}"
    digests = ", ".join(f"`{digest}`" for digest in index["digests"])
    return (
        f"`{index['dataset']}`, real images, digest of their files {digests}; splits by data seed {index['data_seed']}"
    )


def _model_index(label: str, dataset: str, roles: dict[str, dict[str, Any]], phantom: bool) -> str:
    """The AUC on the test set as Hugging Face reads it."""
    if "test" not in roles:
        return ""
    return f"""model-index:
- name: {label}
  results:
  - task:
      type: image-classification
    dataset:
      type: {dataset}
      name: {dataset} ({"phantom" if phantom else "real images"}), test patients
    metrics:
    - type: roc_auc
      value: {roles["test"]["auc"]:.3f}
"""


def _preprocessing(params: dict[str, Any]) -> str:
    spacing, size, windows = params["spacing"], params["size"], params["windows"]
    grid = f"resampled to {_times(spacing)} mm" if spacing else "own voxel size"
    if size == "foreground":
        grid += ", cropped around the foreground to what holds that of every case"
    elif size:
        grid += f", cropped or padded to {_times(size)} voxels"
    if windows is None:
        return f"{grid}; z-scored by case and channel inside the foreground (`{params['foreground']}`), 0 outside"
    levels = ", ".join("{} {:g}/{:g}".format(name, *windows[name]) for name in params["channels"])
    return (
        f"{grid}; HU windows (level/width) {levels}: the level is 0, an eighth of the width 1, cut to [-4, 4]; "
        f"0 outside the foreground (`{params['foreground']}`)"
    )


def _times(lengths: list[float]) -> str:
    return " x ".join(f"{length:g}" for length in lengths)


def _training(settings: dict[str, Any], kind: Kind) -> str:
    augmented = "with" if settings["augmentation"] else "without"
    return (
        f"AdamW, one-cycle schedule up to {settings['learning_rate']:g}, weight decay {settings['weight_decay']:g}, "
        f"{settings['batch_size']} {kind.unit}s a step, {augmented} augmentation, at most {settings['epochs']} epochs, "
        f"the best validation {kind.chosen_by} kept (patience {settings['patience']})"
    )


def _packages(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _scores(roles: dict[str, dict[str, Any]], kind: Kind) -> str:
    """Table of the units of each role that the classifier did not learn from."""
    lines = [
        f"| {kind.unit}s | number | {kind.positive} | AUC | sensitivity | specificity | best plain AUC |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for role, title in ROLES.items():
        if role in roles:
            values = roles[role]
            shares = [values["auc"], values["sensitivity"], values["specificity"], max(values["plain_auc"].values())]
            cells = [title, values["units"], values["positive"], *(f"{share:.3f}" for share in shares)]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
