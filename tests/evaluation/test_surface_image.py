"""Foreign oracles for the surface metrics; closed forms for HU errors."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from scipy import ndimage

from spinect.errors import ImageError
from spinect.evaluation.image import mae, near_bone, oracle_floor
from spinect.evaluation.surface import surface_distances


def blob(seed, shape=(24, 20, 28)):
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 3) > 0.02


@pytest.mark.filterwarnings("ignore:monai.metrics:FutureWarning")
@pytest.mark.parametrize("seed", range(3))
def test_distances_equal_monai(seed):
    prediction, truth, spacing = blob(seed), blob(seed + 100), (1.0, 0.7, 2.0)
    ours = surface_distances(prediction, truth, spacing)
    one_hot = [torch.tensor(m[None, None]) for m in (prediction, truth)]
    foreign = {"include_background": True, "spacing": spacing}
    assert ours.hausdorff(95) == pytest.approx(
        float(compute_hausdorff_distance(*one_hot, percentile=95, **foreign)), abs=1e-5
    )
    assert ours.average() == pytest.approx(
        float(compute_average_surface_distance(*one_hot, symmetric=True, **foreign)), abs=1e-5
    )
    for tolerance in (1.0, 2.0):
        assert ours.nsd(tolerance) == pytest.approx(
            float(compute_surface_dice(*one_hot, class_thresholds=[tolerance], **foreign)), abs=1e-6
        )


def test_signed_distance_tells_too_large_from_too_small():
    small, large = np.zeros((30, 30, 30), bool), np.zeros((30, 30, 30), bool)
    small[10:20, 10:20, 10:20], large[8:22, 8:22, 8:22] = True, True
    assert surface_distances(large, small, 1.0).median_signed() == pytest.approx(2, abs=0.3)
    assert surface_distances(small, large, 1.0).median_signed() == -2
    assert surface_distances(small, small & False, 1.0) is None


def test_near_bone_is_a_euclidean_ball():
    bone = np.zeros((41, 41, 21), bool)
    bone[20, 20, 10] = True
    near = near_bone(bone, (1.0, 1.0, 2.0))
    x, y, z = np.indices(bone.shape)
    distance = np.sqrt((x - 20.0) ** 2 + (y - 20.0) ** 2 + (2.0 * (z - 10)) ** 2)
    assert np.array_equal(near, distance <= 10)
    assert not near_bone(bone & False, 1.0).any()


def test_mae_and_floor():
    rng = np.random.default_rng(0)
    tissue = rng.integers(0, 4, (20, 20, 20))
    truth = tissue * 100.0 + rng.normal(0, 10, tissue.shape)
    mask = tissue > 0
    assert mae(truth + 7, truth, mask) == pytest.approx(7)
    floor = oracle_floor(tissue, truth, mask)
    assert floor == pytest.approx(10 * np.sqrt(2 / np.pi), rel=0.03)  # mean |N(0, 10)|
    for offset in (-3.0, 0.0, 3.0):  # no other constant per tissue does better
        assert mae(tissue * 100.0 + offset, truth, mask) >= floor - 1e-9
    with pytest.raises(ImageError, match="empty"):
        mae(truth, truth, mask & False)
