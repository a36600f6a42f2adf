"""HU errors against scikit-image and torchmetrics; regions on a constructed body."""

import math

import numpy as np
import pytest
import torch
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio
from torchmetrics.functional import mean_absolute_error
from torchmetrics.functional.image import peak_signal_noise_ratio as torch_psnr

from spinect.errors import GeometryError, ImageError
from spinect.evaluation.image import bias, mae, mse, oracle_floor, psnr
from spinect.evaluation.regions import REGIONS, regions_of
from spinect.geometry import Volume


@pytest.mark.parametrize("seed", range(3))
def test_errors_equal_foreign_ones(seed):
    rng = np.random.default_rng(seed)
    t = rng.normal(0, 400, (9, 10, 11))
    p = t + rng.normal(20, 80, t.shape)
    mask = rng.random(t.shape) > 0.5
    for inside in (None, mask):
        x, y = (a if inside is None else a[inside] for a in (p, t))
        assert mse(p, t, inside) == pytest.approx(mean_squared_error(y, x), rel=1e-12)
        foreign = peak_signal_noise_ratio(y, x, data_range=3024)
        assert psnr(p, t, inside, 3024) == pytest.approx(foreign, abs=1e-9)
        tensors = torch.tensor(x), torch.tensor(y)
        foreign = float(torch_psnr(*tensors, data_range=3024.0))
        assert psnr(p, t, inside, 3024) == pytest.approx(foreign, abs=1e-5)  # its range is float32
        foreign = float(mean_absolute_error(*tensors))
        assert mae(p, t, inside) == pytest.approx(foreign, rel=1e-12)
        assert bias(p, t, inside) == pytest.approx(x.mean() - y.mean(), abs=1e-9)


def test_errors_of_a_shift():
    t = np.random.default_rng(0).normal(0, 400, (8, 8)).astype(np.float32)
    p = (t - 25).astype(np.float32)
    everywhere = np.ones(t.shape, bool)
    assert mae(p, t, everywhere) == pytest.approx(25, abs=1e-4)
    assert mse(p, t, everywhere) == pytest.approx(625, abs=1e-2)
    assert bias(p, t, everywhere) == pytest.approx(-25, abs=1e-4)
    assert psnr(p, t, everywhere, 2500.0) == pytest.approx(40, abs=1e-4)
    assert psnr(t, t, everywhere, 2500.0) == math.inf
    wide = np.array([30000, -30000], np.int16)  # the difference would not fit its type
    assert mae(wide, -wide) == 60000


def test_errors_refuse_an_empty_mask_and_a_senseless_range():
    t = np.zeros((4, 4))
    empty = np.zeros(t.shape, bool)
    for metric in (mae, mse, bias):
        with pytest.raises(ImageError, match="empty"):
            metric(t, t, empty)
    with pytest.raises(ImageError, match="empty"):
        psnr(t, t, empty, 1.0)
    with pytest.raises(ImageError, match="positive"):
        psnr(t, t, None, 0.0)
    with pytest.raises(ImageError, match="empty"):
        oracle_floor(t.astype(int), t, empty)


def body():
    """A box of muscle with gas inside, a table behind it, and a vertebra; axes R, A, S at 2 mm."""
    hu = np.full((40, 50, 30), -1000.0, np.float32)
    hu[:, 4:8] = 100  # the table, which touches nothing
    hu[5:35, 12:45] = 40
    hu[10:14, 20:24, 5:25] = -900  # bowel gas, closed in every axial slice
    hu[30:35, 30:33] = -900  # a groove that is open to the side
    vertebrae = np.zeros(hu.shape, np.uint8)
    vertebrae[18:24, 18:24, 10:20] = 22
    hu[vertebrae > 0] = 400
    hu[20:22, 20:22, 12:18] = 100  # marrow, soft by its HU alone
    hu[20, 40, 15] = 900  # calcified vessel
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    return Volume(hu, affine, "ct"), Volume(vertebrae, affine, "labels")


def test_regions_are_what_they_say():
    ct, vertebrae = body()
    regions = regions_of(ct, vertebrae)
    assert tuple(regions) == REGIONS
    expected = np.zeros(ct.data.shape, bool)
    expected[5:35, 12:45] = True
    expected[30:35, 30:33] = False
    assert np.array_equal(regions["patient"], expected)
    assert np.array_equal(regions["bone"], vertebrae.data > 0)
    assert regions["near_bone"].sum() > regions["bone"].sum()
    assert regions["near_bone"][18 - 5, 20, 15]
    assert not regions["near_bone"][18 - 6, 20, 15]
    soft = expected & (ct.data == 40)
    assert np.array_equal(regions["soft_tissue"], soft)
    assert regions["valid"].all()


def test_regions_stay_inside_validity_and_follow_the_axes():
    ct, vertebrae = body()
    valid = np.ones(ct.data.shape, bool)
    valid[:20] = False
    regions = regions_of(ct, vertebrae, valid)
    assert all(mask.any() and not mask[:20].any() for mask in regions.values())
    turned = regions_of(ct.reoriented("SAR"), vertebrae.reoriented("SAR"))
    for name, mask in regions_of(ct, vertebrae).items():
        assert np.array_equal(turned[name].transpose(2, 1, 0), mask)
    air = regions_of(ct.with_data(np.full_like(ct.data, -1000)), vertebrae)
    assert not air["patient"].any()
    assert not air["soft_tissue"].any()


def test_regions_refuse_other_grids_and_kinds():
    ct, vertebrae = body()
    with pytest.raises(GeometryError, match="one grid"):
        regions_of(ct, Volume(vertebrae.data, np.eye(4), "labels"))
    with pytest.raises(GeometryError, match="validity mask"):
        regions_of(ct, vertebrae, np.ones((2, 2, 2), bool))
    with pytest.raises(ImageError, match="true CT"):
        regions_of(vertebrae, vertebrae)
