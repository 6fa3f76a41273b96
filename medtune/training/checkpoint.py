"""A training to tensors and plain values and back, to the last bit: one safetensors file, the values in its header."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from safetensors import safe_open
from safetensors.torch import load, save, save_file
from torch import Tensor, nn

from medtune.training.progress import EpochRecord, Progress, Trained
from medtune.training.tensorfile import NHWC, read_values, stamp


@dataclass(frozen=True)
class Checkpoint:
    """Tensors and the plain values beside them, ready to be written."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]

    def to_file(self, path: str) -> None:
        """Straight from memory: a ResNet's state is 134 MB, and each copy of it takes time from training."""
        save_file(self.tensors, path, self.metadata)

    def to_bytes(self) -> bytes:
        return save(self.tensors, self.metadata)


def encode(progress: Progress) -> Checkpoint:
    """The whole state of a training between two epochs, predictions so far included."""
    tensors = {f"predictions.{name}": torch.from_numpy(array) for name, array in progress.predictions.arrays().items()}
    for prefix, trained in progress.models:
        for kind, state in _state(trained).items():
            tensors |= {f"{kind}.{prefix}{name}": tensor for name, tensor in state.items()}
    values = {
        "records": [asdict(record) for record in progress.records],
        "best_epoch": progress.best.epoch if progress.best else None,
        "halved_from": progress.halved_from,
    }
    return Checkpoint(_as_in_memory(tensors), stamp(values))


def decode(data: bytes, progress: Progress) -> None:
    """Brings a fresh training of the same configuration to where `encode` left the other."""
    tensors, values = _as_named(load(data)), read_values(io.BytesIO(data))
    for prefix, trained in progress.models:
        for kind, live in trained.tensors.items():
            _copy(_part(tensors, f"{kind}.{prefix}"), live)
        trained.streams.restore(_part(tensors, f"stream.{prefix}"))
        if trained.optimizer is not None:
            _restore_optimizer(trained.optimizer, _part(tensors, f"optimizer.{prefix}"))
    progress.records = [EpochRecord(**record) for record in values["records"]]
    progress.best = progress.records[values["best_epoch"] - 1] if values["best_epoch"] else None
    if values.get("halved_from"):  # which earlier versions did not know
        progress.halve(values["halved_from"])
    predictions = {name: tensor.numpy() for name, tensor in _part(tensors, "predictions.").items()}
    progress.predictions.restore(**predictions)


def _state(trained: Trained) -> dict[str, Mapping[str, Tensor]]:
    state = {**trained.tensors, "stream": trained.streams.state()}
    return state if trained.optimizer is None else state | {"optimizer": _optimizer_tensors(trained.optimizer)}


@torch.no_grad()
def _copy(saved: Mapping[str, Tensor], live: Mapping[str, Tensor]) -> None:
    """Raises KeyError and RuntimeError where they are not of the same model."""
    if saved.keys() != live.keys():
        raise KeyError(f"of another model: {', '.join(sorted(saved.keys() ^ live.keys())[:3])}")
    for name, tensor in live.items():
        tensor.copy_(saved[name])


def encode_weights(model: nn.Module) -> bytes:
    """A model's weights alone, by the names of its state_dict."""
    return save(_storable(model.state_dict()))


def load_weights(path: str, model: nn.Module) -> None:
    """Fills a model with the weights of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        model.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


def _storable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU and contiguous: channels-last weights are not, and safetensors refuses those."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _as_in_memory(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, channels-last weights as they lie: bringing them into order is half of the time of a checkpoint."""
    stored = {}
    for name, tensor in tensors.items():
        lying = tensor.detach().cpu()
        if lying.is_contiguous():
            stored[name] = lying
        else:
            stored[name + NHWC] = lying.permute(0, 2, 3, 1).contiguous()
    return stored


def _as_named(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """The way back from `_as_in_memory`."""
    return {
        name.removesuffix(NHWC): tensor.permute(0, 3, 1, 2) if name.endswith(NHWC) else tensor
        for name, tensor in stored.items()
    }


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = optimizer.state_dict()["state"]
    return {f"{index}.{key}": value for index, state in states.items() for key, value in state.items()}


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Puts the moments back in the memory layout of their parameters, which the fused kernels walk along."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        like = parameter if tensor.shape == parameter.shape else tensor
        on_device = torch.empty_like(like, dtype=tensor.dtype, device=parameter.device)
        optimizer.state[parameter][key] = on_device.copy_(tensor)
