"""The noise field is normal, independent, and a function of position alone."""

import numpy as np
import pytest

from spinect.errors import ConfigError
from spinect.inference.noise import NoiseField

FIELD = NoiseField(7)


def test_moments_and_tails_are_those_of_a_unit_normal():
    values = FIELD.box((0, 0, 0), (96, 96, 96)).ravel().astype(float)
    n = values.size
    assert abs(values.mean()) < 4 / n**0.5
    assert abs(values.var() - 1) < 4 * (2 / n) ** 0.5
    assert abs((values**3).mean()) < 4 * (15 / n) ** 0.5
    assert abs((values**4).mean() - 3) < 4 * (96 / n) ** 0.5
    assert abs((np.abs(values) > 3).mean() - 0.0026998) < 4 * (0.0027 / n) ** 0.5
    assert values.max() > 4.3


@pytest.mark.parametrize("other", [{"draw": 1}, {"step": 1}, {"seed": 8}, {"start": (64, 0, 0)}])
def test_fields_of_another_draw_step_seed_or_place_are_independent(other):
    shape = (64, 64, 64)
    first = FIELD.box((0, 0, 0), shape)
    field = NoiseField(other.get("seed", 7))
    start = other.get("start", (0, 0, 0))
    second = field.box(start, shape, draw=other.get("draw", 0), step=other.get("step", 0))
    correlation = float(np.mean(first * second))
    assert abs(correlation) < 4 / first.size**0.5


def test_neighbours_are_independent():
    values = FIELD.box((0, 0, 0), (64, 64, 64))
    for axis in range(3):
        a, b = np.split(values, [32], axis)
        assert abs(float(np.mean(a * b))) < 4 / a.size**0.5  # also across a block's border
        near = np.take(values, range(63), axis) * np.take(values, range(1, 64), axis)
        assert abs(float(near.mean())) < 4 / near.size**0.5


def test_any_box_has_the_bits_of_the_whole():
    whole = FIELD.box((-40, -3, 5), (90, 70, 50), draw=3, step=12)
    part = FIELD.box((-17, 10, 20), (50, 33, 11), draw=3, step=12)
    assert np.array_equal(whole[23:73, 13:46, 15:26], part)
    assert part.dtype == np.float32


def test_values_are_pinned():
    """A change of the field would silently change every stored result."""
    values = FIELD.box((31, 0, 0), (2, 1, 1), draw=1, step=2).ravel()
    np.testing.assert_allclose(values, [0.00443264, -0.5245021], atol=1e-6)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range(seed):
    with pytest.raises(ConfigError):
        NoiseField(seed)
