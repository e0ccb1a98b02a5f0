"""The part of the configuration that says what the studies of papers run."""

from __future__ import annotations

import typing
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from weakseg.config_classifiers import DenseNetConfig, TrainingConfig
from weakseg.config_cmff import CMFFConfig
from weakseg.config_data import Millimetres, Once, Positive, Section, Share, VolumeViewConfig, odd
from weakseg.config_maps import CamConfig, Fill, Layer, LayerCamConfig, MethodsConfig, OptimalConfig, RelevanceMapConfig
from weakseg.config_refinements import check_chain


class EfficientNetConfig(Section):
    width: Annotated[float, Field(gt=0)] = Field(0.5, description="Channels, relative to EfficientNet-B0.")
    depth: Annotated[float, Field(gt=0)] = Field(0.5, description="Blocks, relative to EfficientNet-B0.")


class SneakAttackConfig(Section):
    dataset: Literal["brats", "instance", "kits"] | None = Field(
        None, description="Data set; null is the first that is not left out. Of its folds the first is used."
    )
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Once] = Field(
        [0, 1], min_length=1, description="Repetitions of all classifiers of the study."
    )
    architectures: Annotated[list[Literal["resnet", "densenet", "efficientnet"]], Once] = Field(
        ["resnet"], min_length=1, description="Classifiers; the ResNet is that of `classifiers.resnet`."
    )
    methods: Annotated[list[Literal["gradcam", "layercam", "random"]], Once] = Field(
        ["gradcam", "layercam", "random"],
        min_length=1,
        description="Heat maps that filter images, as `maps.methods` sets or leaves them out; random is noise.",
    )
    keep: Annotated[float, Field(gt=0, le=0.5)] = Field(
        0.1, description="Share of the foreground that a heat map's filter keeps in every slice."
    )
    thresholds: Annotated[list[Share], Once] = Field(
        [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
        min_length=1,
        description="Where heat maps are cut to segment, to 0.001; beside Otsu, val-k and the upper bound.",
    )
    val_patients: Positive = Field(10, description="val-k: validation patients whose masks choose a threshold.")
    draws: Positive = Field(20, description="val-k: random draws of those patients, whose Dice is averaged.")
    training: TrainingConfig = TrainingConfig(epochs=6)
    densenet: DenseNetConfig = DenseNetConfig()
    efficientnet: EfficientNetConfig = EfficientNetConfig()


class ComparedConfig(Section):
    gradcam: CamConfig = CamConfig()
    layercam: LayerCamConfig = LayerCamConfig()
    relevance_map: RelevanceMapConfig = RelevanceMapConfig(fills=["zero"])
    optimal_perturbation: OptimalConfig = OptimalConfig()

    @property
    def alone(self) -> MethodsConfig:
        """These methods and no other."""
        named = {name: getattr(self, name) for name in type(self).model_fields}
        return MethodsConfig.model_construct(**{**dict.fromkeys(MethodsConfig.model_fields), **named})


class VariantsConfig(Section):
    """Each differs from the study's own maps in this alone; with the first seed, on the first region."""

    segments: Annotated[list[Positive], Once] = Field([100, 200, 800], description="Supervoxels of `relevance_map`.")
    fills: Annotated[list[Fill], Once] = Field(["blur", "noise", "neighbours"], description="Of `relevance_map`.")
    areas: Annotated[list[Annotated[float, Field(ge=0)]], Once] = Field(
        [1, 20], description="Weight of the area of `optimal_perturbation`."
    )


class RelevanceMapsConfig(Section):
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Once] = Field(
        [0, 1, 2], min_length=1, description="Repetitions of grade classifier and maps."
    )
    regions: Annotated[list[Literal["whole_tumour", "tumour_core", "enhancing_tumour"]], Once] = Field(
        ["whole_tumour", "tumour_core", "enhancing_tumour"],
        min_length=1,
        description="What maps are scored against; differences and variants for the first.",
    )
    volume: VolumeViewConfig = VolumeViewConfig()
    val_patients: Positive = Field(10, description="val-k: validation patients whose masks choose a threshold.")
    methods: ComparedConfig = Field(
        ComparedConfig(),
        description="The paper's methods and those that they are compared with; `where` and `seeds` mean nothing here.",
    )
    variants: VariantsConfig = VariantsConfig()


class CoinStudyConfig(Section):
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Of the explained classifier, generators and baselines.")
    rows: Annotated[list[Literal["A", "B", "C", "D", "E", "F", "G", "H", "COIN"]], Once] = Field(
        ["A", "B", "C", "D", "E", "F", "G", "H", "COIN"],
        description="Rows of the paper's Table 3 that are trained; H (Singla et al.) and COIN are Table 1's too.",
    )
    losses: Annotated[list[Literal["consistency", "reconstruction", "variation"]], Once] = Field(
        ["consistency", "reconstruction", "variation"], description="Terms without which COIN is trained as well."
    )
    steps: Annotated[int, Field(ge=4)] = Field(
        300,
        description="Batches of each training on anomalies, with four checkpoints; on tumours as in `maps.methods`.",
    )
    lengths: Annotated[list[Annotated[int, Field(ge=2)]], Once] = Field(
        [2, 4], description="COIN is trained so many times as long as well."
    )
    val_patients: Positive = Field(10, description="val-k: validation patients whose masks choose a threshold.")

    @model_validator(mode="after")
    def _has_table_1(self) -> CoinStudyConfig:
        if not {"H", "COIN"} <= set(self.rows):
            raise ValueError("rows: H and COIN are compared with each other; name both")
        return self


class HemorrhageConfig(Section):
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Once] = Field(
        [0, 1, 2], min_length=1, description="Repetitions of ResNet and ResNet-LSTM; all else has the first alone."
    )
    slices: Annotated[Positive, AfterValidator(odd)] = Field(3, description="K of the ResNet-LSTM, odd.")
    distance_mm: Millimetres | None = Field(None, description="As `views.sequence.distance_mm`.")
    layer: Layer = Field("layer4", description="Stage of the ResNet whose output Grad-CAM explains: the last.")
    lengths: Annotated[list[Annotated[Positive, AfterValidator(odd)]], Once] = Field(
        [1, 5, 7], description="Other K that are tried."
    )
    shares: Annotated[list[Share], Once] = Field(
        [0.25, 0.5], description="Shares of the training patients with which all is trained again."
    )
    margin: Annotated[float, Field(gt=0)] = Field(
        0.01, description="How much less slice AUC is still not inferior to the ResNet's."
    )
    val_patients: Positive = Field(10, description="val-k: validation patients whose masks choose a threshold.")
    timed_cases: Positive = Field(5, description="Tested cases that costs at test time are measured on.")


class RefinementsStudyConfig(Section):
    chains: Annotated[list[str], Once] = Field(
        ["supervoxel", "clusters", "random_walker", "crf", "student"],
        min_length=1,
        description="Chains as in `refinements.chains`, for every map of slices with the first of `seeds`; students "
        "for `refinements.student.methods`.",
    )
    val_patients: Positive = Field(10, description="val-k: validation patients whose masks choose a threshold.")

    @model_validator(mode="after")
    def _known(self) -> RefinementsStudyConfig:
        for chain in self.chains:
            check_chain(chain, "chains")
        if "threshold" in self.chains:
            raise ValueError("chains: threshold is what all others are compared with; leave it out")
        return self


RowName = Literal[
    "cmff_cmft",
    "cmff_default",
    "cmff_kaiming",
    "cmff_normal",
    "cmff_self",
    "cmff_cmft_plain",
    "cmff_cmft_attention",
    "early_fusion",
    "first_pair_cmft",
    "second_pair_cmft",
]


class CrossModalityConfig(Section):
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Once] = Field(
        [0, 1, 2], min_length=1, description="Repetitions of all networks, and draws of labelled patients."
    )
    rows: Annotated[list[RowName], Once] = Field(
        list(typing.get_args(RowName)), min_length=2, description="Networks by how they fuse, and what they begin with."
    )
    labelled: Annotated[list[Positive], Once] = Field(
        [4, 12], description="Labelled patients with which some of them are trained, beside all of the fold's."
    )
    scored: Positive = Field(4, description="Cases that a network learnt from and whose Dice is measured as well.")
    translated: Positive = Field(4, description="Tested cases whose modalities are translated.")
    network: CMFFConfig = CMFFConfig(steps=180)

    @model_validator(mode="after")
    def _compares(self) -> CrossModalityConfig:
        if not {"cmff_cmft", "cmff_default"} <= set(self.rows):
            raise ValueError("rows: cmff_cmft and cmff_default are compared with each other; name both")
        return self


class StudiesConfig(Section):
    sneak_attack: SneakAttackConfig | None = Field(
        SneakAttackConfig(),
        description="Classifiers re-trained on filtered images: `snakemake sneak_attack`; null leaves the study out.",
    )
    coin: CoinStudyConfig | None = Field(
        CoinStudyConfig(),
        description="Counterfactual inpainting on kidney CT: `snakemake coin`, if neither `kits` nor `coin` nor "
        "`singla` of `maps.methods` is left out; null leaves the study out.",
    )
    hemorrhage: HemorrhageConfig | None = Field(
        HemorrhageConfig(),
        description="ResNet-LSTM, pseudo-masks and student on head CT: `snakemake hemorrhage`, if neither `instance` "
        "nor `gradcam` of `maps.methods` is left out; null leaves the study out.",
    )
    refinements: RefinementsStudyConfig | None = Field(
        RefinementsStudyConfig(),
        description="Every map through every refinement: `snakemake refinements`; null leaves the target out.",
    )
    relevance_maps: RelevanceMapsConfig | None = Field(
        RelevanceMapsConfig(),
        description="Maps of glioma-grade classifiers: `snakemake relevance_maps`, if `brats` is not left out; null "
        "leaves the study out.",
    )
    cross_modality: CrossModalityConfig | None = Field(
        CrossModalityConfig(),
        description="CMFT and CMFF: `snakemake cross_modality`, if `brats` is not left out and has all four "
        "modalities; null leaves the study out.",
    )
