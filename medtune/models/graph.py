"""A model as boxes and connections, traced by torch.fx: a convolution, its norm and what follows it are one box."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from medtune.models.classifier import Classifier
from medtune.models.finetune import layers
from medtune.models.words import in_words, weighs

MOST_BOXES = 72  # more are no picture: then blocks, or whole layers, become one box each
MOST_SKIPS = 72


@dataclass
class Box:
    """steps: what happens in it, in words. path: of the module that it begins with or is in, "" for the network itself.
    sources: the boxes, by index, whose output goes in. shape: of what comes out, without the cases."""

    path: str
    steps: list[str] = field(default_factory=list)
    sources: list[int] = field(default_factory=list)
    shape: tuple[int, ...] = ()
    weighs: bool = False
    full: bool = False  # it holds a whole block: what comes after is of another box


def model_graph(model: Classifier, channels: int, size: int) -> list[Box]:
    """The boxes of a model on the meta device in the order in which they are computed, the images first, the head last.
    Raises ValueError where the backbone cannot be traced, as some of timm's."""
    boxes: list[Box] = []
    failure = ""
    for closed in (frozenset[str](), _blocks(model.backbone), frozenset(layers(model.backbone))):
        try:
            traced = _trace(model.backbone, channels, size, closed)
        except Exception as error:  # of many kinds: what fx cannot follow, in code of others
            failure = str(error).strip().partition("\n")[0]
            continue
        boxes = _boxes(traced)
        if len(boxes) <= MOST_BOXES and sum(len(box.sources) for box in boxes) - len(boxes) <= MOST_SKIPS:
            break
    if not boxes:
        raise ValueError(f"the graph of this model cannot be traced ({failure}); leave out --graph")
    return [*boxes, *_rest(model, len(boxes) - 1)]


def _blocks(backbone: nn.Module) -> frozenset[str]:
    """What the layers consist of, and the layers that consist of nothing."""
    parts = {layer: backbone.get_submodule(layer) for layer in layers(backbone)}
    below = {f"{layer}.{name}" for layer, part in parts.items() for name, _ in part.named_children()}
    return frozenset(below | {layer for layer, part in parts.items() if not any(True for _ in part.children())})


class _Tracer(fx.Tracer):
    def __init__(self, closed: frozenset[str]) -> None:
        super().__init__()
        self.closed = closed

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name in self.closed or super().is_leaf_module(m, module_qualified_name)


def _trace(backbone: nn.Module, channels: int, size: int, closed: frozenset[str]) -> fx.GraphModule:
    """The graph with the shape of each node's output; modules named in `closed` are not looked into."""
    traced = fx.GraphModule(backbone, _Tracer(closed).trace(backbone))
    ShapeProp(traced).propagate(torch.empty(1, channels, size, size, device="meta"))
    return traced


def _boxes(traced: fx.GraphModule) -> list[Box]:
    boxes: list[Box] = []
    where: dict[fx.Node, int] = {}
    for node in traced.graph.nodes:
        if node.op == "output" or not _is_tensor(node):
            continue
        sources = list(dict.fromkeys(where[source] for source in _tensors(node)))
        words, heavy = in_words(node, traced), weighs(node, traced)
        if _joins(node, sources, boxes, heavy, bool(words)):
            where[node] = sources[0]
        else:
            boxes.append(Box(_path(node), sources=sources))
            where[node] = len(boxes) - 1
        box = boxes[where[node]]
        box.steps += [words] if words else []
        box.weighs, box.shape = box.weighs or heavy, _shape(node) or box.shape
        box.full = box.full or _is_block(node, traced)
    return _without_empty(boxes)


def _joins(node: fx.Node, sources: list[int], boxes: list[Box], heavy: bool, seen: bool) -> bool:
    """Whether a node goes into its source's box: nothing else may use that source, and one heavy step is enough."""
    if len(sources) != 1 or len(_tensors(node)) != 1:
        return False
    box = boxes[sources[0]]
    if node.all_input_nodes[0].op == "placeholder" or (heavy and box.weighs) or (seen and box.full):
        return False
    (source,) = dict.fromkeys(_tensors(node))
    return sum(1 for user in source.users if _is_tensor(user) or user.op == "output") == 1


def _without_empty(boxes: list[Box]) -> list[Box]:
    """Boxes in which nothing is worth a word, as a permutation, give way to what comes before them."""
    kept: list[Box] = []
    new: list[int] = []
    for box in boxes:
        box.sources = list(dict.fromkeys(new[source] for source in box.sources))
        if not box.steps and len(box.sources) == 1:
            new.append(box.sources[0])
        else:
            kept.append(box)
            new.append(len(kept) - 1)
    return kept


def _rest(model: Classifier, last: int) -> Iterator[Box]:
    """The boxes after the backbone."""
    if model.hidden is not None:
        units = model.hidden.out_features
        yield Box("hidden", [f"linear {units}", "ReLU"], [last], (units,), weighs=True)
        last += 1
    dropout = [f"dropout {model.dropout.probability:g}"] if model.dropout.probability else []
    classes = model.head.out_features
    yield Box("head", [*dropout, f"linear {classes}"], [last], (classes,), weighs=True)


def _path(node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    within = [path for path, _ in node.meta.get("nn_module_stack", {}).values()]
    return str(within[-1]) if within else ""


def _is_block(node: fx.Node, traced: fx.GraphModule) -> bool:
    return node.op == "call_module" and any(True for _ in traced.get_submodule(str(node.target)).children())


def _is_tensor(node: fx.Node) -> bool:
    return "tensor_meta" in node.meta


def _tensors(node: fx.Node) -> list[fx.Node]:
    return [source for source in node.all_input_nodes if _is_tensor(source)]


def _shape(node: fx.Node) -> tuple[int, ...]:
    meta: Any = node.meta["tensor_meta"]
    return tuple(meta.shape[1:]) if hasattr(meta, "shape") else ()
