"""The staleness matrix: for each thing that may change, exactly the jobs that run again.

What Snakemake would run is asked of Snakemake where it has a say (times of files, white space, comments), and of the
plan's keys where these decide.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace

import pytest
import yaml
from snakemake.utils import update_config
from tests.brats_factory import write_graded
from tests.runner import REPOSITORY, call

from weakseg import catalogue, keys, plan
from weakseg.config_text import load
from weakseg.runs import STATE

SMOKE = REPOSITORY / "config" / "smoke.yaml"

DATA = {"phantom", "index", "preprocess", "truth", "labels", "supervoxels"}
TABLES = {"collect", "leaderboard", "figures", "viewer"}
SCORED = {"scores/brats-slice-s0"}
REFERENCES = {"references", "scores/brats-supervised-s0"}
FAITHFUL = {"faithfulness", "faithfulness_table"}
MAPS = {"maps/brats-slice-cam-s0-f0", "maps/brats-slice-nulls-s0-f0", "mean_mask"}
EXPLAINED = MAPS | {"refinement"} | SCORED | TABLES | FAITHFUL
CLASSIFIED = EXPLAINED | {"classifier", "models"}
PREPROCESSED = CLASSIFIED | REFERENCES | {"preprocess", "truth", "labels", "supervoxels"}
INDEXED = PREPROCESSED | {"index"}
EVERYTHING = INDEXED | {"phantom"}
CAM = {"maps/brats-slice-cam-s0-f0", "refinement"} | SCORED | TABLES | FAITHFUL

KNOBS = {
    "seed": ({"seeds": [1]}, CLASSIFIED | REFERENCES),
    "data seed": ({"data_seed": 1}, EVERYTHING),
    "phantom": ({"data": {"brats": {"phantom": {"cases": 16}}}}, EVERYTHING - {"phantom/brain_mri-shift"}),
    "index": ({"data": {"brats": {"split": {"test": 0.25}}}}, INDEXED),
    "preprocess": ({"data": {"brats": {"spacing": [2, 2, 2]}}}, PREPROCESSED),
    "labels": ({"data": {"brats": {"min_lesion_mm2": 30}}}, CLASSIFIED | REFERENCES | {"labels"}),
    "supervoxels": (
        {"data": {"brats": {"supervoxels": {"segments": 70}}}},
        {"supervoxels", "refinement"} | SCORED | TABLES,
    ),
    "classifier": ({"classifiers": {"resnet": {"training": {"epochs": 4}}}}, CLASSIFIED),
    "maps": ({"maps": {"methods": {"gradcam": {"layer": "layer1"}}}}, CAM),
    "nulls": (
        {"maps": {"nulls": {"untrained": {"layer": "layer2"}}}},
        {"maps/brats-slice-nulls-s0-f0", "refinement"} | SCORED | TABLES | FAITHFUL,
    ),
    "refinement": ({"refinements": {"student": {"steps": 51}}}, {"refinement"} | SCORED | TABLES),
    "components": (
        {"refinements": {"components": {"opening_mm": 4}}},
        SCORED | {"scores/brats-supervised-s0"} | TABLES,
    ),
    "references": ({"references": {"unet": {"steps": 80}}}, REFERENCES | TABLES),
    "scores": ({"protocol": {"val_k": [1]}}, SCORED | TABLES),
    "statistics": (
        {"protocol": {"bootstrap": 300}},
        {"leaderboard", "figures", "faithfulness_table"},
    ),
    "faithfulness": ({"protocol": {"faithfulness": {"steps": 9}}}, FAITHFUL),
    "figures": ({"report": {"overlay_cases": 2}}, {"figures"}),
    "viewer": ({"report": {"viewer_mb": 5}}, {"viewer"}),
}
"""A change of the configuration, and the stages (or ``stage/label``) whose runs are made again."""

VERSIONS = {
    "phantom": EVERYTHING,
    "index": INDEXED,
    "preprocess": PREPROCESSED,
    "truth": CLASSIFIED | REFERENCES | {"truth", "labels"},
    "labels": CLASSIFIED | REFERENCES | {"labels"},
    "supervoxels": {"supervoxels", "refinement"} | SCORED | TABLES,
    "classifier": CLASSIFIED,
    "maps": EXPLAINED - {"mean_mask"},
    "mean_mask": {"mean_mask", "refinement"} | SCORED | TABLES,
    "refinement": {"refinement"} | SCORED | TABLES,
    "references": REFERENCES | TABLES,
    "scores": SCORED | {"scores/brats-supervised-s0"} | TABLES,
    "faithfulness": FAITHFUL,
    "collect": TABLES,
    "leaderboard": {"leaderboard", "figures"},
    "faithfulness_table": {"faithfulness_table"},
    "figures": {"figures"},
    "models": {"models"},
    "viewer": {"viewer"},
}
"""The stages whose runs are made again when a stage's version is raised."""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def before():
    """The plan of the smoke configuration."""
    return smoke()


def smoke(**changes):
    """The plan of the smoke configuration with something changed."""
    raw = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    update_config(raw, yaml.safe_load(SMOKE.read_text()))
    update_config(raw, changes)
    return plan.build(load(raw))


def again(before, after):
    """The runs of one plan that another has not, as ``stage/label``, and as ``stage`` where all of a stage are."""
    open_ = {f"{run.stage}/{run.label}" for run in after.runs.values() if run.key not in before.runs}
    every = {f"{run.stage}/{run.label}" for run in after.runs.values()}
    assert len(every) == len(after.runs)
    return open_, every


def expected(names, every):
    """The runs that names of stages and runs stand for; each stands for one at least."""
    found = {name: {run for run in every if name in (run, run.split("/")[0])} for name in names}
    assert all(found.values()), [name for name, runs in found.items() if not runs]
    return set().union(*found.values())


@pytest.mark.parametrize(("changes", "names"), KNOBS.values(), ids=KNOBS)
def test_a_setting(before, changes, names):
    open_, every = again(before, smoke(**changes))
    renamed = {name.replace("-s0", "-s1") for name in names} if "seeds" in changes else names
    if "phantom" in str(changes):
        renamed = {"phantom/brain_mri", *renamed} - {"phantom", "phantom/brain_mri-shift"}
    assert open_ == expected(renamed, every)


@pytest.mark.parametrize(("stage", "names"), VERSIONS.items(), ids=VERSIONS)
def test_version_of_a_stage(before, monkeypatch, stage, names):
    facts = catalogue.STAGES[stage]
    monkeypatch.setitem(catalogue.STAGES, stage, replace(facts, version=facts.version + 1))
    open_, every = again(before, smoke())
    assert open_ == expected(names, every)


def test_every_stage_of_the_benchmark_has_a_row(before):
    assert {run.stage for run in before.runs.values()} == set(VERSIONS)


def test_version_of_a_library(before, monkeypatch):
    versions = {**keys.package_versions(), "scipy": "0"}
    monkeypatch.setattr(keys, "package_versions", lambda: versions)
    open_, every = again(before, smoke())
    assert open_ == every


def test_order_of_methods_and_of_keys():
    raw = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    update_config(raw, yaml.safe_load(SMOKE.read_text()))
    turned = dict(reversed(raw.items()))
    turned["maps"] = {**raw["maps"], "methods": dict(reversed(raw["maps"]["methods"].items()))}
    assert list(turned["maps"]["methods"]) != list(raw["maps"]["methods"])
    assert again(plan.build(load(raw)), plan.build(load(turned)))[0] == set()


@pytest.fixture
def raw_data(tmp_path):
    """The plan of a BraTS folder, and one of its files."""
    root = write_graded(tmp_path / "raw")

    def planned():
        return smoke(data={"brats": {"path": str(root), "modalities": ["t1", "flair"], "phantom": {"shift_cases": 0}}})

    return planned, sorted(root.rglob("*_t1.nii.gz"))[0]


def test_raw_file_touched(raw_data):
    planned, file = raw_data
    before = planned()
    os.utime(file, (1, 1))
    assert again(before, planned())[0] == set()


def test_raw_file_changed_with_size_and_name_kept(raw_data):
    planned, file = raw_data
    before = planned()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    open_, every = again(before, planned())
    assert open_ == expected(INDEXED, every)


def test_raw_file_renamed(raw_data):
    planned, file = raw_data
    before = planned()
    file.rename(file.with_name("other.nii.gz"))
    open_, every = again(before, planned())
    assert open_ == expected(INDEXED, every)


# What Snakemake has a say in, asked of Snakemake in a checkout in which all runs are marked as done.


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout with the smoke configuration, in which Snakemake takes everything for done."""
    directory = tmp_path_factory.mktemp("checkout")
    for name in ("Snakefile", "config.yaml"):
        shutil.copyfile(REPOSITORY / name, directory / name)
    for name in ("rules", "src", "profiles", "envs"):
        shutil.copytree(REPOSITORY / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copyfile(SMOKE, directory / "smoke.yaml")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(directory)
        planned = smoke()
        for run in planned.runs.values():
            run.folder.mkdir(parents=True)
            run.record.write_text("{}")
        for path in [*planned.published, planned.page]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    _snakemake(directory, "--touch", "--forceall")
    return directory


def _snakemake(directory, *arguments):
    made = call(directory, "snakemake", *arguments, "--cores", "1", "--configfile", "smoke.yaml")
    return made.stdout + made.stderr


def _jobs(directory):
    """The jobs that a dry run lists, as ``stage/label``; None if it says that there is nothing to do."""
    text = _snakemake(directory, "--dry-run")
    if "Nothing to be done" in text:
        return None
    return set(re.findall(r"output: results/runs/(\w+/[a-z0-9_-]+)-[0-9a-f]{8}/run.json", text))


def test_white_space_and_comments_run_nothing(checkout):
    for path in (checkout / "smoke.yaml", checkout / "config.yaml"):
        path.write_text("\n# A remark.\n\n" + path.read_text())
    for path in sorted((checkout / "rules").glob("*.smk")):
        path.write_text("# A remark.\n" + path.read_text().replace("    threads: 1\n", "    threads: 1  # one\n"))
    assert _jobs(checkout) is None


def test_another_configuration_and_back_runs_nothing(checkout, monkeypatch):
    """What one configuration leaves in the folder makes nothing of another stale; here a change is seen, and undone."""
    original = (checkout / "smoke.yaml").read_text()
    (checkout / "smoke.yaml").write_text(original.replace("overlay_cases: 3", "overlay_cases: 2"))
    assert _jobs(checkout) == {"figures/all"}
    other = original.replace("name: smoke", "name: other").replace("seeds: [0]", "seeds: [1]", 1)
    (checkout / "smoke.yaml").write_text(other)
    jobs = _jobs(checkout)
    assert "classifier/brats-slice-resnet-s1-f0" in jobs
    assert not {job.split("/")[0] for job in jobs} & DATA
    monkeypatch.chdir(checkout)
    assert list(STATE.glob("specs/*.json"))
    (checkout / "smoke.yaml").write_text(original)
    assert _jobs(checkout) is None


def test_a_run_that_is_removed_is_made_again_for_what_waits_for_it(checkout, monkeypatch):
    """A method failed of a damaged classifier, which was removed as the message says."""
    monkeypatch.chdir(checkout)
    every = {f"{run.stage}/{run.label}": run for run in smoke().runs.values()}
    waiting = expected({"classifier"} | CAM, every)
    for name in waiting:
        every[name].record.unlink()
    for path in smoke().published:
        path.unlink()
    assert _jobs(checkout) == expected(CLASSIFIED, every)
