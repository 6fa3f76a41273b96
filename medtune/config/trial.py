"""One training run: everything that changes its numbers. The defaults are the official MedMNIST recipe.

Yang et al. 2023: ResNet-18, Adam 1e-3, batch 128, 100 epochs, lr x0.1 at 50 % and 75 %, no augmentation.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Momentum = Annotated[float, Field(ge=0, lt=1)]

Metric = Literal["val/auroc", "val/accuracy", "val/loss", "val/ece", "val/brier"]
METRICS: dict[Metric, Literal["max", "min"]] = {
    "val/auroc": "max",
    "val/accuracy": "max",
    "val/loss": "min",
    "val/ece": "min",
    "val/brier": "min",
}


class Part(BaseModel):
    """A mapping of the sweep file: unknown keys are errors, values never change after reading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


MODELS = "smallcnn resnet18 resnet34 resnet50 densenet121 efficientnet_b0 convnext_tiny vit_small".split()
UNPUBLISHED = ("smallcnn", "vit_small")  # no ImageNet weights of theirs are to be had
TIMM = "timm/"  # before the name of a model of the package timm
TIMM_NAME = "^timm/[a-z0-9_.]+$"


class EncoderConfig(Part):
    """A network without its head."""

    name: Annotated[
        Literal[tuple(MODELS)] | Annotated[str, Field(pattern=TIMM_NAME)],  # type: ignore[valid-type]
        Field(description="or timm/NAME, with the package timm installed"),
    ] = "resnet18"
    weights: Annotated[
        str | None,
        Field(
            description="imagenet, a .safetensors or .pth file, or what `medtune pretrain` made: its folder, or "
            "models:/NAME; null: fresh ones"
        ),
    ] = None
    skip: Annotated[bool, Field(description="smallcnn: skip connections")] = True


class ModelConfig(EncoderConfig):
    dropout: Annotated[float, Field(ge=0, lt=1, description="before the head")] = 0.0
    finetune: Annotated[
        Literal["all", "head", "probe"] | dict[str, str | int],
        Field(
            description="what trains: all, head, {from: layer4}, or from which epoch on: {layer4: 1, layer3: 5}; "
            "probe: a logistic regression on the features as they are, solved to its end, in the place of epochs"
        ),
    ] = "all"
    backbone_lr: Annotated[float, Field(gt=0, le=1, description="of the layers before the head, times the lr")] = 1.0
    hidden: Annotated[int, Field(ge=0, description="units of a dense ReLU layer before the head; 0: none")] = 0

    @field_validator("finetune")
    @classmethod
    def _layers_and_epochs(cls, finetune: Any) -> Any:
        if not isinstance(finetune, dict):
            return finetune
        for layer, epoch in finetune.items():
            if isinstance(epoch, str) != (layer == "from") or (isinstance(epoch, int) and epoch < 1):
                raise ValueError(
                    "write {from: LAYER}, or layers with the epochs, from 1 on, at which they begin to train"
                )
        return finetune


class Decayed(Part):
    weight_decay: NonNegative = 0.0
    decay_norms: Annotated[bool, Field(description="whether norms and biases decay too")] = True


class Adam(Decayed):
    name: Literal["adam"] = "adam"
    lr: Positive = 1e-3
    beta1: Momentum = 0.9
    beta2: Momentum = 0.999


class AdamW(Decayed):
    name: Literal["adamw"] = "adamw"
    lr: Positive = 1e-3
    weight_decay: NonNegative = 1e-2
    beta1: Momentum = 0.9
    beta2: Momentum = 0.999


class SGD(Decayed):
    name: Literal["sgd"] = "sgd"
    lr: Positive = 1e-2
    momentum: Momentum = 0.9
    nesterov: bool = True


class RMSprop(Decayed):
    name: Literal["rmsprop"] = "rmsprop"
    lr: Positive = 1e-3
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


class Cyclic(Schedule):
    name: Literal["cyclic"] = "cyclic"
    cycles: Annotated[int, Field(ge=1, description="each up to the lr and down again")] = 4
    low: Annotated[Fraction, Field(description="where each begins and ends, as a fraction of the lr")] = 0.1


class WarmRestarts(Schedule):
    name: Literal["warm_restarts"] = "warm_restarts"
    first: Annotated[
        float, Field(gt=0, le=1, description="length of the first cosine, as a fraction of the epochs")
    ] = 0.2
    growth: Annotated[float, Field(ge=1, description="how much longer each is than the one before")] = 2.0
    final: Annotated[Fraction, Field(description="where each ends, as a fraction of the lr")] = 0.0


class Plateau(Schedule):
    name: Literal["plateau"] = "plateau"
    metric: Metric = "val/loss"
    patience: Annotated[int, Field(ge=0, description="epochs without a better value that are let pass")] = 2
    gamma: Fraction = 0.1


class OneCycle(Part):
    name: Literal["onecycle"] = "onecycle"
    peak: Annotated[float, Field(gt=0, lt=1, description="where the lr is highest, as a fraction of the steps")] = 0.3
    start_factor: Annotated[float, Field(gt=0, le=1)] = 0.04
    final_factor: Annotated[float, Field(ge=0, le=1)] = 4e-6


LearningRateSchedule = Annotated[
    Constant | Cosine | Step | MultiStep | Cyclic | WarmRestarts | Plateau | OneCycle, Field(discriminator="name")
]


class NoPolicy(Part):
    name: Literal["none"] = "none"


class RandAugment(Part):
    name: Literal["randaugment"] = "randaugment"
    ops: Annotated[int, Field(ge=1, le=8, description="how many in a row")] = 2
    magnitude: Annotated[Fraction, Field(description="of the strongest that there is")] = 0.3


class TrivialAugment(Part):
    name: Literal["trivialaugment"] = "trivialaugment"


Policy = Annotated[NoPolicy | RandAugment | TrivialAugment, Field(discriminator="name")]


class Distortions(Part):
    """Each is drawn anew for every image of a batch, on the batch's device; all off by default."""

    flip: Annotated[bool, Field(description="left to right, in half of the images")] = False
    flip_vertical: bool = False
    rotate_degrees: Annotated[float, Field(ge=0, le=180, description="uniform in +-")] = 0.0
    shift: Annotated[float, Field(ge=0, le=0.5, description="uniform in +-, as a fraction of the side")] = 0.0
    crop: Annotated[float, Field(ge=0, lt=1, description="up to this fraction of the side is cropped")] = 0.0
    brightness: Fraction = 0.0
    contrast: Fraction = 0.0
    saturation: Annotated[Fraction, Field(description="colour sets only")] = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5, description="colour sets only; uniform in +-, of a whole turn")] = 0.0
    grey: Annotated[Fraction, Field(description="colour sets only; probability that the colours go")] = 0.0
    blur: Annotated[Fraction, Field(description="probability that an image is smoothed, more or less")] = 0.0
    noise: Annotated[Fraction, Field(description="standard deviation on the scale 0 to 1")] = 0.0
    erase: Annotated[Fraction, Field(description="probability that a rectangle is erased")] = 0.0
    policy: Policy = NoPolicy()


class Augment(Distortions):
    mixup: Annotated[NonNegative, Field(description="alpha of the Beta distribution; 0: off")] = 0.0
    cutmix: Annotated[NonNegative, Field(description="the same; of both, each image draws one")] = 0.0


class Loss(Part):
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    focal_gamma: Annotated[NonNegative, Field(description="of the focal loss; 0: plain cross-entropy")] = 0.0
    class_weights: Annotated[
        Literal["none", "balanced"], Field(description="balanced: inversely to the class's frequency in train")
    ] = "none"


class EarlyStopping(Part):
    patience: Annotated[int | None, Field(ge=1, description="epochs without a better value; null: never")] = None


class Labels(Part):
    fraction: Annotated[
        float, Field(gt=0, le=1, description="of each class, at least one case; smaller parts lie within larger ones")
    ] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**32, description="by which the cases are drawn")] = 0


class TrialConfig(Part):
    epochs: Annotated[int, Field(ge=1)] = 100
    batch_size: Annotated[int, Field(ge=2)] = 128
    model: ModelConfig = ModelConfig()
    optimizer: Optimizer = Adam()
    schedule: LearningRateSchedule = MultiStep()
    augment: Augment = Augment()
    loss: Loss = Loss()
    sampling: Annotated[
        Literal["shuffle", "balanced"], Field(description="balanced: every class as often, drawn with replacement")
    ] = "shuffle"
    ema: Annotated[
        Momentum,
        Field(description="decay of a running mean of the weights, which is what is validated and kept; 0: off"),
    ] = 0.0
    folds: Annotated[
        int | None, Field(ge=2, description="of a cross-validation over train and val together; null: train and val")
    ] = None
    early_stopping: EarlyStopping = EarlyStopping()
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(description="auto: bfloat16 where the device's flags say that it is native"),
    ] = "auto"
    labels: Labels | None = None  # stands below `data` in the file, and in the space of a sweep here
