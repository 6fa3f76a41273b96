"""What few labels are worth, as a page: the numbers of `label_efficiency` with what they mean beside them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medtune.config.sweep import SweepConfig
from medtune.data.catalogue import describe
from medtune.data.splits import data_md5
from medtune.evaluation.metrics import Floats, Integers
from medtune.figures.fractions import fractions_figure
from medtune.figures.reliability import reliability_figure
from medtune.files import write_whole
from medtune.models.pretrained import described
from medtune.report.document import Block, Bullets, Commands, Document, Picture, Pictures, Section, Table, Text, Tone
from medtune.report.html import as_html
from medtune.report.markdown import as_markdown, pictures_of
from medtune.report.words import believed, interval, number
from medtune.search.folder import SweepFolder

NUMBERS = {"auroc": "AUROC", "accuracy": "accuracy", "ece": "ECE"}
SPLITS = {"val": "validation", "test": "test"}

Found = Mapping[str, Any]


@dataclass(frozen=True)
class Pooled:
    """All trainings of an arm on a fraction in one, for a reliability diagram. before, after the temperature: (cases of
    all, classes), with the labels of each."""

    arm: str
    fraction: float
    before: Floats
    after: Floats
    labels: Integers


def write_label_efficiency(
    folder: SweepFolder, config: SweepConfig, found: Found, pooled: Sequence[Pooled]
) -> tuple[Path, Path]:
    """`label-efficiency.html` and `.md`, and the pictures of the latter beside it. found, pooled: of
    `label_efficiency`. Both paths."""
    name = page_name(found)
    pictures = folder.path / name
    pictures.mkdir(exist_ok=True)
    for old in pictures.glob("*.png"):
        old.unlink()
    _draw(found, pooled, describe(config.data).task, pictures)
    document = label_efficiency_document(config, found, pictures)
    html, markdown = folder.path / f"{name}.html", folder.path / f"{name}.md"
    for picture, png in pictures_of(document).items():
        write_whole(pictures / picture, png)
    write_whole(markdown, as_markdown(document, name).encode())
    write_whole(html, as_html(document).encode())
    return html, markdown


def page_name(found: Found) -> str:
    """Of the page, of what it is made of, and of the folder of its pictures; the test has one of its own."""
    return "label-efficiency-test" if found["split"] == "test" else "label-efficiency"


def _draw(found: Found, pooled: Sequence[Pooled], task: Any, folder: Path) -> None:
    cells = {(cell["arm"], cell["fraction"]): cell for cell in found["cells"]}
    for key, name in NUMBERS.items():
        ends = "debiased" if key == "ece" else "value"
        lines = {
            arm: np.array(
                [
                    [_at(cells, arm, fraction, key, end) for fraction in found["fractions"]]
                    for end in (ends, "low", "high")
                ]
            )
            for arm in found["arms"]
        }
        title = f"{name} on {found['cases']:,} cases of {SPLITS[found['split']]}"
        fractions_figure(found["fractions"], lines, name, title, folder / f"{key}.png")
    for index, one in enumerate(pooled):
        for when, shown in (("before", one.before), ("after", one.after)):
            reliability_figure(shown, one.labels, task, folder / f"reliability-{index}-{when}.png")


def _at(cells: Mapping[Any, Any], arm: str, fraction: float, key: str, end: str) -> float:
    value = cells[arm, fraction][key][end] if (arm, fraction) in cells else None
    return float("nan") if value is None else float(value)


def label_efficiency_document(config: SweepConfig, found: Found, pictures: Path) -> Document:
    """pictures: the folder of those that were drawn."""
    info = describe(config.data)
    return Document(
        f"Few labels: {info.title}",
        list(_verdict(found)),
        [
            Section("What was trained", list(_trained(config, found))),
            Section("What few labels are worth", list(_worth(found, pictures))),
            Section("What the encoder adds", list(_added(found))),
            Section("Whether the probabilities can be believed", list(_believed(found, pictures))),
            Section("Limits", [Bullets(list(_limits(found)))]),
            Section("Reproducibility", list(_again(config, found))),
        ],
    )


def _verdict(found: Found) -> Iterator[Block]:
    where = f"{found['cases']:,} cases of {SPLITS[found['split']]}"
    yield Text(f"{len(found['arms'])} ways of training on {_listed(found['fractions'])} of the labels, on {where}.")
    drawn = [one["fraction"] for one in found["pooled"]]
    for one in found["differences"]:
        if one["fraction"] not in drawn or one["auroc"]["value"] is None:
            continue
        low, high = one["auroc"]["low"], one["auroc"]["high"]
        sure = "more than" if low > 0 else "less than" if high < 0 else "not told apart from"
        yield Text(
            f"On {_percent(one['fraction'])} the AUROC of the {one['arm']} less that of the {one['against']} is "
            f"{interval(one['auroc'])}, {sure} nothing."
        )
    if found["split"] == "test":
        tone: Tone = "warning" if found["looks"] > 1 else "plain"
        yield Text(f"The sealed test was opened for this: {found['label']}.", tone)
    elif found["looks"]:
        yield Text(f"The test split has been looked at, {found['looks']} in all; nothing here is of it.", "pale")
    else:
        yield Text("The test split has not been looked at.", "pale")


def _trained(config: SweepConfig, found: Found) -> Iterator[Block]:
    rows = [
        [
            _percent(fraction),
            f"{found['labelled'][str(fraction)]:,}",
            *(_trainings(found, arm, fraction) for arm in found["arms"]),
        ]
        for fraction in found["fractions"]
    ]
    yield Table(["labels", "cases", *found["arms"]], rows)
    yield Text(
        "Trainings by how they were trained and on how many labelled cases; they differ by the draw of the labels and "
        "by their seeds. Of one draw the cases of a smaller part lie within those of a larger one, and every class has "
        "its share, at least one case."
    )
    for told in _encoders(config):
        settings, probe = told["config"], told["probe"]["val/auroc"]
        yield Text(
            f"The encoder: {settings['model']['name']} by {settings['method']['name']}, {told['epoch']} of "
            f"{settings['epochs']} epochs on the {told['images']} images of {told['dataset']} at {told['size']} px, "
            f"without labels; k-NN probe AUROC {number(probe)} on validation, by which it was chosen."
        )


def _trainings(found: Found, arm: str, fraction: float) -> str:
    return str(sum(len(cell["trials"]) for cell in _cells(found, fraction) if cell["arm"] == arm))


def _cells(found: Found, fraction: float) -> list[Found]:
    """In the order of the arms."""
    cells = [cell for cell in found["cells"] if cell["fraction"] == fraction]
    return sorted(cells, key=lambda cell: found["arms"].index(cell["arm"]))


def _encoders(config: SweepConfig) -> list[Mapping[str, Any]]:
    """What is said of those that the sweep began with, as far as they are still there."""
    from medtune.search.prepare import weight_files

    return [told for path in weight_files(config) if (told := described(Path(path))) is not None]


def _worth(found: Found, pictures: Path) -> Iterator[Block]:
    for key, name in NUMBERS.items():
        yield Picture((pictures / f"{key}.png").read_bytes(), key, f"{name} against the part of the labels")
    for fraction in found["fractions"]:
        yield Text(f"{_percent(fraction)} of the labels, {found['labelled'][str(fraction)]:,} cases:")
        yield Table(
            ["", "AUROC", "accuracy", "ECE, read", "true ECE"],
            [
                [
                    cell["arm"],
                    interval(cell["auroc"]),
                    interval(cell["accuracy"]),
                    number(cell["ece"]["value"]),
                    believed(cell["ece"]),
                ]
                for cell in _cells(found, fraction)
            ],
        )
    yield Text(
        "Means over the trainings. The 95 % intervals are for other cases and for other seeds: what each case adds to "
        "the error of the mean, as by DeLong, and the t-interval of the trainings, squares added. An ECE on few cases "
        "reads too large; the true one is what endless cases would give."
    )


def _added(found: Found) -> Iterator[Block]:
    if not found["differences"]:
        yield Text("There is nothing to compare with: no training without the encoder on the same labels.")
        return
    yield Table(
        ["labels", "", "less", "AUROC"],
        [
            [_percent(one["fraction"]), one["arm"], one["against"], interval(one["auroc"])]
            for one in found["differences"]
        ],
    )
    yield Text("Paired: by the draw of the labels, and by the cases that are reported on.")


def _believed(found: Found, pictures: Path) -> Iterator[Block]:
    how = (
        "The temperature of each training is that of its validation logits."
        if found["split"] == "test"
        else "Each fifth of the cases has the temperature of the other four."
    )
    yield Text(f"Before and after a temperature. {how}")
    yield Table(
        ["labels", "", "ECE", "after", "true ECE after", "temperatures"],
        [
            [
                _percent(fraction),
                cell["arm"],
                number(cell["ece"]["value"]),
                number(cell["ece_after"]["value"]),
                believed(cell["ece_after"], 2),
                f"{number(min(cell['temperatures']), 2)} to {number(max(cell['temperatures']), 2)}",
            ]
            for fraction in found["fractions"]
            for cell in _cells(found, fraction)
        ],
    )
    for index, one in enumerate(found["pooled"]):
        shown = [
            Picture(
                (pictures / f"reliability-{index}-{when}.png").read_bytes(),
                f"reliability-{index}-{when}",
                f"reliability {when} temperature: {one['arm']}",
                [Text(f"{one['arm']} on {_percent(one['fraction'])}, {when}; all trainings in one", "pale")],
            )
            for when in ("before", "after")
        ]
        yield Pictures(shown)


def _limits(found: Found) -> Iterator[str]:
    yield (
        "Validation is labelled in full whatever part of train is: the probe chooses its regularisation on it, and the "
        "encoder was chosen among pretrainings by its k-NN probe there."
    )
    if found["split"] == "val":
        yield "So numbers on validation are somewhat too good for what has an encoder; `--test` reports on other cases."
    if found["at_best_epoch"]:
        yield (
            f"Of {found['at_best_epoch']} trainings only the best epoch on validation was kept, so they read somewhat "
            "too well; the others count with their last one."
        )
    else:
        yield "Trainings that go by epochs count with their last one: no epoch was chosen."
    yield "With all labels every draw is the same: what is between those trainings is their seeds alone."
    yield "Intervals know of these images and seeds, and of no other hospital or device."


def _again(config: SweepConfig, found: Found) -> Iterator[Block]:
    on_test = " --test" if found["split"] == "test" else ""
    report = f"medtune report --label-efficiency{on_test} runs/{config.sweep}"
    yield Commands([f"medtune sweep {config.sweep}.yaml", report])
    rows = [["seed of the sweep", str(config.seed)], ["MD5 of the data", data_md5(config.data)]]
    for told in _encoders(config):
        rows += [
            ["encoder, SHA-256", told["sha256"]],
            ["encoder, its pretraining", f"{told['sweep']}, trial {told['trial']}, seed {told['seed']}"],
            ["encoder, MD5 of its data", told["data_md5"]],
            ["encoder, method", str(told["config"]["method"])],
        ]
        rows += [[name, version] for name, version in told["versions"].items()]
    yield Table(["", ""], rows)
    yield Bullets(
        [
            "The draws of the labels, the seeds and the settings of each training stand in its `config.yaml`.",
            "`medtune replay FOLDER TRIAL --verify` trains any of them again and compares to the last bit.",
            f"The test has been looked at {found['looks']} times in all, as the ledger has it.",
            f"{found['trials']} trainings ran to their end and are told of; {found['others']} others did not. The "
            f"search was {config.search.sampler}, the pruning {config.pruning.name}.",
        ]
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g} %"


def _listed(fractions: Sequence[float]) -> str:
    return ", ".join(map(_percent, fractions))
