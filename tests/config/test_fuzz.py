"""Sweep files that are made up from the schema: right ones load, sample and round-trip; broken ones are refused."""

import math
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from medtune.config.default import default_point, start_points, trial_config
from medtune.config.fields import names
from medtune.config.read import ConfigError, read_sweep
from medtune.config.space import Choice, Distribution, distributions, resolve
from medtune.config.sweep import SIZES, SweepConfig
from medtune.config.trial import MODELS, TrialConfig
from medtune.config.write import dump_sweep, dump_yaml
from medtune.search.sampler import suggest

pytestmark = pytest.mark.filterwarnings("ignore:The distribution is specified by")  # Optuna, of steps like 0.0137
Tree = Any  # what YAML holds: mappings, lists, plain values

WORDS = st.text("abz019 -_.:#{}[],&*!|>'\"%@`\\/~?é中", max_size=12)
# what other keys decide too, or what is more than its type says
SPECIAL: dict[str, SearchStrategy[Tree]] = {
    "SweepConfig.sweep": st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}[a-z0-9]", fullmatch=True).filter(
        lambda name: name.split(".")[0] not in ("con", "prn", "aux", "nul")
    ),
    "Data.size": st.sampled_from(SIZES),
    "Search.constraints": st.dictionaries(
        st.sampled_from(["val/ece", "val/loss"]), st.fixed_dictionaries({"max": st.floats(0.1, 9)}), max_size=2
    ),
    "Search.start_with": st.just([]),
    "Search.sampler": st.sampled_from(["tpe", "random", "qmc", "gp"]),
    "Resources.gpus_per_trial": st.one_of(st.just("auto"), st.floats(0, 1), st.integers(0, 8)),
    "Cluster.ledger": st.sampled_from([None, "postgresql://me@db/medtune"]),
    "Retrain.select": st.just("last"),
    "MultiStep.milestones": st.lists(st.floats(0, 1), min_size=1, max_size=4),
    "ModelConfig.name": st.sampled_from(MODELS),
    "ModelConfig.weights": st.sampled_from([None, "my.pth"]),
    "ModelConfig.finetune": st.sampled_from(["all", "head", {"from": "layer4"}, {"layer4": 1, "layer3": 5}]),
}
FIXED = {
    "skip",
    "backbone_lr",
    "decay_norms",
    "nesterov",
    "saturation",
    "hue",
    "grey",
    "milestones",
}  # what may not be read if swept
SHARED = {"warmup", "final", "weight_decay"}  # keys that stand beside a swept name


def limits(rules: Any) -> dict[str, float]:
    """`ge`, `gt`, `le` and `lt` of the rules of a type."""
    flat = [one for rule in rules for one in getattr(rule, "metadata", None) or [rule]]
    return {kind: getattr(one, kind) for one in flat for kind in ("ge", "gt", "le", "lt") if hasattr(one, kind)}


def numbers(kind: type, within: Mapping[str, float]) -> SearchStrategy[Tree]:
    """Numbers within the limits of a field; also of every size, where it has none."""
    low, high = within.get("ge", within.get("gt", 0)), within.get("le", within.get("lt"))
    if kind is int:
        return st.integers(int(low) + ("gt" in within), 10**6 if high is None else int(high) - ("lt" in within))
    top = 1e300 if high is None else high
    anywhere = st.floats(low, top, exclude_min="gt" in within, exclude_max="lt" in within)
    usual = st.floats(1e-6, 1, exclude_max="lt" in within)
    return st.one_of(anywhere, usual) if low < 1e-6 and top >= 1 else anywhere


def plain(annotation: Any, metadata: Any = ()) -> SearchStrategy[Tree]:
    """Values of a type, without distributions."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return plain(arguments[0], arguments[1:])
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(plain(arguments[0]), max_size=4)
        return st.tuples(*map(plain, arguments)).map(list)
    if arguments:
        return st.one_of(*(plain(argument, metadata) for argument in arguments))
    if annotation in (int, float):
        return numbers(annotation, limits(metadata))
    if annotation is bool:
        return st.booleans()
    if annotation is type(None):
        return st.none()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return st.deferred(lambda: mapping(annotation))
    assert annotation is str
    return WORDS.filter(lambda text: text.strip() != "")


@st.composite
def a_range(draw: DrawFn, kind: type, within: Mapping[str, float]) -> Tree:
    """A range of any kind within the limits, sometimes with a step."""
    values = numbers(kind, within)
    low, high = sorted(draw(st.tuples(values, values).filter(lambda pair: pair[0] != pair[1])))
    words = ["int", "log_int"] if kind is int else ["uniform", "log_uniform"]
    word = draw(st.sampled_from(words if low > 0 else words[:1]))
    step: Tree = {}
    if not word.startswith("log") and draw(st.booleans()):
        width = high - low
        step = {"step": draw(st.integers(1, width)) if kind is int else width / draw(st.integers(1, 50))}
    if step and high / 1e11 > step["step"]:  # too fine to be told from its neighbours
        step = {}
    return {word: [low, high], **step}


def swept(field: FieldInfo, values: SearchStrategy[Tree], key: str) -> SearchStrategy[Tree]:
    """The values of a field, or distributions of them."""
    if key in FIXED:
        return values
    kinds = [kind for kind in (int, float) if kind in (field.annotation, *get_args(field.annotation))]
    leaf = st.one_of(values, *(a_range(kind, limits(field.metadata)) for kind in kinds))
    choices = st.lists(leaf, min_size=1, max_size=3).map(lambda options: {"choice": options})
    nested = st.lists(st.one_of(leaf, choices), min_size=1, max_size=3).map(lambda options: {"choice": options})
    return st.one_of(values, leaf, choices, nested)


def mapping(model: type[BaseModel], in_trial: bool = False) -> SearchStrategy[Tree]:
    """Mappings of a model with some of its keys; of a branch always its name."""
    optional: dict[str, SearchStrategy[Tree]] = {}
    required: dict[str, SearchStrategy[Tree]] = {}
    for key, field in model.model_fields.items():
        if key == "trial":
            optional[key] = mapping(TrialConfig, in_trial=True)
            continue
        if key in ("pretrain", "labels"):  # in the place of trial and of train_fraction
            continue
        special = f"{model.__name__}.{key}"
        values = SPECIAL[special] if special in SPECIAL else tree_of(field, in_trial)
        if in_trial and key != "name":
            values = swept(field, values, key)
        branch = key == "name" and len(names(model)) == 1
        (required if branch or field.is_required() else optional)[key] = values
    return st.fixed_dictionaries(required, optional=optional)


def tree_of(field: FieldInfo, in_trial: bool) -> SearchStrategy[Tree]:
    models = [part for part in (field.annotation, *get_args(field.annotation)) if isinstance(part, type)]
    found = [part for part in models if issubclass(part, BaseModel)]
    if not found:
        return plain(field.annotation, field.metadata)
    each = [mapping(part, in_trial) for part in found]
    if in_trial and len(found) > 1:
        together = st.lists(st.sampled_from([names(part)[0] for part in found]), min_size=1, max_size=3)
        each.append(together.map(lambda options: {"name": {"choice": options}}))
    return st.one_of(*each)


SWEEPS = mapping(SweepConfig)

FAST = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
MANY = settings(FAST, max_examples=1000 if "MEDTUNE_ALL_FAULTS" in os.environ else 300)


def pick_of(generator: random.Random) -> Any:
    def pick(path: str, distribution: Distribution) -> Any:
        if isinstance(distribution, Choice):
            return generator.randrange(len(distribution.options))
        share = generator.random()
        return distribution.clip(distribution.low * (1 - share) + distribution.high * share)

    return pick


def check_right(tree: Tree, folder: Path) -> None:
    path = folder / "sweep.yaml"
    path.write_text(dump_yaml(tree), encoding="utf-8")
    config = read_sweep(path)
    dump_sweep(config, path)
    assert read_sweep(path) == config
    check_samples(config)


def check_samples(config: SweepConfig) -> None:
    generator, found = random.Random(0), dict(distributions(config.trial))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    points = [suggest(study.ask(), config.trial, config.search.sampler) for _ in range(3)]
    for _ in range(3):
        drawn: dict[str, Any] = {}
        pick = pick_of(generator)
        resolve(config.trial, lambda path, one, drawn=drawn, pick=pick: drawn.setdefault(path, pick(path, one)))
        points.append(drawn)
    points.append(default_point(config.trial))
    for point in points:
        for name, value in point.items():
            check_within(found[name], value)
        trial_config(config.trial, point)
        tree = resolve(config.trial, lambda path, _, point=point: point[path])
        again = start_points(config.trial, [tree])[0]
        assert holds(resolve(config.trial, lambda path, _, again=again: again[path]), tree)


def holds(tree: Tree, wanted: Tree) -> bool:
    """Whether a tree has what is wanted; a step of a range may come to the last digit but one in two ways."""
    if isinstance(wanted, dict):
        return all(key in tree and holds(tree[key], below) for key, below in wanted.items())
    if isinstance(wanted, list):
        return len(tree) == len(wanted) and all(map(holds, tree, wanted))
    return math.isclose(tree, wanted, rel_tol=1e-8) if isinstance(wanted, float) else tree == wanted


def check_within(distribution: Distribution, value: Any) -> None:
    if isinstance(distribution, Choice):
        assert value in range(len(distribution.options))
        return
    assert distribution.low <= value <= distribution.high
    if distribution.integer:
        assert isinstance(value, int)
    if distribution.step:
        steps = (value - distribution.low) / distribution.step
        assert math.isclose(steps, round(steps), abs_tol=1e-3)


def places(tree: Tree, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all nodes below the top."""
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, below in pairs for place in [(*above, key), *places(below, (*above, key))]]


def replaced(tree: Tree, place: tuple[Any, ...], change: Any) -> Tree:
    """The tree after `change(parent, key)` of a copy of what stands above the place."""
    key, *below = place
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if below:
        copy[key] = replaced(copy[key], tuple(below), change)
    else:
        change(copy, key)
    return copy


WRONG_VALUES = [None, True, "x", "", -1, 0, 1e308, math.nan, math.inf, [], {}, [[]], {"choice": []}, {"a": {"b": 1}}]


@st.composite
def broken(draw: DrawFn) -> bytes:
    """The text of a right file after one thing in it was broken."""
    tree = draw(SWEEPS)
    place = draw(st.sampled_from(places(tree)))

    def misspelt(parent: Any, key: Any) -> None:
        if isinstance(key, str):
            parent[draw(st.sampled_from([key + "x", key[1:], key.upper(), "", key + "\u0435"]))] = parent.pop(key)

    def exchanged(parent: Any, key: Any) -> None:
        parent[key] = draw(st.sampled_from(WRONG_VALUES))

    def swapped(parent: Any, key: Any) -> None:
        if isinstance(parent[key], list):
            parent[key] = parent[key][::-1]

    how = draw(st.sampled_from(["misspelt", "exchanged", "swapped", "cut", "bracket", "bytes"]))
    changes = {"misspelt": misspelt, "exchanged": exchanged, "swapped": swapped}
    if how in changes:
        return dump_yaml(replaced(tree, place, changes[how])).encode()
    text = dump_yaml(tree).encode()
    at = draw(st.integers(0, len(text) - 1))
    if how == "cut":
        return text[:at]
    if how == "bracket":
        found = [index for index, letter in enumerate(text) if letter in b"[]{}:,-'\""]
        at = draw(st.sampled_from(found))
        return text[:at] + text[at + 1 :]
    return text[:at] + draw(st.binary(min_size=1, max_size=4)) + text[at + draw(st.integers(0, 4)) :]


def check_broken(text: bytes, folder: Path) -> bool:
    """Whether the file is refused; one that is not must be a right one. Nothing else may be raised."""
    path = folder / "broken.yaml"
    path.write_bytes(text)
    try:
        config = read_sweep(path)
    except ConfigError as error:
        assert error.problems and all(line.startswith(f"{path}:") and "\n" not in line for line in error.problems)
        return True
    dump_sweep(config, folder / "again.yaml")
    assert read_sweep(folder / "again.yaml") == config
    check_samples(config)
    return False


@pytest.fixture(scope="module")
def where(tmp_path_factory: pytest.TempPathFactory) -> Path:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return tmp_path_factory.mktemp("fuzz")


@FAST
@given(tree=SWEEPS)
def test_right_files_load_sample_and_come_back(tree: Tree, where: Path) -> None:
    check_right(tree, where)


@FAST
@given(text=broken())
def test_broken_files_are_refused_or_right_and_nothing_else(text: bytes, where: Path) -> None:
    check_broken(text, where)


@pytest.mark.slow
@pytest.mark.timeout(600)
@MANY
@given(tree=SWEEPS)
def test_many_right_files(tree: Tree, where: Path) -> None:
    check_right(tree, where)


@pytest.mark.slow
@pytest.mark.timeout(600)
@MANY
@given(text=broken())
def test_many_broken_files(text: bytes, where: Path) -> None:
    check_broken(text, where)
