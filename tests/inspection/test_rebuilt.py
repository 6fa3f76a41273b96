from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from medtune.config.default import trial_config
from medtune.config.trial import TrialConfig
from medtune.data.batches import to_device
from medtune.inspection.rebuilt import rebuilt
from medtune.models.classifier import Classifier
from medtune.search.folder import SweepFolder
from medtune.search.ledger import Ledger
from medtune.training.checkpoint import encode_weights
from medtune.training.loop import predict_logits
from medtune.training.predictions import logits_of_epoch


def test_a_trials_model_gives_the_logits_that_it_was_validated_by(
    tiny: Any, finished: SweepFolder, full: torch.autocast
) -> None:
    config = finished.config()
    val = to_device(tiny.data(config).val, "cpu")
    ledger = Ledger(finished, config)
    entries = {entry.number: entry for entry in ledger.entries()}
    assert len(finished.with_weights()) == 2
    for number in finished.with_weights():
        path = finished.trial(number) / "best" / "model.safetensors"
        model = rebuilt(path, trial_config(config.trial, ledger.point(number)), val.channels, 2, val.size)
        kept = logits_of_epoch(finished.predictions(number), entries[number].best_epoch)
        assert not model.training
        np.testing.assert_allclose(predict_logits(model, val, full), kept, rtol=0, atol=1e-5)


def test_weights_that_were_not_kept(finished: SweepFolder) -> None:
    with pytest.raises(FileNotFoundError, match="keep.weights"):
        rebuilt(finished.path / "best" / "model.safetensors", TrialConfig(), 1, 2, 28)


def test_a_model_for_each_fold_is_none_for_all(tmp_path: Path, build: Callable[..., Classifier]) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(encode_weights(torch.nn.ModuleList([build(), build()])))
    with pytest.raises(ValueError, match="a model for each fold"):
        rebuilt(path, TrialConfig(), 1, 3, 28)
