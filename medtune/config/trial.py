"""One training run: everything that changes its numbers. The defaults are the official MedMNIST recipe.

Yang et al. 2023: ResNet-18, Adam 1e-3, batch 128, 100 epochs, lr x0.1 at 50 % and 75 %, no augmentation.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]


class Part(BaseModel):
    """A mapping of the sweep file: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ModelConfig(Part):
    name: Literal["smallcnn", "resnet18"] = "resnet18"
    dropout: Annotated[float, Field(ge=0, lt=1, description="before the head")] = 0.0


class Adam(Part):
    name: Literal["adam"] = "adam"
    lr: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    beta1: Momentum = 0.9
    beta2: Momentum = 0.999


class AdamW(Part):
    name: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: NonNegative = 1e-2
    beta1: Momentum = 0.9
    beta2: Momentum = 0.999


class SGD(Part):
    name: Literal["sgd"] = "sgd"
    lr: Positive = 1e-2
    weight_decay: NonNegative = 0.0
    momentum: Momentum = 0.9
    nesterov: bool = True


class RMSprop(Part):
    name: Literal["rmsprop"] = "rmsprop"
    lr: Positive = 1e-3
    weight_decay: NonNegative = 0.0
    momentum: Momentum = 0.0
    alpha: Momentum = 0.99


Optimizer = Annotated[Adam | AdamW | SGD | RMSprop, Field(discriminator="name")]


class Schedule(Part):
    """`warmup` is the fraction of all steps over which the lr rises linearly from zero."""

    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Constant(Schedule):
    name: Literal["constant"] = "constant"


class Cosine(Schedule):
    name: Literal["cosine"] = "cosine"
    final: Annotated[Fraction, Field(description="last lr as a fraction of the first")] = 0.0


class Step(Schedule):
    name: Literal["step"] = "step"
    every: Annotated[float, Field(gt=0, le=1, description="as a fraction of the epochs")] = 0.5
    gamma: Fraction = 0.1


class MultiStep(Schedule):
    name: Literal["multistep"] = "multistep"
    milestones: Annotated[tuple[Fraction, ...], Field(description="as fractions of the epochs")] = (0.5, 0.75)
    gamma: Fraction = 0.1


class OneCycle(Part):
    name: Literal["onecycle"] = "onecycle"
    peak: Annotated[float, Field(gt=0, lt=1, description="where the lr is highest, as a fraction of the steps")] = 0.3
    start_factor: Annotated[float, Field(gt=0, le=1)] = 0.04
    final_factor: Annotated[float, Field(ge=0, le=1)] = 4e-6


LearningRateSchedule = Annotated[Constant | Cosine | Step | MultiStep | OneCycle, Field(discriminator="name")]


class Augment(Part):
    """Each is drawn anew for every image of a batch, on the batch's device; all off by default."""

    flip: Annotated[bool, Field(description="left to right, in half of the images")] = False
    flip_vertical: bool = False
    rotate_degrees: Annotated[float, Field(ge=0, le=180, description="uniform in +-")] = 0.0
    shift: Annotated[float, Field(ge=0, le=0.5, description="uniform in +-, as a fraction of the side")] = 0.0
    crop: Annotated[float, Field(ge=0, lt=1, description="up to this fraction of the side is cropped")] = 0.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: Annotated[Fraction, Field(description="colour sets only")] = 0.0
    noise: Annotated[Fraction, Field(description="standard deviation on the scale 0 to 1")] = 0.0
    erase: Annotated[Fraction, Field(description="probability that a rectangle is erased")] = 0.0


class Loss(Part):
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class EarlyStopping(Part):
    patience: Annotated[int | None, Field(ge=1, description="epochs without a better value; null: never")] = None


class TrialConfig(Part):
    epochs: Annotated[int, Field(ge=1)] = 100
    batch_size: Annotated[int, Field(ge=2)] = 128
    model: ModelConfig = ModelConfig()
    optimizer: Optimizer = Adam()
    schedule: LearningRateSchedule = MultiStep()
    augment: Augment = Augment()
    loss: Loss = Loss()
    early_stopping: EarlyStopping = EarlyStopping()
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="auto: bfloat16 where the device's flags say that it is native"),
    ] = "auto"
