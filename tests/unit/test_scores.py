"""The stage `scores` on maps and masks whose numbers are known."""

import numpy as np
import pandas as pd
import pytest

from weakseg import nifti
from weakseg.evaluation import scores as stage
from weakseg.evaluation.histogram import load, overlap_curves
from weakseg.execution import write_json

SHAPE = (10, 10, 6)
ROLES = {"v1": "val", "v2": "val", "free": "val", "t1": "test", "t2": "test", "s1": "shift"}
INNER, OUTER = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
INNER[3:6, 3:6, 2:4] = True
OUTER[2:8, 2:8, 1:5] = True
# A lesion at 0.8 within a ring of `ring` within a foreground of 0.1: a threshold between the two is right.
RINGS = {"v1": 0.3, "v2": 0.6, "free": 0.3, "t1": 0.4, "t2": 0.2, "s1": 0.4}


def relevance(case):
    volume = np.full(SHAPE, 0.1, np.float32)
    volume[OUTER], volume[INNER] = RINGS[case], 0.8
    volume[0, 0, 0] = 1  # a voxel by itself
    return volume


@pytest.fixture
def running(context, tmp_path):
    folders = {role: tmp_path / role for role in ("index", "preprocess", "truth", "labels", "classifiers", "maps")}
    for folder in folders.values():
        folder.mkdir()
    table = pd.DataFrame({"case": list(ROLES), "patient": list(ROLES), "grade": "", "source": "phantom"})
    table.assign(role_f0=list(ROLES.values())).to_csv(folders["index"] / "cases.csv", index=False)
    affine = np.diag([10.0, 10.0, 10.0, 1.0])
    for case in ROLES:
        mask = np.zeros(SHAPE, np.uint8) if case == "free" else INNER.astype(np.uint8)
        nifti.write(folders["truth"] / f"raw/{case}.nii.gz", mask, affine)
        nifti.write(folders["preprocess"] / f"foreground/{case}.nii.gz", np.ones(SHAPE, np.uint8), affine)
        nifti.write_map(folders["maps"] / f"gradcam/{case}.nii.gz", relevance(case), affine)
    slices = [(case, position, int(case != "free" and position in (2, 3))) for case in ROLES for position in range(6)]
    pd.DataFrame(slices, columns=["case", "position", "label"]).to_csv(folders["labels"] / "slices.csv", index=False)
    write_json(folders["classifiers"] / "run.json", {"counts": {"labels_used": 12}})
    record = {"key": "maps0000", "params": {"fold": 0, "methods": {"gradcam": {}}}, "masks_used": ["old"]}
    write_json(folders["maps"] / "run.json", record)
    params = dict.fromkeys(("dataset", "view", "classifier", "anatomy"), "x") | {
        "region": "whole_tumour",
        "gate": "classifier",
        "seed": 0,
        "roles": ["test", "val", "shift"],
        "chains": {"threshold": "threshold", "components": "threshold"},
        "components": {"opening_mm": 0, "closing_mm": 0, "min_volume_ml": 2},
        "operating_points": ["fixed", "label-free", "val-k", "oracle-set"],
        "val_k": [1, 2, 5],
        "draws": 6,
        "data_seed": 7,
    }
    made = context("scores", params, **folders)
    made.upstream["refinements"] = []
    return made


def scored(running):
    stage.run(running)
    return pd.read_parquet(running.out / "scores.parquet").set_index(["case", "refinement", "operating_point"])


def test_rows_and_columns(running):
    table = scored(running)
    assert not table.index.has_duplicates
    assert {level: set(table.index.get_level_values(level)) for level in table.index.names} == {
        "case": {"t1", "t2", "s1"},
        "refinement": {"threshold", "components"},
        "operating_point": {"fixed", "label-free", "val-1", "val-2", "oracle-set"},
    }
    assert len(table) == 3 * 2 * 5
    assert dict(table["role"].groupby("case").first()) == {"s1": "shift", "t1": "test", "t2": "test"}
    complete = table.drop(columns=["relative_volume_error", "share_touched"])
    shifted = complete["role"] == "shift"
    assert not complete[~shifted].isna().any().any()
    # The shift case has what counts voxels, and nothing of distances, lesions, or the map before its cut.
    missing = complete[shifted].isna()
    assert (missing.all() == missing.any()).all()
    assert {"dice", "iou", "auprc", "precision", "volume_error_ml", "predicted_ml"} <= set(
        missing.columns[~missing.any()]
    )
    assert {"nsd", "hd95_mm", "lesion_f1", "box_50", "pointing_game"} <= set(missing.columns[missing.all()])


def test_val_k_is_the_mean_over_draws(running):
    table = scored(running)
    # Maps are scaled by 1 / 0.88, their 99.9th percentile: v1 alone chooses the first fiftieth above 0.3 / 0.88, v2,
    # or both, that above 0.6 / 0.88. The ring of t1, 0.4 / 0.88, is above the former.
    drawn = [stage.draw_validation(*_tables(running), [0], [1], 6, 7)[0][0]["val-1"][draw] for draw in range(6)]
    share = drawn.count(["v1"]) / 6
    assert 0 < share < 1
    good, bad = 2 * 18 / (18 + 19), 2 * 18 / (18 + 145)  # the peak in the corner is always predicted
    row = table.loc["t1", "threshold", "val-1"]
    assert row["dice"] == pytest.approx(share * bad + (1 - share) * good)
    assert list(row["dice_by_draw"]) == pytest.approx([bad if patients == ["v1"] else good for patients in drawn])
    assert row["threshold"] == pytest.approx(share * 0.36 + (1 - share) * 0.70)
    assert table.loc[("t1", "threshold", "val-2"), ["dice", "threshold"]].tolist() == pytest.approx([good, 0.70])
    assert table.loc[("t2", "threshold", "val-1"), "dice"] == pytest.approx(good)


def _tables(running):
    cases = stage.read_cases(running.folder("index")).set_index("case", drop=False)
    return cases, stage.read_labels(running.folder("labels"))


def test_budgets_are_the_masks_opened(running):
    table = scored(running)
    budgets = table["mask_budget"].groupby("operating_point").unique()
    assert {point: list(budget) for point, budget in budgets.items() if point != "oracle-set"} == {
        "fixed": [1],
        "label-free": [1],
        "val-1": [2],
        "val-2": [3],
    }
    oracle = table.xs("oracle-set", level="operating_point")["mask_budget"].groupby("case").first()
    assert oracle.to_dict() == {"t1": 3, "t2": 3, "s1": 2}
    assert set(table["label_budget"]) == {12}
    tested = {"t1", "t2", "s1"}
    assert running.truth_opened == {"val-k": {"v1", "v2"}, "scores": tested, "oracle-set": tested}


def test_what_is_left_out_is_said(running, capsys):
    stage.run(running)
    expected = "val-5 is left out: fold 0 has 2 validation patients with a lesion"
    assert expected in capsys.readouterr().err
    assert pd.read_csv(running.out / "left_out.csv")["left_out"].tolist() == ["val-5"]


def test_components_clean_after_the_cut(running):
    table = scored(running)
    # The single voxel in the corner has 1 ml.
    assert table.loc[("t1", "components", "val-2"), ["dice", "lesion_f1", "hd95_mm", "nsd"]].tolist() == [1, 1, 0, 1]
    assert table.loc[("t1", "threshold", "val-2"), "lesion_precision"] == 0.5
    assert table.loc[("t1", "threshold", "val-2"), "volume_error_ml"] == pytest.approx(1)


def test_scores_of_the_map(running):
    row = scored(running).loc["t1", "threshold", "fixed"]
    assert row["prevalence"] == pytest.approx(18 / 600)
    assert row["auprc"] == pytest.approx(18 / 19)
    # The maximum is 37 mm away from the lesion, or more.
    assert row["pointing_game"] == 0
    assert row["rank_accuracy"] == pytest.approx(17 / 18)
    assert (row["box_30"], row["box_50"], row["box_70"]) == (1, 1, 1)
    assert (row["lesions_>=10_ml"], row["found_>=10_ml"], row["lesion_ml"]) == (1, 1, pytest.approx(18))


def test_kept_histograms_hold_the_dice_of_every_point(running):
    table = scored(running)
    keys, histograms = load(running.out / "histograms.parquet")
    assert dict(zip(keys["case"], keys["role"], strict=True)) == {c: r for c, r in ROLES.items() if c != "free"}
    for case in ("t1", "t2", "s1"):
        (place,) = keys.index[keys["case"] == case]
        curve = overlap_curves(histograms[place])["dice"]
        for point in ("fixed", "label-free", "val-2", "oracle-set"):
            row = table.loc[case, "threshold", point]
            assert row["dice"] == pytest.approx(curve[round(1000 * row["threshold"])])


def test_killed_and_started_again_gives_the_same(running, monkeypatch):
    """The second start scores what the first did not, and its log is whole."""
    honest, done = stage._score, []

    def killed(context, task, cases):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task.place.case)
        return honest(context, task, cases)

    monkeypatch.setattr(stage, "_score", killed)
    with pytest.raises(KeyboardInterrupt):
        stage.run(running)
    monkeypatch.setattr(stage, "_score", lambda *args, **names: done.append("again") or honest(*args, **names))
    opened, running.truth_opened = running.truth_opened, {}
    stage.run(running)
    assert done == ["t1", "t2", "again"]
    assert running.truth_opened == opened


def test_without_val_k_no_validation_mask_is_opened(running):
    running.params["operating_points"] = ["fixed"]
    table = scored(running)
    assert set(table.index.get_level_values("operating_point")) == {"fixed"}
    assert running.truth_opened == {"scores": {"t1", "t2", "s1"}}


def test_threads_change_nothing(running):
    alone = scored(running)
    opened, running.truth_opened, running.threads = running.truth_opened, {}, 2
    for path in running.state.iterdir():
        path.unlink()
    pd.testing.assert_frame_equal(scored(running), alone)
    assert running.truth_opened == opened
