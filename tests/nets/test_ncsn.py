"""The diffusive generator and its critic: published sizes, beginnings, styles, groups."""

import math

import pytest
import torch

from spinect.errors import ConfigError
from spinect.nets.ncsn import NCSN, Attention, StyledNorm
from spinect.nets.noise_critic import NoiseCritic

SMALL = {"width": 8, "multiples": (1, 2, 2), "blocks": 1, "mapped": 16}


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.fixture(scope="module")
def published():
    torch.manual_seed(0)
    return NCSN(2, 2, 2)


def made(ndim=2, seed=0, **fields):
    torch.manual_seed(seed)
    return NCSN(ndim, 2, 2, **{**SMALL, "attention": 1, **fields})


def stirred(network, std=0.1):
    """Weights that are no longer nearly 0."""
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0.0, std)
    return network


def test_the_published_networks_have_their_parameters(published):
    """Read from the published code, images of 256 and of 128 voxels."""
    assert count(published) == 39_725_250
    with torch.device("meta"):
        assert count(NCSN(2, 2, 2, attention=3)) == 39_133_122
        assert [count(NoiseCritic(2, 2, width=w)) for w in (64, 32, 16)] == [
            27_736_705,
            7_216_705,
            1_994_785,
        ]


def test_it_starts_at_nothing(published):
    """So that the first |x0 - x| is the mean of |x|; published: standard deviation 8e-6."""
    x = torch.randn(1, 2, 64, 64)
    with torch.no_grad():
        out = published(x, torch.tensor([2]), torch.randn(1, 100))
    assert out.shape == (1, 2, 64, 64)
    assert 0 < out.std() < 1e-4


@pytest.mark.parametrize("size", [(16, 8), (12, 20), (8, 4, 12)])
def test_any_multiple_of_the_divisor_fits(size):
    """Attention lies on a level, not where an image has some size, so no size breaks it."""
    network = made(len(size))
    assert network.divisor == 4
    out = network(torch.randn(2, 2, *size), torch.tensor([0, 3]), torch.randn(2, 100))
    assert out.shape == (2, 2, *size)


def test_attention_is_where_it_is_told():
    """One in the middle; one per block of its level on the way down, one on the way up."""
    for level, found in ((1, 2 + 1 + 1), (9, 1)):
        network = made(blocks=2, attention=level)
        assert sum(isinstance(part, Attention) for part in network.modules()) == found


def test_attention_is_the_formula():
    """One head, scaled by sqrt(C), over all voxels."""
    torch.manual_seed(0)
    attend = stirred(Attention(2, 8)).double()
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    h = attend.norm(x)
    q, k, v = (
        torch.einsum("oc,bcyx->boyx", part.weight[:, :, 0, 0], h) + part.bias[:, None, None]
        for part in (attend.queries, attend.keys, attend.values)
    )
    share = torch.einsum("bcyx,bcuv->byxuv", q, k).flatten(3).div(math.sqrt(8)).softmax(3)
    mixed = torch.einsum("byxn,bcn->bcyx", share, v.flatten(2))
    expected = (x + attend.join(mixed)) / math.sqrt(2)
    torch.testing.assert_close(attend(x), expected)


def test_the_style_of_zeros_is_plain_group_norm():
    """Gain 1, shift 0; another style changes both."""
    norm = StyledNorm(8, 6)
    x, style = torch.randn(2, 8, 4, 4), torch.randn(2, 6)
    plain = torch.nn.functional.group_norm(x, 2, eps=1e-6)
    torch.testing.assert_close(norm(x, torch.zeros(2, 6)), plain)
    assert (norm(x, style) - plain).abs().max() > 0.1
    torch.nn.init.zeros_(norm.style.weight)
    torch.testing.assert_close(norm(x, style), plain)


@pytest.mark.parametrize(("channels", "groups"), [(4, 1), (64, 16), (192, 32), (144, 24), (6, 1)])
def test_groups_divide_the_channels(channels, groups):
    """Where 32 groups, or groups of 4, do not divide them, fewer do."""
    assert StyledNorm(channels, 4).groups == groups


def test_each_image_has_its_own_style_and_step():
    """Another style, or step, of one image changes that image alone."""
    network = stirred(made())
    x, step, style = torch.randn(2, 2, 8, 8), torch.tensor([1, 2]), torch.randn(2, 100)
    first = network(x, step, style)
    other = network(x, torch.tensor([1, 3]), style)
    style[1] = torch.randn(100)
    styled = network(x, step, style)
    for changed in (other, styled):
        torch.testing.assert_close(changed[0], first[0])
        assert (changed[1] - first[1]).abs().max() > 1e-4


def test_the_critic_starts_undecided():
    """Published: logits within 0.05."""
    torch.manual_seed(0)
    critic = NoiseCritic(2, 2, width=16)
    scores = critic(torch.randn(4, 2, 64, 128), torch.arange(4))
    assert scores.shape == (4, 1)
    assert scores.abs().max() < 0.05


@pytest.mark.parametrize("images", [1, 2, 3, 4, 5, 6, 8])
def test_the_critic_takes_any_batch(images):
    """Groups of the largest number up to 4 that divides the batch; each sees its own spread."""
    torch.manual_seed(0)
    critic = stirred(NoiseCritic(2, 2, width=4, halvings=2), 0.5).double()
    x = torch.randn(images, 2, 8, 8, dtype=torch.float64)
    step = torch.zeros(images, dtype=torch.int64)
    scores = critic(x, step)
    assert scores.isfinite().all()
    size = next(n for n in (4, 3, 2, 1) if images % n == 0)
    x[0] += torch.randn_like(x[0])
    changed = ((critic(x, step) - scores).abs() > 1e-9).flatten().nonzero().flatten().tolist()
    assert changed == [n * images // size for n in range(size)]


def test_the_critic_refuses_small_patches():
    with pytest.raises(ConfigError, match="48 x 64"):
        NoiseCritic(2, 2, width=4)(torch.zeros(1, 2, 48, 64), torch.zeros(1))


def test_the_critic_sums_over_positions():
    """Scores grow with the image: far from the border, twice the size gives about four times."""
    torch.manual_seed(0)
    critic = NoiseCritic(2, 2, width=8, halvings=2)
    flat = torch.full((1, 2, 128, 128), 0.5)
    step = torch.zeros(1, dtype=torch.int64)
    small, large = critic(flat[..., :64, :64], step), critic(flat, step)
    assert (large / small).item() == pytest.approx(4, rel=0.3)
