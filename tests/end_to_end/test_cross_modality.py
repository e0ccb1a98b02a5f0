"""The study of cross-modality learning on a tiny phantom, inside this process."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from safetensors.torch import load_file
from tests.runner import run_stages

from weakseg import nifti, plan
from weakseg.config_text import load
from weakseg.data.truth import REGIONS
from weakseg.errors import WeaksegError
from weakseg.evaluation.protocol import draw_masks
from weakseg.execution import execute, read_record
from weakseg.studies.cross_modality.rows import ROWS
from weakseg.studies.plans import cross_modality

SEED = 1
CONFIG = {
    "name": "cross",
    "data": {
        "brats": {"phantom": {"cases": 15, "shape": [32, 32, 24], "shift_cases": 0}},
        "instance": None,
        "kits": None,
    },
    "references": {
        "methods": ["cmff"],
        "cmff": {"width": 2, "steps": 3, "checkpoint": 2, "transition": {"steps": 2}},
    },
    "protocol": {"bootstrap": 200},
    "studies": {
        "cross_modality": {
            "seeds": [SEED],
            "rows": ["cmff_cmft", "cmff_default", "cmff_self", "early_fusion", "second_pair_cmft"],
            "labelled": [2],
            "scored": 2,
            "translated": 1,
            "network": {"width": 2, "steps": 3, "checkpoint": 1, "transition": {"steps": 2}},
        }
    },
}
DATA = ("phantom", "index", "preprocess", "truth")
NETWORKS = 5 + 3
"""Every row with all labelled cases, and the three of the curve with two."""


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The finished study; the CycleGANs were trained while masks were away."""
    folder = tmp_path_factory.mktemp("cross")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        planned = cross_modality(load(CONFIG))
        run_stages(planned, *DATA)
        (truth,) = planned.of_stage("truth")
        masks = [*folder.glob("data/**/*_seg.nii.gz"), folder / truth.folder]
        assert len(masks) == 15 + 1
        hidden = {path: folder / str(number) for number, path in enumerate(masks)}
        for path, away in hidden.items():
            path.rename(away)
        run_stages(planned, "cmft")
        for path, away in hidden.items():
            away.rename(path)
        run_stages(planned, "cmff", "cross_modality_tables")
        yield planned


def table(study, name=""):
    (run,) = study.of_stage("cross_modality_tables")
    return pd.read_csv(run.folder / "tables" / f"cross_modality{name}.csv", keep_default_na=False, na_values=[""])


def cases(study):
    (index,) = study.of_stage("index")
    return pd.read_csv(index.folder / "cases.csv").set_index("case")


def trained(study, row, labelled=None):
    (found,) = [run for run in study.of_stage("cmff") if (run.params["row"], run.params["labelled"]) == (row, labelled)]
    return found


def test_every_row_is_trained_with_every_number_of_cases(study):
    assert len(study.of_stage("cmff")) == NETWORKS
    assert len(study.of_stage("cmft")) == 2
    ours = table(study).query("row.notna()")
    assert len(ours) == NETWORKS * 4
    assert set(ours["region"]) == {"whole_tumour", "tumour_core", "enhancing_tumour", "mean"}
    training = (cases(study)["role_f0"] == "train").sum()
    assert set(ours["labelled"]) == {2, training}
    assert (ours["mask_budget"] == ours["labelled"]).all()
    numbers = ["dice_training", "dice", "dice_low", "sensitivity", "specificity", "hd95_mm"]
    assert ours[numbers].notna().all(axis=None)
    assert set(ours["source"]) == {"phantom"}


def test_published_dice_stands_beside_the_training_set_alone(study):
    (published,) = table(study)[lambda rows: rows["row"].isna()].to_dict("records")
    assert published["dice_training"] == 0.886
    assert published["source"] == "real"
    assert np.isnan([published[name] for name in ("dice", "dice_low", "hd95_mm", "sensitivity")]).all()


def test_masks_opened_are_those_of_the_draw(study):
    roles = cases(study)["role_f0"]
    training = roles.index[roles == "train"]
    for row in ("cmff_cmft", "cmff_default", "early_fusion"):
        few = read_record(trained(study, row, 2).folder)["truth_opened"]
        assert few == {"references": sorted(draw_masks(training, 2, SEED, 20220))}
    assert read_record(trained(study, "second_pair_cmft").folder)["truth_opened"] == {"references": sorted(training)}


def test_only_the_networks_and_the_tables_open_masks(study):
    opened = {
        run.stage: set(read_record(run.folder)["truth_opened"])
        for run in study.runs.values()
        if run.record.exists() and read_record(run.folder)["truth_opened"]
    }
    assert opened == {"cmff": {"references"}, "cross_modality_tables": {"scores"}}


def test_branches_begin_with_the_generators(study):
    """After three steps of Adam no weight is further from where it began than three times the learning rate."""
    rate = trained(study, "cmff_cmft").params["learning_rate"]
    for row, initial in (("cmff_cmft", "cross"), ("cmff_self", "self"), ("second_pair_cmft", "cross")):
        run = trained(study, row)
        (key,) = run.upstream["transition"]
        assert study.runs[key].params["transition"] == initial
        given = load_file(study.runs[key].folder / "generators.safetensors")
        own = load_file(run.folder / "weights.safetensors")
        pairs = {"branch": 1} if row == "second_pair_cmft" else {"pairs.0": 0, "pairs.1": 1}
        for branch, pair in pairs.items():
            for layer in ("encoder.2.1.0.weight", "decoder.0.0.0.weight"):
                moved = (own[f"{branch}.{layer}"] - given[f"{pair}.{layer}"]).abs().max()
                assert 0 < moved < 3.1 * rate
    assert "transition" not in trained(study, "cmff_default").upstream


def test_tested_dice_is_that_of_the_classes(study):
    """Without post-processing, from the files, averaged over patients."""
    (truth,) = study.of_stage("truth")
    roles = cases(study)["role_f0"]
    expected = []
    for case in roles.index[roles == "test"]:
        mask = np.isin(nifti.read(truth.folder / "raw" / f"{case}.nii.gz")[0], REGIONS["tumour_core"])
        folder = trained(study, "early_fusion").folder
        found = nifti.read(folder / "classes" / f"{case}.nii.gz")[0] >= 2
        either = mask.sum() + found.sum()
        expected.append(2 * (mask & found).sum() / either if either else 1)
    most = table(study)["labelled"].max()
    row = table(study).query(f"row == 'early_fusion' and region == 'tumour_core' and labelled == {most}").iloc[0]
    assert row["dice_unprocessed"] == pytest.approx(np.mean(expected), abs=1e-5)


def test_training_set_scores_are_of_cases_that_were_learnt_from(study):
    run = trained(study, "cmff_cmft", labelled=2)
    parts = pd.read_csv(run.folder / "cases.csv").groupby("part")["case"].apply(set)
    assert parts["training"] == set(read_record(run.folder)["masks_used"])
    roles = cases(study)["role_f0"]
    assert parts["test"] == set(roles.index[roles == "test"])


def test_training_table_has_the_official_logs_beside_all_cases(study):
    training = table(study, "_training")
    logged = training.dropna(subset="logged_patch_dice").set_index("row")["logged_patch_dice"].to_dict()
    rows = ["cmff_cmft", "cmff_self", "early_fusion", "second_pair_cmft"]
    assert logged == {name: ROWS[name].logged for name in rows}
    few = training.query("row == 'cmff_cmft' and labelled == 2").iloc[0]
    history = pd.read_csv(trained(study, "cmff_cmft", 2).folder / "history.csv")
    assert few["patch_dice_first_pair"] == pytest.approx(history["dice_first_pair"].iloc[-1], abs=1e-5)


def test_differences_are_paired_with_as_many_labelled_cases(study):
    differences = table(study, "_differences")
    assert set(differences["method"]) == {"cmff_cmft"}
    assert set(differences.query("labelled == 2")["other"]) == {"cmff_default", "early_fusion"}
    assert len(differences) == (4 + 2) * 4 * (1 + 1)


def test_translations_are_measured_both_ways(study):
    translation = table(study, "_translation")
    sources = translation.set_index(["transition", "modality"])["made_from"].to_dict()
    assert sources == {
        **{
            ("cross", made): source
            for made, source in (("t1", "t2"), ("t1ce", "flair"), ("t2", "t1"), ("flair", "t1ce"))
        },
        **{("self", name): name for name in ("t1", "t1ce", "t2", "flair")},
    }
    within = translation.query("transition == 'self'")
    assert (within["mae_source"] == 0).all()
    assert (translation["mae"] > 0).all()


def test_figures_are_drawn(study):
    (run,) = study.of_stage("cross_modality_tables")
    for name in ("cross_modality", "cross_modality_curve"):
        height, width, _ = imread(run.folder / "figures" / f"{name}.png").shape
        assert width > height > 300


def test_too_many_labelled_patients_is_one_line(study):
    raw = {**CONFIG, "studies": {"cross_modality": {**CONFIG["studies"]["cross_modality"], "labelled": [14]}}}
    planned = cross_modality(load(raw))
    run = next(run for run in planned.of_stage("cmff") if run.params["labelled"] == 14)
    with pytest.raises(WeaksegError, match=r"studies.cross_modality.labelled: 14, but the fold has 9 training"):
        execute(planned.spec(run))


def test_reference_of_the_benchmark_is_scored_as_a_row(study):
    """CMFF of every training mask and no other, cut at 0.5; its probabilities are of the whole tumour."""
    planned = plan.build(load(CONFIG))
    (reference,) = run_stages(planned, "labels", "references")[-1:]
    roles = cases(study)["role_f0"]
    assert read_record(reference.folder)["truth_opened"] == {"references": sorted(roles.index[roles == "train"])}
    (run,) = [run for run in planned.of_stage("scores") if run.params["view"] == "supervised"]
    execute(planned.spec(run))
    rows = pd.read_parquet(run.folder / "scores.parquet")
    assert set(rows["method"]) == {"cmff"}
    assert set(rows["operating_point"]) == {"fixed"}
    assert set(rows["mask_budget"]) == {(roles == "train").sum()}
    assert set(rows["case"]) == set(roles.index[roles == "test"])
    (truth,) = study.of_stage("truth")
    case = rows["case"].iloc[0]
    mask = np.isin(nifti.read(truth.folder / "raw" / f"{case}.nii.gz")[0], REGIONS["whole_tumour"])
    found = nifti.read(reference.folder / "cmff" / f"{case}.nii.gz")[0] > 0.5
    expected = 2 * (mask & found).sum() / (mask.sum() + found.sum())
    assert rows.set_index("case").loc[case, "dice"] == pytest.approx(expected, abs=0.01)
