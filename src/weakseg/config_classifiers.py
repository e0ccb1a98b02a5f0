"""The part of the configuration that says which networks are trained on image-level labels, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from weakseg.config_data import Positive, Section

Stride = Literal[1, 2]


class TrainingConfig(Section):
    epochs: Positive = Field(30, description="Most epochs; more if they are too few for `least_steps`.")
    patience: Positive = Field(8, description="Epochs without a better validation AUC after which training stops.")
    least_steps: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Least steps of optimisation: a small data set gets more `epochs`, and more `patience`, for them.",
    )
    batch_size: Positive = Field(32, description="Slices per step.")
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-3, description="Peak of the one-cycle schedule of AdamW.")
    weight_decay: Annotated[float, Field(ge=0)] = Field(1e-2, description="Of AdamW.")
    averaging: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.99, description="Decay per step of the moving average of the weights that is kept; 0: the weights themselves."
    )
    augmentation: bool = Field(True, description="Flips, affine, contrast and noise on training units.")


class SliceTrainingConfig(TrainingConfig):
    """Of networks on slices. With a tenth of this rate they take half as many steps again, and are less sure."""

    epochs: Positive = Field(20, description="Most epochs; more if they are too few for `least_steps`.")
    least_steps: Annotated[int, Field(ge=0)] = Field(
        1300,
        description="Least steps of optimisation: a small data set gets more `epochs`, and more `patience`, for them.",
    )
    learning_rate: Annotated[float, Field(gt=0)] = Field(1e-2, description="Peak of the one-cycle schedule of AdamW.")


class ResidualNetworkConfig(Section):
    blocks: tuple[Positive, Positive, Positive, Positive] = Field((1, 1, 1, 1), description="Basic blocks per stage.")
    width: Positive = Field(16, description="Channels of the first stage, doubled at each next; 64 is full width.")


class StemStrideConfig(Section):
    brats: Stride = Field(2, description="Stride of the first convolution on this data set.")
    instance: Stride = Field(2, description="Stride of the first convolution on this data set.")
    kits: Stride = Field(
        1,
        description="1, for its smallest labelled lesions are four voxels wide on the phantom. `layer1` and "
        "`layer2` of map methods then mean the next stage, which has the same reduction.",
    )


class ResNetConfig(ResidualNetworkConfig):
    stem_stride: StemStrideConfig = StemStrideConfig()
    training: SliceTrainingConfig = SliceTrainingConfig()


class ResNetLSTMConfig(ResNetConfig):
    hidden: Positive = Field(64, description="Channels of the LSTM's state, in each direction; 256 for full `width`.")
    layers: Positive = Field(1, description="Of the LSTM.")
    bidirectional: bool = Field(True, description="It also reads from the last slice of a window to the first.")


class VolumeTrainingConfig(TrainingConfig):
    patience: Positive = Field(
        10, description="Epochs without a better validation likelihood after which training stops."
    )
    batch_size: Positive = Field(8, description="Volumes per step.")
    averaging: Annotated[float, Field(ge=0, lt=1)] = Field(
        0, description="As that of slices; 0, for there are few steps to average."
    )


class ResNet3DConfig(ResidualNetworkConfig):
    stem_stride: Stride = Field(2, description="Stride of the first convolution.")
    training: VolumeTrainingConfig = VolumeTrainingConfig()


class DenseNetConfig(Section):
    blocks: tuple[Positive, Positive, Positive, Positive] = Field(
        (2, 2, 2, 2), description="Layers of each dense block; DenseNet-121 has 6, 12, 24, 16."
    )
    width: Positive = Field(16, description="Channels of the stem; DenseNet-121 has 64.")
    growth: Positive = Field(8, description="Channels that each layer adds; DenseNet-121 has 32.")


class EvaluatorConfig(DenseNetConfig):
    training: SliceTrainingConfig = SliceTrainingConfig(epochs=30, least_steps=1950)


class ClassifiersConfig(Section):
    resnet: ResNetConfig = Field(ResNetConfig(), description="2D ResNet on single slices: lesion or not.")
    resnet_lstm: ResNetLSTMConfig = Field(
        ResNetLSTMConfig(), description="2D ResNet on each slice of a window, and an LSTM over them: lesion or not."
    )
    resnet3d: ResNet3DConfig = Field(ResNet3DConfig(), description="3D ResNet on volumes: glioma of high or low grade.")
    evaluator: EvaluatorConfig = Field(
        EvaluatorConfig(),
        description="2D DenseNet on single slices, trained where a method asks for a judge of another architecture and "
        "seed than the classifier it explains.",
    )
