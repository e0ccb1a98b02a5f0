"""The study of counterfactual inpainting on a tiny phantom, inside this process."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from tests.end_to_end.test_counterfactual import EVALUATOR, LEFT_OUT, TINY
from tests.runner import run_stages

from weakseg import catalogue, nifti
from weakseg.config_text import load
from weakseg.data.index import read_cases
from weakseg.execution import read_record
from weakseg.studies.coin.paper import TABLE_1
from weakseg.studies.plans import coin

SETTINGS = {
    "name": "coin",
    "seeds": [0],
    "data": {
        "brats": None,
        "instance": None,
        "kits": {"phantom": {"cases": 12, "shape": [90, 72, 24], "shift_cases": 1}, "supervoxels": {"segments": 30}},
    },
    "views": {"volume": None},
    "maps": {"methods": {**LEFT_OUT, "layercam": {}, "coin": TINY, "singla": TINY}},
    "classifiers": {"resnet": {"width": 4, "training": {"epochs": 1, "least_steps": 0}}, "evaluator": EVALUATOR},
    "protocol": {"val_k": [1], "draws": 2, "bootstrap": 200},
    "studies": {
        "coin": {"rows": ["A", "H", "COIN"], "losses": ["variation"], "steps": 8, "lengths": [], "val_patients": 1}
    },
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The finished study."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("coin"))
        planned = coin(load(SETTINGS))
        run_stages(planned, *catalogue.STAGES)
        yield planned


def table(study, name):
    (run,) = study.of_stage("coin_tables")
    return pd.read_csv(run.folder / "tables" / f"{name}.csv", keep_default_na=False, na_values=[""])


def test_anomalies_are_drawn_into_slices_without_tumour(study):
    (drawn,) = study.of_stage("anomalies")
    rows = pd.read_csv(drawn.folder / "cases.csv")
    truth = next(run for run in study.of_stage("truth") if run.label == "kits")
    (source,) = (run for run in study.of_stage("index") if run.label == "kits")
    shifted = set(read_cases(source.folder).query("role_f0 == 'shift'")["case"])
    assert not shifted & set(rows["of"])
    bright = 0
    for row in rows.itertuples():
        image, _ = nifti.read(drawn.folder / row.case / "imaging.nii.gz")
        labels, _ = nifti.read(drawn.folder / row.case / "segmentation.nii.gz", np.uint8)
        whole, _ = nifti.read(truth.folder / "raw" / f"{row.of}.nii.gz", np.uint8)
        assert image.shape[2] == row.slices == labels.shape[2]
        healthy = np.flatnonzero((whole > 0).any(axis=(0, 1)) & ~(whole == 2).any(axis=(0, 1)))
        assert row.slices <= len(healthy)
        assert set(np.unique(labels)) <= {0, 1, 2}
        if (labels == 2).any():
            bright += image[labels == 2].mean() > image[labels == 1].mean() + 30
    assert bright >= 3
    assert set(read_record(drawn.folder)["truth_opened"]) == {"anomalies"}
    assert read_record(drawn.folder)["masks_used"] == []


def test_made_cases_are_never_taken_for_real(study):
    for run in study.of_stage("index"):
        assert set(read_cases(run.folder)["source"]) == {"phantom"}


def test_table_1_has_both_parts_with_published_figures_beside(study):
    rows = table(study, "coin")
    assert set(zip(rows["part"], rows["method"], strict=True)) >= {
        (part, method) for part, method in TABLE_1 if method in ("layercam", "singla", "coin")
    }
    coin_ = rows[(rows["part"] == "anomalies") & (rows["method"] == "coin")].iloc[0]
    assert coin_["published_iou"] == 0.646
    assert coin_["comparable"].startswith("no: ")
    assert rows[["iou_micro", "iou_case", "dice_label-free", "dice_val-1", "dice_oracle-set"]].notna().all(axis=None)
    assert rows["source"].unique().tolist() == ["phantom"]


def test_rows_say_what_was_trained(study):
    rows = table(study, "coin_rows").set_index("row")
    assert list(rows.index) == ["A", "H", "COIN", "without variation"]
    assert rows["skips"].tolist() == [0, 4, 4, 4]
    assert rows["uses_masks"].fillna("").tolist() == ["organ", "", "", ""]
    assert rows["variation"].tolist()[2:] == [0.003, 0]
    assert rows.loc["without variation", "comparable"] == "not published"
    assert rows["share_inside"].notna().any()


def test_coin_is_compared_with_each_of_the_others(study):
    rows = table(study, "coin_differences")
    found = set(zip(rows["part"], rows["operating_point"], rows["other"], strict=True))
    assert found == {
        (part, point, other)
        for part in ("anomalies", "tumours")
        for point in ("label-free", "val-1", "oracle-set")
        for other in ("singla", "layercam", "intensity")
    }


def test_figures_can_be_read(study):
    (run,) = study.of_stage("coin_tables")
    for name in ("coin", "coin_training"):
        height, width, _ = imread(run.folder / "figures" / f"{name}.png").shape
        assert min(height, width) > 400


def test_only_what_scores_reads_masks(study):
    opened = {run.stage for run in study.runs.values() if read_record(run.folder)["truth_opened"]}
    assert opened <= {"labels", "anomalies", "scores", "counterfactuals", "coin_tables"}
