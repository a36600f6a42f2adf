"""The U-Net of Graf et al. 2023: its published sizes, and each piece against a formula."""

import math

import pytest
import torch

from spinect.nets.sa_unet import Attended, GroupBlock, SAUNet


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({"ndim": 2, "in_channels": 2, "out_channels": 1}, 32_634_113),
        ({"ndim": 2, "in_channels": 2, "out_channels": 2}, 32_634_178),
        ({"ndim": 2, "in_channels": 1, "out_channels": 1, "time": False}, 30_476_097),
        ({"ndim": 2, "in_channels": 1, "out_channels": 1, "width": 32, "time": False}, 7_882_657),
        (
            {
                "ndim": 3,
                "in_channels": 5,
                "out_channels": 1,
                "attention": False,
                "skips": "mean",
            },
            87_307_841,
        ),
        (
            {
                "ndim": 3,
                "in_channels": 4,
                "out_channels": 1,
                "attention": False,
                "skips": "mean",
                "time": False,
            },
            85_131_009,
        ),
    ],
)
def test_parameters_are_as_many_as_published(options, count):
    with torch.device("meta"):
        net = SAUNet(**options)
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize("linear", [True, False])
def test_attention_is_that_of_the_formula(linear):
    """Written out with one axis per index, heads apart, channels first."""
    torch.manual_seed(0)
    module = Attended(2, 24, linear=linear).double()
    x = torch.randn(2, 24, 6, 5, dtype=torch.float64)

    def normed(y):
        centred = y - y.mean(1, keepdim=True)
        return centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt()

    weight = module.queries_keys_values.weight[:, :, 0, 0]
    parts = torch.einsum("oc,bchw->bohw", weight, normed(x)).flatten(2)
    q, k, v = (part.reshape(2, 4, 32, -1) for part in parts.chunk(3, dim=1))
    if linear:
        pairs = torch.einsum("bhdn,bhen->bhde", k.softmax(3), v)
        mixed = torch.einsum("bhde,bhdn->bhen", pairs, q.softmax(2) / math.sqrt(32))
    else:
        weights = (torch.einsum("bhdi,bhdj->bhij", q, k) / math.sqrt(32)).softmax(3)
        mixed = torch.einsum("bhij,bhdj->bhdi", weights, v)
    y = torch.einsum("oc,bcn->bon", module.join.weight[:, :, 0, 0], mixed.reshape(2, 128, -1))
    y = y + module.join.bias[:, None]
    expected = x + (normed(y) if linear else y).reshape(x.shape)
    torch.testing.assert_close(module(x), expected)
    layout = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(module(layout), expected)


def test_a_block_without_time_and_with_another_width_has_a_shortcut():
    block = GroupBlock(2, 8, 16, told=0)
    for parameter in block.last_norm.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(block(x), block.shortcut(x))  # silu(0) = 0


@pytest.mark.parametrize(("ndim", "skips"), [(2, "concat"), (3, "mean")])
def test_sizes_stages_and_times(ndim, skips):
    """Any multiple of the divisor; the last stage is the output; the time matters."""
    torch.manual_seed(0)
    net = SAUNet(ndim, 2, 1, width=8, multiples=(1, 2), attention=ndim == 2, skips=skips)
    assert net.divisor == 2
    x = torch.randn(2, 2, *(6, 10, 4)[:ndim])
    early, late = net(x, torch.tensor([0.0, 0.0])), net(x, torch.tensor([900.0, 900.0]))
    assert early.shape == (2, 1, *x.shape[2:])
    assert (early - late).abs().max() > 1e-4
    stages = list(net.stages(x, torch.tensor([0.0, 0.0])))
    torch.testing.assert_close(stages[-1], early)
    per_level = 3 if ndim == 2 else 2
    # stem, two levels and one halving, the middle, two levels and one doubling, tail, output
    assert len(stages) == 1 + 2 * per_level + 1 + per_level + 2 * per_level + 1 + 2


def test_mean_skips_average_what_the_encoder_saw():
    """With blocks that change nothing the way up sees the mean of two equal things."""
    net = SAUNet(2, 1, 1, width=8, multiples=(1,), attention=False, skips="mean", time=False)
    seen = []
    hook = net.up[0].first.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    x = torch.randn(1, 1, 4, 4)
    stages = list(net.stages(x))
    hook.remove()
    skip, middle = stages[2], stages[4]
    torch.testing.assert_close(seen[0], (skip + middle) / 2)


def test_tanh_bounds_the_output():
    net = SAUNet(2, 1, 1, width=8, multiples=(1,), time=False, tanh=True)
    assert net(100 * torch.randn(1, 1, 8, 8)).abs().max() <= 1
