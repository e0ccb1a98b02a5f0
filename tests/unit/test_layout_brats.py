"""Reading the layouts of BraTS 2015 to 2021, and what the stage ``index`` makes of valid data."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tests.brats_factory import MODALITIES, PAIR, TUMOUR, index_context, write_case, write_graded, write_table

from weakseg.data import index, phantoms
from weakseg.data.layouts import RawCase, find_cases
from weakseg.data.layouts.brats import patient_of
from weakseg.execution import Context


def _find(root: Path, modalities: tuple[str, ...] = MODALITIES) -> dict[str, RawCase]:
    cases, faults = find_cases("brats", root, modalities)
    assert faults == []
    return {case.case: case for case in cases}


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("Brats17_CBICA_AAB_1", "Brats17_CBICA_AAB"),
        ("Brats18_TCIA01_231_1", "Brats18_TCIA01_231"),
        ("BraTS19_CBICA_AAB_2", "BraTS19_CBICA_AAB"),
        ("brats_2013_pat0005_1", "brats_2013_pat0005"),
        ("brats_tcia_pat105_0052", "brats_tcia_pat105"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("BraTS2021_00000", "BraTS2021_00000"),
        ("TCGA-FG-6692", "TCGA-FG-6692"),
    ],
)
def test_patient_is_the_case_without_the_visit(case: str, patient: str) -> None:
    assert patient_of(case) == patient


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_grade_folders(tmp_path: Path, suffix: str) -> None:
    high = write_case(tmp_path / "HGG", "Brats18_TCIA01_231_1", suffix=suffix)
    write_case(tmp_path / "LGG", "Brats18_2013_2_1", suffix=suffix)
    (tmp_path / "HGG" / "LICENSE.txt").write_text("terms")
    (tmp_path / "name_mapping.csv").write_text("other,columns,in,2019\n")
    cases = _find(tmp_path)
    assert list(cases) == ["Brats18_2013_2_1", "Brats18_TCIA01_231_1"]
    assert cases["Brats18_2013_2_1"].grade == "LGG"
    assert cases["Brats18_TCIA01_231_1"] == RawCase(
        case="Brats18_TCIA01_231_1",
        patient="Brats18_TCIA01_231",
        grade="HGG",
        images={name: high / f"Brats18_TCIA01_231_1_{name}{suffix}" for name in MODALITIES},
        mask=high / f"Brats18_TCIA01_231_1_seg{suffix}",
    )


def test_2020_takes_the_grade_from_the_table(tmp_path: Path) -> None:
    grades = {"BraTS20_Training_001": "HGG", "BraTS20_Training_002": "LGG"}
    for name in grades:
        write_case(tmp_path, name)
    write_table(tmp_path, {**grades, "BraTS20_Training_003": "HGG"})  # more rows than folders: a part of the data
    (tmp_path / "survival_info.csv").write_text("Brats20ID,Age,Survival_days,Extent_of_Resection\n")
    assert {name: case.grade for name, case in _find(tmp_path).items()} == grades


def test_2020_case_355_has_a_misnamed_mask(tmp_path: Path) -> None:
    folder = write_case(tmp_path, "BraTS20_Training_355", suffix=".nii")
    (folder / "BraTS20_Training_355_seg.nii").rename(folder / "W39_1998.09.19_Segm.nii")
    write_table(tmp_path, {"BraTS20_Training_355": "HGG"})
    assert _find(tmp_path)["BraTS20_Training_355"].mask == folder / "W39_1998.09.19_Segm.nii"


def test_2021_has_no_grade(tmp_path: Path) -> None:
    write_case(tmp_path, "BraTS2021_00000")
    write_case(tmp_path, "BraTS2021_00002")
    assert {name: case.grade for name, case in _find(tmp_path).items()} == dict.fromkeys(
        ("BraTS2021_00000", "BraTS2021_00002")
    )


def test_folder_that_holds_the_unzipped_folder(tmp_path: Path) -> None:
    write_graded(tmp_path / "MICCAI_BraTS_2018_Data_Training", high=1, low=1)
    (tmp_path / "__MACOSX" / "HGG").mkdir(parents=True)
    (tmp_path / "data.zip").write_bytes(b"")
    assert list(_find(tmp_path, PAIR)) == ["Brats18_SYN_0_1", "Brats18_SYN_1_1"]


def test_only_the_modalities_asked_for_need_exist_and_keep_their_order(tmp_path: Path) -> None:
    write_case(tmp_path, "BraTS2021_00000", modalities=["flair", "t1ce"])
    assert list(_find(tmp_path, ("t1ce", "flair"))["BraTS2021_00000"].images) == ["t1ce", "flair"]


def test_index_writes_roles_paths_and_count(tmp_path: Path) -> None:
    root, shift = write_graded(tmp_path / "main"), tmp_path / "shift"
    write_case(shift / "HGG", "Brats18_SHIFT_1_1", seed=9)
    context = index_context(tmp_path / "out", [root, shift], modalities=["t1", "flair"])
    index.run(context)
    cases = index.read_cases(context.out)
    assert list(cases.columns) == ["case", "patient", "grade", "source", "role_f0"]
    assert cases.loc[0].to_dict() == {
        "case": "Brats18_SHIFT_1_1",
        "patient": "Brats18_SHIFT_1",
        "grade": "HGG",
        "source": "real",
        "role_f0": "shift",
    }
    assert cases["role_f0"].value_counts().to_dict() == {"train": 3, "val": 1, "test": 1, "shift": 1}
    images = json.loads((context.out / "images.json").read_text())
    assert sorted(images) == list(cases["case"])
    folder = root / "LGG" / "Brats18_SYN_4_1"
    expected = [(name, str(folder / f"Brats18_SYN_4_1_{name}.nii.gz")) for name in ("t1", "flair")]
    assert list(images["Brats18_SYN_4_1"].items()) == expected
    masks = json.loads((context.out / "masks.json").read_text())
    assert masks["Brats18_SYN_4_1"] == str(folder / "Brats18_SYN_4_1_seg.nii.gz")
    assert context.counts == {"cases": 6}


def test_index_of_2021_has_empty_grades(tmp_path: Path) -> None:
    for number in range(5):
        write_case(tmp_path / "raw", f"BraTS2021_{number:05}", seed=number)
    context = index_context(tmp_path / "out", [tmp_path / "raw"])
    index.run(context)
    assert list(index.read_cases(context.out)["grade"]) == [""] * 5


def test_index_takes_an_all_zero_mask_and_several_visits(tmp_path: Path) -> None:
    root = write_graded(tmp_path / "raw")
    write_case(root / "HGG", "Brats18_SYN_0_2", mask=np.zeros_like(TUMOUR), seed=77)
    context = index_context(tmp_path / "out", [root])
    index.run(context)
    cases = index.read_cases(context.out)
    visits = cases[cases["patient"] == "Brats18_SYN_0"]
    assert list(visits["case"]) == ["Brats18_SYN_0_1", "Brats18_SYN_0_2"]
    assert visits["role_f0"].nunique() == 1


def test_index_takes_label_3_in_the_2015_coding(tmp_path: Path) -> None:
    root = write_graded(tmp_path / "raw")
    write_case(root / "HGG", "brats_2013_pat0005_1", mask=np.where(TUMOUR == 1, 3, TUMOUR).astype(np.uint8))
    context = index_context(tmp_path / "out", [root], label_coding="brats2015")
    index.run(context)
    assert "brats_2013_pat0005" in set(index.read_cases(context.out)["patient"])


@pytest.mark.parametrize("below", ["", "unzipped"])
def test_marked_data_is_a_phantom_wherever_the_path_comes_from(tmp_path: Path, below: str) -> None:
    root = write_graded(tmp_path / "phantom" / below)
    (root / "PHANTOM.json").write_text("{}")
    for name, context in {
        "upstream": index_context(tmp_path / "a", None, phantoms=[tmp_path / "phantom"]),
        "path": index_context(tmp_path / "b", [tmp_path / "phantom"]),
    }.items():
        index.run(context)
        assert set(index.read_cases(context.out)["source"]) == {"phantom"}, name


def test_index_follows_links_into_a_dvc_cache(tmp_path: Path) -> None:
    root = write_graded(tmp_path / "raw")
    image = root / "HGG" / "Brats18_SYN_0_1" / "Brats18_SYN_0_1_t1.nii.gz"
    cached = tmp_path / ".dvc" / "cache" / "files" / "Brats18_SYN_0_1_t1.nii.gz"
    cached.parent.mkdir(parents=True)
    image.rename(cached)
    image.symlink_to(cached)
    context = index_context(tmp_path / "out", [root])
    index.run(context)
    assert json.loads((context.out / "images.json").read_text())["Brats18_SYN_0_1"]["t1"] == str(image)


def test_threads_change_nothing(tmp_path: Path) -> None:
    root = write_graded(tmp_path / "raw")
    for name, threads in (("one", 1), ("two", 2)):
        index.run(index_context(tmp_path / name, [root], threads=threads))
    for file in ("cases.csv", "images.json", "masks.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_phantom_stage_hands_its_parameters_to_the_generator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Path, dict[str, Any]]] = []
    stub = SimpleNamespace(write=lambda root, **options: calls.append((root, options)))
    monkeypatch.setitem(sys.modules, "weakseg.data.phantoms.stub", stub)
    params = {"phantom": "stub", "phantom_version": 1, "data_seed": 7, "cases": 5, "shape": [8, 8, 6], "shifted": True}
    context = Context("phantom", "k", params, {}, tmp_path, tmp_path, threads=2)
    phantoms.run(context)
    assert calls == [(tmp_path, {"data_seed": 7, "cases": 5, "shape": (8, 8, 6), "shifted": True, "workers": 2})]
    assert context.counts == {"cases": 5}


@pytest.mark.realdata
@pytest.mark.skipif("WEAKSEG_REALDATA" not in os.environ, reason="WEAKSEG_REALDATA is not set")
def test_index_of_the_real_sample(tmp_path: Path) -> None:
    context = index_context(
        tmp_path / "out",
        [Path(os.environ["WEAKSEG_REALDATA"]) / "glioma_small"],
        modalities=["flair", "t1ce"],
        label_coding="brats2015",
        split={"folds": 6, "train_only": ["TCGA-*"]},
    )
    index.run(context)
    cases = index.read_cases(context.out).set_index("case")
    roles = cases.filter(like="role_f")
    assert roles.shape == (8, 6)
    assert (roles == "test").sum(axis=1).to_dict() == {
        "TCGA-DU-7294": 0,
        "TCGA-FG-6692": 0,
        **{f"brats_2013_pat000{number}_1": 1 for number in range(1, 7)},
    }
    assert set(roles.loc["TCGA-FG-6692"]) == {"train"}
    assert ((roles == "test").sum() == 1).all()
    assert ((roles == "val").sum() == 1).all()
    assert cases["grade"].value_counts().to_dict() == {"HGG": 6, "LGG": 2}
    assert set(cases["source"]) == {"real"}
    assert cases.loc["brats_2013_pat0005_1", "patient"] == "brats_2013_pat0005"
