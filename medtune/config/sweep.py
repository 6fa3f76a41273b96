"""The whole of a sweep file beside its `trial:`: what runs, on what, and what is kept."""

import math
import re
import zlib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from medtune.config.trial import METRICS, Labels, Metric, Part, Positive

MEDMNIST = (
    "pathmnist chestmnist dermamnist octmnist pneumoniamnist retinamnist "
    "breastmnist bloodmnist tissuemnist organamnist organcmnist organsmnist"
).split()
PHANTOMS = ["phantom-binary", "phantom-multiclass", "phantom-multilabel", "phantom-ordinal", "phantom-texture"]
GREY = {
    *"chestmnist octmnist pneumoniamnist breastmnist tissuemnist organamnist organcmnist organsmnist".split(),
    *PHANTOMS,
}
TrainOn = Literal["train", "train+val"]
# user, password, host and port, database, options; a socket's folder is an option: ?host=/var/run/postgresql
POSTGRESQL = re.compile(r"postgresql://([^/:@?#\s]+(:[^/:@?#\s]*)?@)?[^/@?#\s]*/[^/@?#\s]+(\?[^@#\s]*)?")
NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"  # of a sweep, and so of its folder
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?|.*\.")  # Windows has no such folders
SIZES = (28, 64, 128, 224)  # pixels a side in which MedMNIST is published


class Data(Part):
    dataset: Literal[tuple(MEDMNIST + PHANTOMS)] = "breastmnist"  # type: ignore[valid-type]
    folder: Annotated[str | None, Field(description="of pictures, one folder a class; in the place of a dataset")] = (
        None
    )
    exclude: Annotated[tuple[str, ...], Field(description="classes of the folder that are left out")] = ()
    split: Annotated[
        tuple[Positive, Positive, Positive],
        Field(description="train, val and test of a folder that is not divided, in proportion"),
    ] = (0.7, 0.15, 0.15)
    size: Annotated[int, Field(ge=8, le=1024, description="pixels a side; MedMNIST has 28, 64, 128 and 224")] = 28
    resize: Annotated[int | None, Field(ge=8, le=1024, description="pixels a side that images are brought to")] = None
    as_rgb: Annotated[bool, Field(description="greyscale repeated to three channels")] = False
    root: Annotated[str | None, Field(description="where the .npz files are; null: the medmnist cache")] = None
    train_fraction: Annotated[float, Field(gt=0, le=1, description="a stratified part of train while searching")] = 1.0
    labels: Annotated[
        Labels | None,
        Field(
            description="the part of train whose labels are known; in the place of train_fraction, and it may be swept"
        ),
    ] = None
    difficulty: Annotated[float, Field(gt=0, lt=1, description="of a phantom; 0.5 has a best AUROC of about .95")] = 0.5

    @field_validator("size")
    @classmethod
    def _published(cls, size: int, info: ValidationInfo) -> int:
        dataset = info.data.get("dataset")
        if info.data.get("folder") is None and dataset in MEDMNIST and size not in SIZES:
            raise ValueError(f"{dataset} has 28, 64, 128 and 224, not {size}; take one of them, and resize for others")
        return size

    @property
    def side(self) -> int:
        """Pixels a side of the images that a model sees."""
        return self.resize or self.size

    @property
    def title(self) -> str:
        """The data set's word, or the folder's name, for people and for the tracking server."""
        return self.dataset if self.folder is None else Path(self.folder).expanduser().resolve().name


class Search(Part):
    sampler: Literal["tpe", "random", "grid", "qmc", "gp", "cmaes", "nsga2"] = "tpe"
    trials: Annotated[int, Field(ge=1)] = 40
    metric: Metric = "val/auroc"
    best_epoch: Annotated[
        Metric | None,
        Field(description="by which each trial's epoch is chosen, where its metric is read; null: metric"),
    ] = None
    constraints: Annotated[
        dict[Metric, Annotated[dict[Literal["max", "min"], float], Field(min_length=1)]],
        Field(description="limits at the best epoch, as {val/ece: {max: 0.1}}: they steer the sampler and the choice"),
    ] = Field(default_factory=dict)
    start_with: Annotated[
        tuple[dict[str, Any], ...],
        Field(description="points of the space to try after the default: trial keys in nested or dotted form"),
    ] = ()
    warm_start: Annotated[
        tuple[str, ...],
        Field(description="earlier sweeps whose best are tried next: folders, or experiments of the tracking server"),
    ] = ()

    @field_validator("constraints")
    @classmethod
    def _can_be_met(cls, constraints: dict[Metric, dict[str, float]]) -> dict[Metric, dict[str, float]]:
        for metric, limits in constraints.items():
            if limits.get("min", -math.inf) > limits.get("max", math.inf):
                raise ValueError(f"no value of {metric} is at least {limits['min']} and at most {limits['max']}")
        return constraints


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
        Field(description="a fraction shares a GPU; auto: as many trials share one as it has memory and time for"),
    ] = "auto"
    max_concurrent: Annotated[
        Literal["auto"] | Annotated[int, Field(ge=1)],
        Field(description="trials at once; auto: as many as there is room for"),
    ] = "auto"
    price_per_hour: Annotated[
        Positive | None, Field(description="of one machine, in any currency, for `medtune status`")
    ] = None

    @field_validator("gpus_per_trial")
    @classmethod
    def _whole_beyond_one(cls, gpus: Any) -> Any:
        if isinstance(gpus, float) and gpus > 1 and gpus != int(gpus):
            raise ValueError(f"{gpus:g} is more than one GPU and not a whole number of them; write {int(gpus)}")
        return gpus


class Budget(Part):
    hours: Annotated[Positive | None, Field(description="of wall time for each start of the sweep; null: no limit")] = (
        None
    )


class Keep(Part):
    weights: Annotated[int, Field(ge=0, description="of the best trials; predictions are kept of all")] = 5
    last: Annotated[bool, Field(description="the last epoch's weights of these trials too")] = False
    gb: Annotated[
        Positive | None,
        Field(description="10^9 bytes of weights at most: of the best trials those that fit; null: all"),
    ] = None


class Retrain(Part):
    epochs: Annotated[int | None, Field(ge=1, description="null: the winner's schedule and best epoch")] = None
    seeds: Annotated[int, Field(ge=1)] = 1
    train_on: TrainOn = "train"
    select: Annotated[
        Literal["last", "best"], Field(description="which epoch's weights: best needs val, so train_on must be train")
    ] = "last"

    @field_validator("select")
    @classmethod
    def _validated(cls, select: str, info: ValidationInfo) -> str:
        if select == "best" and info.data.get("train_on") != "train":
            raise ValueError("best needs a validation split; write train_on: train, or select: last")
        return select


class Tracking(Part):
    uri: Annotated[str | None, Field(description="of an MLflow server; null: sqlite beside the sweep folders")] = None
    experiment: Annotated[str, Field(min_length=1, max_length=500)] = "medtune"
    tensorboard: Annotated[bool, Field(description="write events into tensorboard/ of the folder")] = False


class Cluster(Part):
    address: Annotated[str | None, Field(description="of a running Ray cluster; null: this machine")] = None
    storage: Annotated[str | None, Field(description="where workers write; null: the sweep's folder")] = None
    ledger: Annotated[
        str | None,
        Field(
            description="of a database that several machines share, as postgresql://...; null: a journal in the folder"
        ),
    ] = None

    @field_validator("ledger")
    @classmethod
    def _a_database(cls, ledger: str | None) -> str | None:
        """Of a form in which the password is found wherever it must not be seen. It is not in the message either."""
        if ledger is None or (POSTGRESQL.fullmatch(ledger) and "password=" not in ledger):
            return ledger
        raise ValueError(
            "write postgresql://USER@HOST/DATABASE, with the password in ~/.pgpass or PGPASSWORD; in the address as "
            "USER:PASSWORD@, with / : @ ? and # as %2F %3A %40 %3F and %23"
        )


class SweepConfig(Part):
    sweep: Annotated[str, Field(pattern=NAME, description="a name for people")]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: Data = Data()
    trial: Annotated[
        dict[str, Any], Field(description="one training run; every leaf or subtree may be a distribution")
    ] = Field(default_factory=dict)
    pretrain: Annotated[
        dict[str, Any] | None,
        Field(description="in the place of trial: an encoder trained without labels, by `medtune pretrain`"),
    ] = None
    search: Search = Search()
    pruning: Pruning = Asha()
    resources: Resources = Resources()
    budget: Budget = Budget()
    keep: Keep = Keep()
    retrain: Retrain = Retrain()
    tracking: Tracking = Tracking()
    cluster: Cluster = Cluster()

    @field_validator("sweep")
    @classmethod
    def _folder(cls, sweep: str) -> str:
        if RESERVED.fullmatch(sweep):
            raise ValueError(f"no folder can be called {sweep} on every system; take another name")
        return sweep

    @field_validator("trial", mode="before")
    @classmethod
    def _space(cls, tree: Any) -> Any:
        return tree if tree is not None else {}

    @property
    def sampler_seed(self) -> int:
        """With a warm start another one than the earlier sweeps', whose points would be drawn once more."""
        names = [Path(where).name for where in self.search.warm_start]
        return zlib.crc32(repr((self.seed, names)).encode()) if names else self.seed

    @property
    def direction(self) -> Literal["max", "min"]:
        return METRICS[self.search.metric]

    @property
    def epoch_metric(self) -> Metric:
        """By which the best epoch of a trial is chosen."""
        return self.search.best_epoch or self.search.metric
