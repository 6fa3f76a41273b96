"""What no key is wrong in by itself: swept keys that nothing reads, and weights that a model does not have."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from medtune.config.fill import leaves
from medtune.config.kinds import LABELS
from medtune.config.problems import Place, Problem, did_you_mean, dotted, nearest
from medtune.config.space import Choice, Range
from medtune.config.sweep import GREY
from medtune.config.trial import UNPUBLISHED

Rule = tuple[str, Callable[[Any], bool], str]  # a key beside it, by which of its values it is read, and why not


def _above_0(value: Any) -> bool:
    return bool(value > 0)


# by section and key
RULES: dict[tuple[str, str], Rule] = {
    ("model", "skip"): ("name", lambda name: name == "smallcnn", "only smallcnn has skip connections to leave out"),
    ("model", "backbone_lr"): ("finetune", lambda layers: layers != "head", "with finetune: head only the head trains"),
    ("optimizer", "decay_norms"): ("weight_decay", _above_0, "without weight_decay nothing decays"),
    ("optimizer", "nesterov"): ("momentum", _above_0, "without momentum there is no Nesterov's"),
    ("schedule", "gamma"): ("milestones", bool, "without milestones it is never used"),
}


def unread(space: Mapping[str, Any], root: str, data: Any) -> Iterator[Problem]:
    """A problem for each distribution of a filled-in space that changes nothing in any trial. root: the section that
    the space is of. data: that section."""
    for (section, key), (other, read, why) in RULES.items():
        for mapping, place in _mappings(space.get(section), (root, section)):
            # beside a swept name `other` may be unknown: then some branch has it by its default
            if other in mapping and not any(read(value) for value in _values(mapping[other])):
                yield from _swept(mapping, key, place, why)
    dataset = data.get("dataset") if isinstance(data, Mapping) and data.get("folder") is None else None
    if dataset in GREY:
        for mapping, place in _mappings(space.get("augment"), (root, "augment")):
            for key in ("saturation", "hue", "grey"):
                yield from _swept(mapping, key, place, f"{dataset} has no colours")


def weights(space: Mapping[str, Any], root: str) -> Iterator[Problem]:
    """A problem where a model of a filled-in trial can meet weights that nobody has published."""
    for mapping, place in _mappings(space.get("model"), (root, "model")):
        wanted = [value for value in _values(mapping.get("weights")) if isinstance(value, str)]
        without = [name for name in _values(mapping.get("name")) if name in UNPUBLISHED]
        misspelt = [value for value in wanted if value != "imagenet" and nearest(value, ["imagenet"])]
        if misspelt:
            what = f"{root}.model.weights: there are none called {misspelt[0]}; {did_you_mean(misspelt[0], 'imagenet')}"
            yield Problem((*place, "weights"), what)
        if without and "imagenet" in wanted:
            what = f"{root}.model.weights: none are published of {without[0]}; write null, a file, or another model"
            yield Problem((*place, "weights"), what)


def probed(space: Mapping[str, Any], root: str) -> Iterator[Problem]:
    """A problem where the linear probe meets what it has no place for."""
    for mapping, place in _mappings(space.get("model"), (root, "model")):
        if "probe" not in list(_values(mapping.get("finetune"))):
            continue
        if any(value for value in _values(mapping.get("hidden"))):
            what = "the linear probe has no dense layer before it; write hidden: 0, or another finetune"
            yield Problem((*place, "hidden"), f"{dotted((*place, 'hidden'))}: {what}")
        if any(value is not None for value in _values(space.get("folds"))):
            what = "the linear probe chooses its regularisation on validation, and folds leave none; leave one out"
            yield Problem((root, "folds"), f"{root}.folds: {what}")


def labelled_twice(space: Mapping[str, Any], data: Any) -> Iterator[Problem]:
    """A problem where a part of the labels meets another division of the cases."""
    if space[LABELS] is None:
        return
    if isinstance(data, Mapping) and data.get("train_fraction") not in (None, 1):
        what = "data.labels stands in the place of train_fraction; leave one of them out"
        yield Problem(("data", LABELS), what, at_key=True)
    if any(value is not None for value in _values(space.get("folds"))):
        what = "data.labels is a part of train, and trial.folds divide train and val together; leave one of them out"
        yield Problem(("data", LABELS), what, at_key=True)


def _swept(mapping: Mapping[str, Any], key: str, place: Place, why: str) -> Iterator[Problem]:
    if isinstance(mapping.get(key), Choice | Range):
        what = f"{dotted((*place, key))} is swept but nothing reads it: {why}; remove it"
        yield Problem((*place, key), what, at_key=True)


def _mappings(node: Any, place: Place) -> Iterator[tuple[Mapping[str, Any], Place]]:
    """The mappings that a node can become, each with its place."""
    if isinstance(node, Choice):
        for index, option in enumerate(node.options):
            yield from _mappings(option, (*place, "choice", index))
    elif isinstance(node, Mapping):
        yield node, place


def _values(node: Any) -> Iterator[Any]:
    """The plain values that a node can take, of a range its high bound."""
    for leaf in leaves(node):
        yield leaf.high if isinstance(leaf, Range) else leaf
