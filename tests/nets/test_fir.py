"""Filters that halve and double, against zeros, sums and plain correlation written out."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from spinect.nets.fir import FirConvDown, FirDown, FirUp

LINE = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8


def correlate(x, kernel, padding):
    """y[p] = sum over k of x[p + k] * kernel[k], with zeros around x."""
    n = kernel.ndim
    x = F.pad(x, [padding] * (2 * n))
    size = [s - k + 1 for s, k in zip(x.shape[2:], kernel.shape, strict=True)]
    out = x.new_zeros(*x.shape[:2], *size)
    for place in itertools.product(*map(range, kernel.shape)):
        part = x
        for axis, (start, count) in enumerate(zip(place, size, strict=True)):
            part = part.narrow(axis + 2, start, count)
        out += kernel[place] * part
    return out


def every_second(x, start=0):
    return x[(..., *[slice(start, None, 2)] * (x.ndim - 2))]


def filter_of(ndim):
    kernel = LINE
    for _ in range(ndim - 1):
        kernel = kernel[..., None] * LINE
    return kernel


@pytest.mark.parametrize("size", [(6, 8), (7, 5), (4, 6, 8)])
def test_they_are_what_they_say(size):
    """Halved: filter, every second voxel. Doubled: zeros between voxels, four times the filter."""
    ndim = len(size)
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    kernel = filter_of(ndim)
    halved = every_second(correlate(x, kernel, 1))
    torch.testing.assert_close(FirDown(ndim)(x), halved, rtol=0, atol=1e-15)
    spread = x.new_zeros(2, 3, *(2 * s for s in size))
    spread[(..., *[slice(0, None, 2)] * ndim)] = x
    doubled = correlate(spread, 2**ndim * kernel, 2)
    doubled = doubled[(..., *[slice(0, 2 * s) for s in size])]
    torch.testing.assert_close(FirUp(ndim)(x), doubled, rtol=0, atol=1e-15)


@pytest.mark.parametrize("size", [(6, 8), (4, 6, 8)])
def test_the_convolution_follows_the_filter(size):
    """Half the size, and no border but the zeros of the filter."""
    ndim = len(size)
    down = FirConvDown(ndim, 2, 3).double()
    x = torch.randn(2, 2, *size, dtype=torch.float64)
    run = F.conv2d if ndim == 2 else F.conv3d
    wide = correlate(x, filter_of(ndim), 2)
    expected = every_second(run(wide, down.conv.weight, down.conv.bias))
    torch.testing.assert_close(down(x), expected, rtol=0, atol=1e-14)
    assert down(x).shape[2:] == tuple(s // 2 for s in size)


def test_constants_stay_inside_and_darken_at_the_border():
    """The published figures: 0.875 and 0.766 when halved, 0.75 and 0.5625 when doubled."""
    ones = torch.ones(1, 1, 8, 8)
    down, up = FirDown(2)(ones)[0, 0], FirUp(2)(ones)[0, 0]
    assert (down[1:-1, 1:-1] == 1).all()
    assert (up[1:-1, 1:-1] == 1).all()
    assert (down[0, 1], down[0, 0]) == (0.875, 0.765625)
    assert (up[0, 1], up[0, 0]) == (0.75, 0.5625)


@pytest.mark.parametrize("make", [FirDown, FirUp, lambda n: FirConvDown(n, 2, 2)])
def test_they_can_be_differentiated_twice(make):
    """A penalty on gradients needs the second derivative too."""
    part = make(2).double()
    x = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)

    def squared(x):  # linear alone, the second derivative would be 0
        return part(x).square()

    assert torch.autograd.gradcheck(squared, x)
    assert torch.autograd.gradgradcheck(squared, x)
