"""`weakseg audit` passes what the smoke run gives, and names each cheat that is planted in a copy of it."""

import shutil

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from tests.end_to_end.conftest import SMOKE

from weakseg import plan
from weakseg.cli import main
from weakseg.data.grid import foreground_file, image_file, read_foreground
from weakseg.data.views import unit_positions
from weakseg.evaluation.duplicates import near_duplicates
from weakseg.evaluation.histogram import best_threshold, load
from weakseg.execution import read_record, write_json
from weakseg.references.masks import masks_by_method
from weakseg.workflow import read_config

TABLE = "results/smoke/scores.parquet"


@pytest.fixture
def planned(smoke, tmp_path, monkeypatch):
    """The plan of the smoke run, in a copy of its results that a test may spoil."""
    shutil.copytree(smoke / "results", tmp_path / "results")
    shutil.copytree(smoke / "data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return plan.build(read_config([SMOKE]))


@pytest.fixture
def audited(planned, capsys):
    """Audit the copy: its exit status, the names of the checks that failed, and all lines."""

    def run(*arguments):
        status = main(["audit", "--configfile", str(SMOKE), *arguments])
        lines = capsys.readouterr().out.splitlines()
        return status, [line.split()[1] for line in lines if line.startswith("fail")], "\n".join(lines)

    return run


def cases_of(planned):
    path = planned.of_stage("index")[0].folder / "cases.csv"
    return path, pd.read_csv(path, dtype=str).set_index("case", drop=False)


def scores_of(planned, method):
    runs = planned.of_stage("scores")
    return next(run for run in runs if method in set(load(run.folder / "histograms.parquet")[0]["method"]))


def change_scores(change):
    """Change the rows of Grad-CAM's map at `val-3` in the published table."""
    table = pd.read_parquet(TABLE)
    rows = table.eval("method == 'gradcam' and refinement == 'threshold' and operating_point == 'val-3'")
    change(table, rows)
    table.to_parquet(TABLE, index=False)


def change_record(run, change):
    record = read_record(run.folder)
    change(record)
    write_json(run.record, record)


def test_an_honest_run_passes_every_check(audited):
    status, failed, lines = audited("--out", "audit.csv")
    assert (status, failed) == (0, []), lines
    table = pd.read_csv("audit.csv")
    assert len(table) == len(lines.splitlines()) == 8
    assert set(table["verdict"]) == {"pass"}


def test_a_patient_in_two_roles(planned, audited):
    path, cases = cases_of(planned)
    (trained, *_), (tested, *_) = (cases.index[cases["role_f0"] == role] for role in ("train", "test"))
    cases.loc[trained, "patient"] = cases.loc[tested, "patient"]
    cases.to_csv(path, index=False)
    status, failed, lines = audited()
    assert status == 1
    assert "patients" in failed
    assert f"patient {cases.loc[tested, 'patient']} is test and train in fold 0" in lines


def test_a_patient_tested_in_two_folds(planned, audited):
    path, cases = cases_of(planned)
    cases.assign(role_f1=cases["role_f0"]).to_csv(path, index=False)
    _, failed, lines = audited()
    assert failed == ["patients"]
    assert "is tested in folds 0, 1" in lines


def copy_slice(folder, source, target):
    """Copy the middle slice of a case, brighter and twice as strong, over that of another."""
    image, mask = nib.load(image_file(folder, target)), nib.load(foreground_file(folder, target))
    other, other_mask = nib.load(image_file(folder, source)), nib.load(foreground_file(folder, source))
    at, shown = image.shape[2] // 2, other_mask.get_fdata()[:, :, other.shape[2] // 2] > 0
    changed, changed_mask = image.get_fdata(), mask.get_fdata()
    changed[:, :, at] = np.where(shown[..., None], 2 * other.get_fdata()[:, :, other.shape[2] // 2] + 0.1, 0)
    changed_mask[:, :, at] = shown
    nib.save(nib.Nifti1Image(changed.astype(np.float32), image.affine), image_file(folder, target))
    nib.save(nib.Nifti1Image(changed_mask.astype(np.uint8), mask.affine), foreground_file(folder, target))
    return other.shape[2] // 2, at


def test_a_duplicated_slice(planned, audited):
    _, cases = cases_of(planned)
    (trained, *_), (tested, *_) = (cases.index[cases["role_f0"] == role] for role in ("train", "test"))
    (run,) = planned.of_stage("preprocess")
    source, target = copy_slice(run.folder, trained, tested)
    _, failed, lines = audited()
    assert failed == ["duplicates"]
    first, second = sorted([(trained, source), (tested, target)])
    assert f"slice {first[1]} of {first[0]} is slice {second[1]} of {second[0]}" in lines


def test_a_slice_that_stands_twice_in_one_role_leaks_nothing(planned):
    _, cases = cases_of(planned)
    one, other, *_ = cases.index[cases["role_f0"] == "train"]
    (run,) = planned.of_stage("preprocess")
    copy_slice(run.folder, one, other)
    assert not list(near_duplicates(run.folder, cases, 1000))
    # It is the roles that decide, not the pictures.
    cases.loc[one, "role_f0"] = "val"
    (pair,) = near_duplicates(run.folder, cases, 1000)
    assert {pair.case, pair.other} == {one, other}
    foreground, affine = read_foreground(run.folder, one)
    assert pair.position in unit_positions(foreground, affine, 1000)


def test_a_threshold_from_test_masks(planned, audited):
    keys, histograms = load(scores_of(planned, "gradcam").folder / "histograms.parquet")
    chosen = keys.query("role == 'test' and method == 'gradcam' and refinement == 'threshold'").index
    from_test = best_threshold([histograms[place] for place in chosen])

    def change(table, rows):
        assert not np.isclose(table.loc[rows, "threshold"], from_test).any()
        table.loc[rows & (table["role"] == "test"), "threshold"] = from_test

    change_scores(change)
    _, failed, lines = audited()
    assert failed == ["thresholds"]
    assert f"gradcam/threshold/val-3: threshold {from_test:.4g}" in lines
    assert "it is what the masks of the tested cases give" in lines


def test_a_dice_that_no_threshold_gives(audited, planned):
    change_scores(lambda table, rows: table.__setitem__("dice", table["dice"].mask(rows, 0.9)))
    _, failed, lines = audited()
    assert failed == ["thresholds"]
    assert "gradcam/threshold/val-3: dice 0.9 of" in lines


def test_validation_histograms_of_tested_cases(planned, audited):
    _, cases = cases_of(planned)
    (tested, *_), (validating, *_) = (cases.index[cases["role_f0"] == role] for role in ("test", "val"))
    path = scores_of(planned, "gradcam").folder / "histograms.parquet"
    table = pd.read_parquet(path)
    table.loc[(table["role"] == "val") & (table["case"] == validating), "case"] = tested
    table.to_parquet(path, index=False)
    _, failed, lines = audited()
    assert failed == ["histograms"]
    assert f"gradcam/threshold: counts {tested} as val of fold 0, where it is test" in lines
    assert f"gradcam/threshold: lacks {validating}, val of fold 0" in lines


def test_a_budget_that_lies(audited, planned):
    change_scores(lambda table, rows: table.__setitem__("mask_budget", table["mask_budget"].mask(rows, 1)))
    _, failed, lines = audited()
    assert failed == ["budgets"]
    assert "gradcam/threshold/val-3: mask_budget 1, by the logs it is 3" in lines


def test_a_leaderboard_whose_budget_lies(audited, planned):
    path = "results/smoke/tables/leaderboard.csv"
    board = pd.read_csv(path)
    board.loc[board["method"] == "mean_mask", "mask_budget"] = 0
    board.to_csv(path, index=False)
    _, failed, lines = audited()
    assert failed == ["budgets"]
    assert "mean_mask/threshold/classifier/fixed: budgets [0, " in lines


def test_a_log_that_lies(audited, planned):
    """Both what it counts and what it lists are made smaller, so that they agree."""
    (run,) = planned.of_stage("mean_mask")
    hidden = read_record(run.folder)["truth_opened"]["mean-mask"][0]

    def change(record):
        record["truth_opened"]["mean-mask"].remove(hidden)
        record["masks_used"].remove(hidden)

    change_record(run, change)
    _, failed, lines = audited()
    assert "openings" in failed
    assert f"mean-mask needs the mask of {hidden}, which is not logged" in lines
    # And what was refined from it, and the rows, say more than that.
    assert "masks_used names 9 masks, the logs up to it 8" in lines
    assert "mean_mask/threshold/fixed: mask_budget 9, by the logs it is 8" in lines


def test_masks_opened_by_those_who_must_not(audited, planned):
    (maps,) = (run for run in planned.of_stage("maps") if "cam" in run.label)
    change_record(maps, lambda record: record["truth_opened"].update(scores=["BraTS20_Training_001"]))
    _, cases = cases_of(planned)
    (tested, *_) = cases.index[cases["role_f0"] == "test"]
    change_record(scores_of(planned, "gradcam"), lambda record: record["truth_opened"]["val-k"].append(tested))
    _, failed, lines = audited()
    assert failed == ["openings"]
    assert "maps opened masks for scores; it must not" in lines
    assert f"val-k opened the mask of {tested}, which is none of its cases" in lines


def test_rows_that_lack_or_stand_twice(audited, planned):
    def change(table, rows):
        first, second, third, fourth, *_ = table.index[rows]
        table.loc[first] = table.loc[second]
        table.loc[third, "run"] = "deadbeef"
        table.loc[fourth, "region"] = None

    change_scores(change)
    _, failed, lines = audited()
    assert "rows" in failed
    assert "1 rows without a key" in lines
    assert "gradcam/threshold/val-3: 1 rows stand twice" in lines
    assert "run deadbeef is not planned" in lines
    assert lines.count(" lacks a row: ") == 2


def test_a_run_that_was_not_made_as_planned(audited, planned):
    (maps,) = (run for run in planned.of_stage("maps") if "cam" in run.label)
    change_record(maps, lambda record: record["params"].update(gate="none"))
    _, failed, lines = audited()
    assert failed == ["records"]
    assert f"{maps.record}: its params is not the planned one" in lines


def test_without_results_it_says_what_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["audit", "--configfile", str(SMOKE)]) == 1
    error = capsys.readouterr().err
    assert "not there yet; run snakemake with this configuration first" in error
    assert len(error.splitlines()) == 1


def test_a_reference_that_saw_another_mask(planned, audited):
    """What it says it opened is not what it may see, though the log of the run is whole."""
    (run,) = planned.of_stage("references")
    opened = masks_by_method(run.folder)
    (own,) = opened["unet_k1"]
    other = next(case for case in opened["unet"] if case != own)
    write_json(run.folder / "opened.json", {**opened, "unet_k1": [own, other]})
    _, failed, lines = audited()
    assert failed == ["openings", "budgets"]
    assert f"unet_k1 was made with the mask of {other}; wrong" in lines
    assert "unet_k1/threshold/fixed: mask_budget 1, by the logs it is 2" in lines
