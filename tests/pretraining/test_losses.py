"""Each loss against its paper's formula, written out case by case in float64."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from medtune.config.pretrain import VICReg
from medtune.pretraining.losses import STEADY, alignment, in_batch_nce, info_nce, nt_xent, uniformity, vicreg

Floats = NDArray[np.float64]
Loss = Callable[..., Tensor]

QUEUE = 7
WEIGHTS = VICReg(invariance=3.0, variance=2.0, covariance=0.5)

precisions = pytest.mark.parametrize(("dtype", "exact"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str)
shapes = pytest.mark.parametrize(("cases", "features"), [(2, 2), (3, 8), (17, 5), (32, 64)])
seeds = pytest.mark.parametrize("seed", [0, 1, 2])


# --- the formulas


def cosine(one: Floats, other: Floats) -> float:
    return float(sum(one * other) / (math.sqrt(sum(one**2)) * math.sqrt(sum(other**2))))


def found(positive: float, everyone: list[float]) -> float:
    """-log of the positive's share of the exponentials of everyone, who has it among them."""
    return -math.log(math.exp(positive) / sum(map(math.exp, everyone)))


def chen_2020_eq_1(first: Floats, second: Floats, temperature: float) -> float:
    views, cases = [*first, *second], len(first)
    losses = []
    for i, view in enumerate(views):
        others = [cosine(view, views[k]) / temperature for k in range(2 * cases) if k != i]
        losses.append(found(cosine(view, views[(i + cases) % (2 * cases)]) / temperature, others))
    return sum(losses) / (2 * cases)


def he_2020_eq_1(query: Floats, key: Floats, queue: Floats, temperature: float) -> float:
    losses = []
    for one, its in zip(query, key, strict=True):
        positive = cosine(one, its) / temperature
        losses.append(found(positive, [positive, *(cosine(one, earlier) / temperature for earlier in queue)]))
    return sum(losses) / len(losses)


def chen_2021_algorithm_1(query: Floats, key: Floats, temperature: float) -> float:
    losses = []
    for i, one in enumerate(query):
        everyone = [cosine(one, other) / temperature for other in key]
        losses.append(found(everyone[i], everyone))
    return 2 * temperature * sum(losses) / len(losses)


def bardes_2022_algorithm_1(first: Floats, second: Floats, config: VICReg) -> float:
    (cases, features), varied, covaried = first.shape, 0.0, 0.0
    apart = sum((first[i, j] - second[i, j]) ** 2 for i in range(cases) for j in range(features)) / (cases * features)
    for views in (first, second):
        centred = views - sum(views) / cases
        covariance = [
            [sum(centred[:, i] * centred[:, j]) / (cases - 1) for j in range(features)] for i in range(features)
        ]
        varied += sum(max(0.0, 1 - math.sqrt(covariance[j][j] + 1e-4)) for j in range(features)) / features
        covaried += sum(covariance[i][j] ** 2 for i in range(features) for j in range(features) if i != j) / features
    return float(config.invariance * apart + config.variance * varied + config.covariance * covaried)


def wang_2020_alignment(first: Floats, second: Floats) -> float:
    distances = [2 - 2 * cosine(one, other) for one, other in zip(first, second, strict=True)]
    return sum(distances) / len(distances)


def wang_2020_uniformity(views: Floats) -> float:
    pairs = [(i, j) for i in range(len(views)) for j in range(i)]
    return math.log(sum(math.exp(-2 * (2 - 2 * cosine(views[i], views[j]))) for i, j in pairs) / len(pairs))


def draw(cases: int, features: int, seed: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Views of the same images, the second near the first, and a queue of unit rows, at scales of their own."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn((cases, features), generator=generator, dtype=torch.float64) * (seed + 0.5)
    second = first + 0.7 * torch.randn(first.shape, generator=generator, dtype=torch.float64)
    queue = torch.randn((QUEUE, features), generator=generator, dtype=torch.float64)
    first, second, queue = first.to(dtype), second.to(dtype), queue.to(dtype)
    return first, second, queue / queue.norm(dim=1, keepdim=True)


def check(got: Tensor, expected: float, dtype: torch.dtype, exact: float) -> None:
    assert got.dtype == dtype and got.shape == ()
    assert got.item() == pytest.approx(expected, rel=exact, abs=exact)


@precisions
@shapes
@seeds
@pytest.mark.parametrize("temperature", [0.1, 0.2, 1.0])
def test_contrastive_losses_are_those_of_the_papers(
    temperature: float, seed: int, cases: int, features: int, dtype: torch.dtype, exact: float
) -> None:
    first, second, queue = draw(cases, features, seed, dtype)
    a, b, q = (tensor.double().numpy() for tensor in (first, second, queue))
    check(nt_xent(first, second, temperature), chen_2020_eq_1(a, b, temperature), dtype, exact)
    check(info_nce(first, second, queue, temperature), he_2020_eq_1(a, b, q, temperature), dtype, exact)
    check(in_batch_nce(first, second, temperature), chen_2021_algorithm_1(a, b, temperature), dtype, exact)


@precisions
@shapes
@seeds
def test_vicreg_is_that_of_the_paper(seed: int, cases: int, features: int, dtype: torch.dtype, exact: float) -> None:
    first, second, _ = draw(cases, features, seed, dtype)
    a, b = first.double().numpy(), second.double().numpy()
    for config in (VICReg(), WEIGHTS):
        check(vicreg(first, second, config), bardes_2022_algorithm_1(a, b, config), dtype, exact)


@precisions
@shapes
@seeds
def test_alignment_and_uniformity_are_those_of_the_paper(
    seed: int, cases: int, features: int, dtype: torch.dtype, exact: float
) -> None:
    first, second, _ = draw(cases, features, seed, dtype)
    a, b = first.double().numpy(), second.double().numpy()
    check(alignment(first, second), wang_2020_alignment(a, b), dtype, exact)
    check(uniformity(torch.cat([first, second])), wang_2020_uniformity(np.concatenate([a, b])), dtype, exact)


# --- gradients


@seeds
@pytest.mark.parametrize(
    "loss",
    [
        lambda first, second, queue: nt_xent(first, second, 0.3),
        lambda first, second, queue: info_nce(first, second, queue, 0.3),
        lambda first, second, queue: in_batch_nce(first, second, 0.3),
        lambda first, second, queue: vicreg(first, second, WEIGHTS),
    ],
    ids=["nt_xent", "info_nce", "in_batch_nce", "vicreg"],
)
def test_gradients_are_the_slopes(loss: Loss, seed: int) -> None:
    first, second, queue = draw(5, 3, seed)
    assert torch.autograd.gradcheck(
        lambda one, other: loss(one, other, queue), (first.requires_grad_(), second.requires_grad_())
    )


# --- by hand


def test_losses_of_identical_views_of_orthogonal_images() -> None:
    views = 3 * torch.eye(4, dtype=torch.float64)  # the length tells nothing
    others = math.exp(-1 / 0.5)
    assert nt_xent(views, views, 0.5).item() == pytest.approx(math.log(1 + 6 * others))
    assert info_nce(views[:2], views[:2], views[2:] / 3, 0.5).item() == pytest.approx(math.log(1 + 2 * others))
    assert in_batch_nce(views, views, 0.5).item() == pytest.approx(2 * 0.5 * math.log(1 + 3 * others))


def test_losses_of_a_collapsed_encoder_are_those_of_guessing() -> None:
    views = torch.ones((4, 3), dtype=torch.float64)
    unit = views / math.sqrt(3)
    for temperature in (0.1, 1.0):
        assert nt_xent(views, views, temperature).item() == pytest.approx(math.log(7))
        assert info_nce(views, views, unit, temperature).item() == pytest.approx(math.log(5))
        assert in_batch_nce(views, views, temperature).item() == pytest.approx(2 * temperature * math.log(4))


def test_orthogonal_views_cost_more_than_identical_ones() -> None:
    views = torch.eye(4, dtype=torch.float64)
    assert nt_xent(views[:2], views[2:], 0.5).item() == pytest.approx(math.log(3))
    assert nt_xent(views[:2], views[2:], 0.5) > nt_xent(views[:2], views[:2], 0.5)
    assert in_batch_nce(views[:2], views[2:], 0.5).item() == pytest.approx(2 * 0.5 * math.log(2))


def test_an_image_alone_is_found_at_once() -> None:
    assert nt_xent(torch.ones((1, 3)), -torch.ones((1, 3)), 0.2).item() == pytest.approx(0, abs=1e-6)


def test_vicreg_by_hand() -> None:
    spread = 2 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    assert vicreg(spread, spread, VICReg()).item() == 0
    assert vicreg(spread, spread + 3, VICReg()).item() == pytest.approx(25 * 9)  # a shift is no variance
    collapsed = torch.zeros((4, 2), dtype=torch.float64)
    assert vicreg(collapsed, collapsed, VICReg()).item() == pytest.approx(25 * 2 * (1 - math.sqrt(STEADY)))
    double = spread[:, [0, 0]]  # both features the same, of variance 16 / 3
    assert vicreg(double, double, VICReg()).item() == pytest.approx(2 * 2 * (16 / 3) ** 2 / 2)


def test_alignment_and_uniformity_by_hand() -> None:
    views = torch.tensor([[2.0, 0], [0, 5.0]], dtype=torch.float64)
    assert alignment(views, 3 * views).item() == pytest.approx(0)
    assert alignment(views, views.flip(0)).item() == pytest.approx(2)
    assert alignment(views, -views).item() == pytest.approx(4)
    assert uniformity(views).item() == pytest.approx(-4)
    assert uniformity(torch.stack([views[0], -views[0]])).item() == pytest.approx(-8)
    assert uniformity(views[:1].expand(3, 2)).item() == pytest.approx(0)


@pytest.mark.parametrize("loss", [nt_xent, in_batch_nce])
def test_the_order_of_the_images_does_not_matter_but_the_pairs_do(loss: Any) -> None:
    first, second, _ = draw(9, 4, 0)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(first[order], second[order], 0.2), loss(first, second, 0.2))
    assert loss(first, second[order], 0.2) > loss(first, second, 0.2) + 0.1
