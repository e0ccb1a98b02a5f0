"""Both views of a tiny phantom, from masks moved away to tables, figures and model cards."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.runner import methods_of

from weakseg import catalogue, nifti
from weakseg.classifiers.learning import predict
from weakseg.classifiers.resnet3d import VolumeImages
from weakseg.data.grid import read_foreground
from weakseg.data.views import volume_units
from weakseg.evaluation.audit import audit
from weakseg.execution import Context, execute, read_record
from weakseg.maps.base import cases_called_low, read_networks
from weakseg.maps.cam import cams
from weakseg.networks import negated


@pytest.fixture(scope="module")
def results(volume):
    """The finished plan, in its folder."""
    planned, folder = volume
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield planned


def volumes(planned, stage, family=""):
    return [run for run in planned.of_stage(stage) if "-volume-" in run.label and family in run.label]


def test_both_views_have_every_method_on_the_board(results):
    board = pd.read_csv(results.destination / "tables/leaderboard.csv")
    by_view = {view: set(rows["method"]) for view, rows in board.groupby("view")}
    assert by_view == dict.fromkeys(("slice", "volume"), methods_of(results.config))
    of_volumes = board[board["view"] == "volume"]
    assert set(of_volumes["classifier"]) == {"resnet3d"}
    assert set(of_volumes["gate"]) == {"none"}
    assert board.groupby("view").size().nunique() == 1


def test_labels_of_volumes_are_grades(results):
    cases = pd.read_csv(volumes_index(results))
    graded = int(cases["role_f0"].isin(["train", "val"]).sum())
    board = pd.read_csv(results.destination / "tables/leaderboard.csv").query("view == 'volume'")
    nulls = board["method"].map(lambda name: catalogue.METHODS[name].null)
    assert set(board.loc[~nulls, "label_budget"]) == {graded}
    assert set(board.loc[nulls, "label_budget"]) == {0}


def volumes_index(planned):
    (index,) = planned.of_stage("index")
    return index.folder / "cases.csv"


def test_methods_are_compared_with_nulls_of_their_own_view(results):
    comparisons = pd.read_csv(results.destination / "tables/comparisons.csv")
    assert set(comparisons["view"]) == {"slice", "volume"}
    assert not comparisons.duplicated(["view", "method", "null", "seed", "refinement", "operating_point"]).any()


def test_audit_passes(results):
    assert {check.name: check.faults for check in audit({"all": results}) if check.faults} == {}


def test_classifiers_of_both_views_are_told(results):
    table = pd.read_csv(results.destination / "tables/classifiers.csv")
    assert set(zip(table["view"], table["classifier"], strict=True)) == {("slice", "resnet"), ("volume", "resnet3d")}
    tested = table[(table["view"] == "volume") & (table["role"] == "test")]
    assert (tested["units"] == 3).all()
    assert tested["plain_t1ce_p99.8"].between(0.5, 1).all()


def test_repeatability_knows_both_views(results):
    values = pd.read_parquet(results.destination / "faithfulness.parquet")
    repeated = values[values["metric"] == "repeated_spearman"]
    assert set(repeated["view"]) == {"slice", "volume"}
    centre = repeated[(repeated["method"] == "centre") & (repeated["view"] == "volume")]
    np.testing.assert_allclose(centre["value"], 1)


def test_maps_explain_the_predicted_grade(results):
    """Each map is that of the network, or of its negation where the case is called LGG."""
    for run in volumes(results, "maps", "cam"):
        context = _context(results, run)
        network, _ = read_networks(context)
        low = cases_called_low(context.folder("classifier"))
        predictions = pd.read_csv(context.folder("classifier") / "predictions.csv")
        for case in predictions["case"]:
            units = volume_units(context.folder("preprocess"), case, run.params["least_mm"])
            explained = negated(network) if case in low else network
            layers = {name: params["layer"] for name, params in run.params["methods"].items()}
            for name, expected in cams(explained, torch.from_numpy(units.image), layers, "cpu").items():
                volume, _ = nifti.read(run.folder / name / f"{case}.nii.gz")
                np.testing.assert_allclose(volume, units.stack(expected[:, 0]), atol=1e-4 * max(expected.max(), 1e-9))
        assert read_record(run.folder)["counts"]["forwards"] == len(predictions)


def _context(planned, run):
    spec = planned.spec(run)
    folders = {role: [Path(path) for path in paths] for role, paths in spec["upstream_folders"].items()}
    return Context(run.stage, run.key, run.params, folders, Path("out"), Path("state"))


def test_nulls_cover_the_foreground_of_volumes(results):
    (preprocess,) = results.of_stage("preprocess")
    for run in (*volumes(results, "maps", "nulls"), *volumes(results, "mean_mask")):
        for name in run.params["methods"]:
            for path in (run.folder / name).iterdir():
                relevance, _ = nifti.read(path)
                foreground, _ = read_foreground(preprocess.folder, path.name.removesuffix(".nii.gz"))
                assert not relevance[~foreground].any()
                assert relevance[foreground].any()


def test_training_again_gives_the_same_bytes(results):
    run = volumes(results, "volume_classifier")[0]
    before = (run.folder / "weights.safetensors").read_bytes()
    execute(results.spec(run))
    assert (run.folder / "weights.safetensors").read_bytes() == before


def test_model_of_volumes_is_loaded_as_its_card_says(results, monkeypatch):
    run = volumes(results, "volume_classifier")[0]
    predictions = pd.read_csv(run.folder / "predictions.csv")
    (preprocess,) = results.of_stage("preprocess")
    images = VolumeImages(preprocess.folder.absolute(), run.params["least_mm"])
    monkeypatch.chdir(results.destination / "models" / run.label)
    card = Path("README.md").read_text()
    assert "12 volumes, 9 of them for training" in card
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    names = {}
    exec(code, names)
    with torch.inference_mode():
        logits = predict(names["network"], images, predictions, "cpu")
    np.testing.assert_allclose(logits, predictions["logit"], atol=1e-5)
