"""The part of the configuration that says which map methods run, and their parameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BeforeValidator, Field, model_validator

from weakseg.config_data import Millimetres, Once, Positive, Section, Share
from weakseg.counterfactual.variants import COIN, SINGLA, SKIPS
from weakseg.errors import nearest

Layer = Literal["layer1", "layer2", "layer3", "layer4"]
Fill = Literal["zero", "blur", "noise", "neighbours"]
Weight = Annotated[float, Field(ge=0)]
Place = Literal[
    "brats-slice",
    "brats-sequence",
    "brats-volume",
    "instance-slice",
    "instance-sequence",
    "kits-slice",
    "kits-sequence",
]


class MethodConfig(Section):
    where: Annotated[list[Place], Once] | None = Field(
        None, min_length=1, description="Data sets and views that it explains; null: all."
    )
    seeds: Positive | None = Field(None, description="How many of `seeds`, from the first on; null: all.")

    def runs_on(self, place: str, repetition: int) -> bool:
        """Whether a data set's view is explained with the seed that stands at a place in ``seeds``."""
        return (self.where is None or place in self.where) and (self.seeds is None or repetition < self.seeds)

    @property
    def parameters(self) -> dict[str, Any]:
        """What its maps depend on."""
        return self.model_dump(exclude=set(MethodConfig.model_fields))


class CamConfig(MethodConfig):
    layer: Layer = Field("layer3", description="Stage of the ResNet whose output is explained.")


class PerturbationConfig(MethodConfig):
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


class RelevanceMapConfig(MethodConfig):
    fills: Annotated[list[Fill], Once] = Field(
        ["zero", "blur", "noise", "neighbours"],
        min_length=1,
        description="In place of a supervoxel, averaged: as `fill`, or the mean of its neighbours.",
    )
    blur_mm: Millimetres = Field(10, description="Standard deviation of the Gaussian of the fill `blur`.")
    scales: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Once] = Field(
        [1, 0.5], min_length=1, description="Share of supervoxels left at each scale, likes merged; averaged."
    )
    precision: Literal["fp32", "bf16"] = Field("fp32", description="bf16 is faster where the machine has it.")


class LastLayerConfig(MethodConfig):
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


class LayerCamConfig(MethodConfig):
    layer: Annotated[Layer | list[Layer], BeforeValidator(_one_or_several)] = Field(
        "layer1", description="Stage of the ResNet whose output is explained; maps of a list of stages are fused."
    )


class IntegratedGradientsConfig(MethodConfig):
    baseline: Literal["zero", "minimum"] = Field(
        "zero",
        description="Where paths begin: 0 (mean of the foreground, or middle of the window), or each channel's "
        "smallest value in the foreground.",
    )
    steps: Positive = Field(32, description="Points on each path (Gauss-Legendre): a forward and a backward each.")


class SmoothGradConfig(MethodConfig):
    samples: Positive = Field(50, description="Noisy images of each unit: a forward and a backward each.")
    noise: Share = Field(0.15, description="Standard deviation of the noise, as a share of the unit's range of values.")


class FitConfig(Section):
    epochs: Positive = Field(8, description="Most epochs; a step is some units of one training case.")
    patience: Positive = Field(4, description="Epochs without a better loss on the validation cases.")
    units: Positive = Field(16, description="Most units of a case in one step.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-2, description="Peak of the one-cycle schedule of AdamW.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-4, description="Of AdamW.")


class OptimalConfig(MethodConfig):
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


class GeneratorTrainingConfig(Section):
    steps: Positive = Field(200, description="Batches; each is a step of the discriminator.")
    generator_every: Positive = Field(1, description="Batches from one step of the generator to the next; COIN: 5.")
    batch_size: Annotated[int, Field(ge=2)] = Field(
        8, description="Slices of a batch, of which half are called lesion; COIN: 16."
    )
    slices: Annotated[int, Field(ge=2)] = Field(
        16, description="Most slices of a case that are trained or validated on; half are called lesion."
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(
        2e-3, description="Of Adam, for both networks; COIN: 2e-4, in far more steps."
    )
    checkpoint: Positive = Field(50, description="Batches between two checkpoints that may be kept.")
    least_flips: Share = Field(
        0.9,
        description="Of the checkpoints that flip this share of the selector's lesion calls on validation slices, or, "
        "if none does, as many as the best up to a standard error, the one that changes least is kept.",
    )

    augmentation: bool = Field(
        True,
        description="While it learns, the classifier is shown counterfactuals moved and recoloured as its training "
        "images were; COIN: false.",
    )
    averaging: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.95,
        description="Decay per batch of the moving average of the generator that is kept; 0, as COIN has it: as it is.",
    )

    @model_validator(mode="after")
    def _learns_between_checkpoints(self) -> GeneratorTrainingConfig:
        if self.generator_every > min(self.checkpoint, self.steps):
            raise ValueError("generator_every: larger than checkpoint or steps, so the generator would not learn")
        return self


class CoinConfig(MethodConfig):
    width: Positive = Field(
        8, description="Channels at half the resolution, doubled at each of four more halvings; COIN: 64."
    )
    skips: Annotated[int, Field(ge=0, le=SKIPS)] = Field(
        COIN.skips, description="Sizes, from the coarsest on, at which the encoder's features reach the decoder."
    )
    perturbation: bool = Field(
        COIN.perturbation, description="The generator's output is added to the image, not put in its place."
    )
    conditions: Literal[1, 2] = Field(
        COIN.conditions, description="1: slices become normal. 2: calls of slices flip, either way."
    )
    carl: bool = Field(
        COIN.carl, description="Reconstruction counts the organ and the rest apart; for `kits` with organ masks."
    )
    adversarial: Weight = Field(COIN.adversarial, description="Weight of deceiving the discriminator.")
    consistency: Weight = Field(COIN.consistency, description="Weight of what the classifier is to say.")
    reconstruction: Weight = Field(COIN.reconstruction, description="Weight of the mean difference from the image.")
    variation: Weight = Field(COIN.variation, description="Weight of the change's total variation, in grey levels.")
    training: GeneratorTrainingConfig = GeneratorTrainingConfig()

    @model_validator(mode="after")
    def _of_slices(self) -> CoinConfig:
        if any(place.endswith("-volume") for place in self.where or []):
            raise ValueError("where: counterfactuals are made of slices; name no view of volumes")
        return self


class SinglaConfig(CoinConfig):
    perturbation: bool = Field(SINGLA.perturbation, description="As that of `coin`.")
    conditions: Literal[1, 2] = Field(SINGLA.conditions, description="As that of `coin`.")
    consistency: Weight = Field(SINGLA.consistency, description="As that of `coin`.")
    variation: Weight = Field(SINGLA.variation, description="As that of `coin`.")


_OUT = "null leaves the method out."
_ON_GLIOMAS: list[Place] = ["brats-slice", "brats-volume"]
_ON_SLICES: list[Place] = ["brats-slice", "instance-slice", "kits-slice"]
_ON_GLIOMA_SLICES: list[Place] = ["brats-slice"]


class MethodsConfig(Section):
    """What costs many forwards has few of them by default, and explains slices alone, or those of the gliomas."""

    cam: LastLayerConfig | None = Field(LastLayerConfig(seeds=1), description=_OUT)
    gradcam: CamConfig | None = Field(CamConfig(), description=_OUT)
    gradcampp: CamConfig | None = Field(CamConfig(seeds=1), description=_OUT)
    xgradcam: CamConfig | None = Field(CamConfig(seeds=1), description=_OUT)
    hirescam: CamConfig | None = Field(CamConfig(seeds=1), description=_OUT)
    layercam: LayerCamConfig | None = Field(LayerCamConfig(), description=_OUT)
    scorecam: ScoreCamConfig | None = Field(ScoreCamConfig(where=_ON_SLICES, seeds=1), description=_OUT)
    rise: RiseConfig | None = Field(RiseConfig(where=_ON_SLICES, seeds=1, masks=100, check=100), description=_OUT)
    integrated_gradients: IntegratedGradientsConfig | None = Field(
        IntegratedGradientsConfig(where=_ON_GLIOMA_SLICES, seeds=1, steps=16), description=_OUT
    )
    smoothgrad: SmoothGradConfig | None = Field(
        SmoothGradConfig(where=_ON_GLIOMA_SLICES, seeds=1, samples=16), description=_OUT
    )
    occlusion: OcclusionConfig | None = Field(
        OcclusionConfig(where=_ON_GLIOMA_SLICES, seeds=1, window_mm=20, stride_mm=20), description=_OUT
    )
    ablation: PerturbationConfig | None = Field(PerturbationConfig(where=_ON_GLIOMA_SLICES, seeds=1), description=_OUT)
    lime: LimeConfig | None = Field(LimeConfig(where=_ON_GLIOMA_SLICES, seeds=1, samples=100), description=_OUT)
    kernelshap: KernelShapConfig | None = Field(
        KernelShapConfig(where=_ON_GLIOMA_SLICES, seeds=1, samples=100), description=_OUT
    )
    relevance_map: RelevanceMapConfig | None = Field(
        RelevanceMapConfig(where=_ON_GLIOMA_SLICES, seeds=1, fills=["zero"]), description=_OUT
    )
    optimal_perturbation: OptimalConfig | None = Field(OptimalConfig(where=_ON_GLIOMAS, seeds=1), description=_OUT)
    # Squared steps between neighbours are 16 times as large where pixels are 4 times as wide as at 256 x 256.
    coin: CoinConfig | None = Field(CoinConfig(seeds=1, variation=0.003), description=_OUT)
    coin_signed: MethodConfig | None = Field(
        MethodConfig(),
        description="`coin` where it runs, read in the channel and direction of the null `intensity` alone; " + _OUT,
    )
    singla: SinglaConfig | None = Field(SinglaConfig(seeds=1), description=_OUT)
