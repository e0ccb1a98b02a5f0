"""TotalSegmentator's healthy kidneys beside KiTS: who counts as healthy, and what becomes of them in each stage."""

from __future__ import annotations

import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from tests.brats_factory import write_volume
from tests.ct_factory import KIDNEY, LESION, SHAPE, WHOLE, write_kits, write_meta, write_totalsegmentator
from tests.runner import SLOW, run_stages

from weakseg import nifti, plan
from weakseg.config_text import load
from weakseg.data import anatomy
from weakseg.data.grid import preprocessed_cases
from weakseg.data.healthy import check_healthy, find_healthy
from weakseg.data.index import read_cases
from weakseg.data.labels import NORMAL, read_labels
from weakseg.data.truth import open_lesion
from weakseg.errors import DataFaults, WeaksegError
from weakseg.execution import read_record

LEFT, RIGHT = LESION.copy(), LESION[::-1].copy()
"""A kidney on each side, in slices 2 and 3 of 6."""


def write_healthy(root: Path, cases: int) -> Path:
    """Cases with whole kidneys, called healthy by the table."""
    write_totalsegmentator(root, cases)
    for number in range(cases):
        write_kidneys(root / f"s{number:04}", LEFT, RIGHT)
    return root


def write_kidneys(folder: Path, left: np.ndarray, right: np.ndarray) -> None:
    for side, mask in (("left", left), ("right", right)):
        write_volume(folder / "segmentations" / f"kidney_{side}.nii.gz", mask, WHOLE)


def reasons(root: Path) -> dict[str, str | None]:
    """Why each case is left out, None for the healthy."""
    cases, left_out, faults = find_healthy(root)
    assert faults == []
    return left_out | {case.case: check_healthy(case)[1] for case in cases}


class TestWhoIsHealthy:
    def test_what_the_table_says(self, tmp_path):
        root = write_healthy(tmp_path, 6)
        said = ["no_pathology", "No pathology", "tumor", "unclear", "", "no"]
        write_meta(root, {f"s{number:04}": value for number, value in enumerate(said)})
        assert reasons(root) == {
            "s0000": None,
            "s0001": None,
            "s0002": "pathology tumor",
            "s0003": "pathology not known",
            "s0004": "pathology not known",
            "s0005": "pathology no",
        }
        assert {case.grade for case in find_healthy(root)[0]} == {"healthy"}

    def test_a_pathology_elsewhere_counts_too(self, tmp_path):
        root = write_healthy(tmp_path, 1)
        meta = root / "meta.csv"
        meta.write_text(meta.read_text().replace("no_pathology;", "inflammation;lung"))
        assert reasons(root) == {"s0000": "pathology inflammation"}

    @pytest.mark.parametrize(
        ("left", "right", "reason"),
        [
            (LEFT, RIGHT, None),
            (0 * LEFT, 0 * RIGHT, "no kidney in the scan"),
            (0 * LEFT, RIGHT, "one kidney only"),
            (LEFT, np.roll(RIGHT, 2, axis=2), "a kidney cut off by the end of the scan"),
            (np.roll(LEFT, -2, axis=2), RIGHT, "a kidney cut off by the end of the scan"),
            (np.roll(LEFT, 1, axis=2), np.roll(RIGHT, -1, axis=2), None),
        ],
    )
    def test_kidneys_are_whole(self, tmp_path, left, right, reason):
        root = write_healthy(tmp_path, 1)
        write_kidneys(root / "s0000", left, right)
        assert reasons(root) == {"s0000": reason}

    @pytest.mark.parametrize(("voxels", "reason"), [(0, None), (1, "with a kidney cyst")])
    def test_cysts(self, tmp_path, voxels, reason):
        root, cyst = write_healthy(tmp_path, 1), np.zeros(SHAPE, np.uint8)
        cyst[4, 4, 3] = voxels
        write_volume(root / "s0000/segmentations/kidney_cyst_left.nii.gz", cyst, WHOLE)
        assert reasons(root) == {"s0000": reason}

    def test_the_image_of_a_case_that_is_left_out_is_not_read(self, tmp_path):
        root = write_healthy(tmp_path, 1)
        write_kidneys(root / "s0000", 0 * LEFT, 0 * RIGHT)
        (root / "s0000/ct.nii.gz").write_bytes(b"broken")
        (case,) = find_healthy(root)[0]
        assert check_healthy(case) == (None, "no kidney in the scan")

    @pytest.mark.parametrize(
        ("content", "text"),
        [
            (None, "missing; it says which cases are healthy, copy it from the download"),
            (b"image_id;age\ns0000;60\n", "no column pathology, so no case is known to be healthy; use version 2"),
        ],
    )
    def test_without_the_table_nobody_is_healthy(self, tmp_path, content, text):
        root = write_healthy(tmp_path, 1)
        (root / "meta.csv").unlink()
        if content:
            (root / "meta.csv").write_bytes(content)
        healthy, left_out, faults = find_healthy(root)
        assert healthy == []
        assert left_out == {"s0000": "pathology not known"}
        assert faults == [f"{root}/meta.csv: {text}"]

    @pytest.mark.parametrize(
        ("mask", "affine", "text"),
        [
            (2 * LEFT, WHOLE, "unknown label 2; an organ mask knows 0, 1: correct it"),
            (LEFT / 2, WHOLE, "values such as 0.5 are no labels; save integers"),
            (LEFT[:-1], WHOLE, "shape (9, 8, 6), but ct.nii.gz has (10, 8, 6); resample it to the same grid"),
            (LEFT, np.diag([1.5, 1.5, 3, 1]), "its affine differs from that of ct.nii.gz; register it"),
        ],
    )
    def test_bad_organ_masks(self, tmp_path, mask, affine, text):
        root = write_healthy(tmp_path, 1)
        path = root / "s0000/segmentations/kidney_left.nii.gz"
        write_volume(path, mask, affine)
        checked, _ = check_healthy(find_healthy(root)[0][0])
        assert [fault.split(f"{path}: ")[1].startswith(text) for fault in checked.faults] == [True]

    def test_unreadable_organ_mask(self, tmp_path):
        root = write_healthy(tmp_path, 1)
        path = root / "s0000/segmentations/kidney_left.nii.gz"
        path.write_bytes(b"broken")
        checked, _ = check_healthy(find_healthy(root)[0][0])
        assert [fault.startswith(f"{path}: not a readable NIfTI file") for fault in checked.faults] == [True]


STAGES = (
    *("index", "anatomy", "preprocess", "truth", "labels", "supervoxels"),
    *("classifier", "maps", "mean_mask", "scores"),
)
GRID = {"spacing": [0.8, 0.8, 3], "size": [24, 20, 6]}
SETTINGS = {
    "seeds": [0],
    "views": {"slice": {"min_foreground_mm2": 1}},
    "classifiers": {"resnet": {"training": {"epochs": 1, "least_steps": 0}}},
    "maps": {"methods": dict.fromkeys(SLOW)},
    "refinements": {"chains": ["threshold"], "declared": None},
    "references": {"methods": []},
}


def planned(**kits):
    given = {**GRID, "min_lesion_mm2": 0.1, "split": {"folds": 2}, **kits}
    return plan.build(load(SETTINGS | {"data": {"brats": None, "instance": None, "kits": given}}))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Six cases of KiTS and six of TotalSegmentator, of which four are healthy, through all stages to the scores."""
    directory = tmp_path_factory.mktemp("healthy")
    write_kits(directory / "kits", 6)
    root = write_healthy(directory / "healthy", 6)
    write_kidneys(root / "s0004", 0 * LEFT, 0 * RIGHT)
    write_meta(root, {f"s{number:04}": "tumor" if number == 5 else "no_pathology" for number in range(6)})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        whole = planned(path=str(directory / "kits"), healthy_path=str(root))
        run_stages(whole, *STAGES)
        yield {stage: directory / whole.of_stage(stage)[0].folder for stage in STAGES}


def test_index_has_both_and_says_who_is_left_out(finished):
    cases = read_cases(finished["index"]).set_index("case")
    assert list(cases.index[cases["grade"] == "healthy"]) == ["s0000", "s0001", "s0002", "s0003"]
    assert len(cases) == 10
    left_out = pd.read_csv(finished["index"] / "left_out.csv")
    assert left_out.to_numpy().tolist() == [["s0004", "no kidney in the scan"], ["s0005", "pathology tumor"]]
    counts = read_record(finished["index"])["counts"]
    assert counts == {"cases": 10, "healthy": 4, "left_out": 2}


def test_every_fold_has_healthy_cases_in_test_and_training(finished):
    cases = read_cases(finished["index"])
    healthy = cases[cases["grade"] == "healthy"]
    for fold in (0, 1):
        assert (healthy[f"role_f{fold}"] == "test").sum() == 2
        assert (healthy[f"role_f{fold}"] == "train").any()


def test_files_stand_apart_by_kind(finished):
    masks, organs = (json.loads((finished["index"] / f"{kind}.json").read_text()) for kind in ("masks", "organs"))
    assert masks["s0000"] is None
    assert organs["case_00000"] == [masks["case_00000"]]
    assert [Path(path).name for path in organs["s0000"]] == ["kidney_left.nii.gz", "kidney_right.nii.gz"]


def test_organs_are_unions(finished):
    kidneys, affine = nifti.read(anatomy.organ_file(finished["anatomy"], "s0001"), np.uint8)
    np.testing.assert_array_equal(kidneys, LEFT | RIGHT)
    np.testing.assert_array_equal(affine, WHOLE)
    with_tumour, _ = nifti.read(anatomy.organ_file(finished["anatomy"], "case_00001"), np.uint8)
    np.testing.assert_array_equal(with_tumour, KIDNEY > 0)


def test_empty_masks_are_made_on_both_grids_and_cost_nothing(finished, context):
    running = context("scores")
    for grid, shape in (("raw", SHAPE), ("grid", nib.load(finished["preprocess"] / "foreground/s0000.nii.gz").shape)):
        lesion, _ = open_lesion(running, finished["truth"], "s0000", "scores", "tumour", grid)
        assert lesion.shape == shape
        assert not lesion.any()
    assert running.truth_opened == {}
    assert open_lesion(running, finished["truth"], "case_00000", "scores", "tumour")[0].any()
    assert running.truth_opened == {"scores": {"case_00000"}}


def test_their_slices_are_negatives(finished):
    labels = read_labels(finished["labels"])
    assert set(labels["case"]) == set(preprocessed_cases(finished["preprocess"]))
    assert set(labels.loc[labels["case"].str.startswith("s"), "label"]) == {NORMAL}
    assert set(labels["label"]) == {0, 1}
    assert read_record(finished["labels"])["truth_opened"] == {"labels": [f"case_{n:05}" for n in range(6)]}


def test_only_masks_that_somebody_drew_are_in_the_budget(finished):
    scores = pd.read_parquet(finished["scores"] / "scores.parquet")
    assert scores["case"].nunique() == 10
    # The mean of training masks has those in its budget, too.
    budgets = scores[scores["method"] != "mean_mask"].groupby("operating_point")["mask_budget"].unique()
    assert {point: list(budget) for point, budget in budgets.items()} == {
        "fixed": [0],
        "label-free": [0],
        "val-1": [1],
        "oracle-set": [6],
    }
    assert (scores.loc[scores["case"].str.startswith("s"), "lesion_ml"] == 0).all()


def test_nobody_healthy_is_a_fault(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_kits(tmp_path / "kits", 6)
    write_meta(write_healthy(tmp_path / "healthy", 2), {"s0000": "tumor", "s0001": "tumor"})
    whole = planned(path=str(tmp_path / "kits"), healthy_path=str(tmp_path / "healthy"))
    with pytest.raises(DataFaults, match=r"no case with healthy kidneys \(2 pathology tumor\); set healthy_path"):
        run_stages(whole, "index")


def test_key_follows_the_content_of_the_healthy_cases(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = {"path": str(write_kits(tmp_path / "kits")), "healthy_path": str(write_healthy(tmp_path / "healthy", 1))}
    plans = [planned(path=paths["path"]), planned(**paths)]
    write_meta(tmp_path / "healthy", {"s0000": "unclear"})
    plans.append(planned(**paths))
    assert len({one.of_stage("index")[0].key for one in plans}) == 3


@pytest.mark.parametrize(
    ("kits", "message"),
    [
        ({"path": "phantom"}, "real cases cannot stand beside phantoms; set path to real data"),
        ({"foreground": "body"}, "other parts of the body; set foreground to kidneys"),
        ({"spacing": None}, "other voxels and another size; set spacing and size"),
        ({"size": None}, "other voxels and another size; set spacing and size"),
    ],
)
def test_where_healthy_cases_are_refused(kits, message):
    with pytest.raises(WeaksegError, match=f"config: data.kits.healthy_path: .*{message}"):
        load({"data": {"kits": {"path": "/kits", "healthy_path": "/healthy", **GRID, **kits}}})


@pytest.mark.realdata
@pytest.mark.skipif("WEAKSEG_REALDATA" not in os.environ, reason="WEAKSEG_REALDATA is not set")
def test_real_abdomen(tmp_path, context):
    """A scan that ends in both kidneys is left out; with some slices of it put beyond, its kidneys are in the union."""
    source = Path(os.environ["WEAKSEG_REALDATA"]) / "abdomen_ct"
    folder, wider = tmp_path / "raw/s0000", tmp_path / "raw/s0001"
    ct, labels = (nib.load(source / name) for name in ("example_ct_sm.nii.gz", "example_seg.nii.gz"))
    for case, margin in ((folder, 0), (wider, 2)):
        for name, image, air in (("ct", ct, -1000), ("left", labels, 0), ("right", labels, 0)):
            data = np.asarray(image.dataobj)
            data = data if name == "ct" else (data == {"right": 2, "left": 3}[name]).astype(np.uint8)
            file = "ct" if name == "ct" else f"segmentations/kidney_{name}"
            data = np.pad(data, [(0, 0), (0, 0), (margin, margin)], constant_values=air)
            write_volume(case / f"{file}.nii.gz", data, ct.affine)
    write_meta(tmp_path / "raw", {"s0000": "no_pathology", "s0001": "no_pathology"})
    assert reasons(tmp_path / "raw") == {"s0000": "a kidney cut off by the end of the scan", "s0001": None}
    index = tmp_path / "index"
    index.mkdir()
    files = {case.case: list(map(str, case.organs)) for case in find_healthy(tmp_path / "raw")[0]}
    (index / "organs.json").write_text(json.dumps(files))
    running = context("anatomy", {"organ": "kidneys"}, index=index)
    anatomy.run(running)
    for case in files:
        kidneys, _ = nifti.read(anatomy.organ_file(running.out, case), np.uint8)
        assert kidneys.sum() * 0.027 == pytest.approx(205.9, abs=0.2)  # ml
