"""SSIM, MS-SSIM and VIFp against torchmetrics, MONAI and scikit-image, and in closed cases."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.metrics.regression import compute_ms_ssim, compute_ssim_and_cs
from scipy import ndimage
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import (
    structural_similarity_index_measure,
    visual_information_fidelity,
)

from spinect.errors import ImageError
from spinect.evaluation import similarity
from spinect.evaluation.fidelity import region_vifp, vifp
from spinect.evaluation.similarity import WEIGHTS, ms_ssim, similarity_maps, ssim


def pair(shape, seed=0, noise=0.1):
    """A smooth truth in about [0, 1] and a noisy, shifted prediction of it."""
    rng = np.random.default_rng(seed)
    truth = 0.5 + ndimage.gaussian_filter(rng.normal(size=shape), 1.5) * 2
    return truth * 0.9 + 0.07 + rng.normal(0, noise, shape), truth


def tensors(*images):
    return [torch.tensor(np.ascontiguousarray(image))[None, None] for image in images]


@pytest.mark.parametrize("shape", [(31, 44), (6, 50), (14, 17, 20), (6, 12, 7)])
@pytest.mark.parametrize("data_range", [1.0, 3024.0])
def test_ssim_map_equals_torchmetrics_up_to_the_border(shape, data_range):
    p, t = (image * data_range for image in pair(shape))
    foreign = {"data_range": data_range, "return_full_image": True}
    mean, full = structural_similarity_index_measure(*tensors(p, t), **foreign)
    ours = similarity_maps(p, t, data_range)
    assert np.abs(ours.ssim - full.numpy()[0, 0]).max() < 1e-10
    assert ssim(p, t, None, data_range) == pytest.approx(float(mean), abs=1e-10)


@pytest.mark.parametrize("shape", [(40, 33), (15, 18, 21)])
def test_ssim_equals_skimage_and_monai_away_from_the_border(shape):
    p, t = pair(shape, 3)
    options = {"data_range": 1.0, "gaussian_weights": True, "use_sample_covariance": False}
    mean, full = structural_similarity(p, t, full=True, **options)
    maps = similarity_maps(p, t, 1.0)
    inner = (slice(5, -5),) * len(shape)
    assert np.abs(maps.ssim[inner] - full[inner]).max() < 1e-10
    mask = np.zeros(shape, bool)
    mask[inner] = True
    assert ssim(p, t, mask, 1.0) == pytest.approx(mean, abs=1e-10)
    foreign = compute_ssim_and_cs(*tensors(p, t), len(shape), (11,) * 3, (1.5,) * 3)
    for ours, theirs in zip((maps.ssim, maps.contrast), foreign, strict=True):  # float32 there
        assert np.abs(ours[inner] - theirs.numpy()[0, 0]).max() < 1e-4
        assert ours[inner].mean() == pytest.approx(float(theirs.double().mean()), abs=1e-6)


def test_slabs_and_threads_leave_no_seam(monkeypatch):
    p, t = pair((23, 14, 16), 4)
    whole = similarity_maps(p, t, 1.0)
    monkeypatch.setattr(similarity, "slabs", lambda s: [slice(a, a + 3) for a in range(0, s[0], 3)])
    cut = similarity_maps(p, t, 1.0, workers=3)
    assert np.abs(whole.ssim - cut.ssim).max() < 1e-12
    assert np.abs(whole.contrast - cut.contrast).max() < 1e-12
    single = similarity_maps(p.astype(np.float32), t.astype(np.float32), 1.0)
    assert single.ssim.dtype == np.float32
    assert single.ssim.mean() == pytest.approx(whole.ssim.mean(), abs=1e-6)


def test_ssim_of_constant_images_is_the_luminance_term():
    low, high = np.full((9, 9, 9), 0.2), np.full((9, 9, 9), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(low, high, None, 1.0) == pytest.approx(expected, abs=1e-12)
    assert ssim(low, low, low > 0, 1.0) == pytest.approx(1, abs=1e-12)
    assert ssim(low * 0, low * 0, None, 1.0) == 1


def test_ssim_says_what_it_cannot_do():
    p, t = pair((20, 20))
    with pytest.raises(ImageError, match="empty"):
        ssim(p, t, np.zeros(t.shape, bool), 1.0)
    with pytest.raises(ImageError, match="one shape"):
        ssim(p, t[1:], None, 1.0)
    with pytest.raises(ImageError, match="positive"):
        ssim(p, t, None, 0.0)
    assert math.isnan(ssim(p[:5], t[:5], None, 1.0))
    assert ms_ssim(p, t, [None, t > 0], 1.0) == pytest.approx([math.nan] * 2, nan_ok=True)


@pytest.mark.parametrize("shape", [(176, 191), (202, 180)])
def test_ms_ssim_of_a_whole_image_equals_monai(shape):
    p, t = pair(shape, 5, noise=0.3)
    foreign = compute_ms_ssim(*tensors(p, t), spatial_dims=2)
    assert ms_ssim(p, t, [None], 1.0)[0] == pytest.approx(float(foreign), abs=1e-6)
    assert math.isnan(ms_ssim(p[:175], t[:175], [None], 1.0)[0])


@pytest.mark.parametrize("shape", [(97, 25, 14), (20, 9, 100), (103, 110)])
def test_masked_ms_ssim_equals_monai_scale_by_scale(shape, monkeypatch):
    """MONAI's maps on mirrored images, torch's pooling of images and mask, axis by axis.

    MONAI would round images to float32, which moves small means of 3D maps by some 1e-6.
    """
    monkeypatch.setattr("monai.metrics.regression.convert_data_type", lambda image, **_: (image,))
    p, t = pair(shape, 6, noise=0.3)
    mask = np.zeros(shape, bool)
    mask[tuple(slice(n // 5, None) for n in shape)] = True  # touches three borders
    ours = ms_ssim(p, t, [mask], 1.0)[0]
    x, y, share = tensors(p, t, mask.astype(float))
    n, expected = len(shape), 1.0
    pool = F.avg_pool2d if n == 2 else F.avg_pool3d
    for level, weight in enumerate(WEIGHTS):
        if level:
            kernel = [2 if size // 2 >= 6 else 1 for size in x.shape[2:]]
            x, y, share = (pool(image, kernel) for image in (x, y, share))
        wide = [F.pad(image, (5,) * 2 * n, mode="reflect") for image in (x, y)]
        maps = compute_ssim_and_cs(*wide, n, (11,) * n, (1.5,) * n)
        chosen = maps[0] if level == 4 else maps[1]
        expected *= max(float(chosen.double()[share >= 0.5].mean()), 0) ** weight
    assert ours == pytest.approx(expected, abs=1e-6)


def test_ms_ssim_of_equal_opposed_and_vanishing():
    _, t = pair((100, 101), 7)
    everywhere, speck = np.ones(t.shape, bool), np.zeros(t.shape, bool)
    speck[50, 50] = True
    same, lost = ms_ssim(t, t, [everywhere, speck], 1.0)
    assert same == pytest.approx(1, abs=1e-12)
    assert math.isnan(lost)
    assert ms_ssim(1 - t, t, [everywhere], 1.0) == [0.0]  # structure is negative: clipped
    bytes_ = np.clip(t * 255, 0, 255).astype(np.uint8)
    wide = bytes_.astype(float)
    for metric in (lambda x: ms_ssim(x // 2 + 60, x, [everywhere], 255.0)[0],
                   lambda x: ssim(x // 2 + 60, x, None, 255.0)):  # fmt: skip
        assert metric(bytes_) == pytest.approx(metric(wide), abs=1e-5)


@pytest.mark.parametrize("shape", [(41, 41), (64, 77), (90, 58)])
@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_vifp_equals_torchmetrics(shape, noise):
    p, t = pair(shape, 8, noise)
    foreign = visual_information_fidelity(*tensors(p * 255, t * 255))
    assert vifp(p, t, None, 1.0) == pytest.approx(float(foreign), abs=1e-6)
    assert vifp(p * 40, t * 40, np.ones(shape, bool), 40.0) == pytest.approx(float(foreign))


def test_vifp_of_degenerate_images_equals_torchmetrics():
    p, t = pair((50, 50), 9)
    half = t.copy()
    half[:, :25] = 0.3  # flat windows in the truth alone
    for x, y in ((t * 0 + 0.4, t), (p, half), (half, t), (1 - t, t), (1.5 * t, t), (t * 0, half)):
        foreign = float(visual_information_fidelity(*tensors(x * 255, y * 255)))
        assert vifp(x, y, None, 1.0) == pytest.approx(foreign, abs=1e-6)
    assert vifp(t * 0 + 0.4, t, None, 1.0) == pytest.approx(0, abs=1e-9)
    assert vifp(1.5 * t, t, None, 1.0) > 1
    zeros = t * 0
    assert math.isnan(float(visual_information_fidelity(*tensors(zeros, zeros))))
    assert math.isnan(vifp(p, zeros, None, 1.0))
    assert math.isnan(vifp(p[:40], t[:40], None, 1.0))
    with pytest.raises(ImageError, match="one shape"):
        vifp(p, t[1:], None, 1.0)
    with pytest.raises(ImageError, match="positive"):
        vifp(p, t, None, -1.0)


def test_vifp_of_regions_and_stacks():
    p, t = (np.stack(images) for images in zip(*(pair((60, 130), s) for s in (1, 2)), strict=True))
    left = np.zeros(t.shape, bool)
    left[:, :, :35] = True
    half = np.where(np.arange(130) < 70, t, p)  # wrong on the right only
    near, far, none = region_vifp(half, t, [left, ~left, left & False], 1.0, workers=2)
    assert near == pytest.approx(1, abs=1e-9)  # no window of the region reaches the error
    assert far < 0.9
    assert math.isnan(none)
    both = vifp(p, t, None, 1.0)
    alone = [vifp(a, b, None, 1.0) for a, b in zip(p, t, strict=True)]
    assert min(alone) < both < max(alone)
    assert vifp(np.stack([t[0], t[0]]), np.stack([t[0], t[0]]), None, 1.0) == pytest.approx(1)


def test_vifp_counts_the_windows_centred_in_the_region():
    """At these sizes the pixels of all four scales lie symmetric, so that mirroring is exact."""
    p, t = pair((57, 73), 3)
    mask = np.zeros(t.shape, bool)
    mask[:26, :40] = True
    expected = vifp(p, t, mask, 1.0)
    for turn in (np.flipud, np.fliplr):
        assert vifp(turn(p), turn(t), turn(mask), 1.0) == pytest.approx(expected, abs=1e-9)
