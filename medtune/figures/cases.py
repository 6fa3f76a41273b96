"""Galleries of cases: mistakes, right and wrong ones of each class, doubtful labels, and where the model looked."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medtune.evaluation.appraisal import MOST, Appraisal
from medtune.evaluation.mistakes import Decision, cases_per_class, decisions
from medtune.figures.images import Bytes, gallery

OF_EACH = 2  # right and wrong cases of a class


def draw_cases(found: Appraisal, images: Bytes, folder: Path) -> None:
    """`mistakes.png`, `right-and-wrong.png` and `label-noise.png`. images: uint8 (cases, side, side), or in colour."""
    mistakes = list(found.mistakes)
    gallery([images[one.case] for one in mistakes], _captions(found, mistakes), folder / "mistakes.png")
    _draw_right_and_wrong(found, images, folder / "right-and-wrong.png")
    suspects = list(found.suspects)[:MOST]
    captions = [
        [
            f"case {one.case}",
            f"given {_name(found, one.label, one.given)}",
            f"perhaps {_name(found, one.label, one.suggested)}",
        ]
        for one in suspects
    ]
    gallery([images[one.case] for one in suspects], captions, folder / "label-noise.png")


def _draw_right_and_wrong(found: Appraisal, images: Bytes, path: Path) -> None:
    """A row a class: two that are right, two that are wrong, each the most confident."""
    shown: list[Bytes] = []
    captions: list[list[str]] = []
    wrong: list[bool] = []
    for of in cases_per_class(found.probabilities, found.labels, found.task, OF_EACH):
        for some, what in ((list(of.right), "right"), (list(of.wrong), "wrong")):
            shown += [images[one.case] for one in some] + [np.full_like(images[0], 255)] * (OF_EACH - len(some))
            captions += _captions(found, some)
            captions += [[_name(found, of.label, of.true), f"no {'other ' if some else ''}{what} case"]] * (
                OF_EACH - len(some)
            )
            wrong += [what == "wrong"] * len(some) + [False] * (OF_EACH - len(some))
    gallery(shown, captions, path, columns=2 * OF_EACH, wrong=wrong)


def _captions(found: Appraisal, some: Sequence[Decision]) -> list[list[str]]:
    return [
        [
            f"case {one.case}, p {one.probability:.2f}",
            f"true {_name(found, one.label, one.true)}",
            f"said {_name(found, one.label, one.predicted)}",
        ]
        for one in some
    ]


def _name(found: Appraisal, label: int | None, value: int) -> str:
    return found.classes[value] if label is None else f"{'' if value else 'no '}{found.classes[label]}"


def worth_a_look(found: Appraisal, most: int) -> list[Decision]:
    """One decision of each of some cases: the most confident mistakes first, and then what the model is surest of. Of
    labels only those that it says are there, as only for these a picture can show what spoke for them."""
    every = decisions(found.probabilities, found.labels, found.task)
    said = every if every.label is None else every[every.predicted == 1]
    chosen: dict[int, Decision] = {}
    for one in (*said.wrong[: most // 2], *said.right):
        if len(chosen) < most:
            chosen.setdefault(one.case, one)
    return list(chosen.values())


def draw_grad_cam(
    found: Appraisal, looked_at: Sequence[Decision], images: Bytes, overlays: Sequence[Bytes], path: Path
) -> None:
    """Each case beside the same with the heat over it. overlays: uint8 (side, side, 3), one for each decision."""
    pairs = [[images[one.case], over] for one, over in zip(looked_at, overlays, strict=True)]
    gallery(pairs, _captions(found, looked_at), path, wrong=[one.true != one.predicted for one in looked_at])
