"""`MODEL_CARD.md` beside a model: what it is, how it was chosen, what it does, what it is not (Mitchell et al. 2019).

It is written of `model.json` alone, so that a model that was copied somewhere still tells the same.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from medtune.files import write_whole
from medtune.report.document import Block, Bullets, Commands, Document, Section, Table, Text
from medtune.report.markdown import as_markdown
from medtune.report.words import interval, number
from medtune.trained.decision import LIKELIEST, DecisionRule, decision_rule
from medtune.trained.model import decided_of, read_description

FILE = "MODEL_CARD.md"
FEW = 1000  # cases of validation, below which what is decided on them is uncertain
FRONT = """\
---
library_name: medtune
pipeline_tag: image-classification
tags: [medical-imaging, medtune]
---

"""

Facts = Mapping[str, Any]


def write_card(folder: Path, test: Facts | None = None, model: Facts | None = None) -> None:
    """Writes the card of a model's folder, over the one that is there. test: what `test.json` holds, once the sealed
    test was opened for this model. model: what `model.json` is going to hold. Raises DataError where there is none."""
    text = FRONT + as_markdown(card(read_description(folder) if model is None else model, test), "")
    write_whole(folder / FILE, text.rstrip("\n").encode() + b"\n")


def card(model: Facts, test: Facts | None = None) -> Document:
    """The card as a document. model: what `model.json` holds; test: see `write_card`."""
    return Document(
        f"{model['title']}: {_kind(model)}",
        [Text(_about(model)), Text("Not a medical device: for research, not for decisions about patients.", "warning")],
        [
            Section("The model", [_members(model), *_what_it_takes(model)]),
            Section("The data", list(_data(model))),
            Section("How it was chosen", list(_chosen(model))),
            Section("What it does", list(_numbers(model, test))),
            Section("Probabilities and decisions", list(_decisions(model, test))),
            Section("Limits", [Bullets(list(_limits(model, test)))]),
            Section("Use", list(_use(model))),
            Section("Made with", list(_made_with(model))),
        ],
    )


def _kind(model: Facts) -> str:
    names = [member["config"]["model"]["name"] for member in model["members"]]
    if len(names) == 1:
        return names[0]
    trials = len({member["trial"] for member in model["members"]})
    if trials == len(names):
        return f"an ensemble of {trials} trials"
    return f"an ensemble of {len(names)} epochs of {trials} trial{'s' * (trials > 1)}"


def _about(model: Facts) -> str:
    names = ", ".join(model["classes"])
    if model["task"] == "multilabel":
        return f"It says of an image which of these it shows: {names}."
    return f"It says which of these an image is{', in order' * (model['task'] == 'ordinal')}: {names}."


def _members(model: Facts) -> Table:
    total = sum(member["weight"] for member in model["members"])
    rows = [
        [
            member["weights"],
            member["config"]["model"]["name"],
            str(member["trial"]),
            str(member["epochs_trained"]),
            str(member["seed"]),
            member["precision"],
            number(member["weight"] / total),
        ]
        for member in model["members"]
    ]
    return Table(["weights", "network", "trial", "epochs", "seed", "precision", "share"], rows)


def _what_it_takes(model: Facts) -> Iterator[Block]:
    side, colours = model["size"], "grey" if model["channels"] == 1 else "red, green and blue"
    if model.get("data_channels", model["channels"]) != model["channels"]:
        colours = "grey, given to it as red, green and blue"
    values = {_normalised(member) for member in model["members"]}
    yield Bullets(
        [
            f"takes: {side} x {side} pixels of 8 bits, {colours}; `medtune predict` brings other pictures to that: the "
            "shorter side is resized, and the middle of the longer is kept",
            f"normalisation, in the network itself, of values from 0 to 1: {' or '.join(sorted(values))}",
        ]
    )


def _normalised(member: Facts) -> str:
    mean, std = (", ".join(f"{value:.4g}" for value in member["normalise"][name]) for name in ("mean", "std"))
    return f"mean {mean}, deviation {std}"


def _data(model: Facts) -> Iterator[Block]:
    cases = ", ".join(f"{split} {count:,}" for split, count in model["cases"].items())
    yield Bullets(
        [
            f"{model['title']} (`{model['dataset']}`), {cases} cases",
            f"licence of the data: {model['licence'] or 'not known'}; of the weights this card says nothing",
            f"MD5 of the file: `{model['data_md5']}`",
        ]
    )


def _chosen(model: Facts) -> Iterator[Block]:
    on = "train and validation" if model["train_on"] == "train+val" else "train"
    yield Text(f"It is {model['chosen']} of the sweep {model['sweep']}, trained again on {on}.")


def _numbers(model: Facts, test: Facts | None) -> Iterator[Block]:
    if test is None:
        yield Text("The sealed test has not been opened for it: no number here is one of unseen cases.")
        yield from _of_validation(model)
        return
    yield Text(f"On the test, {test['cases']:,} cases, {test['label']}; with 95 % intervals.")
    default = test.get("default")
    head = ["", "this model", *(["untuned default", "difference"] if default else [])]
    rows = [[label, *_row(test, default, name)] for name, label in (("auroc", "AUROC"), ("accuracy", "accuracy"))]
    ece = [number(test["ece"].get("value")) or "undefined"]
    ece += [number(default["ece"].get("value")) or "undefined", ""] if default else []
    yield Table(head, [*rows, ["ECE", *ece]])
    yield Bullets([f"ECE: {test['ece'].get('words') or test['ece'].get('undefined')}", *_after_calibrator(test)])


def _row(test: Facts, default: Facts | None, name: str) -> list[str]:
    mine = [interval(test[name])]
    return mine if default is None else [*mine, interval(default[name]), interval(default["difference"][name])]


def _after_calibrator(test: Facts) -> Iterator[str]:
    if test["calibrator"]["kind"] != "none":
        after = test["calibrated"]
        ece = after["ece"].get("words") or after["ece"].get("undefined")
        yield f"after the calibrator: accuracy {interval(after['accuracy'])}; ECE {ece}"
    each = [value for value in test["seeds"]["auroc"]["each"] if value is not None]
    if len(each) > 1:
        yield f"AUROC of {len(each)} seeds: {', '.join(f'{value:.3f}' for value in each)}"


def _of_validation(model: Facts) -> Iterator[Block]:
    """What a member had on validation; of little worth, as it was chosen there."""
    names = {"val/auroc": "AUROC", "val/accuracy": "accuracy", "val/ece": "ECE"}
    known = [(member, member.get("metrics", {})) for member in model["members"]]
    rows = [
        [f"trial {member['trial']}", *(number(metrics.get(name)) for name in names)]
        for member, metrics in known
        if any(metrics.get(name) is not None for name in names)
    ]
    if rows:
        yield Text("On validation, by which it was chosen, so that these are too high:")
        yield Table(["", *names.values()], rows)


def _decisions(model: Facts, test: Facts | None) -> Iterator[Block]:
    decided = decided_of(model)
    rule = decision_rule(decided, model["task"], model["classes"])
    yield Bullets([f"calibrator: {_calibrator(decided.calibrator.as_json())}", f"decision: {_rule(rule)}", _far(model)])
    points = [] if test is None else [one for one in test["operating_points"] if one.get("threshold") is not None]
    if points:
        yield Text("What each threshold, chosen on validation, does on the test:")
        yield Table(
            ["for", "class", "threshold", "sensitivity", "specificity"],
            [
                [
                    one["target"],
                    model["classes"][one["problem"]],
                    number(one["threshold"]),
                    interval(one["sensitivity"]),
                    interval(one["specificity"]),
                ]
                for one in points
            ],
        )


def _calibrator(saved: Facts) -> str:
    told = {
        "none": "none was better than the network's own probabilities",
        "temperature": f"temperature {saved.get('temperature', 1):.3g}, by which the logits are divided",
        "vector": "a scale and a bias for each class",
        "isotonic": "isotonic, rising steps",
    }
    return str(told.get(saved["kind"], saved["kind"]))


def _rule(rule: DecisionRule) -> str:
    if rule.rule == LIKELIEST:
        return "the likeliest class"
    cuts = ", ".join(f"{name} from {cut:.3f} on" for name, cut in rule.thresholds.items())
    return f"{cuts} (the threshold is {rule.rule}'s)" if rule.rule == "Youden" else f"{cuts} ({rule.rule})"


def _far(model: Facts) -> str:
    outliers = model.get("outliers")
    if not outliers:
        return "outliers: not looked for"
    return (
        f"outliers: pictures further than {outliers['threshold']:.3g} from the training data, which "
        f"{100 * (1 - outliers['quantile']):.2g} % of its own kind are ({outliers['cases']:,} cases); one that is "
        "nearer may be foreign all the same"
    )


def _limits(model: Facts, test: Facts | None) -> Iterator[str]:
    cases = model["cases"]
    yield "one data set: on images of another scanner, hospital or population nothing here holds"
    if cases.get("val", FEW) < FEW:
        yield f"the choice, the calibrator and the thresholds are of {cases['val']} cases, which is few"
    if model["train_on"] == "train+val":
        yield "it was trained on validation too: its calibrator and thresholds are those of the trials that it is of"
    if test is not None and test["looks"] > 1:
        yield f"{test['label']}: its numbers are too high if anything was chosen after the first look"
    yield from model.get("traps", [])


def _use(model: Facts) -> Iterator[Block]:
    yield Commands(
        [
            "medtune predict FOLDER PICTURES",
            f"medtune predict models:/{registered_name(model['dataset'])}@champion PICTURES",
            "medtune model export FOLDER --out model.onnx",
        ]
    )
    yield Text(
        "FOLDER is the one in which this card lies; the second line asks the registry for the champion of the data."
    )


def registered_name(dataset: str) -> str:
    """Under which the models of a data set are in the registry, which takes no slash and no colon in a name."""
    return f"medtune-{re.sub(r'[^0-9A-Za-z._-]+', '-', dataset)}"


def _made_with(model: Facts) -> Iterator[Block]:
    packages = [f"{name} {version}" for name, version in model.get("versions", {}).items()]
    commit = [f"git commit `{model['git_commit']}`"] if model.get("git_commit") else []
    yield Bullets([*packages, *commit])
