"""The part of the configuration that says which supervised references are trained, and how."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from weakseg import catalogue
from weakseg.config_cmff import CMFFConfig
from weakseg.config_data import Once, Positive, Section
from weakseg.errors import nearest

Patch = tuple[Positive, Positive, Positive]
_PATCH = "Voxels along X, Y, Z that the network is shown at once on this data set; 1 along Z makes a 2D U-Net."


class PatchConfig(Section):
    brats: Patch = Field((64, 64, 1), description=_PATCH)
    instance: Patch = Field((64, 64, 1), description=_PATCH)
    kits: Patch = Field((64, 64, 1), description=_PATCH)


class UNetConfig(Section):
    patch: PatchConfig = PatchConfig()
    channels: Annotated[list[Positive], Field(min_length=2)] = Field(
        [16, 32, 64, 128], description="Channels of each level; each halves the size of the one before."
    )
    residual_units: Annotated[int, Field(ge=0)] = Field(
        0, description="Convolutions in each residual block; 0: plain blocks of one convolution."
    )
    steps: Positive = Field(600, description="Batches of `unet`; the checkpoint with the best validation Dice is kept.")
    k_steps: Positive = Field(300, description="Batches of the U-Nets of k masks; the last weights are kept.")
    checkpoint: Positive = Field(100, description="Batches between two checkpoints.")
    batch_size: Positive = Field(16, description="Patches per step; every other one has a lesion's voxel in it.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-2, description="Peak of the one-cycle schedule of AdamW.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-2, description="Of AdamW.")
    averaging: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.98, description="Decay per step of the moving average of the weights that is kept; 0: the weights themselves."
    )
    overlap: Annotated[float, Field(ge=0, lt=1)] = Field(0.25, description="Of neighbouring windows when segmenting.")

    @model_validator(mode="after")
    def _whole(self) -> UNetConfig:
        for name in ("steps", "k_steps"):
            if getattr(self, name) % self.checkpoint:
                raise ValueError(f"{name}: {getattr(self, name)} is no multiple of checkpoint, {self.checkpoint}")
        return self

    @model_validator(mode="after")
    def _halved(self) -> UNetConfig:
        least = 2 ** (len(self.channels) - 1)
        for name in type(self.patch).model_fields:
            x, y, z = getattr(self.patch, name)
            if any(size % least for size in ((x, y) if z == 1 else (x, y, z))):
                raise ValueError(
                    f"patch.{name}: {len(self.channels)} levels halve it {len(self.channels) - 1} times; "
                    f"make it multiples of {least}, or 1 along Z"
                )
        return self

    def parameters(self, dataset: str, k: int | None) -> dict[str, Any]:
        """What trains the U-Net of a data set, of all masks or of k."""
        settings = self.model_dump(exclude={"patch", "k_steps"})
        settings["patch"] = getattr(self.patch, dataset)
        return settings if k is None else {**settings, "steps": self.k_steps, "k": k}


class ReferencesConfig(Section):
    methods: Annotated[list[str], Once] = Field(
        ["unet", "unet_k1", "unet_k10", "cmff"],
        description="Networks that learn from masks: unet (training masks; validation masks choose the checkpoint), "
        "unet_k1, unet_k5, unet_k10, unet_k20 (the masks of so many validation patients, as `val-k` draws them, and no "
        "other), cmff (training masks; gliomas with all four modalities).",
    )
    seeds: Positive | None = Field(1, description="Of `seeds`, so many from the first on; null: all.")
    unet: UNetConfig = UNetConfig()
    cmff: CMFFConfig = Field(CMFFConfig(), description="Cross-modality feature transition, then fusion.")

    def parameters(self, method: str, dataset: str) -> dict[str, Any]:
        """The settings of a method for a data set."""
        if method == "cmff":
            return self.cmff.model_dump()
        return self.unet.parameters(dataset, catalogue.REFERENCES[method].k)

    @model_validator(mode="after")
    def _known(self) -> ReferencesConfig:
        for method in self.methods:
            if method not in catalogue.REFERENCES:
                raise ValueError(f"methods: unknown reference {method!r}{nearest(method, catalogue.REFERENCES)}")
        return self
