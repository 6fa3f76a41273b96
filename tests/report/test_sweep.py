"""The report of a sweep: whole, self-contained, and about this sweep."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medtune import subjects
from medtune.data.catalogue import describe
from medtune.evaluate import evaluate
from medtune.frames import load_sweep
from medtune.report.write import write_report
from medtune.search.folder import SweepFolder
from medtune.select import current_selection
from medtune.subjects import subject_of_trial
from medtune.unseal import unseal

SECTIONS = [
    "What was searched",
    "What won",
    "What that is worth",
    "How the search went",
    "How well it tells the classes apart",
    "Whether its probabilities can be believed",
    "Thresholds",
    "What it does not know",
    "Worse images",
    "Where it is wrong",
    "The sealed test",
    "What it cost",
    "How to get it again",
]


def written(folder: SweepFolder) -> tuple[str, str]:
    selection = current_selection(folder, folder.config())
    subject = subject_of_trial(folder, folder.config(), selection["winner"])
    found = evaluate(subject, lambda _: None)
    html, markdown = write_report(folder, selection, found, subject.folder)
    assert (html, markdown) == (folder.path / "report.html", folder.path / "report.md")
    return html.read_text(), markdown.read_text()


def test_it_is_one_file_that_needs_nothing_beside_itself(finished: SweepFolder) -> None:
    html, markdown = written(finished)
    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert len(sources) >= 18 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "<script" not in html and "http:" not in html and "https:" not in html and "default-src 'none'" in html
    assert re.findall(r"<h2>(.*?)</h2>", html) == re.findall(r"^## (.*)$", markdown, flags=re.MULTILINE) == SECTIONS
    linked = re.findall(r"\]\((report/.*?\.png)\)", markdown)
    assert len(linked) == len(set(linked)) == len(sources) and all((finished.path / path).exists() for path in linked)
    assert str(finished.path) not in html  # a reader has no use for it, and it may name a person


def test_it_says_what_won_and_how_to_get_it_again(finished: SweepFolder) -> None:
    html, _ = written(finished)
    sweep = load_sweep(finished.path)
    selection = current_selection(finished, finished.config())
    best = sweep.trials.loc[selection["winner"]]
    assert f"Chosen: trial {best['number']} at epoch {best['best_epoch']}" in html
    assert f"validation AUROC {best['val/auroc']:.3f} ({best['val/auroc/low']:.3f} to" in html
    assert f"reads best of {len(sweep.epochs)} candidates, a trial at one epoch each" in html
    assert f"is {selection['corrected']:.3f} (" in html and "Recommended: " in html
    assert "The test split is still sealed: nothing in this report has seen it." in html
    for words in ("sweep: tiny", "torch", "MD5 of the data", "log_uniform"):
        assert words in html


def test_once_the_test_is_open_its_numbers_are_there_with_the_looks(finished: SweepFolder, retrain_best: Any) -> None:
    config = finished.config()
    retrain_best(finished, 2, 1, with_default=True)
    measured = unseal(finished, config)
    html, _ = written(finished)
    assert f"Sealed test, opened once, first look: AUROC {measured['auroc']['value']:.3f} (" in html
    assert "The untuned default, trained the same way: AUROC" in html and "AUROC, bootstrap" in html
    assert "Over 2 seeds" in html and "What the thresholds do that were chosen on validation" in html


def test_a_look_is_told_even_where_its_numbers_are_gone(finished: SweepFolder, retrain_best: Any) -> None:
    retrain_best(finished, 1, 1)
    unseal(finished, finished.config())
    retrain_best(finished, 1, 2)
    html, _ = written(finished)
    assert "opened once, but not for the models that are there now" in html and "still sealed" not in html


@pytest.mark.parametrize("options", [("search.trials=1",), ("trial.folds=3", "trial.epochs=1", "search.trials=2")])
def test_of_a_single_trial_and_of_cross_validated_ones(options: tuple[str, ...], tiny: Any, tmp_path: Path) -> None:
    folder = tiny.create(tmp_path / "small", *options)
    tiny.run(tiny.open(folder))
    html, _ = written(folder)
    assert "Chosen: trial " in html and ("3 models" in html) == (options[0] == "trial.folds=3")


def test_a_class_that_validation_lacks_leaves_reasons_and_no_hole(
    finished: SweepFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = finished.config()
    subject = subject_of_trial(finished, config)
    found = evaluate(replace(subject, labels=np.zeros_like(subject.labels)), lambda _: None)
    assert (
        found["against"]["auroc"]["value"] is None and "no case has class 1" in found["against"]["auroc"]["undefined"]
    )
    _, markdown = write_report(finished, current_selection(finished, config), found, subject.folder)
    text = markdown.read_text()
    assert "undefined: AUROC is undefined: no case has class 1" in text and " nan" not in text and "None" not in text


def test_a_password_stays_out_of_it(finished: SweepFolder) -> None:
    config = finished.config()
    tracking = config.tracking.model_copy(update={"uri": "https://ann:secret@tracking.example/"})
    finished.write_config(config.model_copy(update={"tracking": tracking}))
    html, markdown = written(finished)
    assert "secret" not in html + markdown and "https://ann:***@tracking.example/" in html


def test_names_of_classes_are_text(finished: SweepFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    info = replace(describe(finished.config().data), classes=("<script>x</script>", "a|b$_{$"))
    monkeypatch.setattr(subjects, "describe", lambda data: info)
    html, markdown = written(finished)
    assert (
        "<script" not in html
        and "&lt;script&gt;" in html
        and not re.search(r"(?<!\\)<script", markdown)
        and r"a\|b" in markdown
    )
