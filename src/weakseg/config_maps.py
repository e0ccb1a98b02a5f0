"""The part of the configuration that says which map methods run, and their parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from weakseg.config_data import Millimetres, Once, Positive, Section, Share
from weakseg.errors import nearest

Layer = Literal["layer1", "layer2", "layer3", "layer4"]


class CamConfig(Section):
    layer: Layer = Field("layer3", description="Stage of the ResNet whose output is explained.")


class PerturbationConfig(Section):
    fill: Literal["zero", "blur", "noise"] = Field(
        "zero", description="Takes the place of what goes: 0 (foreground's mean, or middle of the window), blur, noise."
    )
    blur_mm: Millimetres = Field(10, description="Standard deviation of the Gaussian of the fill `blur`.")
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 is faster where the machine has it.")


class OcclusionConfig(PerturbationConfig):
    window_mm: Millimetres = Field(20, description="Edge of the window.")
    stride_mm: Millimetres = Field(10, description="From one window to the next; not more than the window.")

    @model_validator(mode="after")
    def _covers(self) -> OcclusionConfig:
        if self.stride_mm > self.window_mm:
            raise ValueError("stride_mm: larger than window_mm, so windows would leave gaps")
        return self


class RiseConfig(PerturbationConfig):
    masks: Positive = Field(2000, description="Most masks per unit; one forward each.")
    cell_mm: Millimetres = Field(30, description="Edge of a mask's cells, in whole voxels.")
    keep: Share = Field(0.5, description="Probability that a cell is kept.")
    antithetic: bool = Field(True, description="Masks in pairs: the second keeps where the first does not.")
    reliability: Share | None = Field(
        0.95, description="A unit stops when two halves of its masks agree so well; null runs all masks."
    )
    check: Annotated[int, Field(ge=4)] = Field(200, description="Masks of a unit between two looks at its map.")


class ScoreCamConfig(PerturbationConfig):
    layer: Layer = Field("layer3", description="Stage of the ResNet whose activations are the masks, a forward each.")


class LimeConfig(PerturbationConfig):
    samples: Annotated[int, Field(ge=2)] = Field(1000, description="Subsets of supervoxels per unit.")
    kernel_width: Annotated[float, Field(gt=0)] = Field(
        0.25, description="sigma of the exponential kernel of the cosine distance."
    )
    ridge: Annotated[float, Field(gt=0)] = Field(1.0, description="Weight of the squared weights.")


class KernelShapConfig(PerturbationConfig):
    samples: Annotated[int, Field(ge=2)] = Field(
        1000, description="Subsets of supervoxels per unit; all, so exact, where they are no more."
    )


class RelevanceMapConfig(Section):
    fills: Annotated[list[Literal["zero", "blur", "noise", "neighbours"]], Once] = Field(
        ["zero", "blur", "noise", "neighbours"],
        min_length=1,
        description="In place of a supervoxel, averaged: as `fill`, or the mean of its neighbours.",
    )
    blur_mm: Millimetres = Field(10, description="Standard deviation of the Gaussian of the fill `blur`.")
    scales: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Once] = Field(
        [1, 0.5], min_length=1, description="Share of supervoxels left at each scale, likes merged; averaged."
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 is faster where the machine has it.")


class LastLayerConfig(Section):
    layer: Literal["layer4"] = Field(
        "layer4", description="CAM explains the activations whose mean the linear head sees: those of the last stage."
    )


def _one_or_several(value: Any) -> Any:
    """Find the faults here, in one sentence: a union would list those of each of its members."""
    for layer in value if isinstance(value, list) else [value]:
        if layer not in get_args(Layer):
            raise ValueError(f"{layer!r} is not possible{nearest(str(layer), get_args(Layer))}")
    if isinstance(value, list) and (len(value) < 2 or len(set(value)) < len(value)):
        raise ValueError(f"a list names two or more stages, each once; got {value}")
    return value


class LayerCamConfig(Section):
    layer: Annotated[Layer | list[Layer], BeforeValidator(_one_or_several)] = Field(
        "layer1", description="Stage of the ResNet whose output is explained; maps of a list of stages are fused."
    )


class IntegratedGradientsConfig(Section):
    baseline: Literal["zero", "minimum"] = Field(
        "zero",
        description="Where paths begin: 0 (mean of the foreground, or middle of the window), or each channel's "
        "smallest value in the foreground.",
    )
    steps: Positive = Field(32, description="Points on each path (Gauss-Legendre): a forward and a backward each.")


class SmoothGradConfig(Section):
    samples: Positive = Field(50, description="Noisy images of each unit: a forward and a backward each.")
    noise: Share = Field(0.15, description="Standard deviation of the noise, as a share of the unit's range of values.")


class FitConfig(Section):
    epochs: Positive = Field(8, description="Most epochs; a step is some units of one training case.")
    patience: Positive = Field(4, description="Epochs without a better loss on the validation cases.")
    units: Positive = Field(16, description="Most units of a case in one step.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-2, description="Peak of the one-cycle schedule of AdamW.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="Of AdamW.")


class OptimalConfig(Section):
    fill: Literal["zero", "blur", "noise"] = Field(
        "zero", description="What stands for nothing: 0 (mean of the foreground, or middle of the window), blur, noise."
    )
    blur_mm: Millimetres = Field(10, description="Standard deviation of the Gaussian of the fill `blur`.")
    area: Annotated[float, Field(ge=0)] = Field(
        5, description="Weight of the share of the foreground that is perturbed, against a drop in SD of the logit."
    )
    smoothness: Annotated[float, Field(ge=0)] = Field(
        1e-3, description="Weight of the mean difference between neighbouring voxels of the perturbation."
    )
    width: Positive = Field(8, description="Channels of the first stage of the U-Net, doubled at each next.")
    training: FitConfig = FitConfig()


class MethodsConfig(Section):
    cam: LastLayerConfig | None = Field(None, description="null leaves the method out.")
    gradcam: CamConfig | None = Field(CamConfig(layer="layer3"), description="null leaves the method out.")
    gradcampp: CamConfig | None = Field(None, description="null leaves the method out.")
    xgradcam: CamConfig | None = Field(None, description="null leaves the method out.")
    hirescam: CamConfig | None = Field(None, description="null leaves the method out.")
    layercam: LayerCamConfig | None = Field(LayerCamConfig(layer="layer1"), description="null leaves the method out.")
    integrated_gradients: IntegratedGradientsConfig | None = Field(None, description="null leaves the method out.")
    smoothgrad: SmoothGradConfig | None = Field(None, description="null leaves the method out.")
    occlusion: OcclusionConfig | None = Field(None, description="null leaves the method out.")
    rise: RiseConfig | None = Field(None, description="null leaves the method out.")
    scorecam: ScoreCamConfig | None = Field(None, description="null leaves the method out.")
    ablation: PerturbationConfig | None = Field(None, description="null leaves the method out.")
    lime: LimeConfig | None = Field(None, description="null leaves the method out.")
    kernelshap: KernelShapConfig | None = Field(None, description="null leaves the method out.")
    relevance_map: RelevanceMapConfig | None = Field(None, description="null leaves the method out.")
    optimal_perturbation: OptimalConfig | None = Field(None, description="null leaves the method out.")
