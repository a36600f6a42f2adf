"""Pieces of the networks against formulas."""

import math

import pytest
import torch

from spinect.nets.blocks import depth_to_space, rms_norm, sinusoids, space_to_depth


@pytest.mark.parametrize("shape", [(2, 5, 6, 4), (2, 5, 6, 4, 3)])
def test_rms_norm_is_torchs_over_channels(shape):
    """Value and gradient against torch.nn.functional.rms_norm on the channels."""
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    ours = rms_norm(x)
    theirs = torch.nn.functional.rms_norm(x.movedim(1, -1), (5,), eps=1e-6).movedim(-1, 1)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn(shape, dtype=torch.float64)
    (grad,) = torch.autograd.grad((ours * weight).sum(), x, retain_graph=True)
    (expected,) = torch.autograd.grad((theirs * weight).sum(), x)
    torch.testing.assert_close(grad, expected)


def test_rms_norm_of_nothing_is_nothing():
    """A voxel of zeros stays finite, forward and backward."""
    x = torch.zeros(1, 4, 2, 2, requires_grad=True)
    rms_norm(x).sum().backward()
    assert (rms_norm(x) == 0).all()
    assert x.grad is not None
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(("shape", "factor"), [((2, 3, 4, 6), 2), ((1, 3, 4, 8, 4), 4)])
@pytest.mark.parametrize("last", [False, True])
def test_space_to_depth_keeps_each_cell_together(shape, factor, last):
    """Channel (offset, c) of a cell is channel c of the voxel at that offset; and back."""
    x = torch.arange(torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)
    if last:
        layout = torch.channels_last if len(shape) == 4 else torch.channels_last_3d
        x = x.contiguous(memory_format=layout)
    cells = space_to_depth(x, factor)
    n = len(shape) - 2
    assert cells.shape == (shape[0], shape[1] * factor**n, *(s // factor for s in shape[2:]))
    for number in range(factor**n):
        offset = [number // factor ** (n - 1 - axis) % factor for axis in range(n)]
        voxels = x[(slice(None), slice(None), *(slice(o, None, factor) for o in offset))]
        channels = cells[:, number * shape[1] : (number + 1) * shape[1]]
        assert torch.equal(channels, voxels)
    assert torch.equal(depth_to_space(cells, factor), x)


def test_sinusoids():
    """Sines first; frequencies fall from 1 to 1e-4."""
    found = sinusoids(torch.tensor([0, 3]), 4)
    expected = [[0, 0, 1, 1], [math.sin(3), math.sin(3e-4), math.cos(3), math.cos(3e-4)]]
    torch.testing.assert_close(found, torch.tensor(expected))
