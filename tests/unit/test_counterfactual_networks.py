"""Generator, discriminator and the parameter sets of COIN's rows."""

from __future__ import annotations

import pytest
import torch
from torch.nn.utils.parametrize import is_parametrized

from weakseg.config_maps import CoinConfig, SinglaConfig
from weakseg.counterfactual.networks import WITHIN, Decoder, Discriminator, Encoder, Generator
from weakseg.counterfactual.variants import COIN, SINGLA, TABLE_3, variant_of
from weakseg.networks import freeze
from weakseg.randomness import rng

SIZES = [(64, 32), (33, 47), (20, 32, 26)]
WIDTH = 2


def noise(*shape):
    return torch.from_numpy(rng(0, "noise", str(shape)).normal(size=shape)).float()


def generator(variant=COIN, size=SIZES[0], seed=0, channels=2, moved=True):
    made = Generator(channels, WIDTH, variant, seed, len(size))
    made.low, made.high = torch.tensor([-1.0, 0.0])[:channels], torch.tensor([1.5, 3.0])[:channels]
    if moved:
        torch.manual_seed(0)
        torch.nn.init.normal_(made.decoder.last.weight, 0, 0.3)
    return freeze(made, "cpu")


def change(network, images, condition=0, foreground=None):
    foreground = torch.ones(len(images), 1, *images.shape[2:], dtype=torch.bool) if foreground is None else foreground
    return network(images, torch.full((len(images),), condition), foreground)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", TABLE_3)
def test_change_has_the_form_of_the_image(name, size):
    images = noise(3, 2, *size)
    found = change(generator(TABLE_3[name], size), images)
    assert found.shape == images.shape
    assert found.isfinite().all()
    assert found.std() > 0


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_untrained_generator_changes_nothing(size):
    images = 3 * noise(3, 2, *size)
    network = generator(COIN, size, moved=False)
    assert change(network, images).abs().max() < 1e-6
    torch.testing.assert_close(network.changed(images, change(network, images)), images)
    # An image that is made anew is no copy of the old one before anything is learnt.
    assert change(generator(SINGLA, size, moved=False), images).abs().mean() > 0.05


def test_features_have_the_sizes_of_the_paper():
    """64 to 1024 channels at 128 to 8 pixels, of 256; the decoder is given what its skips name."""
    encoded = Encoder(2, 1, 64)(noise(1, 1, 256, 256))
    assert [tuple(features.shape[1:]) for features in encoded] == [
        (64, 128, 128),
        (128, 64, 64),
        (256, 32, 32),
        (512, 16, 16),
        (1024, 8, 8),
    ]
    widths = {skips: [block.conv1.in_channels for block in Decoder(2, 1, 64, skips).blocks] for skips in (0, 2, 4)}
    assert widths == {
        0: [1024, 1024, 512, 256, 128],
        2: [1024, 1024 + 512, 512 + 256, 256, 128],
        4: [1024, 1024 + 512, 512 + 256, 256 + 128, 128 + 64],
    }


@pytest.mark.parametrize("skips", range(5))
def test_skips_let_details_of_that_size_through(skips):
    """The decoder's output depends on the encoder's features at the skipped sizes and the coarsest, on no other."""
    encoded = [noise(1, 2 * 2**level, *[32 // 2**level] * 2).requires_grad_() for level in range(5)]
    freeze(Decoder(2, 1, 2, skips), "cpu")(encoded, torch.tensor([0])).square().sum().backward()
    reached = [features.grad is not None and bool(features.grad.any()) for features in encoded]
    assert reached == [level >= 4 - skips for level in range(4)] + [True]


def test_no_batch_effect_and_nothing_outside_the_foreground():
    images, network = noise(4, 2, 33, 47), generator()
    foreground = noise(4, 1, 33, 47) > 0
    together = change(network, images, foreground=foreground)
    assert not together[~foreground.expand_as(together)].any()
    for unit in range(4):
        one = slice(unit, unit + 1)
        torch.testing.assert_close(
            change(network, images[one], foreground=foreground[one])[0], together[unit], rtol=1e-4, atol=1e-6
        )


def test_range_limits_changes_and_what_lies_beyond_stays_there():
    network, images = generator(), noise(2, 2, 32, 32)
    images[0, 0, 3, 4] = 7.0
    found = change(network, images)
    after = network.scaled(images) + 2 * found
    assert after.abs().max() <= 1 / WITHIN + 1e-6
    width = (network.high - network.low)[:, None, None]
    torch.testing.assert_close(network.changed(images, found), images + found * width)
    pixel = network.scaled(torch.tensor([-1.0, 0.75]).reshape(1, 2, 1, 1))
    torch.testing.assert_close(pixel.flatten(), torch.tensor([-1.0, -0.5]))
    assert network.scaled(images)[0, 0, 3, 4] == 1


def test_conditions_differ():
    network, images = generator(), noise(2, 2, 32, 32)
    with torch.no_grad():
        for block in network.decoder.blocks:
            block.norm1.shift.weight[1] += 0.5
    assert (change(network, images, 0) - change(network, images, 1)).abs().mean() > 1e-3


def test_weights_depend_on_the_seed_alone():
    before = torch.get_rng_state()
    for make in (lambda seed: Generator(1, 2, COIN, seed), lambda seed: Discriminator(1, 2, seed)):
        one, same, other = (make(seed).state_dict() for seed in (0, 0, 1))
        assert torch.equal(before, torch.get_rng_state())
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert any(not torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_discriminator_projects_the_condition(size):
    network = freeze(Discriminator(2, WIDTH, 0, len(size)), "cpu")
    images = noise(3, 2, *size)
    logits = [network(images, torch.full((3,), condition)) for condition in (0, 1)]
    assert logits[0].shape == (3,)
    features = network.blocks(torch.nn.functional.pad(images, [x for n in reversed(size) for x in (0, -n % 32)]))
    summed = features.relu().flatten(2).sum(2)
    expected = summed @ (network.embedding.weight[1] - network.embedding.weight[0])
    torch.testing.assert_close(logits[1] - logits[0], expected, rtol=1e-3, atol=1e-3)


def test_spectral_norm_is_everywhere_in_the_discriminator():
    network = Discriminator(1, 4, 0).train()
    learnt = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Linear | torch.nn.Embedding)]
    assert len(learnt) == 6 * 3 + 2
    assert all(is_parametrized(module, "weight") for module in learnt)
    for _ in range(100):
        network(noise(1, 1, 32, 32), torch.tensor([0]))
    for module in learnt:
        assert torch.linalg.matrix_norm(module.weight.flatten(1), 2).item() == pytest.approx(1, abs=0.02)


def test_configured_methods_are_coin_and_singla():
    assert variant_of(CoinConfig().parameters) == COIN == TABLE_3["COIN"]
    assert variant_of(SinglaConfig().parameters) == SINGLA == TABLE_3["H"]


def test_each_row_changes_what_its_column_says():
    """Masks, perturbation, skips and conditions as in the paper's Table 3."""
    columns = {name: (v.carl, v.perturbation, v.skips, v.conditions) for name, v in TABLE_3.items()}
    assert columns == {
        "A": (True, False, 0, 2),
        "B": (True, True, 0, 2),
        "C": (True, True, 1, 2),
        "D": (True, True, 2, 2),
        "E": (True, True, 3, 2),
        "F": (True, True, 4, 2),
        "G": (False, True, 4, 2),
        "H": (False, False, 4, 2),
        "COIN": (False, True, 4, 1),
    }
    assert COIN.weights == {"adversarial": 1, "consistency": 5, "reconstruction": 1, "variation": 0.05}
    assert SINGLA.weights == {"adversarial": 1, "consistency": 1, "reconstruction": 1, "variation": 0}
