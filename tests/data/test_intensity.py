"""Scalings and their inverses, and what counts as inside the field of view."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import gaussian_filter

from spinect.data.intensity import (
    CT_WINDOW,
    LOCAL_SIGMA_MM,
    HuRange,
    ct_channels,
    dark_share,
    hu_from_ct_channels,
    inside_field_of_view,
    local_mean,
    mr_channels,
    percentiles,
)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("limits", [(-1024.0, 2000.0), (-1000.0, 1000.0), (0.0, 500.0)])
def test_hu_range_goes_there_and_back(limits):
    hu_range = HuRange(low=limits[0], high=limits[1])
    hu = torch.linspace(*limits, 101)
    unit = hu_range.to_unit(hu)
    assert unit[0] == -1
    assert unit[-1] == pytest.approx(1)
    torch.testing.assert_close(hu_range.to_hu(unit), hu, atol=1e-3, rtol=0)
    assert hu_range.to_unit(torch.tensor(5000.0)) == 1


def test_hu_range_refuses_disorder():
    with pytest.raises(ValidationError, match="low must be below high"):
        HuRange(low=100, high=-100)


def test_ct_channels_go_there_and_back():
    hu = torch.linspace(*CT_WINDOW, 31)[None, None]
    torch.testing.assert_close(hu_from_ct_channels(ct_channels(hu)), hu)
    assert ct_channels(torch.full((1, 1, 2, 2), -1000.0)).max() == 0  # air reads like padding


def test_planted_planes_are_outside():
    mr = randn(2, 1, 12, 14, 16).abs() + 0.1
    mr[0, 0, 0] = 255
    mr[0, 0, :, -2:] = 255
    mr[0, 0, :, :, 0] = 0
    inside = inside_field_of_view(mr)
    expected = torch.zeros(12, 14, 16)
    expected[1:, :-2, 1:] = 1
    assert torch.equal(inside[0, 0], expected)
    assert inside[1].min() == 1


def test_planes_inside_stay_and_a_constant_image_has_no_inside():
    mr = randn(1, 1, 10, 10, 10)
    mr[:, :, 5] = 0
    assert inside_field_of_view(mr).min() == 1
    assert inside_field_of_view(torch.ones(1, 1, 4, 5, 6)).max() == 0


def test_inside_works_on_slices():
    mr = randn(1, 1, 20, 30)
    mr[..., 0] = 7
    inside = inside_field_of_view(mr)
    assert inside[..., 0].max() == 0
    assert inside[..., 1:].min() == 1


def test_percentiles_are_those_of_numpy_inside():
    image, inside = randn(70, 80, 90), torch.ones(70, 80, 90)
    inside[:20] = 0
    image[:20] = 100
    found = percentiles(image, inside, (1, 50, 99))
    np.testing.assert_allclose(found, np.percentile(image[20:], (1, 50, 99)), atol=0.05)


def test_mr_channels_do_not_depend_on_the_scale_of_the_scanner():
    mr = randn(1, 1, 24, 30, 36).abs()
    inside = torch.ones_like(mr)
    torch.testing.assert_close(
        mr_channels(mr, inside), mr_channels(mr * 137 + 40, inside), atol=2e-4, rtol=0
    )


def test_mr_channels_ignore_what_is_outside():
    mr = randn(1, 1, 24, 30, 36).abs()
    inside = torch.ones_like(mr)
    inside[:, :, :3] = 0
    other = mr.clone()
    other[:, :, :3] = 1e4
    channels = mr_channels(other, inside)
    assert torch.equal(channels, mr_channels(mr, inside))
    assert channels[:, :, :3].abs().max() == 0
    assert channels[:, 0].min() >= 0
    assert channels[:, 0].max() <= 1.5
    assert torch.equal(channels[:, 2:], inside)


def test_second_channel_lessens_the_fall_off_of_a_coil():
    """Stripes under exp(-depth / 80 mm)."""
    z = torch.arange(160.0)
    board = 1 + 0.5 * ((z // 10) % 2)
    mr = (board * torch.exp(-z / 80)).expand(40, 40, 160)[None, None].contiguous()
    channels = mr_channels(mr, torch.ones_like(mr))[0]
    near, far = slice(20, 60), slice(100, 140)

    def ratio(channel):
        return float(channel[..., near].mean() / channel[..., far].mean())

    assert ratio(channels[0]) > 2.5
    assert ratio(channels[1]) < 0.8 * ratio(channels[0])


@pytest.mark.parametrize("spacing", [1.0, (2.0, 1.0, 1.0)])
def test_local_mean_is_the_masked_gaussian(spacing):
    image = randn(1, 1, 40, 90, 100).abs() + torch.linspace(0, 3, 100)
    inside = torch.ones_like(image)
    inside[..., :10] = 0
    sigma = LOCAL_SIGMA_MM / np.broadcast_to(spacing, 3)
    top, weight = (
        gaussian_filter(x[0, 0].numpy().astype(float), sigma, mode="constant", truncate=6)
        for x in (image * inside, inside)
    )
    found = local_mean(image, inside, spacing)[0, 0]
    np.testing.assert_allclose(found, top / weight, rtol=0.02)


def test_channels_work_on_slices():
    mr = randn(2, 1, 60, 70).abs()
    channels = mr_channels(mr, torch.ones_like(mr), 1.0)
    assert channels.shape == (2, 3, 60, 70)
    assert torch.isfinite(channels).all()


def test_dark_share_counts_the_outer_tenths_of_the_robust_scale():
    """1000 values 0 ... 999 of which 300 more are 0: tenths of the scale are 98.6."""
    values = torch.cat([torch.arange(1000.0), torch.zeros(300)])
    low, high = np.percentile(values, [1, 99], method="nearest")
    assert (low, high) == (0, 986)
    dark, bright = 300 + 99, 1000 - 888  # up to 98.6, from 887.4 on
    assert dark_share(values, torch.ones(1300)) == pytest.approx(dark / (dark + bright))
    assert dark_share(999 - values, torch.ones(1300)) == pytest.approx(bright / (dark + bright))


def test_dark_share_knows_only_what_is_inside():
    values = torch.cat([torch.zeros(500), torch.linspace(100, 200, 401)])
    inside = (values > 0).float()
    assert dark_share(values, inside) == pytest.approx(0.5, abs=0.01)
    assert dark_share(torch.full((50,), 3.0), torch.ones(50)) is None
