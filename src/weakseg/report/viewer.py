"""What the page's volume viewer shows: 8-bit volumes of chosen cases, within a number of megabytes.

Maps are stored so that a mask needs no volume of its own: a voxel is in it exactly if its byte is above the cut's.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from weakseg import nifti
from weakseg.data.grid import image_file, read_foreground, resample
from weakseg.data.truth import open_lesion
from weakseg.evaluation.protocol import RAW, normalise
from weakseg.evaluation.segmentation import box_of
from weakseg.execution import Context, read_record, write_json

POINTS = ("label-free", "fixed")
"""Operating points with one threshold for a case, known before any mask; the first that a method has is shown."""
PLACES = ("worst", "typical", "best")
MOST_VOXELS = 1_500_000
"""Larger volumes are thinned by whole steps."""
MAP = ["dataset", "view", "gate", "method"]
"""What tells maps of a case apart."""


def run(context: Context) -> None:
    """Write ``viewer.json``: cases with image and truth, and maps with their cut, as base64 of gzipped NIfTI."""
    scores = pd.read_parquet(context.folder("collect") / "scores.parquet")
    rows = _candidates(context, scores)
    wanted = list(dict.fromkeys(_in_turn(rows)))
    left = int(context.params["most_mb"] * 2**20)
    opened: dict[tuple[str, str], Case] = {}
    cases: list[dict[str, Any]] = []
    maps: list[dict[str, Any]] = []
    for number in wanted:
        row = rows.loc[number]
        case = opened.get((row["dataset"], row["case"])) or Case(context, row)
        facts = [] if (row["dataset"], row["case"]) in opened else [case.facts]
        shown = case.map(row)
        left -= sum(len(value) for of in (*facts, shown) for value in of.values() if isinstance(value, str))
        if left < 0:
            break
        opened[row["dataset"], row["case"]] = case
        cases += facts
        maps.append(shown)
    places = {number: place for place, number in _of_methods(rows)}
    for number, shown in zip(wanted, maps, strict=False):
        shown["place"] = places.get(number)
    write_json(context.out / "viewer.json", {"cases": cases, "maps": maps, "left_out": len(wanted) - len(maps)})


class Case:
    """A case in its box around foreground and lesion, thinned if it is large.

    Args:
        context: the running stage; opening the lesion is logged there.
        row: of :func:`_candidates`.
    """

    def __init__(self, context: Context, row: pd.Series) -> None:
        dataset, name = row["dataset"], row["case"]
        preprocessed, truth = (_of_dataset(context.upstream[role], dataset) for role in ("preprocess", "truth"))
        self.foreground, affine = read_foreground(preprocessed, name)
        lesion, _ = open_lesion(context, truth, name, "scores", row["region"], "grid")
        box = box_of(self.foreground | lesion)
        voxels = np.prod([axis.stop - axis.start for axis in box])
        self.step = int(np.ceil((voxels / MOST_VOXELS) ** (1 / 3)))
        self.box = tuple(slice(axis.start, axis.stop, self.step) for axis in box)
        self.grid_affine = affine
        self.affine = affine @ np.diag([self.step, self.step, self.step, 1.0])
        self.affine[:3, 3] = affine[:3, :3] @ [axis.start for axis in box] + affine[:3, 3]
        channels = read_record(preprocessed)["params"]["channels"]
        channel = "flair" if "flair" in channels else channels[0]
        image = np.asarray(nifti.open_channels(image_file(preprocessed, name))[channels.index(channel)])
        self.facts = {
            "dataset": dataset,
            "source": row["source"],
            "case": name,
            "channel": channel,
            "lesion_ml": round(float(row["lesion_ml"]), 2),
            "step": self.step,
            "image": self._encode(_grey(image, self.foreground)),
            "truth": self._encode(lesion.astype(np.uint8)),
        }

    def map(self, row: pd.Series) -> dict[str, Any]:
        """A method's map of this case, with what its score says."""
        stored, affine = nifti.read(row["folder"] / f"{row['case']}.nii.gz")
        relevance = resample(stored, affine, self.foreground.shape, self.grid_affine, "linear")
        if row["view"] != "supervised":
            relevance = normalise(relevance, self.foreground)
        cut = min(max(float(row["threshold"]), 0.0), 1.0)
        return {
            **{name: row[name] for name in (*MAP, "case")},
            "point": row["operating_point"],
            "dice": round(float(row["dice"]), 3),
            "cut": cut_level(cut),
            "map": self._encode(in_bytes(np.where(self.foreground, relevance, 0), cut)),
        }

    def _encode(self, volume: NDArray) -> str:
        return encode(volume[self.box], self.affine)


def encode(volume: NDArray, affine: NDArray) -> str:
    """(X, Y, Z) uint8 as base64 of a gzipped NIfTI file, the same bytes for the same volume."""
    image = nib.Nifti1Image(np.ascontiguousarray(volume), affine)
    image.header.set_xyzt_units("mm")
    return base64.b64encode(gzip.compress(image.to_bytes(), 9, mtime=0)).decode()


def cut_level(cut: float) -> int:
    """The largest byte that is not in the mask."""
    return min(round(cut * 255), 254)


def in_bytes(relevance: NDArray, cut: float) -> NDArray:
    """A map in [0, 1] as bytes, of which those above :func:`cut_level` are exactly the voxels above the cut."""
    level = cut_level(cut)
    scaled = np.rint(np.clip(relevance, 0, 1) * 255)
    inside = relevance > cut
    return np.where(inside, np.maximum(scaled, level + 1), np.minimum(scaled, level)).astype(np.uint8)


def _grey(image: NDArray, foreground: NDArray) -> NDArray:
    """An image as bytes: 1 to 255 inside the foreground, from the 0.5th to the 99.9th percentile; 0 outside."""
    low, high = np.percentile(image[foreground], (0.5, 99.9))
    scaled = 1 + 254 * np.clip((image - low) / max(high - low, np.finfo(np.float32).tiny), 0, 1)
    return np.where(foreground, np.rint(scaled), 0).astype(np.uint8)


def _of_dataset(folders: list[Path], dataset: str) -> Path:
    (folder,) = (folder for folder in folders if read_record(folder)["label"] == dataset)
    return folder


def _candidates(context: Context, scores: pd.DataFrame) -> pd.DataFrame:
    """Tested cases of each method with a map: the Dice and the threshold of the point that is shown, and the folder."""
    seed = context.params["seed"]
    tested = (scores["role"] == "test") & (scores["lesion_ml"] > 0) & (scores["seed"] == seed)
    rows = scores[tested & (scores["refinement"] == RAW) & scores["operating_point"].isin(POINTS)]
    rows = rows.assign(order=rows["operating_point"].map(POINTS.index)).sort_values("order")
    maps = pd.DataFrame(_maps(context, seed), columns=[*MAP, "fold", "folder"])
    rows = rows.drop_duplicates([*MAP, "case"]).merge(maps, on=[*MAP, "fold"])
    return rows.sort_values([*MAP, "dice", "case"], ignore_index=True)


def _maps(context: Context, seed: int) -> Iterator[tuple[str, str, str, str, int, Path]]:
    """Folders of maps with what tells them apart; those without a seed are the same for all."""
    for folder in context.upstream["maps"]:
        record = read_record(folder)
        params = record["params"]
        supervised = record["stage"] == "references"
        view, gate = ("supervised", "none") if supervised else (params["view"], params["gate"])
        for method in params["methods"] if params.get("seed", seed) == seed else ():
            yield record["label"].split("-")[0], view, gate, method, params["fold"], folder / method


def _in_turn(rows: pd.DataFrame) -> Iterator[int]:
    """Numbers of rows, the most telling first: cases that are hard or easy for all, then those of each method."""
    shared = [
        (place, rows.index[(rows["dataset"] == dataset) & (rows["case"] == case)])
        for dataset, of_data in rows.groupby("dataset")
        for place, case in _chosen(of_data.groupby("case")["dice"].mean().items())
    ]
    own = list(_of_methods(rows))
    for place in PLACES:
        yield from (number for at, numbers in shared if at == place for number in numbers)
    for place in PLACES:
        yield from (number for at, number in own if at == place)


def _of_methods(rows: pd.DataFrame) -> Iterator[tuple[str, int]]:
    """Each method's worst, typical and best row."""
    for _, of_method in rows.groupby(MAP):
        yield from _chosen(of_method["dice"].items())


def _chosen(dice: Any) -> Iterator[tuple[str, Any]]:
    """The worst, the typical (median) and the best of pairs of a name and its Dice."""
    ordered = sorted(dice, key=lambda item: (item[1], item[0]))
    for place, at in zip(PLACES, (0, len(ordered) // 2, len(ordered) - 1), strict=True):
        yield place, ordered[at][0]
