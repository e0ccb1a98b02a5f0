"""What all refinements from map to map share: they help, repeat, and answer bad input with the map as it came."""

from dataclasses import replace

import numpy as np
import pytest
from tests.refinements_factory import best_dice, corrupted, make, settings

from weakseg import nifti
from weakseg.catalogue import MAP_REFINEMENTS
from weakseg.refinements import stage
from weakseg.refinements.chains import refine_map
from weakseg.supervoxels import supervoxels

STEPS = [step for step in MAP_REFINEMENTS if step != "student"]
"""The student looks at no map: tests/unit/test_student.py."""
IMAGE_STEPS = [step for step in STEPS if step != "supervoxel"]


@pytest.fixture(scope="module")
def toy():
    case, lesion, distractor = make()
    labels = supervoxels(case.image, case.foreground, case.spacing, 400, 0.1)
    return replace(case, supervoxels=labels), lesion, corrupted(case, lesion, distractor)


def refine(step, relevance, case, **changed):
    return refine_map(relevance, case, [step], {step: {**settings(step), **changed}})


@pytest.mark.parametrize("step", STEPS)
def test_a_corrupted_truth_gains_a_tenth_of_dice(step, toy):
    case, lesion, relevance = toy
    before = relevance.copy()
    refined, faults = refine(step, relevance, case)
    assert not faults
    assert best_dice(refined, lesion) >= best_dice(relevance, lesion) + 0.10
    assert refined.dtype == np.float32
    assert refined.shape == relevance.shape
    assert 0 <= refined.min() < refined.max() <= 1
    np.testing.assert_array_equal(refined[~case.foreground], 0)
    np.testing.assert_array_equal(relevance, before)
    np.testing.assert_array_equal(refine(step, relevance, case)[0], refined)


@pytest.mark.parametrize("step", IMAGE_STEPS)
def test_flips_change_nothing(step, toy):
    case, _, relevance = toy
    plain = refine(step, relevance, case)[0]
    for axis in range(3):
        image, foreground = np.flip(case.image, axis + 1), np.flip(case.foreground, axis)
        flipped = refine(step, np.flip(relevance, axis), replace(case, image=image, foreground=foreground))[0]
        # Sums are taken in another order; random walks end at a tolerance.
        atol = 2e-2 if step == "random_walker" else 1e-4
        np.testing.assert_allclose(np.flip(flipped, axis), plain, atol=atol)


@pytest.mark.parametrize("step", IMAGE_STEPS)
@pytest.mark.parametrize("axis", [0, 2])
def test_slices_of_one_voxel(step, axis):
    shape = [48, 48, 48]
    shape[axis] = 1
    case, lesion, distractor = make(tuple(shape), (1.0, 1.0, 1.0), 8.0)
    relevance = corrupted(case, lesion, distractor, 8.0)
    refined, faults = refine(step, relevance, case)
    assert not faults
    assert refined.shape == tuple(shape)
    assert best_dice(refined, lesion) > best_dice(relevance, lesion) + 0.05


@pytest.mark.parametrize("step", IMAGE_STEPS)
def test_spacing_counts_in_millimetres(step, toy):
    case, _, relevance = toy
    plain = refine(step, relevance, case)[0]
    larger = replace(case, spacing=(3.0, 3.0, 3.0))
    widths = {name: 2 * value for name, value in settings(step).items() if name.endswith("_mm")}
    np.testing.assert_allclose(refine(step, relevance, larger, **widths)[0], plain, atol=1e-3)
    other = refine(step, relevance, replace(case, spacing=(0.5, 1.5, 6.0)))[0]
    assert np.abs(other - plain).max() > 0.01


@pytest.mark.parametrize("step", STEPS)
def test_maps_that_say_nothing_stay(step, toy):
    case, _, relevance = toy
    empty, constant = np.zeros_like(relevance), case.foreground.astype(np.float32)
    for nothing, fault in ((empty, "empty_map"), (constant, "constant_map")):
        refined, faults = refine(step, nothing, case)
        np.testing.assert_array_equal(refined, nothing)
        assert faults == [fault]
    bare = replace(case, foreground=np.zeros_like(case.foreground))
    refined, faults = refine(step, empty, bare)
    np.testing.assert_array_equal(refined, empty)
    assert faults == ["empty_foreground"]


@pytest.mark.parametrize("step", IMAGE_STEPS)
def test_a_constant_image_leaves_the_map(step, toy):
    case, _, relevance = toy
    refined, faults = refine(step, relevance, replace(case, image=np.ones_like(case.image)))
    np.testing.assert_array_equal(refined, relevance)
    assert faults == [f"{step}_constant_image"]


@pytest.mark.parametrize("step", IMAGE_STEPS)
@pytest.mark.parametrize("voxels", [1, 2])
def test_a_foreground_of_a_voxel_or_two(step, voxels):
    case, _, _ = make((6, 6, 4), (1.0, 1.0, 1.0), 2.0)
    few = np.zeros_like(case.foreground)
    few[2, 2 : 2 + voxels, 1] = True
    relevance = np.where(few, np.arange(1, 7)[:, None] / 6, 0).astype(np.float32)
    refined, faults = refine(step, relevance, replace(case, foreground=few))
    assert np.isfinite(refined).all()
    assert not refined[~few].any()
    assert len(faults) <= 1


def test_a_step_that_fails_hands_the_map_to_the_next(toy):
    case, _, relevance = toy
    chain = ["clusters", "supervoxel"]
    refined, faults = refine_map(relevance, case, chain, {"clusters": {**settings("clusters"), "overlap": 1.1}})
    assert faults == ["clusters_missed"]
    np.testing.assert_array_equal(refined, refine("supervoxel", relevance, case)[0])


def test_steps_run_from_left_to_right(toy):
    case, _, relevance = toy
    of_steps = {step: settings(step) for step in ("crf", "clusters")}
    chained, _ = refine_map(relevance, case, ["crf", "clusters"], of_steps)
    np.testing.assert_array_equal(chained, refine("clusters", refine("crf", relevance, case)[0], case)[0])


def test_the_stage_counts_what_it_could_not_refine(context, tmp_path):
    affine = np.diag([1.5, 1.5, 1.5, 1])
    case, lesion, distractor = make((48, 48, 32), (1.5, 1.5, 1.5), 12.0)
    good = corrupted(case, lesion, distractor, 12.0)
    missed = np.zeros_like(good)
    missed[24, 24, 8:10] = 1  # two voxels of plain tissue
    moved = affine.copy()
    moved[:3, 3] = (-3, 0, 0)
    maps = {
        "good": (good, affine),
        "elsewhere": (np.pad(good, [(2, 1), (0, 3), (0, 0)]), moved),
        "empty": (np.zeros_like(good), affine),
        "constant": (np.ones_like(good), affine),
        "nothing": (good, affine),
        "missed": (missed, affine),
    }
    for name, (relevance, of_map) in maps.items():
        foreground = case.foreground if name != "nothing" else np.zeros_like(case.foreground)
        nifti.write(tmp_path / f"preprocess/foreground/{name}.nii.gz", foreground.astype(np.uint8), affine)
        nifti.write(tmp_path / f"preprocess/images/{name}.nii", case.image, affine)
        nifti.write_map(tmp_path / f"maps/cam/{name}.nii.gz", relevance, of_map)
    params = {"chains": {"clusters": None}, "settings": {"clusters": settings("clusters")}}
    running = context("refinement", params, maps=tmp_path / "maps", preprocess=tmp_path / "preprocess")
    stage.run(running)
    assert running.counts == {
        "clusters_missed": 1,
        "constant_map": 1,
        "empty_foreground": 1,
        "empty_map": 1,
        "other_grid": 1,
    }
    written = {name: nifti.read(running.out / f"clusters/cam/{name}.nii.gz") for name in maps}
    for refined, grid in written.values():
        np.testing.assert_array_equal(grid, affine)
        assert refined.shape == good.shape
    np.testing.assert_allclose(written["elsewhere"][0], written["good"][0], atol=1e-3)
    np.testing.assert_allclose(written["missed"][0], missed, atol=1e-3)
    np.testing.assert_array_equal(written["constant"][0], case.foreground)
    assert not written["empty"][0].any()
    assert not written["nothing"][0].any()
