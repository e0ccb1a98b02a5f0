import json

import numpy as np
import pandas as pd
import pytest

from weakseg import nifti
from weakseg.data import labels
from weakseg.data.truth import open_lesion
from weakseg.errors import WeaksegError

AFFINE = np.diag([2.0, 2.0, 3.0, 1])
"""A voxel has 4 mm2 in its slice, so that 5 voxels have 20 mm2."""
PARAMS = {"region": "whole_tumour", "min_lesion_mm2": 20, "min_foreground_mm2": 100, "max_dropped": 0.4}


@pytest.fixture
def truth(tmp_path):
    """Masks of the case `a`: labels 0 to 4 in a row, and on the grid of the case all 2."""
    nifti.write(tmp_path / "truth/raw/a.nii.gz", np.arange(5, dtype=np.uint8).reshape(5, 1, 1), AFFINE)
    nifti.write(tmp_path / "truth/grid/a.nii.gz", np.full((2, 2, 2), 2, np.uint8), np.eye(4))
    return tmp_path / "truth"


@pytest.mark.parametrize(
    ("region", "expected"),
    [("whole_tumour", [0, 1, 1, 1, 1]), ("tumour_core", [0, 1, 0, 1, 1]), ("enhancing_tumour", [0, 0, 0, 0, 1])],
)
def test_regions(context, truth, region, expected):
    mask, affine = open_lesion(context("scores"), truth, "a", "scores", region)
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask.ravel(), expected)
    np.testing.assert_array_equal(affine, AFFINE)


def test_case_grid(context, truth):
    mask, affine = open_lesion(context("labels"), truth, "a", "labels", "whole_tumour", "grid")
    assert mask.shape == (2, 2, 2)
    assert mask.all()
    np.testing.assert_array_equal(affine, np.eye(4))


@pytest.mark.parametrize("stage", ["preprocess", "supervoxels", "classifier", "maps", "refinement", "leaderboard"])
@pytest.mark.parametrize("purpose", ["labels", "scores", "oracle-set"])
def test_stage_without_purposes_may_open_nothing(context, truth, stage, purpose):
    running = context(stage)
    with pytest.raises(WeaksegError, match=f"{stage}: may not open truth masks for '{purpose}'"):
        open_lesion(running, truth, "a", purpose, "whole_tumour")
    assert running.truth_opened == {}


@pytest.mark.parametrize(("stage", "purpose"), [("labels", "scores"), ("labels", "oracle-set"), ("scores", "labels")])
def test_stage_may_not_open_for_another_purpose(context, truth, stage, purpose):
    with pytest.raises(WeaksegError, match="may not open"):
        open_lesion(context(stage), truth, "a", purpose, "whole_tumour")


def test_every_opening_is_logged(context, truth):
    running = context("scores")
    for purpose in ("scores", "oracle-set", "scores"):
        open_lesion(running, truth, "a", purpose, "whole_tumour")
    nifti.write(truth / "raw/b.nii.gz", np.zeros((2, 2, 2), np.uint8), AFFINE)
    open_lesion(running, truth, "b", "scores", "whole_tumour")
    assert running.truth_opened == {"scores": {"a", "b"}, "oracle-set": {"a"}}


@pytest.fixture
def run_labels(context, tmp_path):
    """Run the stage on one case whose slices have lesions of the given numbers of voxels."""

    def run(voxels, foreground_voxels=(), **changes):
        foreground = np.ones((10, 10, len(voxels)), np.uint8)
        lesion = np.zeros_like(foreground)
        for position, number in enumerate(voxels):
            lesion[..., position] = (np.arange(100) < number).reshape(10, 10) * 2
        for position, number in foreground_voxels:
            foreground[..., position] = (np.arange(100) < number).reshape(10, 10)
        nifti.write(tmp_path / "preprocess/foreground/a.nii.gz", foreground, AFFINE)
        nifti.write(tmp_path / "truth/grid/a.nii.gz", lesion, AFFINE)
        nifti.write(tmp_path / "truth/raw/a.nii.gz", np.zeros_like(lesion), AFFINE)
        running = context("labels", {**PARAMS, **changes}, preprocess=tmp_path / "preprocess", truth=tmp_path / "truth")
        labels.run(running)
        assert running.truth_opened == {"labels": {"a"}}
        return labels.read_labels(running.out), json.loads((running.out / "summary.json").read_text())

    return run


def test_lesion_from_the_smallest_area_on(run_labels):
    table, summary = run_labels([0, 4, 5, 6, 0])
    expected = pd.DataFrame({"case": "a", "position": range(5), "label": [0, -1, 1, 1, 0]})
    pd.testing.assert_frame_equal(table, expected, check_dtype=False)
    assert summary == {"slices": 5, "lesion": 2, "normal": 2, "too_small": 1, "dropped": pytest.approx(1 / 3)}


def test_no_smallest_area_labels_every_slice(run_labels):
    table, _ = run_labels([0, 1, 2], min_lesion_mm2=0)
    assert list(table["label"]) == [0, 1, 1]


def test_slices_with_little_foreground_are_no_units(run_labels):
    # 25 voxels have 100 mm2, which is enough.
    table, summary = run_labels([9, 9, 9, 9], foreground_voxels=[(0, 24), (2, 25), (3, 0)])
    assert list(table["position"]) == [1, 2]
    assert summary["slices"] == 2


def test_slices_without_foreground_are_never_units(run_labels):
    table, _ = run_labels([9, 9], foreground_voxels=[(0, 0)], min_foreground_mm2=0)
    assert list(table["position"]) == [1]


def test_too_many_small_lesions_are_refused(run_labels):
    run_labels([0, 4, 4, 6, 6, 6], max_dropped=0.4)
    with pytest.raises(WeaksegError, match=r"40% .* min_lesion_mm2 = 20 \(max_dropped is 39%\); lower data"):
        run_labels([0, 4, 4, 6, 6, 6], max_dropped=0.39)


def test_only_normal_slices(run_labels):
    assert run_labels([0, 0])[1] == {"slices": 2, "lesion": 0, "normal": 2, "too_small": 0, "dropped": 0}
