"""Which chains refine which maps, and what a student may be given."""

import pytest

from weakseg import catalogue, config_text, keys, plan
from weakseg.errors import WeaksegError
from weakseg.workflow import read_config


def refinements_of(*chains, declared=None, **changed):
    settings = {"chains": ["threshold", *chains], "declared": declared, **changed}
    planned = plan.build(config_text.load({"seeds": [0, 1], "refinements": settings}))
    return {run.label: run for run in planned.of_stage("refinement")}


def test_refinements_are_given_what_their_steps_need():
    plain = refinements_of("supervoxel", "supervoxel+components")
    assert set(plain) == {
        *(f"{name}-slice-s{seed}-f0" for name in catalogue.DATASETS for seed in (0, 1)),
        "brats-volume-s0-f0",
    }
    assert plain["brats-slice-s0-f0"].params == {"chains": {"supervoxel": None}}
    assert set(plain["brats-slice-s0-f0"].upstream) == {"maps", "preprocess", "supervoxels"}
    blind = refinements_of("clusters+random_walker")["brats-slice-s0-f0"]
    assert set(blind.upstream) == {"maps", "preprocess"}
    assert blind.params["packages"] == keys.versions_of(["scikit-learn"])
    assert set(blind.params["settings"]) == {"clusters", "random_walker"}
    mixed = refinements_of("crf+supervoxel+components")["brats-slice-s0-f0"]
    assert set(mixed.params) == {"chains", "settings"}
    assert set(mixed.params["settings"]) == {"crf"}
    assert not refinements_of()


def test_channels_are_planned_by_their_places():
    def channels(**changed):
        of_label = refinements_of("clusters", "crf", clusters=changed)
        settings = {name: of_label[f"{name}-slice-s0-f0"].params["settings"] for name in catalogue.DATASETS}
        assert settings["brats"]["crf"]["channel"] == 3
        return {name: of_name["clusters"]["channels"] for name, of_name in settings.items()}

    assert channels() == {"brats": [3], "instance": [0], "kits": [0]}
    assert channels(channels="all") == {"brats": [0, 1, 2, 3], "instance": [0, 1, 2], "kits": [0]}


@pytest.mark.parametrize(
    ("changed", "chain"),
    [
        ({"clusters": {"number": 5}}, "clusters"),
        ({"random_walker": {"beta": 50}}, "random_walker"),
        ({"crf": {"iterations": 2}}, "crf"),
        ({"student": {"steps": 25}}, "student"),
    ],
)
def test_a_setting_of_a_step_changes_chains_with_it_only(changed, chain):
    def keys_of(name, **settings):
        return {run.key for run in refinements_of(name, **settings).values()}

    for name in ("clusters", "random_walker", "crf", "student"):
        assert (keys_of(name) != keys_of(name, **changed)) == (name == chain)


def test_the_declared_map_alone_goes_through_its_chains():
    declared = {"method": "gradcam", "chains": ["clusters", "crf+components"], "seeds": 1}
    runs = refinements_of("supervoxel", declared=declared)
    for name in catalogue.DATASETS:
        chains = runs[f"{name}-slice-s0-f0"].params["chains"]
        assert chains == {"supervoxel": None, "clusters": ["gradcam"], "crf": ["gradcam"]}
        assert runs[f"{name}-slice-s1-f0"].params["chains"] == {"supervoxel": None}
    assert runs["brats-volume-s0-f0"].params["chains"] == {"supervoxel": None}
    planned = plan.build(read_config())
    assert {tuple(run.params["chains"]) for run in planned.of_stage("scores") if run.label.endswith("slice-s0")} == {
        ("clusters", "crf", "random_walker", "student", "supervoxel", "supervoxel+components", "threshold")
    }


def test_a_declared_map_that_is_left_out_has_no_chains():
    raw = {"seeds": [0], "maps": {"methods": {"layercam": None}}}
    runs = plan.build(config_text.load(raw)).of_stage("refinement")
    assert {tuple(run.params["chains"]) for run in runs} == {("supervoxel",)}


def test_students_explain_training_cases_as_their_maps_were_explained():
    runs = refinements_of("clusters+student+components")
    assert set(runs) == {f"{name}-slice-s{seed}-f0" for name in catalogue.DATASETS for seed in (0, 1)}
    first, second = (runs[f"brats-slice-s{seed}-f0"] for seed in (0, 1))
    assert first.params["chains"] == {"clusters+student": ["gradcam", "layercam", "coin", "relevance_map", "intensity"]}
    assert second.params["chains"] == {"clusters+student": ["gradcam", "layercam", "intensity"]}
    assert set(first.params["methods"]) == set(first.params["chains"]["clusters+student"])
    assert first.params["view"] == "slice"
    assert set(second.upstream) == {"maps", "preprocess", "index", "labels", "classifier"}
    assert set(first.upstream) == {*second.upstream, "supervoxels", "fitted_counterfactual"}


def above(planned, run):
    found = {}
    for source in planned.upstream_runs(run):
        found |= {source.key: source.stage} | above(planned, source)
    return found


def test_a_student_has_the_budget_of_its_map_and_no_threshold_of_tested_masks():
    raw = {"refinements": {"chains": ["threshold", "student"], "declared": None}}
    planned = plan.build(config_text.load(raw))
    for run in planned.of_stage("refinement"):
        read = set(above(planned, run).values())
        assert not any(catalogue.STAGES[stage].purposes for stage in read - {"labels", "mean_mask"}), run.label
        assert "mean_mask" not in run.params["methods"]
    victim, scores = planned.of_stage("refinement")[0], planned.of_stage("scores")[0]
    planned.add("refinement", victim.label, victim.params, **victim.upstream, pseudo_masks=scores.key)
    with pytest.raises(WeaksegError, match="would read scores, which tested masks decide"):
        plan.check_truth_access(planned)
