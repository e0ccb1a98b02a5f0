"""The configuration: its models are the source of the JSON schema, the defaults and the key reference.

The sections stand in the order of the workflow. *How* to run (cores, device, memory) is no part of it: that lives in
profiles. :func:`weakseg.config_text.load` makes a :class:`Config` of what was written in YAML.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from weakseg.config_classifiers import ClassifiersConfig
from weakseg.config_data import AnyDatasetConfig, DataConfig, Millimetres, Once, Positive, Section, ViewsConfig
from weakseg.config_maps import Layer, MethodsConfig
from weakseg.config_references import ReferencesConfig
from weakseg.config_refinements import MapName, RefinementsConfig
from weakseg.config_studies import StudiesConfig

Point = Literal["fixed", "label-free", "paper", "val-k", "oracle-set"]


class UntrainedConfig(Section):
    layer: Layer = Field("layer1", description="LayerCAM of this stage of a network that never saw a label.")


class NullsConfig(Section):
    untrained: UntrainedConfig = UntrainedConfig()


class MapsConfig(Section):
    gate: Annotated[list[Literal["classifier", "none"]], Once] = Field(
        ["classifier"],
        min_length=1,
        description="classifier: slices that it calls normal get an all-zero map, nulls too. none: all are explained. "
        "Volumes have no gate.",
    )
    methods: MethodsConfig = MethodsConfig()
    nulls: NullsConfig = Field(
        NullsConfig(), description="random, centre, intensity, untrained and mean_mask always run."
    )


class FaithfulnessConfig(Section):
    slices: Positive = Field(
        2, description="Slices per tested case, drawn among those that the gate lets through; all methods share them."
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
        ["fixed", "label-free", "paper", "val-k", "oracle-set"],
        min_length=1,
        description="How maps are cut: at 0.5, by Otsu, as their paper cuts where it says, at the best "
        "threshold of k validation patients, or of the tested set (an upper bound).",
    )
    val_k: Annotated[list[Positive], Once] = Field(
        [1, 5, 10, 20],
        min_length=1,
        description="k of `val-k`: patients whose masks choose the threshold; one that a fold is too small for is "
        "left out (`tables/left_out.csv`). `val-10` is the headline.",
    )
    draws: Positive = Field(20, description="Draws of k patients that each score of `val-k` is the mean of.")
    bootstrap: Annotated[int, Field(ge=100)] = Field(2000, description="Resamples of patients behind each interval.")
    pairs: Annotated[list[MapName], Once] = Field(
        ["coin"], description="Methods that are set against every other one, patient by patient (`tables/pairs.csv`)."
    )
    faithfulness: FaithfulnessConfig = FaithfulnessConfig()


class ReportConfig(Section):
    overlay_cases: Positive = Field(6, description="Test cases in each `overlays-*.png`.")
    minutes_per_mask: Annotated[float, Field(ge=0)] = Field(
        30, description="Annotator's minutes for a case's mask in `masks.png`: an assumption, put your own."
    )
    minutes_per_slice_label: Annotated[float, Field(ge=0)] = Field(
        0.1, description="Annotator's minutes to say of a slice whether it shows a lesion: an assumption too."
    )
    minutes_per_grade: Annotated[float, Field(ge=0)] = Field(
        1, description="Annotator's minutes to look up a case's grade: an assumption too."
    )
    viewer_mb: Annotated[float, Field(ge=0, le=20)] = Field(
        10, description="Most megabytes of volumes in `report.html`; with fewer it shows fewer cases."
    )


RESERVED = ("runs", "tables", "figures", "models", "logs", "benchmarks", "failures", "own", "partial")
"""Folders of ``results/`` that a configuration's own folder must not be."""


class Config(Section):
    """Everything that decides what is computed."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")] = Field(
        "default", description="default publishes to `results/`, any other name to `results/<name>/`."
    )
    data_seed: int = Field(20220, description="Seed of phantoms, folds and draws.")
    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Once] = Field(
        [0, 1], min_length=1, description="Repetitions: classifiers and maps are run once with each."
    )
    data: DataConfig = DataConfig()
    views: ViewsConfig = ViewsConfig()
    classifiers: ClassifiersConfig = ClassifiersConfig()
    maps: MapsConfig = MapsConfig()
    refinements: RefinementsConfig = RefinementsConfig()
    references: ReferencesConfig = ReferencesConfig()
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
