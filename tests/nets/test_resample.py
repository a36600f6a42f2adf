"""Filters that change the size: against torch's own convolutions and interpolation."""

import pytest
import torch
import torch.nn.functional as F

from spinect.nets.resample import BlurDown, BlurUp, separable

LINEAR = {2: "bilinear", 3: "trilinear"}
CONV = {2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {2: F.conv_transpose2d, 3: F.conv_transpose3d}


def image(ndim, channels=3):
    return torch.randn(2, channels, *(8, 6, 10)[:ndim], generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("ndim", [2, 3])
def test_a_constant_stays_one(ndim):
    """Gain 1 at frequency 0, borders included."""
    flat = torch.full((1, 2, *[6] * ndim), 0.37)
    for layer, size in ((BlurDown(ndim), 3), (BlurUp(ndim), 12)):
        out = layer(flat)
        assert out.shape == (1, 2, *[size] * ndim)
        torch.testing.assert_close(out, torch.full_like(out, 0.37))


@pytest.mark.parametrize("ndim", [2, 3])
def test_down_is_one_grouped_convolution(ndim):
    """[1, 2, 1] / 4 along each axis, written as products by hand."""
    x = image(ndim)
    line = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = line[:, None] * line
    kernel = kernel[..., None] * line if ndim == 3 else kernel
    padded = F.pad(x, [1, 1] * ndim, mode="reflect")
    expected = CONV[ndim](padded, kernel.expand(3, 1, *[3] * ndim), stride=2, groups=3)
    torch.testing.assert_close(BlurDown(ndim)(x), expected)


@pytest.mark.parametrize("ndim", [2, 3])
def test_up_is_the_published_transposed_convolution(ndim):
    """The form of antialiased-cnns crops the first row and then the last one."""
    x = image(ndim)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    kernel = line[:, None] * line
    kernel = kernel[..., None] * line if ndim == 3 else kernel
    padded = F.pad(x, [1, 1] * ndim, mode="replicate")
    weight = kernel.expand(3, 1, *[4] * ndim)
    long = TRANSPOSED[ndim](padded, weight, stride=2, padding=2, groups=3)
    long = long[(..., *[slice(1, None)] * ndim)][(..., *[slice(None, -1)] * ndim)]
    torch.testing.assert_close(BlurUp(ndim)(x), long)


@pytest.mark.parametrize("ndim", [2, 3])
def test_up_is_linear_interpolation(ndim):
    """Quarter and three quarters of the neighbours: what torch interpolates, borders too."""
    x = image(ndim)
    expected = F.interpolate(x, scale_factor=2, mode=LINEAR[ndim], align_corners=False)
    torch.testing.assert_close(BlurUp(ndim)(x), expected)


def test_kernels_have_the_wanted_sum():
    """Whatever the scale of the weights."""
    torch.testing.assert_close(separable((2, 6, 6, 2), 2), separable((1, 3, 3, 1), 2))
    assert separable((1, 2, 1), 3, gain=5.0).sum().item() == pytest.approx(5.0)


def test_the_highest_frequency_is_gone_before_halving():
    """A chessboard aliases to a constant where strides halve, and to nothing here."""
    board = torch.ones(8, 8)
    board[::2, 1::2] = board[1::2, ::2] = -1
    assert BlurDown(2)(board[None, None]).abs().max() < 1e-7
    assert board[::2, ::2].min() == 1
