"""WGAN-GP: the penalty against closed forms and differences, who hears of which loss, presets."""

from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from spinect.errors import ConfigError
from spinect.methods.gan import gradient_penalty, wasserstein_loss
from spinect.methods.registry import build
from spinect.nets.critic import PatchCritic

CONFIGS = Path(__file__).parents[2] / "configs"
RESIDUAL = {"channels": (8, 12), "blocks": (1, 1), "decoder_blocks": (1,), "head": 8}
SMALL = {
    "generator": {"kind": "residual", **RESIDUAL},
    "critic": {"width": 4, "halvings": 1, "wide": False},
}


def made(**fields):
    torch.manual_seed(0)
    return build("wgan", SMALL | fields)


def pair(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, *shape, generator=generator, dtype=torch.float64).unsqueeze(2)


@pytest.mark.parametrize("ndim", [2, 3])
def test_the_slope_of_a_linear_critic_is_its_weight(ndim):
    """C(u, y) = w.u + v.y: (|w| - 1)^2 wherever u lies, whatever v."""
    real, fake, mr = pair(2, *[4] * ndim)
    w, v = pair(1, *[4] * ndim, seed=1)[:2]

    def critic(x):
        return (x[:, :1] * w + x[:, 1:] * v).flatten(1).sum(dim=1, keepdim=True)

    found = gradient_penalty(critic, real, fake, mr)
    torch.testing.assert_close(found, (w.norm() - 1).square(), rtol=1e-12, atol=1e-12)


def test_the_slope_is_that_of_the_maps_mean():
    """Every voxel times 3: the mean of the map has slope 3 / sqrt(N), its sum 3 sqrt(N)."""
    real, fake, mr = pair(2, 4, 4)
    found = gradient_penalty(lambda x: 3 * x[:, :1], real, fake, mr)
    assert found.item() == pytest.approx((3 / 4 - 1) ** 2, abs=1e-12)


def test_every_image_has_a_point_of_its_own_on_its_line():
    """C = |u|^2 / 2 has slope |u|: from 0 to ones, the share is |u| / sqrt(N)."""
    real, mr = torch.ones(64, 1, 4, 4), torch.zeros(64, 1, 4, 4)
    seen = []

    def critic(x):
        seen.append(x.detach().clone())
        return x[:, :1].square().flatten(1).sum(dim=1, keepdim=True) / 2

    torch.manual_seed(0)
    found = gradient_penalty(critic, real, torch.zeros_like(real), mr)
    u = seen[0][:, 0].flatten(1)
    assert (u == u[:, :1]).all()  # one share for all voxels of an image
    share = u[:, 0]
    assert share.unique().numel() == 64
    assert 0 <= share.min() < 0.1 < 0.9 < share.max() <= 1
    torch.testing.assert_close(found, (4 * share - 1).square().mean())
    assert seen[0][:, 1].eq(0).all()


@pytest.mark.parametrize("norm", ["none", "instance"])
def test_the_penaltys_gradient_equals_differences(norm):
    """By every weight's direction of steepest ascent; a smooth activation, float64."""
    torch.manual_seed(0)
    critic = PatchCritic(2, 2, width=3, halvings=2, wide=False, norm=norm).double()
    for index, layer in enumerate(critic.layers):
        if isinstance(layer, nn.LeakyReLU):
            critic.layers[index] = nn.Softplus()
    real, fake, mr = pair(2, 16, 16)

    def penalty():
        torch.manual_seed(4)
        return gradient_penalty(critic, real, fake, mr)

    weights = [p for p in critic.parameters() if p.ndim > 1]
    grads = torch.autograd.grad(penalty(), weights)
    for weight, grad in zip(weights, grads, strict=True):
        assert grad.norm() > 1e-8
        direction, step = grad / grad.norm(), 1e-5
        with torch.no_grad():
            weight += step * direction
            above = penalty_value(penalty)
            weight -= 2 * step * direction
            below = penalty_value(penalty)
            weight += step * direction
        assert (above - below) / (2 * step) == pytest.approx(grad.norm().item(), rel=1e-5)


def penalty_value(penalty):
    with torch.enable_grad():
        return penalty().item()


def test_a_critic_without_slope_has_finite_gradients():
    """|g| at g = 0: penalty 1, no NaN."""
    critic = PatchCritic(2, 2, width=3, halvings=1, wide=False, norm="none")
    for parameter in critic.parameters():
        nn.init.zeros_(parameter)
    real, fake, mr = pair(2, 8, 8).float()
    found = gradient_penalty(critic, real, fake, mr)
    assert found.item() == 1
    found.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in critic.parameters())


def test_the_penalty_stays_float32_under_autocast():
    """The same number to the bit."""
    critic = PatchCritic(2, 2, width=4, halvings=1, wide=False, norm="none")
    real, fake, mr = pair(2, 8, 8).float()
    found = []
    for enabled in (False, True):
        torch.manual_seed(4)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(gradient_penalty(critic, real, fake, mr))
    assert found[1].dtype == torch.float32
    assert torch.equal(*found)


def test_the_loss_is_the_difference_of_means_not_half_of_it():
    """Maps of any size; averaged scores too."""
    real, fake = torch.tensor([[[1.0, 3.0]], [[0.0, 2.0]]]), torch.tensor([[[5.0]], [[-2.0]]])
    assert wasserstein_loss(real, fake).item() == pytest.approx(1.5 - 1.5)
    assert wasserstein_loss(real[:, :, 0], fake[:, :, 0] + 1).item() == pytest.approx(2.5 - 0.5)


def test_a_critic_finds_the_distance_of_two_gaussians():
    """N(0, 0.3^2) and N(1, 0.3^2): W1 is 1. The best critic is x, of slope 1 all the way."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 16), nn.SiLU(), nn.Linear(16, 1))
    optimiser = torch.optim.Adam(critic.parameters(), 5e-3, betas=(0.5, 0.9))
    beside = torch.zeros(256, 1)
    for _ in range(400):
        fake, real = 0.3 * torch.randn(256, 1), 1 + 0.3 * torch.randn(256, 1)
        shown = [critic(torch.cat([x, beside], dim=1)) for x in (real, fake)]
        loss = wasserstein_loss(*shown) + 10 * gradient_penalty(critic, real, fake, beside)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    fake, real = 0.3 * torch.randn(4096, 1), 1 + 0.3 * torch.randn(4096, 1)
    beside = torch.zeros(4096, 1)
    shown = [critic(torch.cat([x, beside], dim=1)) for x in (real, fake)]
    # Slope 1 + 1 / (2 * 10) is where the loss -s + 10 (s - 1)^2 is least.
    assert -wasserstein_loss(*shown).item() == pytest.approx(1.05, abs=0.07)


@pytest.mark.parametrize("ndim", [2, 3])
def test_gradients_stay_with_their_part(batch_for, ndim):
    """Five yields of the critic, then the generator; two batches side by side."""
    method = made(ndim=ndim)
    streams = [method.losses(batch_for(method)) for _ in range(2)]
    for expected in [*["critic"] * 5, "generator"]:
        method.zero_grad()
        for stream in streams:
            part, loss = next(stream)
            assert part == expected
            loss.backward()
        for key, parameter in method.named_parameters():
            assert (parameter.grad is not None) == key.startswith(f"{part}."), key
    assert all(next(stream, None) is None for stream in streams)
    assert all(parameter.requires_grad for parameter in method.parameters())


def test_every_step_of_the_critic_draws_its_own_points(batch_for):
    """Nothing steps in between, yet the penalties differ, and nothing else does."""
    method = made()
    seen = []
    for part, _ in method.losses(batch_for(method)):
        if part == "critic":
            seen.append({name: term.item() for name, term in method.terms.items()})
    assert len({terms["penalty"] for terms in seen}) == 5
    assert len({terms["wasserstein"] for terms in seen}) == 1


def test_the_losses_are_their_terms(batch_for):
    """By other means, in the field of view and outside it; the critic's drift too."""
    method = made(critic_steps=1, drift=0.5, penalty=7.0, l1=20.0)
    batch = batch_for(method)
    (_, critic), (_, generator) = method.losses(batch)
    fake = method.predict(batch.condition)
    shown, truth = (torch.where(batch.inside > 0, x, -1.0) for x in (fake, batch.target))
    scores = [method.critic(torch.cat([x, batch.condition], 1)) for x in (truth, shown)]
    real, made_up = (x.mean(dim=(1, 2, 3)) for x in scores)
    error = (fake - batch.target).abs() * batch.inside
    torch.testing.assert_close(generator, -made_up.mean() + 20 * error.sum() / batch.inside.sum())
    torch.manual_seed(6)
    (_, critic), _ = method.losses(batch)
    torch.manual_seed(6)
    penalty = gradient_penalty(method.critic, truth, shown, batch.condition)
    expected = made_up.mean() - real.mean() + 7 * penalty + 0.5 * real.square().mean()
    torch.testing.assert_close(critic, expected)


def test_configs_that_do_not_fit_are_refused():
    """Norms over the batch, and a critic that sees more than there is."""
    with pytest.raises(ConfigError, match=r"critic\.norm = 'batch'"):
        made(critic={"norm": "batch"})
    with pytest.raises(ConfigError, match="critic_sees 3 is more than in_channels 2"):
        made(in_channels=2, critic_sees=3)


def test_the_generator_is_regressions_network(batch_for):
    """The same weights, the same answer, to the bit; its last stage is the answer."""
    method = made().eval()
    fields = {"ndim": 2, "in_channels": 1, "heads": ["ct"], "network": RESIDUAL}
    cnn = build("regression", fields).eval()
    method.generator.network.load_state_dict(cnn.network.state_dict())
    condition = batch_for(method).condition
    assert torch.equal(method.predict(condition), cnn.predict(condition))
    *levels, answer = method.generator.stages(condition)
    assert [features.shape[1] for features in levels] == [8, 12]
    assert torch.equal(answer, method.generator(condition))


@pytest.mark.parametrize("folder", ["lyu2022", "fast/lyu2022"])
def test_the_presets_arms_have_one_network(folder):
    """CNN and GAN are equal; a denoiser has the noisy CT and the noise level beside, no more."""
    arms = {}
    for path in (CONFIGS / folder).glob("*.yaml"):
        fields = yaml.safe_load(path.read_text())["method"]
        arms[path.stem] = fields.pop("name"), fields
    with torch.device("meta"):
        nets = {stem: build(name, fields) for stem, (name, fields) in arms.items()}
    cnn = nets["cnn"].network
    assert count(nets["gan"].generator) == count(cnn)
    embedding = 64
    fields = {"in_channels": 3, "network": arms["cnn"][1]["network"], "embedding": embedding}
    with torch.device("meta"):
        denoiser = build("diffusion", {"ndim": 2, **fields}).network
    for net in [denoiser, *(n.network for n in nets.values() if "sample" in n.modes)]:
        kept = {k: v.shape for k, v in net.named_parameters() if "embed" not in k}
        kept = {k: shape for k, shape in kept.items() if "modulate" not in k}
        assert kept.keys() == dict(cnn.named_parameters()).keys()
        other = {k for k, p in cnn.named_parameters() if p.shape != kept[k]}
        assert other <= {"entry.weight", "expand.weight", "expand.bias"}


def count(module):
    return sum(p.numel() for p in module.parameters())
