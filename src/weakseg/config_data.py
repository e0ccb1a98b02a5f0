"""The part of the configuration that says which data there are and how they are brought onto their grids.

Also how cases are cut into units, and what all parts of it are made of: :class:`Section` and the ranges of values.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

Modality = Literal["t1", "t1ce", "t2", "flair"]
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

    @model_validator(mode="before")
    @classmethod
    def _over_defaults(cls, given: Any) -> Any:
        """What is left out of an inner section stays as it is by default here, which may differ from its class's."""
        if not isinstance(given, dict):
            return given
        defaults = {name: field.default for name, field in cls.model_fields.items()}
        return {name: _laid_over(defaults.get(name), value) for name, value in given.items()}


def _laid_over(default: Any, given: Any) -> Any:
    if not (isinstance(default, Section) and isinstance(given, dict)):
        return given
    of_default = {name: getattr(default, name) for name in type(default).model_fields}
    return of_default | {name: _laid_over(of_default.get(name), value) for name, value in given.items()}


class PhantomConfig(Section):
    cases: Annotated[int, Field(ge=5, le=500)] = Field(80, description="Cases of the phantom, one patient each.")
    shape: tuple[Positive, Positive, Positive] = Field(
        (64, 64, 48), description="Voxels along X, Y, Z; the field of view stays, so fewer voxels are larger ones."
    )
    shift_cases: Annotated[int, Field(ge=0, le=400)] = Field(
        8, description="Cases of the test fold `shift`: other contrast, noise and anatomy. 0 leaves it out."
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

_SIZE = (
    "Voxels along X, Y, Z to crop or pad to, around the foreground; foreground takes what holds that of every case; "
    "null keeps the grid."
)

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
    size: tuple[Positive, Positive, Positive] | Literal["foreground"] | None = Field(None, description=_SIZE)
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
    size: tuple[Positive, Positive, Positive] | Literal["foreground"] | None = Field("foreground", description=_SIZE)
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
    size: tuple[Positive, Positive, Positive] | Literal["foreground"] | None = Field("foreground", description=_SIZE)
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


def odd(slices: int) -> int:
    if slices % 2 == 0:
        raise ValueError(f"of {slices} slices none is in the middle; take {slices - 1} or {slices + 1}")
    return slices


class SequenceViewConfig(Section):
    slices: Annotated[Positive, AfterValidator(odd)] = Field(
        3, description="K, odd: slices of the window in whose middle a slice is classified; edges are replicated."
    )
    distance_mm: Millimetres | None = Field(
        None,
        description="From a slice of a window to the next, in whole slices and at least one, so that thick and thin "
        "scans show as much; null: adjacent slices.",
    )
    seeds: Positive | None = Field(None, description="How many of `seeds`, from the first on; null: all.")


class VolumeViewConfig(Section):
    least_mm: tuple[Millimetres, Millimetres, Millimetres] = Field(
        (165, 192, 144),
        description="A case is cut to the box around its foreground, of at least this size along X, Y, Z where the "
        "grid allows, so that the share of background is alike.",
    )
    seeds: Positive | None = Field(None, description="How many of `seeds`, from the first on; null: all.")


class ViewsConfig(Section):
    slice: SliceViewConfig = SliceViewConfig()
    sequence: SequenceViewConfig | None = Field(
        None, description="Slices beside their neighbours, of every data set; null leaves the view out."
    )
    volume: VolumeViewConfig | None = Field(
        VolumeViewConfig(seeds=1),
        description="Whole cases, for data sets with grades (`brats`); null leaves the view out.",
    )
