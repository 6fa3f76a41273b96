"""MixUp and CutMix, read off images that are one number each: 1 / (case + 1)."""

from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from medtune.config.trial import Augment
from medtune.data.mixing import mix, symmetric_beta

CASES = 64
ON = [{"mixup": 0.3}, {"cutmix": 1.0}, {"mixup": 0.3, "cutmix": 1.0}]
each_kind = pytest.mark.parametrize("options", ON, ids=lambda options: "+".join(options))


def one_hot(cases: int = CASES) -> Tensor:
    """Each case a class of its own: a mixed target names the partner and the share."""
    return torch.eye(cases)


def flat(cases: int = CASES, channels: int = 1, side: int = 28) -> Tensor:
    """Each image has one value of its own, the same in all pixels; channels last in memory."""
    values = (1 / torch.arange(1, cases + 1)).view(-1, 1, 1, 1)
    return values.expand(cases, side, side, channels).contiguous().permute(0, 3, 1, 2)


def mixed(options: dict[str, Any], images: Tensor, targets: Tensor, seed: int = 0) -> tuple[Tensor, Tensor]:
    return mix(Augment(**options), images, targets, torch.Generator().manual_seed(seed))


def test_off_gives_back_what_came_and_draws_nothing() -> None:
    generator, images, targets = torch.Generator().manual_seed(0), flat(), one_hot()
    before = generator.get_state()
    out = mix(Augment(), images, targets, generator)
    assert out[0] is images and out[1] is targets
    assert torch.equal(generator.get_state(), before)


@each_kind
@pytest.mark.parametrize(("channels", "side"), [(1, 28), (3, 28), (1, 64), (3, 64)])
def test_form_range_and_layout_are_kept_and_the_input_is_left_alone(
    options: dict[str, Any], channels: int, side: int
) -> None:
    images, targets = flat(channels=channels, side=side), one_hot()
    out, labels = mixed(options, images, targets)
    assert (out.shape, out.dtype, labels.shape, labels.dtype) == (images.shape, torch.float32, (64, 64), torch.float32)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert out.min() >= images.min() - 1e-6 and out.max() <= 1 + 1e-6
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(CASES))
    assert torch.equal(images, flat(channels=channels, side=side)) and torch.equal(targets, one_hot())


@each_kind
def test_the_generator_alone_decides(options: dict[str, Any]) -> None:
    images, targets = mixed(options, flat(), one_hot(), seed=3)
    torch.manual_seed(99)
    again = mixed(options, flat(), one_hot(), seed=3)
    assert torch.equal(again[0], images) and torch.equal(again[1], targets)
    other = mixed(options, flat(), one_hot(), seed=4)
    assert not torch.equal(other[0], images) and not torch.equal(other[1], targets)


@each_kind
@pytest.mark.parametrize("channels", [1, 3])
def test_the_targets_are_mixed_as_the_pixels_are(options: dict[str, Any], channels: int) -> None:
    """The mean of an image of flat images is the same mixture as that of its targets, for either kind."""
    images, targets = mixed(options, flat(channels=channels), one_hot())
    expected = targets @ (1 / torch.arange(1, CASES + 1))
    torch.testing.assert_close(images.mean(dim=(1, 2, 3)), expected, atol=1e-6, rtol=0)


@each_kind
def test_partners_are_one_permutation_and_shares_differ(options: dict[str, Any]) -> None:
    options = dict.fromkeys(options, 5.0)  # no share is near 0 or 1
    _, targets = mixed(options, flat(), one_hot())
    others = targets - torch.diag(targets.diagonal())
    assert (others > 0).sum(dim=1).max() == 1 and (others > 0).sum(dim=0).max() == 1
    assert (others > 0).any(dim=1).sum() > CASES - 6  # a permutation leaves one in its place, on average
    assert len(targets.diagonal().unique()) > CASES / 2


@each_kind
def test_multi_label_targets_are_the_same_mixture(options: dict[str, Any]) -> None:
    labels = (torch.rand((CASES, 5), generator=torch.Generator().manual_seed(1)) < 0.4).float()
    _, weights = mixed(options, flat(), one_hot())
    _, targets = mixed(options, flat(), labels)
    torch.testing.assert_close(targets, weights @ labels)


def kept(options: dict[str, Any]) -> Tensor:
    """What pixels keep of white images, (cases, side, side), where the partner is black."""
    images = flat(4000)
    images[:] = 1
    images[2000:] = 0
    _, targets = mixed(options, images, one_hot(4000))
    out, _ = mixed(options, images, one_hot(4000))
    partner = (targets - torch.diag(targets.diagonal())).argmax(dim=1)
    white = (torch.arange(4000) < 2000) & (partner >= 2000)
    return out[white, 0]


def test_mixup_blends_whole_images() -> None:
    shares = kept({"mixup": 0.5})
    torch.testing.assert_close(shares.amax(dim=(1, 2)), shares.amin(dim=(1, 2)))
    assert stats.kstest(shares[:, 0, 0].double().numpy(), stats.beta(0.5, 0.5).cdf).pvalue > 1e-3


def test_cutmix_puts_one_rectangle_of_the_partner_anywhere() -> None:
    whole = kept({"cutmix": 1.0})
    assert ((whole == 0) | (whole == 1)).all()
    cut = whole == 0
    rows, columns = cut.any(dim=2), cut.any(dim=1)
    assert torch.equal(cut, rows[:, :, None] & columns[:, None, :])
    assert cut.float().mean(dim=0).min() > 0.1  # the corners, too
    inner = cut[~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1])]
    assert (inner.any(dim=2).sum(dim=1) - inner.any(dim=1).sum(dim=1)).abs().max() <= 1  # squares where not cut off
    for first, last in ((rows[:, 0], rows[:, -1]), (columns[:, 0], columns[:, -1])):
        assert first.float().mean().item() == pytest.approx(last.float().mean().item(), abs=0.08)


def test_of_both_each_image_draws_one_with_probability_one_half() -> None:
    whole = kept({"mixup": 5.0, "cutmix": 5.0})
    blended = ((whole > 0) & (whole < 1)).all(dim=(1, 2))
    cut = ((whole == 0) | (whole == 1)).all(dim=(1, 2))
    assert (blended | cut).all()
    assert blended.float().mean().item() == pytest.approx(0.5, abs=0.06)


def test_each_kind_has_its_own_alpha() -> None:
    """MixUp at a tiny alpha keeps all or nothing, CutMix at a large one about a half."""
    _, targets = mixed({"mixup": 1e-7, "cutmix": 1000.0}, flat(1000), one_hot(1000))
    share = targets.diagonal()
    whole = (share < 1e-6) | (share > 1 - 1e-6)
    assert whole.float().mean().item() == pytest.approx(0.5, abs=0.06)
    assert share[~whole].min() > 0.45


@pytest.mark.parametrize("alpha", [1e-30, 1e-3, 0.05, 0.2, 0.5, 1.0, 2.0, 100.0, 1e6])
def test_shares_are_beta_for_any_alpha(alpha: float) -> None:
    shares = symmetric_beta(alpha, torch.zeros((20000, 1, 1, 1)), torch.Generator().manual_seed(1)).flatten().double()
    assert shares.isfinite().all() and shares.min() >= 0 and shares.max() <= 1
    assert shares.mean().item() == pytest.approx(0.5, abs=0.02)
    assert shares.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.03)
    for at in (0.001, 0.01, 0.1, 0.3, 0.5, 0.6, 0.9, 0.99, 0.999):
        expected = stats.beta.cdf(at, max(alpha, 1e-6), max(alpha, 1e-6))  # scipy has none for less
        assert (shares <= at).double().mean().item() == pytest.approx(expected, abs=0.015)


@each_kind
def test_a_batch_of_one_is_its_own_partner(options: dict[str, Any]) -> None:
    images, targets = mixed(options, flat(1), torch.ones((1, 1)))
    torch.testing.assert_close(images, flat(1))
    torch.testing.assert_close(targets, torch.ones((1, 1)))
