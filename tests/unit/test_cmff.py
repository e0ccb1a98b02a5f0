"""Networks and losses of cross-modality learning."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from weakseg.networks import initial_weights
from weakseg.references.base import Task
from weakseg.references.branches import CMFF, Branch, Discriminator, Single, initialise, mask_guided, transfer
from weakseg.references.cmff import NETWORKS, SOFT_DICE, Learner, build, fit, one_hot
from weakseg.references.examples import Example
from weakseg.references.steps import learn


def parameters(network):
    return sum(tensor.numel() for tensor in network.parameters())


def patch(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_sizes_are_those_of_the_paper():
    """4.12, 0.70 and 8.29 million, counted layer by layer by hand."""
    assert parameters(Branch(2, 2, 16, 0.2)) == 4_121_682
    assert parameters(Discriminator(2, 16)) == 698_609
    assert parameters(CMFF(16, "mask")) == 8_285_212


def test_branch_hands_on_full_and_half_size():
    full, half, output = Branch(2, 4, 4, 0.01)(patch(1, 2, 32, 16, 48))
    assert full.shape == (1, 4, 32, 16, 48)
    assert half.shape == (1, 4, 16, 8, 24)
    assert output.shape == (1, 4, 32, 16, 48)
    assert output.min() < 0 < output.max()


@pytest.mark.parametrize(("edge", "judged"), [(128, 7), (32, 1)])
def test_discriminator_judges_patches(edge, judged):
    assert Discriminator(2, 1)(torch.zeros(1, 2, edge, edge, edge)).shape == (1, 1, judged, judged, judged)


@pytest.mark.parametrize("guidance", ["mask", "none", "attention"])
def test_fused_and_single_outputs_are_probabilities(guidance):
    outputs = CMFF(2, guidance)(patch(2, 4, 16, 16, 32))
    assert [output.shape for output in outputs] == [(2, 4, 16, 16, 32)] * 3
    for output in outputs:
        torch.testing.assert_close(output.sum(1), torch.ones(2, 16, 16, 32))


def test_guidance_multiplies_features_class_by_class():
    """Two features, three classes, one voxel: by hand."""
    features = torch.tensor([2.0, -3.0]).reshape(1, 2, 1, 1, 1)
    seen = torch.tensor([0.5, 2.0, 0.0]).reshape(1, 3, 1, 1, 1)
    assert mask_guided(features, seen).flatten().tolist() == [1.0, -1.5, 4.0, -6.0, 0.0, 0.0]


def test_guidance_sees_the_sum_of_both_branches():
    """Where the last convolution reads one feature of one class, the logit is that feature times both probabilities."""
    network = CMFF(2, "mask")
    images = patch(1, 4, 16, 16, 32)
    seen = []
    network.fuse_both.register_forward_hook(lambda _, __, output: seen.append(output.detach().clone()))
    with torch.no_grad():
        network.last.weight.zero_()
        network.last.bias.zero_()
        network.last.weight[0, 3 * 2 + 1] = 1  # class 3, feature 1
        fused, first, second = network(images)
    wanted = torch.zeros(1, 4, 16, 16, 32)
    wanted[:, 0] = seen[0][:, 1] * (first + second)[:, 3]
    torch.testing.assert_close(fused, wanted.softmax(1))


def test_attention_scales_every_feature_alike():
    network = CMFF(2, "attention")
    images = patch(1, 4, 16, 16, 32)
    with torch.no_grad():
        network.attention.weight.zero_()
        network.attention.bias.fill_(-100)
        silenced = network(images)[0]
    bias = network.last.bias.detach().softmax(0).reshape(1, 4, 1, 1, 1)
    torch.testing.assert_close(silenced, bias.expand_as(silenced))


def test_pairs_see_their_own_channels():
    network = CMFF(2, "none")
    images = patch(1, 4, 16, 16, 32)
    changed = images.clone()
    changed[:, 3] += patch(1, 16, 16, 32, seed=1)
    before, after = network(images), network(changed)
    torch.testing.assert_close(before[1], after[1])
    assert not torch.allclose(before[2], after[2])
    single = Single(NETWORKS["first_pair"], 2)
    torch.testing.assert_close(single(images)[0], single(changed)[0])


def test_transfer_copies_all_but_the_last_convolution():
    generators = [Branch(2, 2, 2, 0.2), Branch(2, 2, 2, 0.2)]
    network = build("cmff", "mask", "cmft", 2, 0, generators)
    plain = build("cmff", "mask", "default", 2, 0, [])
    for pair, generator in enumerate(generators):
        given, own = generator.state_dict(), network.pairs[pair].state_dict()
        for name, tensor in own.items():
            if name.startswith("last."):
                torch.testing.assert_close(tensor, plain.pairs[pair].state_dict()[name], rtol=0, atol=0)
            else:
                torch.testing.assert_close(tensor, given[name], rtol=0, atol=0)
        assert transfer(generator, network.pairs[pair]) == [name for name in given if not name.startswith("last.")]
    torch.testing.assert_close(network.last.weight, plain.last.weight, rtol=0, atol=0)


def test_single_pair_takes_the_generator_of_its_pair():
    generators = [Branch(2, 2, 2, 0.2), Branch(2, 2, 2, 0.2)]
    network = build("second_pair", "none", "cmft", 2, 0, generators)
    torch.testing.assert_close(network.branch.encoder[0][0][0].weight, generators[1].encoder[0][0][0].weight)


@pytest.mark.parametrize(("initial", "deviation"), [("kaiming", (2 / (16 * 27)) ** 0.5), ("normal", 1.0)])
def test_initial_weights_have_their_spread(initial, deviation):
    with initial_weights(0):
        network = Branch(2, 4, 16, 0.01)
        initialise(network, initial)
    convolution = network.encoder[0][1][0]
    assert convolution.weight.std().item() == pytest.approx(deviation, rel=0.05)
    assert not convolution.bias.any()


def test_build_depends_on_the_seed_alone():
    first, again, other = (build("cmff", "mask", "kaiming", 2, seed, []).last.weight for seed in (0, 0, 1))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert not torch.allclose(first, other)


def test_soft_dice_by_hand():
    """One voxel of each foreground class, probability 1, 0.5 and 0 on it: 1 - (1 + 1/1.25 + 0) / 3."""
    classes = torch.tensor([0, 1, 2, 3]).reshape(1, 1, 1, 4)
    probabilities = torch.zeros(1, 4, 1, 1, 4)
    probabilities[0, 1, 0, 0, 1] = 1
    probabilities[0, 2, 0, 0, 2] = 0.5
    assert SOFT_DICE(probabilities, one_hot(classes)).item() == pytest.approx(1 - (1 + 0.8) / 3, abs=1e-4)


def test_soft_dice_punishes_a_class_that_another_patch_of_the_batch_has():
    """Class 1 on the only voxel of one patch, found; in the other it is not there and half predicted."""
    classes = torch.tensor([1, 0]).reshape(2, 1, 1, 1)
    probabilities = torch.zeros(2, 4, 1, 1, 1)
    probabilities[0, 1], probabilities[1, 1] = 1, 0.5
    # 2 x 1 over 1 + 1/4 + 1; the two other classes are nowhere, and 1.
    assert SOFT_DICE(probabilities, one_hot(classes)).item() == pytest.approx(1 - (2 / 2.25 + 2) / 3, abs=1e-4)


class Constant(nn.Module):
    """Three outputs whose logits are the same everywhere."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(3, 4))

    def forward(self, images):
        shape = (len(images), 4, *images.shape[2:])
        return [row.softmax(0).reshape(1, 4, 1, 1, 1).expand(shape) for row in self.logits]


def test_step_takes_the_mean_of_three_losses():
    """Probabilities of 1/4 and half of the voxels of class 1: Dice of it 2 * 2/4 / (4/16 + 2), of the others 0."""
    learner = Learner(Constant(), 0.1, 0, "cpu")
    classes = torch.tensor([0, 0, 1, 1]).reshape(1, 1, 1, 4)
    expected = (2 * 2 / 4) / (4 / 16 + 2) / 3
    before = learner.network.logits.detach().clone()
    losses = learner.step(torch.zeros(1, 4, 1, 1, 4), classes)
    assert losses["dice"] == pytest.approx(expected, abs=1e-4)
    assert losses["loss"] == pytest.approx(1 - expected, abs=1e-4)
    moved = learner.network.logits.detach() - before
    assert (moved[:, 1] > 0).all(), "all three outputs learn"


def learnt(state, steps, stop=None):
    """Weights after training on random patches; killed before step ``stop``."""
    learner = Learner(build("cmff", "mask", "default", 2, 0, []), 1e-2, 1e-5, "cpu")

    def step(number):
        if number == stop:
            raise KeyboardInterrupt
        classes = torch.from_numpy(np.random.default_rng(number).integers(0, 4, (1, 16, 16, 32)))
        return learner.step(patch(1, 4, 16, 16, 32, seed=number), classes)

    history = learn(learner.parts, step, steps, 2, state, "cpu")
    return learner.network.state_dict(), history


def test_training_resumes_to_the_same_weights(tmp_path):
    whole, history = learnt(tmp_path / "whole", 5)
    assert [record["step"] for record in history] == [2, 4, 5]
    with pytest.raises(KeyboardInterrupt):
        learnt(tmp_path / "killed", 5, stop=3)
    resumed, again = learnt(tmp_path / "killed", 5)
    assert again == history
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=0, atol=0)


def task(state, region="tumour_core", channels=("flair", "t1", "t1ce", "t2")):
    """Two cases of noise with nested boxes as regions."""
    examples = []
    for number in range(2):
        image = np.random.default_rng(number).standard_normal((4, 20, 24, 20)).astype(np.float32)
        nested = np.zeros((3, 20, 24, 20), bool)
        for inner, margin in enumerate((4, 6, 8)):
            nested[inner, margin:-margin, margin:-margin, margin:-margin] = True
        around = (slice(4, 16), slice(4, 20), slice(4, 16))
        box = (slice(0, 20), slice(0, 24), slice(0, 20))
        examples.append(Example(str(number), image, box, nested[:, *around], around))
    training = {"steps": 3, "batch_size": 2, "learning_rate": 0.01}
    params = {
        **{"width": 2, "patch": 32, "checkpoint": 1, "decay": True, "weight_decay": 1e-5, **training},
        **{"transition": {**training, "cycle": 10}, "channels": channels, "region": region},
    }
    return Task("cmff", params, 4, examples, [], 0, state, "cpu")


def test_reference_gives_the_probability_of_its_region(tmp_path):
    """The core lies inside the whole tumour, so it is less probable everywhere; both come from the same weights."""
    image = task(tmp_path).train[0].image
    core = fit(task(tmp_path / "core")).segment(image)
    # The whole tumour's training finds everything done.
    whole = fit(task(tmp_path / "core", "whole_tumour")).segment(image)
    assert core.shape == (20, 24, 20)
    assert 0 <= core.min() < core.max() <= 1 + 1e-6
    assert (core < whole).all()
    assert (whole <= 1 + 1e-6).all()


def test_reference_learns_transition_then_fusion_and_puts_channels_in_order(tmp_path):
    fitted = fit(task(tmp_path / "one"))
    assert [sorted(record) for record in fitted.history] == [
        *[["adversarial", "cycle", "discriminator", "step"]] * 3,
        *[["dice", "dice_first_pair", "dice_second_pair", "loss", "step"]] * 3,
    ]
    other = task(tmp_path / "two", channels=("t2", "t1ce", "t1", "flair"))
    turned = [replace(one, image=one.image[::-1]) for one in other.train]
    again = fit(replace(other, train=turned))
    np.testing.assert_array_equal(again.segment(turned[0].image), fitted.segment(other.train[0].image))
