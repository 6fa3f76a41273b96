import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from medtune.config.read import ConfigError, read_sweep
from medtune.config.space import Choice, Range
from medtune.config.sweep import Asha, Hyperband, SweepConfig

Read = Callable[..., SweepConfig]
Wrong = Callable[..., list[str]]


def test_the_design_document_s_example(read: Read, design: str) -> None:
    config = read(design)
    assert config.sweep == "breast-small"
    assert config.direction == "max"
    assert config.trial["batch_size"] == Choice((32, 64, 128))
    assert config.trial["optimizer"].options[1]["lr"] == Range(1e-3, 0.3, log=True)
    assert config.trial["augment"]["rotate_degrees"] == Range(0, 20, integer=True, step=5)
    assert config.trial["augment"]["noise"] == Choice((0, Range(0.1, 0.4)))


def test_a_name_is_all_that_a_file_needs(read: Read) -> None:
    config = read("sweep: a")
    assert config.trial["optimizer"]["name"] == "adam"
    assert config.trial["schedule"]["milestones"] == [0.5, 0.75]
    assert config.pruning.name == "asha"


def test_defaults_are_those_of_the_branch_and_only_where_it_is_known(read: Read) -> None:
    config = read("sweep: a\ntrial: {optimizer: {name: {choice: [adam, adamw]}}, schedule: {name: cosine}}")
    # adam and adamw have different weight decays
    assert config.trial["optimizer"] == {
        "name": Choice(("adam", "adamw")),
        "lr": 1e-3,
        "decay_norms": True,
        "beta1": 0.9,
        "beta2": 0.999,
    }
    assert config.trial["schedule"] == {"name": "cosine", "warmup": 0.0, "final": 0.0}


def test_a_missing_name_is_the_default_one(read: Read) -> None:
    config = read("sweep: a\ntrial: {optimizer: {lr: 0.5}}\npruning: {grace_epochs: 7}")
    assert config.trial["optimizer"]["name"] == "adam"
    assert config.pruning == Asha(grace_epochs=7)


def test_yaml_is_1_2(read: Read) -> None:
    config = read("sweep: 2024-01-01\ntrial: {optimizer: {lr: 1e-4}}\ndata: {root: no}")
    assert (config.sweep, config.trial["optimizer"]["lr"], config.data.root) == ("2024-01-01", 1e-4, "no")


def test_aliases_are_read(read: Read) -> None:
    text = "sweep: a\ntrial: {optimizer: {choice: [{name: adam, lr: &lr {uniform: [0.1, 1]}}, {name: sgd, lr: *lr}]}}"
    assert read(text).trial["optimizer"].options[1]["lr"] == Range(0.1, 1)


def test_a_byte_order_mark_and_windows_line_ends(read: Read) -> None:
    assert read(b"\xef\xbb\xbfsweep: a\r\nseed: 3\r\n").seed == 3


def test_lists_can_be_chosen_from_and_hold_distributions(read: Read) -> None:
    schedule = "{name: multistep, milestones: {choice: [[0.5, 0.75], [{uniform: [0.2, 0.4]}, 0.6]]}}"
    config = read(f"sweep: a\ntrial: {{schedule: {schedule}}}")
    assert config.trial["schedule"]["milestones"] == Choice(([0.5, 0.75], [Range(0.2, 0.4), 0.6]))


# what stands below `trial:`, and the whole line that is said about it
TRIAL_ERRORS = [
    ("{optimzer: {name: sgd}}", "9: unknown key optimzer in trial; did you mean optimizer?"),
    ("{label_smoothing: 0.1}", "9: unknown key label_smoothing in trial; label_smoothing stands in trial.loss"),
    ("{loss: {zzz: 1}}", "16: unknown key zzz in trial.loss; its keys are label_smoothing"),
    (
        "{optimizer: {name: adam, momentum: 0.9}}",
        "33: momentum is a key of optimizer sgd and rmsprop, not of adam; remove it or change the name",
    ),
    (
        "{schedule: {name: {choice: [constant, cosine, step]}, gamma: 0.1}}",
        "62: gamma is a key of schedule step, multistep and plateau, not of constant; remove it or change the name; "
        "beside a swept name only keys that all of them have can stand",
    ),
    (
        "{model: {finetune: {layer3: 0}}}",
        "27: trial.model.finetune: write {from: LAYER}, or layers with the epochs, from 1 on, at which they begin",
    ),
    (
        "{model: {finetune: {choice: [all, hed]}}}",
        "42: trial.model.finetune must be all, head or probe or a mapping, not",
    ),
    ("{model: {name: timm/Oops}}", "23: trial.model.name must be smallcnn, resnet18,"),
    (
        "{optimizer: {name: sdg}}",
        "27: trial.optimizer.name must be adam, adamw, sgd or rmsprop, not 'sdg'; did you mean sgd?",
    ),
    ("{optimizer: sgd}", "20: trial.optimizer must be a mapping, not 'sgd'; write {name: sgd}"),
    ("{augment: }", "17: trial.augment must be a mapping, not null; write keys below it, or remove the line"),
    ("{epochs: 20.0}", "17: trial.epochs must be a whole number, not 20.0"),
    ('{epochs: "20"}', "17: trial.epochs must be a whole number, not '20'; remove the quotes"),
    ("{epochs: true}", "17: trial.epochs must be a whole number, not true"),
    ("{augment: {flip: yes}}", "25: trial.augment.flip must be true or false, not 'yes'; write true"),
    ("{optimizer: {lr: -1}}", "25: trial.optimizer.lr must be above 0, not -1"),
    ("{optimizer: {lr: .inf}}", "25: trial.optimizer.lr must be a finite number, not inf"),
    (
        "{schedule: {name: multistep, milestones: [0.5, 2]}}",
        "55: trial.schedule.milestones.1 must be at most 1, not 2",
    ),
    ("{batch_size: {choice: [32, 1]}}", "35: trial.batch_size must be at least 2, not 1"),
    ("{batch_size: {choice: []}}", "30: trial.batch_size: choice needs a list of options; write {choice: [a, b]}"),
    (
        "{optimizer: {choice: [{name: adam}, {name: sgd, lr: {uniform: [-1, 1]}}]}}",
        "71: trial.optimizer.lr must be above 0, not -1.0",
    ),
    (
        "{augment: {noise: {choice: [0, {uniform: [0.5, 1.5]}]}}}",
        "55: trial.augment.noise must be at most 1, not 1.5",
    ),
    (
        "{epochs: {uniform: [5, 20]}}",
        "17: trial.epochs must be a whole number, which uniform does not give; use int or log_int",
    ),
    (
        "{augment: {flip: {int: [0, 1]}}}",
        "25: trial.augment.flip must be true or false, which int does not give; use choice",
    ),
    (
        "{epochs: {int: [5, 20.5]}}",
        "27: trial.epochs: a bound of int must be a whole number, not 20.5; round it, or use uniform",
    ),
    (
        "{epochs: {int: [20, 5]}}",
        "23: trial.epochs: the low bound 20 must be below the high bound 5; swap them, or write one value",
    ),
    (
        "{optimizer: {lr: {log_uniform: [0, 1]}}}",
        "40: trial.optimizer.lr: the low bound of log_uniform must be above 0, not 0; raise it, or use uniform",
    ),
    (
        "{optimizer: {lr: {uniform: 1}}}",
        "35: trial.optimizer.lr: uniform needs two bounds; write {uniform: [low, high]}",
    ),
    (
        "{optimizer: {lr: {uniform: [0.1, b]}}}",
        "41: trial.optimizer.lr: a bound of uniform must be a finite number, not 'b'; write {uniform: [low, high]}",
    ),
    (
        "{epochs: {int: [5, 20], step: 0}}",
        "38: trial.epochs: step must be a number above 0, not 0; correct or remove it",
    ),
    (
        "{epochs: {int: [5, 20], step: 2.5}}",
        "38: trial.epochs: the step of int must be a whole number, not 2.5; round it, or use uniform",
    ),
    (
        "{epochs: {int: [5, 20], step: 30}}",
        "38: trial.epochs: step 30 is wider than the range; make it at most 15",
    ),
    (
        "{epochs: {log_int: [5, 20], step: 2}}",
        "36: trial.epochs: log_int has no step; remove it, or use uniform or int",
    ),
    (
        "{epochs: {int: [5, 20], choice: [1]}}",
        "32: trial.epochs has int and choice at once; keep one of them",
    ),
    (
        "{optimizer: {choice: [{name: sgd}], lr: 1}}",
        "44: trial.optimizer is a distribution (choice), so lr cannot stand beside it; move or remove it",
    ),
    (
        "{optimizer: {lr: {loguniform: [0.1, 1]}}}",
        "25: trial.optimizer.lr must be a number, not a mapping; did you mean log_uniform?",
    ),
    ("{optimizer: {lr: !!python/name:os.system }}", "25: the tag tag:yaml.org,2002:python/name:os.system is not read"),
]


@pytest.mark.parametrize(("trial", "line"), TRIAL_ERRORS)
def test_a_wrong_trial(wrong: Wrong, trial: str, line: str) -> None:
    problems = wrong(f"sweep: a\ntrial: {trial}")
    assert len(problems) == 1
    assert problems[0].startswith(f"sweep.yaml:2:{line}")


SECTION_ERRORS = [
    ("sede: 1", "1: unknown key sede in the file; did you mean seed?"),
    ("patience: 1", "1: unknown key patience in the file; patience stands in trial.schedule or trial.early_stopping"),
    ("data: {dataset: brestmnist}", "17: data.dataset: there is no 'brestmnist'; did you mean breastmnist?"),
    (
        "data: {size: 32}",
        "14: data.size: breastmnist has 28, 64, 128 and 224, not 32; take one of them, and resize for others",
    ),
    ("tril: {epochs: {int: [1, 2]}}", "1: unknown key tril in the file; did you mean trial?"),
    ("data: {root: 3}", "14: data.root must be text, not 3; put it in quotes"),
    ("seed: -1", "7: seed must be at least 0, not -1"),
    (
        "seed: {int: [0, 9]}",
        "7: no distribution (int) can stand at seed, only below trial; write one value",
    ),
    ("pruning: none", "10: pruning must be a mapping, not 'none'; write {name: none}"),
    ("pruning: {name: asha, brackets: 2}", "23: brackets is a key of pruning hyperband, not of asha;"),
    (
        "resources: {gpus_per_trial: atuo}",
        "29: resources.gpus_per_trial must be auto or a number, not 'atuo'; did you mean auto?",
    ),
    ("resources: {max_concurrent: 0}", "29: resources.max_concurrent must be auto or at least 1, not 0"),
    ("search: {metric: val/aroc}", "18: search.metric must be val/auroc, val/accuracy, val/loss, val/ece or val/brier"),
    ("trial: {choice: [{epochs: 1}]}", "8: no distribution can stand at trial itself; "),
    ("seed: 1\nseed: 2", "1: seed stands twice, first in line 2; keep one of them"),
    ("1: 2", "1: a key must be text, not '1'; quote it or check the indentation"),
    ("<<: {seed: 1}", "1: the merge key << is not YAML 1.2; write the keys out"),
    ("data: {root: !!binary aGk=}", "14: the tag tag:yaml.org,2002:binary is not read; remove it"),
]


@pytest.mark.parametrize(("text", "line"), SECTION_ERRORS)
def test_a_wrong_section(wrong: Wrong, text: str, line: str) -> None:
    problems = wrong(f"sweep: a\n{text}")
    row = 1 + len(text.splitlines())
    assert len(problems) == 1
    assert problems[0].startswith(f"sweep.yaml:{row}:{line}")


def test_every_problem_at_once_in_the_order_of_the_file(wrong: Wrong) -> None:
    text = (
        "sweep: Breast small\n"
        "data: {dataset: brestmnist}\n"
        "trial:\n"
        "  epochs: {int: [20, 5]}\n"
        "  optimizer:\n"
        "    choice:\n"
        "      - {name: adamw, momentum: 0.9}\n"
        "      - {name: sgd, momemtum: 0.9}\n"
        "search: {sampler: tep}\n"
    )
    problems = wrong(text)
    assert [line.split(":")[1] for line in problems] == ["1", "2", "4", "7", "8", "9"]
    assert problems[0].endswith("did you mean breast-small?")
    assert problems[1].endswith("did you mean breastmnist?")


def test_the_name_is_required(wrong: Wrong) -> None:
    assert wrong("seed: 1") == ["sweep.yaml:1:1: sweep is missing; write sweep: ..."]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "sweep.yaml:1:1: the file is empty; begin it with sweep: NAME"),
        ("# only words\n", "sweep.yaml:1:1: the file is empty; begin it with sweep: NAME"),
        ("- a\n", "sweep.yaml:1:1: the file must be a mapping; begin it with sweep: NAME"),
        (b"sweep: a\nseed: \xff", "sweep.yaml:2:7: this is not UTF-8 text; save it as UTF-8"),
        ("sweep: a\nseed: [1", "sweep.yaml:2:9: this is not YAML: "),
        ("sweep: a\n\tseed: 1", "sweep.yaml:2:1: this is not YAML: "),
        ("sweep: a\n---\nsweep: b\n", "sweep.yaml:2:1: this is not YAML: "),
        ("sweep: \x07", "sweep.yaml:1:8: this is not YAML: "),
        ("[" * 5000, "sweep.yaml:1:51: nested too deeply"),
        ("a: &a [*a]", "sweep.yaml:1:4: nested too deeply, or within itself"),
    ],
)
def test_what_is_no_yaml(wrong: Wrong, text: str | bytes, line: str) -> None:
    problems = wrong(text)
    assert len(problems) == 1
    assert problems[0].startswith(line)


def test_aliases_that_explode_are_refused_at_once(wrong: Wrong) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert "aliases of aliases" in wrong("\n".join(lines))[0]


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.yaml: there is no such file; check the path"):
        read_sweep(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="this is a folder; give the sweep file in it"):
        read_sweep(tmp_path)


def test_a_grid_needs_points_that_can_be_counted(wrong: Wrong) -> None:
    space = "trial: {optimizer: {choice: [{name: adam, lr: {log_uniform: [0.1, 1]}}, {name: sgd}]}}"
    assert wrong(f"sweep: a\n{space}\nsearch: {{sampler: grid}}") == [
        "sweep.yaml:2:47: a grid cannot count the points of this range; use choice, int, or uniform with a step"
    ]


def test_start_with_must_be_points_of_the_space(wrong: Wrong, design: str) -> None:
    start = "search.start_with=[{optimizer: {name: sgd, lr: 1}}, {loss: {label_smoothing: 0.1}}, {lr: 3}]"
    problems = wrong(design, start)
    assert len(problems) == 2
    assert problems[0].endswith("with.0: optimizer.lr is 1, but the space has 0.001 to 0.3; change one of them")
    assert "with.2: lr is no key of this space; its keys there are epochs, " in problems[1]


def test_start_with_is_reported_beside_other_problems(wrong: Wrong) -> None:
    problems = wrong("sweep: a\nseed: -1\nsearch: {start_with: [{epochs: 3}]}")
    assert [line.split(": ")[0] for line in problems] == ["sweep.yaml:2:7", "sweep.yaml:3:23"]


def test_broken_files_give_problems_and_nothing_else(read: Read, design: str) -> None:
    generator = random.Random(0)
    words = [
        "null",
        "[]",
        "{}",
        "3",
        "-1",
        "x",
        "{choice: [1, x]}",
        "{int: [0, 1]}",
        "{uniform: 3}",
        "[{name: sgd}]",
        "",
    ]
    values = [match.span() for match in re.finditer(r"(?<=: )[^\s,}\]]+|\{[^{}]*\}|\[[^\[\]]*\]", design)]
    for _ in range(150):
        start, end = generator.choice(values)
        text = design[:start] + generator.choice(words) + design[end:]
        try:
            read(text)
        except ConfigError as error:
            assert all(re.match(r".*sweep.yaml:\d+:\d+: \S", problem) for problem in error.problems)


def test_overrides(read: Read, design: str) -> None:
    config = read(
        design,
        "trial.optimizer={name: sgd, lr: {log_uniform: [1e-3, 0.1]}}",
        "trial.batch_size=64",
        "trial.epochs={int: [5, 10]}",
        "pruning={name: hyperband}",
        "data.root=",
        "trial.augment.flip=true",
        "sweep=b",
        "sweep=c",
    )
    assert config.trial["optimizer"]["lr"] == Range(1e-3, 0.1, log=True)
    assert config.trial["batch_size"] == 64
    assert config.trial["epochs"] == Range(5, 10, integer=True)
    assert config.trial["augment"]["flip"] is True
    assert isinstance(config.pruning, Hyperband)
    assert (config.sweep, config.data.root) == ("c", None)


def test_overrides_make_the_mappings_that_they_need(read: Read) -> None:
    assert read("sweep: a\ntrial:", "trial.optimizer.lr=0.5").trial["optimizer"]["lr"] == 0.5


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("data.size=33", "data.size: breastmnist has 28, 64, 128 and 224, not 33"),
        ("tril.epochs=3", "unknown key tril in the file; did you mean trial?"),
        ("trial.loss.lr=3", "unknown key lr in trial.loss; lr stands in trial.optimizer"),
        (
            "trial.optimizer.lr=1",
            "trial.optimizer is a distribution (choice); set the whole of it, trial.optimizer=...",
        ),
        ("trial.batch_size.choice=[1]", "trial.batch_size is a distribution (choice); set the whole of it"),
        ("search.start_with.0=1", "search.start_with is a list; set the whole list, search.start_with=[...]"),
        ("trial.epochs.x=1", "trial.epochs is a plain value, so nothing stands below it; set trial.epochs=..."),
        ("trial.epochs", "this is no key=value; write for example trial.epochs=20"),
        ("=3", "this is no key=value; write for example trial.epochs=20"),
        ("trial..epochs=3", "this is no key=value; write for example trial.epochs=20"),
        ("trial.epochs=[", "the value is wrong: this is not YAML: "),
        ("trial.loss={a: 1, a: 2}", "the value is wrong: a stands twice"),
        ("trial.loss={label_smoothing: {uniform: [0, 2]}}", "trial.loss.label_smoothing must be below 1, not 2.0"),
    ],
)
def test_a_wrong_override(wrong: Wrong, design: str, override: str, line: str) -> None:
    problems = wrong(design, override)
    assert len(problems) == 1
    assert problems[0].startswith(f"--set {override}: {line}")


def test_an_override_heals_the_file(read: Read) -> None:
    assert read("sweep: a\nseed: -1", "seed=1").seed == 1


HEAVY = {"torch", "ray", "mlflow", "optuna", "pandas", "numpy"}


def test_a_wrong_file_is_refused_without_heavy_imports(tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.write_text("sede: 1")
    program = (
        "import sys, pathlib\n"
        "from medtune.config.read import ConfigError, read_sweep\n"
        "try: read_sweep(pathlib.Path(sys.argv[1]))\n"
        "except ConfigError as error: print(len(error.problems), *sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    count, *modules = run.stdout.split()
    assert count == "2"
    assert not HEAVY & set(modules)
