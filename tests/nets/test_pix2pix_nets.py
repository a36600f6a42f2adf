"""The U-Nets and the critic of pix2pix: published sizes, and plain formulas of what they do."""

import pytest
import torch
import torch.nn.functional as F
from monai.networks.nets import PatchDiscriminator
from torch import nn

from spinect.nets.critic import PatchCritic
from spinect.nets.double_conv_unet import DoubleConvUNet
from spinect.nets.sa_unet import SAUNet
from spinect.nets.skip_unet import SkipUNet

FLAT = {"attention": False, "skips": "mean"}
# Counted on the published networks, or, for the self-attention U-Nets without time, which were
# never published, on those networks without the layers that are told the time.
SIZES = [
    (lambda: SkipUNet(2, 1, 1, norm="batch"), 54_407_809),
    (lambda: SkipUNet(2, 3, 3, norm="batch"), 54_413_955),
    (lambda: SkipUNet(2, 1, 1, norm="instance", dropout=0.5), 54_403_457),
    (lambda: SkipUNet(2, 1, 1, norm="batch", depth=7), 41_822_849),
    (lambda: SkipUNet(2, 3, 3, norm="batch", depth=7), 41_828_995),
    (lambda: DoubleConvUNet(2, 1, 1), 397_025_313),
    (lambda: DoubleConvUNet(2, 1, 1, levels=5), 99_208_225),
    (lambda: DoubleConvUNet(2, 1, 1, width=16, levels=4), 1_548_809),
    (lambda: DoubleConvUNet(2, 1, 1, width=32, levels=4), 6_189_841),
    (lambda: SAUNet(2, 1, 1, time=False, tanh=True), 30_476_097),
    (lambda: SAUNet(2, 1, 1, width=32, time=False, tanh=True), 7_882_657),
    (lambda: SAUNet(3, 4, 1, **FLAT, time=False, tanh=True), 85_131_009),
    (lambda: PatchCritic(2, 2, norm="batch"), 2_764_609),
    (lambda: PatchCritic(2, 6, norm="batch"), 2_768_705),
    (lambda: PatchCritic(2, 2), 2_763_713),
    (lambda: PatchCritic(2, 2, norm="none"), 2_763_713),
    (lambda: PatchCritic(2, 2, wide=False), 661_953),
    (lambda: PatchCritic(3, 2, wide=False), 2_646_465),
    (lambda: PatchCritic(3, 2, wide=False, halvings=4), 11_051_969),
]


@pytest.mark.parametrize(("make", "expected"), SIZES, ids=[str(size) for _, size in SIZES])
def test_parameters_are_those_published(make, expected):
    with torch.device("meta"):
        net = make()
    assert sum(p.numel() for p in net.parameters()) == expected


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda ndim: SkipUNet(ndim, 2, 1, width=3, depth=3),
        lambda ndim: DoubleConvUNet(ndim, 2, 1, width=4, levels=1),
    ],
    ids=["skip", "double_conv"],
)
def test_the_smallest_image_of_one_comes_out_as_it_went_in(make, ndim):
    """One image of the size of `divisor`, in training; the last stage is the answer."""
    net = make(ndim)
    x = torch.randn(1, 2, *[net.divisor] * ndim)
    out = net(x)
    assert out.shape == (1, 1, *x.shape[2:])
    assert out.abs().max() <= 1
    *_, last = net.eval().stages(x)
    torch.testing.assert_close(net(x), last, rtol=0, atol=0)


def test_skip_unet_is_the_papers_formula():
    """Three levels written out, with the activation that the published code applies in place, so
    that the skips carry it too: on the way up a ReLU follows, and nothing changes.
    """
    torch.manual_seed(0)
    net = SkipUNet(2, 2, 1, width=3, depth=3)
    w = {key: value.detach() for key, value in net.named_parameters()}
    x = torch.randn(2, 2, 16, 24)

    def down(h, key):
        return F.conv2d(h, w[f"down.{key}.weight"], w[f"down.{key}.bias"], stride=2, padding=1)

    def up(h, key):
        weight, bias = w[f"up.{key}.1.weight"], w[f"up.{key}.1.bias"]
        return F.conv_transpose2d(F.relu(h), weight, bias, stride=2, padding=1)

    first = F.leaky_relu(down(x, "0"), 0.2)
    second = F.leaky_relu(F.instance_norm(down(first, "1.1")), 0.2)
    inner = F.instance_norm(up(down(second, "2.1"), "0"))
    outer = F.instance_norm(up(torch.cat([inner, second], dim=1), "1"))
    expected = up(torch.cat([outer, first], dim=1), "2").tanh()
    torch.testing.assert_close(net(x), expected)


def test_double_conv_unet_is_the_papers_formula():
    """One level written out: the border is mirrored after each norm, not before the convolution."""
    torch.manual_seed(0)
    net = DoubleConvUNet(2, 2, 1, width=4, levels=1).eval()
    x = torch.randn(2, 2, 8, 16)

    def settled(h, block, at, slope):
        h = F.pad(
            F.instance_norm(F.conv2d(h, block[at].weight, block[at].bias)), [1] * 4, "reflect"
        )
        return F.relu(h) if slope is None else F.prelu(h, slope)

    (down,), (shrink,), (grow,), (up,) = net.down, net.shrink, net.grow, net.up
    skip = settled(settled(x, down, 0, down[3].weight), down, 4, down[7].weight)
    h = F.conv2d(skip, shrink.weight, shrink.bias, stride=2)
    h = settled(settled(h, net.bridge, 0, None), net.bridge, 5, None)
    h = torch.cat([F.conv_transpose2d(h, grow.weight, grow.bias, stride=2), skip], dim=1)
    h = settled(settled(h, up, 0, up[3].weight), up, 4, up[7].weight)
    torch.testing.assert_close(net(x), F.conv2d(h, net.out.weight, net.out.bias).tanh())


@pytest.mark.parametrize(("depth", "expected"), [(5, 0), (6, 1), (7, 2), (8, 3)])
def test_dropout_lies_between_the_innermost_and_the_fourth_level(depth, expected):
    net = SkipUNet(2, 1, 1, width=1, depth=depth, dropout=0.5)
    drops = [i for i, level in enumerate(net.up) for m in level if isinstance(m, nn.Dropout)]
    assert drops == list(range(1, 1 + expected))


def test_batch_norm_of_one_image_is_instance_norm():
    """In training, and at the start, where gains are 1 and shifts 0."""
    batch, instance = (SkipUNet(2, 1, 1, width=4, depth=3, norm=n) for n in ("batch", "instance"))
    taken = instance.state_dict()
    for key, value in taken.items():
        taken[key] = batch.state_dict().get(key, torch.zeros_like(value))
    instance.load_state_dict(taken)
    # The norms of the one have shifts where the convolutions of the other have biases: all zero.
    x = torch.randn(1, 1, 16, 16)
    torch.testing.assert_close(batch(x), instance(x))


@pytest.mark.parametrize(
    ("options", "reach"),
    [({}, 70), ({"wide": False}, 46), ({"filtered": True}, 84)],
    ids=["original", "graf2023", "filtered"],
)
def test_a_score_sees_its_patch(options, reach):
    """The gradient of one score by the input: as wide and high as published."""
    critic = PatchCritic(2, 1, width=2, **options).double().eval()
    for module in critic.modules():
        if isinstance(module, nn.InstanceNorm2d):  # it looks at the whole image
            module.forward = lambda x: x
    x = torch.randn(1, 1, 160, 160, dtype=torch.float64, requires_grad=True)
    scores = critic(x)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    for axis in (0, 1):
        lines = x.grad[0, 0].abs().amax(dim=axis).nonzero()[:, 0]
        assert int(lines[-1] - lines[0]) + 1 == reach


@pytest.mark.parametrize(("size", "scores"), [(256, 30), (128, 14)])
def test_the_critic_answers_like_monais(size, scores):
    """PatchDiscriminator with the same weights, batch norm in training."""
    torch.manual_seed(0)
    ours = PatchCritic(2, 2, width=4, norm="batch")
    theirs = PatchDiscriminator(2, 4, 2, num_layers_d=3, norm="BATCH")
    values = list(ours.state_dict().values())
    state = theirs.state_dict()
    assert [v.shape for v in state.values()] == [v.shape for v in values]
    theirs.load_state_dict(dict(zip(state, values, strict=True)))
    x = torch.randn(2, 2, size, size)
    out = ours(x)
    assert out.shape == (2, 1, scores, scores)
    torch.testing.assert_close(out, theirs(x)[-1])


@pytest.mark.parametrize("options", [{}, {"wide": False}, {"halvings": 2}, {"filtered": True}])
@pytest.mark.parametrize("ndim", [2, 3])
def test_the_smallest_image_leaves_one_score(options, ndim):
    critic = PatchCritic(ndim, 1, width=2, **options)
    size = critic.smallest
    assert critic(torch.randn(1, 1, *[size] * ndim)).shape == (1, 1, *[1] * ndim)
    with pytest.raises((RuntimeError, ValueError)):
        critic(torch.randn(1, 1, *[size - 1] * ndim))


def test_averaged_scores_are_the_maps_mean():
    plain, averaged = PatchCritic(2, 1, width=2), PatchCritic(2, 1, width=2, averaged=True)
    averaged.load_state_dict(plain.state_dict())
    x = torch.randn(3, 1, 64, 40)
    torch.testing.assert_close(averaged(x), plain(x).mean(dim=(2, 3)))
