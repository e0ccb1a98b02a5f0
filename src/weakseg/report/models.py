"""The trained classifiers as people share them: weights, and a card with the front matter that Hugging Face reads."""

from __future__ import annotations

import json
import shutil
from typing import Any

from weakseg.data.index import read_cases
from weakseg.execution import Context, read_record

DESCRIBED = ("index", "preprocess", "labels")
"""What a classifier reads and its card tells of."""
ROLES = {"val": "validation", "test": "test", "shift": "shift (another source, only tested)"}


def run(context: Context) -> None:
    """Write ``models/<label>/weights.safetensors`` and ``README.md`` for each classifier of every data set."""
    described = {read_record(folder)["key"]: folder for role in DESCRIBED for folder in context.upstream[role]}
    for folder in context.upstream["classifiers"]:
        record = read_record(folder)
        above = {role: described[record["upstream"][role][0]] for role in DESCRIBED}
        cases = read_cases(above["index"])
        phantom = set(cases.loc[cases["role_f0"] != "shift", "source"]) == {"phantom"}
        data = {role: read_record(above[role])["params"] for role in DESCRIBED}
        metrics = json.loads((folder / "metrics.json").read_text())
        out = context.out / "models" / record["label"]
        out.mkdir(parents=True)
        shutil.copyfile(folder / "weights.safetensors", out / "weights.safetensors")
        (out / "README.md").write_text(card(record, metrics, data, phantom))


def card(record: dict[str, Any], metrics: dict[str, Any], data: dict[str, dict[str, Any]], phantom: bool) -> str:
    """The model card of a classifier, as Markdown; no times and no paths, so equal runs give equal cards.

    Args:
        record: ``run.json`` of the classifier.
        metrics: its ``metrics.json``.
        data: parameters of its ``index``, ``preprocess`` and ``labels``.
        phantom: it learnt from made-up images only.
    """
    params, dataset, region = record["params"], data["index"]["dataset"], data["labels"]["region"]
    kind = "phantom model" if phantom else "model"
    images = "made-up images (a phantom)" if phantom else "real images"
    network = {name: params[name] for name in ("blocks", "width", "stem_stride")}
    channels = data["preprocess"]["channels"]
    return f"""---
license: {"apache-2.0" if phantom else "other"}
pipeline_tag: image-classification
tags:
- medical-imaging
- weak-supervision
- weakseg
- {dataset}
- {"phantom" if phantom else "real-data"}
---

# Slice classifier, {kind}: {record["label"]}

A 2D ResNet that says whether an axial slice shows a lesion ({region.replace("_", " ")}). It learnt from slice labels
alone; weakseg turns it into segmentations by explaining it. {_origin(dataset, phantom)}

| | |
| --- | --- |
| data set | `{dataset}`, {images} |
| input | (N, {len(channels)}, X, Y) float32, axial slices in RAS; channels {", ".join(channels)} |
| preprocessing | {_preprocessing(data["preprocess"])} |
| output | (N, 1), logit of "shows a lesion" |
| label | lesion from {data["labels"]["min_lesion_mm2"]:g} mm² on, normal without any, smaller ones left out |
| architecture | MONAI `ResNet`, basic blocks {params["blocks"]}, width {params["width"]}, \
stem stride {params["stem_stride"]} |
| training | {_training(params["training"])} |
| labels used | {record["counts"]["labels_used"]} slices, {record["counts"]["training_slices"]} of them for training |
| seed, fold | {params["seed"]}, {params["fold"]} |
| gate threshold | {metrics["threshold"]!r}: the logit from which a slice counts as lesion (Youden's J, validation) |
| made by | run `{record["key"]}` with {_packages(record["packages"])} |

## How good it is

By slice. Epoch and threshold were chosen on the validation slices. The last column is what the best of some plain
statistics (position, area, brightness) reaches without learning.

{_scores(metrics["roles"])}

## How to load it

```python
from pathlib import Path

from weakseg.networks import freeze, load_weights, resnet

network = resnet(channels={len(channels)}, params={json.dumps(network)}, seed=0)
load_weights(Path("weights.safetensors"), network)
freeze(network, "cpu")
```

## Limits

For research on methods; **not for clinical use**. {_limits(phantom)}
"""


def _origin(dataset: str, phantom: bool) -> str:
    if phantom:
        return f"**It was trained on a phantom in the file layout of `{dataset}`: no patient's image was used.**"
    return f"It was trained on real images in the file layout of `{dataset}`."


def _limits(phantom: bool) -> str:
    if phantom:
        return "It knows made-up images only, and its numbers say nothing about patients."
    return (
        "It knows scans like those it was trained on.\n"
        "The terms of that data set decide whether and how the weights may be passed on; fill in `license` accordingly."
    )


def _preprocessing(params: dict[str, Any]) -> str:
    spacing, size, windows = params["spacing"], params["size"], params["windows"]
    grid = f"resampled to {_times(spacing)} mm" if spacing else "own voxel size"
    grid += f", cropped or padded to {_times(size)} voxels" if size else ""
    if windows is None:
        return f"{grid}; z-scored by case and channel inside the foreground (`{params['foreground']}`), 0 outside"
    levels = ", ".join("{} {:g}/{:g}".format(name, *windows[name]) for name in params["channels"])
    return (
        f"{grid}; HU windows (level/width) {levels}: the level is 0, an eighth of the width 1, cut to [-4, 4]; "
        f"0 outside the foreground (`{params['foreground']}`)"
    )


def _times(lengths: list[float]) -> str:
    return " x ".join(f"{length:g}" for length in lengths)


def _training(settings: dict[str, Any]) -> str:
    return (
        f"AdamW, one-cycle schedule up to {settings['learning_rate']:g}, weight decay {settings['weight_decay']:g}, "
        f"{settings['batch_size']} slices a step, {'with' if settings['augmentation'] else 'without'} augmentation, "
        f"at most {settings['epochs']} epochs, the best validation AUC kept (patience {settings['patience']})"
    )


def _packages(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {versions[name]}" for name in ("torch", "monai"))


def _scores(roles: dict[str, dict[str, Any]]) -> str:
    """Table of the slices of each role that the classifier did not learn from."""
    lines = [
        "| slices | number | with lesion | AUC | sensitivity | specificity | best plain AUC |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for role, title in ROLES.items():
        if role in roles:
            values = roles[role]
            shares = [values["auc"], values["sensitivity"], values["specificity"], max(values["plain_auc"].values())]
            cells = [title, values["slices"], values["positive"], *(f"{share:.3f}" for share in shares)]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
