"""Weights by rarity."""

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from medtune.training.balance import case_weights, class_weights

LABELS = torch.tensor([0] * 6 + [1] * 3 + [2])


def test_class_weights_are_those_of_scikit_learn() -> None:
    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS.numpy())
    assert class_weights(LABELS, "multiclass", 3).tolist() == pytest.approx(list(expected))


def test_a_class_without_cases_has_no_weight() -> None:
    assert class_weights(LABELS, "multiclass", 4)[3] == 0


def test_every_class_is_drawn_as_often() -> None:
    weights = case_weights(LABELS, "multiclass", 3)
    shares = [weights[label == LABELS].sum().item() for label in range(3)]
    assert shares == pytest.approx([shares[0]] * 3)


def test_both_values_of_each_label_have_the_same_weight_in_all() -> None:
    labels = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    weights = class_weights(labels, "multilabel", 2)
    torch.testing.assert_close(weights, torch.tensor([[4 / 2, 4 / 6], [4 / 6, 4 / 2]]))
    cases = case_weights(labels, "multilabel", 2)
    assert cases.tolist() == pytest.approx([2 / 3, 2 / 3, 4 / 3, 4 / 3])
