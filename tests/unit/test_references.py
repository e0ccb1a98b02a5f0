"""Supervised references: whose masks they see, what they are shown, and what they learn of it."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from weakseg import nifti
from weakseg.data.labels import LESION, NORMAL
from weakseg.errors import WeaksegError
from weakseg.evaluation import reading
from weakseg.evaluation.points import draw_validation
from weakseg.evaluation.protocol import draw_masks
from weakseg.execution import write_json
from weakseg.randomness import rng
from weakseg.references import base, examples, unet
from weakseg.references.masks import Allowed, allowed, masks_by_method

SHAPE = (20, 16, 3)
AFFINE = np.diag([2.0, 2.0, 4.0, 1.0])
VALIDATING = [f"v{number}" for number in range(6)]
ROLES = {"a": "train", "b": "train", "t": "test", "s": "shift"} | dict.fromkeys(VALIDATING, "val")
UNET = {
    "patch": [16, 16, 1],
    "channels": [4, 8],
    "residual_units": 0,
    "steps": 30,
    "checkpoint": 10,
    "batch_size": 4,
    "learning_rate": 0.03,
    "weight_decay": 0.0,
    "averaging": 0.5,
    "overlap": 0.25,
}


def lesion_of(case):
    """A box of its own for each case."""
    low = list(ROLES).index(case) % 7
    mask = np.zeros(SHAPE, np.uint8)
    mask[3 + low : 9 + low, 4:10, 1:] = 1
    return mask


@pytest.fixture
def folders(tmp_path):
    """Cases whose lesion is as bright as can be, in the second of two channels."""
    made = {role: tmp_path / role for role in ("index", "preprocess", "truth", "labels")}
    for folder in made.values():
        folder.mkdir()
    table = pd.DataFrame({"case": list(ROLES), "patient": list(ROLES), "grade": "", "source": "phantom"})
    table.assign(role_f0=list(ROLES.values())).to_csv(made["index"] / "cases.csv", index=False)
    write_json(made["preprocess"] / "run.json", {"params": {"channels": ["t1", "flair"]}})
    for case in ROLES:
        image = rng(0, "image", case).normal(size=(2, *SHAPE)).astype(np.float32)
        image[1] += 8 * lesion_of(case)
        foreground = np.ones(SHAPE, np.uint8)
        foreground[:2] = image[:, :2] = 0
        nifti.write(made["preprocess"] / f"images/{case}.nii", image, AFFINE)
        nifti.write(made["preprocess"] / f"foreground/{case}.nii.gz", foreground, AFFINE)
        nifti.write(made["truth"] / f"grid/{case}.nii.gz", lesion_of(case), AFFINE)
    slices = [(case, position, LESION if position else NORMAL) for case in ROLES for position in range(3)]
    pd.DataFrame(slices, columns=["case", "position", "label"]).to_csv(made["labels"] / "slices.csv", index=False)
    yield made
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def running(context, folders):
    def make(**methods):
        params = {"dataset": "brats", "region": "whole_tumour", "roles": ["test", "shift"], "fold": 0, "seed": 0}
        params |= {"draw": 1, "data_seed": 7, "methods": {name: UNET | changed for name, changed in methods.items()}}
        return context("references", params, **folders)

    return make


def tables(roles=ROLES):
    cases = pd.DataFrame({"case": list(roles), "patient": list(roles), "role_f0": list(roles.values())})
    labels = pd.DataFrame({"case": list(roles), "position": 0, "label": LESION})
    return cases.set_index("case", drop=False), labels


@pytest.mark.parametrize(("k", "draw"), [(1, 0), (1, 3), (5, 0), (5, 3)])
def test_k_masks_are_those_that_choose_thresholds(k, draw):
    """The masks of `val-k`'s draw of the same number, and none is left to choose a checkpoint by."""
    may = allowed({"k": k}, *tables(), 0, draw, 7)
    assert may == Allowed(sorted(draw_masks(VALIDATING, k, draw, 7)), [])
    thresholds, _ = draw_validation(*tables(), [0], [k], 20, 7)
    assert sorted(thresholds[0][f"val-{k}"][draw]) == may.train


def test_all_masks_are_those_of_training_and_validation():
    assert allowed({}, *tables(), 0, 0, 7) == Allowed(["a", "b"], VALIDATING)


def test_more_masks_than_there_are_are_left_out_with_the_reason():
    assert allowed({"k": 7}, *tables(), 0, 0, 7) == "fold 0 has 6 validation patients with a lesion"


def test_each_method_opens_its_own_masks(running):
    run = running(unet={}, unet_k1={"k": 1}, unet_k5={"k": 5}, unet_k10={"k": 10})
    base.run(run)
    opened = masks_by_method(run.out)
    assert opened == {
        "unet": sorted(["a", "b", *VALIDATING]),
        "unet_k1": draw_masks(VALIDATING, 1, 1, 7),
        "unet_k5": sorted(draw_masks(VALIDATING, 5, 1, 7)),
    }
    assert run.truth_opened == {"references": {"a", "b", *VALIDATING}}
    left_out = pd.read_csv(run.out / "left_out.csv")
    assert left_out.to_numpy().tolist() == [["brats", "unet_k10", "fold 0 has 6 validation patients with a lesion"]]
    for name in opened:
        assert sorted(path.name for path in (run.out / name).iterdir()) == ["s.nii.gz", "t.nii.gz"]
        probability, affine = nifti.read(run.out / name / "t.nii.gz")
        np.testing.assert_array_equal(affine, AFFINE)
        assert 0 <= probability.min() <= probability.max() <= 1
        assert not probability[:2].any()


def test_a_reference_of_one_mask_needs_no_other_file(running, folders):
    run = running(unet_k1={"k": 1})
    base.run(run)
    weights = (run.out / "weights/unet_k1.safetensors").read_bytes()
    (drawn,) = draw_masks(VALIDATING, 1, 1, 7)
    for path in (folders["truth"] / "grid").iterdir():
        if path.name != f"{drawn}.nii.gz":
            path.unlink()
    base.run(run)
    assert (run.out / "weights/unet_k1.safetensors").read_bytes() == weights


def test_what_is_too_small_for_all_of_them_is_an_error(running):
    with pytest.raises(WeaksegError, match=r"brats is too small for all of them \(unet_k10: fold 0 has 6 validation"):
        base.run(running(unet_k10={"k": 10}))


def test_k_masks_stop_at_no_mask(running, monkeypatch):
    """Their steps are fixed and the last weights are kept; nothing is compared with a mask meanwhile."""

    def looked(*_):
        raise AssertionError("a mask was looked at")

    monkeypatch.setattr(unet, "overlap", looked)
    run = running(unet_k1={"k": 1})
    base.run(run)
    history = pd.read_csv(run.out / "history/unet_k1.csv")
    assert history["epoch"].tolist() == history["score"].tolist() == [0, 1, 2]
    with pytest.raises(AssertionError, match="a mask was looked at"):
        base.run(running(unet={}))


def test_a_killed_training_goes_on_to_the_same_weights(running, monkeypatch, tmp_path):
    run = running(unet={})
    base.run(run)
    weights = (run.out / "weights/unet.safetensors").read_bytes()
    run.state = tmp_path / "other"
    batch = unet.Patches.batch

    def killed(patches, step):
        if step == 25:
            raise KeyboardInterrupt
        return batch(patches, step)

    monkeypatch.setattr(unet.Patches, "batch", killed)
    with pytest.raises(KeyboardInterrupt):
        base.run(run)
    steps = []
    monkeypatch.setattr(unet.Patches, "batch", lambda patches, step: [steps.append(step), batch(patches, step)][1])
    base.run(run)
    assert steps == list(range(20, 30))
    assert (run.out / "weights/unet.safetensors").read_bytes() == weights


@pytest.mark.parametrize("patch", [[16, 16, 1], [8, 16, 4]])
def test_bright_lesions_are_learnt(running, patch):
    run = running(unet={"patch": patch, "steps": 60, "checkpoint": 20})
    base.run(run)
    probability, _ = nifti.read(run.out / "unet/t.nii.gz")
    assert unet.overlap(probability > 0.5, lesion_of("t") > 0)["dice"] > 0.9


def read(running, case):
    return examples.read_example(running(unet={}), case, ["whole_tumour"])


def test_an_example_is_the_case(running):
    example = read(running, "b")
    np.testing.assert_array_equal(example.mask()[0], lesion_of("b") > 0)
    assert example.foreground == (slice(2, 20), slice(0, 16), slice(0, 3))
    assert example.lesions.shape == (1, 6, 6, 2)


def test_a_patch_is_cut_where_it_begins_and_0_beyond_the_grid(running):
    example = read(running, "a")
    image, lesions = examples.cut(example, (4, 5, 0), (10, 12, 2))
    for found, whole in ((image, example.image), (lesions, example.mask())):
        assert found.any()
        np.testing.assert_array_equal(found[:, :, :11], whole[:, 4:14, 5:16, :2])
        assert not found[:, :, 11:].any()


def test_patches_on_lesions_hold_some(running):
    example = read(running, "a")
    for number in range(50):
        start = examples.corner(example, (4, 4, 1), True, rng(0, "corner", str(number)))
        assert examples.cut(example, start, (4, 4, 1))[1].any()
        assert all(0 <= s <= n - width for s, n, width in zip(start, SHAPE, (4, 4, 1), strict=True))
    elsewhere = [examples.corner(example, (4, 4, 1), False, rng(0, "corner", str(number))) for number in range(50)]
    assert not all(examples.cut(example, start, (4, 4, 1))[1].any() for start in elsewhere)


def task_of(running, *cases):
    train = [read(running, case) for case in cases]
    return base.Task("unet", UNET, 2, train, [], 0, None, "cpu")


def test_images_are_mirrored_with_their_lesions(running):
    """Batches depend on the step alone, and the lesion stays where it is bright."""
    task = task_of(running, "a", "v3")
    batches = unet.Patches(task, 10)
    found = [batches.batch(step) for step in range(10)]
    again = list(unet.Patches(task, 10)(0))
    seen = set()
    for (image, lesion), (other, _) in zip(found, again, strict=True):
        assert image.shape == (4, 2, 16, 16)
        assert lesion.shape == (4, 1, 16, 16)
        assert torch.equal(image, other)
        if lesion.any():
            assert image[:, 1:][lesion > 0].mean() > 7
            assert image[:, 1:][lesion == 0].mean() < 1
        seen |= {part.numpy().tobytes() for part in image}
    # Of 40 patches few are alike.
    assert len(seen) > 25


class Second(nn.Module):
    """A network whose logit is the second channel."""

    def forward(self, images):
        return images[:, 1:2]


@pytest.mark.parametrize("patch", [(16, 16, 1), (8, 8, 1), (32, 32, 1), (8, 8, 8)])
def test_windows_give_back_the_volume(running, patch):
    example = read(running, "a")
    found = unet.segment(Second(), {"patch": patch, "overlap": 0.25}, "cpu", example.image)
    assert found.dtype == np.float32
    expected = 1 / (1 + np.exp(-np.asarray(example.image[1], float)))
    np.testing.assert_allclose(found[2:], expected[2:], atol=1e-5)
    assert not found[:2].any()


def test_scores_take_probabilities_as_they_are_and_each_method_with_its_budget(running):
    run = running(unet={}, unet_k1={"k": 1})
    base.run(run)
    record = {"stage": "references", "key": "01234567", "params": run.params, "masks_used": ["a", "b", *VALIDATING]}
    write_json(run.out / "run.json", record)
    run.upstream |= {"maps": [run.out], "refinements": []}
    sources = {source.method: source for source in reading.read_sources(run)}
    assert {name: len(source.masks_used) for name, source in sources.items()} == {"unet": 8, "unet_k1": 1}
    nifti.write(run.folder("truth") / "raw/t.nii.gz", lesion_of("t"), AFFINE)
    nifti.write_map(run.out / "unet/t.nii.gz", np.full(SHAPE, 0.25, np.float32), AFFINE)
    run.stage = "scores"
    truth = reading.read_truth(run, "t", "scores")
    stored, relevance = reading.read_map(run, sources["unet"], "t", truth)
    np.testing.assert_allclose(relevance[truth.foreground], 0.25, atol=1e-4)
    np.testing.assert_array_equal(relevance, stored)
