"""Which networks learn from masks, in how many jobs, and from which draws."""

import pytest
from tests.plans_factory import FEW

from weakseg import catalogue, config_text, plan
from weakseg.errors import WeaksegError
from weakseg.workflow import read_config


def test_references_are_trained_in_one_job_and_scored_together():
    planned = plan.build(read_config())
    runs = [run for run in planned.of_stage("references") if "-unet-" in run.label]
    assert [run.label for run in runs] == [f"{name}-unet-s0-f0" for name in catalogue.DATASETS]
    (fused,) = (run for run in planned.of_stage("references") if run not in runs)
    assert fused.label == "brats-cmff-s0-f0"
    assert set(fused.params["methods"]) == {"cmff"}
    for run in runs:
        assert set(run.upstream) == {"index", "preprocess", "truth", "labels"}
        assert {name: method.get("k") for name, method in run.params["methods"].items()} == {
            "unet": None,
            "unet_k1": 1,
            "unet_k10": 10,
        }
        (scores,) = (other for other in planned.of_stage("scores") if run.key in other.upstream["maps"])
        with_it = [fused.key] if run.label.startswith("brats") else []
        assert scores.upstream["maps"] == [run.key, *with_it]
        assert scores.upstream["classifiers"] == scores.upstream["refinements"] == []
        assert scores.params["operating_points"] == ["fixed"]
        assert (scores.params["view"], scores.params["classifier"], scores.params["gate"]) == (
            "supervised",
            "none",
            "none",
        )
    (collect,) = planned.of_stage("collect")
    assert {run.key for run in planned.of_stage("scores")} == set(collect.upstream["scores"])


def test_references_have_a_draw_for_each_seed_and_a_job_for_each_fold():
    references = {"methods": ["unet", "unet_k1"], "seeds": None}
    raw = {"references": references, "data": {"brats": {"split": {"folds": 2}}}, "seeds": [4, 7]}
    planned = plan.build(config_text.load(raw))
    drawn = {run.label: (run.params["draw"], run.params["fold"]) for run in planned.of_stage("references")}
    assert drawn == {
        **{f"brats-unet-s{seed}-f{fold}": (draw, fold) for draw, seed in enumerate((4, 7)) for fold in (0, 1)},
        **{f"{name}-unet-s{seed}-f0": (draw, 0) for name in ("instance", "kits") for draw, seed in enumerate((4, 7))},
    }


def test_without_references_nothing_of_them_is_planned_and_maps_are_the_same():
    with_, without = (
        plan.build(config_text.load({"references": {"methods": names}, "maps": {"methods": FEW}}))
        for names in (["unet"], [])
    )
    assert not without.of_stage("references")
    changed = {run.stage for run in with_.runs.values() if run.key not in without.runs}
    assert changed == {"references", "scores", "collect", "leaderboard", "figures", "viewer"}


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"methods": ["unet_k3"]}, "methods: unknown reference 'unet_k3'; did you mean"),
        ({"unet": {"steps": 250}}, "steps: 250 is no multiple of checkpoint, 100"),
        ({"unet": {"patch": {"kits": [60, 64, 1]}}}, "patch.kits: 4 levels halve it 3 times; make it multiples of 8"),
    ],
)
def test_impossible_references_are_refused(settings, fault):
    with pytest.raises(WeaksegError, match=fault):
        config_text.load({"references": settings})


def test_fusion_of_modalities_needs_all_four():
    planned = plan.build(config_text.load({"data": {"brats": {"modalities": ["t1ce", "flair"]}}}))
    assert not [run for run in planned.of_stage("references") if "cmff" in run.params["methods"]]
