"""MC dropout: a model asked several times with its dropout left on (Gal & Ghahramani 2016)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medtune.data.batches import DeviceSplit
from medtune.inspection.swapped import swapped
from medtune.models.classifier import Classifier, Dropout
from medtune.training.loop import CASES_PER_PASS, predict_logits

HEAD = "dropout"  # the Classifier's own, before its head


class _Sampling(Dropout):
    """Dropout that stays on in evaluation mode."""

    def train(self, mode: bool = True) -> "_Sampling":
        return super().train(True)


def dropout_logits(
    model: Classifier, split: DeviceSplit, autocast: torch.autocast, samples: int, generator: torch.Generator
) -> NDArray[np.float32]:
    """float32 logits (samples, cases, classes): the members of `evaluation.ensembles`. Each case has its own masks.

    What is sampled is the dropout before the head and every `nn.Dropout` of the backbone that drops anything; batch
    norm is in evaluation mode. Not sampled: stochastic depth, which leaves out whole blocks, and dropout inside an
    attention, which is no layer; medtune trains without either. generator: on the split's device; no global random
    state is touched. Where only the head has dropout, the backbone runs once and not `samples` times. The model is left
    as it was, in evaluation mode. Raises ValueError where the model has no dropout or `samples` is below 1.
    """
    if samples < 1:
        raise ValueError(f"{samples} samples: at least 1 is needed")
    layers = _layers(model, generator)
    if not layers:
        raise ValueError("the model has no dropout: every sample of MC dropout would be the same")
    model.eval()  # what is exchanged below too
    if set(layers) == {HEAD}:
        return _sampled_head(model, layers[HEAD], split, autocast, samples)
    with swapped(model, layers):
        return np.stack([predict_logits(model, split, autocast) for _ in range(samples)])


def _layers(model: Classifier, generator: torch.Generator) -> dict[str, _Sampling]:
    """For every dropout layer that drops anything, one that samples, by name."""
    layers = {}
    for name, module in model.named_modules():
        share = module.probability if isinstance(module, Dropout) else module.p if isinstance(module, nn.Dropout) else 0
        if share > 0:
            layers[name] = _Sampling(share, generator)
    return layers


@torch.no_grad()
def _sampled_head(
    model: Classifier, dropout: _Sampling, split: DeviceSplit, autocast: torch.autocast, samples: int
) -> NDArray[np.float32]:
    with swapped(model, {HEAD: nn.Identity(), "head": nn.Identity()}):
        features = torch.from_numpy(predict_logits(model, split, autocast)).to(split.device)
    # in the same passes as without this short cut, so that the masks are the same
    passes = features.split(CASES_PER_PASS)
    logits = [torch.cat([model.head(dropout(part)) for part in passes]) for _ in range(samples)]
    return torch.stack(logits).cpu().numpy()
