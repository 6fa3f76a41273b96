"""A node of a traced network in a few words."""

from typing import Any

from torch import Tensor, fx, nn

MERGES = {
    "add": "add",
    "iadd": "add",
    "mul": "multiply",
    "imul": "multiply",
    "cat": "concatenate",
    "concat": "concatenate",
}
FUNCTIONS = {
    "relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "sigmoid": "sigmoid", "softmax": "softmax", "matmul": "matmul",
    "max_pool2d": "max pool", "boolean_dispatch": "max pool", "avg_pool2d": "average pool", "pad": "pad",
    "adaptive_avg_pool2d": "mean", "mean": "mean", "scaled_dot_product_attention": "attention", "interpolate": "resize",
}  # fmt: skip
MODULES = {
    "BatchNorm2d": "batch norm", "LayerNorm": "layer norm", "LayerNorm2d": "layer norm", "AdaptiveAvgPool2d": "mean",
    "MultiheadAttention": "attention",
}  # fmt: skip
SILENT = {"Identity", "Dropout", "Flatten", "Permute", "StochasticDepth", "DropPath"}


def in_words(node: fx.Node, traced: fx.GraphModule) -> str:
    """ "" for what only moves numbers about."""
    if node.op == "placeholder":
        return "images"
    if node.op == "get_attr":
        return str(node.target).rpartition(".")[2].replace("_", " ")
    if node.op == "call_module":
        return _module(traced.get_submodule(str(node.target)))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    name = name.strip("_")
    return MERGES[name] if name in MERGES else FUNCTIONS.get(name, "")


def _module(module: nn.Module) -> str:
    name = type(module).__name__.strip("_")
    if name in SILENT:
        return ""
    if isinstance(module, nn.Conv2d):
        return _convolution(module)
    if isinstance(module, nn.Linear):
        return f"linear {module.out_features}"
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d):
        pool = "max pool" if isinstance(module, nn.MaxPool2d) else "average pool"
        return f"{pool} {_side(module.kernel_size)}{_stride(module.stride)}"
    return MODULES.get(name) or kind(module)


def kind(module: nn.Module) -> str:
    """What a module is; of a row of blocks, what they are and how many."""
    if type(module) is not nn.Sequential:
        return type(module).__name__.strip("_")
    kinds = [type(part).__name__.strip("_") for part in module]
    return f"{len(kinds)} x {kinds[0]}" if len(set(kinds)) == 1 else " + ".join(kinds)


def _convolution(conv: nn.Conv2d) -> str:
    each = "depthwise " if conv.groups == conv.in_channels > 1 else ""
    return f"{each}conv {_side(conv.kernel_size)}, {conv.out_channels}{_stride(conv.stride)}"


def _side(kernel: Any) -> str:
    height, width = kernel if isinstance(kernel, tuple) else (kernel, kernel)
    return f"{height}x{width}"


def _stride(stride: Any) -> str:
    side = stride[0] if isinstance(stride, tuple) else stride
    return f", stride {side}" if side > 1 else ""


def weighs(node: fx.Node, traced: fx.GraphModule) -> bool:
    """Whether it has weights of its own, other than a norm's, or brings several things together."""
    if node.op == "call_module":
        module = traced.get_submodule(str(node.target))
        norm = "Norm" in type(module).__name__
        return not norm and any(True for _ in module.parameters())
    return (
        isinstance(node.meta.get("type"), type)
        and issubclass(node.meta["type"], Tensor)
        and len(node.all_input_nodes) > 1
    )
