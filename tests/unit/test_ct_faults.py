"""Every way in which raw CT data can be wrong is told with its file and what to do."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.brats_factory import write_volume
from tests.ct_factory import (
    HEAD,
    KIDNEY,
    KIDNEYS,
    LESION,
    SHAPE,
    WHOLE,
    hounsfield,
    slices_first,
    write_instance,
    write_kits,
    write_totalsegmentator,
)

from weakseg.data import slabs
from weakseg.data.checks import check_case, compare_cases
from weakseg.data.layouts import find_cases

EXPORT = "export HU (rescale slope and intercept applied)"


@dataclass(frozen=True)
class Layout:
    """A layout with one valid case: where its image and a mask lie, relative to the root, and how they are stored."""

    name: str
    write: Callable[..., Path]
    image: str
    mask: str
    affine: np.ndarray
    labels: np.ndarray

    def store(self, volume: np.ndarray) -> np.ndarray:
        """A volume (X, Y, Z) as this layout stores it; the direction of its axes changes no fault."""
        return slices_first(volume) if self.name == "kits" else volume


LAYOUTS = (
    Layout("instance", write_instance, "train/data/001.nii.gz", "train/label/001.nii.gz", HEAD, LESION),
    Layout("kits", write_kits, "case_00000/imaging.nii.gz", "case_00000/segmentation.nii.gz", KIDNEYS, KIDNEY),
    Layout(
        "totalsegmentator",
        write_totalsegmentator,
        "s0000/ct.nii.gz",
        "s0000/segmentations/kidney_left.nii.gz",
        WHOLE,
        LESION,
    ),
)


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.name)
def layout(request: pytest.FixtureRequest) -> Layout:
    return request.param


@pytest.fixture
def root(tmp_path: Path, layout: Layout) -> Path:
    return layout.write(tmp_path / "raw", 1)


@pytest.fixture(autouse=True)
def _several_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slabs, "VOXELS", 100)


def _faults(layout: str, root: Path) -> list[str]:
    """All faults as the stage ``index`` collects them."""
    cases, faults = find_cases(layout, root, ["ct"])
    checked = [check_case(case, layout) for case in cases]
    return faults + [fault for one in checked for fault in one.faults] + compare_cases(checked, [])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            lambda hu: ((hu.clip(-100, 300) + 100) * 0.6).astype(np.uint8),
            f"values from 0 to 238, an 8-bit picture and not HU; {EXPORT}",
        ),
        (
            lambda hu: hu.clip(-160, 240),
            f"no voxel below -200 HU (lowest -160), already windowed or not in HU; {EXPORT}",
        ),
        (lambda hu: hu + 1024, f"no voxel below -200 HU (lowest 24), already windowed or not in HU; {EXPORT}"),
        (
            lambda hu: np.where(hu > -1000, hu.astype(np.int32) * 100, hu),
            f"36 % of the voxels are above 5000 (highest 29800), not in HU; {EXPORT}",
        ),
        (lambda hu: np.full_like(hu, -1000), "every voxel is -1000; restore the image, or remove the case"),
    ],
    ids=["8-bit", "windowed", "no-intercept", "no-slope", "constant"],
)
def test_values_that_are_no_hu(root: Path, layout: Layout, change: Callable, text: str) -> None:
    image = change(hounsfield("wrong"))
    image.flat[0] = image.min()
    write_volume(root / layout.image, layout.store(image), layout.affine)
    assert _faults(layout.name, root) == [f"{root / layout.image}: {text}"]


def test_metal_is_no_fault(root: Path, layout: Layout) -> None:
    image = hounsfield("metal")
    image[4, 4, 1:4] = 20000
    write_volume(root / layout.image, layout.store(image), layout.affine)
    assert _faults(layout.name, root) == []


def test_all_zero(root: Path, layout: Layout) -> None:
    write_volume(root / layout.image, layout.store(np.zeros(SHAPE, np.int16)), layout.affine)
    (fault,) = _faults(layout.name, root)
    assert fault.endswith(": every voxel of every modality is 0; restore the images, or remove the case")


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_nan(root: Path, layout: Layout, kind: str) -> None:
    data = (hounsfield("nan") if kind == "image" else layout.labels).astype(np.float32)
    data[0, 0, :2] = np.nan
    file = root / getattr(layout, kind)
    write_volume(file, layout.store(data), layout.affine)
    assert _faults(layout.name, root) == [
        f"{file}: 2 voxels are NaN or infinite; export it again, with 0 as background"
    ]


@pytest.mark.parametrize("kind", ["image", "mask"])
@pytest.mark.parametrize("dimensions", [2, 4])
def test_other_dimensions(root: Path, layout: Layout, kind: str, dimensions: int) -> None:
    file = root / getattr(layout, kind)
    data = np.ones((8, 8) if dimensions == 2 else (*SHAPE, 2), np.int16)
    write_volume(file, data, layout.affine)
    assert _faults(layout.name, root) == [
        f"{file}: {dimensions} dimensions instead of 3; export one 3D volume per file"
    ]


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_truncated(root: Path, layout: Layout, kind: str) -> None:
    file = root / getattr(layout, kind)
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-40]))
    (fault,) = _faults(layout.name, root)
    assert fault.startswith(f"{file}: truncated or damaged (")


def test_mirrored_mask(root: Path, layout: Layout) -> None:
    """The voxels as they are stored, but with an affine that says nothing about their direction."""
    data = np.asarray(nib.load(root / layout.mask).dataobj)
    turned = layout.affine @ np.diag([-1.0, 1, 1, 1])
    stored, wanted = ("".join(nib.aff2axcodes(affine)) for affine in (turned, layout.affine))
    write_volume(root / layout.mask, data, turned)
    assert _faults(layout.name, root) == [
        f"{root / layout.mask}: stored as {stored}, {Path(layout.image).name} as {wanted}, and not on one grid, so it "
        "is mirrored or permuted; save it with the axes and the affine of the image"
    ]


def test_permuted_mask(root: Path, layout: Layout) -> None:
    data = np.asarray(nib.load(root / layout.mask).dataobj)
    write_volume(root / layout.mask, data.transpose(1, 2, 0), layout.affine)
    (fault,) = _faults(layout.name, root)
    assert fault.startswith(f"{root / layout.mask}: shape (")
    assert fault.endswith(
        f", but {Path(layout.image).name} has (10, 8, 6), so its axes are permuted; "
        "save it with the axes and the affine of the image"
    )


def test_mask_on_another_grid(root: Path, layout: Layout) -> None:
    file, image = root / layout.mask, Path(layout.image).name
    write_volume(file, layout.store(layout.labels[:, :, :5]), layout.affine)
    assert _faults(layout.name, root) == [
        f"{file}: shape (10, 8, 5), but {image} has (10, 8, 6); resample it to the same grid"
    ]
    moved = layout.affine.copy()
    moved[0, 3] += 0.4
    write_volume(file, layout.store(layout.labels), moved)
    assert _faults(layout.name, root) == [
        f"{file}: its affine differs from that of {image}; "
        "register it, or correct the header, so that both lie on one grid"
    ]


@pytest.mark.parametrize(("slices", "text"), [(1, "1 slice"), (2, "2 slices")])
def test_too_few_slices(root: Path, layout: Layout, slices: int, text: str) -> None:
    for file in root.rglob("*.nii.gz"):
        data = hounsfield("few") if file == root / layout.image else layout.labels
        write_volume(file, layout.store(data[:, :, 2 : 2 + slices]), layout.affine)
    assert _faults(layout.name, root) == [
        f"{root / layout.image}: {text} along Z; a case needs at least 3, export the whole scan"
    ]


def _write_all(root: Path, affine: np.ndarray) -> None:
    """Give all volumes of a case another affine, however broken."""
    for file in root.rglob("*.nii.gz"):
        image = nib.Nifti1Image(np.asarray(nib.load(file).dataobj), None)
        image.header.set_sform(affine, 1)
        nib.save(image, file)


def test_permuted_orientation(root: Path, layout: Layout) -> None:
    """X and Z have changed places in the header of all files, so thick slices lie along X."""
    thick = HEAD if layout.name == "totalsegmentator" else layout.affine
    permuted = thick[[2, 1, 0, 3]]
    _write_all(root, permuted)
    stored, spacing = "".join(nib.aff2axcodes(permuted)), 3 if layout.name == "kits" else 5
    assert _faults(layout.name, root) == [
        f"{root / layout.image}: its slices of {spacing} mm lie along X, not along Z (stored as {stored}); "
        "the orientation in its header is permuted, or the scan is not axial: correct the affine"
    ]


def test_thin_slices_are_no_fault(root: Path, layout: Layout) -> None:
    thin = np.diag([0.3, 1, 1, 1])[[2, 1, 0, 3]] if layout.name == "kits" else np.diag([1, 1, 0.3, 1])
    _write_all(root, thin)
    assert _faults(layout.name, root) == []


def test_sheared_affine(root: Path, layout: Layout) -> None:
    sheared = layout.affine.astype(float).copy()
    sheared[1, :3] += 0.2 * sheared[2, :3]  # a gantry tilt of 11 degrees
    _write_all(root, sheared)
    assert _faults(layout.name, root) == [
        f"{root / layout.image}: its axes are not at right angles (a tilted gantry?); resample it to a straight grid"
    ]


def test_rotated_affine_is_no_fault(root: Path, layout: Layout) -> None:
    tilt = np.array([[1, 0, 0, 0], [0, np.cos(0.3), -np.sin(0.3), 0], [0, np.sin(0.3), np.cos(0.3), 0], [0, 0, 0, 1]])
    _write_all(root, tilt @ layout.affine)
    assert _faults(layout.name, root) == []


@pytest.mark.parametrize("value", [0, np.nan])
def test_degenerate_affine(root: Path, layout: Layout, value: float) -> None:
    broken = layout.affine.astype(float).copy()
    broken[:3, 1] *= value
    _write_all(root, broken)
    faults = _faults(layout.name, root)
    assert faults[0] == (
        f"{root / layout.image}: its affine is degenerate (a voxel size of 0, or NaN); correct the header"
    )


def test_unknown_labels(root: Path, layout: Layout) -> None:
    write_volume(root / layout.mask, layout.store(np.where(layout.labels == 1, 4, 0).astype(np.uint8)), layout.affine)
    known = {
        "instance": "instance knows 0, 1: correct the mask or `label_coding`",
        "kits": "kits knows 0, 1, 2, 3: correct the mask or `label_coding`",
        "totalsegmentator": "an organ mask knows 0, 1: correct it",
    }
    assert _faults(layout.name, root) == [f"{root / layout.mask}: unknown label 4; {known[layout.name]}"]


def test_fractions(root: Path, layout: Layout) -> None:
    write_volume(root / layout.mask, layout.store(layout.labels * np.float32(0.5)), layout.affine)
    assert _faults(layout.name, root) == [f"{root / layout.mask}: values such as 0.5 are no labels; save integers"]


def test_no_image(root: Path, layout: Layout) -> None:
    (root / layout.image).unlink()
    if layout.name == "instance":  # an empty folder of images is no INSTANCE folder
        write_volume(root / "train/data/002.nii.gz", hounsfield("002"), HEAD)
        write_volume(root / "train/label/002.nii.gz", LESION, HEAD)
    (fault,) = _faults(layout.name, root)
    assert fault.startswith(f"{root / layout.image}: missing; ")


def test_no_mask(root: Path, layout: Layout) -> None:
    (root / layout.mask).unlink()
    if layout.name == "instance":
        write_volume(root / "train/label/002.nii.gz", LESION, HEAD)
        write_volume(root / "train/data/002.nii.gz", hounsfield("002"), HEAD)
    (fault,) = _faults(layout.name, root)
    told = {
        "instance": f"{root}/train/label/001.nii.gz: no mask; put it there (the evaluation data has none, ",
        "kits": f"{root}/case_00000: no mask; put segmentation.nii.gz there (test cases have none, ",
        "totalsegmentator": f"{root}/s0000/segmentations/kidney_left.nii.gz: missing; restore it from the download",
    }
    assert fault.startswith(told[layout.name])


@pytest.mark.parametrize("kind", ["image", "mask"])
def test_file_twice(root: Path, layout: Layout, kind: str) -> None:
    file = root / getattr(layout, kind)
    nib.save(nib.load(file), file.with_suffix(""))
    assert _faults(layout.name, root) == [
        f"{file.parent}: {file.name} and {file.name.removesuffix('.gz')} are the same volume twice; keep one"
    ]


@pytest.mark.parametrize("kind", ["image", "mask", "folder", "top"])
def test_link_out_of_the_root(root: Path, layout: Layout, kind: str, tmp_path: Path) -> None:
    links = {"image": layout.image, "mask": layout.mask, "folder": str(Path(layout.image).parent)}
    if kind == "top":
        shutil.move(root, tmp_path / "moved")
        shutil.move(tmp_path / "moved", root / "top")
    link = root / links.get(kind, "top")
    outside = tmp_path / "outside" / link.name
    outside.parent.mkdir()
    link.rename(outside)
    link.symlink_to(outside)
    top = link / "train" if (layout.name, kind) == ("instance", "top") else link
    target = outside / "train" if (layout.name, kind) == ("instance", "top") else outside
    assert _faults(layout.name, root) == [
        f"{top}: leads out of the data folder to {target}; put the data itself there instead of a link"
    ]


def test_same_scan_twice_is_told_by_its_place(root: Path, layout: Layout) -> None:
    layout.write(root, 2)
    first, second = (case.place for case in find_cases(layout.name, root, ["ct"])[0])
    shutil.copy(root / layout.image, second if second.is_file() else second / Path(layout.image).name)
    assert first == (root / layout.image if layout.name == "instance" else (root / layout.image).parent)
    assert _faults(layout.name, root) == [
        f"{first} and {second}: identical images, so one patient under two names; remove one"
    ]


def test_other_channels(root: Path, layout: Layout) -> None:
    cases, faults = find_cases(layout.name, root, ["ct", "t1"])
    assert cases == []
    titles = {"instance": "INSTANCE", "kits": "KiTS", "totalsegmentator": "TotalSegmentator"}
    assert faults == [f"modalities: {titles[layout.name]} has no t1; write [ct]"]


def test_two_data_sets_in_one_folder(tmp_path: Path, layout: Layout) -> None:
    for name in ("one", "two"):
        layout.write(tmp_path / name, 1)
    names = "one/train, two/train" if layout.name == "instance" else "one, two"
    assert _faults(layout.name, tmp_path) == [
        f"{tmp_path}: holds several data sets ({names}); set the path to one of them"
    ]


def test_no_case_at_all(tmp_path: Path, layout: Layout) -> None:
    (tmp_path / "notes").mkdir()
    told = {
        "instance": "no INSTANCE case; set the path to the folder that holds train/ with data/001.nii.gz and label/",
        "kits": "no KiTS case; set the path to the folder that holds case_00000/imaging.nii.gz",
        "totalsegmentator": "no TotalSegmentator case; set the path to the folder that holds s0000/ct.nii.gz and meta",
    }
    (fault,) = _faults(layout.name, tmp_path)
    assert fault.startswith(f"{tmp_path}: {told[layout.name]}")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"image_id,age\ns0000,60\n", "no column image_id between `;`; copy it from the download again"),
        (b"image_id;age\ns0001;60\n", "s0000 is not listed; add its row, or remove {root}/s0000"),
        (b"", "not a readable CSV file (No columns to parse from file); copy it from the download again"),
    ],
    ids=["comma", "stray", "empty"],
)
def test_table_of_totalsegmentator(tmp_path: Path, content: bytes, text: str) -> None:
    root = write_totalsegmentator(tmp_path, 1)
    (root / "meta.csv").write_bytes(content)
    assert _faults("totalsegmentator", root) == [f"{root}/meta.csv: {text.format(root=root)}"]
