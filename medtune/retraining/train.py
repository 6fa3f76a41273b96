"""The trainings of a plan, through the engine of the sweep, each from its last checkpoint if it has one."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from medtune.config.sweep import SweepConfig
from medtune.data.splits import load_search_splits
from medtune.files import write_whole
from medtune.retraining.plan import DEFAULT, Part, Plan, plan_as_json
from medtune.retraining.result import Trained, write_model
from medtune.search.folder import SweepFolder
from medtune.search.jobs import Batch
from medtune.search.launch import Launch, in_this_process, on_ray
from medtune.search.loading import search_data
from medtune.search.machines import address_of
from medtune.search.resources import Share
from medtune.search.sweep import JobMaker
from medtune.search.worker import Job, SearchData
from medtune.trained.model import DESCRIPTION
from medtune.training.seeds import RETRAINED, trial_seed

APART = 2**16  # between the seeds of an ensemble's trainings


@dataclass(frozen=True)
class Piece:
    """A training of one of the models of a plan. model: the name of its folder. storage: of its checkpoints."""

    model: str
    part: Part
    seed: int
    storage: str

    @property
    def last(self) -> int:
        """The last epoch that is wanted of it."""
        return max(self.part.takes)


OnEpoch = Callable[[Piece, dict[str, Any]], None]  # a training, and the numbers of an epoch of it


def retrain(
    folder: SweepFolder, config: SweepConfig, plan: Plan, on_epoch: OnEpoch, launch: Launch | None = None
) -> list[Path]:
    """Trains the models of a plan, each from its last checkpoints if it has any. Their folders, in order of the seeds;
    what was there already is not trained again. The untuned default lies beside them, in `retrain/default`.

    launch: where the trainings run; Ray unless there is only one of them. Raises TrainingFailed, and KeyboardInterrupt
    where it was interrupted: said again, it goes on.
    """
    _forget_another(folder, plan)
    pieces = [piece for piece in _pieces(folder, config, plan) if not _whole(folder, piece.model)]
    if pieces:
        alone = len(pieces) == 1 and address_of(config.cluster) is None
        launch = launch or (in_this_process if alone else on_ray)
        batch = launch(folder, config, partial(_all_of_train, config), partial(_batch, config, plan, pieces, on_epoch))
        batch.check(lambda job: f"{pieces[job].model}, trial {pieces[job].part.trial}")
        splits = load_search_splits(config.data)
        for model in dict.fromkeys(piece.model for piece in pieces):
            trained = [
                Trained(piece.part, batch.jobs[job], batch.records[job])
                for job, piece in enumerate(pieces)
                if piece.model == model
            ]
            write_model(folder.retrained / model, folder, config, plan, trained, splits)
    return [folder.retrained / name for name in plan.models]


def _forget_another(folder: SweepFolder, plan: Plan) -> None:
    """Removes what another plan left: nothing goes on from its checkpoints, and its models are not tested as these."""
    path = folder.retrained / "plan.json"
    text = _text_of(plan)
    if not path.exists() or path.read_text() != text:
        shutil.rmtree(folder.retrained, ignore_errors=True)
        shutil.rmtree(folder.path / "tensorboard" / "retrain", ignore_errors=True)
        (folder.path / "test.json").unlink(missing_ok=True)
        folder.retrained.mkdir()
        write_whole(path, text.encode())


def _text_of(plan: Plan) -> str:
    return json.dumps(plan_as_json(plan), indent=2) + "\n"


def _pieces(folder: SweepFolder, config: SweepConfig, plan: Plan) -> Iterator[Piece]:
    """Every training of a plan. The checkpoints of another plan, which a shared storage still has, are elsewhere."""
    digest = hashlib.sha256(_text_of(plan).encode()).hexdigest()[:8]

    def piece(model: str, index: int, part: Part, place: int = 0) -> Piece:
        seed = trial_seed(config.seed, RETRAINED + index + APART * place)
        storage = folder.storage(config.cluster.storage, f"retrain/{model}.trial-{part.trial:04d}.{digest}")
        return Piece(model, part, seed, storage)

    for index, model in enumerate(plan.models):
        yield from (piece(model, index, part, place) for place, part in enumerate(plan.parts))
    if plan.default is not None:
        yield piece(DEFAULT, 0, plan.default)


def _whole(folder: SweepFolder, model: str) -> bool:
    return (folder.retrained / model / DESCRIPTION).exists()  # written last: a kill came after this one


def _all_of_train(config: SweepConfig) -> SearchData:
    return search_data(config.data.model_copy(update={"train_fraction": 1.0}), config.seed)


def _batch(config: SweepConfig, plan: Plan, pieces: list[Piece], on_epoch: OnEpoch, share: Share) -> Batch:
    make_job = JobMaker(config, share)

    def job(number: int, piece: Piece) -> Job:
        made = make_job(number, piece.part.config.model_dump(mode="json"), piece.storage)
        made = replace(made, seed=piece.seed, train_on=plan.train_on)
        takes = sorted(piece.part.takes)
        return made if plan.select == "best" else replace(made, stop=takes[-1], keep=takes)

    return Batch(
        [job(number, piece) for number, piece in enumerate(pieces)],
        lambda job, record: on_epoch(pieces[job.trial], record),
    )
