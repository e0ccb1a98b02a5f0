"""Small networks, built by MONAI; weights travel as safetensors."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from monai.networks.nets.densenet import DenseNet
from monai.networks.nets.efficientnet import EfficientNet
from monai.networks.nets.resnet import ResNet, ResNetBlock
from safetensors.torch import load_file, save_file

from weakseg.feeding import laid_out
from weakseg.randomness import seed_of
from weakseg.sequences import ResNetLSTM

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of glibc's malloc.h."""


def reproducible(threads: int, device: str) -> None:
    """Let torch use so many threads, and give the same result each time.

    On a GPU a few operations on volumes, such as the gradient of max pooling, have no reproducible form: they warn.
    """
    torch.set_num_threads(threads)
    # As use_deterministic_algorithms, which also imports a compiler, for two seconds of each job.
    torch.set_deterministic_debug_mode("warn" if device == "cuda" else "error")
    # By default this mode also fills all memory that it hands out, a tenth of the time of a training.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let glibc keep what tensors of up to 64 MiB leave, for the next ones.

    By default it gives them back, and the kernel clears their pages anew at each layer of each step: a quarter of the
    time of a training with two processes side by side. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 1 << 26)
        mallopt(M_TRIM_THRESHOLD, 1 << 30)


def resnet(channels: int, params: dict[str, Any], seed: int, spatial_dims: int = 2) -> ResNet:
    """A ResNet with one logit for the explained class, initialised from ``seed``.

    Args:
        channels: image channels C; input is (N, C, *spatial).
        params: ``blocks`` per stage, ``width`` of the first stage (doubled at each next), ``stem_stride``.
        seed: decides the initial weights, and nothing else does.
        spatial_dims: 2 or 3.
    """
    with initial_weights(seed):
        return ResNet(
            block=ResNetBlock,
            layers=list(params["blocks"]),
            block_inplanes=[params["width"] * 2**stage for stage in range(4)],
            spatial_dims=spatial_dims,
            n_input_channels=channels,
            conv1_t_stride=params["stem_stride"],
            num_classes=1,
        )


def resnet_lstm(channels: int, params: dict[str, Any], seed: int) -> ResNetLSTM:
    """The 2D ResNet of these parameters and seed, and an LSTM beside its head.

    ``params`` beside those of :func:`resnet`: ``hidden``, ``layers`` and ``bidirectional`` of the LSTM, and the
    ``slices`` of a ``window``.
    """
    backbone = resnet(channels, params, seed)
    with initial_weights(seed_of(seed, "lstm")):
        slices = params["window"]["slices"]
        return ResNetLSTM(backbone, params["hidden"], params["layers"], params["bidirectional"], slices)


EFFICIENTNET_B0 = [
    "r1_k3_s11_e1_i32_o16_se0.25",
    "r2_k3_s22_e6_i16_o24_se0.25",
    "r2_k5_s22_e6_i24_o40_se0.25",
    "r3_k3_s22_e6_i40_o80_se0.25",
    "r3_k5_s11_e6_i80_o112_se0.25",
    "r4_k5_s22_e6_i112_o192_se0.25",
    "r1_k3_s11_e6_i192_o320_se0.25",
]
"""The seven stages of EfficientNet-B0 (Tan & Le 2019, arXiv 1905.11946, table 1), as MONAI writes them."""


def densenet(channels: int, params: dict[str, Any], seed: int) -> DenseNet:
    """A 2D DenseNet with one logit; ``params``: layers of its four ``blocks``, ``width`` of the stem, ``growth``."""
    with initial_weights(seed):
        return DenseNet(
            2, channels, 1, init_features=params["width"], growth_rate=params["growth"], block_config=params["blocks"]
        )


def efficientnet(channels: int, params: dict[str, Any], seed: int) -> EfficientNet:
    """A 2D EfficientNet with one logit; ``params``: ``width`` and ``depth`` relative to EfficientNet-B0.

    Nothing is dropped out while training: that would draw from a generator that a resumed run cannot restore.
    """
    with initial_weights(seed):
        return EfficientNet(
            EFFICIENTNET_B0,
            spatial_dims=2,
            in_channels=channels,
            num_classes=1,
            width_coefficient=params["width"],
            depth_coefficient=params["depth"],
            dropout_rate=0,
            drop_connect_rate=0,
        )


BUILDERS: dict[str, Callable[..., torch.nn.Module]] = {
    "resnet": resnet,
    "resnet3d": partial(resnet, spatial_dims=3),
    "resnet_lstm": resnet_lstm,
    "densenet": densenet,
    "efficientnet": efficientnet,
}


def classifier_network(channels: int, params: dict[str, Any], seed: int) -> torch.nn.Module:
    """The network of a classifier: that of ``params["architecture"]``, initialised from ``seed``."""
    return BUILDERS[params["architecture"]](channels, params, seed)


@contextmanager
def initial_weights(seed: int) -> Iterator[None]:
    """Weights drawn inside depend on the seed alone, and draw nothing from the generator outside."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_of(seed, "weights"))
        yield


def save_weights(path: Path, network: torch.nn.Module) -> None:
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)


def load_weights(path: Path, network: torch.nn.Module) -> None:
    network.load_state_dict(load_file(path))


def freeze(network: torch.nn.Module, device: str) -> torch.nn.Module:
    """Move a network to a device for inference: evaluation mode, no parameter asks for gradients."""
    return laid_out(network, device).eval().requires_grad_(False)


def negated(network: torch.nn.Module) -> torch.nn.Module:
    """A copy whose logit is that of the network times -1: its last layer, a linear one, is negated.

    So evidence against the class is evidence for it, and modules keep their names, which maps need.
    """
    other = deepcopy(network)
    *_, last = (module for module in other.modules() if isinstance(module, torch.nn.Linear))
    with torch.no_grad():
        for parameter in last.parameters():
            parameter.neg_()
    return other
