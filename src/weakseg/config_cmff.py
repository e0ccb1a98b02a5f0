"""The part of the configuration that says how CMFT and CMFF are trained."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from weakseg.config_data import Positive, Section

Rate = Annotated[float, Field(gt=0)]


class CMFTConfig(Section):
    steps: Positive = Field(100, description="Batches of the CycleGAN, without a label; the paper has 10,000.")
    batch_size: Positive = Field(2, description="Patches per step; the paper has 1.")
    learning_rate: Rate = Field(2e-3, description="Of Adam; the paper has 1e-4.")
    cycle: Annotated[float, Field(ge=0)] = Field(10, description="Weight of the cycle's L1 distance.")


class CMFFConfig(Section):
    width: Positive = Field(4, description="Features of the first level, doubled at each next; the paper has 16.")
    patch: Annotated[int, Field(ge=32, multiple_of=16)] = Field(32, description="Edge in voxels; the paper has 128.")
    transition: CMFTConfig = Field(CMFTConfig(), description="CMFT, whose generators CMFF begins with.")
    steps: Positive = Field(600, description="Batches; the last weights are kept. The paper has 30,000.")
    batch_size: Positive = Field(2, description="Patches per step; the paper has 1.")
    learning_rate: Rate = Field(2e-2, description="Of Adam; the paper has 1e-4.")
    decay: bool = Field(True, description="The learning rate falls to 0 in equal parts; in the paper it stays.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-5, description="Of Adam.")
    checkpoint: Positive = Field(50, description="Steps, here and in `transition`, that a kill costs at most.")
