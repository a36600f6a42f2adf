"""Surface distances against MONAI and scipy on random and degenerate masks."""

import numpy as np
import pytest
import torch
from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance
from monai.metrics.surface_dice import compute_surface_dice
from scipy import ndimage

from spinect.evaluation.surface import surface, surface_distances

SPACINGS = [(1.0, 1.0, 1.0), (4.0, 0.6, 0.6), (1 / 3, 0.7, 2.0)]


def blob(seed, shape=(18, 16, 20)):
    noise = np.random.default_rng(seed).normal(size=shape)
    return ndimage.gaussian_filter(noise, 2) > 0.02


def voxel(*place):
    mask = np.zeros((18, 16, 20), bool)
    mask[place] = True
    return mask


PAIRS = {
    "blobs": (blob(0), blob(1)),
    "more blobs": (blob(2), blob(3)),
    "one voxel each": (voxel(3, 4, 5), voxel(6, 8, 5)),
    "the same voxel": (voxel(3, 4, 5), voxel(3, 4, 5)),
    "voxel in a blob": (voxel(9, 8, 10), blob(1)),
    "full array": (voxel(slice(None)), blob(1)),
    "corner": (voxel(0, 0, 0), voxel(17, 15, 19)),
    "one slice": (voxel(5), voxel(7)),
}


@pytest.mark.parametrize("name", PAIRS)
def test_surface_is_the_mask_without_its_erosion(name):
    for mask in PAIRS[name]:
        assert np.array_equal(surface(mask), mask & ~ndimage.binary_erosion(mask, border_value=0))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", PAIRS)
def test_distances_equal_the_distance_transform(name, spacing):
    prediction, truth = (np.pad(m, 1) for m in PAIRS[name])
    ours = surface_distances(prediction, truth, spacing)
    edge_p, edge_t = surface(prediction), surface(truth)
    far_t = ndimage.distance_transform_edt(~edge_t, sampling=spacing)
    far_p = ndimage.distance_transform_edt(~edge_p, sampling=spacing)
    assert ours.to_truth == pytest.approx(np.where(truth, -far_t, far_t)[edge_p], abs=1e-12)
    assert ours.to_prediction == pytest.approx(far_p[edge_t], abs=1e-12)


@pytest.mark.filterwarnings("ignore:monai.metrics:FutureWarning")
@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", PAIRS)
def test_figures_equal_monai(name, spacing):
    prediction, truth = PAIRS[name]
    ours = surface_distances(prediction, truth, spacing)
    one_hot = [torch.tensor(np.pad(m, 1)[None, None]) for m in (prediction, truth)]
    foreign = {"include_background": True, "spacing": spacing}
    far = float(compute_hausdorff_distance(*one_hot, percentile=95, **foreign))
    mean = float(compute_average_surface_distance(*one_hot, symmetric=True, **foreign))
    assert ours.hausdorff(95) == pytest.approx(far, rel=1e-6)
    assert ours.average() == pytest.approx(mean, rel=1e-6)
    for tolerance in (1.0, 2.0):
        near = float(compute_surface_dice(*one_hot, class_thresholds=[tolerance], **foreign))
        assert ours.nsd(tolerance) == pytest.approx(near, abs=1e-6)


def test_shifted_cubes_are_as_far_apart_as_they_were_shifted():
    cube = np.zeros((30, 20, 20), bool)
    cube[5:15, 5:15, 5:15] = True
    apart = surface_distances(np.roll(cube, 3, axis=0), cube, (2.0, 1.0, 1.0))
    assert apart.hausdorff(100) == 6
    assert apart.nsd(6.0) == 1
    two = surface_distances(voxel(3, 4, 5), voxel(6, 8, 5), 0.1)  # 0.1 x (3, 4, 0)
    assert two.to_truth == pytest.approx([0.5], abs=1e-15)


def test_an_empty_mask_has_no_distances():
    mask = blob(0)
    assert surface_distances(mask, mask & False, 1.0) is None
    assert surface_distances(mask & False, mask, 1.0) is None
    assert surface_distances(mask & False, mask & False, 1.0) is None
