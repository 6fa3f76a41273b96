"""A trained model as one ONNX graph: bytes of images in, calibrated probabilities out, all members within.

Networks compute in float32, whatever they were trained in; what comes after them in float64, as `evaluation` does it.
"""

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from medtune.data import DataError
from medtune.evaluation.calibrators import Calibrator, Isotonic, Temperature, Uncalibrated, VectorScaling
from medtune.evaluation.ensembles import SMALLEST
from medtune.files import whole_file
from medtune.task import Task
from medtune.trained.decision import decision_rule
from medtune.trained.model import Member, TrainedModel

TOLERANCE = 1e-5  # of a probability
CHECKED = 5  # images that the graph and the model are compared on
NEEDED = "onnx onnxruntime onnxscript".split()


class ExportError(Exception):
    """The graph cannot be made, or does not say what the model says."""


@dataclass(frozen=True)
class Exported:
    """path: of the file. shape: of an image that it takes. difference: the largest of a probability between the graph
    and the model, on images of noise."""

    path: Path
    shape: tuple[int, ...]
    difference: float


class Whole(nn.Module):
    """uint8 images (cases, side, side) or (cases, side, side, 3), as the data is, to float32 (cases, classes)."""

    def __init__(self, model: TrainedModel) -> None:
        super().__init__()
        self.networks = nn.ModuleList(member.network for member in model.members)
        self.weights = [member.weight for member in model.members]
        self.task, self.channels = model.task, model.channels
        self.calibrator = calibrating(model.decided.calibrator, model.task)

    def forward(self, images: Tensor) -> Tensor:
        values = images.float() / 255
        values = values.unsqueeze(1) if values.ndim == 3 else values.permute(0, 3, 1, 2)
        if values.shape[1] != self.channels:
            values = values.repeat(1, self.channels, 1, 1)
        logits = [network(values).double() for network in self.networks]
        return self.calibrator(self._mean(logits)).float()

    def _mean(self, logits: Sequence[Tensor]) -> Tensor:
        """As `ensembles.mean_logits`."""
        if len(logits) == 1:
            return logits[0]
        shown = [_probabilities(one, self.task) * weight for one, weight in zip(logits, self.weights, strict=True)]
        mean = (torch.stack(shown).sum(0) / sum(self.weights)).clamp(min=SMALLEST)
        return torch.log(mean / (1 - mean).clamp(min=SMALLEST) if self.task == "multilabel" else mean)


def _probabilities(logits: Tensor, task: Task) -> Tensor:
    return logits.sigmoid() if task == "multilabel" else logits.softmax(1)


class Scaled(nn.Module):
    """Logits times a scale plus a bias: no calibrator, temperature and vector scaling."""

    scale: Tensor
    bias: Tensor

    def __init__(self, scale: Sequence[float], bias: Sequence[float], task: Task) -> None:
        super().__init__()
        self.task = task
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float64))
        self.register_buffer("bias", torch.tensor(bias, dtype=torch.float64))

    def forward(self, logits: Tensor) -> Tensor:
        return _probabilities(logits * self.scale + self.bias, self.task)


class Steps(nn.Module):
    """Isotonic calibration: each column along a line that bends at its breakpoints, level outside of them."""

    def __init__(self, isotonic: Isotonic, task: Task) -> None:
        super().__init__()
        self.task = task
        self.curves = nn.ModuleList(Curve(*curve) for curve in zip(isotonic.before, isotonic.after, strict=True))

    def forward(self, logits: Tensor) -> Tensor:
        raw = _probabilities(logits, self.task)
        raw = raw[:, 1:] if self.task == "binary" else raw
        mapped = torch.stack([curve(raw[:, column]) for column, curve in enumerate(self.curves)], dim=1)
        if self.task == "multilabel":
            return mapped
        return torch.cat([1 - mapped, mapped], 1) if self.task == "binary" else mapped / mapped.sum(1, keepdim=True)


class Curve(nn.Module):
    """What `numpy.interp` gives: the first value, and of each piece the share that lies below."""

    low: Tensor
    width: Tensor
    rise: Tensor

    def __init__(self, before: Sequence[float], after: Sequence[float]) -> None:
        super().__init__()
        x, y = (torch.tensor(values, dtype=torch.float64) for values in (before, after))
        self.first = float(y[0])
        self.register_buffer("low", x[:-1])
        self.register_buffer("width", x[1:] - x[:-1])
        self.register_buffer("rise", y[1:] - y[:-1])

    def forward(self, values: Tensor) -> Tensor:
        share = ((values[:, None] - self.low) / self.width).clamp(0, 1)
        return self.first + (share * self.rise).sum(1)


def calibrating(calibrator: Calibrator, task: Task) -> nn.Module:
    """A calibrator as a part of a graph: float64 logits (cases, classes) to probabilities. Raises ExportError for a
    kind that has none."""
    match calibrator:
        case Uncalibrated():
            return Scaled([1.0], [0.0], task)
        case Temperature(temperature):
            return Scaled([1 / temperature], [0.0], task)
        case VectorScaling(scale, bias):
            return Scaled(scale, bias, task)
        case Isotonic():
            return Steps(calibrator, task)
    raise ExportError(f"a calibrator of kind {calibrator.kind} has no graph")


def export(model: TrainedModel, path: Path) -> Exported:
    """Writes the graph, once it has said of a few images what the model says in float32. Raises DataError without the
    packages that are needed, and ExportError where the graph cannot be made or says something else."""
    _check_packages()
    model.device = "cpu"
    model.members = [Member(one.trial, one.network.cpu(), one.weight, "float32") for one in model.members]
    shown = _noise(model)
    with whole_file(path) as temporary:
        _write(model, temporary, shown)
        difference = float(np.abs(run_graph(temporary, shown) - _asked(model, shown)).max())
        if not difference <= TOLERANCE:
            raise ExportError(f"the graph and the model differ by {difference:.1e}, which is above {TOLERANCE:g}")
    return Exported(path, shown.shape[1:], difference)


def run_graph(path: Path, images: np.ndarray) -> np.ndarray:
    """What ONNX Runtime makes of a graph: float32 (cases, classes). images: see `Whole`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["probabilities"], {"images": images})[0])


def _check_packages() -> None:
    from importlib.util import find_spec

    lacking = [name for name in NEEDED if find_spec(name) is None]
    if lacking:
        raise DataError(f"ONNX needs {', '.join(lacking)}: `uv sync --extra onnx`, or `pip install medtune[onnx]`")


def _noise(model: TrainedModel) -> np.ndarray:
    colours = int(model.description.get("data_channels", model.channels))
    shape = (CHECKED, model.size, model.size, colours)[: 3 + (colours > 1)]
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def _asked(model: TrainedModel, images: np.ndarray) -> np.ndarray:
    return model.calibrated(model.logits(model.on_device(images)))


def _write(model: TrainedModel, path: Path, shown: np.ndarray) -> None:
    whole, example = Whole(model).eval(), torch.from_numpy(shown[:2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch's own exporter
        try:
            program = torch.onnx.export(
                whole,
                (example,),
                input_names=["images"],
                output_names=["probabilities"],
                dynamic_shapes={"images": {0: torch.export.Dim("cases")}},
                dynamo=True,
                verbose=False,
            )
        except Exception as error:  # it has many
            raise ExportError(f"torch cannot export it: {str(error).strip().splitlines()[0]}") from error
    assert program is not None
    program.model.metadata_props.update(_metadata(model))
    program.save(str(path), external_data=False)


def _metadata(model: TrainedModel) -> dict[str, str]:
    """What a reader of the graph needs beside it, as text."""
    rule = decision_rule(model.decided, model.task, model.classes)
    return {
        "medtune.classes": json.dumps(list(model.classes)),
        "medtune.task": model.task,
        "medtune.dataset": str(model.description["dataset"]),
        "medtune.calibrator": model.decided.calibrator.kind,
        "medtune.rule": rule.rule,
        "medtune.thresholds": json.dumps(rule.thresholds),
    }
