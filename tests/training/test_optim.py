"""Moving average, learning rate and order of samples against their formulas."""

import math

import pytest
import torch
from torch import nn

from spinect.training.config import TrainerConfig
from spinect.training.loader import StepSampler
from spinect.training.optim import Ema, learning_rate_factor


def test_average_follows_its_recursion():
    layer = nn.Linear(3, 2)
    ema, expected = Ema(layer, 0.9), layer.weight.detach().clone()
    for update in range(1, 150):
        with torch.no_grad():
            layer.weight.copy_(torch.full((2, 3), math.sin(update)))
        ema.update(layer)
        decay = min(0.9, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * layer.weight.detach()
    torch.testing.assert_close(ema.average["weight"], expected)


def test_average_copies_buffers_and_swaps_there_and_back():
    norm = nn.BatchNorm1d(4)
    ema = Ema(norm, 0.99)
    with torch.no_grad():
        norm.weight.add_(1)
        norm.running_mean.add_(5)
    ema.update(norm)
    assert torch.equal(ema.average["running_mean"], norm.running_mean)
    live, average = norm.weight.detach().clone(), ema.average["weight"].clone()
    ema.swap(norm)
    assert torch.equal(norm.weight, average)
    ema.swap(norm)
    assert torch.equal(norm.weight, live)
    assert torch.equal(ema.average["weight"], average)


@pytest.mark.parametrize(
    ("schedule", "step", "minutes", "factor"),
    [
        ("cosine", 0, 0, 1 / 10),
        ("cosine", 50, 0, 0.5),
        ("cosine", 100, 0, 0.0),
        ("cosine-clock", 30, 5, 0.5),
        ("cosine-clock", 30, 99, 0.0),
        ("constant", 4, 0, 0.5),
        ("constant", 70, 0, 1.0),
        ("linear", 4, 0, 0.5),
        ("linear", 50, 9, 1.0),
        ("linear", 51, 9, 0.98),
        ("linear", 75, 0, 0.5),
        ("linear", 100, 0, 0.0),
        ("linear-clock", 90, 5, 1.0),
        ("linear-clock", 30, 7.5, 0.5),
        ("linear-clock", 30, 99, 0.0),
    ],
)
def test_learning_rate(schedule, step, minutes, factor):
    config = TrainerConfig(max_steps=100, max_minutes=10, warmup=10, schedule=schedule)
    assert learning_rate_factor(config, step, minutes) == pytest.approx(factor, abs=1e-9)


@pytest.mark.parametrize(
    ("schedule", "step", "factor"),
    [("cosine", 0, 1.0), ("cosine", 50, 0.6), ("cosine", 100, 0.2),
     ("linear", 50, 1.0), ("linear", 75, 0.6), ("linear", 100, 0.2)],
)  # fmt: skip
def test_the_rate_ends_where_it_is_told_to(schedule, step, factor):
    config = TrainerConfig(max_steps=100, warmup=0, schedule=schedule, lr_end=0.2)
    assert learning_rate_factor(config, step, 0) == pytest.approx(factor, abs=1e-9)


def test_linear_stays_near_the_steps_of_the_published_pix2pix():
    """200 epochs of 50 updates; theirs changes once per epoch."""
    config = TrainerConfig(max_steps=10_000, warmup=0, schedule="linear")
    for update in range(10_000):
        theirs = 1 - max(0, update // 50 + 1 - 100) / 101
        assert abs(learning_rate_factor(config, update, 0) - theirs) <= 0.01


def test_processes_share_the_samples_and_a_late_start_reads_on():
    whole = [list(StepSampler(0, 4, 3, rank, 2)) for rank in (0, 1)]
    numbers = sorted(n for part in whole for update in part for n in update)
    assert numbers == list(range(4 * 3 * 2))
    assert list(StepSampler(2, 4, 3, 1, 2)) == whole[1][2:]
    assert len(StepSampler(2, 4, 3)) == 2
