"""What a method prepares of a condition once: the same answers, and no more memory than planned."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spinect.bundle import Bundle
from spinect.card import Card, Preprocessing
from spinect.data.tiles import plan_tiles
from spinect.geometry import Volume
from spinect.inference import translate
from spinect.inference.compute import Compute, TileNetwork
from spinect.inference.plan import Demand, plan_memory
from spinect.methods.registry import build
from spinect.nets.packed import can_pack
from spinect.nets.sa_unet import SAUNet

FP32 = Compute(torch.device("cpu"), None)


def method(ndim, in_channels=4, **config):
    """A small network of Graf et al. with every weight drawn."""
    network = {"kind": "sa_unet", "width": 8, "multiples": (1, 2)}
    if ndim == 3:
        network |= {"attention": False, "skips": "mean"}
    torch.manual_seed(1)
    made = build("diffusion", {
        "ndim": ndim, "in_channels": in_channels, "predicts": "x0", "network": network,
        "schedule": "ddpm_cosine", "regress_share": 0.0, "sampler": "ancestral", "eta": 1.0,
        "steps": 3, **config,
    })  # fmt: skip
    for parameter in made.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return made.eval()


GUIDED = {"guidance": 1.7, "dropped": "max"}


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("config", [{}, GUIDED, {"guidance": 0.5, "dropped": "robust"}])
@pytest.mark.parametrize("ndim", [2, 3])
def test_a_prepared_call_is_a_call(ndim, config, batch):
    """To 1e-5 of the largest value, at every level of noise."""
    made = method(ndim, **config)
    size = (8, 16, 24)[-ndim:]
    condition, x = torch.randn(batch, 4, *size), torch.randn(batch, 1, *size)
    with torch.inference_mode():
        share = made.prepare(condition)
        assert share.shape == (batch, 8 * (1 + bool(config)), *size)
        for sigma in (0.1, 1.0, 30.0):
            level = torch.tensor(sigma)
            wanted = made.denoise(sigma * x, level, condition)
            found = made.denoise(sigma * x, level, condition, share)
            off = made.denoise(sigma * x, level, condition, share.roll(1, dims=-1))
            bound = 1e-5 * wanted.abs().max().item()
            torch.testing.assert_close(found, wanted, rtol=0, atol=bound)
            assert (off - wanted).abs().max() > 100 * bound


@pytest.mark.parametrize("config", [{}, GUIDED])
@pytest.mark.parametrize("neighbours", [0, 1])
def test_tiles_of_a_volume(neighbours, config):
    """Also slices that see their neighbours; two tiles at once, one of them already known."""
    ndim = 2 if neighbours else 3
    made = method(ndim, 6 if neighbours else 2, **config)
    made.prepared_channels = 8 * (1 + bool(config))  # two dimensions do not ask for it
    condition, x = torch.randn(2, 8, 16, 16), torch.randn(1, 8, 16, 16)
    thick = 1 if neighbours else 4
    boxes = [(slice(a, a + thick), slice(0, 16), slice(b, b + 8)) for a, b in ((0, 8), (4, 0))]
    plain = TileNetwork(made, condition, FP32, neighbours=neighbours)
    quick = TileNetwork(made, condition, FP32, neighbours=neighbours, keep=2**20)
    with torch.inference_mode():
        for sigma, asked in ((5.0, boxes[:1]), (1.0, boxes), (0.2, boxes)):
            wanted = plain.denoise(x, torch.tensor(sigma), asked)
            found = quick.denoise(x, torch.tensor(sigma), asked)
            bound = 1e-5 * wanted.abs().max().item()
            torch.testing.assert_close(found, wanted, rtol=0, atol=bound)
    assert quick.calls == plain.calls == 5


def bundle(made):
    card = Card(
        name="fake", method="diffusion", modes=("sample", "mc"), channels="max_ramps",
        preprocessing=Preprocessing(
            tile=(8, 16, 16), flip_average=False, hu_low=-1000, hu_high=1000
        ),
    )  # fmt: skip
    return Bundle(card, made, Path())


@pytest.mark.parametrize("config", [{}, GUIDED])
def test_memory_decides_how_often_it_is_prepared_and_never_the_result(monkeypatch, config):
    made = method(3, **config)
    count = 0
    share = SAUNet.share

    def counted(self, condition):
        nonlocal count
        count += 1
        return share(self, condition)

    monkeypatch.setattr(SAUNet, "share", counted)
    data = np.random.default_rng(0).gamma(2, 100, (8, 24, 40)).astype(np.float32)
    mr = Volume(data, np.eye(4), "mr")
    tiles = len(plan_tiles((8, 24, 40), (8, 16, 16), divisor=2))
    assert tiles > 4
    found = {}
    for keep in ("all", "one", "none"):
        with monkeypatch.context() as patched:
            if keep != "all":
                room = 1.5 if keep == "one" else 0.5
                size = 8 * 16 * 16 * 4 * made.prepared_channels
                patched.setattr(
                    "spinect.inference.walk.plan_memory",
                    lambda *args, left=room * size: _limited(plan_memory(*args), left),
                )
            count = 0
            out = translate(mr, bundle(made), mode="sample", precision="fp32", device="cpu")
            found[keep] = out.ct.data, count / (1 + bool(config))
    assert [made for _, made in found.values()] == [tiles, 3 * tiles - 2, 3 * tiles]
    np.testing.assert_array_equal(found["all"][0], found["none"][0])
    np.testing.assert_array_equal(found["one"][0], found["none"][0])
    made.prepared_channels = 0
    usual = translate(mr, bundle(made), mode="sample", precision="fp32", device="cpu")
    assert usual.ct.data.std() > 50
    bound = 0.05 if config else 0.01  # HU of 2000; guidance multiplies rounding, and so do steps
    np.testing.assert_allclose(found["all"][0], usual.ct.data, atol=bound)


def _limited(plan, left):
    return replace(plan, keep=int(left))


def test_the_plan_counts_what_is_kept(monkeypatch):
    monkeypatch.setattr("spinect.inference.plan.resident_bytes", lambda: 0)
    made, tiling = method(3), plan_tiles((8, 24, 40), (8, 16, 16), divisor=2)
    every = 32 * 8 * 16 * 16 * len(tiling)

    def plan(prepared, most):
        demand = Demand(4, 1, 4, samples=True, prepared=prepared)
        return plan_memory(made, tiling, demand, FP32, most)

    without = plan(0, 2**40)
    assert without.keep is None
    free = plan(32, 2**40)
    assert (free.keep, free.peak_bytes) == (every, without.peak_bytes + every)
    tight = plan(32, without.peak_bytes + every // 2)
    assert (tight.keep, tight.peak_bytes) == (every // 2, without.peak_bytes + every // 2)


@pytest.mark.skipif(not can_pack(torch.bfloat16), reason="no bf16 on this processor")
def test_bf16_stays_near_fp32():
    """As near as calls that prepare nothing."""
    made = method(3)
    condition, x = torch.randn(4, 8, 16, 16), torch.randn(1, 8, 16, 16)
    whole, sigma = [(slice(0, 8), slice(0, 16), slice(0, 16))], torch.tensor(1.0)
    low = Compute(torch.device("cpu"), torch.bfloat16)
    with torch.inference_mode():
        exact = TileNetwork(made, condition, FP32).denoise(x, sigma, whole)
        off = [
            (TileNetwork(made, condition, low, keep=keep).denoise(x, sigma, whole) - exact).norm()
            for keep in (None, 2**20)
        ]
    assert 0 < off[1] < 1.2 * off[0] < 0.03 * exact.norm()
