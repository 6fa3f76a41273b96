"""Learning rates against `torch.optim.lr_scheduler` where it has the same, against formulas where not."""

import math
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from medtune.config.trial import (
    Constant,
    Cosine,
    Cyclic,
    LearningRateSchedule,
    MultiStep,
    OneCycle,
    Plateau,
    Step,
    TrialConfig,
    WarmRestarts,
)
from medtune.training.progress import EpochRecord
from medtune.training.schedules import lr_factor, plateaus


def factors(schedule: LearningRateSchedule, epochs: int, steps_per_epoch: int = 3) -> list[float]:
    return [lr_factor(schedule, step, steps_per_epoch, epochs) for step in range(epochs * steps_per_epoch)]


def of_torch(name: str, steps: int, **options: Any) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = getattr(lr_scheduler, name)(optimizer, **options)
    lrs = []
    for _ in range(steps):
        lrs.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return lrs


def each_for(factors_of_epochs: list[float], steps_per_epoch: int = 3) -> list[float]:
    return [factor for factor in factors_of_epochs for _ in range(steps_per_epoch)]


def test_the_default_is_the_official_recipe_a_tenth_at_epochs_50_and_75() -> None:
    config = TrialConfig()
    found = factors(config.schedule, config.epochs)
    expected = of_torch("MultiStepLR", 100, milestones=[50, 75], gamma=0.1)
    assert found == pytest.approx(each_for(expected))
    by_epoch = found[::3]
    assert [by_epoch[epoch] for epoch in (49, 50, 74, 75, 99)] == pytest.approx([1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize("epochs", [3, 7, 10, 20])
def test_milestones_fall_on_the_first_epoch_that_has_reached_them(epochs: int) -> None:
    milestones = (0.3, 0.7)
    reached = [math.ceil(round(fraction * epochs, 6)) for fraction in milestones]
    expected = of_torch("MultiStepLR", epochs, milestones=reached, gamma=0.5)
    assert factors(MultiStep(milestones=milestones, gamma=0.5), epochs) == pytest.approx(each_for(expected))


@pytest.mark.parametrize(("every", "step_size"), [(0.1, 1), (0.3, 3), (0.5, 5), (0.7, 7), (1.0, 10)])
def test_step_is_that_of_torch(every: float, step_size: int) -> None:
    expected = of_torch("StepLR", 10, step_size=step_size, gamma=0.3)
    assert factors(Step(every=every, gamma=0.3), 10) == pytest.approx(each_for(expected))


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_is_that_of_torch_step_by_step(final: float) -> None:
    expected = of_torch("CosineAnnealingLR", 30, T_max=30, eta_min=final)
    assert factors(Cosine(final=final), 10) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", [Constant(), MultiStep(), Cosine(), Step()])
def test_without_warmup_training_begins_at_the_full_lr(schedule: LearningRateSchedule) -> None:
    assert lr_factor(schedule, 0, 5, 10) == 1


def test_constant_stays() -> None:
    assert set(factors(Constant(), 5)) == {1.0}


def test_onecycle_is_that_of_torch() -> None:
    steps = 2000  # torch counts to the last step, we to the end of it: the same when steps are many
    expected = of_torch("OneCycleLR", steps, max_lr=1.0, total_steps=steps, cycle_momentum=False)
    assert factors(OneCycle(), steps // 10, 10) == pytest.approx(expected, abs=3e-3)


def test_onecycle_starts_peaks_and_ends_where_it_should() -> None:
    found = factors(OneCycle(peak=0.25, start_factor=0.1, final_factor=0.01), 100, 4)
    assert found[0] == pytest.approx(0.1)
    assert found.index(max(found)) == 100 and found[100] == 1
    assert found[:101] == sorted(found[:101]) and found[100:] == sorted(found[100:], reverse=True)
    assert found[-1] == pytest.approx(0.01, abs=1e-3)


def test_warmup_rises_linearly_and_leaves_the_rest_as_it_is() -> None:
    found = factors(Constant(warmup=0.2), 10)  # 6 of 30 steps
    assert found[:6] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1])
    assert set(found[6:]) == {1.0}


@pytest.mark.parametrize("kind", [Cosine, MultiStep, Step])
def test_warmup_multiplies_the_schedule(kind: type[Cosine]) -> None:
    plain, warm = factors(kind(), 10), factors(kind(warmup=0.2), 10)
    assert warm[:6] == pytest.approx([factor * (step + 1) / 6 for step, factor in enumerate(plain[:6])])
    assert warm[6:] == plain[6:]


@pytest.mark.parametrize("cycles", [1, 2, 5])
def test_cyclic_is_that_of_torch(cycles: int) -> None:
    half = 20 // cycles // 2
    options = {"base_lr": 0.1, "max_lr": 1.0, "step_size_up": half, "cycle_momentum": False}
    assert factors(Cyclic(cycles=cycles, low=0.1), 5, 4) == pytest.approx(of_torch("CyclicLR", 20, **options))


@pytest.mark.parametrize(("first", "growth"), [(0.2, 1), (0.1, 2), (1.0, 2)])
def test_warm_restarts_are_those_of_torch(first: float, growth: int) -> None:
    options = {"T_0": round(first * 30), "T_mult": growth, "eta_min": 0.01}
    expected = of_torch("CosineAnnealingWarmRestarts", 30, **options)
    assert factors(WarmRestarts(first=first, growth=growth, final=0.01), 10) == pytest.approx(expected)


LOSSES = [1.0, 0.8, 0.9, 0.85, 0.81, 0.79, 0.8, 0.8, 0.8, 0.8, 0.8]


@pytest.mark.parametrize("patience", [0, 1, 2, 4])
def test_a_plateau_is_that_of_torch(patience: int) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=patience, threshold=0.0)
    expected = []
    for loss in LOSSES:
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step(loss)
    past = [EpochRecord(i + 1, {"val/loss": loss, "val/auroc": -loss}, False) for i, loss in enumerate(LOSSES)]
    for metric in ("val/loss", "val/auroc"):
        schedule = Plateau(metric=metric, patience=patience, gamma=0.5)
        found = [lr_factor(schedule, 3 * epoch + 1, 3, 20, past[:epoch]) for epoch in range(len(past))]
        assert found == pytest.approx(expected)


def test_a_value_that_is_no_number_is_no_better_one() -> None:
    assert plateaus(Plateau(patience=1), [math.nan, math.nan, 0.5, math.nan, math.nan, 0.4]) == [2, 5]
