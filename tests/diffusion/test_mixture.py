"""Every sampler on a law with two modes: each gets its share, and the draws come nearer to it."""

import math

import pytest
import torch

from spinect.diffusion.ode import sample_ode
from spinect.diffusion.process import VE, VP, SubVP
from spinect.diffusion.sample import sample_ancestral, sample_ddpm, sample_dpmpp_2m, sample_heun
from spinect.diffusion.schedule import karras
from spinect.diffusion.stochastic import Corrector, Predictor, sample_em, sample_pc

COUNT = 4096
PROCESSES = {"ve": VE(0.01, 50.0), "vp": VP(), "subvp": SubVP()}


def levels(steps):
    """Those of VP, and the clean image."""
    sigmas = VP().sigma(VP().times(steps))
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def on_levels(sample, sigmas, **options):
    def run(denoise, noise, steps, randn):
        grid = sigmas(steps)
        return sample(denoise, grid[0] * noise, grid, randn=randn, **options)

    return run


def on_process(name, run):
    process = PROCESSES[name]

    def drawn(denoise, noise, steps, randn):
        return run(denoise, process.prior * noise, process, process.times(steps), randn)

    return drawn


def em(denoise, x, process, times, randn):
    return sample_em(denoise, x, process, times, randn=randn)


def pc(rule):
    def run(denoise, x, process, times, randn):
        predictor, corrector = Predictor(rule), Corrector(snr=0.05, steps=1)
        return sample_pc(
            denoise, x, process, times, predictor=predictor, corrector=corrector, randn=randn
        )

    return run


def flow(denoise, x, process, times, randn):  # noqa: ARG001
    return sample_ode(denoise, x, process, times, solver="heun")


RUNS = {
    "ddim": on_levels(sample_ancestral, levels),
    "ancestral": on_levels(sample_ancestral, levels, eta=1.0),
    "ddpm, large": on_levels(sample_ddpm, levels, variance="large"),
    "heun": on_levels(sample_heun, karras),
    "dpmpp_2m": on_levels(sample_dpmpp_2m, karras),
    **{f"em, {name}": on_process(name, em) for name in PROCESSES},
    **{f"pc, {name}": on_process(name, pc("reverse_diffusion")) for name in PROCESSES},
    "pc, ancestral": on_process("vp", pc("ancestral")),
    **{f"ode, {name}": on_process(name, flow) for name in PROCESSES},
}


def drawn(name, mixture, steps):
    generator = torch.Generator().manual_seed(3)

    def randn(like):
        return torch.randn(like.shape, dtype=like.dtype, generator=generator)

    noise = randn(torch.zeros(16, 1, COUNT // 16, dtype=torch.float64))
    return RUNS[name](mixture, noise, steps, randn).flatten()


def distance(draws):
    """Wasserstein-1 to the law, by its quantiles."""
    x = torch.linspace(-2, 2, 20_001, dtype=torch.float64)
    below = sum(
        share * (1 + torch.erf((x - mean) / 0.1 / math.sqrt(2))) / 2
        for share, mean in ((0.75, -1.0), (0.25, 0.7))
    )
    levels = (torch.arange(COUNT, dtype=torch.float64) + 0.5) / COUNT
    exact = x[torch.searchsorted(below, levels).clamp(max=len(x) - 1)]
    return (draws.sort().values - exact).abs().mean().item()


@pytest.mark.parametrize("name", RUNS)
def test_both_modes_get_their_share(name, mixture):
    """Three quarters lie in the first mode, within four standard errors; more steps come nearer."""
    fine, coarse = drawn(name, mixture, 300), drawn(name, mixture, 8)
    share = (fine < -0.15).double().mean().item()
    assert share == pytest.approx(0.75, abs=4 * math.sqrt(0.75 * 0.25 / COUNT))
    assert distance(fine) < 0.06
    assert distance(fine) < distance(coarse) / 2
    for side in (fine < -0.15, fine >= -0.15):
        assert fine[side].std().item() == pytest.approx(0.1, rel=0.15)
