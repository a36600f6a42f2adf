"""Taps of the generators and their heads: counts of the published networks, shapes, lengths."""

import pytest
import torch

from spinect.errors import ConfigError
from spinect.nets.patch_features import PatchFeatures, tap_widths, tapped
from spinect.nets.resnet import ResnetGenerator
from spinect.nets.sa_unet import SAUNet

ORIGINAL = {"width": 64, "halvings": 2, "blocks": 9}
GRAF = {"width": 32, "halvings": 1, "blocks": 6, "filtered": False}
TAPS = (0, 4, 8, 12, 16)


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("channels", "shape", "network", "heads"),
    [
        (1, ORIGINAL, 11_365_633, 559_872),
        (3, ORIGINAL, 11_378_179, 560_384),
        (1, ORIGINAL | {"filtered": False}, 11_365_633, 559_872),
        (1, GRAF, 483_265, 387_840),
    ],
)
def test_published_sizes(channels, shape, network, heads):
    """Parameters of the generators and of their heads."""
    net = ResnetGenerator(2, channels, channels, **shape)
    assert count(net) == network
    assert count(PatchFeatures(tap_widths(net, 2, channels, TAPS))) == heads


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        (ORIGINAL, [(1, 64), (128, 64), (256, 32), (256, 16), (256, 16)]),
        (ORIGINAL | {"filtered": False}, [(1, 64), (128, 32), (256, 16), (256, 16), (256, 16)]),
        (GRAF, [(1, 64), (64, 32), (64, 32), (64, 32), (32, 70)]),
    ],
)
def test_features_at_the_published_taps(shape, sizes):
    """Width and size of each; the last one of Graf et al. is the decoder's padded one."""
    found = tapped(ResnetGenerator(2, 1, 1, **shape), torch.randn(1, 1, 64, 64), TAPS)
    assert [(f.shape[1], f.shape[2]) for f in found] == sizes


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("kind", ["resnet", "sa_unet"])
def test_taps_are_stages_and_the_network_stops_there(ndim, kind):
    """Tap 0 is the input; nothing runs beyond the last tap."""
    if kind == "resnet":
        net = ResnetGenerator(ndim, 2, 1, width=4, halvings=1, blocks=2)
    else:
        net = SAUNet(ndim, 2, 1, width=8, multiples=(1, 2), attention=ndim == 2, time=False)
    x = torch.randn(2, 2, *[8] * ndim)
    stages = list(net.stages(x))
    taps = (0, 2, 5)
    found = tapped(net, x, taps)
    assert found[0] is x
    for feature, tap in zip(found[1:], taps[1:], strict=True):
        torch.testing.assert_close(feature, stages[tap])
    assert tap_widths(net, ndim, 2, taps) == tuple(f.shape[1] for f in found)
    last = list(net.modules())[-1]  # the output's own: not run on the way to any tap
    last.register_forward_pre_hook(lambda *_: pytest.fail("ran on"))
    tapped(net, x, taps)
    assert len(tapped(net, x, (0,))) == 1


def test_counting_taps_leaves_the_network_alone():
    """The dry run moves no weight and draws no number."""
    net = ResnetGenerator(2, 1, 1, width=4, halvings=1, blocks=2)
    before = torch.get_rng_state()
    tap_widths(net, 2, 1, (0, 4))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(p.device.type == "cpu" for p in net.parameters())


@pytest.mark.parametrize(
    ("taps", "word"), [((0, 99), "99"), ((4, 0), "sort"), ((), "sort"), ((-1, 2), "sort")]
)
def test_taps_that_do_not_exist_are_refused(taps, word):
    with pytest.raises(ConfigError, match=word):
        tap_widths(ResnetGenerator(2, 1, 1, width=4, halvings=1, blocks=2), 2, 1, taps)


def test_vectors_stand_at_their_places():
    """Row p is the head of the feature at place p; its length is 1 but for 1e-7."""
    heads = PatchFeatures([3, 5], size=16)
    features = [torch.randn(2, 3, 4, 6), torch.randn(2, 5, 2, 3)]
    places = [torch.tensor([[0, 7, 23], [5, 5, 1]]), torch.tensor([[4], [2]])]
    vectors = heads(features, places)
    assert [v.shape for v in vectors] == [(2, 3, 16), (2, 1, 16)]
    for vector in vectors:
        torch.testing.assert_close(vector.norm(dim=2), torch.ones(vector.shape[:2]))
    alone = heads.heads[0](features[0][0, :, 1, 1])  # place 7 of 4 x 6
    torch.testing.assert_close(vectors[0][0, 1], alone / alone.norm())


def test_the_1e_7_stands_outside_the_root():
    """A vector of length 1e-7 comes out half as long as it should be; a null vector stays null."""
    heads = PatchFeatures([2], size=4)
    first, _, last = heads.heads[0]
    torch.nn.init.zeros_(first.bias)
    torch.nn.init.zeros_(last.weight)
    with torch.no_grad():
        last.bias.copy_(torch.tensor([1e-7, 0, 0, 0]))
    here = torch.zeros(1, 1, dtype=torch.int64)
    (vector,) = heads([torch.randn(1, 2, 2)], [here])
    assert vector.norm().item() == pytest.approx(0.5)
    torch.nn.init.zeros_(last.bias)
    (vector,) = heads([torch.randn(1, 2, 2, requires_grad=True)], [here])
    assert vector.norm() == 0
    vector.sum().backward()
    assert all(p.grad.isfinite().all() for p in heads.parameters())


def test_half_precision_features_give_full_precision_vectors():
    heads = PatchFeatures([3], size=8)
    with torch.autocast("cpu", torch.bfloat16):
        (vector,) = heads([torch.randn(1, 3, 4).bfloat16()], [torch.zeros(1, 2, dtype=torch.int64)])
    assert vector.dtype == torch.float32
