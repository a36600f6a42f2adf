"""Packed convolutions against plain ones: the same numbers, the same tensors."""

import pytest
import torch
from torch import nn

from spinect.data.tiles import plan_tiles
from spinect.inference.compute import Compute
from spinect.inference.plan import Demand, plan_memory
from spinect.methods.registry import build
from spinect.nets.packed import PackedConv, can_pack, packed, packed_bytes

pytestmark = pytest.mark.skipif(not can_pack(torch.float32), reason="torch without oneDNN")

SHAPE = {"channels": (8, 16), "blocks": (1, 1), "decoder_blocks": (1,), "head": 16}
ATTENTION = {"kind": "sa_unet", "width": 8, "multiples": (1, 2)}
NETWORKS = [
    {"ndim": 2, "network": SHAPE},
    {"ndim": 3, "network": SHAPE},
    {"ndim": 3, "network": SHAPE | {"norm": "batch"}},
    {"ndim": 2, "network": ATTENTION},
    {"ndim": 3, "network": ATTENTION | {"attention": False, "skips": "mean"}},
]


def method(config):
    times = {"schedule": "ddpm_cosine"} if config["network"].get("kind") else {}
    torch.manual_seed(0)
    made = build("diffusion", config | times | {"in_channels": 3, "predicts": "x0"}).eval()
    for parameter in made.parameters():  # residual blocks start at zero
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return made


def inputs(ndim):
    size = (16, 24, 32)[-ndim:]
    return torch.randn(2, 1, *size), torch.tensor(1.5), torch.randn(2, 3, *size)


@pytest.mark.parametrize("config", NETWORKS)
def test_packed_says_what_plain_says(config):
    """fp32 to 1e-5 of the largest value; the plain method stays and lends its tensors."""
    plain = method(config)
    kinds = [type(m) for m in plain.modules()]
    quick = packed(plain, torch.float32)
    with torch.inference_mode():
        asked = inputs(config["ndim"])
        wanted, found = plain.denoise(*asked), quick.denoise(*asked)
    assert wanted.std() > 0.01
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * wanted.abs().max().item())
    assert kinds == [type(m) for m in plain.modules()]
    assert sum(isinstance(m, PackedConv) for m in quick.modules()) > 8
    lent = {p.data_ptr() for p in plain.parameters()}
    assert {p.data_ptr() for p in quick.parameters()} <= lent


@pytest.mark.skipif(not can_pack(torch.bfloat16), reason="no bf16 on this processor")
@pytest.mark.parametrize("config", NETWORKS)
def test_packed_bf16_is_that_of_autocast(config):
    """As near to fp32 as the plain network under autocast, its precise layers in fp32 too."""
    plain = method(config)
    quick = packed(plain, torch.bfloat16)
    with torch.inference_mode():
        asked = inputs(config["ndim"])
        exact = plain.denoise(*asked)
        with torch.autocast("cpu", torch.bfloat16):
            usual, found = plain.denoise(*asked), quick.denoise(*asked)
        torch.testing.assert_close(quick.denoise(*asked), exact)  # no autocast, no bf16
    assert found.dtype == torch.float32
    off, bound = (found - exact).norm(), (usual - exact).norm()
    assert 0 < bound < 0.05 * exact.norm()
    assert off < 1.2 * bound


def test_a_layer_answers_again_only_what_it_was_asked():
    plain = nn.Linear(4, 3)
    layer = packed(nn.Sequential(plain), torch.float32)[0]
    one, other = torch.randn(2, 1, 4)
    with torch.inference_mode():
        first = layer(one)
        assert layer(one.clone()) is first
        for asked in (other, one, one.expand(2, 4)):
            assert torch.equal(layer(asked), plain(asked))
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(one.expand(2, 4)).dtype == torch.bfloat16
        assert layer(one).dtype == torch.float32


def test_other_kinds_of_convolution_stay_plain():
    """Padding that the kernels do not make themselves, and the way back up."""
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1),
        nn.Conv2d(4, 6, 3, groups=2, dilation=2, stride=2, bias=False),
    )
    quick = packed(module, torch.float32)
    assert [isinstance(m, PackedConv) for m in quick] == [False, False, False, True]
    x = torch.randn(1, 3, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(quick(x), module(x))
    assert packed_bytes(module, torch.float32) == 6 * 2 * 3 * 3 * 4
    assert packed_bytes(module, torch.bfloat16) == 6 * 2 * 3 * 3 * 2


def test_the_plan_counts_the_packed_weights(monkeypatch):
    made, tiling = method(NETWORKS[1]), plan_tiles((16, 16, 16), (16, 16, 16), divisor=4)
    compute = Compute.choose("cpu", "fp32")
    monkeypatch.setattr("spinect.inference.plan.resident_bytes", lambda: 0)

    def peak():
        return plan_memory(made, tiling, Demand(3, 1, 4, samples=True), compute, 2**40).peak_bytes

    with_them = peak()
    weights = sum(m.weight.numel() for m in made.modules() if type(m) is nn.Conv3d)
    monkeypatch.setattr(Compute, "packs", False)
    assert with_them - peak() == 4 * weights


def test_a_torch_whose_operators_changed_runs_plain_and_says_so(monkeypatch, caplog):
    def changed(*_):
        raise TypeError("_convolution_pointwise() takes 12 arguments")

    monkeypatch.setattr(PackedConv, "forward", changed)
    assert can_pack.__wrapped__(torch.float32) is False
    assert "packs no weights" in caplog.text
    assert "takes 12 arguments" in caplog.text


def test_trying_the_operators_draws_no_random_numbers():
    before = torch.random.get_rng_state()
    assert can_pack.__wrapped__(torch.float32)
    assert torch.equal(torch.random.get_rng_state(), before)
