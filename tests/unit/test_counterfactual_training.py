"""Training of generators: what a step does, what is drawn and kept, and that a killed training ends the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn

from weakseg.counterfactual import training
from weakseg.counterfactual.choice import chosen
from weakseg.counterfactual.losses import wanted
from weakseg.counterfactual.networks import Discriminator, Generator
from weakseg.counterfactual.slices import Slices
from weakseg.counterfactual.training import Adversaries, Settings, changes_of, reached, train
from weakseg.counterfactual.variants import COIN, SINGLA, TABLE_3
from weakseg.maps.judge import Judge
from weakseg.networks import freeze
from weakseg.randomness import rng

SIZE = (32, 32)
SETTINGS = Settings(
    steps=6,
    generator_every=2,
    batch_size=4,
    learning_rate=1e-3,
    checkpoint=2,
    least_flips=0.9,
    augmentation=True,
    averaging=0.9,
)


class Contrast(nn.Module):
    """Its logit is the mean of what exceeds 1 in the first channel; the second does not count."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(60.0))

    def forward(self, images):
        return self.weight * (images[:, 0] - 1).relu().flatten(1).mean(1, keepdim=True)


JUDGE = Judge(freeze(Contrast(), "cpu"), 1.0)


def blobs(name, count=16):
    """Slices of noise, every other one with a bright blob in the first channel; and where it is, (N, X, Y) bool."""
    generator, (x, y) = rng(0, "blobs", name), np.indices(SIZE)
    images = generator.normal(0, 0.3, (count, 2, *SIZE))
    truth = np.zeros((count, *SIZE), bool)
    for unit in range(0, count, 2):
        i, j = generator.uniform(9, 23, 2)
        truth[unit] = (x - i) ** 2 + (y - j) ** 2 <= 16
        images[unit, 0] += 3 * truth[unit]
    inside = np.broadcast_to((x - 15.5) ** 2 + (y - 15.5) ** 2 <= 15**2, truth.shape)
    images = torch.from_numpy((images * inside[:, None]).astype(np.float32))
    with torch.no_grad():
        probability = JUDGE.margins(images).sigmoid()
    return Slices(images, torch.from_numpy(inside[:, None].copy()), probability), truth


def adversaries(variant=COIN, slices=None, width=2, rate=SETTINGS.learning_rate):
    generator = Generator(2, width, variant, 0)
    generator.low, generator.high = (slices or blobs("train")[0]).ranges()
    return Adversaries(generator, Discriminator(2, width, 0), JUDGE, variant, rate, "cpu")


def trained(state, settings=SETTINGS, variant=COIN, width=2):
    pools = blobs("train")[0], blobs("val", 8)[0]
    found = adversaries(variant, pools[0], width, settings.learning_rate)
    return found, train(found, *pools, JUDGE, settings, 0, state)


def weights(found):
    return {name: tensor.clone() for name, tensor in found.generator.state_dict().items()}


RECORDS = [
    {"flips": 0.5, "positive": 0.01, "negative": 0.01},
    {"flips": 0.9, "positive": 0.30, "negative": 0.04},
    {"flips": 1.0, "positive": 0.20, "negative": 0.06},
    {"flips": 0.95, "positive": 0.04, "negative": 0.25},
    {"flips": 0.92, "positive": 0.21, "negative": 0.05},
]


class TestChoice:
    def test_least_change_of_those_that_flip_enough(self):
        assert chosen(RECORDS, 0.9, 100) == 2
        assert chosen(RECORDS[:2], 0.9, 100) == 1
        assert chosen(RECORDS, 0.4, 100) == 0
        # Ties go to the earlier one.
        assert chosen([RECORDS[4], RECORDS[2]], 0.9, 100) == 0

    def test_most_flips_where_none_flips_enough(self):
        assert chosen(RECORDS, 1.1, 100) == 2
        assert chosen(RECORDS[:2], 0.95, 100) == 1

    def test_a_share_that_is_not_surely_smaller_counts_as_the_largest(self):
        records = [{"flips": flips, "positive": size, "negative": 0} for flips, size in ((0.76, 0.3), (0.74, 0.1))]
        assert chosen(records, 0.9, 100) == 1
        assert chosen(records, 0.9, 10_000) == 0
        # Step by step it must not drift away from the largest share.
        falling = [{"flips": 0.76 - 0.02 * step, "positive": 0.3 / (step + 1), "negative": 0} for step in range(9)]
        assert chosen(falling, 0.9, 100) == 2

    def test_once_one_flips_enough_the_others_do_not_count(self):
        records = [{"flips": flips, "positive": size, "negative": 0} for flips, size in ((0.88, 0.1), (0.9, 0.3))]
        assert chosen(records, 0.9, 100) == 1


class TestSlices:
    def test_half_of_each_batch_is_called_lesion(self):
        slices, _ = blobs("train")
        rare = Slices(slices.images[:9], slices.foreground[:9], torch.tensor([0.9] + 8 * [0.1]))
        rows = rare.draw(10, rng(0, "draw"))
        assert rare.called[rows].sum() == 5
        assert len(set(rows.tolist())) > 3
        assert torch.equal(rows, rare.draw(10, rng(0, "draw")))
        normal = replace(rare, probability=torch.full((9,), 0.1))
        assert len(normal.draw(10, rng(0, "draw"))) == 10

    def test_range_is_that_of_the_foreground(self):
        values = torch.arange(1000.0).reshape(1, 1, 20, 50).repeat(1, 2, 1, 1)
        values[:, 1] = 4.0
        foreground = values[:, :1] < 201
        low, high = Slices(values, foreground, torch.tensor([0.1])).ranges()
        np.testing.assert_allclose(low, [1, 4])
        np.testing.assert_allclose(high, [199, 5])


class TestStep:
    @pytest.mark.parametrize("name", TABLE_3)
    def test_every_weight_of_both_learns_and_the_classifier_does_not(self, name):
        slices, _ = blobs("train")
        found = adversaries(TABLE_3[name], slices)
        if TABLE_3[name].carl:
            slices = replace(slices, organ=slices.images[:, :1] > 0)
        before = {part: {k: v.clone() for k, v in getattr(found, part).named_parameters()} for part in NETWORKS}
        for _ in range(2):  # in the first step, the output's weights of a generator that adds to the image are 0
            losses = found.step(slices.of(torch.arange(8), "cpu"), generator_too=True)
        assert set(losses) == {"discriminator", "adversarial", "consistency", "reconstruction", "variation"}
        assert all(np.isfinite(value) for value in losses.values())
        for part, of_part in before.items():
            for weight, value in getattr(found, part).named_parameters():
                assert not torch.equal(value, of_part[weight]), (part, weight)
        assert JUDGE.network.weight.grad is None
        assert JUDGE.network.weight == 60

    def test_classifier_is_shown_counterfactuals_at_other_poses(self, monkeypatch):
        shown = []
        margins = Judge.margins
        monkeypatch.setattr(Judge, "margins", lambda judge, images: shown.append(images) or margins(judge, images))
        found, batch = adversaries(), blobs("train")[0].of(torch.arange(4), "cpu")
        # Before the first step of a generator, its counterfactuals are the images.
        found.step(batch, generator_too=True)
        for name in ("one", "one", "other"):
            adversaries().step(batch, generator_too=True, moves=rng(0, name))
        plain, one, again, other = (images.detach() for images in shown if len(images) == len(batch.images))
        torch.testing.assert_close(plain, batch.images)
        assert one.shape == plain.shape
        assert torch.equal(one, again)
        for first, second in ((one, plain), (one, other)):
            assert not torch.allclose(first, second, atol=0.1)

    def test_discriminator_learns_alone(self):
        found, before = adversaries(), weights(adversaries())
        batch = blobs("train")[0].of(torch.arange(4), "cpu")
        assert set(found.step(batch, generator_too=False)) == {"discriminator"}
        learnt = {name for name, _ in found.generator.named_parameters()}
        assert all(torch.equal(found.generator.state_dict()[name], before[name]) for name in learnt)

    def test_terms_of_no_change(self):
        """A generator that changes nothing reconstructs exactly, and leaves the classifier's divergence as it is."""
        found, batch = adversaries(), blobs("train")[0].of(torch.arange(8), "cpu")
        aim = wanted(batch.probability, 1)
        terms = found.terms(batch, torch.zeros_like(batch.images), aim)
        assert terms["reconstruction"].item() == pytest.approx(0, abs=1e-6)
        assert terms["variation"] == 0
        p, q = aim.probability.clamp(1e-5).double(), batch.probability.double()
        by_hand = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
        assert terms["consistency"].item() == pytest.approx(by_hand.mean().item(), rel=1e-4)

    def test_reconstruction_of_two_conditions_leaves_the_counterfactual_free(self):
        """With one, the counterfactual itself is to be near the image; with two, the image made again is."""
        batch = blobs("train")[0].of(torch.arange(8), "cpu")
        change = torch.full_like(batch.images, 0.1)
        one, two = (adversaries(v) for v in (COIN, replace(COIN, conditions=2)))
        terms = [found.terms(batch, change, wanted(batch.probability, n)) for n, found in ((1, one), (2, two))]
        difference = terms[0]["reconstruction"] - terms[1]["reconstruction"]
        assert difference.item() == pytest.approx(0.2, abs=0.01)


NETWORKS = ("generator", "discriminator")


def test_killed_training_resumes_to_the_same_weights(tmp_path, monkeypatch):
    straight, history = trained(tmp_path / "straight")
    taken, plain = [], Adversaries.step

    def killed(self, batch, *, generator_too, moves):
        taken.append(generator_too)
        if len(taken) == 4:
            raise KeyboardInterrupt
        return plain(self, batch, generator_too=generator_too, moves=moves)

    monkeypatch.setattr(Adversaries, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "killed")
    monkeypatch.setattr(Adversaries, "step", plain)
    resumed, again = trained(tmp_path / "killed")
    assert again == history
    assert [record["step"] for record in history] == [2, 4, 6]
    for name, tensor in weights(straight).items():
        assert tensor.numpy().tobytes() == weights(resumed)[name].numpy().tobytes(), name
    assert taken == [False, True, False, True]


def test_kept_weights_are_those_of_the_chosen_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "chosen", lambda *_: 0)
    first, _ = trained(tmp_path / "first")
    monkeypatch.undo()
    short, _ = trained(tmp_path / "short", replace(SETTINGS, steps=2))
    assert all(torch.equal(tensor, weights(short)[name]) for name, tensor in weights(first).items())
    assert not first.generator.training
    assert not any(weight.requires_grad for weight in first.generator.parameters())


@pytest.mark.parametrize("averaging", [0, 0.75])
def test_kept_weights_are_a_moving_average(averaging, tmp_path, monkeypatch):
    after, plain = [], Adversaries.step

    def noted(self, batch, **how):
        losses = plain(self, batch, **how)
        after.append({name: weight.detach().clone() for name, weight in self.generator.named_parameters()})
        return losses

    monkeypatch.setattr(Adversaries, "step", noted)
    found, _ = trained(tmp_path, replace(SETTINGS, steps=2, generator_every=1, averaging=averaging))
    for name, weight in found.generator.named_parameters():
        torch.testing.assert_close(weight.data, averaging * after[0][name] + (1 - averaging) * after[1][name])


def test_batches_depend_on_the_seed_and_the_step(tmp_path):
    torch.manual_seed(5)
    one, _ = trained(tmp_path / "one", replace(SETTINGS, steps=2))
    torch.manual_seed(6)
    same, _ = trained(tmp_path / "same", replace(SETTINGS, steps=2))
    assert all(torch.equal(tensor, weights(same)[name]) for name, tensor in weights(one).items())


def test_reached_by_hand():
    slices = Slices(torch.zeros(4, 1, 2, 2), torch.ones(4, 1, 2, 2) > 0, torch.tensor([0.9, 0.8, 0.7, 0.2]))
    size = torch.tensor([0.1, 0.2, 0.6, 0.05])
    before, after = torch.tensor([1.0, 2.0, -1.0, 3.0]), torch.tensor([-1.0, 0.0, -1.0, -1.0])
    found = reached(slices, size, before, after)
    # The third slice is not called lesion by the judge, the fourth not by the classifier.
    assert found == pytest.approx({"positive": 0.3, "negative": 0.05, "flips": 0.5})
    assert reached(slices, size, before - 9, after)["flips"] == 0


def test_changes_are_means_over_channels_and_foreground(tmp_path):
    found, _ = trained(tmp_path)
    slices, _ = blobs("val", 4)
    (margins,), size = changes_of(found.generator, slices, "cpu", [JUDGE])
    with torch.no_grad():
        change = found.generator(slices.images, torch.zeros(4, dtype=torch.int64), slices.foreground)
        after = JUDGE.margins(found.generator.changed(slices.images, change))
    torch.testing.assert_close(margins, after)
    inside = slices.foreground[0, 0]
    torch.testing.assert_close(size[0], change[0].abs().mean(0)[inside].mean())


def test_coin_removes_the_blob_and_leaves_the_rest(tmp_path):
    """Known answer: the classifier reads the contrast of a blob."""
    settings = Settings(
        steps=80,
        generator_every=1,
        batch_size=8,
        learning_rate=4e-3,
        checkpoint=40,
        least_flips=0.9,
        augmentation=False,
        averaging=0.9,
    )
    found, history = trained(tmp_path, settings, width=4)
    slices, truth = blobs("test")
    with torch.no_grad():
        change = found.generator(slices.images, torch.zeros(16, dtype=torch.int64), slices.foreground)
    maps, inside = change.abs().mean(1), slices.foreground[:, 0].numpy()
    for unit in range(0, 16, 2):
        assert average_precision_score(truth[unit][inside[unit]], maps[unit].numpy()[inside[unit]]) >= 0.95
    assert maps[1::2].mean() < 0.01
    assert history[chosen(history, 0.9, 8)]["flips"] >= 0.9


def test_singla_makes_images_anew(tmp_path):
    _, history = trained(tmp_path, replace(SETTINGS, steps=20, generator_every=1, checkpoint=5), SINGLA)
    assert history[-1]["reconstruction"] < history[0]["reconstruction"]
