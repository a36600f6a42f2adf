"""What Lyu and Wang 2022 ask of diffusion: processes in continuous time, and four samplers."""

import pytest
import torch
from torch import nn

from spinect.diffusion.process import VE, VP, SubVP
from spinect.diffusion.schedule import linear_levels
from spinect.errors import ConfigError
from spinect.methods.registry import build
from spinect.methods.translate import translate
from spinect.protocols import Batch

SCORE = {
    "ndim": 2,
    "in_channels": 1,
    "predicts": "eps",
    "network": {"channels": (8,), "blocks": (1,), "decoder_blocks": (), "stem": 1, "head": 8},
    "embedding": 16,
    "regress_share": 0.0,
    "clamp": False,
    "sigma_min": 0.01,
    "sigma_max": 50.0,
}
PROCESSES = {"ve": VE(0.01, 50.0), "vp": VP(), "subvp": SubVP()}
MEAN, STD = 0.3, 0.25


class Oracle(nn.Module):
    """The noise that Gaussian data about MEAN + 0.1 MR have at a level ln(sigma) / 4."""

    divisor = 1

    def __init__(self):
        super().__init__()
        self.calls, self.heard = 0, []

    def forward(self, x, level):
        self.calls += 1
        self.heard.append(level)
        sigma = (4 * level).exp().reshape(-1, 1, 1, 1)
        noisy = x[:, :1] * (1 + sigma**2).sqrt()
        return sigma / (STD**2 + sigma**2) * (noisy - MEAN - 0.1 * x[:, 1:])


def oracle(**fields):
    method = build("diffusion", SCORE | fields).eval()
    method.network = Oracle()
    return method


def seeded(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, generator=generator)


@pytest.mark.parametrize("schedule", PROCESSES)
def test_training_sees_the_process(schedule):
    """Even in time, and the loss is that of the score times std: the oracle's floor."""
    torch.manual_seed(1)
    method, process = oracle(schedule=schedule), PROCESSES[schedule]
    target = MEAN + STD * torch.randn(8192, 1, 4, 4)
    batch = Batch(torch.zeros_like(target), torch.ones_like(target), target)
    ((part, loss),) = method.losses(batch)
    sigma = (4 * method.network.heard[0].double()).exp()
    t = process.times(100_001)
    floor = (STD**2 / (STD**2 + process.sigma(t) ** 2)).mean().item()
    assert part == "network"
    assert loss.item() == pytest.approx(floor, rel=0.04)
    ends = process.sigma(process.times(2))
    assert ends[1] * 0.999 <= sigma.min()
    assert sigma.max() <= ends[0] * 1.001
    middle = process.sigma(torch.tensor((1 + process.eps) / 2, dtype=torch.float64))
    assert (sigma < middle).double().mean().item() == pytest.approx(0.5, abs=0.025)


CALLS = {
    "ancestral": 60, "heun": 119, "dpmpp_2m": 60, "em": 60, "pc": 120, "ode": None,
}  # fmt: skip


@pytest.mark.parametrize("schedule", [*PROCESSES, "karras", "ddpm_linear"])
@pytest.mark.parametrize("sampler", CALLS)
def test_every_sampler_draws_from_every_process(schedule, sampler):
    """Mean and spread of what the network knows, from the MR that each image is given."""
    method = oracle(schedule=schedule, sampler=sampler, snr=0.05)
    mr = torch.tensor([-2.0, 3.0]).reshape(2, 1, 1, 1).expand(2, 1, 48, 48)
    given = None if CALLS[sampler] is None else 60
    if schedule == "ddpm_linear":  # tells times, which this oracle does not know
        method.level = lambda sigma: sigma.log() / 4
    draw = translate(method, mr, seeded(2), "sample", given)
    assert draw.dtype == torch.float32
    for image, y in zip(draw, (-2.0, 3.0), strict=True):
        assert image.mean().item() == pytest.approx(MEAN + 0.1 * y, abs=0.04)
        assert image.std().item() == pytest.approx(STD, rel=0.35)
    if given:
        assert method.network.calls == CALLS[sampler]
    again = translate(method, mr, seeded(2), "sample", given)
    assert torch.equal(draw, again)


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ddpm_draws_from_vp(variance):
    method = oracle(schedule="vp", sampler="ddpm", variance=variance, steps=200)
    draw = translate(method, torch.zeros(1, 1, 48, 48), seeded(3), "sample")
    assert method.network.calls == 200
    assert draw.std().item() == pytest.approx(STD, rel=0.25)
    assert draw.mean().item() == pytest.approx(MEAN, abs=0.03)


def test_options_reach_the_samplers():
    """Calls tell: corrections, where they begin, one estimate at the end, and fixed solvers."""
    mr = torch.zeros(1, 1, 8, 8)
    for fields, calls in (
        ({"sampler": "pc", "corrector_steps": 2}, 30),
        ({"sampler": "pc", "corrector_steps": 2, "order": "predictor_first"}, 28),
        ({"sampler": "em", "tweedie": True}, 11),
        ({"sampler": "ode", "solver": "heun"}, 20),
        ({"sampler": "ode", "solver": "rk4", "tweedie": True}, 41),
    ):
        method = oracle(schedule="vp", steps=10, **fields)
        translate(method, mr, seeded(4), "sample")
        assert method.network.calls == calls
    method = oracle(schedule="vp", sampler="ode", max_calls=30)
    with pytest.raises(ConfigError, match="more than 30 calls"):
        translate(method, mr, seeded(4), "sample")
    with pytest.raises(ConfigError, match="leave the steps out"):
        translate(method, mr, seeded(4), "sample", 10)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "ddpm_cosine", "sampler": "pc"}, "needs a process in continuous time"),
        ({"schedule": "vp", "sampler": "heun", "tweedie": True}, "tweedie needs sampler"),
        ({"schedule": "subvp", "sampler": "ddpm"}, 'take "ancestral" with eta = 1'),
        ({"schedule": "vp", "beta_min": 20.0}, "is not below beta_max"),
        ({"schedule": "ve", "network": {"kind": "sa_unet"}}, "not ve"),
        ({"schedule": "vp", "sampler": "em", "eta": 1.0}, "eta = 1.0 needs sampler"),
    ],
)
def test_what_does_not_fit_is_said(fields, message):
    with pytest.raises(ConfigError, match=message):
        build("diffusion", SCORE | fields)


def test_loss_floors():
    """Of the noise in data with the standard deviation 0.25, over all times."""

    def floor(sigma):
        return (STD**2 / (STD**2 + sigma**2)).mean().item()

    found = [floor(process.sigma(process.times(100_001))) for process in
             (VE(0.01, 50.0), VE(0.01, 348.0), VP(eps=0.0))]  # fmt: skip
    assert found == pytest.approx([0.378009, 0.307876, 0.098782], abs=2e-5)
    assert floor(linear_levels(1000)) == pytest.approx(0.098639, abs=1e-6)
