"""Perturbation methods beside captum and torchcam: the same numbers."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
from captum._utils.models.linear_model import SkLearnRidge
from tests.contract.perturbing import IDS, blocks, explain, task_of
from torch import nn
from torchcam.methods import ScoreCAM

from weakseg.networks import resnet
from weakseg.randomness import rng


class TestPeers:
    """The same numbers as captum and torchcam."""

    SIZES = ((12, 16), (8, 12, 8))

    @staticmethod
    def task(size):
        model = resnet(3, {"blocks": [1, 1, 1, 1], "width": 4, "stem_stride": 1}, 0, len(size))
        return task_of(model, size, image=rng(0, "image").normal(size=(3, *size)).astype(np.float32))

    @staticmethod
    def close(have, want, tolerance=1e-4):
        np.testing.assert_allclose(have, want, rtol=0, atol=tolerance * np.abs(want).max())

    @pytest.mark.parametrize("size", SIZES, ids=IDS)
    def test_captum_ablation(self, size):
        task = self.task(size)
        features = torch.from_numpy(blocks(size).astype(np.int64) - 1)[None, None]
        peer = captum.attr.FeatureAblation(lambda x: task.network(x)[:, 0])
        want = peer.attribute(torch.from_numpy(task.units.image), feature_mask=features)[:, :1]
        self.close(explain("ablation", task), want.numpy())

    @pytest.mark.parametrize("size", SIZES, ids=IDS)
    def test_captum_occlusion(self, size):
        task = self.task(size)
        peer = captum.attr.Occlusion(lambda x: task.network(x)[:, 0])
        window, stride = (3, *[5] * len(size)), (3, *[3] * len(size))
        want = peer.attribute(torch.from_numpy(task.units.image), window, stride)[:, :1]
        self.close(explain("occlusion", task, window_mm=5, stride_mm=3), want.numpy())

    @pytest.mark.parametrize("size", SIZES, ids=IDS)
    def test_captum_lime_of_the_same_samples(self, size):
        task, labels = self.task(size), blocks(size)
        count = labels.max()
        kept = rng(0, "lime", "v/0").random((80, count)) < 0.5
        kept[0] = True
        stream = iter(torch.from_numpy(kept.astype(np.float32))[:, None])

        def similarity(_original, _perturbed, sample, **_options):
            distance = 1 - torch.sqrt(sample.mean())
            return torch.exp(-(distance**2) / 0.25**2)

        peer = captum.attr.Lime(
            lambda x: task.network(x)[:, 0],
            interpretable_model=SkLearnRidge(alpha=1.0),
            similarity_func=similarity,
            perturb_func=lambda *_, **__: next(stream),
        )
        features = torch.from_numpy(labels.astype(np.int64) - 1)[None, None]
        want = peer.attribute(torch.from_numpy(task.units.image), feature_mask=features, n_samples=80)[:, :1]
        self.close(explain("lime", task, samples=80), want.numpy(), 1e-3)

    def test_captum_kernelshap_of_many_samples(self):
        """Both draw; ours is exact here, and theirs comes close with 2,000 samples."""
        task, labels = self.task((12, 8)), blocks((12, 8))
        torch.manual_seed(0)
        features = torch.from_numpy(labels.astype(np.int64) - 1)[None, None]
        peer = captum.attr.KernelShap(lambda x: task.network(x)[:, 0])
        image = torch.from_numpy(task.units.image)
        want = peer.attribute(image, feature_mask=features, n_samples=2000, perturbations_per_eval=50)[:, :1]
        self.close(explain("kernelshap", task), want.numpy(), 0.1)

    @pytest.mark.parametrize("size", SIZES, ids=IDS)
    @pytest.mark.parametrize("layer", ["layer1", "layer3"])
    def test_torchcam_scorecam(self, size, layer):
        task = self.task(size)
        image = torch.from_numpy(task.units.image)
        with ScoreCAM(task.network, layer, input_shape=image.shape[1:]) as peer, torch.no_grad():
            task.network(image)
            (coarse,) = peer(0, normalized=False)
        have = explain("scorecam", task, layer=layer)
        mode = {2: "bilinear", 3: "trilinear"}[len(size)]
        want = nn.functional.interpolate(coarse[:, None], size=size, mode=mode, align_corners=False)
        self.close(have, want.numpy())
