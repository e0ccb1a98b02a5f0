"""`weakseg score` gives what the workflow gives for the same maps, and takes no broken input."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from tests.end_to_end.conftest import SMOKE

from weakseg import nifti, plan
from weakseg.cli import main
from weakseg.data.truth import REGIONS
from weakseg.workflow import read_config

KEY = ["case", "refinement", "operating_point"]
FACTS = ["method", "run", "view", "classifier", "gate", "seed", "label_budget"]
"""Columns that say whose rows they are."""


@pytest.fixture
def planned(smoke, monkeypatch):
    monkeypatch.chdir(smoke)
    return plan.build(read_config([SMOKE]))


@pytest.fixture
def cases(planned):
    return pd.read_csv(planned.of_stage("index")[0].folder / "cases.csv", dtype=str).set_index("case")["role_f0"]


@pytest.fixture
def score(planned, tmp_path, capsys):
    """Score a folder: exit status, what was said, and the scores if there are any."""

    def run(folder, *arguments, out=tmp_path / "out"):
        options = ["--maps", str(folder), "--dataset", "brats", "--out", str(out), "--configfile", str(SMOKE)]
        status = main(["score", *options, *arguments])
        said = capsys.readouterr()
        table = pd.read_parquet(out / "scores.parquet").set_index(KEY) if status == 0 else None
        return status, said.err, table

    return run


@pytest.fixture
def masks(planned, cases, tmp_path):
    """The truth of the tested cases, on the publisher's grid, as somebody's masks."""
    folder, (truth,) = tmp_path / "masks", planned.of_stage("truth")
    for case in cases.index[cases.isin(["test", "shift"])]:
        mask, affine = nifti.read(truth.folder / f"raw/{case}.nii.gz", np.uint8)
        nifti.write(folder / f"{case}.nii.gz", np.isin(mask, REGIONS["whole_tumour"]).astype(np.uint8), affine)
    return folder


def maps_of(planned, method):
    return next(path for run in planned.of_stage("maps") for path in [run.folder / method] if path.is_dir())


def rows_of_workflow(planned, method):
    table = pd.read_parquet(planned.destination / "scores.parquet")
    return table[(table["method"] == method) & (table["refinement"] == "threshold")].set_index(KEY)


@pytest.mark.parametrize("method", ["gradcam", "random"])
def test_maps_of_the_workflow_get_its_numbers(planned, score, method):
    status, said, table = score(maps_of(planned, method), "--labels-used", "7")
    assert (status, said) == (0, "")
    assert set(table["label_budget"]) == {7}
    theirs = rows_of_workflow(planned, method)
    ours = table.loc[theirs.index].drop(columns=FACTS)
    pd.testing.assert_frame_equal(ours, theirs.drop(columns=FACTS), check_exact=True)
    assert set(table.index.get_level_values("refinement")) == {"threshold", "components"}


def test_truth_as_masks_is_perfect(score, masks, cases, tmp_path):
    status, _, table = score(masks, "--masks", "--masks-used", "9")
    assert status == 0
    raw = table.xs("threshold", level="refinement")
    assert (raw["dice"] == 1).all()
    # Shift cases have no distances.
    tested = raw[raw["role"] == "test"]
    assert (tested[["nsd", "lesion_f1"]] == 1).all().all()
    assert (tested["hd95_mm"] == 0).all()
    assert set(table.index.get_level_values("operating_point")) == {"fixed"}
    assert set(table["mask_budget"]) == {9}
    board = pd.read_csv(tmp_path / "out/leaderboard.csv").set_index("refinement")
    assert board.loc["threshold", ["dice", "dice_shift", "mask_budget"]].tolist() == [1, 1, 9]
    assert board.loc["threshold", "n_cases"] == (cases == "test").sum()
    assert {path.name for path in tmp_path.iterdir()} == {"masks", "out"}


def test_another_grid_and_orientation_cost_nothing(score, masks, tmp_path):
    """Flipped, in a larger field of view, and uncompressed: the same voxels lie at the same place."""
    for path in masks.iterdir():
        mask, affine = nifti.read(path, np.uint8)
        moved = affine.copy()
        moved[:3, 3] -= affine[:3, :3] @ [2, 3, 1]
        wide = nib.Nifti1Image(np.pad(mask, ((2, 0), (3, 1), (1, 1))), moved)
        flipped = wide.as_reoriented(np.array([[0, -1], [1, 1], [2, -1]]))
        (tmp_path / "wide").mkdir(exist_ok=True)
        nib.save(flipped, tmp_path / "wide" / path.name.removesuffix(".gz"))
    _, _, table = score(tmp_path / "wide", "--masks")
    assert (table.xs("threshold", level="refinement")["dice"] == 1).all()


def test_what_the_cases_do_not_allow_is_left_out(score, masks, cases, tmp_path):
    missing = cases.index[cases == "shift"][0]
    (masks / f"{missing}.nii.gz").unlink()
    status, said, table = score(masks)
    assert status == 0
    assert "val-k is left out: no file for 3 cases" in said
    assert f"the shift cases are left out: no file for 1 cases, such as {missing}" in said
    assert set(table["role"]) == {"test"}
    assert set(table.index.get_level_values("operating_point")) == {"fixed", "label-free", "oracle-set"}


def spoil(path, change):
    mask, affine = nifti.read(path)
    data, affine = change(mask, affine)
    nib.save(nib.Nifti1Image(data, affine), path)


FAULTS = {
    "holds NaN or infinity": lambda mask, affine: (np.where(mask > 0, np.nan, mask), affine),
    "4 dimensions; save one volume of 3": lambda mask, affine: (np.stack([mask, mask], -1), affine),
    "lies outside the foreground": lambda mask, affine: (mask, affine + np.array([[0, 0, 0, 9e3]] + [[0] * 4] * 3)),
    "other values than 0 and 1; leave out --masks": lambda mask, affine: (mask * 2, affine),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_file_is_named(score, masks, tmp_path, fault):
    path = sorted(masks.iterdir())[1]
    spoil(path, FAULTS[fault])
    refused(score(masks, "--masks"), tmp_path, f"{path}: ", fault)


def refused(result, tmp_path, *parts):
    status, said, _ = result
    assert status == 1
    # Beside what is said of optional cases, one line.
    (line,) = [line for line in said.splitlines() if line.startswith("weakseg: ")]
    assert all(part in line for part in parts), line
    assert {path.name for path in tmp_path.iterdir()} <= {"masks", "empty"}


def test_input_that_does_not_fit_is_named(score, masks, cases, tmp_path):
    tested = cases.index[cases == "test"][0]
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(score(tmp_path / "nowhere"), tmp_path, "nowhere: no such folder")
    refused(score(empty), tmp_path, f"{empty}: no file is named after a case; name them as BraTS20_Training_0")
    refused(score(masks, "--dataset", "brat"), tmp_path, "--dataset brat: ", "did you mean brats?")
    refused(score(masks, "--name", "a/b"), tmp_path, "--name a/b: use letters")
    refused(score(masks, "--maps", str(masks), str(masks)), tmp_path, "--maps: 2 folders; name one for all folds")
    refused(score(masks, out=masks), tmp_path, f"{masks}: already there; remove it")
    (masks / f"{tested}.nii").write_bytes(b"x")
    refused(score(masks), tmp_path, f"both {tested}.nii.gz and {tested}.nii; remove one")
    (masks / f"{tested}.nii.gz").unlink()
    refused(score(masks), tmp_path, f"{tested}.nii: not a readable NIfTI file")
    (masks / f"{tested}.nii").unlink()
    refused(score(masks), tmp_path, f"{tested}.nii.gz: not there, as 1 of the tested cases")


def test_without_truth_it_says_what_to_run(masks, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["score", "--maps", str(masks), "--dataset", "brats", "--configfile", str(SMOKE)]) == 1
    said = capsys.readouterr().err
    assert "not there yet; run `snakemake results/runs/labels/brats-" in said
    assert not Path("results").exists()
