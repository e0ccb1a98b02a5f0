"""What is planned, under which keys, and that no plan lets a blind stage read masks."""

import subprocess
import sys
from dataclasses import replace

import pytest
from tests.runner import REPOSITORY, snakemake

from weakseg import catalogue, config_text, keys, plan
from weakseg.config_maps import MethodsConfig
from weakseg.errors import WeaksegError
from weakseg.plan_counterfactuals import plan_counterfactuals
from weakseg.plan_views import evaluator_of, views_of
from weakseg.workflow import read_config


def folders(planned, *stages):
    return {run.folder for run in planned.runs.values() if run.stage in stages}


FEW = {name: None for name in MethodsConfig.model_fields if name not in ("gradcam", "layercam")}
"""What leaves Grad-CAM and LayerCAM alone."""
BOTH_VIEWS = {"views": {"volume": {"seeds": None}}, "maps": {"methods": FEW}}


def test_default_stays_under_120_jobs():
    assert len(plan.build(read_config()).runs) < 120


def test_methods_run_where_and_as_often_as_they_say():
    methods = FEW | {"layercam": {"seeds": 2}, "ablation": {"where": ["brats-volume"], "seeds": 1}}
    planned = plan.build(config_text.load({"views": {"volume": {"seeds": None}}, "maps": {"methods": methods}}))
    labels = {name: set() for name in ("gradcam", "layercam", "ablation")}
    for run in planned.of_stage("maps"):
        for name in labels.keys() & run.params["methods"].keys():
            labels[name].add(run.label)
            assert not {"where", "seeds"} & run.params["methods"][name].keys()
    places = ("brats-slice", "brats-volume", "instance-slice", "kits-slice")
    assert labels["gradcam"] == {f"{place}-cam-s{seed}-f0" for place in places for seed in (0, 1, 2)}
    assert labels["layercam"] == {f"{place}-cam-s{seed}-f0" for place in places for seed in (0, 1)}
    assert labels["ablation"] == {"brats-volume-surrogate-s0-f0"}


def test_paper_grid_stays_under_2000_jobs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("MICCAI_BraTS2020_TrainingData", "INSTANCE22", "kits23"):
        (tmp_path / "data" / name).mkdir(parents=True)
    planned = plan.build(read_config([REPOSITORY / "config" / "paper.yaml"]))
    # A fourth seed selects the counterfactuals of the third.
    assert len(planned.of_stage("classifier")) == 3 * 5 * 4
    assert len(planned.runs) < 2000


def test_another_seed_makes_other_folders_and_shares_the_data():
    one, other = (plan.build(config_text.load({"seeds": [seed]})) for seed in (0, 7))
    data = ("phantom", "index", "preprocess", "truth", "labels", "supervoxels")
    assert folders(one, *data) == folders(other, *data)
    assert not folders(one, "classifier", "maps", "scores") & folders(other, "classifier", "maps", "scores")


def test_another_data_seed_changes_everything():
    one, other = (plan.build(config_text.load({"data_seed": seed})) for seed in (0, 1))
    assert not set(one.runs) & set(other.runs)


def test_a_parameter_changes_its_stage_and_what_follows_only():
    volumes = {"views": {"volume": {"seeds": None}}}
    one = plan.build(config_text.load(volumes))
    other = plan.build(config_text.load(volumes | {"maps": {"methods": {"gradcam": {"layer": "layer1"}}}}))
    assert folders(one, "classifier") == folders(other, "classifier")
    changed = {run.label for run in one.of_stage("maps") if run.key not in other.runs}
    views = [*(f"{name}-slice" for name in catalogue.DATASETS), "brats-volume"]
    assert changed == {f"{view}-cam-s{seed}-f0" for view in views for seed in (0, 1, 2)}


def test_key_depends_on_stage_version_and_packages(monkeypatch):
    arguments = ({"a": 1}, {"maps": ["01234567"]})
    key = keys.run_key("scores", 1, *arguments)
    assert keys.run_key("scores", 1, *arguments) == key
    assert keys.run_key("scores", 2, *arguments) != key
    monkeypatch.setattr(keys, "package_versions", lambda: {"torch": "0"})
    assert keys.run_key("scores", 1, *arguments) != key


def test_real_data_key_follows_content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a.nii").write_bytes(b"one")
    settings = config_text.load({"data": {"brats": {"path": str(raw)}}})
    first = plan.build(settings).of_stage("index")[0].key
    assert plan.build(settings).of_stage("index")[0].key == first
    (raw / "a.nii").write_bytes(b"two")
    assert plan.build(settings).of_stage("index")[0].key != first


def test_missing_folder_and_unset_variable_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    with pytest.raises(WeaksegError, match=r"nowhere: no such folder; set data"):
        plan.build(config_text.load({"data": {"brats": {"path": "nowhere"}}}))
    with pytest.raises(WeaksegError, match="the environment variable is not set"):
        plan.build(config_text.load({"data": {"brats": {"path": "$NO_SUCH_VARIABLE/x"}}}))


def test_no_gate_is_planned_beside_the_gate():
    both = plan.build(config_text.load({"maps": {"gate": ["classifier", "none"]}}))
    gates = [(run.label, run.params["gate"]) for run in both.of_stage("scores")]
    assert ("brats-slice-s0", "classifier") in gates
    assert ("brats-slice-ungated-s0", "none") in gates


def test_a_layer_means_its_reduction():
    """With a stem of stride 1, as kidney CT has by default, the next stage has the same reduction."""
    planned = plan.build(
        config_text.load({"maps": {"methods": FEW | {"cam": {}, "layercam": {"layer": ["layer1", "layer3"]}}}})
    )
    found = {run.label: run.params["methods"] for run in planned.of_stage("maps") if run.label.endswith("s0-f0")}
    layers = {
        name: {method: params["layer"] for method, params in found[f"{name}-slice-cam-s0-f0"].items()}
        for name in ("brats", "kits")
    }
    assert layers["brats"] == {"cam": "layer4", "gradcam": "layer3", "layercam": ["layer1", "layer3"]}
    assert layers["kits"] == {"cam": "layer4", "gradcam": "layer3", "layercam": ["layer2", "layer3"]}
    assert found["kits-slice-nulls-s0-f0"]["untrained"] == {"layer": "layer2"}
    last = plan.build(config_text.load({"maps": {"methods": FEW | {"layercam": {"layer": ["layer2", "layer3"]}}}}))
    (run,) = (run for run in last.of_stage("maps") if run.label == "kits-slice-cam-s0-f0")
    assert run.params["methods"]["layercam"] == {"layer": "layer3"}


def test_one_faithfulness_job_asks_about_all_families_and_seeds():
    planned = plan.build(read_config())
    runs = planned.of_stage("faithfulness")
    assert {run.label for run in runs} == {f"{name}-slice-f0" for name in catalogue.DATASETS}
    for run in runs:
        assert set(run.upstream) - {"supervoxels"} == {"index", "preprocess", "classifier", "maps"}
        assert [planned.runs[key].params["seed"] for key in run.upstream["classifier"]] == [0, 1, 2]
        maps = [planned.runs[key] for key in run.upstream["maps"]]
        dataset, *_ = run.label.split("-")
        every = [of_family.label for of_family in planned.of_stage("maps")]
        assert sorted(of_family.label for of_family in maps) == sorted(
            label for label in every if label.startswith(f"{dataset}-slice-")
        )
        asked = {key for of_family in maps for key in of_family.upstream["classifier"]}
        assert asked == set(run.upstream["classifier"])


def test_seeds_are_compared_where_there_are_several():
    planned = plan.build(
        config_text.load(BOTH_VIEWS | {"seeds": [0, 1], "maps": {"gate": ["classifier", "none"], "methods": FEW}})
    )
    (repeated,) = (run for run in planned.of_stage("repeatability") if run.label == "all-slice-ungated")
    assert set(repeated.upstream) == {"index", "preprocess", "maps"}
    maps = [planned.runs[key] for key in repeated.upstream["maps"]]
    assert [(run.params["gate"], run.params["seed"]) for run in maps] == [
        ("none", seed) for _ in catalogue.DATASETS for seed in (0, 0, 1, 1)
    ]
    (table,) = planned.of_stage("faithfulness_table")
    repeated = [planned.runs[key].label for key in table.upstream["repeatability"]]
    assert repeated == ["all-slice", "all-slice-ungated", "all-volume"]
    assert not plan.build(config_text.load({"seeds": [0]})).of_stage("repeatability")


def test_volumes_are_planned_for_data_sets_with_grades_alone():
    planned = plan.build(config_text.load(BOTH_VIEWS))
    classifiers = planned.of_stage("volume_classifier")
    assert [run.label for run in classifiers] == [f"brats-volume-resnet3d-s{seed}-f0" for seed in (0, 1, 2)]
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
    assert {run.params["slices"] for run in sequences if run.stage == "faithfulness"} == {4}
    assert {run.params["gate"] for run in sequences} == {"classifier"}


def test_sequences_change_nothing_for_the_other_views():
    none, three, five = (
        plan.build(config_text.load({"views": {"sequence": view}})) for view in (None, {"slices": 3}, {"slices": 5})
    )
    tables = {"collect", "leaderboard", "models", "figures", "faithfulness_table"}
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
    assert readers == [f"brats-volume-s{seed}" for seed in (0, 1, 2)]


def test_a_view_runs_with_as_many_seeds_as_it_says():
    planned = plan.build(config_text.load({"views": {"volume": {"seeds": 2}}, "maps": {"methods": FEW}}))
    assert [run.params["seed"] for run in planned.of_stage("volume_classifier")] == [0, 1]
    assert {run.params["seed"] for run in planned.of_stage("classifier")} == {0, 1, 2}
    volumes = [run for run in planned.of_stage("scores") if run.params["view"] == "volume"]
    assert [run.params["seed"] for run in volumes] == [0, 1]
    assert all("seeds" not in run.params for run in planned.runs.values() if run.stage != "relevance_tables")
    once = plan.build(config_text.load({"views": {"volume": {"seeds": 1}}, "maps": {"methods": FEW}}))
    assert [run.label for run in once.of_stage("repeatability")] == ["all-slice"]


def test_all_maps_of_a_view_and_seed_are_scored_together():
    planned = plan.build(config_text.load({"maps": {"methods": FEW}, "data": {"brats": {"split": {"folds": 2}}}}))
    (scores,) = (run for run in planned.of_stage("scores") if run.label == "brats-slice-s0")
    maps = [planned.runs[key] for key in scores.upstream["maps"]]
    assert [(run.label, run.params["fold"]) for run in maps] == [
        (f"brats-slice-{family}-s0-f{fold}", fold) for fold in (0, 1) for family in ("cam", "nulls", "mean_mask")
    ]
    refined = [planned.runs[key] for key in scores.upstream["refinements"]]
    assert [run.label for run in refined] == [f"brats-slice-s0-f{fold}" for fold in (0, 1)]
    assert [key for run in refined for key in run.upstream["maps"]] == scores.upstream["maps"]


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


def test_supervoxels_go_to_families_that_need_them(monkeypatch):
    plain = config_text.load({"maps": {"methods": FEW}})
    before = plan.build(plain)
    assert not any("supervoxels" in run.upstream for run in before.of_stage("maps"))
    needy = replace(catalogue.METHODS["layercam"], needs_supervoxels=True)
    monkeypatch.setitem(catalogue.METHODS, "layercam", needy)
    after = plan.build(plain)
    given = {run.label.split("-")[2] for run in after.of_stage("maps") if "supervoxels" in run.upstream}
    assert given == {"cam"}
    assert all("supervoxels" in run.upstream for run in after.of_stage("faithfulness"))
    nulls = [{run.key for run in planned.of_stage("maps") if "nulls" in run.label} for planned in (before, after)]
    assert nulls[0] == nulls[1]


def test_table_of_faithfulness_is_published_with_its_values():
    published = {path.name for path in plan.build(read_config()).published}
    assert {"faithfulness.parquet", "faithfulness.csv", "faithfulness.md"} <= published


FITTING = {"optimal_perturbation": {"where": None, "seeds": None}}


def test_what_is_learnt_is_learnt_once_for_each_classifier():
    planned = plan.build(config_text.load({"maps": {"gate": ["classifier", "none"], "methods": FEW | FITTING}}))
    fits = [run for run in planned.of_stage("map_fit") if run.params["view"] == "slice"]
    assert {run.label for run in fits} == {
        f"{name}-slice-optimal-s{seed}-f0" for name in catalogue.DATASETS for seed in (0, 1, 2)
    }
    maps = [run for run in planned.of_stage("maps") if run.params["view"] == "slice"]
    explaining = [run for run in maps if "optimal_perturbation" in run.params["methods"]]
    assert len(explaining) == 2 * len(fits)  # with and without the gate
    for run in explaining:
        (fitted,) = (planned.runs[key] for key in run.upstream["fitted"])
        assert fitted.upstream == {role: keys for role, keys in run.upstream.items() if role != "fitted"}
        assert set(fitted.upstream) == {"index", "preprocess", "classifier", "supervoxels"}
        assert fitted.params["methods"] == run.params["methods"]
    for run in maps:
        assert ("fitted" in run.upstream) == ("supervoxels" in run.upstream) == (run in explaining)


BLIND = [
    "classifier",
    "sequence_classifier",
    "volume_classifier",
    "map_fit",
    "maps",
    "refinement",
    "supervoxels",
    "faithfulness",
    "repeatability",
]


@pytest.mark.parametrize("stage", BLIND)
def test_a_blind_stage_that_takes_a_mask_is_refused(stage):
    every = {"views": {"sequence": {}, **BOTH_VIEWS["views"]}, "maps": {"methods": FEW | FITTING}}
    planned = plan.build(config_text.load(every))
    truth = planned.of_stage("truth")[0].key
    victim = planned.of_stage(stage)[0]
    planned.add(stage, victim.label, victim.params, **victim.upstream, masks=truth)
    with pytest.raises(WeaksegError, match=f"{stage}/{victim.label}: would read truth masks"):
        plan.check_truth_access(planned)


def test_allow_list_is_what_the_design_says():
    assert {name for name, stage in catalogue.STAGES.items() if stage.purposes} == {
        "labels",
        "anomalies",
        "mean_mask",
        "references",
        "scores",
        "counterfactuals",
        "figures",
        "sneak_masks",
        "coin_tables",
        "hemorrhage_tables",
        "relevance_tables",
        "cmff",
        "cross_modality_tables",
    }


@pytest.mark.parametrize(("file", "reader"), [("masks.json", "truth"), ("organs.json", "anatomy")])
def test_only_truth_and_anatomy_read_mask_files(file, reader):
    """Masks' paths are in files of their own, for KiTS in both; no other module names them."""
    sources = (REPOSITORY / "src").rglob("*.py")
    readers = {path.stem for path in sources if file in path.read_text()}
    assert readers == {"index", reader}


def test_parsing_the_snakefile_imports_no_torch():
    code = (
        "import sys, weakseg.config, weakseg.plan\n"
        "weakseg.plan.build(weakseg.config.Config())\n"
        "assert not {'torch', 'monai', 'scipy', 'numpy'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_snakemake_refuses_bad_configuration_before_anything_is_written(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("data:\n  brats:\n    pth: /x\nseeds: [-1]\n")
    result = snakemake(tmp_path, "-n", "--configfile", str(path), check=False)
    said = result.stdout + result.stderr
    assert result.returncode == 1
    assert "config: seeds.0: input should be greater than or equal to 0, got -1" in said
    assert "config: data.brats.pth: unknown key; did you mean path?" in said
    assert "Traceback" not in said
    assert not (tmp_path / "results").exists()


COUNTERFACTUAL = {"coin": {"seeds": 2}, "singla": {"seeds": 2}}


def test_counterfactuals_of_slices_are_chosen_by_another_classifier():
    planned = plan.build(config_text.load({"views": {"volume": {}}, "maps": {"methods": FEW | COUNTERFACTUAL}}))
    fits = planned.of_stage("map_fit")
    assert {run.label for run in fits} == {
        f"{name}-slice-counterfactual-s{seed}-f0" for name in catalogue.DATASETS for seed in (0, 1)
    }
    for run in fits:
        dataset, seed = run.label.split("-")[0], run.params["seed"]
        (selector,) = run.upstream["selector"]
        assert planned.runs[selector].label == f"{dataset}-slice-resnet-s{seed + 1}-f0"
        assert set(run.upstream) == {"index", "preprocess", "classifier", "selector"}
        assert set(run.params["methods"]) == {"coin", "singla"}
    explaining = [run for run in planned.of_stage("maps") if "coin" in run.params["methods"]]
    assert len(explaining) == len(fits)
    for run in explaining:
        assert set(run.upstream) == {"index", "preprocess", "classifier", "fitted"}
    # The selectors are explained anyway.
    assert len(planned.of_stage("classifier")) == len(catalogue.DATASETS) * 3
    (board,), (models,) = planned.of_stage("leaderboard"), planned.of_stage("models")
    for run in (board, models):
        read = {planned.runs[key].params["architecture"] for key in run.upstream["classifiers"]}
        assert read == {"resnet", "resnet3d"}
    assert not any("densenet" in str(path) for path in planned.published)


def test_another_reading_of_counterfactuals_learns_nothing_and_runs_where_they_run():
    signed = {"methods": FEW | {"coin": {"where": ["kits-slice"], "seeds": 1}, "coin_signed": {}}}
    planned = plan.build(config_text.load({"maps": signed}))
    (fit,) = planned.of_stage("map_fit")
    assert set(fit.params["methods"]) == {"coin"}
    (run,) = (run for run in planned.of_stage("maps") if "coin_signed" in run.params["methods"])
    assert run.upstream["fitted"] == [fit.key]
    coin, reading = run.params["methods"]["coin"], run.params["methods"]["coin_signed"]
    assert reading == coin | {"channel": "soft_tissue", "sign": -1}


def test_judges_of_counterfactual_images_are_asked_with_masks_for_scores_alone():
    brats = {"data": {"instance": None, "kits": None}, "maps": {"methods": FEW | COUNTERFACTUAL}}
    planned = plan.build(config_text.load(brats))
    fitting = next(run for run in planned.of_stage("map_fit") if run.params["seed"] == 1)
    data = {stage: planned.of_stage(stage)[0].key for stage in ("index", "preprocess", "labels", "truth")}
    view = next(view for view in views_of(planned.config, "brats") if view.name == "slice")
    judge = plan.plan_classifier(planned, "brats", data, *evaluator_of(planned.config, view, 1), 0)
    assert planned.runs[judge].label == "brats-slice-densenet-s3-f0"
    networks = [*fitting.upstream["classifier"], judge, fitting.key]
    methods = {"coin": fitting.params["methods"]["coin"]}
    key = plan_counterfactuals(planned, "brats-variant", data, *networks, methods, view, 1, 0)
    run = planned.runs[key]
    assert (run.stage, run.label) == ("counterfactuals", "brats-variant-s1-f0")
    classifier, evaluator, fitted = ([network] for network in networks)
    expected = {role: [key] for role, key in data.items()}
    assert run.upstream == expected | {"classifier": classifier, "evaluator": evaluator, "fitted": fitted}
    assert run.params["methods"] == methods
    assert (run.params["dataset"], run.params["region"], run.params["seed"]) == ("brats", "whole_tumour", 1)
    plan.check_truth_access(planned)


def test_reconstruction_by_region_reads_organ_masks_where_there_are_any():
    kits = {"data": {"brats": None, "instance": None}, "maps": {"methods": FEW | {"coin": {"carl": True}}}}
    planned = plan.build(config_text.load(kits))
    for run in planned.of_stage("map_fit"):
        assert [planned.runs[key].stage for key in run.upstream["anatomy"]] == ["anatomy"]
    assert all("anatomy" not in run.upstream for run in planned.of_stage("maps"))
    with pytest.raises(WeaksegError, match=r"carl needs organ masks, which data.brats has not"):
        plan.build(config_text.load({"maps": kits["maps"]}))


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"where": ["brats-volume"]}, "counterfactuals are made of slices"),
        ({"skips": 5}, "less than or equal to 4"),
        ({"training": {"checkpoint": 10, "generator_every": 20}}, "so the generator would not learn"),
    ],
)
def test_impossible_counterfactuals_are_refused(settings, fault):
    with pytest.raises(WeaksegError, match=fault):
        config_text.load({"maps": {"methods": {"coin": settings}}})


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
    assert changed == {"references", "scores", "collect", "leaderboard", "figures"}


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
