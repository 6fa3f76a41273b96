"""What stands behind an encoder, and what a method keeps from step to step."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medtune.config.pretrain import MoCo, Projector, SimCLR, VICReg
from medtune.config.trial import EncoderConfig
from medtune.models.build import build_encoder
from medtune.models.classifier import Encoder
from medtune.pretraining.losses import in_batch_nce, info_nce, nt_xent, vicreg
from medtune.pretraining.methods import Contrast, Momentum, build_method

BEHIND = Projector(hidden=12, features=6)
METHODS = [SimCLR(), MoCo(queue=32), MoCo(queue=0), VICReg()]
QUEUES = [MoCo(queue=32), MoCo(queue=0)]
CASES = 5

every_method = pytest.mark.parametrize("config", METHODS, ids=["simclr", "moco", "moco v3", "vicreg"])
both_mocos = pytest.mark.parametrize("config", QUEUES, ids=["queue", "predictor"])


def built(config: Any, seed: int = 0) -> tuple[Encoder, Contrast]:
    generator = torch.Generator().manual_seed(seed)
    encoder = build_encoder(EncoderConfig(name="smallcnn"), 1, 16, generator)
    return encoder, build_method(config, encoder, BEHIND, generator)


def moco(config: MoCo, seed: int = 0) -> tuple[Encoder, Momentum]:
    encoder, method = built(config, seed)
    assert isinstance(method, Momentum)
    return encoder, method


def draw(cases: int, *shape: int, seed: int = 1) -> Tensor:
    return torch.randn((cases, *shape), generator=torch.Generator().manual_seed(seed))


def views(seed: int = 1) -> Tensor:
    return draw(2 * CASES, 1, 16, 16, seed=seed).sigmoid()


def slow_parameters(method: Momentum) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in method.slow.parameters()]


def fast_parameters(encoder: Encoder, method: Momentum) -> list[Tensor]:
    return [parameter.detach().clone() for part in (encoder, method.projector) for parameter in part.parameters()]


def disturb(*parts: torch.nn.Module, seed: int = 2) -> None:
    """As a step of an optimizer does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for part in parts:
            for parameter in part.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=generator))


# --- each method


@every_method
def test_what_the_loss_sees_has_the_width_of_the_projector_and_a_gradient_everywhere(config: Any) -> None:
    encoder, method = built(config)
    embedded = method.embed(encoder(views()))
    assert embedded.shape == (2 * CASES, BEHIND.features)
    method.loss(embedded, method.keys(views())).backward()
    trained = [*encoder.parameters(), *(one for one in method.parameters() if one.requires_grad)]
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in trained)
    assert sum(bool(parameter.grad.any()) for parameter in trained if parameter.grad is not None) > len(trained) / 2


@every_method
def test_a_method_depends_on_its_generator_alone(config: Any, global_randomness: Callable[[], bytes]) -> None:
    before = global_randomness()
    one, again, other = built(config)[1], built(config)[1], built(config, seed=1)[1]
    assert global_randomness() == before
    first, second, third = (torch.cat([t.flatten() for t in m.state_dict().values()]) for m in (one, again, other))
    assert torch.equal(first, second) and not torch.equal(first, third)


@every_method
def test_a_step_draws_no_number(config: Any, global_randomness: Callable[[], bytes]) -> None:
    encoder, method = built(config)
    before = global_randomness()
    keys = method.keys(views())
    method.loss(method.embed(encoder(views())), keys).backward()
    method.stepped(encoder, keys)
    assert global_randomness() == before


def test_simclr_and_vicreg_hold_the_halves_of_a_batch_against_each_other() -> None:
    embedded = draw(2 * CASES, BEHIND.features)
    first, second = embedded[:CASES], embedded[CASES:]
    simclr, regularised = SimCLR(temperature=0.3), VICReg(invariance=2, variance=3, covariance=4)
    assert torch.equal(built(simclr)[1].loss(embedded, None), nt_xent(first, second, 0.3))
    assert torch.equal(built(regularised)[1].loss(embedded, None), vicreg(first, second, regularised))
    for config in (simclr, regularised):
        encoder, method = built(config)
        assert method.keys(views()) is None
        before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
        method.stepped(encoder, None)
        assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())


# --- the slow copy


@both_mocos
def test_the_slow_copy_begins_as_the_encoder_and_has_no_gradient(config: MoCo) -> None:
    encoder, method = moco(config)
    for slow, fast in zip(slow_parameters(method), fast_parameters(encoder, method), strict=True):
        assert torch.equal(slow, fast)
    keys = method.keys(views())
    assert not keys.requires_grad and not any(parameter.requires_grad for parameter in method.slow.parameters())
    method.loss(method.embed(encoder(views())), keys).backward()
    assert all(parameter.grad is None for parameter in method.slow.parameters())
    assert torch.equal(keys, method.projector(encoder(views())).detach())  # the predictor is not of the keys


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99])
@both_mocos
def test_the_slow_copy_follows_by_its_momentum(config: MoCo, momentum: float) -> None:
    encoder, method = moco(config.model_copy(update={"momentum": momentum}))
    for step in range(3):
        disturb(encoder, method.projector, seed=step)
        slow, fast = slow_parameters(method), fast_parameters(encoder, method)
        method.stepped(encoder, draw(2 * CASES, BEHIND.features, seed=step))
        for was, to, now in zip(slow, fast, slow_parameters(method), strict=True):
            expected = momentum * was.double() + (1 - momentum) * to.double()
            torch.testing.assert_close(now.double(), expected, rtol=1e-5, atol=1e-6)
            assert momentum or torch.equal(now, to)
        assert all(map(torch.equal, fast_parameters(encoder, method), fast))


@both_mocos
def test_the_keys_are_of_the_slow_copy(config: MoCo) -> None:
    encoder, method = moco(config)
    before = method.keys(views())
    disturb(encoder, method.projector)
    assert torch.equal(method.keys(views()), before)
    disturb(method.slow)
    assert not torch.equal(method.keys(views()), before)


# --- what is held against what


def test_each_view_is_held_against_the_key_of_the_other_one_and_against_the_queue() -> None:
    _, method = moco(MoCo(queue=8, temperature=0.4))
    embedded, keys = draw(2 * CASES, BEHIND.features), draw(2 * CASES, BEHIND.features, seed=2)
    one = info_nce(embedded[:CASES], keys[CASES:], method.queue, 0.4)
    other = info_nce(embedded[CASES:], keys[:CASES], method.queue, 0.4)
    torch.testing.assert_close(method.loss(embedded, keys), (one + other) / 2)


def test_without_a_queue_it_is_held_against_the_keys_of_the_other_views() -> None:
    _, method = moco(MoCo(queue=0, temperature=0.4))
    embedded, keys = draw(2 * CASES, BEHIND.features), draw(2 * CASES, BEHIND.features, seed=2)
    one = in_batch_nce(embedded[:CASES], keys[CASES:], 0.4)
    other = in_batch_nce(embedded[CASES:], keys[:CASES], 0.4)
    torch.testing.assert_close(method.loss(embedded, keys), one + other)


def test_only_without_a_queue_there_is_a_predictor() -> None:
    encoder, without = moco(MoCo(queue=0))
    features = encoder(views())
    projected = without.projector(features)
    assert without.predictor is not None and len(without.queue) == 0
    assert torch.equal(without.embed(features), without.predictor(projected))
    encoder, method = moco(MoCo(queue=8))
    assert method.predictor is None and torch.equal(method.embed(encoder(views())), method.projector(encoder(views())))


# --- the queue


def test_the_queue_begins_as_random_directions() -> None:
    _, method = moco(MoCo(queue=2000))
    assert method.queue.shape == (2000, BEHIND.features)
    torch.testing.assert_close(method.queue.norm(dim=1), torch.ones(2000))
    assert method.queue.mean(dim=0).abs().max() < 0.05


@pytest.mark.parametrize(
    ("length", "batches"),
    [
        (8, [4, 4, 4, 4]),
        (8, [3, 3, 3, 3, 3]),  # does not divide it
        (4, [5, 9, 2, 4]),  # a batch longer than the queue
        (3, [7, 7]),
        (5, [5, 1, 4]),
        (1, [2, 3]),
    ],
    ids=str,
)
def test_the_queue_is_a_ring_of_the_normalised_keys_of_first_views(length: int, batches: list[int]) -> None:
    encoder, method = moco(MoCo(queue=length))
    held = list(method.queue.clone())  # oldest first
    for step, cases in enumerate(batches):
        keys = 3 * draw(2 * cases, BEHIND.features, seed=step)
        method.stepped(encoder, keys)
        held = [*held, *F.normalize(keys[:cases], dim=1)][-length:]
        oldest = int(method.oldest)
        assert 0 <= oldest < length
        torch.testing.assert_close(method.queue.roll(-oldest, dims=0), torch.stack(held))
    torch.testing.assert_close(method.queue.norm(dim=1), torch.ones(length))


def test_the_keys_of_a_batch_are_no_negatives_of_that_batch() -> None:
    encoder, method = moco(MoCo(queue=8))
    keys = draw(2 * CASES, BEHIND.features)
    before = method.queue.clone()
    method.loss(draw(2 * CASES, BEHIND.features, seed=2), keys)
    assert torch.equal(method.queue, before)
    method.stepped(encoder, keys)
    assert not torch.equal(method.queue, before)


@both_mocos
def test_queue_and_slow_copy_are_part_of_the_state(config: MoCo) -> None:
    names = set(moco(config)[1].state_dict())
    assert {"queue", "oldest", "slow.0.mean", "slow.1.0.weight"} <= names
