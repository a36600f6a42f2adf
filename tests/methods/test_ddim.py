"""What Graf et al. 2023 ask of diffusion: their network, losses, guidance and published sampler."""

import math

import pytest
import torch
from torch import nn

from spinect.diffusion.schedule import cosine_levels, leading
from spinect.diffusion.variance import variational_bits
from spinect.errors import ConfigError
from spinect.methods.registry import build
from spinect.methods.translate import translate
from spinect.protocols import Batch, without_image

SA = {"kind": "sa_unet", "width": 16, "multiples": (1, 2)}
SA_3D = SA | {"attention": False, "skips": "mean"}
DDPM = {"ndim": 2, "in_channels": 1, "schedule": "ddpm_cosine", "regress_share": 0.0, "loss": "l1"}
IMAGE = DDPM | {"predicts": "x0", "network": SA, "sampler": "ancestral", "eta": 1.0}
NOISE = IMAGE | {"predicts": "eps", "learned_variance": True}


def made(config, seed=0):
    torch.manual_seed(seed)
    return build("diffusion", config)


class Says(nn.Module):
    """Puts out what a function of its input and level says, and keeps both."""

    divisor = 1

    def __init__(self, say):
        super().__init__()
        self.say, self.heard = say, []

    def forward(self, x, level):
        self.heard.append((x, level))
        return self.say(x, level)


def saying(config, say):
    method = made(config).eval()
    method.network = Says(say)
    return method


def gaussian_batch(count=256, size=8):
    generator = torch.Generator().manual_seed(2)
    target = 0.5 * torch.randn(count, 1, size, size, generator=generator)
    return Batch(torch.zeros_like(target), torch.ones_like(target), target)


@pytest.mark.parametrize(
    ("ndim", "channels", "learned", "count"),
    [(2, 1, False, 32_634_113), (2, 1, True, 32_634_178), (3, 4, False, 87_307_841)],
)
def test_published_networks_have_their_parameters(ndim, channels, learned, count):
    """SA-UNet with one and two outputs; without attention and with ramps in three dimensions."""
    network = {"kind": "sa_unet"} | ({"attention": False, "skips": "mean"} if ndim == 3 else {})
    config = NOISE | {"ndim": ndim, "in_channels": channels, "learned_variance": learned}
    with torch.device("meta"):
        method = build("diffusion", config | {"network": network})
    assert sum(p.numel() for p in method.parameters()) == count
    assert method.divisor == 8


def test_the_network_hears_the_time_and_sees_the_image_of_a_ddpm():
    """x_t = sqrt(abar) x0 + sqrt(1 - abar) noise beside the MR; times count from 0."""
    method = saying(IMAGE, lambda x, _: x[:, :1] * 0)
    levels = cosine_levels()
    x, mr = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2)
    times = torch.tensor([0, 1, 500, 999])
    sigma = levels[times].float()
    method.denoise(x, sigma, mr)
    seen, told = method.network.heard[0]
    torch.testing.assert_close(told, times.float(), rtol=0, atol=1e-3)
    shrink = (1 + sigma**2).rsqrt().reshape(4, 1, 1, 1)
    torch.testing.assert_close(seen, torch.cat([x * shrink, mr], dim=1))


@pytest.mark.parametrize(("predicts", "spread"), [("x0", 0.5), ("eps", 1.0)])
def test_absolute_error_of_a_network_that_says_nothing(predicts, spread):
    """The mean of |N(0, 1)| times the spread of the target of F."""
    method = saying(DDPM | {"predicts": predicts}, lambda x, _: x[:, :1] * 0)
    torch.manual_seed(0)
    losses = [next(method.losses(gaussian_batch()))[1].item() for _ in range(10)]
    assert sum(losses) / 10 == pytest.approx(spread * math.sqrt(2 / math.pi), rel=0.01)


def test_a_learned_variance_adds_a_thousandth_of_its_bits():
    """Levels, noise and the bound, drawn and summed anew; the first times are among them."""
    said = {}

    def say(x, level):
        said["t"] = level.round().long()
        return torch.cat([0.9 * x[:, :1], 0.3 * x[:, :1]], dim=1)

    method = saying(NOISE, say)
    batch = gaussian_batch()
    levels = cosine_levels()
    for seed in range(40):
        torch.manual_seed(seed)
        ((_, loss),) = method.losses(batch)
        if (said["t"] == 0).any():
            break
    assert (said["t"] == 0).any()
    t = said["t"]
    sigma = levels[t].reshape(-1, 1, 1, 1)
    before = torch.where(t > 0, levels[(t - 1).clamp(min=0)], 0).reshape(-1, 1, 1, 1)
    noisy = method.network.heard[-1][0][:, :1].double()  # x_t
    noise = (noisy * (1 + sigma**2).sqrt() - batch.target) / sigma
    guess = noisy * (1 + sigma**2).sqrt() - sigma * 0.9 * noisy
    bits = variational_bits(guess, batch.target.double(), 0.3 * noisy, sigma, before).mean()
    plain = (0.9 * noisy - noise).abs().mean()
    assert method.terms["denoise"].item() == pytest.approx(plain.item(), rel=1e-4)
    assert method.terms["variance"].item() == pytest.approx(bits.item(), rel=1e-3)
    assert loss.item() == pytest.approx((plain + bits / 1000).item(), rel=1e-3)


def test_sampling_takes_no_notice_of_a_learned_variance():
    """Another second channel, the same draw; but training moves it."""
    method = made(NOISE).eval()
    mr = torch.randn(1, 1, 8, 8)

    def draw():
        torch.manual_seed(1)
        return translate(method, mr, mode="sample", steps=3)

    first = draw()
    with torch.no_grad():
        method.network.out.bias[1] += 1
    torch.testing.assert_close(draw(), first, rtol=0, atol=0)
    ((_, loss),) = method.losses(gaussian_batch(8))
    loss.backward()
    assert method.network.out.weight.grad[1].abs().max() > 0


@pytest.mark.parametrize("dropped", ["max", "robust"])
@pytest.mark.parametrize("predicts", ["x0", "v"])
def test_guidance_goes_from_the_dropped_condition_through_the_given_one(dropped, predicts):
    """without + w (with - without) on clean images, then clamped; the mean is not guided."""
    config = IMAGE | {"in_channels": 4, "predicts": predicts, "regress_share": 0.5, "clamp": False}
    weak, strong = (
        saying(config | {"dropped": dropped, "guidance": w}, lambda x, _: x[:, :2].sum(1, True))
        for w in (1.0, 3.0)
    )
    x, sigma = torch.randn(2, 1, 4, 4), torch.tensor(0.7)
    condition = torch.rand(2, 4, 4, 4)
    with_mr = weak.denoise(x, sigma, condition)
    without = weak.denoise(x, sigma, without_image(condition, dropped))
    assert len(weak.network.heard) == 2
    guided = strong.denoise(x, sigma, condition)
    assert len(strong.network.heard) == 2
    torch.testing.assert_close(guided, without + 3 * (with_mr - without))
    torch.testing.assert_close(strong.predict(condition), weak.predict(condition))
    clamped = saying(
        config | {"dropped": dropped, "guidance": 3.0, "clamp": True}, strong.network.say
    )
    torch.testing.assert_close(clamped.denoise(x, sigma, condition), guided.clamp(-1, 1))


def test_what_a_dropped_condition_shows():
    """Mid grey: where the field of view is, or all over where nothing tells it; the rest stays."""
    condition = torch.rand(1, 6, 2, 2)
    condition[:, 2] = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    none = without_image(condition, "robust")
    assert none[0, 0].tolist() == [[0.5, 0.0], [0.5, 0.5]]
    assert none[0, 1].tolist() == [[1.0, 0.0], [1.0, 1.0]]
    assert torch.equal(none[:, 2:], condition[:, 2:])
    none = without_image(condition, "max")
    assert not none[:, 0].any()
    assert torch.equal(none[:, 1:], condition[:, 1:])


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"guidance": 2.0}, "guidance = 2.0 needs a network that was trained with data.dropout"),
        ({"dropped": "robust"}, "in_channels >= 3, not 1"),
        ({"learned_variance": True}, 'learned_variance needs predicts = "eps", not "x0"'),
        ({"schedule": "karras"}, "network.kind = sa_unet needs the times of a DDPM"),
        ({"sampler": "heun"}, 'eta = 1.0 needs sampler = "ancestral" or "graf2023", not "heun"'),
        ({"sampler": "graf2023", "predicts": "v"}, 'predicts = "x0" only, not "v"'),
        (
            {"sampler": "graf2023", "schedule": "karras", "network": {}},
            "sampler = graf2023 needs the times",
        ),
    ],
)
def test_contradictions_are_refused(change, word):
    with pytest.raises(ConfigError, match=word):
        build("diffusion", IMAGE | change)


def test_pairs_only():
    """A batch whose CT is another patient's teaches a paired method what is wrong."""
    batch = gaussian_batch(2)
    unpaired = Batch(batch.condition, batch.inside, batch.target, batch.inside)
    with pytest.raises(ConfigError, match=r"data\.paired to true"):
        next(made(IMAGE).losses(unpaired))


def test_the_published_sampler_starts_with_unit_noise_and_shrinks_the_spread():
    """At times 950, 900, ..., 0; eta 1 unless told; the mean mode is not touched by it."""
    std, mean = 0.3, 0.2
    method = made(IMAGE | {"sampler": "graf2023", "eta": None, "regress_share": 0.5})
    right = made(IMAGE | {"regress_share": 0.5})
    assert torch.equal(method.sigmas(20), leading(cosine_levels(), 20))
    seen = []

    def ideal(x, sigma):
        seen.append(x.std().item() / (1 + sigma**2).sqrt().item())
        return (std**2 * x + sigma**2 * mean) / (std**2 + sigma**2)

    like = torch.zeros(1, 1, 256, 256, dtype=torch.float64)
    torch.manual_seed(0)
    draw = method.sample(ideal, like, 20, torch.randn_like)
    assert seen[0] == pytest.approx(1, rel=0.02)
    assert draw.std().item() / std == pytest.approx(0.380, rel=0.02)
    assert draw.mean().item() == pytest.approx(mean, abs=0.005)
    draw = right.sample(ideal, like, 20, torch.randn_like)
    assert draw.std().item() / std > 0.75
    mr = torch.randn(1, 1, 8, 8)
    assert torch.equal(method.eval().predict(mr), right.eval().predict(mr))


@pytest.mark.parametrize("config", [IMAGE, NOISE, NOISE | {"ndim": 3, "network": SA_3D}])
def test_the_attended_network_keeps_the_contract(config):
    """It learns, runs in bfloat16 and on the meta device, and its sizes are multiples of 2."""
    method = made(config)
    size = (6, 4, 8)[: config["ndim"]]
    condition = torch.rand(2, 1, *size)
    batch = Batch(condition, torch.ones_like(condition), 2 * condition - 1)
    optimiser = torch.optim.Adam(method.parameters(), 1e-3)
    history = []
    for _ in range(25):
        torch.manual_seed(3)
        for _, loss in method.losses(batch):
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            history.append(loss.item())
    assert history[-1] < 0.9 * history[0]
    method.eval()
    x, sigma = torch.randn(2, 1, *size), torch.tensor(1.0)
    with torch.no_grad():
        exact = method.denoise(x, sigma, condition)
        with torch.autocast("cpu", torch.bfloat16):
            rough = method.denoise(x, sigma, condition)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.05
    meta = method.to("meta")
    out = meta.denoise(x.to("meta"), sigma.to("meta"), condition.to("meta"))
    assert out.shape == x.shape
