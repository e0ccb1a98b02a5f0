"""Which views are planned for which data sets, and with how many seeds."""

from tests.plans_factory import BOTH_VIEWS, FEW, folders

from weakseg import catalogue, config_text, plan
from weakseg.plan_views import evaluator_of, views_of


def test_volumes_are_planned_for_data_sets_with_grades_alone():
    planned = plan.build(config_text.load(BOTH_VIEWS))
    classifiers = planned.of_stage("volume_classifier")
    assert [run.label for run in classifiers] == [f"brats-volume-resnet3d-s{seed}-f0" for seed in planned.config.seeds]
    assert all(set(run.upstream) == {"index", "preprocess"} for run in classifiers)
    volumes = [run for run in planned.runs.values() if run.params.get("view") == "volume"]
    assert {run.params["gate"] for run in volumes} == {"none"}
    assert {run.params["dataset"] for run in volumes if run.stage == "scores"} == {"brats"}
    for run in volumes:
        if run.stage == "maps":
            assert [planned.runs[key].stage for key in run.upstream["classifier"]] == ["volume_classifier"]
    without = plan.build(config_text.load({"views": {"volume": None}}))
    assert not without.of_stage("volume_classifier")
    assert "volume" not in {run.params.get("view") for run in without.runs.values()}


def test_volumes_change_nothing_for_slices():
    both, slices = (plan.build(config_text.load({"views": {"volume": view}})) for view in ({"seeds": None}, None))
    stages = ("classifier", "maps", "mean_mask", "refinement", "scores", "faithfulness")
    assert folders(slices, *stages) < folders(both, *stages)


def test_sequences_are_planned_for_every_data_set():
    planned = plan.build(config_text.load({"views": {"sequence": {"slices": 5, "seeds": 2}}, "maps": {"methods": FEW}}))
    classifiers = planned.of_stage("sequence_classifier")
    assert [run.label for run in classifiers] == [
        f"{name}-sequence-resnet_lstm-s{seed}-f0" for name in catalogue.DATASETS for seed in (0, 1)
    ]
    window = {"slices": 5, "distance_mm": None}
    for run in classifiers:
        assert set(run.upstream) == {"index", "preprocess", "labels"}
        assert (run.params["window"], run.params["hidden"]) == (window, 64)
    sequences = [run for run in planned.runs.values() if run.params.get("view") == "sequence"]
    assert {run.stage for run in sequences} == {
        "maps",
        "mean_mask",
        "refinement",
        "scores",
        "faithfulness",
        "repeatability",
    }
    for run in sequences:
        if run.stage in ("maps", "faithfulness"):
            assert {planned.runs[key].stage for key in run.upstream["classifier"]} == {"sequence_classifier"}
            assert run.params["window"] == window
            assert run.params["min_foreground_mm2"] == 1000
    # The slices that faithfulness asks about are another number.
    assert {run.params["slices"] for run in sequences if run.stage == "faithfulness"} == {2}
    assert {run.params["gate"] for run in sequences} == {"classifier"}


def test_sequences_change_nothing_for_the_other_views():
    none, three, five = (
        plan.build(config_text.load({"views": {"sequence": view}})) for view in (None, {"slices": 3}, {"slices": 5})
    )
    tables = {"collect", "leaderboard", "models", "figures", "faithfulness_table", "viewer"}
    assert {run.stage for run in none.runs.values() if run.key not in three.runs} == tables
    assert "sequence" not in {run.params.get("view") for run in none.runs.values()}
    assert not none.of_stage("sequence_classifier")
    assert not folders(three, "sequence_classifier") & folders(five, "sequence_classifier")


def test_methods_find_their_stages_in_a_resnet_lstm():
    """CAM explains the linear head beside the LSTM; in no other network is a logit named."""
    methods = FEW | {"cam": {}, "layercam": {"layer": ["layer1", "layer3"]}}
    planned = plan.build(config_text.load({"views": {"sequence": {}}, "maps": {"methods": methods}}))
    found = {run.label: run.params["methods"] for run in planned.of_stage("maps") if run.label.endswith("s0-f0")}
    assert found["kits-sequence-cam-s0-f0"] == {
        "cam": {"layer": "resnet.layer4", "logit": 1},
        "gradcam": {"layer": "resnet.layer3"},
        "layercam": {"layer": ["resnet.layer2", "resnet.layer3"]},
    }
    assert found["brats-sequence-nulls-s0-f0"]["untrained"] == {"layer": "resnet.layer1"}
    assert found["brats-slice-cam-s0-f0"]["cam"] == {"layer": "layer4"}


def test_methods_of_sequences_run_where_they_say():
    methods = FEW | {"ablation": {"where": ["instance-sequence"]}}
    planned = plan.build(config_text.load({"views": {"sequence": {}}, "maps": {"methods": methods}}))
    labels = {run.label for run in planned.of_stage("maps") if "ablation" in run.params["methods"]}
    assert labels == {"instance-sequence-surrogate-s0-f0"}


def test_counterfactuals_of_sequences_are_judged_by_a_sequence_and_a_slice_classifier():
    methods = FEW | {"coin": {"where": ["instance-sequence"], "seeds": 1}}
    planned = plan.build(config_text.load({"views": {"sequence": {}}, "maps": {"methods": methods}}))
    (run,) = planned.of_stage("map_fit")
    (selector,) = (planned.runs[key] for key in run.upstream["selector"])
    assert (selector.stage, selector.label) == ("sequence_classifier", "instance-sequence-resnet_lstm-s1-f0")
    view = next(view for view in views_of(planned.config, "instance") if view.name == "sequence")
    evaluator, seed = evaluator_of(planned.config, view, 0)
    assert (evaluator.name, evaluator.stage, evaluator.network["architecture"], seed) == (
        "slice",
        "classifier",
        "densenet",
        2,
    )


def test_a_mean_of_masks_without_a_gate_is_the_same_for_all_seeds():
    planned = plan.build(config_text.load(BOTH_VIEWS))
    (mean,) = (run for run in planned.of_stage("mean_mask") if run.params["view"] == "volume")
    readers = [run.label for run in planned.of_stage("scores") if mean.key in run.upstream["maps"]]
    assert readers == [f"brats-volume-s{seed}" for seed in planned.config.seeds]


def test_a_view_runs_with_as_many_seeds_as_it_says():
    changes = {"seeds": [0, 1, 2], "views": {"volume": {"seeds": 2}}, "maps": {"methods": FEW}}
    planned = plan.build(config_text.load(changes))
    assert [run.params["seed"] for run in planned.of_stage("volume_classifier")] == [0, 1]
    assert {run.params["seed"] for run in planned.of_stage("classifier")} == {0, 1, 2}
    volumes = [run for run in planned.of_stage("scores") if run.params["view"] == "volume"]
    assert [run.params["seed"] for run in volumes] == [0, 1]
    assert all("seeds" not in run.params for run in planned.runs.values() if run.stage != "relevance_tables")
    once = plan.build(config_text.load({"views": {"volume": {"seeds": 1}}, "maps": {"methods": FEW}}))
    assert [run.label for run in once.of_stage("repeatability")] == ["all-slice"]
