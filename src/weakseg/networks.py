"""Small networks, built by MONAI; weights travel as safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.resnet import ResNet, ResNetBlock
from safetensors.torch import load_file, save_file

from weakseg.randomness import seed_of


def resnet(channels: int, params: dict[str, Any], seed: int, spatial_dims: int = 2) -> ResNet:
    """A ResNet with one logit for the explained class, initialised from ``seed``.

    Args:
        channels: image channels C; input is (N, C, *spatial).
        params: ``blocks`` per stage, ``width`` of the first stage (doubled at each next), ``stem_stride``.
        seed: decides the initial weights, and nothing else does.
        spatial_dims: 2 or 3.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "weights"))
        return ResNet(
            block=ResNetBlock,
            layers=list(params["blocks"]),
            block_inplanes=[params["width"] * 2**stage for stage in range(4)],
            spatial_dims=spatial_dims,
            n_input_channels=channels,
            conv1_t_stride=params["stem_stride"],
            num_classes=1,
        )


def save_weights(path: Path, network: torch.nn.Module) -> None:
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)


def load_weights(path: Path, network: torch.nn.Module) -> None:
    network.load_state_dict(load_file(path))


def freeze(network: torch.nn.Module, device: str) -> torch.nn.Module:
    """Move a network to a device for inference: evaluation mode, no parameter asks for gradients."""
    return network.to(device).eval().requires_grad_(False)
