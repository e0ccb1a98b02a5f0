"""No one in: no code in data files, no shell made of names, nothing read outside the data root, everything pinned."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import pytest
import yaml
from tests.brats_factory import index_context, write_case, write_graded
from tests.runner import REPOSITORY, SLOW, run_stages

from weakseg import plan
from weakseg.config_text import load
from weakseg.data import index
from weakseg.errors import DataFaults

SOURCES = sorted(path for folder in ("src", "benchmarks", "envs") for path in (REPOSITORY / folder).rglob("*.py"))
RUNNING = ("eval", "exec", "os.system", "os.popen", "pd.read_pickle", "yaml.load", "yaml.unsafe_load")
"""Calls that run what a text or file says."""

NAMES = ("a; rm -rf x", "<script>", "$HOME `id` $(id)", 'it\'s "so"', "--help", "=1+1", "$\\frac{", "Ü ü%s{}")
"""Cases as nobody should name them."""


def calls() -> Iterator[tuple[Path, ast.Call, str]]:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                yield path, node, ast.unparse(node.func)


def test_nothing_reads_code_from_a_file() -> None:
    """A pickle, and what is built on it, runs what its file says."""
    forbidden = {"pickle", "cPickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.split(".")[0] for name in names} & forbidden, path
    for path, node, name in calls():
        assert name not in (
            "eval",
            "exec",
            "os.system",
            "os.popen",
            "pd.read_pickle",
            "yaml.load",
            "yaml.unsafe_load",
        ), path
        named = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert named.get("allow_pickle", "False") == "False", path
        assert named.get("shell", "False") == "False", path
        if name == "torch.load":
            assert named.get("weights_only") == "True", path
        if name == "np.load":
            assert named.get("allow_pickle") == "False", path


def test_the_rule_above_sees_calls() -> None:
    assert {name for _, _, name in calls()} >= {"torch.load", "yaml.safe_load", "subprocess.run"}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_graded(tmp_path / "raw")


@pytest.fixture
def faults_of(tmp_path: Path) -> Callable[[Path], list[str]]:
    def run(folder: Path) -> list[str]:
        with pytest.raises(DataFaults) as caught:
            index.run(index_context(tmp_path / "out", [folder]))
        return caught.value.faults

    return run


@pytest.mark.parametrize("what", ["file", "mask", "case", "chain"])
def test_link_out_of_the_data_root_is_refused_in_one_line(
    root: Path, tmp_path: Path, faults_of: Callable[[Path], list[str]], what: str
) -> None:
    case = root / "HGG" / "Brats18_SYN_0_1"
    inside = {"file": case / f"{case.name}_t1.nii.gz", "mask": case / f"{case.name}_seg.nii.gz"}.get(what, case)
    outside = tmp_path / "outside" / inside.name
    outside.parent.mkdir()
    inside.rename(outside)
    target = outside
    if what == "chain":
        target = root / "step"
        target.symlink_to(outside)
    inside.symlink_to(target)
    faults = [fault for fault in faults_of(root) if "leads out of the data folder" in fault]
    assert f"{inside}: leads out of the data folder to {outside}; put the data itself there instead of a link" in faults
    assert all("\n" not in fault for fault in faults)


def test_a_data_root_may_be_a_link_and_files_may_link_inside(root: Path, tmp_path: Path) -> None:
    case = root / "HGG" / "Brats18_SYN_0_1"
    image = case / f"{case.name}_t1.nii.gz"
    image.rename(case / "kept.bin")
    image.symlink_to("kept.bin")
    (tmp_path / "link").symlink_to(root)
    context = index_context(tmp_path / "out", [tmp_path / "link"])
    index.run(context)
    assert len((context.out / "cases.csv").read_text().splitlines()) == 6


def test_names_of_cases_go_through_every_stage_and_into_no_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the names of folders, which nobody checks; all else is made of keys and of the configuration's own names."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "raw; rm -rf 'x' <y>"
    for number, name in enumerate(NAMES):
        write_case(root, name, modalities=("t1", "flair"), seed=number)
    raw = {
        "name": "names",
        "seeds": [0],
        "data": {
            "brats": {
                "path": str(root),
                "modalities": ["t1", "flair"],
                "min_lesion_mm2": 1,
                "split": {"folds": 1, "test": 0.25, "val": 0.25},
                "supervoxels": {"segments": 8},
            },
            "instance": None,
            "kits": None,
        },
        "views": {"volume": None, "slice": {"min_foreground_mm2": 1}},
        "classifiers": {"resnet": {"width": 4, "training": {"epochs": 1, "least_steps": 0}}},
        "maps": {"methods": dict.fromkeys([*SLOW, "cam", "gradcampp", "xgradcam", "hirescam", "layercam"])},
        "refinements": {"chains": ["threshold"], "declared": None},
        "references": {"methods": []},
        "protocol": {"val_k": [1], "draws": 1, "bootstrap": 100, "faithfulness": {"slices": 1, "randomised_cases": 0}},
    }
    planned = plan.build(load(raw))
    run_stages(planned, *{run.stage for run in planned.runs.values()})
    (found,) = planned.of_stage("index")
    assert set(json.loads((found.folder / "images.json").read_text())) == set(NAMES)
    for run in planned.runs.values():
        assert re.fullmatch(r"[\w./-]+", str(run.folder))
        assert shlex.split(f"weakseg {run.stage} --spec {run.folder}") == [
            "weakseg",
            run.stage,
            "--spec",
            str(run.folder),
        ]
    for path in tmp_path.rglob("*.nii*"):
        assert nib.load(path).ndim in (3, 4)
    assert not (tmp_path / "x").exists()


def test_every_dependency_is_pinned_to_one_version() -> None:
    lines = (REPOSITORY / "envs" / "requirements.lock").read_text().splitlines()
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines if line and not line.startswith("#"))
    environment = yaml.safe_load((REPOSITORY / "envs" / "weakseg.yaml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
