"""The study of relevance maps on a tiny phantom, inside this process."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from tests.end_to_end.conftest import VOLUME
from tests.runner import run_stages

from weakseg import catalogue, nifti
from weakseg.config_text import load
from weakseg.data.truth import REGIONS
from weakseg.execution import read_record
from weakseg.studies.plans import relevance_maps

METHODS = {"gradcam", "layercam", "relevance_map", "optimal_perturbation"}
NULLS = {"random", "centre", "intensity", "untrained"}


@pytest.fixture(scope="module")
def study(volume):
    """The finished study beside the benchmark, whose data and classifiers it shares; and its folder."""
    _, folder = volume
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        planned = relevance_maps(load(VOLUME))
        run_stages(planned, *catalogue.STAGES)
        yield planned


def table(study, name):
    (run,) = study.of_stage("relevance_tables")
    return pd.read_csv(run.folder / "tables" / f"relevance_maps{name}.csv", keep_default_na=False, na_values=[""])


def scores(study):
    """Of the study's own maps, not of variants."""
    (tables,) = study.of_stage("relevance_tables")
    folders = [study.runs[key].folder for key in tables.upstream["scores"]]
    return pd.concat([pd.read_parquet(folder / "scores.parquet") for folder in folders])


def test_classifiers_are_those_of_the_benchmark(study, volume):
    keys = {run.key for run in volume[0].of_stage("volume_classifier")}
    assert {run.key for run in study.of_stage("volume_classifier")} == keys


def test_only_what_is_used_is_explained(study):
    """Shift cases are of no use here."""
    assert set(scores(study)["role"]) == {"test"}
    for run in study.of_stage("maps"):
        assert {len(list(path.glob("*.nii.gz"))) for path in run.folder.iterdir() if path.is_dir()} == {6}


def test_rows_are_every_region_method_and_point(study):
    rows = table(study, "")
    ours = rows[rows["origin"].isin(["null", "faithful", "in the manner of"])]
    assert set(ours["method"]) == METHODS | NULLS
    assert len(ours) == 3 * 8 * 2 * 2
    assert ours[["dice", "dice_low", "dice_high", "hd95_mm", "nsd_voxel", "forwards"]].notna().all(axis=None)
    assert (ours["dice_low"] <= ours["dice"]).all()
    assert (ours["dice"] <= ours["dice_high"]).all()
    assert set(ours["source"]) == {"phantom"}


def test_published_numbers_are_named_as_such(study):
    published = table(study, "").query("origin.str.startswith('published')")
    assert dict(zip(published["method"], published["dice"], strict=True)) == {"relevance_map": 0.44, "gradcam": 0.11}
    assert published[["dice_low", "hd95_mm", "n"]].isna().all(axis=None)
    assert set(published["source"]) == {"real"}


def test_groups_are_the_tested_patients(study):
    whole = table(study, "").query("region == 'whole_tumour' and operating_point == 'label-free'")
    assert (whole["n_hgg"] + whole["n_lgg"] == whole["n"]).all()
    both = (whole["n_hgg"] * whole["dice_hgg"].fillna(0) + whole["n_lgg"] * whole["dice_lgg"].fillna(0)) / whole["n"]
    np.testing.assert_allclose(both, whole["dice"], atol=1e-5)


def test_ceiling_is_the_truth_of_a_part_as_the_whole(study):
    (index,) = study.of_stage("index")
    (truth,) = study.of_stage("truth")
    cases = pd.read_csv(index.folder / "cases.csv").query("role_f0 == 'test'")["case"]
    ceilings = table(study, "").query("method == 'evidence_ceiling'").set_index("refinement")["dice"]
    assert set(ceilings.index) == {"tumour_core", "enhancing_tumour"}
    for part, found in ceilings.items():
        expected = []
        for case in cases:
            labels = nifti.read(truth.folder / "raw" / f"{case}.nii.gz")[0]
            whole, inner = (np.isin(labels, REGIONS[name]) for name in ("whole_tumour", part))
            expected.append(2 * inner.sum() / (whole.sum() + inner.sum()))
        assert found == pytest.approx(np.mean(expected), abs=1e-5)


def test_differences_are_those_of_the_snapped_maps(study):
    differences = table(study, "_differences")
    assert len(differences) == 3 * 2 * 4 * (1 + 2)
    chosen = scores(study).query(
        "refinement == 'supervoxel' and region == 'whole_tumour' and operating_point == 'label-free' and lesion_ml > 0"
    )
    dice = chosen.groupby(["case", "method"])["dice"].mean().unstack()
    row = differences.query(
        "region == 'whole_tumour' and operating_point == 'label-free' and method == 'relevance_map' "
        "and other == 'layercam' and seed == 'all'"
    ).iloc[0]
    expected = np.median(dice["relevance_map"] - dice["layercam"])
    assert row["median_difference"] == pytest.approx(expected, abs=1e-6)
    assert row["low"] <= expected <= row["high"]


def test_variants_stand_beside_the_maps_they_change(study):
    variants = table(study, "_variants")
    keys = ["method", "change", "value"]
    assert len(variants) == 2 * (4 + 3)
    assert set(variants.loc[variants["change"] != "none", keys].itertuples(index=False, name=None)) == {
        ("relevance_map", "segments", "30"),
        ("relevance_map", "fill", "blur"),
        ("optimal_perturbation", "area", "20"),
    }
    compared = variants["method"].isin(["relevance_map", "optimal_perturbation"])
    assert variants.loc[compared, ["over_gradcam", "over_layercam_low"]].notna().all(axis=None)
    assert variants.loc[~compared, ["over_gradcam", "over_layercam"]].isna().all(axis=None)
    of_map = variants.query("method == 'relevance_map' and operating_point == 'label-free'")
    assert of_map["dice"].nunique() == 3


def test_cells_follow_layers_and_supervoxels(study):
    cells = table(study, "").dropna(subset="cell_mm").drop_duplicates("method").set_index("method")["cell_mm"]
    assert cells["gradcam"] == pytest.approx(16 * cells["random"], abs=1e-4)
    assert cells["layercam"] == pytest.approx(4 * cells["random"], abs=1e-4)
    assert cells["random"] < cells["relevance_map"] == cells["optimal_perturbation"]
    assert "centre" not in cells


def test_only_scores_and_tables_open_masks(study):
    opened = {run.stage for run in study.runs.values() if read_record(run.folder)["truth_opened"]}
    assert opened == {"labels", "scores", "relevance_tables"}


def test_figure_shows_cases_in_three_planes(study):
    (run,) = study.of_stage("relevance_tables")
    height, width, _ = imread(run.folder / "figures" / "relevance_maps.png").shape
    assert height > width / 2
