"""What every registered method must do, whatever it is; a new method inherits all of it."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch

import spinect.inference as inference
from spinect.anatomy import CLASSES
from spinect.bundle import Bundle
from spinect.card import Card, Preprocessing
from spinect.errors import BundleError, ConfigError, ResourceError
from spinect.geometry import Volume
from spinect.inference.compute import Compute
from spinect.inference.prepare import CHANNELS
from spinect.inference.walk import fit
from spinect.methods.registry import build, config_model, describe, names
from spinect.methods.translate import monte_carlo, translate
from spinect.protocols import HEADS, Batch

# Networks small enough for a test, where the default is not.
RESIDUAL = {"channels": (8, 12), "blocks": (1, 1), "decoder_blocks": (1,), "head": 8}
SMALL = {
    "cut": {
        "generator": {"kind": "resnet", "width": 8, "halvings": 1, "blocks": 2, "filtered": False},
        "critic": {"width": 8, "halvings": 1, "wide": False},
        "taps": (0, 4, 8),
        "features": 16,
        "patches": 16,
    },
    "diffusion": {"network": RESIDUAL},
    "pix2pix": {
        "generator": {"kind": "skip_unet", "width": 4, "depth": 3},
        "critic": {"width": 4, "halvings": 2, "wide": False},
        "ssim": 10.0,
    },
    "regression": {"network": RESIDUAL},
    "segmentation": {"network": RESIDUAL},
    "syndiff": {
        "steps": 2,
        "generator": {"width": 8, "multiples": (1, 1, 2), "blocks": 1, "attention": 1},
        "translator": {"width": 8, "blocks": 1},
        "noise_critic": {"width": 16, "halvings": 3},
        "patch_critic": {"width": 16, "halvings": 1},
    },
    "wgan": {
        "generator": {"kind": "residual", **RESIDUAL},
        "critic": {"width": 4, "halvings": 1, "wide": False},
        "critic_steps": 2,
    },
}
RATES = {"syndiff": 1e-4}  # as published: at 1e-3 its critics of noise leap
STEPS = 2  # of every draw: a method may know one number only
CASES = [(row["name"], ndim) for row in describe() for ndim in row["ndim"]]
pytestmark = pytest.mark.parametrize(("name", "ndim"), CASES)


def made(name, ndim, seed=0):
    torch.manual_seed(seed)
    return build(name, SMALL.get(name, {}) | {"ndim": ndim})


def answer(method, condition, seed=0):
    """One call where the method offers it, else a draw with noise of its own for each image."""
    if "regress" in method.modes:
        return translate(method, condition)

    def randn(like):
        return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))

    single = [translate(method, one[None], randn, "sample", STEPS) for one in condition]
    return torch.cat(single)


def batch_for(method, count=2):
    """Something of everything that a batch may know, on sizes that are not all alike."""
    generator = torch.Generator().manual_seed(1)
    unit = method.divisor
    size = (4 * unit, 3 * unit, 2 * unit)[: method.ndim]

    def draw(channels):
        return torch.rand(count, channels, *size, generator=generator)

    condition = draw(method.in_channels)
    target = (2 * condition[:, :1] - 1).clamp(-1, 1)
    classes = (condition[:, 0] * len(CLASSES)).clamp(max=len(CLASSES) - 1).to(torch.uint8)
    return Batch(
        condition=condition,
        inside=(draw(1) > 0.1).float(),
        target=target,
        near_bone=(draw(1) > 0.5).float(),
        classes=classes,
        centre=draw(1) ** 4,
        offset=torch.where(draw(1) > 0.5, draw(3), torch.nan),
    )


def step(method, optimisers, batch):
    """One update of every part that has an optimiser, as the trainer does it; losses by part."""
    torch.manual_seed(3)
    found = {}
    for part, loss in method.losses(batch):
        method.zero_grad()
        loss.backward()
        if part in optimisers:
            optimisers[part].step()
        found[part] = loss.item()
    return found


def optimisers_of(method, rate=1e-3):
    return {p: torch.optim.AdamW(getattr(method, p).parameters(), rate) for p in method.parts}


def test_attributes_fulfil_the_protocol(name, ndim):
    """What the driver and the trainer read before they run anything."""
    method = made(name, ndim)
    assert method.ndim == ndim
    assert set(method.heads) <= set(HEADS)
    assert list(method.heads) == sorted(method.heads, key=list(HEADS).index)
    assert set(method.modes) <= {"regress", "sample", "mc"}
    assert method.modes
    covered = {id(p) for part in method.parts for p in getattr(method, part).parameters()}
    assert covered == {id(p) for p in method.parameters()}


def test_the_answer_has_the_channels_of_its_heads(name, ndim):
    """(B, C, *S) to (B, sum of HEADS, *S), float32, finite; no size but multiples of divisor."""
    method = made(name, ndim).eval()
    condition = batch_for(method).condition
    out = answer(method, condition)
    assert out.shape == (2, sum(HEADS[h] for h in method.heads), *condition.shape[2:])
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    torch.testing.assert_close(answer(method, condition), out, rtol=0, atol=0)


def test_each_image_is_answered_alone(name, ndim):
    """The order and the company in a batch change nothing."""
    method = made(name, ndim).eval()
    if "regress" not in method.modes:
        pytest.skip("a draw's noise belongs to its place in the batch")
    condition = batch_for(method, 3).condition
    together = translate(method, condition)
    for index in range(3):
        alone = translate(method, condition[index : index + 1])
        torch.testing.assert_close(alone, together[index : index + 1], rtol=1e-4, atol=1e-5)


def test_draws_depend_on_the_seed_alone(name, ndim):
    """Same seed, same draw; another seed, another; range as the method clamps it; or a refusal."""
    method = made(name, ndim).eval()
    condition = batch_for(method).condition

    def draw(seed):
        generator = torch.Generator().manual_seed(seed)

        def randn(like):
            return torch.randn(like.shape, generator=generator)

        return translate(method, condition, randn, "sample", STEPS)

    if "sample" not in method.modes:
        with pytest.raises(BundleError, match="regress"):
            draw(0)
        with pytest.raises(BundleError, match="regress"):
            method.sample(lambda x, _: x, condition, STEPS, torch.randn_like)
        with pytest.raises(BundleError, match="regress"):
            method.denoise(condition, torch.tensor(1.0), condition)
        return
    first = draw(0)
    assert first.shape == (2, 1, *condition.shape[2:])
    assert first.abs().max() <= 1
    torch.testing.assert_close(draw(0), first, rtol=0, atol=0)
    assert (draw(1) - first).abs().max() > 1e-3 * first.abs().max()  # some begin near zero


def test_monte_carlo_has_a_mean_and_a_spread(name, ndim):
    """Where draws are offered; elsewhere, and for a single draw, a refusal."""
    method = made(name, ndim).eval()
    condition = batch_for(method).condition
    if "mc" not in method.modes:
        with pytest.raises(BundleError, match="sample"):
            monte_carlo(method, condition, samples=2, steps=STEPS)
        return
    torch.manual_seed(0)
    mean, spread = monte_carlo(method, condition, samples=3, steps=STEPS)
    torch.manual_seed(0)
    draws = torch.stack(
        [translate(method, condition, mode="sample", steps=STEPS) for _ in range(3)]
    )
    torch.testing.assert_close(mean, draws.mean(dim=0))
    torch.testing.assert_close(spread, draws.std(dim=0))
    with pytest.raises(ConfigError, match="1 samples"):
        monte_carlo(method, condition, samples=1)


def test_steps_lower_the_loss_on_a_fixed_batch(name, ndim):
    """Each part alone, the others held: ten updates with the same draws; the first one helps."""
    for part in made(name, ndim).parts:
        method = made(name, ndim)
        batch, optimisers = batch_for(method), optimisers_of(method, RATES.get(name, 1e-3))
        only = {part: optimisers[part]}
        history = [step(method, only, batch) for _ in range(11)]
        assert set(history[0]) == set(method.parts)
        assert history[1][part] < history[0][part], part
        assert history[-1][part] < 0.98 * history[0][part], part


def test_each_loss_trains_its_own_part_alone(name, ndim):
    """After a few updates, for some start at zero on purpose, no parameter is left out."""
    method = made(name, ndim)
    batch, optimisers = batch_for(method), optimisers_of(method, RATES.get(name, 1e-3))
    for _ in range(3):
        step(method, optimisers, batch)
    for part, loss in method.losses(batch):
        method.zero_grad()
        loss.backward()
        for key, parameter in method.named_parameters():
            if key.startswith(f"{part}."):
                assert parameter.grad is not None, key
                assert parameter.grad.abs().max() > 0, key
            else:
                assert parameter.grad is None, key
        optimisers[part].step()


def test_what_is_outside_does_not_train(name, ndim):
    """Another truth outside the field of view, the same loss."""
    method = made(name, ndim)
    batch = batch_for(method)
    out = batch.inside == 0
    other = copy.copy(batch)
    object.__setattr__(other, "target", torch.where(out, 0.77, batch.target))
    object.__setattr__(other, "classes", torch.where(out[:, 0], 3, batch.classes).to(torch.uint8))
    object.__setattr__(other, "offset", torch.where(out, 5.0, batch.offset))
    if "sample" in method.modes:  # the noisy truth is the network's input there
        return
    values = []
    for case in (batch, other):
        torch.manual_seed(5)
        values.append([loss.item() for _, loss in method.losses(case)])
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_saved_and_reloaded_weights_answer_alike(name, ndim, tmp_path):
    """Bitwise, through a file."""
    method = made(name, ndim).eval()
    torch.save(method.state_dict(), tmp_path / "weights.pt")
    other = made(name, ndim, seed=9).eval()
    condition = batch_for(method).condition
    assert not torch.equal(answer(other, condition), answer(method, condition))
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    assert torch.equal(answer(other, condition), answer(method, condition))


def test_built_for_inference_it_answers_alike_and_is_smaller(name, ndim):
    """Where a method needs more in training than in use; without it, training is refused."""
    if "inference_only" not in config_model(name).model_fields:
        pytest.skip("needs nothing in training that its answer does not")
    whole = made(name, ndim).eval()
    lean = build(name, SMALL.get(name, {}) | {"ndim": ndim, "inference_only": True}).eval()
    kept = lean.state_dict().keys()
    assert kept < whole.state_dict().keys()
    lean.load_state_dict({key: whole.state_dict()[key] for key in kept})
    condition = batch_for(whole).condition
    assert torch.equal(answer(lean, condition), answer(whole, condition))
    with pytest.raises(ConfigError, match="inference_only"):
        next(iter(lean.losses(batch_for(whole))))


def test_autocast_answers_nearly_alike(name, ndim):
    """bfloat16 networks stay within a few per cent of float32 ones, in training too."""
    method = made(name, ndim).eval()
    condition = batch_for(method).condition
    exact = answer(method, condition)
    with torch.autocast("cpu", torch.bfloat16):
        rough = answer(method, condition)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().max() < 0.05 * exact.abs().max().clamp(min=1)
    losses = []
    for enabled in (False, True):
        torch.manual_seed(4)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            losses.append([loss.item() for _, loss in method.losses(batch_for(method))])
    assert losses[1] == pytest.approx(losses[0], rel=0.03)


def test_it_can_be_measured_without_being_run(name, ndim):
    """On the meta device, where the volume driver asks for the memory of a tile."""
    method = made(name, ndim).to("meta").eval()
    condition = torch.empty(1, method.in_channels, *[2 * method.divisor] * ndim, device="meta")
    if "regress" in method.modes:
        out = translate(method, condition)
    else:
        x = condition[:, :1]
        out = method.denoise(x, torch.empty((), device="meta"), condition)
    assert out.device.type == "meta"


def bundle_of(method, name):
    """In memory, tiles smaller than the volume of `small_mr`; two-dimensional ones see slices."""
    size = 2 * max(method.divisor, 8)
    flat = method.ndim == 2
    settings = Preprocessing(
        tile=(1 if flat else size, size, size), raster="slices" if flat else "iso"
    )
    recipes = {n: r for r, n in CHANNELS.items() if not r.startswith("hu")}
    channels = recipes[method.in_channels]
    card = Card(name="contract", method=name, modes=method.modes, preprocessing=settings,
                channels=channels)  # fmt: skip
    return Bundle(card, method, Path())


def small_mr(bundle):
    """Noise on the bundle's own raster, two to three tiles along each axis of a slice."""
    size = bundle.card.preprocessing.tile[1]
    across = 5 if bundle.method.ndim == 2 else size + 3
    data = np.random.default_rng(0).uniform(10, 500, (across, 2 * size + 5, size + 9))
    return Volume(data.astype(np.float32), np.diag([4.0 if across == 5 else 1.0, 1, 1, 1]), "mr")


def least_memory(mr, bundle, mode):
    """The smallest limit that is accepted, within 1 kB."""
    compute = Compute.choose("cpu", "fp32")
    low, high = 0, 8 * 2**30
    while high - low > 2**10:
        middle = (low + high) // 2
        try:
            fit(mr.grid, bundle, compute, middle, mode)
        except ResourceError:
            low = middle
        else:
            high = middle
    return high


@pytest.mark.parametrize("mode", ["regress", "sample"])
def test_the_memory_limit_changes_nothing(name, ndim, mode, monkeypatch):
    """Many tiles at once in memory, or one by one beside files: the same CT."""
    bundle = bundle_of(made(name, ndim).eval(), name)
    if "ct" not in bundle.method.heads or mode not in bundle.method.modes:
        pytest.skip(f"offers {bundle.method.modes} of {bundle.method.heads}")
    # What the process holds already would decide otherwise; tiles are measured in other tests.
    monkeypatch.setattr("spinect.inference.plan.resident_bytes", lambda: 0)
    monkeypatch.setattr("spinect.inference.plan.activation_bytes", lambda *_: 2**20)
    monkeypatch.setattr("spinect.inference.plan.PREPARE_BYTES", 0)
    mr = small_mr(bundle)
    least = least_memory(mr, bundle, mode)
    plans = [fit(mr.grid, bundle, Compute.choose("cpu", "fp32"), limit, mode)[1]
             for limit in (8 * 2**30, least)]  # fmt: skip
    assert [(plan.batch, plan.on_disk) for plan in plans] == [(4, False), (1, True)]
    steps = None if mode == "regress" else 2
    wide, narrow = (
        inference.translate(
            mr, bundle, mode=mode, steps=steps, max_memory=limit, device="cpu", precision="fp32"
        ).ct.data
        for limit in (8 * 2**30, least)
    )
    assert wide.std() > 1e-3  # some networks start at nearly nothing
    np.testing.assert_allclose(narrow, wide, atol=0.05)  # HU


def test_a_config_with_an_error_is_refused(name, ndim):
    """An unknown key, a value out of range, a number of axes that is not there."""
    for wrong, word in (({"chanels": 3}, "chanels"), ({"ndim": 4}, "ndim")):
        with pytest.raises(ConfigError, match=word):
            build(name, {"ndim": ndim, **wrong})
    model = config_model(name)
    assert model.model_config["frozen"]
    assert model.model_config["extra"] == "forbid"


def test_it_is_described(name, ndim):
    """One row, told by the class before anything is built."""
    (row,) = [row for row in describe() if row["name"] == name]
    assert set(row) == {"name", "summary", "modes", "ndim", "citation"}
    assert ndim in row["ndim"]
    assert row["modes"] == list(made(name, ndim).modes)
    assert "arXiv" in row["citation"]
    assert name in names()
