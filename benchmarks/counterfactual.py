"""Generators of counterfactuals: what weakseg adds to a bare PyTorch loop of the same networks and losses.

    python benchmarks/counterfactual.py

COIN of the default's width on slices of 4 x 64 x 80, batches of 8. Prints slices a second, in training (a step of each
network for every batch, drawn from memory) and in inference, and the ratio of the time to that of the bare loop, which
has its batch at hand. It is the processor's time on one thread; of several rounds, side by side, the least.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from side_by_side import least
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss, logsigmoid

from weakseg.counterfactual.networks import Discriminator, Generator
from weakseg.counterfactual.slices import Slices
from weakseg.counterfactual.training import Adversaries, changes_of
from weakseg.counterfactual.variants import COIN
from weakseg.maps.judge import Judge
from weakseg.networks import freeze, resnet
from weakseg.randomness import rng

BATCH, CHANNELS, SIZE, WIDTH, RATE = 8, 4, (64, 80), 8, 2e-3


def networks() -> tuple[Generator, Discriminator, Judge]:
    """The same networks for everybody."""
    classifier = resnet(CHANNELS, {"blocks": [1, 1, 1, 1], "width": 16, "stem_stride": 2}, 0)
    judge = Judge(freeze(classifier, "cpu"), 0.0)
    return Generator(CHANNELS, WIDTH, COIN, 0), Discriminator(CHANNELS, WIDTH, 0), judge


def slices(number: int) -> Slices:
    torch.manual_seed(0)
    called = torch.arange(number) % 2
    return Slices(
        torch.randn(number, CHANNELS, *SIZE), torch.ones(number, 1, *SIZE, dtype=torch.bool), 0.1 + 0.8 * called
    )


def ours(steps: int) -> Callable[[], object]:
    generator, discriminator, judge = networks()
    opponents = Adversaries(generator, discriminator, judge, COIN, RATE, "cpu")
    every = slices(256)

    def run() -> None:
        for step in range(steps):
            rows = every.draw(BATCH, rng(0, "benchmark", str(step)))
            opponents.step(every.of(rows, "cpu"), generator_too=True)

    return run


def bare(steps: int) -> Callable[[], object]:
    """One batch again and again, the losses written out."""
    generator, discriminator, judge = networks()
    first, second = (torch.optim.Adam(net.parameters(), RATE, betas=(0.0, 0.999)) for net in (generator, discriminator))
    batch = slices(BATCH)
    normal, ones, zeros = torch.zeros(BATCH, dtype=torch.int64), torch.ones(BATCH), torch.zeros(BATCH)
    wanted = torch.where(batch.called, 1e-5, batch.probability)

    def variation(change: Tensor) -> Tensor:
        levels = 255 * change.abs()
        return levels.diff(dim=2).square().mean() + levels.diff(dim=3).square().mean()

    def run() -> None:
        for _ in range(steps):
            images = batch.images
            scaled = generator.scaled(images)
            change = generator(images, normal, batch.foreground)
            real = discriminator(scaled, batch.called.long())
            fake = discriminator(scaled + 2 * change.detach(), normal)
            loss = binary_cross_entropy_with_logits(real, ones) + binary_cross_entropy_with_logits(fake, zeros)
            second.zero_grad()
            (loss / 2).backward()
            second.step()
            discriminator.requires_grad_(False)
            after = generator.changed(images, change)
            back = generator(after, normal, batch.foreground)
            logits = judge.margins(after)
            divergence = wanted * (wanted.log() - logsigmoid(logits))
            divergence = divergence + (1 - wanted) * ((1 - wanted).log() - logsigmoid(-logits))
            total = binary_cross_entropy_with_logits(discriminator(scaled + 2 * change, normal), ones)
            total = total + 5 * divergence.mean() + 0.05 * variation(change)
            total = total + l1_loss(scaled + 2 * change, scaled) + l1_loss(generator.scaled(after) + 2 * back, scaled)
            first.zero_grad()
            total.backward()
            first.step()
            discriminator.requires_grad_(True)

    return run


def inference(steps: int) -> tuple[Callable[[], object], Callable[[], object]]:
    """Changes of slices with the classifier's answers, by weakseg and by a loop over batches."""
    generator, _, judge = networks()
    every = slices(64 * steps)

    def loop() -> None:
        generator.eval()
        with torch.inference_mode():
            for images, foreground in zip(every.images.split(64), every.foreground.split(64), strict=True):
                change = generator(images, torch.zeros(64, dtype=torch.int64), foreground)
                judge.margins(generator.changed(images, change))

    return lambda: changes_of(generator, every, "cpu", [judge]), loop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    measured, loop = inference(given.steps)
    for what, pair, size in (
        ("training", (ours(given.steps), bare(given.steps)), BATCH),
        ("inference", (measured, loop), 64),
    ):
        seconds = least(dict(zip(("weakseg", "bare loop"), pair, strict=True)), given.rounds)
        for name, value in seconds.items():
            speed, ratio = given.steps * size / value, value / seconds["bare loop"]
            print(f"{what:10s} {name:10s} {speed:8.1f} slices/s  {ratio:.2f}x")


if __name__ == "__main__":
    main()
