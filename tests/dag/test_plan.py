"""What is planned, and under which keys."""

import subprocess
import sys
from dataclasses import replace

import pytest
from tests.plans_factory import BOTH_VIEWS, FEW, FITTING, folders
from tests.runner import REPOSITORY, snakemake

from weakseg import catalogue, config_text, keys, plan
from weakseg.errors import WeaksegError
from weakseg.workflow import read_config


def test_default_stays_under_120_jobs():
    assert len(plan.build(read_config()).runs) < 120


def test_methods_run_where_and_as_often_as_they_say():
    methods = FEW | {"layercam": {"seeds": 2}, "ablation": {"where": ["brats-volume"], "seeds": 1}}
    changes = {"seeds": [0, 1, 2], "views": {"volume": {"seeds": None}}, "maps": {"methods": methods}}
    planned = plan.build(config_text.load(changes))
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
    assert changed == {f"{view}-cam-s{seed}-f0" for view in views for seed in one.config.seeds}


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
    config = read_config()
    planned = plan.build(config)
    runs = planned.of_stage("faithfulness")
    assert {run.label for run in runs} == {f"{name}-slice-f0" for name in catalogue.DATASETS}
    for run in runs:
        assert set(run.upstream) - {"supervoxels"} == {"index", "preprocess", "classifier", "maps"}
        assert [planned.runs[key].params["seed"] for key in run.upstream["classifier"]] == config.seeds
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


def test_what_is_learnt_is_learnt_once_for_each_classifier():
    planned = plan.build(config_text.load({"maps": {"gate": ["classifier", "none"], "methods": FEW | FITTING}}))
    fits = [run for run in planned.of_stage("map_fit") if run.params["view"] == "slice"]
    assert {run.label for run in fits} == {
        f"{name}-slice-optimal-s{seed}-f0" for name in catalogue.DATASETS for seed in planned.config.seeds
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
