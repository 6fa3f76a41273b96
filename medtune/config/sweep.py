"""The whole of a sweep file beside its `trial:`: what runs, on what, and what is kept."""

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from medtune.config.trial import Part, Positive

MEDMNIST = (
    "pathmnist chestmnist dermamnist octmnist pneumoniamnist retinamnist "
    "breastmnist bloodmnist tissuemnist organamnist organcmnist organsmnist"
).split()
PHANTOMS = ["phantom-binary", "phantom-multiclass", "phantom-multilabel", "phantom-ordinal"]
METRICS = {"val/auroc": "max", "val/accuracy": "max", "val/loss": "min", "val/ece": "min", "val/brier": "min"}


class Data(Part):
    dataset: Literal[tuple(MEDMNIST + PHANTOMS)] = "breastmnist"  # type: ignore[valid-type]
    size: Annotated[Literal[28, 64, 128, 224], Field(description="pixels a side")] = 28
    root: Annotated[str | None, Field(description="where the .npz files are; null: the medmnist cache")] = None
    train_fraction: Annotated[float, Field(gt=0, le=1, description="a stratified part of train while searching")] = 1.0
    difficulty: Annotated[float, Field(gt=0, lt=1, description="of a phantom; 0.5 has a best AUROC of about .95")] = 0.5


class Search(Part):
    sampler: Literal["tpe", "random", "grid", "qmc"] = "tpe"
    trials: Annotated[int, Field(ge=1)] = 40
    metric: Literal[tuple(METRICS)] = "val/auroc"  # type: ignore[valid-type]
    start_with: Annotated[
        tuple[dict[str, Any], ...],
        Field(description="points of the space to try after the default: trial keys in nested or dotted form"),
    ] = ()


class Asha(Part):
    name: Literal["asha"] = "asha"
    grace_epochs: Annotated[int, Field(ge=1)] = 2
    reduction_factor: Annotated[float, Field(gt=1)] = 3


class Hyperband(Part):
    name: Literal["hyperband"] = "hyperband"
    grace_epochs: Annotated[int, Field(ge=1)] = 1
    reduction_factor: Annotated[float, Field(gt=1)] = 3
    brackets: Annotated[int, Field(ge=1)] = 3


class Median(Part):
    name: Literal["median"] = "median"
    grace_epochs: Annotated[int, Field(ge=1)] = 2
    min_trials: Annotated[int, Field(ge=1, description="trials to compare with before any is stopped")] = 5


class NoPruning(Part):
    name: Literal["none"] = "none"


Pruning = Annotated[Asha | Hyperband | Median | NoPruning, Field(discriminator="name")]


class Resources(Part):
    cpus_per_trial: Annotated[int, Field(ge=1)] = 1
    gpus_per_trial: Annotated[
        Literal["auto"] | Annotated[float, Field(ge=0)],
        Field(description="a fraction shares a GPU; auto: by the GPUs, the CPUs and the images' size"),
    ] = "auto"
    max_concurrent: Literal["auto"] | Annotated[int, Field(ge=1)] = "auto"


class Budget(Part):
    hours: Annotated[Positive | None, Field(description="of wall time for each start of the sweep; null: no limit")] = (
        None
    )


class Keep(Part):
    weights: Annotated[int, Field(ge=0, description="of the best trials; predictions are kept of all")] = 5


class Retrain(Part):
    epochs: Annotated[int | None, Field(ge=1, description="null: the winner's schedule and best epoch")] = None
    seeds: Annotated[int, Field(ge=1)] = 1
    train_on: Literal["train", "train+val"] = "train"


class Tracking(Part):
    uri: Annotated[str | None, Field(description="of an MLflow server; null: sqlite beside the sweep folders")] = None
    experiment: Annotated[str, Field(min_length=1)] = "medtune"


class Cluster(Part):
    address: Annotated[str | None, Field(description="of a running Ray cluster; null: this machine")] = None
    storage: Annotated[str | None, Field(description="where workers write; null: the sweep's folder")] = None


class SweepConfig(Part):
    sweep: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$", description="a name for people")]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: Data = Data()
    trial: Annotated[
        dict[str, Any], Field(description="one training run; every leaf or subtree may be a distribution")
    ] = Field(default_factory=dict)
    search: Search = Search()
    pruning: Pruning = Asha()
    resources: Resources = Resources()
    budget: Budget = Budget()
    keep: Keep = Keep()
    retrain: Retrain = Retrain()
    tracking: Tracking = Tracking()
    cluster: Cluster = Cluster()

    @field_validator("trial", mode="before")
    @classmethod
    def _space(cls, tree: Any) -> Any:
        return tree if tree is not None else {}

    @property
    def direction(self) -> Literal["max", "min"]:
        return METRICS[self.search.metric]  # type: ignore[return-value]
