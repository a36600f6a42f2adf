"""The U-Net: shapes, size, reach, and that no voxel hears of the tile it lies in."""

import pytest
import torch
from torch import nn

from spinect.errors import ConfigError
from spinect.methods.registry import build
from spinect.nets.unet import UNet

SMALL = {"channels": (8, 12), "blocks": (1, 1), "decoder_blocks": (1,), "head": 6}


def alive(net):
    """The same network with no weight at zero, so that every path carries something."""
    generator = torch.Generator().manual_seed(0)
    for parameter in net.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        fan = max(parameter[0].numel(), 1) if parameter.ndim > 1 else 100
        parameter.data = noise.to(parameter.dtype) / fan**0.5
    return net.eval()


def conv_parameters(ndim, inputs, outputs, kernel):
    return inputs * outputs * kernel**ndim + outputs


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("stem", [1, 2])
def test_shapes_and_parameters(ndim, stem):
    """Counted by hand: entry, blocks, down, up, skip, and the two heads."""
    net = UNet(ndim, 3, 5, 4, **SMALL, stem=stem)
    size = (16,) * ndim
    fine, coarse = net(torch.randn(2, 3, *size))
    assert fine.shape == (2, 5, *size)
    assert coarse.shape == (2, 4, *(s // stem for s in size))
    assert net.divisor == 2 * stem
    cell = stem**ndim
    expected = (
        conv_parameters(ndim, 3 * cell, 8, 3)
        + 4 * conv_parameters(ndim, 8, 8, 3)
        + 2 * conv_parameters(ndim, 12, 12, 3)
        + conv_parameters(ndim, 8, 12, 2)
        + conv_parameters(ndim, 12, 8, 1)
        + conv_parameters(ndim, 8, 8, 1)
        + conv_parameters(ndim, 8, 3 * cell, 1)
        + conv_parameters(ndim, 6, 6, 3)
        + conv_parameters(ndim, 6, 5, 3)
        + conv_parameters(ndim, 8, 5 * cell, 1)
        + conv_parameters(ndim, 8, 4, 1)
    )
    assert sum(p.numel() for p in net.parameters()) == expected


def test_the_shipped_size_fits_sixteen_megabytes():
    """Default channels, four heads, fp16; the limit of a bundle is 16 MB."""
    for name in ("regression", "segmentation"):
        method = build(name, {})
        assert sum(p.numel() for p in method.parameters()) * 2 < 16e6


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("stem", [1, 2])
def test_nothing_beyond_the_reach_is_heard(ndim, stem):
    """The Jacobian of one voxel's output is zero beyond `reach`, and not zero near it."""
    net = alive(UNet(ndim, 1, 1, **SMALL, stem=stem)).double()
    size = 2 * net.reach + 12
    size += -size % net.divisor
    width = size if ndim == 2 else 4 * net.divisor
    shape = (size, *[width] * (ndim - 1))
    x = torch.randn(1, 1, *shape, dtype=torch.float64, requires_grad=True)
    where = (size // 2, *[width // 2] * (ndim - 1))
    net(x)[0][(0, 0, *where)].backward()
    assert x.grad is not None
    lines = x.grad[0, 0].abs().reshape(size, -1).amax(dim=1).nonzero()[:, 0]
    heard = max(where[0] - int(lines[0]), int(lines[-1]) - where[0])
    assert heard <= net.reach
    assert heard >= net.reach - 3 * net.divisor


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_tile_does_not_matter(ndim):
    """Voxels further than `reach` from a tile's edge come out the same in a larger tile."""
    net = alive(UNet(ndim, 2, 3, 2, channels=(8, 12), blocks=(1, 0), decoder_blocks=(0,), head=6))
    net = net.double()
    reach = net.reach + -net.reach % net.divisor
    big = 2 * reach + 4 * net.divisor
    x = torch.randn(1, 2, *[big] * ndim, dtype=torch.float64)
    inner = (..., *[slice(net.divisor, -net.divisor)] * ndim)
    whole, whole_cells = net(x)
    tile, tile_cells = net(x[inner])
    keep = (..., *[slice(reach, -reach)] * ndim)
    assert whole[inner][keep].numel() > 0
    torch.testing.assert_close(tile[keep], whole[inner][keep], rtol=0, atol=1e-12)
    cells = (..., *[slice(net.divisor // 2, -net.divisor // 2)] * ndim)
    keep = (..., *[slice(reach // 2, -reach // 2)] * ndim)
    torch.testing.assert_close(tile_cells[keep], whole_cells[cells][keep], rtol=0, atol=1e-12)


def test_every_parameter_of_the_embedding_is_heard():
    """The noise level changes the output, and each sample has its own."""
    net = alive(UNet(2, 1, 1, **SMALL, embedding=16))
    x = torch.randn(1, 1, 8, 8).expand(2, -1, -1, -1)
    out = net(x, torch.tensor([0.1, 2.0]))[0]
    assert (out[0] - out[1]).abs().max() > 1e-3
    again = net(x.flip(0), torch.tensor([2.0, 0.1]))[0]
    torch.testing.assert_close(again.flip(0), out)


def test_a_precise_network_ends_in_float32():
    """Under autocast the last convolution keeps its digits in evaluation, not in training."""
    net = UNet(2, 1, 1, **SMALL, precise=True)
    x = torch.randn(1, 1, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert net.train()(x)[0].dtype == torch.bfloat16
        assert net.eval()(x)[0].dtype == torch.float32


def test_levels_that_disagree_are_refused():
    """Lengths of channels, blocks and decoder_blocks belong together."""
    with pytest.raises(ConfigError, match="2 levels"):
        UNet(2, 1, 1, channels=(8, 12), blocks=(1,), decoder_blocks=(1,))


def test_no_layer_takes_statistics_over_space():
    """Batch, group and instance norms make bone depend on the tile by tens of HU."""
    net = UNet(3, 1, 1, **SMALL)
    kinds = {type(module) for module in net.modules()} - {UNet, nn.ModuleList}
    assert {kind.__name__ for kind in kinds} == {"Conv3d", "ResidualBlock"}
