"""Everything that is known of a subject, as numbers and figures in its folder."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from medtune.evaluation.appraisal import Appraisal, appraise
from medtune.evaluation.calibration import usual_kind
from medtune.evaluation.calibration_error import calibration_estimate
from medtune.evaluation.comparison import accuracy_difference, auroc_difference
from medtune.evaluation.coverage import CoverageCurve, coverage_curve
from medtune.evaluation.ensembles import mean_probabilities, uncertainty
from medtune.evaluation.intervals import accuracy_interval, auroc_interval
from medtune.evaluation.metrics import auroc, probabilities
from medtune.figures.appraisal import draw_appraisal
from medtune.figures.cases import draw_cases, draw_grad_cam, worth_a_look
from medtune.figures.coverage import coverage_figure
from medtune.figures.robustness import robustness_figure
from medtune.files import write_whole
from medtune.inspection.corruptions import mean_degradation, robustness
from medtune.inspection.gradcam import grad_cam
from medtune.inspection.heat import overlay
from medtune.inspection.mc_dropout import dropout_logits
from medtune.inspection.test_time import test_time_logits
from medtune.subjects import Network, Subject

SEED = 0
SAMPLES = 30  # of MC dropout
EXPLAINED = 12  # cases with a Grad-CAM: the most confident mistakes first

Say = Callable[[str], None]


def evaluate(subject: Subject, say: Say) -> dict[str, Any]:
    """Writes `evaluation.json` and the figures into the subject's folder, made anew; what the JSON holds.

    What asks the model is left out where its weights were not kept, and the JSON says so. say: told what comes next.
    """
    say(f"{subject.about}: numbers")
    found = appraise(subject.logits, subject.labels, subject.task, subject.classes, SEED, subject.decided)
    subject.folder.mkdir(parents=True, exist_ok=True)
    for old in subject.folder.glob("*.png"):
        old.unlink()
    draw_appraisal(found, subject.records, subject.epoch, subject.folder)
    draw_cases(found, subject.images, subject.folder)
    told = {
        "format": 1,
        "about": subject.about,
        "trial": subject.trial,
        "epoch": subject.epoch,
        "split": subject.split,
        "looks": subject.looks,
        **found.as_json(),
        "against": _against(subject, found),
        "uncertainty": _uncertainty(subject, found, say),
        **_with_the_model(subject, found, say),
    }
    write_whole(subject.folder / "evaluation.json", (json.dumps(told, indent=1, allow_nan=False) + "\n").encode())
    return told


def _against(subject: Subject, found: Appraisal) -> dict[str, Any] | None:
    """Paired differences, this trial less the other one."""
    if subject.rival is None:
        return None
    other = probabilities(subject.rival.logits, subject.task)
    pair = found.probabilities, other, subject.labels, subject.task
    differences = {"auroc": auroc_difference(*pair).as_json(), "accuracy": accuracy_difference(*pair).as_json()}
    return {"trial": subject.rival.trial, **differences}


def _uncertainty(subject: Subject, found: Appraisal, say: Say) -> dict[str, Any]:
    """One model as it is, asked about several views, with its dropout left on, and together with others."""
    told, curves = {}, {}
    for name, members in _members(subject, say):
        if isinstance(members, str):
            told[name] = {"undefined": members}
        else:
            told[name], curve = _of_members(members, subject)
            curves[name] = np.column_stack([curve.coverage, curve.accuracy])
    coverage_figure(curves, subject.folder / "coverage.png")
    return told


def _members(subject: Subject, say: Say) -> Iterator[tuple[str, NDArray[np.float32] | str]]:
    """By name, logits (members, cases, classes), or why there are none."""
    yield "one model", subject.logits[None]
    network = subject.network
    if network is None:
        yield from ((name, subject.without) for name in ("test-time augmentation", "MC dropout"))
    else:
        say("test-time augmentation")
        yield "test-time augmentation", test_time_logits(network.model, network.split, network.autocast)
        say("MC dropout")
        yield "MC dropout", _dropout(network)
    if len(subject.members) > 1:
        yield f"ensemble of {len(subject.members)}", subject.members
    else:
        yield "ensemble", "there is no other model"


def _dropout(network: Network) -> NDArray[np.float32] | str:
    generator = torch.Generator(network.split.device).manual_seed(SEED)
    try:
        return dropout_logits(network.model, network.split, network.autocast, SAMPLES, generator)
    except ValueError as error:  # it has none
        return str(error)


def _of_members(members: NDArray[np.float32], subject: Subject) -> tuple[dict[str, Any], CoverageCurve]:
    shown, doubt = mean_probabilities(members, subject.task), uncertainty(members, subject.task)
    task, labels, generator = subject.task, subject.labels, np.random.default_rng(SEED)
    curve = coverage_curve(shown, labels, task, generator, doubt.entropy)
    told = {
        "members": len(members),
        "auroc": auroc_interval(shown, labels, task).as_json(),
        "accuracy": accuracy_interval(shown, labels, task).as_json(),
        "ece": calibration_estimate(shown, labels, task, usual_kind(task), generator).as_json(),
        **doubt.as_json(),
        "coverage": curve.as_json(),
    }
    return told, curve


def _with_the_model(subject: Subject, found: Appraisal, say: Say) -> dict[str, Any]:
    if subject.network is None:
        return {"robustness": {"undefined": subject.without}, "grad_cam": {"undefined": subject.without}}
    return {
        "robustness": _robustness(subject, subject.network, found, say),
        "grad_cam": _grad_cam(subject, subject.network, found, say),
    }


def _robustness(subject: Subject, network: Network, found: Appraisal, say: Say) -> dict[str, Any]:
    clean = auroc(found.probabilities, subject.labels, subject.task)
    aurocs: dict[str, list[float]] = {}
    for worse in robustness(network.model, network.split, network.autocast, SEED):
        if worse.name not in aurocs:
            say(f"corruption: {worse.name}")
        value = auroc(probabilities(worse.logits, subject.task), subject.labels, subject.task)
        aurocs.setdefault(worse.name, []).append(value)
    lines = {name: np.array(values) for name, values in aurocs.items()}
    robustness_figure(lines, clean, subject.folder / "robustness.png")
    try:
        return {"clean": clean, "mean_degradation": mean_degradation(clean, aurocs), "auroc": aurocs}
    except ValueError as error:
        return {"undefined": str(error)}


def _grad_cam(subject: Subject, network: Network, found: Appraisal, say: Say) -> dict[str, Any]:
    """Where the model looks, in its most confident mistakes and then in what it is surest of."""
    say("Grad-CAM")
    chosen = worth_a_look(found, EXPLAINED)
    if not chosen:
        return {"undefined": "the model says of no case that a label is there"}
    cases = np.array([one.case for one in chosen])
    said = np.array([one.predicted if one.label is None else one.label for one in chosen])
    images, _ = network.split.batch(torch.from_numpy(cases))
    try:
        heat = grad_cam(network.model, images, said)
    except (ImportError, ValueError) as error:
        return {"undefined": str(error)}
    overlays = [overlay(subject.images[case], of) for case, of in zip(cases, heat, strict=True)]
    draw_grad_cam(found, chosen, subject.images, overlays, subject.folder / "grad-cam.png")
    return {"cases": [one.as_json() for one in chosen]}
