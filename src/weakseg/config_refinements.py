"""The part of the configuration that says how maps are refined."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from weakseg import catalogue
from weakseg.config_data import DatasetConfig, Millimetres, Once, Positive, Section, Share
from weakseg.errors import nearest


def _known_map(name: str) -> str:
    maps = [method.name for method in catalogue.METHODS.values() if method.family != "mean_mask"]
    if name not in maps:
        raise ValueError(f"unknown map {name!r}{nearest(name, maps)}")
    return name


Weight = Annotated[float, Field(ge=0)]
UnitInterval = Annotated[float, Field(ge=0, le=1)]
MapName = Annotated[str, AfterValidator(_known_map)]
_CHANNELS = "intensity: the data set's `intensity.channel` alone; all: every channel."


class ClustersConfig(Section):
    algorithm: Literal["kmeans", "gaussian_mixture", "fuzzy_cmeans"] = Field("kmeans", description="What clusters.")
    number: Annotated[int, Field(ge=2)] = Field(3, description="Clusters of intensity.")
    channels: Literal["intensity", "all"] = Field("intensity", description=_CHANNELS)
    smoothing_mm: Annotated[float, Field(ge=0)] = Field(
        0.5, description="Standard deviation of the Gaussian over the image before; 0 leaves it out."
    )
    agreement: UnitInterval = Field(
        0.5, description="Least mean relevance of a cluster that is kept, as a share of the best one's."
    )
    overlap: UnitInterval = Field(
        0.3, description="Least share of a connected piece of it where the map is above half its peak."
    )


class RandomWalkerConfig(Section):
    # A false blob of 0.8 of the peak, as in benchmarks/refinements.py, must not seed walks.
    high: UnitInterval = Field(0.9, description="From this share of the map's peak on, voxels are seeds of lesion.")
    low: UnitInterval = Field(0.2, description="Up to this share of the map's peak, voxels are seeds of no lesion.")
    beta: Weight = Field(100, description="How much a squared difference of intensity, in [0, 1], holds walks back.")
    channels: Literal["intensity", "all"] = Field("intensity", description=_CHANNELS)

    @model_validator(mode="after")
    def _ordered(self) -> RandomWalkerConfig:
        if self.low >= self.high:
            raise ValueError(f"low: {self.low:g} must lie below high, {self.high:g}")
        return self


class CrfConfig(Section):
    appearance: Weight = Field(5, description="Weight, in log-odds, of voxels that are near and alike.")
    # The filter has cells of this width: much narrower ones would fill the memory.
    appearance_mm: Annotated[float, Field(ge=2)] = Field(10, description="Standard deviation of their distance.")
    appearance_intensity: Annotated[float, Field(gt=0.01, le=1)] = Field(
        0.1, description="Standard deviation of their difference of intensity, in [0, 1]; of `intensity.channel`."
    )
    smoothness: Weight = Field(2, description="Weight, in log-odds, of voxels that are near.")
    smoothness_mm: Millimetres = Field(2, description="Standard deviation of their distance.")
    iterations: Positive = Field(5, description="Updates of mean field.")


class ComponentsConfig(Section):
    opening_mm: Annotated[float, Field(ge=0)] = Field(3, description="Radius of the opening; 0 leaves it out.")
    closing_mm: Annotated[float, Field(ge=0)] = Field(3, description="Radius of the closing; 0 leaves it out.")
    min_volume_ml: Annotated[float, Field(ge=0)] = Field(1, description="Smaller connected components are dropped.")


class StudentConfig(Section):
    methods: Annotated[list[MapName], Once] = Field(
        ["gradcam", "layercam", "coin", "relevance_map", "intensity"],
        min_length=1,
        description="Maps that chains with a student are for, of those that explain slices: each has a student of its "
        "own.",
    )
    pseudo_masks: Literal["cut", "soft"] = Field(
        "cut", description="cut: maps of training cases are cut by Otsu's threshold. soft: they are learnt as they are."
    )
    slices: Annotated[int, Field(ge=2)] = Field(
        24, description="Most slices of a training case that are learnt from; half show a lesion."
    )
    width: Positive = Field(
        8, description="Channels at full and half resolution, doubled at each of three more halvings."
    )
    steps: Positive = Field(300, description="Batches of a round, to the next multiple of 25.")
    batch_size: Annotated[int, Field(ge=2)] = Field(16, description="Slices of a batch; half show a lesion.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(2e-2, description="Peak of one cycle of AdamW.")
    weight_decay: Weight = Field(1e-4, description="Of AdamW.")
    q: Share = Field(0.7, description="Generalised cross entropy: near 0 every voxel is trusted, at 1 outliers least.")
    gamma: Annotated[float, Field(ge=1, le=2)] = Field(
        1.5, description="Noise-robust Dice: at 2 as usual, at 1 outliers are trusted least."
    )
    rounds: Positive = Field(1, description="In each further one a new student learns from the one before.")


class DeclaredConfig(Section):
    method: MapName = Field("layercam", description="The one map, declared before any result was seen.")
    chains: Annotated[list[str], Once] = Field(
        ["clusters", "random_walker", "crf", "student"],
        min_length=1,
        description="Chains for this map of slices alone. They are compared with nulls as these are.",
    )
    seeds: Positive | None = Field(1, description="Only the first so many seeds; null is all.")


class RefinementsConfig(Section):
    chains: Annotated[list[str], Once] = Field(
        ["threshold", "supervoxel", "supervoxel+components"],
        min_length=1,
        description="Chains of refinements joined by `+`: threshold (as it is), supervoxel, clusters, random_walker, "
        "crf, student, and last components.",
    )
    declared: DeclaredConfig | None = Field(
        DeclaredConfig(), description="Chains that one map of each data set goes through; null leaves them out."
    )
    clusters: ClustersConfig = ClustersConfig()
    random_walker: RandomWalkerConfig = RandomWalkerConfig()
    crf: CrfConfig = CrfConfig()
    student: StudentConfig = StudentConfig()
    components: ComponentsConfig = ComponentsConfig()

    def parameters(self, step: str, dataset: DatasetConfig) -> dict[str, Any]:
        """The settings of a step for a data set, with its channels by their places; empty for one without any."""
        if step == "student":
            return self.student.model_dump(exclude={"methods"})
        if step not in ("clusters", "random_walker", "crf"):
            return {}
        settings = getattr(self, step).model_dump()
        own = dataset.channels.index(dataset.intensity.channel)
        if step == "crf":
            return {**settings, "channel": own}
        every = list(range(len(dataset.channels)))
        return {**settings, "channels": [own] if settings["channels"] == "intensity" else every}

    @model_validator(mode="after")
    def _known(self) -> RefinementsConfig:
        for chain in self.chains:
            check_chain(chain, "chains")
        for chain in self.declared.chains if self.declared is not None else ():
            check_chain(chain, "declared.chains")
            if chain in self.chains:
                raise ValueError(f"declared.chains: {chain} is for every map already; take it out of one of the two")
        return self


def check_chain(chain: str, key: str) -> None:
    """Raise a ValueError unless a chain's steps are known and stand where they can."""
    steps = chain.split("+")
    for step in steps:
        if step not in catalogue.REFINEMENTS:
            raise ValueError(f"{key}: {chain}: unknown refinement {step!r}{nearest(step, catalogue.REFINEMENTS)}")
    if "components" in steps[:-1]:
        raise ValueError(f"{key}: {chain}: components works on masks, so it must come last")
    if ("threshold" in steps and steps[0] != "threshold") or len(set(steps)) < len(steps):
        raise ValueError(f"{key}: {chain}: threshold may only come first, and each step once")
    if steps[0] == "threshold" and len(steps) > 1:
        raise ValueError(f"{key}: {chain}: threshold is the identity; write {'+'.join(steps[1:])}")
