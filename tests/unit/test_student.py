"""A student comes out cleaner than the pseudo-masks that it has seen, and is the same however it was trained."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tests.refinements_factory import dice

from weakseg.config_refinements import StudentConfig
from weakseg.data.labels import LESION, NORMAL
from weakseg.randomness import rng
from weakseg.refinements import student
from weakseg.refinements.case import Case
from weakseg.refinements.chains import refine_map
from weakseg.refinements.student import Lessons, Student, chosen_slices, fit, noisy_loss, probabilities

SIZE = 48
PARAMS = StudentConfig(steps=100).model_dump(exclude={"methods"})


def disc(generator, least, most):
    radius = generator.uniform(least, most)
    centre = generator.uniform(radius + 2, SIZE - radius - 2, 2)
    x, y = np.indices((SIZE, SIZE))
    return (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2


def slices(number, purpose):
    """Slices of which every fourth shows no lesion, with a dark structure each; their truth; and noisy masks of it."""
    images, truths, masks = [], [], []
    for place in range(number):
        generator = rng(0, purpose, str(place))
        lesion = disc(generator, 5, 9) & (place % 4 > 0)
        image = generator.normal(0, 0.3, lesion.shape) + lesion - 0.7 * disc(generator, 3, 6)
        shifted = np.roll(lesion, generator.integers(-2, 3, 2), (0, 1)) & (generator.random() >= 0.2)
        if lesion.any() and generator.random() < 0.2:
            shifted = shifted | disc(generator, 4, 6)
        images.append(image)
        truths.append(lesion)
        masks.append(shifted)
    truth = np.stack(truths)
    everywhere = np.ones_like(truth)
    image = np.stack(images, dtype=np.float32)[:, None]
    return Lessons(image, everywhere, np.stack(masks, dtype=np.float32), truth.any((1, 2))), truth


@pytest.fixture(scope="module")
def learnt(tmp_path_factory):
    lessons, _ = slices(120, "train")
    return lessons, fit(lessons, PARAMS, 0, tmp_path_factory.mktemp("state"), "cpu")


def mean_dice(masks, truth):
    return np.mean([dice(mask, of) for mask, of in zip(masks, truth, strict=True) if of.any()])


def test_a_student_of_structured_noise_gains_on_held_out_slices(learnt):
    _, network = learnt
    held_out, truth = slices(60, "test")
    before = mean_dice(held_out.masks > 0.5, truth)
    assert 0.55 < before < 0.8
    found = probabilities(network, held_out.images, "cpu")
    assert mean_dice(found > 0.5, truth) >= before + 0.05
    # It says nothing of slices without a lesion, which it has seen with empty masks.
    assert (found[~truth.any((1, 2))] > 0.5).mean() < 0.005


def test_training_goes_on_where_it_was_stopped(learnt, tmp_path):
    lessons, whole = learnt
    calls = 0

    class Stopped(Exception):
        pass

    def interrupted(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls > 30:
            raise Stopped
        return real(*args, **kwargs)

    real = student._batch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(student, "_batch", interrupted)
        with pytest.raises(Stopped):
            fit(lessons, PARAMS, 0, tmp_path, "cpu")
    resumed = fit(lessons, PARAMS, 0, tmp_path, "cpu").state_dict()
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


def test_a_second_round_learns_from_the_first(learnt, tmp_path, monkeypatch):
    lessons, _ = learnt
    taught = []

    def remembered(student, lessons, *args):
        taught.append(lessons.masks)
        real(student, lessons, *args)

    real = student._train
    monkeypatch.setattr(student, "_train", remembered)
    fit(lessons, {**PARAMS, "steps": 25, "rounds": 2}, 0, tmp_path, "cpu")
    monkeypatch.undo()
    first = fit(lessons, {**PARAMS, "steps": 25}, 0, tmp_path / "again", "cpu")
    found = probabilities(first, lessons.images, "cpu") > 0.5
    np.testing.assert_array_equal(taught[0], lessons.masks)
    np.testing.assert_array_equal(taught[1], found & lessons.lesion[:, None, None])
    assert found.any()


def test_the_loss_is_that_of_its_formula():
    logits = torch.tensor([[[[-1.0, 0.5, 2.0]]]])
    masks, inside = torch.tensor([[[[0.0, 1.0, 0.4]]]]), torch.tensor([[[[1.0, 1.0, 0.0]]]])
    p = logits.sigmoid()[0, 0, 0, :2].numpy()
    m = np.array([0.0, 1.0])
    right = m * p + (1 - m) * (1 - p)
    expected = np.mean((1 - right**0.7) / 0.7) + (np.abs(p - m) ** 1.5).sum() / ((p**2).sum() + 1 + 1)
    loss = noisy_loss(logits, torch.cat([masks, inside], 1), 0.7, 1.5)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_gives_up_on_single_voxels():
    """Its slope at a voxel that is surely wrong is a small part of that of cross entropy."""
    logits = torch.full((1, 1, 8, 8), -6.0, requires_grad=True)
    targets = torch.stack([torch.zeros(8, 8), torch.ones(8, 8)])[None]
    targets[0, 0, 3, 3] = 1
    noisy_loss(logits, targets, 0.7, 1.5).backward()
    robust = logits.grad[0, 0, 3, 3].abs().item()
    plain = torch.zeros(1, 1, 8, 8).fill_(-6).requires_grad_()
    torch.nn.functional.binary_cross_entropy_with_logits(plain, targets[:, :1]).backward()
    assert 0 < robust < plain.grad[0, 0, 3, 3].abs().item() / 2


def test_the_loss_has_a_slope_where_the_student_is_sure():
    logits = torch.tensor([[[[90.0, -90.0]]]], requires_grad=True)
    noisy_loss(logits, torch.tensor([[[[0.0, 1.0]], [[1.0, 1.0]]]]), 0.7, 1.0).backward()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("shape", [(48, 48), (20, 37), (5, 9), (70, 33)])
def test_any_size_of_slice(shape):
    student = Student(2, 2, 0).eval()
    with torch.no_grad():
        assert student(torch.zeros(3, 2, *shape)).shape == (3, 1, *shape)


def test_half_of_the_chosen_slices_show_a_lesion_where_there_are_enough():
    def chosen(lesion, normal, most):
        rows = pd.DataFrame({"case": "a", "position": range(lesion + normal), "label": LESION})
        rows.loc[lesion:, "label"] = NORMAL
        picked = chosen_slices(rows, most, 0)
        assert picked["position"].is_monotonic_increasing
        assert not picked["position"].duplicated().any()
        return tuple((picked["label"] == kind).sum() for kind in (LESION, NORMAL))

    assert chosen(10, 20, 8) == (4, 4)
    assert chosen(2, 20, 8) == (2, 6)
    assert chosen(20, 0, 8) == (8, 0)
    assert chosen(3, 2, 8) == (3, 2)


def test_a_batch_has_as_many_slices_with_a_lesion_as_without():
    lessons, _ = slices(8, "train")
    drawn = lessons.draw(10, rng(0, "draw"))
    assert lessons.lesion[drawn].sum() == 5
    only = replace(lessons, lesion=np.ones(8, bool))
    assert len(only.draw(6, rng(0, "draw"))) == 6


def test_only_slices_that_the_classifier_calls_lesion_are_refined(learnt):
    _, network = learnt
    held_out, truth = slices(6, "test")
    image = np.moveaxis(held_out.images, 0, 3)
    foreground = np.ones(image.shape[1:], bool)
    foreground[:4] = False
    called = np.array([False, True, True, False, True, False])
    relevance = np.where(foreground, 0.5 + 0.1 * np.indices(foreground.shape)[0] / SIZE, 0).astype(np.float32)
    settings = {"student": {"student": network, "device": "cpu"}}
    case = Case(image, foreground, (1.0, 1.0, 1.0), called=called)
    refined, faults = refine_map(relevance, case, ["student"], settings)
    assert not faults
    assert not refined[..., ~called].any()
    assert not refined[:4].any()
    assert refined[..., 1].max() > 0.5
    ungated, _ = refine_map(relevance, replace(case, called=None), ["student"], settings)
    np.testing.assert_array_equal(ungated[..., called], refined[..., called])
    assert ungated[..., ~called].any()
    assert truth.any()
