"""SynDiff learns to translate from images that never belong together."""

import pytest
import torch

from spinect.methods.registry import build
from spinect.methods.translate import translate
from spinect.protocols import Batch

WIDTH = 16
UPDATES, RATES = 120, {"noise_critics": 1e-4, "patch_critics": 1e-4, "generators": 1.6e-4}


def slices(count, seed, size=32):
    """MR and CT of bodies with a canal and vertebrae: bone is dark here and bright there."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 2, indexing="ij")
    mr, ct = -torch.ones(2, count, 1, size, size)
    for one, other in zip(mr[:, 0], ct[:, 0], strict=True):
        width, shift, rise, height = torch.rand(4, generator=generator).tolist()
        body = (x / (0.5 + 0.2 * width)) ** 2 + (y / 0.85) ** 2 < 1
        canal = body & ((x - 0.3 * shift).abs() < 0.1)
        one[body], other[body] = 0.8, -0.1
        one[canal], other[canal] = 0.2, -0.3
        for centre in (-0.9, -0.45, 0.0, 0.45):
            bone = (y - centre - 0.3 * rise).abs() < 0.12 + 0.05 * height
            bone &= body & ((x - 0.3 * shift + 0.25).abs() < 0.15)
            one[bone], other[bone] = -0.4, 0.6
    noise = 0.03 * torch.randn(2, *mr.shape, generator=generator)
    return (mr + noise[0]).clamp(-1, 1), (ct + noise[1]).clamp(-1, 1)


@pytest.mark.slow
def test_unpaired_slices_are_learnt():
    """Mean absolute error of draws below 0.28, and below copying the MR and plain air."""
    torch.manual_seed(0)
    method = build("syndiff", {
        "generator": {"width": WIDTH, "multiples": (1, 1, 2, 2), "blocks": 1, "attention": 2},
        "translator": {"width": WIDTH, "blocks": 4},
        "noise_critic": {"width": WIDTH, "halvings": 5},
        "patch_critic": {"width": WIDTH, "halvings": 2},
    })  # fmt: skip
    optimisers = {
        part: torch.optim.Adam(method.get_submodule(part).parameters(), rate, betas=(0.5, 0.9))
        for part, rate in RATES.items()
    }
    (mrs, _), (_, cts), (mr, ct) = slices(32, 1), slices(32, 2), slices(8, 3)
    copied, air = (mr - ct).abs().mean().item(), (ct + 1).abs().mean().item()
    there = torch.ones(4, 1, 32, 32)
    for _ in range(UPDATES):
        here, elsewhere = torch.randint(32, (2, 4))
        for part, loss in method.losses(Batch(mrs[here], there, cts[elsewhere], there)):
            method.zero_grad(set_to_none=True)
            loss.backward()
            optimisers[part].step()
    method.eval()
    error = (translate(method, mr, mode="sample") - ct).abs().mean().item()
    assert error < 0.28
    assert error < min(copied, air)
