"""The corruptions that limits are derived with, and the rule that derives them."""

import numpy as np
import pytest

from spinect.geometry import Volume
from spinect.workflows.plausibility import LIMITS
from spinect.workflows.record import PlausibilityRecord


@pytest.fixture(scope="module")
def scripts(benchmark_script):
    return {n: benchmark_script(n) for n in ("plausibility_cases", "plausibility")}


@pytest.fixture
def scan():
    """1 x 1 x 2 mm, a ramp in every direction, vertebrae in the upper right back."""
    x, y, z = np.indices((50, 120, 60))
    image = Volume((x + 1000.0 * y + 1e6 * z).astype(np.float32), np.diag([1, 1, 2, 1.0]), "mr")
    labels = np.zeros(image.data.shape, np.uint8)
    labels[20:40, 5:50, 10:50] = 22
    return image, Volume(labels, image.affine, "labels")


def test_what_is_turned_and_inverted(scripts, scan):
    cases, rng = scripts["plausibility_cases"], np.random.default_rng(0)
    image, labels = scan
    down = cases.upside_down(image, labels, rng)
    np.testing.assert_array_equal(down.data[:, :, 0], image.data[:, :, -1])
    np.testing.assert_array_equal(down.affine, image.affine)
    back = cases.front_to_back(image, labels, rng)
    np.testing.assert_array_equal(back.data[:, 0], image.data[:, -1])
    dark = cases.inverted(image, labels, rng).data
    order = np.argsort(image.data, axis=None)[::1000]
    assert (np.diff(dark.ravel()[order].astype(float)) <= 0).all()


def test_boxes_lie_where_their_world_is(scripts, scan):
    cases = scripts["plausibility_cases"]
    image, labels = scan
    for seed in range(4):
        half = cases.half(image, labels, np.random.default_rng(seed))
        assert half.data.shape[1:] == image.data.shape[1:]
        assert half.data.shape[0] in (30, 20)  # the vertebrae's middle is voxel 30
        first = round(float(half.affine[0, 3]))
        np.testing.assert_array_equal(half.data, image.data[first : first + half.data.shape[0]])
    front = cases.beside(image, labels, np.random.default_rng(0))
    assert front.data.shape == (50, 120 - 56, 60)  # 6 mm in front of the vertebrae's last voxel, 49
    assert front.affine[1, 3] == 56
    narrow = cases.slab(image, labels, np.random.default_rng(0))
    assert narrow.data.shape == (28, 120, 60)
    assert cases.beside(image, image.with_data(np.ones_like(labels.data), "labels"), None) is None


def test_height_is_kept_about_the_vertebrae(scripts, scan):
    image, labels = scan
    made = scripts["plausibility_cases"].of_height(image, labels, 40.0)
    assert made.data.shape == (50, 120, 20)
    assert made.affine[2, 3] == 2 * 20  # voxels 10 to 49 have their middle at 29.5


def test_a_limit_lies_between_good_and_bad_or_far_from_the_good(scripts):
    module = scripts["plausibility"]

    def row(kind, **numbers):
        record = PlausibilityRecord(vertebrae=5, **numbers)
        return module.Row("a", kind, "derive", "m", 1.0, 0.1, record)

    rows = [row("clean", canal=c, doubt=d) for c, d in ((1.0, 0.1), (0.9, 0.1), (1.0, 0.2))]
    rows += [row("half", canal=c, doubt=0.15) for c in (0.0, 0.1, 0.2, 0.95)]
    limits = module.derive(rows)
    assert limits["canal"].low == pytest.approx((0.9 + 0.1) / 2)  # farther out than 0.8
    assert limits["canal"].high is None
    assert limits["doubt"].high == pytest.approx(0.3)  # nothing bad lies beyond the worst good
    assert limits["gamma"] == LIMITS["gamma"]  # nothing was measured
    assert module.warned(row("half", canal=0.4), limits) == ("canal",)
    assert module.warned(row("clean", canal=0.6), limits) == ()
