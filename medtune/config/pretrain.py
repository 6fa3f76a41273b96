"""One pretraining: everything that changes the numbers of an encoder that is trained without labels."""

from typing import Annotated, Literal

from pydantic import Field

from medtune.config.trial import (
    AdamW,
    Cosine,
    Distortions,
    EarlyStopping,
    EncoderConfig,
    Fraction,
    Labels,
    LearningRateSchedule,
    Momentum,
    NonNegative,
    Optimizer,
    Part,
    Positive,
)

Temperature = Annotated[Positive, Field(description="what cosines are divided by")]


class Views(Distortions):
    """By what the two views of an image differ. Strong by default; colour's take part in colour sets alone."""

    flip: Annotated[bool, Field(description="left to right, in half of the views")] = True
    rotate_degrees: Annotated[float, Field(ge=0, le=180, description="uniform in +-")] = 10.0
    crop: Annotated[float, Field(ge=0, lt=1, description="up to this fraction of the side is cropped")] = 0.5
    brightness: Fraction = 0.4
    contrast: Fraction = 0.4
    saturation: Annotated[Fraction, Field(description="colour sets only")] = 0.4
    hue: Annotated[float, Field(ge=0, le=0.5, description="colour sets only; uniform in +-, of a whole turn")] = 0.1
    grey: Annotated[Fraction, Field(description="colour sets only; probability that the colours go")] = 0.2
    blur: Annotated[Fraction, Field(description="probability that a view is smoothed, more or less")] = 0.5


class SimCLR(Part):
    """Chen et al. 2020: the other view among all views of the batch (NT-Xent)."""

    name: Literal["simclr"] = "simclr"
    temperature: Temperature = 0.2


class MoCo(Part):
    """He et al. 2020 and Chen et al. 2020 (v2): the other view, as a slow copy of the encoder sees it, among earlier
    ones; without a queue among those of the batch, with a predictor (v3, Chen et al. 2021)."""

    name: Literal["moco"] = "moco"
    temperature: Temperature = 0.2
    queue: Annotated[int, Field(ge=0, le=65536, description="earlier views to tell it from; 0: those of the batch")] = (
        4096
    )
    momentum: Annotated[Momentum, Field(description="of the slow copy, a step")] = 0.99


class VICReg(Part):
    """Bardes et al. 2022: no negatives; views alike, features that vary, and each in its own way."""

    name: Literal["vicreg"] = "vicreg"
    invariance: NonNegative = 25.0
    variance: NonNegative = 25.0
    covariance: NonNegative = 1.0


Method = Annotated[SimCLR | MoCo | VICReg, Field(discriminator="name")]


class Projector(Part):
    """What stands between encoder and loss, and is thrown away after it."""

    hidden: Annotated[int, Field(ge=1, description="units of its dense ReLU layer")] = 256
    features: Annotated[int, Field(ge=2, description="that the loss sees")] = 128


class PretrainConfig(Part):
    epochs: Annotated[int, Field(ge=1)] = 50
    batch_size: Annotated[int, Field(ge=2, description="images, of two views each")] = 128
    micro_batch: Annotated[
        int | None,
        Field(ge=2, description="images at once through the network, where a batch needs too much memory; null: all"),
    ] = None
    images: Annotated[
        Literal["train", "train+val"],
        Field(description="that it learns from, without labels; with val, what is then validated is too good"),
    ] = "train"
    model: EncoderConfig = EncoderConfig()
    method: Method = SimCLR()
    projector: Projector = Projector()
    optimizer: Optimizer = AdamW()
    schedule: LearningRateSchedule = Cosine(warmup=0.1)
    augment: Views = Views()
    neighbours: Annotated[int, Field(ge=1, description="of the k-NN probe, by which an encoder is validated")] = 20
    early_stopping: EarlyStopping = EarlyStopping()
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="auto: bfloat16 where the device's flags say that it is native"),
    ] = "auto"
    labels: Labels | None = None  # as in `TrialConfig`: those of the k-NN probe
