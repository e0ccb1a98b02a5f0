"""The study of haemorrhage segmentation on a tiny phantom, inside this process."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from tests.end_to_end.test_counterfactual import LEFT_OUT
from tests.runner import run_stages

from weakseg import catalogue
from weakseg.config_text import load
from weakseg.data.index import read_cases
from weakseg.data.labels import read_labels
from weakseg.execution import read_record
from weakseg.studies.hemorrhage.paper import PUBLISHED_DICE
from weakseg.studies.hemorrhage.plan import hemorrhage

TRAINING = {"epochs": 2, "least_steps": 0}
SETTINGS = {
    "name": "hemorrhage",
    "seeds": [0],
    "data": {
        "brats": None,
        "instance": {"phantom": {"cases": 14, "shape": [48, 48, 16], "shift_cases": 0}},
        "kits": None,
    },
    "views": {"volume": None},
    "maps": {"methods": {**LEFT_OUT, "gradcam": {}}},
    "classifiers": {
        "resnet": {"width": 4, "training": TRAINING},
        "resnet_lstm": {"width": 4, "hidden": 8, "training": TRAINING},
    },
    "refinements": {"student": {"width": 2, "steps": 25, "slices": 6}},
    "protocol": {"draws": 2, "bootstrap": 200},
    "studies": {
        "hemorrhage": {"seeds": [0, 1], "lengths": [1, 3], "shares": [0.5], "val_patients": 1, "timed_cases": 1}
    },
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The finished study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("hemorrhage"))
        planned = hemorrhage(load(SETTINGS))
        run_stages(planned, *catalogue.STAGES)
        yield planned


def table(study, name):
    (run,) = study.of_stage("hemorrhage_tables")
    return pd.read_csv(run.folder / "tables" / f"hemorrhage{name}.csv", keep_default_na=False, na_values=[""])


def test_every_step_of_both_classifiers_has_a_row(study):
    rows = table(study, "")
    ours = rows[rows["origin"] == "ours"]
    steps = {
        *("CAM only", "pseudo-mask only", "both", "gated intensity"),
        *(f"{step}, components" for step in ("CAM only", "pseudo-mask only", "both", "gated intensity", "student")),
        "student",
    }
    assert set(zip(ours["classifier"], ours["step"], ours["operating_point"], strict=True)) == {
        (classifier, step, point)
        for classifier in ("resnet", "resnet_lstm")
        for step in steps
        for point in ("label-free", "val-1", "oracle-set")
    }
    assert ours[["dice", "dice_low", "dice_high", "hd_mm", "relative_volume_error", "nsd"]].notna().all(axis=None)
    assert (ours["gate"] == "classifier").all()
    assert set(ours["source"]) == {"phantom"}


def test_published_figures_stand_beside_and_say_why_they_are_no_target(study):
    rows = table(study, "").query("origin == 'published'")
    assert dict(zip(rows["step"], rows["dice"], strict=True)) == PUBLISHED_DICE
    assert rows["comparable"].str.startswith("no: ").all()
    assert rows["n"].isna().all()


def test_means_are_those_of_the_scores(study):
    """Seeds first, then patients, at one point of one step."""
    runs = [run for run in study.of_stage("scores") if run.label.startswith("instance-sequence-k3-s")]
    assert len(runs) == 2
    scores = pd.concat([pd.read_parquet(run.folder / "scores.parquet") for run in runs])
    chosen = scores.query(
        "method == 'gradcam' and refinement == 'clusters+student' and operating_point == 'label-free' "
        "and lesion_ml > 0 and role == 'test'"
    )
    expected = chosen.groupby("patient")[["dice", "hd_mm"]].mean().mean()
    row = table(study, "").query(
        "classifier == 'resnet_lstm' and step == 'student' and operating_point == 'label-free'"
    )
    assert row["dice"].item() == pytest.approx(expected["dice"], abs=1e-6)
    assert row["hd_mm"].item() == pytest.approx(expected["hd_mm"], abs=1e-5)
    assert row["mask_budget"].item() == 0


def test_the_full_method_is_compared_with_its_parts_and_the_plain_threshold(study):
    rows = table(study, "_differences").query("seed == 'all' and classifier == 'resnet_lstm'")
    assert set(zip(rows["method"], rows["other"], strict=True)) == {
        (full, f"{other}, components")
        for full in ("both, components", "student, components")
        for other in ("CAM only", "pseudo-mask only", "gated intensity")
    }


def test_non_inferiority_is_judged_by_the_lower_end(study):
    rows = table(study, "_classifiers")
    gaps = rows[rows["classifier"] == "resnet_lstm less resnet"].set_index("seed")
    assert list(gaps.index) == ["0", "1", "all"]
    assert gaps.loc["all", "auc"] == pytest.approx(gaps.loc[["0", "1"], "auc"].mean(), abs=2e-6)
    assert ((gaps["low"] > -0.01) == (gaps["non_inferior"] == "yes")).all()
    single = rows.drop(gaps.index, errors="ignore")
    plain = rows.query("classifier == 'resnet' and seed == '0'")["auc"].item()
    sequence = rows.query("classifier == 'resnet_lstm' and seed == '0' and slices == 3 and share == 1")["auc"].item()
    assert gaps.loc["0", "auc"] == pytest.approx(sequence - plain, abs=2e-6)
    assert len(single)


def test_variants_have_other_lengths_shares_and_no_gate(study):
    rows = table(study, "_variants")
    assert set(zip(rows["slices"], rows["share"], rows["gate"], strict=True)) == {
        (3, 1, "classifier"),
        (1, 1, "classifier"),
        (3, 0.5, "classifier"),
        (3, 1, "none"),
    }
    assert rows["auc"].notna().all()


def test_fewer_labels_are_those_of_some_training_patients(study):
    (fewer,) = study.of_stage("hemorrhage_share")
    (index,), (labels,) = study.of_stage("index"), study.of_stage("labels")
    role = read_cases(index.folder).set_index("case")["role_f0"]
    kept, whole = (set(read_labels(run.folder)["case"]) for run in (fewer, labels))
    training = set(role.index[role == "train"])
    assert whole - kept < training
    assert len(kept & training) == round(0.5 * len(training))
    counts = {
        run.label: read_record(run.folder)["counts"]["labels_used"] for run in study.of_stage("sequence_classifier")
    }
    assert counts["instance_50-sequence-resnet_lstm-s0-f0"] < counts["instance-sequence-resnet_lstm-s0-f0"]


def test_volumes_count_every_tested_case_once(study):
    rows = table(study, "_volumes").query(
        "classifier == 'resnet_lstm' and step == 'both' and operating_point == 'label-free'"
    )
    (index,) = study.of_stage("index")
    tested = read_cases(index.folder)["role_f0"] == "test"
    assert 0 < rows["n_cases"].sum() <= tested.sum()
    assert (rows["share_missed"] <= rows["share_failed"]).all()


def test_costs_tell_the_student_from_the_classifier(study):
    rows = table(study, "_costs").set_index("contender")
    assert list(rows.index) == ["images", "classifier+CAM+clusters", "student"]
    assert rows.loc["images", "parameters"] == 0
    assert rows.loc["student", "parameters"] > 0
    assert (rows["seconds"] > 0).all()
    assert rows.loc["classifier+CAM+clusters", "seconds"] > rows.loc["images", "seconds"]


def test_figure_can_be_read(study):
    (run,) = study.of_stage("hemorrhage_tables")
    height, width, _ = imread(run.folder / "figures" / "hemorrhage.png").shape
    assert min(height, width) > 400


def test_only_what_scores_reads_masks(study):
    opened = {run.stage for run in study.runs.values() if read_record(run.folder)["truth_opened"]}
    assert opened == {"labels", "scores", "hemorrhage_tables"}
    assert np.all([read_record(run.folder)["masks_used"] == [] for run in study.of_stage("refinement")])
