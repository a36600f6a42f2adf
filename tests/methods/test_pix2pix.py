"""Pix2pix: its two losses, who hears of which, the order of the steps, and that it learns."""

import copy
import math

import pytest
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from spinect.errors import ConfigError
from spinect.methods.registry import build
from spinect.protocols import Batch

SMALL = {
    "generator": {"kind": "skip_unet", "width": 4, "depth": 3},
    "critic": {"width": 4, "halvings": 2, "wide": False},
}


def made(**fields):
    torch.manual_seed(0)
    return build("pix2pix", SMALL | fields)


def silence(critic, score=0.0):
    """Let a critic give every image the same score."""
    torch.nn.init.zeros_(critic.layers[-1].weight)
    torch.nn.init.constant_(critic.layers[-1].bias, score)


@pytest.mark.parametrize(
    ("gan_loss", "critic", "generator"), [("vanilla", math.log(2), math.log(2)), ("lsgan", 0.5, 1)]
)
def test_losses_of_a_critic_that_knows_nothing(batch_for, gan_loss, critic, generator):
    """Scores of 0 by a last layer of zeros: ln 2 each, or half of 1 squared."""
    method = made(gan_loss=gan_loss, l1=0.0)
    silence(method.critic)
    found = {part: loss.item() for part, loss in method.losses(batch_for(method))}
    assert found["critic"] == pytest.approx(critic, abs=1e-6)
    assert found["generator"] == pytest.approx(generator, abs=1e-6)


@pytest.mark.parametrize("averaged", [False, True])
def test_averaged_scores_lose_their_variance(batch_for, averaged):
    """mean((p - 1)^2) = (mean p - 1)^2 + var p: the published critic pays the first term only."""
    method = made(critic=SMALL["critic"] | {"averaged": averaged}, l1=0.0)
    plain = made(l1=0.0).critic
    plain.load_state_dict(method.critic.state_dict())
    batch = batch_for(method, count=1)
    seen = []
    plain.register_forward_hook(lambda _, __, out: seen.append(out))
    _, (_, loss) = method.losses(batch)
    fake = torch.where(batch.inside > 0, method.predict(batch.condition), -1.0)
    scores = plain(torch.cat([fake, batch.condition], dim=1))
    expected = (scores.mean() - 1).square()
    if not averaged:
        expected = expected + scores.var(correction=0)
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize("first", ["critic", "generator"])
def test_each_part_steps_in_its_turn(batch_for, first):
    """The one that steps first is the one that the other's loss already knows; the fake is old."""
    method = made(first=first, l1=0.0)
    other = "generator" if first == "critic" else "critic"
    stream = method.losses(batch_for(method))
    part, _ = next(stream)
    assert part == first
    fake_scores = []
    method.critic.register_forward_hook(lambda _, __, out: fake_scores.append(out))
    if first == "critic":
        silence(method.critic, 3.0)  # as if it had stepped
    else:
        for parameter in method.generator.parameters():
            parameter.data.mul_(5)
    part, loss = next(stream)
    assert part == other
    if first == "critic":
        assert loss.item() == pytest.approx((3 - 1) ** 2)
    else:
        before = made(first=first)
        expected = [loss for part, loss in before.losses(batch_for(before)) if part == "critic"]
        torch.testing.assert_close(loss, expected[0])


@pytest.mark.parametrize("first", ["critic", "generator"])
@pytest.mark.parametrize("pool", [0, 3])
def test_gradients_stay_with_their_part(batch_for, first, pool):
    """Also without an optimiser in between, and with two batches side by side."""
    method = made(first=first, pool=pool, ssim=10.0)
    streams = [method.losses(batch_for(method)) for _ in range(2)]
    for _ in range(2):
        method.zero_grad()
        for stream in streams:
            part, loss = next(stream)
            loss.backward()
        for key, parameter in method.named_parameters():
            grad = parameter.grad
            if key.startswith(part):
                assert grad is not None, key
                assert grad.isfinite().all(), key
            else:
                assert grad is None, key
    assert all(parameter.requires_grad for parameter in method.parameters())


def test_with_a_constant_critic_the_generator_follows_l1_alone(batch_for):
    """Against the gradient by hand: 100 sign(fake - truth) inside, over the voxels inside."""
    method = made().double()
    silence(method.critic)
    batch = batch_for(method)
    batch = Batch(*(t.double() for t in (batch.condition, batch.inside, batch.target)))
    fake = method.predict(batch.condition)  # float32, as the losses see it
    by_hand = 100 * (fake - batch.target).sign() * batch.inside / batch.inside.sum()
    weights = list(method.generator.parameters())
    expected = torch.autograd.grad(fake, weights, by_hand.float())
    _, (_, loss) = method.losses(batch)
    found = torch.autograd.grad(loss, weights)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_weights_of_the_generators_loss(batch_for, ndim):
    """GAN + 10 L1 + 10 (1 - SSIM), each by other means, where everything is inside."""
    method = made(ndim=ndim, l1=10.0, ssim=10.0)
    raw = batch_for(method, size=16)
    batch = Batch(raw.condition, torch.ones_like(raw.inside), raw.target)
    _, (_, loss) = method.losses(batch)
    fake, target = method.predict(batch.condition), batch.target
    scores = method.critic(torch.cat([fake, batch.condition], dim=1))
    ssim = structural_similarity_index_measure(fake + 1, target + 1, data_range=2.0)
    expected = (scores - 1).square().mean() + 10 * (fake - target).abs().mean() + 10 * (1 - ssim)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert set(method.terms) == {"gan", "l1", "ssim"}


def test_the_critic_does_not_see_the_ramps(batch_for):
    """Only the first channels: other ramps, the same score of the real CT, another fake."""
    method = made(ndim=3, in_channels=4)
    batch = batch_for(method, size=16)
    ramps = batch.condition.clone()
    ramps[:, 1:] *= -1
    other = copy.copy(batch)
    object.__setattr__(other, "condition", ramps)
    scores = []
    for case in (batch, other):
        next(iter(method.losses(case)))
        scores.append({key: value.item() for key, value in method.terms.items()})
    assert scores[0]["real_score"] == scores[1]["real_score"]
    assert scores[0]["fake_score"] != scores[1]["fake_score"]
    with pytest.raises(ConfigError, match="critic_sees 3 is more than in_channels 2"):
        made(in_channels=2, critic_sees=3)


def test_sizes_that_do_not_fit_are_refused(batch_for):
    """Before anything runs, with both numbers."""
    method = made(ssim=1.0)
    with pytest.raises(ConfigError, match="multiples of 8 voxels, not 20 x 20"):
        method.predict(torch.zeros(1, 1, 20, 20))
    with pytest.raises(ConfigError, match="multiples of 8 voxels, not 36 x 36"):
        next(iter(method.losses(batch_for(method, size=36))))
    small = made(generator={"kind": "skip_unet", "width": 4, "depth": 2})
    with pytest.raises(ConfigError, match="at least 8 voxels along each axis, not 4 x 4"):
        next(iter(small.losses(batch_for(small, size=4))))
    with pytest.raises(ConfigError, match="depth 5 has none"):
        made(generator={"kind": "skip_unet", "depth": 5, "dropout": 0.5})


@pytest.mark.parametrize("name", ["pix2pix", "wgan"])
def test_batches_that_cannot_teach_paired_gans_are_refused(batch_for, name):
    """Without a CT, or with another patient's: the message says what to set."""
    method = build(name, SMALL)
    batch = batch_for(method)
    with pytest.raises(ConfigError, match="holds no CT"):
        next(iter(method.losses(Batch(batch.condition, batch.inside))))
    unpaired = Batch(batch.condition, batch.inside, batch.target, target_inside=batch.inside)
    with pytest.raises(ConfigError, match=r"set data\.paired to true"):
        next(iter(method.losses(unpaired)))


@pytest.mark.parametrize("constant", [0.0, -1.0])
def test_one_blank_image_trains(constant):
    """Instance norm of nothing but one value: finite losses and gradients."""
    method = made(ssim=10.0)
    blank = torch.full((1, 1, 32, 32), constant)
    for _, loss in method.losses(Batch(blank, torch.ones_like(blank), blank)):
        method.zero_grad()
        loss.backward()
        assert loss.isfinite()
        grads = [p.grad for p in method.parameters() if p.grad is not None]
        assert grads
        assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("zero_bias", [True, False])
def test_initial_weights(zero_bias):
    """N(0, 0.02) in both networks; biases zero, or within torch's bounds and not zero."""
    method = made(
        generator={"kind": "double_conv_unet", "width": 16, "levels": 2}, zero_bias=zero_bias
    )
    for network in (method.generator, method.critic):
        weights = torch.cat([p.flatten() for p in network.parameters() if p.ndim > 1])
        assert weights.std().item() == pytest.approx(0.02, rel=0.03)
    biases = torch.cat([p for k, p in method.named_parameters() if k.endswith(".bias")])
    assert bool((biases == 0).all()) == zero_bias


@pytest.mark.parametrize(
    "generator",
    [
        {"kind": "skip_unet", "width": 4, "depth": 4},
        {"kind": "double_conv_unet", "width": 4, "levels": 1},
        {"kind": "resnet", "width": 4, "halvings": 1, "blocks": 1},
        {"kind": "sa_unet", "width": 8, "multiples": [1, 2], "attention": False, "skips": "mean"},
    ],
    ids=lambda fields: fields["kind"],
)
@pytest.mark.parametrize("ndim", [2, 3])
def test_any_generator_fits(generator, ndim):
    """One CT in [-1, 1] from several channels, and features on the way."""
    method = made(ndim=ndim, in_channels=3, generator=generator).eval()
    x = torch.randn(1, 3, *[16] * ndim)
    out = method.predict(x)
    assert out.shape == (1, 1, *[16] * ndim)
    assert out.abs().max() <= 1
    stages = list(method.generator.stages(x))
    assert len(stages) > 3
    assert torch.equal(stages[-1], out)


GRAF = {"l1": 10.0, "ssim": 10.0, "first": "generator", "zero_bias": False}
LEARNERS = {
    "original": {
        "generator": {"kind": "skip_unet", "width": 16, "depth": 7},
        "critic": {"width": 16},
        "gan_loss": "vanilla",
    },
    "graf2023": GRAF | {
        "generator": {"kind": "double_conv_unet", "width": 16, "levels": 3},
        "critic": {"width": 16, "wide": False, "averaged": True},
    },
    "graf2023_3d": GRAF | {
        "ndim": 3,
        "in_channels": 4,
        "generator": {
            "kind": "sa_unet", "width": 8, "multiples": [1, 2, 4],
            "attention": False, "skips": "mean",
        },
        "critic": {"width": 8, "wide": False},
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "updates"), [("original", 300), ("graf2023", 200), ("graf2023_3d", 70)]
)
def test_it_learns_what_it_is_shown(name, updates, lessons):
    """Down to 60 HU, where one HU for all voxels would miss by 150 and more."""
    torch.manual_seed(0)
    method = build("pix2pix", LEARNERS[name])
    known = lessons(method.ndim)
    assert (known.target - known.target.median()).abs().mean() > 0.15
    optimisers = {
        part: torch.optim.Adam(getattr(method, part).parameters(), rate, betas=(0.5, 0.999))
        for part, rate in {"generator": 1e-3, "critic": 2e-4}.items()
    }
    for _ in range(updates):
        pick = torch.randperm(len(known.target))[:4]
        batch = Batch(known.condition[pick], known.inside[pick], known.target[pick])
        for part, loss in method.losses(batch):
            method.zero_grad()
            loss.backward()
            optimisers[part].step()
    with torch.no_grad():
        error = (method.eval().predict(known.condition) - known.target).abs().mean().item()
    assert 1000 * error <= 60, "HU"
