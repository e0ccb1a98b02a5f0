import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import nn

from weakseg.randomness import rng
from weakseg.training import Schedule, augment, augment_volumes, train


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 1))


class Data:
    """Two batches an epoch; remembers which epochs were asked for."""

    def __init__(self):
        self.epochs = []

    def __call__(self, epoch):
        self.epochs.append(epoch)
        for step in range(2):
            images = torch.from_numpy(rng(0, "images", f"{epoch}/{step}").normal(size=(8, 1, 6, 6)).astype(np.float32))
            yield images, images.mean(dim=(1, 2, 3))


class Evaluation:
    """Gives scripted scores and keeps the weights that it was shown; raises where the script says None."""

    def __init__(self, *scores):
        self.scores, self.seen = list(scores), []

    def __call__(self, model):
        assert not model.training
        assert torch.is_inference_mode_enabled()
        score = self.scores[len(self.seen)]
        if score is None:
            raise KeyboardInterrupt
        self.seen.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        return score


def fit(model, data, evaluate, state, epochs=4, patience=10, averaging=0.9):
    schedule = Schedule(epochs, patience, 0.01, weight_decay=0.01, averaging=averaging, steps_per_epoch=2)
    return train(model, data, lambda y, t: ((y[:, 0] - t) ** 2).mean(), evaluate, schedule, state, "cpu")


def assert_equal_weights(have, want):
    assert have.keys() == want.keys()
    for name, tensor in want.items():
        assert torch.equal(have[name], tensor), name


def test_killed_run_resumes_to_the_same_bytes(tmp_path):
    straight, data = network(), Data()
    history = fit(straight, data, Evaluation(0.1, 0.2, 0.3, 0.4), tmp_path / "straight")
    assert data.epochs == [0, 1, 2, 3]

    with pytest.raises(KeyboardInterrupt):
        fit(network(), Data(), Evaluation(0.1, 0.2, None), tmp_path / "killed")
    resumed, data = network(seed=1), Data()
    assert fit(resumed, data, Evaluation(0.3, 0.4), tmp_path / "killed") == history
    assert data.epochs == [2, 3]
    assert_equal_weights(resumed.state_dict(), straight.state_dict())


def test_best_epoch_from_before_the_kill_is_kept(tmp_path):
    before = Evaluation(0.1, 0.9, None)
    with pytest.raises(KeyboardInterrupt):
        fit(network(), Data(), before, tmp_path)
    resumed = network(seed=1)
    fit(resumed, Data(), Evaluation(0.3, 0.4), tmp_path)
    assert_equal_weights(resumed.state_dict(), before.seen[1])


def test_finished_run_trains_no_more(tmp_path):
    done = network()
    history = fit(done, Data(), Evaluation(0.4, 0.3, 0.2, 0.1), tmp_path)
    again, data = network(seed=1), Data()
    assert fit(again, data, Evaluation(), tmp_path) == history
    assert data.epochs == []
    assert_equal_weights(again.state_dict(), done.state_dict())


@pytest.mark.parametrize(
    ("scores", "best"),
    [((0.5, 0.7, 0.6, 0.7), 1), ((0.5, 0.4, 0.3), 0), ((0.1, 0.5, 0.4, 0.6, 0.5, 0.5), 3)],
    ids=["tie goes to the earlier", "never better", "better just in time"],
)
def test_stops_after_patience_with_the_best_weights(tmp_path, scores, best):
    model, data, evaluate = network(), Data(), Evaluation(*scores)
    history = fit(model, data, evaluate, tmp_path, epochs=9, patience=2)
    assert [record["score"] for record in history] == list(scores)
    assert [record["epoch"] for record in history] == list(range(len(scores))) == data.epochs
    assert_equal_weights(model.state_dict(), evaluate.seen[best])
    assert not torch.equal(evaluate.seen[best]["0.weight"], evaluate.seen[-1]["0.weight"])


def test_weights_are_averaged_over_steps(tmp_path):
    """Beside the same training without it: the first step's weights, and then a tenth of each next one's."""

    def one_step(epoch):
        return [next(Data()(epoch))]

    plain, averaged = Evaluation(0.1, 0.2, 0.3), Evaluation(0.1, 0.2, 0.3)
    fit(network(), one_step, plain, tmp_path / "plain", epochs=3, averaging=0)
    model = network()
    fit(model, one_step, averaged, tmp_path / "averaged", epochs=3, averaging=0.9)
    for name in ("0.weight", "1.running_mean", "4.bias"):
        first, second, third = (seen[name] for seen in plain.seen)
        expected = 0.9 * (0.9 * first + 0.1 * second) + 0.1 * third
        torch.testing.assert_close(averaged.seen[-1][name], expected)
        assert torch.equal(model.state_dict()[name], averaged.seen[-1][name])
        assert not torch.equal(expected, third)


def test_loss_falls_and_is_the_mean_over_steps(tmp_path):
    history = fit(network(), Data(), Evaluation(*[0.0] * 30), tmp_path, epochs=30, patience=30)
    assert history[-1]["loss"] < 0.5 * history[0]["loss"]

    def inputs(_epoch):
        return [(torch.zeros(1, 1), torch.tensor([value])) for value in (1.0, 3.0)]

    (record,) = fit(nn.Linear(1, 1, bias=False), inputs, Evaluation(0.0), tmp_path / "mean", epochs=1)
    assert record == {"epoch": 0, "loss": pytest.approx((1 + 9) / 2), "score": 0.0}


NEUTRAL = [0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.0, 0.9, 0.5, 0.5, 0.5, 0.5]
"""Flip along X, angle, scale, shift along Y and X, seed and strength of noise, flip along Y, two gains and offsets."""
FLIP_X, ANGLE, SCALE, SHIFT_Y, SHIFT_X, _, NOISE, FLIP_Y, GAIN, _, OFFSET, _ = range(12)


def draws(number=1, **changes):
    rows = np.tile(NEUTRAL, (number, 1))
    for name, value in changes.items():
        rows[:, globals()[name]] = value
    return rows


def slices(number=1):
    """(N, 2, 40, 40): different noise in an off-centre box, 0 around it."""
    images = torch.zeros(number, 2, 40, 40)
    images[:, :, 10:26, 14:34] = 3 + torch.from_numpy(rng(0, "slices").random((number, 2, 16, 20), dtype=np.float32))
    return images


def close(have, want):
    torch.testing.assert_close(have, want, rtol=0, atol=1e-4)


def test_neutral_draws_change_nothing():
    close(augment(slices(3), draws(3)), slices(3))


def test_flips_mirror_their_axis():
    close(augment(slices(), draws(FLIP_X=0.1)), slices().flip(2))
    close(augment(slices(), draws(FLIP_Y=0.1)), slices().flip(3))
    close(augment(slices(), draws(FLIP_X=0.1, FLIP_Y=0.1)), slices().flip(2, 3))


def test_each_image_has_draws_of_its_own():
    rows = np.concatenate([draws(), draws(FLIP_X=0.1)])
    images = slices(2)
    close(augment(images, rows), torch.stack([images[0], images[1].flip(1)]))


def test_shift_is_at_most_a_twentieth_of_the_field_of_view():
    close(augment(slices(), draws(SHIFT_Y=1.0)), slices().roll(-2, 3))
    close(augment(slices(), draws(SHIFT_Y=0.0)), slices().roll(2, 3))
    close(augment(slices(), draws(SHIFT_X=1.0)), slices().roll(-2, 2))


@pytest.mark.parametrize(("draw", "factor"), [(0.0, 0.75), (1.0, 1.25)])
def test_scale(draw, factor):
    box = (slices() > 0).float()
    assert augment(box, draws(SCALE=draw)).sum() / box.sum() == pytest.approx(factor**-2, rel=0.02)


@pytest.mark.parametrize(("draw", "degrees"), [(0.0, 28.65), (1.0, 28.65), (0.75, 14.32)])
def test_rotation(draw, degrees):
    bars = torch.zeros(1, 2, 41, 41)
    bars[:, 0, 5:36, 19:22] = 1
    bars[:, 1, 19:22, 5:36] = 1
    along_x, along_y = augment(bars, draws(ANGLE=draw))[0].numpy()
    assert abs(axis_degrees(along_x)) == pytest.approx(degrees, abs=0.3)
    assert (axis_degrees(along_y) - axis_degrees(along_x)) % 180 == pytest.approx(90, abs=0.1)
    np.testing.assert_allclose(ndimage.center_of_mass(along_x), (20, 20), atol=0.05)


def axis_degrees(bar):
    """Angle between the X axis and the long axis of a bar."""
    x, y = np.indices(bar.shape) - 20
    return np.degrees(0.5 * np.arctan2(2 * (bar * x * y).sum(), (bar * (x**2 - y**2)).sum()))


def test_contrast_of_each_channel():
    images = slices()
    changed = augment(images, draws(GAIN=1.0, OFFSET=0.0))
    inside = images[:, 0] > 0
    close(changed[:, 0], torch.where(inside, images[:, 0] * 1.15 - 0.15, 0))
    close(changed[:, 1], images[:, 1])


def test_noise_repeats_and_has_its_strength():
    images = slices()
    noisy = augment(images, draws(NOISE=1.0))
    assert torch.equal(augment(images, draws(NOISE=1.0)), noisy)
    assert (noisy - images)[images > 0].std().item() == pytest.approx(0.1, rel=0.1)


def test_background_stays_zero():
    rows = rng(0, "draws").random((6, 12))
    rows[:, ANGLE], rows[:, SCALE], rows[:, SHIFT_Y], rows[:, SHIFT_X] = 0.5, 0.5, 0.5, 0.5
    rows[:, FLIP_X], rows[:, FLIP_Y], rows[:, NOISE] = 0.9, 0.9, 1
    images = slices(6)
    images[:, :, 30:] = 0
    changed = augment(images, rows)
    assert (changed[images == 0] == 0).all()
    assert (changed[images != 0] != 0).all()


NEUTRAL_3D = [0.9, *[0.5] * 9, 0.5, 0.0, *[0.5] * 4]
"""Flip, angles, scales and shifts along X, Y and Z, seed and strength of noise, two gains and offsets."""


def volume_draws(number=1, **changes):
    rows = np.tile(NEUTRAL_3D, (number, 1))
    places = {"flip": 0, "angle": 1, "scale": 4, "shift": 7, "seed": 10, "noise": 11, "gain": 12, "offset": 14}
    for name, value in changes.items():
        place = places[name.rstrip("_xyz")] + "xyz".find(name[-1]) * ("_" in name)
        rows[:, place] = value
    return rows


def volumes(number=1):
    """(N, 2, 20, 40, 30): different noise in an off-centre box, 0 around it."""
    images = torch.zeros(number, 2, 20, 40, 30)
    inside = rng(0, "volumes").random((number, 2, 9, 20, 16), dtype=np.float32)
    images[:, :, 5:14, 8:28, 10:26] = 3 + torch.from_numpy(inside)
    return images


def test_neutral_draws_change_no_volume():
    close(augment_volumes(volumes(2), volume_draws(2)), volumes(2))


def test_volumes_are_flipped_left_right_alone():
    close(augment_volumes(volumes(), volume_draws(flip=0.1)), volumes().flip(2))


@pytest.mark.parametrize(("axis", "voxels"), [("x", 1), ("y", 2), ("z", 1.5)])
def test_volumes_are_shifted_by_a_twentieth_of_the_field_of_view(axis, voxels):
    images = ndimage.gaussian_filter(volumes().numpy(), (0, 0, 2, 2, 2))
    moved = augment_volumes(torch.from_numpy(images), volume_draws(**{f"shift_{axis}": 1.0}))
    shift = np.zeros(5)
    shift[2 + "xyz".index(axis)] = -voxels
    np.testing.assert_allclose(moved.numpy(), ndimage.shift(images, shift, order=1, mode="grid-constant"), atol=1e-3)


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_volumes_are_scaled_along_an_axis(axis):
    box = (volumes() > 0).float()
    larger = augment_volumes(box, volume_draws(**{f"scale_{axis}": 0.0}))
    assert larger.sum() / box.sum() == pytest.approx(1 / 0.75, rel=0.03)


@pytest.mark.parametrize(("axis", "plane"), [("x", (3, 4)), ("y", (2, 4)), ("z", (2, 3))])
def test_volumes_are_turned_about_an_axis(axis, plane):
    ball = np.zeros((1, 2, 20, 40, 30), np.float32)
    ball[0, :, 12:16, 24:30, 17:22] = 1
    images = torch.from_numpy(ndimage.gaussian_filter(ball, (0, 0, 1, 1, 1)))
    moved = augment_volumes(images, volume_draws(**{f"angle_{axis}": 1.0})).numpy()[0, 0]
    middle = np.array([9.5, 19.5, 14.5])
    before = np.array(ndimage.center_of_mass(images.numpy()[0, 0])) - middle
    after = np.array(ndimage.center_of_mass(moved)) - middle
    assert np.linalg.norm(after) == pytest.approx(np.linalg.norm(before), rel=0.01)
    first, second = (side - 2 for side in plane)
    turned = np.degrees(np.arctan2(after[second], after[first]) - np.arctan2(before[second], before[first]))
    assert abs(turned) == pytest.approx(28.65, abs=0.5)
    assert after["xyz".index(axis)] == pytest.approx(before["xyz".index(axis)], abs=0.02)


def test_contrast_and_noise_of_volumes():
    images, inside = volumes(), volumes() > 0
    changed = augment_volumes(images, volume_draws(gain=1.0, offset=0.0))
    close(changed[:, 0], torch.where(inside[:, 0], images[:, 0] * 1.3 - 0.3, 0))
    close(changed[:, 1], images[:, 1])
    noisy = augment_volumes(images, volume_draws(noise=1.0))
    assert torch.equal(augment_volumes(images, volume_draws(noise=1.0)), noisy)
    assert (noisy - images)[inside].std().item() == pytest.approx(0.2, rel=0.05)
    close(noisy[~inside], images[~inside])


def test_each_volume_has_draws_of_its_own():
    rows = np.concatenate([volume_draws(), volume_draws(flip=0.1)])
    images = volumes(2)
    close(augment_volumes(images, rows), torch.stack([images[0], images[1].flip(1)]))
