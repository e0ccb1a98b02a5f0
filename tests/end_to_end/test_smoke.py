"""The whole way on the smoke phantom, through Snakemake and again inside this process."""

import base64
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from tests.end_to_end.conftest import SMOKE
from tests.runner import methods_of, run_stages, snakemake

from weakseg import catalogue, nifti, plan, runs
from weakseg.classifiers.learning import predict
from weakseg.classifiers.resnet import SliceImages
from weakseg.cli import main
from weakseg.data.grid import read_foreground
from weakseg.evaluation.histogram import best_threshold, load
from weakseg.evaluation.points import STEP
from weakseg.evaluation.protocol import normalise
from weakseg.execution import read_record
from weakseg.workflow import publish, read_config, verify_published

BLIND = ("classifier", "maps", "faithfulness")
"""The stages that must not see a mask, beside refinements."""


@pytest.fixture
def planned(smoke, monkeypatch):
    monkeypatch.chdir(smoke)
    return plan.build(read_config([SMOKE]))


def test_every_file_is_published(planned):
    tables, figures, scores, manifest, of_a_classifier = 3 * 10 + 5, 3 * 10, 4, 1, 2
    of_classifiers = of_a_classifier * len(planned.of_stage("classifier"))
    assert len(planned.published) == tables + figures + scores + manifest + of_classifiers
    for path in planned.published:
        assert path.stat().st_size > 0, path


def test_page_shows_masks_as_they_were_scored(planned):
    """Bytes of the page's maps, cut at the page's level, are the stored maps cut at the score's threshold."""
    assert "Not audited" not in planned.page.read_text()
    (run,), (preprocess,) = planned.of_stage("viewer"), planned.of_stage("preprocess")
    shown = json.loads((run.folder / "viewer.json").read_text())
    assert read_record(run.folder)["truth_opened"] == {"scores": sorted({case["case"] for case in shown["cases"]})}
    scores = pd.read_parquet(planned.destination / "scores.parquet").set_index(
        ["role", "refinement", "operating_point", "method", "case"]
    )
    raw = [one for one in shown["maps"] if one["view"] == "slice" and one["method"] != "mean_mask"]
    assert {one["method"] for one in raw} >= {"gradcam", "layercam", "intensity"}
    maps = [of.folder for of in planned.of_stage("maps")]
    for one in raw:
        row = scores.loc["test", "threshold", "label-free", one["method"], one["case"]]
        assert one["dice"] == round(row["dice"], 3)
        (path,) = (of / one["method"] / f"{one['case']}.nii.gz" for of in maps if (of / one["method"]).is_dir())
        relevance = normalise(nifti.read(path)[0], read_foreground(preprocess.folder, one["case"])[0])
        stored = nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(one["map"])))
        mask = np.asarray(stored.dataobj) > one["cut"]
        assert mask.sum() == (relevance > row["threshold"]).sum()


def test_leaderboard_has_every_method_at_every_point(smoke):
    board = pd.read_csv(smoke / "results/smoke/tables/leaderboard.csv")
    config = read_config([SMOKE])
    rows = {(row.method, row.refinement, row.operating_point) for row in board.itertuples()}
    assert rows == {
        (method, chain, point)
        for method in methods_of(config)
        for chain in (*config.refinements.chains, *(config.refinements.declared.chains if method == "layercam" else ()))
        for point in ("fixed", "label-free", "val-1", "val-3", "oracle-set")
    } | {(name, "threshold", "fixed") for name in config.references.methods}
    assert len(board) == len(rows)
    assert set(board["source"]) == {"phantom"}
    cases = pd.read_csv(next(smoke.glob("results/runs/index/*/cases.csv")))
    assert set(board["n_cases"]) == {(cases["role_f0"] == "test").sum()}
    assert set(board["n_shift"]) == {(cases["role_f0"] == "shift").sum()}


def test_mask_budget_counts_what_was_opened(smoke):
    board = pd.read_csv(smoke / "results/smoke/tables/leaderboard.csv")
    by_point = {"fixed": 0, "label-free": 0, "val-1": 1, "val-3": 3, "oracle-set": board["n_cases"].iloc[0]}
    # The training cases; those and the validation cases; one validation case.
    made_of = board["method"].map({"mean_mask": 9, "unet": 9 + 3, "unet_k1": 1}).fillna(0)
    assert (board["mask_budget"] == board["operating_point"].map(by_point) + made_of).all()
    assert ((board["label_budget"] > 0) == ~board["method"].isin(list(catalogue.REFERENCES))).all()


def test_record_says_which_mask_was_opened_for_what(planned):
    cases = pd.read_csv(planned.of_stage("index")[0].folder / "cases.csv").set_index("case")["role_f0"]
    of_role = {role: sorted(cases.index[cases == role]) for role in ("train", "val", "test", "shift")}
    tested = sorted(of_role["test"] + of_role["shift"])
    for run in planned.of_stage("scores"):
        opened = read_record(run.folder)["truth_opened"]
        of_maps = {"oracle-set": tested, "val-k": of_role["val"]} if run.params["view"] == "slice" else {}
        assert opened == {"scores": tested, **of_maps}
    (run,) = planned.of_stage("references")
    assert read_record(run.folder)["truth_opened"] == {"references": sorted(of_role["train"] + of_role["val"])}
    (run,) = planned.of_stage("mean_mask")
    assert read_record(run.folder)["truth_opened"] == {"mean-mask": of_role["train"]}


def test_kept_histograms_give_the_thresholds_again(planned):
    for run in (run for run in planned.of_stage("scores") if run.params["view"] == "slice"):
        keys, histograms = load(run.folder / "histograms.parquet")
        assert set(keys["role"]) == {"val", "test", "shift"}
        scores = pd.read_parquet(run.folder / "scores.parquet").query("operating_point == 'val-3'")
        for method, rows in scores[scores["refinement"] == "threshold"].groupby("method"):
            validation = (keys["role"] == "val") & (keys["method"] == method) & (keys["refinement"] == "threshold")
            threshold = best_threshold([histograms[place] for place in keys.index[validation]], STEP)
            np.testing.assert_allclose(rows["threshold"], threshold)


def test_shift_cases_have_overlap_and_volumes_alone(smoke):
    scores = pd.read_parquet(smoke / "results/smoke/scores.parquet").query("lesion_ml > 0")
    shifted = scores["role"] == "shift"
    counted = ["auprc", "dice", "iou", "sensitivity", "precision", "volume_error_ml", "predicted_ml"]
    assert scores.loc[shifted, counted].notna().all().all()
    left_out = ["pointing_game", "hd95_mm", "nsd", "lesion_f1", "false_positive_ml", "box_50"]
    assert scores.loc[shifted, left_out].isna().all().all()
    assert scores.loc[~shifted, left_out].notna().any().all()


def test_only_allowed_stages_opened_masks(planned):
    opened = {run.stage for run in planned.runs.values() if read_record(run.folder)["truth_opened"]}
    assert opened == {"labels", "mean_mask", "references", "scores", "collect", "figures", "viewer"}


def test_smoke_has_at_most_25_jobs(planned):
    publish_and_all = 2
    assert len(planned.runs) + publish_and_all <= 25


def test_second_run_has_nothing_to_do(smoke):
    assert "Nothing to be done" in snakemake(smoke, "--configfile", str(SMOKE)).stderr


def test_published_tables_are_verified(planned, capsys):
    assert "as planned" in verify_published(read_config([SMOKE]))
    assert main(["verify"]) == 1
    assert "not there yet" in capsys.readouterr().err
    table = Path("results/smoke/tables/leaderboard.csv")
    content = table.read_bytes()
    table.write_bytes(content + b"x")
    assert main(["verify", "--configfile", str(SMOKE)]) == 1
    assert "leaderboard.csv: not what this configuration gives" in capsys.readouterr().err
    table.write_bytes(content)
    weights = next(path for path in planned.published if path.suffix == ".safetensors")
    weights.rename(weights.with_name("renamed.safetensors"))
    assert main(["verify", "--configfile", str(SMOKE)]) == 1
    assert f"{weights}: not what this configuration gives" in capsys.readouterr().err
    weights.with_name("renamed.safetensors").rename(weights)


def test_what_another_plan_published_is_no_part_of_this_one(planned, capsys):
    stray = Path("results/smoke/models/another-seed/README.md")
    stray.parent.mkdir()
    stray.write_text("x")
    assert main(["verify", "--configfile", str(SMOKE)]) == 1
    assert f"{stray}: this configuration gives no such file; remove it" in capsys.readouterr().err
    publish(planned.destination, [run.folder for run in planned.published_runs])
    assert not stray.exists()
    assert f"{len(planned.published)} files, as planned" in verify_published(read_config([SMOKE]))


def test_model_is_loaded_as_its_card_says(planned, monkeypatch):
    """The code of the card, run beside the weights, gives the logits that the classifier's run wrote down."""
    classifier = planned.of_stage("classifier")[0]
    predictions = pd.read_csv(classifier.folder / "predictions.csv")
    preprocessed = planned.runs[classifier.upstream["preprocess"][0]].folder.absolute()
    monkeypatch.chdir(planned.destination / "models" / classifier.label)
    (code,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    names = {}
    exec(code, names)
    rows = predictions.head(20)
    logits = predict(names["network"], SliceImages(preprocessed), rows, "cpu")
    np.testing.assert_allclose(logits, rows["logit"], atol=1e-4)


def test_prune_lists_what_no_configuration_uses(planned, capsys):
    strays = [Path("results/runs/maps/.brats-old-11111111.partial"), Path("results/runs/maps/brats-old-00000000")]
    for stray in strays:
        stray.mkdir()
    # The default is not run here; what the published smoke tables need stays all the same.
    assert main(["prune", "--delete"]) == 0
    assert capsys.readouterr().out.split() == [str(stray) for stray in strays]
    assert not any(stray.exists() for stray in strays)
    assert all(run.record.exists() for run in planned.runs.values())


def test_without_truth_everything_blind_is_byte_equal(smoke, tmp_path, monkeypatch):
    """Truth and raw masks are moved away after `labels`; what follows gives the same bytes, and so does the rest."""
    monkeypatch.chdir(tmp_path)
    again = plan.build(read_config([SMOKE]))
    run_stages(again, "phantom", "index", "preprocess", "truth", "labels", "supervoxels")
    with _no_masks(tmp_path / "hidden"):
        blind = run_stages(again, *BLIND)
    # Training masks make `mean_mask`; what refines it, as all other maps, is blind. References see masks too.
    run_stages(again, "mean_mask", "references")
    with _no_masks(tmp_path / "hidden"):
        blind += run_stages(again, "refinement")
    compared = [_same_files(smoke / run.folder, tmp_path / run.folder) for run in blind]
    # Files of the classifier, of 9 cases x 2 or 4 methods, of values; refined ones of all 7 methods, and of one by its
    # student.
    assert compared == [5, 19, 37, 2, 64 + 9 + 1]
    run_stages(again, "scores", "collect", "leaderboard")
    publish(again.destination, [run.folder for run in again.of_stage("leaderboard")])
    table = "results/smoke/tables/leaderboard.csv"
    assert Path(table).read_bytes() == (smoke / table).read_bytes()


@contextmanager
def _no_masks(hidden: Path):
    """Truth and raw masks below the working directory are away meanwhile."""
    hidden.mkdir(exist_ok=True)
    masks = [*Path("data").rglob("*_seg.nii.gz"), *Path("results/runs/truth").iterdir()]
    assert len(masks) == 15 + 3 + 1
    for number, path in enumerate(masks):
        path.rename(hidden / str(number))
    yield
    for number, path in enumerate(masks):
        (hidden / str(number)).rename(path)


def _same_files(one: Path, other: Path) -> int:
    names = sorted(str(path.relative_to(one)) for path in one.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(other)) for path in other.rglob("*") if path.is_file())
    for name in names:
        if Path(name).name != "run.json":
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    return len(names)


def test_kill_in_training_then_again_gives_the_same_weights(smoke, tmp_path, monkeypatch):
    shutil.copytree(smoke / "data", tmp_path / "data")
    for stage in ("index", "preprocess", "labels"):
        shutil.copytree(smoke / "results/runs" / stage, tmp_path / "results/runs" / stage)
    shutil.copytree(smoke / "results/.state/specs", tmp_path / "results/.state/specs")
    monkeypatch.chdir(tmp_path)
    (run,) = plan.build(read_config([SMOKE])).of_stage("classifier")
    arguments = ["classifier", "--spec", str(runs.spec_file(run.key))]
    job = subprocess.Popen([sys.executable, "-m", "weakseg", *arguments], stderr=subprocess.DEVNULL)
    checkpoint = runs.STATE / run.key / "training.pt"
    while not checkpoint.exists():
        assert job.poll() is None
        time.sleep(0.02)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert not run.record.exists()
    assert main(arguments) == 0
    weights = run.folder / "weights.safetensors"
    assert weights.read_bytes() == (smoke / weights).read_bytes()
    assert not checkpoint.exists()
