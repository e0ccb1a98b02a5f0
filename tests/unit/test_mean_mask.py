"""The null `mean_mask`, on masks whose mean is known."""

import json

import numpy as np
import pandas as pd
import pytest

from weakseg import nifti
from weakseg.maps import mean_mask as stage
from weakseg.maps.mean_mask import Mask, centred, mean_mask

SHAPE = (12, 10, 8)
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])


def box(*corners, shape=SHAPE):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(low, high) for low, high in corners)] = True
    return mask


HEAD = box((2, 9), (2, 9), (1, 6))
LESIONS = [box((3, 5), (3, 5), (2, 4)), box((4, 6), (3, 5), (2, 4)), np.zeros(SHAPE, bool)]


def test_centroid_becomes_the_origin():
    moved = centred(AFFINE, HEAD)
    np.testing.assert_allclose(moved @ [5, 5, 3, 1], [0, 0, 0, 1], atol=1e-12)
    np.testing.assert_array_equal(moved[:3, :3], AFFINE[:3, :3])


def test_mean_by_hand():
    mean, affine = mean_mask([Mask(lesion, centred(AFFINE, HEAD)) for lesion in LESIONS])
    assert mean.dtype == np.float32
    assert nifti.spacing_of(affine) == (2, 2, 3)
    assert mean.max() == pytest.approx(2 / 3)
    # The mass of all lesions, in voxels.
    assert mean.sum() == pytest.approx(16 / 3)
    where = np.argwhere(mean > 0.5) @ affine[:3, :3] + affine[:3, 3]
    # The lesions share the voxels (4, 3..4, 2..3), which the head's middle (5, 5, 3) is taken from.
    np.testing.assert_allclose(where, [[-2, y, z] for y in (-4, -2) for z in (-3, 0)], atol=1e-6)


def test_lesion_free_training_cases_give_nothing():
    mean, _ = mean_mask([Mask(LESIONS[2], AFFINE)] * 2)
    assert not mean.any()


@pytest.fixture
def running(context, tmp_path):
    """Two training cases, and a test, a validation and a shift case whose heads lie elsewhere on other grids."""
    folders = {role: tmp_path / role for role in ("index", "preprocess", "truth", "classifier")}
    folders["index"].mkdir()
    folders["classifier"].mkdir()
    roles = {"a": "train", "b": "train", "t": "test", "v": "val", "s": "shift"}
    table = pd.DataFrame({"case": list(roles), "patient": list(roles), "grade": "", "source": "phantom"})
    table.assign(role_f0=list(roles.values())).to_csv(folders["index"] / "cases.csv", index=False)
    for case in roles:
        step = 0 if roles[case] == "train" else 2
        head = np.roll(HEAD, step, axis=2)
        affine = AFFINE.copy()
        affine[:3, 3] = 50 * step
        nifti.write(folders["preprocess"] / f"images/{case}.nii", np.ones((1, *SHAPE), np.float32), affine)
        nifti.write(folders["preprocess"] / f"foreground/{case}.nii.gz", head.astype(np.uint8), affine)
    for case, lesion in zip("ab", LESIONS, strict=False):
        nifti.write(folders["truth"] / f"grid/{case}.nii.gz", lesion.astype(np.uint8), AFFINE)
    slices = [(case, position, 1.0 if position < 6 else -1.0) for case in "tvs" for position in range(8)]
    pd.DataFrame(slices, columns=["case", "position", "logit"]).to_csv(
        folders["classifier"] / "predictions.csv", index=False
    )
    (folders["classifier"] / "metrics.json").write_text(json.dumps({"threshold": 0.0}))
    params = {
        "methods": {"mean_mask": {}},
        "gate": "classifier",
        "seed": 0,
        "fold": 0,
        "roles": ["test", "val", "shift"],
        "view": "slice",
    }
    params["min_foreground_mm2"] = 1
    return context("mean_mask", {**params, "region": "whole_tumour"}, **folders)


def test_stage_moves_the_mean_to_each_head_behind_the_gate(running):
    stage.run(running)
    assert running.truth_opened == {"mean-mask": {"a", "b"}}
    assert sorted(path.name for path in (running.out / "mean_mask").iterdir()) == [f"{case}.nii.gz" for case in "stv"]
    expected = np.roll((LESIONS[0].astype(float) + LESIONS[1]) / 2, 2, axis=2)
    for case in "tvs":
        volume, _ = nifti.read(running.out / f"mean_mask/{case}.nii.gz")
        np.testing.assert_allclose(volume, expected, atol=1e-4)
    assert running.counts["units_gated"] > 0


def test_stage_shows_nothing_where_the_classifier_sees_nothing(running):
    path = running.folder("classifier") / "predictions.csv"
    path.write_text(path.read_text().replace(",4,1.0", ",4,-1.0"))
    stage.run(running)
    volume, _ = nifti.read(running.out / "mean_mask/t.nii.gz")
    assert volume[..., 5].any()
    assert not volume[..., 4].any()
