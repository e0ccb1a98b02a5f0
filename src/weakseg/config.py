"""The configuration: its models are the source of the JSON schema, the defaults and the key reference.

The sections stand in the order of the workflow. *How* to run (cores, device, memory) is no part of it: that lives in
profiles. :func:`weakseg.config_text.load` makes a :class:`Config` of what was written in YAML.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from weakseg import catalogue
from weakseg.errors import nearest

Modality = Literal["t1", "t1ce", "t2", "flair"]
Layer = Literal["layer1", "layer2", "layer3", "layer4"]
Point = Literal["fixed", "label-free", "val-k", "oracle-set"]
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[int, Field(ge=1)]
Millimetres = Annotated[float, Field(gt=0)]


def _once(values: list[Any]) -> list[Any]:
    if len(set(values)) != len(values):
        raise ValueError("each may be named once")
    return values


Once = AfterValidator(_once)
"""Refuses a list that names something twice."""


class Section(BaseModel):
    """A part of the configuration; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class PhantomConfig(Section):
    cases: Annotated[int, Field(ge=5, le=500)] = Field(80, description="Cases of the phantom, one patient each.")
    shape: tuple[Positive, Positive, Positive] = Field(
        (64, 64, 48), description="Voxels along X, Y, Z; the field of view stays, so fewer voxels are larger ones."
    )
    shift_cases: Annotated[int, Field(ge=0, le=400)] = Field(
        16, description="Cases of the test fold `shift`: other contrast, noise and anatomy. 0 leaves it out."
    )


class SplitConfig(Section):
    folds: Positive = Field(
        1, description="1: one hold-out split. More: cross-validation, each patient tested once, by patient and grade."
    )
    test: Share = Field(0.2, description="Share of the patients that are tested; used with one fold only.")
    val: Share = Field(0.2, description="Share of the patients (that may be tested) kept for validation in each fold.")
    train_only: list[str] = Field(
        [], description="Patterns of case names (`TCGA-*`) that only ever train, such as cases without expert masks."
    )


class SupervoxelConfig(Section):
    segments: Positive = Field(400, description="Supervoxels asked for inside the foreground of a case.")
    compactness: Annotated[float, Field(gt=0)] = Field(
        0.1, description="SLIC: larger gives rounder supervoxels; images are scaled to [0, 1] first."
    )


class IntensityConfig(Section):
    channel: str = Field("flair", description="Channel whose brightness is the null `intensity`.")
    sign: Literal[1, -1] = Field(1, description="1: lesions are bright in it; -1: they are dark.")
    floor: float | None = Field(
        None,
        description="Smaller values are no evidence; -1.2 in `soft_tissue` is 0 HU (fat is below).",
    )


_MIN_LESION = "A slice is labelled lesion from this area on; smaller lesions leave it without a label."

Window = tuple[float, Annotated[float, Field(gt=0)]]


class DatasetConfig(Section):
    """What every data set has; the classes below add what is its own."""

    path: str = Field(
        "phantom",
        min_length=1,
        description="`phantom`, or the folder of the real data in its publisher's layout (`~` and `$VAR` work).",
    )
    shift_path: str | None = Field(
        None,
        description="A second folder of the same layout that is only tested (another hospital). Phantoms bring theirs.",
    )
    spacing: tuple[Millimetres, Millimetres, Millimetres] | None = Field(
        None, description="Voxel size in mm to resample to; null keeps it."
    )
    size: tuple[Positive, Positive, Positive] | None = Field(
        None, description="Voxels along X, Y, Z to crop or pad to, around the foreground; null keeps the grid."
    )
    min_lesion_mm2: Annotated[float, Field(ge=0)] = Field(20, description=_MIN_LESION)
    max_dropped: Share = Field(0.15, description="Largest share of lesion slices that may fall below `min_lesion_mm2`.")
    supervoxels: SupervoxelConfig = SupervoxelConfig()
    intensity: IntensityConfig = IntensityConfig()
    split: SplitConfig = SplitConfig()
    phantom: PhantomConfig = PhantomConfig()

    @property
    def is_phantom(self) -> bool:
        return self.path == "phantom"

    @property
    def files(self) -> list[str]:
        """Names of the image files of a case."""
        raise NotImplementedError

    @property
    def channels(self) -> list[str]:
        """Names of the channels of the preprocessed image."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _consistent(self) -> DatasetConfig:
        if self.intensity.channel not in self.channels:
            raise ValueError(
                f"intensity.channel: {self.intensity.channel} is not among the channels {self.channels}; name one"
            )
        if self.split.folds == 1 and self.split.test + self.split.val >= 1:
            raise ValueError("split: test and val together leave no patient to train on; lower one")
        if self.is_phantom and self.shift_path is not None:
            raise ValueError(
                "shift_path: phantoms bring their own shift fold; set path to real data or drop shift_path"
            )
        return self


class BratsConfig(DatasetConfig):
    modalities: Annotated[list[Modality], Once] = Field(
        ["t1", "t1ce", "t2", "flair"], min_length=1, description="Channels, in this order."
    )
    label_coding: Literal["brats2017", "brats2015"] = Field(
        "brats2017", description="brats2017: labels 1, 2, 4. brats2015: also 3, non-enhancing tumour."
    )
    region: Literal["whole_tumour", "tumour_core", "enhancing_tumour"] = Field(
        "whole_tumour", description="What counts as lesion, for labels and scores."
    )
    foreground: Literal["nonzero"] = Field("nonzero", description="Images are skull-stripped: what is not 0.")

    @property
    def files(self) -> list[str]:
        return list(self.modalities)

    @property
    def channels(self) -> list[str]:
        return list(self.modalities)


class CTConfig(DatasetConfig):
    windows: dict[str, Window] = Field({}, description="Channels: level and width in HU of each, scaled to [-4, 4].")

    @property
    def files(self) -> list[str]:
        return ["ct"]

    @property
    def channels(self) -> list[str]:
        return list(self.windows)


class InstanceConfig(CTConfig):
    label_coding: Literal["instance"] = Field("instance", description="Label 1: haemorrhage.")
    region: Literal["haemorrhage"] = Field("haemorrhage", description="What counts as lesion, for labels and scores.")
    foreground: Literal["brain", "body"] = Field("brain", description="brain: inside the skull, found by HU.")
    windows: dict[str, Window] = Field(
        {"brain": (40, 80), "subdural": (80, 200), "bone": (600, 2800)},
        min_length=1,
        description="Channels: level and width in HU of each, scaled to [-4, 4].",
    )
    min_lesion_mm2: Annotated[float, Field(ge=0)] = Field(40, description=_MIN_LESION)
    intensity: IntensityConfig = IntensityConfig(channel="brain")
    phantom: PhantomConfig = PhantomConfig(shape=(96, 96, 30))


class KitsConfig(CTConfig):
    label_coding: Literal["kits"] = Field("kits", description="Labels 1 kidney, 2 tumour, 3 cyst.")
    region: Literal["tumour"] = Field("tumour", description="What counts as lesion; slices with a cyst only have none.")
    foreground: Literal["kidneys", "body"] = Field(
        "kidneys", description="kidneys: organ masks (labels 1 to 3) and 10 mm around; rows say so under `anatomy`."
    )
    healthy_path: str | None = Field(
        None,
        min_length=1,
        description="Folder in TotalSegmentator v2's layout, whose healthy kidneys join as lesion-free cases. They "
        "come from other scanners: a classifier may learn these, not the tumour (`docs/how-to/healthy-kidneys.md`).",
    )
    windows: dict[str, Window] = Field(
        {"soft_tissue": (60, 400)},
        min_length=1,
        description="Channels: level and width in HU of each, scaled to [-4, 4].",
    )
    min_lesion_mm2: Annotated[float, Field(ge=0)] = Field(150, description=_MIN_LESION)
    intensity: IntensityConfig = IntensityConfig(channel="soft_tissue", sign=-1, floor=-1.2)
    phantom: PhantomConfig = PhantomConfig(shape=(120, 96, 40))

    @model_validator(mode="after")
    def _healthy(self) -> KitsConfig:
        if self.healthy_path is None:
            return self
        if self.is_phantom:
            raise ValueError("healthy_path: real cases cannot stand beside phantoms; set path to real data or drop it")
        if self.foreground != "kidneys":
            raise ValueError("healthy_path: those scans show other parts of the body; set foreground to kidneys")
        if self.spacing is None or self.size is None:
            raise ValueError("healthy_path: those scans have other voxels and another size; set spacing and size")
        return self


AnyDatasetConfig = BratsConfig | InstanceConfig | KitsConfig


class DataConfig(Section):
    brats: BratsConfig | None = Field(BratsConfig(), description="Glioma, multi-modal MRI; null leaves it out.")
    instance: InstanceConfig | None = Field(InstanceConfig(), description="Haemorrhage, head CT; null leaves it out.")
    kits: KitsConfig | None = Field(KitsConfig(), description="Kidney tumour, abdominal CT; null leaves it out.")


class SliceViewConfig(Section):
    min_foreground_mm2: Annotated[float, Field(ge=0)] = Field(
        1000, description="Axial slices with less foreground are no units: not trained on, map zero."
    )


class ViewsConfig(Section):
    slice: SliceViewConfig = SliceViewConfig()


class TrainingConfig(Section):
    epochs: Positive = Field(30, description="Most epochs.")
    patience: Positive = Field(8, description="Epochs without a better validation AUC after which training stops.")
    batch_size: Positive = Field(32, description="Slices per step.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-3, description="Peak of the one-cycle schedule of AdamW.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-2, description="Of AdamW.")
    augmentation: bool = Field(True, description="Flips, affine, contrast and noise on training slices.")


class ResNetConfig(Section):
    blocks: tuple[Positive, Positive, Positive, Positive] = Field((1, 1, 1, 1), description="Basic blocks per stage.")
    width: Positive = Field(16, description="Channels of the first stage, doubled at each next; 64 is full width.")
    stem_stride: Literal[1, 2] = Field(2, description="Stride of the first convolution.")
    training: TrainingConfig = TrainingConfig()


class ClassifiersConfig(Section):
    resnet: ResNetConfig = Field(ResNetConfig(), description="2D ResNet on single slices: lesion or not.")


class CamConfig(Section):
    layer: Layer = Field("layer3", description="Stage of the ResNet whose output is explained.")


class MethodsConfig(Section):
    gradcam: CamConfig | None = Field(CamConfig(layer="layer3"), description="null leaves the method out.")
    layercam: CamConfig | None = Field(CamConfig(layer="layer1"), description="null leaves the method out.")


class UntrainedConfig(Section):
    layer: Layer = Field("layer1", description="LayerCAM of this stage of a network that never saw a label.")


class NullsConfig(Section):
    untrained: UntrainedConfig = UntrainedConfig()


class MapsConfig(Section):
    gate: Annotated[list[Literal["classifier", "none"]], Once] = Field(
        ["classifier"],
        min_length=1,
        description="classifier: slices that it calls normal get an all-zero map, nulls too. none: all are explained.",
    )
    methods: MethodsConfig = MethodsConfig()
    nulls: NullsConfig = Field(
        NullsConfig(), description="random, centre, intensity, untrained and mean_mask always run."
    )


class ComponentsConfig(Section):
    opening_mm: Annotated[float, Field(ge=0)] = Field(3, description="Radius of the opening; 0 leaves it out.")
    closing_mm: Annotated[float, Field(ge=0)] = Field(3, description="Radius of the closing; 0 leaves it out.")
    min_volume_ml: Annotated[float, Field(ge=0)] = Field(1, description="Smaller connected components are dropped.")


class RefinementsConfig(Section):
    chains: Annotated[list[str], Once] = Field(
        ["threshold", "supervoxel", "supervoxel+components"],
        min_length=1,
        description="Chains of refinements joined by `+`: threshold (as it is), supervoxel, and last components.",
    )
    components: ComponentsConfig = ComponentsConfig()

    @model_validator(mode="after")
    def _known(self) -> RefinementsConfig:
        for chain in self.chains:
            steps = chain.split("+")
            for step in steps:
                if step not in catalogue.REFINEMENTS:
                    raise ValueError(
                        f"chains: {chain}: unknown refinement {step!r}{nearest(step, catalogue.REFINEMENTS)}"
                    )
            if "components" in steps[:-1]:
                raise ValueError(f"chains: {chain}: components works on masks, so it must come last")
            if ("threshold" in steps and steps[0] != "threshold") or len(set(steps)) < len(steps):
                raise ValueError(f"chains: {chain}: threshold may only come first, and each step once")
            if steps[0] == "threshold" and len(steps) > 1:
                raise ValueError(f"chains: {chain}: threshold is the identity; write {'+'.join(steps[1:])}")
        return self


class FaithfulnessConfig(Section):
    slices: Positive = Field(
        4, description="Slices per tested case, drawn among those that the gate lets through; all methods share them."
    )
    steps: Annotated[int, Field(ge=2)] = Field(
        10, description="Deletion and insertion: parts into which a slice's foreground is cut."
    )
    baselines: Annotated[list[Literal["zero", "blur", "noise"]], Once] = Field(
        ["zero", "blur", "noise"],
        min_length=1,
        description="What stands for nothing: 0 (mean of the foreground, or middle of the window), blur, noise.",
    )
    blur_mm: Millimetres = Field(10, description="Standard deviation of the Gaussian of the baseline `blur`.")
    randomised_cases: Annotated[int, Field(ge=0)] = Field(
        4, description="Tested cases per seed and fold that are explained again with random weights; 0: none."
    )


class ProtocolConfig(Section):
    operating_points: Annotated[list[Point], Once] = Field(
        ["fixed", "label-free", "val-k", "oracle-set"],
        min_length=1,
        description="How maps are cut: at 0.5, by Otsu, at the best threshold of k validation patients, or of the "
        "tested set (an upper bound).",
    )
    val_k: Annotated[list[Positive], Once] = Field(
        [1, 5, 10, 20],
        min_length=1,
        description="k of `val-k`: patients whose masks choose the threshold; one that a fold is too small for is "
        "left out (`tables/left_out.csv`). `val-10` is the headline.",
    )
    draws: Positive = Field(20, description="Draws of k patients that each score of `val-k` is the mean of.")
    bootstrap: Annotated[int, Field(ge=100)] = Field(2000, description="Resamples of patients behind each interval.")
    faithfulness: FaithfulnessConfig = FaithfulnessConfig()


class DenseNetConfig(Section):
    blocks: tuple[Positive, Positive, Positive, Positive] = Field(
        (2, 2, 2, 2), description="Layers of each dense block; DenseNet-121 has 6, 12, 24, 16."
    )
    width: Positive = Field(16, description="Channels of the stem; DenseNet-121 has 64.")
    growth: Positive = Field(8, description="Channels that each layer adds; DenseNet-121 has 32.")


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
    training: TrainingConfig = TrainingConfig(epochs=8)
    densenet: DenseNetConfig = DenseNetConfig()
    efficientnet: EfficientNetConfig = EfficientNetConfig()


class StudiesConfig(Section):
    sneak_attack: SneakAttackConfig | None = Field(
        SneakAttackConfig(),
        description="Classifiers re-trained on filtered images: `snakemake sneak_attack`; null leaves the study out.",
    )


class ReportConfig(Section):
    overlay_cases: Positive = Field(6, description="Test cases in `overlays.png`.")
    minutes_per_mask: Annotated[float, Field(ge=0)] = Field(
        30, description="Annotator's minutes for a case's mask in `masks.png`: an assumption, put your own."
    )
    minutes_per_slice_label: Annotated[float, Field(ge=0)] = Field(
        0.1, description="Annotator's minutes to say of a slice whether it shows a lesion: an assumption too."
    )


RESERVED = ("runs", "tables", "figures", "models", "logs", "benchmarks", "failures", "own")
"""Folders of ``results/`` that a configuration's own folder must not be."""


class Config(Section):
    """Everything that decides what is computed."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")] = Field(
        "default", description="default publishes to `results/`, any other name to `results/<name>/`."
    )
    data_seed: int = Field(20220, description="Seed of phantoms, folds and draws.")
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Once] = Field(
        [0, 1, 2], min_length=1, description="Repetitions: classifiers and maps are run once with each."
    )
    data: DataConfig = DataConfig()
    views: ViewsConfig = ViewsConfig()
    classifiers: ClassifiersConfig = ClassifiersConfig()
    maps: MapsConfig = MapsConfig()
    refinements: RefinementsConfig = RefinementsConfig()
    protocol: ProtocolConfig = ProtocolConfig()
    studies: StudiesConfig = StudiesConfig()
    report: ReportConfig = ReportConfig()

    @property
    def datasets(self) -> dict[str, AnyDatasetConfig]:
        """The data sets that are not left out."""
        sets = {name: getattr(self.data, name) for name in type(self.data).model_fields}
        return {name: dataset for name, dataset in sets.items() if dataset is not None}

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.name in RESERVED:
            raise ValueError(f"name: {self.name} is a folder of results/ already; choose another")
        if not self.datasets:
            raise ValueError("data: every data set is null; keep at least one")
        study = self.studies.sneak_attack
        if study is not None and study.dataset is not None and study.dataset not in self.datasets:
            raise ValueError(
                f"studies.sneak_attack.dataset: data.{study.dataset} is null; name one of {list(self.datasets)}"
            )
        return self
