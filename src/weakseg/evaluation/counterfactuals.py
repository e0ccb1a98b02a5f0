"""Are counterfactual images what they claim to be? The stage ``counterfactuals``, over all test slices of a fold.

Each slice is made normal by each generator, whatever the classifier calls it, and two judges say what they see before
and after: the explained ``classifier``, and the ``evaluator``, which no generator was shown. Two controls change the
slice as much, without knowing of a lesion: the same change at a random place, and a blur of the foreground.

Probabilities are sigmoids of margins, logits less the judge's own threshold: so a judge calls a lesion from 0.5 on. The
classifiers of the papers have that threshold in their logit already.

Masks are opened to say where the change lies, for scores alone: the images and what judges say of them need none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from weakseg import nifti
from weakseg.counterfactual.networks import Generator
from weakseg.data.index import read_cases
from weakseg.data.labels import read_labels
from weakseg.data.truth import open_lesion
from weakseg.data.views import read_units
from weakseg.evaluation.controls import displaced, share_within, size_within, towards
from weakseg.evaluation.counterfactual_summary import CALL, JUDGES, Features, summarise
from weakseg.evaluation.faithfulness import baseline
from weakseg.execution import Context
from weakseg.maps.counterfactual import changes, read_generator
from weakseg.maps.judge import Judge, margins_of, read_judge
from weakseg.networks import reproducible
from weakseg.randomness import rng


@dataclass(frozen=True)
class Asked:
    """The networks that are asked about every slice.

    Attributes:
        judges: by role, those of :data:`JUDGES`.
        generators: by method.
        two_sided: methods whose generator also makes lesions.
        device: where all are.
    """

    judges: Mapping[str, Judge]
    generators: Mapping[str, Generator]
    two_sided: frozenset[str]
    device: str


@dataclass(frozen=True)
class Slices:
    """Test slices of a case.

    Attributes:
        images: (N, C, *spatial) float32, in the classifier's units.
        foreground, lesion: (N, *spatial) bool, at least one pixel of foreground in each slice.
        blank: (N, C, *spatial), the blurred images.
        places: (N,) in [0, 1), for :func:`weakseg.evaluation.controls.displaced`.
    """

    images: NDArray
    foreground: NDArray
    lesion: NDArray
    blank: NDArray
    places: NDArray


def run(context: Context) -> None:
    """Write ``slices.parquet``, a row per test slice and method, and ``metrics.csv``, a row per method.

    The columns of slices are described at :func:`measure`, those of methods in
    :mod:`weakseg.evaluation.counterfactual_summary`.
    """
    params = context.params
    reproducible(context.threads, context.device)
    learnt = load_file(context.folder("fitted") / "weights.safetensors")
    asked = Asked(
        {role: read_judge(context, role) for role in JUDGES},
        {
            name: read_generator(learnt, name, of_method, context.device)
            for name, of_method in params["methods"].items()
        },
        frozenset(name for name, of_method in params["methods"].items() if of_method["conditions"] == 2),
        context.device,
    )
    cases = read_cases(context.folder("index")).set_index("case", drop=False)
    tested = cases[cases[f"role_f{params['fold']}"] == "test"]
    # Cases share one process and its networks, which use the threads themselves.
    found = replace(context, threads=1).map_cases_resumably(
        partial(_of_case, cases=tested, asked=asked), tested.index, "counterfactuals"
    )
    slices = pd.concat([rows for rows, _ in found], ignore_index=True)
    features = Features(
        np.concatenate([of_case.real for _, of_case in found]),
        {name: np.concatenate([of_case.made[name] for _, of_case in found]) for name in params["methods"]},
    )
    context.count("slices", len(features.real))
    facts = {name: params[name] for name in ("dataset", "region", "view", "seed", "fold")}
    facts["classifier_network"] = context.record("classifier")["params"]["architecture"]
    facts["run"] = context.key
    metrics = summarise(slices, features, params["data_seed"], params["bootstrap"])
    slices.assign(**facts).to_parquet(context.out / "slices.parquet", index=False)
    metrics.assign(**facts).to_csv(context.out / "metrics.csv", index=False)


def _of_case(context: Context, case: str, cases: pd.DataFrame, asked: Asked) -> tuple[pd.DataFrame, Features]:
    params = context.params
    units = read_units(context.folder("preprocess"), case, params)
    lesion, _ = open_lesion(context, context.folder("truth"), case, "scores", params["region"], "grid")
    x, y, _ = nifti.spacing_of(units.affine)
    sigma = (params["blur_mm"] / x, params["blur_mm"] / y)
    draws = rng(params["seed"], "counterfactuals", case)
    slices = Slices(
        units.image,
        units.foreground,
        units.cut(lesion) & units.foreground,
        baseline("blur", units.image, units.foreground, sigma, draws),
        draws.random(len(units.positions)),
    )
    rows, features = measure(slices, asked)
    rows = rows.assign(position=units.positions[rows["unit"]], **cases.loc[case, ["case", "patient", "source"]])
    labels = read_labels(context.folder("labels"))
    return rows.drop(columns="unit").merge(
        labels, how="left", on=["case", "position"], validate="many_to_one"
    ), features


def measure(slices: Slices, asked: Asked) -> tuple[pd.DataFrame, Features]:
    """What each method does to each slice, and the evaluator's features of all images.

    Returns:
        A row per method and ``unit``, the slice's number. ``<judge>``: its probability of a lesion before anything is
        changed; ``<judge>_<change>``: after a change, which is ``counterfactual``, ``displaced`` or ``blur``;
        ``<judge>_flip``: after the one that is to flip the classifier's call, NaN for methods that only make normal.
        ``size``: mean absolute change over the foreground, in units of the range, the same for all three;
        ``size_inside`` and ``size_outside``: over the lesion and over the rest of the foreground, the readout's
        proximity. ``share_<change>``: share of the absolute change inside the lesion, NaN without one;
        ``lesion_share``: the lesion's share of the foreground, what a change that is the same everywhere would have.
        ``blur_strength``: 1 is the blurred slice itself. And the features, in the order of the slices.
    """
    before, real = _seen(asked, torch.from_numpy(slices.images))
    units = len(slices.images)
    shared = {
        "unit": np.arange(units),
        **before,
        "lesion_share": slices.lesion.reshape(units, -1).sum(1) / slices.foreground.reshape(units, -1).sum(1),
    }
    found = {name: _of_method(slices, asked, name, before["classifier"] >= CALL) for name in asked.generators}
    tables = [pd.DataFrame({"method": name, **shared, **columns}) for name, (columns, _) in found.items()]
    return pd.concat(tables, ignore_index=True), Features(real, {name: made for name, (_, made) in found.items()})


def _of_method(slices: Slices, asked: Asked, name: str, called: NDArray) -> tuple[dict[str, NDArray], NDArray]:
    """The columns of :func:`measure` that depend on the method, and the features (N, F) of its counterfactuals."""
    generator, images = asked.generators[name], torch.from_numpy(slices.images)
    foreground = torch.from_numpy(slices.foreground)[:, None]

    def change_under(condition: NDArray) -> NDArray:
        return changes(generator, images, torch.from_numpy(condition.astype(int)), foreground, asked.device).numpy()

    def seen_after(change: NDArray) -> tuple[dict[str, NDArray], NDArray]:
        with torch.inference_mode():
            after = generator.changed(images.to(asked.device), torch.from_numpy(change).to(asked.device)).cpu()
        return _seen(asked, after)

    own = change_under(np.zeros(len(images)))
    size = size_within(own, slices.foreground)
    width = (generator.high - generator.low).cpu().numpy()
    blur, strength = towards(slices.blank, slices.images, slices.foreground, width, size)
    columns = {
        "size": size,
        "size_inside": size_within(own, slices.lesion),
        "size_outside": size_within(own, slices.foreground & ~slices.lesion),
        "blur_strength": strength,
    }
    after, made = seen_after(own)
    controls = {"displaced": displaced(own, slices.foreground, slices.places), "blur": blur}
    seen = {"counterfactual": after, **{kind: seen_after(change)[0] for kind, change in controls.items()}}
    for kind, change in {"counterfactual": own, **controls}.items():
        columns |= {f"{role}_{kind}": values for role, values in seen[kind].items()}
        columns[f"share_{kind}"] = share_within(change, slices.lesion)
    flipped = {role: np.full(len(images), np.nan) for role in JUDGES}
    if name in asked.two_sided:
        flipped, _ = seen_after(change_under(~called))
    return columns | {f"{role}_flip": values for role, values in flipped.items()}, made


def _seen(asked: Asked, images: Tensor) -> tuple[dict[str, NDArray], NDArray]:
    """Each judge's probability (N,) of a lesion, and the evaluator's features (N, F)."""
    margins, features = features_of(asked.judges["evaluator"], images, asked.device)
    seen = {"classifier": margins_of(asked.judges["classifier"], images, asked.device), "evaluator": margins}
    return {role: of_role.double().sigmoid().numpy() for role, of_role in seen.items()}, features


def features_of(judge: Judge, images: Tensor, device: str) -> tuple[Tensor, NDArray]:
    """Margins (N,) of a judge, and its penultimate features (N, F): what its last layer, a linear one, is given."""
    *_, last = (module for module in judge.network.modules() if isinstance(module, nn.Linear))
    given: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].float().cpu()))
    try:
        margins = margins_of(judge, images, device)
    finally:
        hook.remove()
    return margins, torch.cat(given).numpy()
