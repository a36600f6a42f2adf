"""Contrastive unpaired translation: what trains what, what is compared, and that it learns."""

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spinect.errors import ConfigError
from spinect.methods import cut
from spinect.methods.gan import critic_loss, init_xavier
from spinect.methods.patch_nce import draw_positions, patch_nce
from spinect.methods.registry import build
from spinect.nets.patch_features import PatchFeatures, tapped
from spinect.protocols import Batch

RESNET = {"kind": "resnet", "width": 8, "halvings": 1, "blocks": 2, "filtered": False}
SMALL = {
    "generator": RESNET,
    "critic": {"width": 8, "halvings": 1, "wide": False},
    "taps": (0, 4, 8),
    "features": 16,
    "patches": 16,
}
SA_UNET = {"kind": "sa_unet", "width": 8, "multiples": (1, 2)}
MEAN_3D = {**SA_UNET, "attention": False, "skips": "mean"}
GRAF_RESNET = {"kind": "resnet", "width": 32, "halvings": 1, "blocks": 6, "filtered": False}
GRAF_CRITIC = {"width": 32, "wide": False, "averaged": True}


def made(seed=0, **fields):
    torch.manual_seed(seed)
    return build("cut", SMALL | fields)


def unpaired(count=2, size=(16, 12), channels=1):
    generator = torch.Generator().manual_seed(1)

    def draw(wanted):
        return torch.rand(count, wanted, *size, generator=generator)

    return Batch(
        condition=2 * draw(channels) - 1,
        inside=(draw(1) > 0.1).float(),
        target=2 * draw(1) - 1,
        target_inside=(draw(1) > 0.1).float(),
    )


def run(method, batch, seed=5):
    """Losses by part and all terms, without a step."""
    torch.manual_seed(seed)
    losses, terms = {}, {}
    for part, loss in method.losses(batch):
        losses[part] = loss
        terms |= method.terms
    return losses, terms


def gradients(module):
    return [p.grad for p in module.parameters()]


@pytest.mark.parametrize(
    ("fields", "network", "heads", "critic"),
    [
        ({}, 11_365_633, 559_872, 2_762_689),
        ({"generator": GRAF_RESNET, "critic": GRAF_CRITIC}, 483_265, 387_840, 166_625),
    ],
)
def test_published_sizes(fields, network, heads, critic):
    """Of the original, which is the default, and of Graf et al. 2023."""
    method = build("cut", fields)
    parts = method.generator.network, method.generator.heads, method.critic
    counts = [sum(p.numel() for p in part.parameters()) for part in parts]
    assert counts == [network, heads, critic]


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("first", ["critic", "generator"])
@pytest.mark.parametrize("kind", ["resnet", "sa_unet"])
def test_each_loss_reaches_its_own_networks(ndim, first, kind):
    """The heads and the network by the generator's, the critic by its own; in the asked order."""
    unet = {**(SA_UNET if ndim == 2 else MEAN_3D)}
    network = {"generator": unet, "taps": (0, 2, 5)} if kind == "sa_unet" else {}
    method = made(ndim=ndim, first=first, in_channels=3, **network)
    order = []
    for part, loss in method.losses(unpaired(size=(8, 6, 4)[:ndim], channels=3)):
        order.append(part)
        method.zero_grad()
        loss.backward()
        own, other = method.generator, method.critic
        if part == "critic":
            own, other = other, own
        assert all(g is not None and g.isfinite().all() for g in gradients(own))
        assert all(g.abs().max() > 0 for g in gradients(own))
        assert all(g is None for g in gradients(other))
    assert order == (["critic", "generator"] if first == "critic" else ["generator", "critic"])


def test_the_contrast_trains_the_network_through_the_translation():
    """Without a critic's word even the output convolution, beyond all taps, has a gradient."""
    method = made(gan_weight=0.0)
    for part, loss in method.losses(unpaired()):
        if part == "generator":
            method.zero_grad()
            loss.backward()
    last = [m for m in method.generator.network.modules() if isinstance(m, nn.Conv2d)][-1]
    assert last.weight.grad.abs().max() > 0


def test_the_critic_judges_the_translations_from_before_the_step():
    """Graf et al. step the generator first; its fakes are not made anew for the critic."""
    method, batch = made(first="generator", identity=False), unpaired()
    with torch.no_grad():
        fake = torch.where(batch.inside > 0, method.predict(batch.condition), -1.0)
        real = torch.where(batch.target_inside > 0, batch.target, -1.0)
        expected = critic_loss(method.critic(real), method.critic(fake), "lsgan")
    steps = method.losses(batch)
    next(steps)
    with torch.no_grad():
        for weight in method.generator.parameters():
            weight.add_(1.0)
    part, loss = next(steps)
    assert part == "critic"
    torch.testing.assert_close(loss, expected)


def test_the_loss_is_the_weighted_sum_of_its_terms():
    """gan + weight (nce + identity) / 2, or gan + weight nce."""
    batch = unpaired()
    losses, terms = run(made(gan_weight=0.5, nce_weight=3.0), batch)
    total = 0.5 * terms["gan"] + 1.5 * (terms["nce"] + terms["identity"])
    torch.testing.assert_close(losses["generator"].detach(), total)
    losses, terms = run(made(nce_weight=10.0, identity=False), batch)
    assert "identity" not in terms
    total = terms["gan"] + 10.0 * terms["nce"]
    torch.testing.assert_close(losses["generator"].detach(), total)


def test_only_the_identity_sees_which_ct_lies_beside_an_mr():
    """CTs in another order: what the MR says of the generator stays as it was."""
    batch = unpaired(3)
    batch = dataclasses.replace(batch, target_inside=torch.ones_like(batch.inside))
    other = dataclasses.replace(batch, target=batch.target.roll(1, 0))
    (_, terms), (_, moved) = (run(made(), case) for case in (batch, other))
    for name in ("gan", "nce", "identity"):
        torch.testing.assert_close(moved[name], terms[name])
    changed = dataclasses.replace(batch, target=-batch.target)
    _, terms_changed = run(made(), changed)
    assert terms_changed["nce"] == terms["nce"]
    assert terms_changed["identity"] != terms["identity"]


def test_what_is_unknown_of_the_ct_does_not_train():
    """`target_inside` counts for the CT, `inside` for the MR alone."""
    batch = unpaired()
    out = batch.target_inside == 0
    assert (out & (batch.inside > 0)).any()
    other = dataclasses.replace(batch, target=torch.where(out, 0.7, batch.target))
    (losses, _), (same, _) = (run(made(), case) for case in (batch, other))
    for part, loss in losses.items():
        assert same[part].item() == pytest.approx(loss.item(), rel=1e-6)


def test_query_and_key_share_places_that_are_fresh_each_time(monkeypatch):
    """The heads are asked twice at the same places; the next batch has others."""
    asked, drawn = [], []
    forward = PatchFeatures.forward

    def watched(self, features, positions):
        asked.append([p.clone() for p in positions])
        return forward(self, features, positions)

    def counted(inside, sizes, count):
        drawn.append(count)
        return draw_positions(inside, sizes, count)

    monkeypatch.setattr(PatchFeatures, "forward", watched)
    monkeypatch.setattr(cut, "draw_positions", counted)
    method, batch = made(), unpaired()
    for _ in range(2):
        list(method.losses(batch))
    assert drawn == [16, 16]
    assert len(asked) == 4
    for key, query in ((0, 1), (2, 3)):
        assert all(torch.equal(a, b) for a, b in zip(asked[key], asked[query], strict=True))
    assert not torch.equal(asked[0][0], asked[2][0])


def test_same_image_and_untrained_translation_lie_on_both_sides_of_log_p():
    """At the start, per tap, original network: itself is found, an untrained fake worse than
    by chance. (A mean of log 256 at the start would be a wrong expectation.)
    """
    torch.manual_seed(0)
    method = build("cut", {})
    coarse = torch.randn(1, 1, 16, 16)
    image = F.interpolate(coarse, size=(128, 128), mode="bicubic").clamp(-2, 2) / 2
    network, heads, taps = method.generator.network, method.generator.heads, method.config.taps
    with torch.no_grad():
        held, seen = tapped(network, image, taps), tapped(network, method.predict(image), taps)
        drawn = draw_positions(torch.ones_like(image), [f.shape[2:] for f in held], 256)
        keys, queries = (heads(f, [at for at, _ in drawn]) for f in (held, seen))
        own = [patch_nce(k, k, v, 0.07).item() for k, (_, v) in zip(keys, drawn, strict=True)]
        fake = [
            patch_nce(q, k, v, 0.07).item()
            for q, k, (_, v) in zip(queries, keys, drawn, strict=True)
        ]
    assert all(value < math.log(256) for value in own)
    assert max(own[1:]) < 4
    assert own == sorted(own, reverse=True)  # the deeper, the clearer
    assert all(value > math.log(256) for value in fake)
    # Heads start so small that the 1e-7 of their length counts.
    lengths = torch.cat([k.norm(dim=2).flatten() for k in keys])
    assert 0.8 < lengths.min() < 0.999


def test_a_mirrored_translation_is_compared_unmirrored():
    """A generator that mirrors what it makes of mirrored images has the same contrast."""
    smooth = {**RESNET, "halvings": 0}
    fields = {"generator": smooth, "identity": False, "patches": 16 * 12, "taps": (0, 4, 5)}
    batch = dataclasses.replace(unpaired(), inside=torch.ones(2, 1, 16, 12))
    values = []
    for mirror, alike in ((0.0, True), (1.0, True), (0.0, False), (1.0, False)):
        method = made(mirror=mirror, **fields)
        if alike:
            for part in method.generator.network.modules():
                if isinstance(part, nn.Conv2d):
                    part.weight.data += part.weight.data.flip(2)
        values.append(run(method, batch)[1]["nce"].item())
    assert values[1] == pytest.approx(values[0], rel=1e-4)
    assert values[3] != pytest.approx(values[2], rel=1e-4)


@pytest.mark.parametrize("case", ["blank", "constant", "outside"])
def test_empty_slices_give_finite_losses_and_gradients(case):
    """Nothing to tell apart, or nothing at all."""
    method, batch = made(), unpaired(1)
    empty = torch.zeros_like(batch.inside)
    if case == "outside":
        batch = dataclasses.replace(batch, inside=empty, target_inside=empty)
    level = -1.0 if case == "blank" else 0.3
    flat = torch.full_like(batch.target, level)
    batch = dataclasses.replace(batch, condition=flat, target=flat)
    for _, loss in method.losses(batch):
        assert loss.isfinite()
        method.zero_grad()
        loss.backward()
        for gradient in gradients(method):
            assert gradient is None or gradient.isfinite().all()


def test_a_batch_without_ct_is_refused():
    with pytest.raises(ConfigError, match="no CT"):
        next(made().losses(dataclasses.replace(unpaired(), target=None)))


def test_sizes_that_do_not_fit_are_refused():
    """Not multiples of the generator's, or too small for the critic."""
    with pytest.raises(ConfigError, match="multiples of 2"):
        next(made().losses(unpaired(size=(15, 12))))
    with pytest.raises(ConfigError, match="at least 16"):
        next(made(critic={"width": 8, "halvings": 3, "wide": False}).losses(unpaired()))


def test_xavier_weights_have_their_spread():
    """Standard deviation gain sqrt(2 / (inputs + outputs)), no bias."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(300, 100), nn.Conv2d(30, 50, 3))
    init_xavier(layers)
    assert layers[0].weight.std().item() == pytest.approx(0.02 * math.sqrt(2 / 400), rel=0.02)
    expected = 0.02 * math.sqrt(2 / (30 * 9 + 50 * 9))
    assert layers[1].weight.std().item() == pytest.approx(expected, rel=0.02)
    assert layers[0].bias.abs().max() == layers[1].bias.abs().max() == 0


def spines(count, size, seed):
    """MR and CT (count, 1, size, size) of bodies with bones, discs and a canal; no two alike."""
    generator = torch.Generator().manual_seed(seed)

    def each(low, high):
        return low + (high - low) * torch.rand(count, 1, 1, 1, generator=generator)

    at = torch.linspace(-1, 1, size)
    front, along = at[:, None] - each(-0.1, 0.1), at[None]
    skin = front.abs() / each(0.6, 0.75)
    spine = front - each(-0.15, 0.15) * along**2
    cell = ((along / each(0.30, 0.38) + each(0, 1)) % 1 - 0.5).abs()
    body, column = skin < 1, spine.abs() < 0.2
    bone = column & (cell < 0.36)
    mr, ct = torch.full((2, count, 1, size, size), -1.0)
    for where, grey, unit in (
        (body, -0.45, 0.05),
        (body & (skin > 0.82), 0.5, -0.1),
        (column, -0.25, 0.1),
        (bone, 0.1, 0.25),
        (bone & ((cell > 0.28) | (spine.abs() > 0.16)), -0.8, 0.7),  # dark rim, bright in CT
        ((spine > 0.2) & (spine < 0.3), 0.8, 0.02),
    ):
        mr[where.expand_as(mr)], ct[where.expand_as(ct)] = grey, unit
    rough = torch.randn(count, 1, size // 4, size // 4, generator=generator)
    rough = F.interpolate(rough, size=(size, size), mode="bilinear")
    return (mr + 0.05 * rough * body).clamp(-1, 1), ct


@pytest.mark.slow
def test_it_learns_from_ct_of_others():
    """32 MR and 32 CT of different bodies, 300 updates: CTs of 8 new bodies to 0.28 at least.

    The best constant and the MR itself lie further off. Half as many features fail with some seeds.
    """
    torch.manual_seed(0)
    steps, rate, ones = 300, 2e-4, torch.ones(4, 1, 64, 64)
    (mr, _), (_, ct), (new, truth) = spines(32, 64, 1), spines(32, 64, 2), spines(8, 64, 3)
    assert (truth - truth.median()).abs().mean() > 0.4
    assert (truth - new).abs().mean() > 0.33
    method = build(
        "cut",
        {
            "generator": {**RESNET, "width": 16, "halvings": 2, "blocks": 4},
            "critic": {"width": 16, "halvings": 2},
            "features": 64,
            "patches": 128,
        },
    )
    optimisers = {
        part: torch.optim.Adam(getattr(method, part).parameters(), rate, betas=(0.5, 0.999))
        for part in method.parts
    }
    for step in range(steps):
        for optimiser in optimisers.values():
            optimiser.param_groups[0]["lr"] = rate * min(1, 2 * (steps - step) / steps)
        some, others = torch.randint(32, (4,)), torch.randint(32, (4,))
        batch = Batch(mr[some], ones, target=ct[others], target_inside=ones)
        for part, loss in method.losses(batch):
            method.zero_grad()
            loss.backward()
            optimisers[part].step()
    with torch.no_grad():
        assert (method.predict(new) - truth).abs().mean() < 0.28
