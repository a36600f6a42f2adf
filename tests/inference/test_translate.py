"""The walk from MR to CT: what a network does not do, the driver must not do either."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spinect.bundle import Bundle
from spinect.card import Card, Preprocessing
from spinect.data.intensity import mr_channels
from spinect.errors import BundleError, ConfigError, ImageError, ResourceError
from spinect.geometry import Volume
from spinect.inference import predict_masks, to_native, translate
from spinect.inference.plan import activation_bytes, resident_bytes
from spinect.inference.uncertainty import RunningMoments
from spinect.protocols import HEADS, OFFSET_MM

GB = 2**30


class Identity(nn.Module):
    """The CT is half of the first channel; every mask head is a closed function of the input."""

    ndim, divisor, in_channels = 3, 1, 3
    parts: tuple[str, ...] = ()
    modes = ("regress",)
    heads: tuple[str, ...] = ("ct",)

    def __init__(self, ndim=3):
        super().__init__()
        self.ndim = ndim

    def predict(self, condition):
        assert condition.ndim == self.ndim + 2
        return condition[:, :1] / 2


class Convolution(nn.Module):
    """Two random convolutions: they see two voxels to each side."""

    ndim, divisor, in_channels = 3, 1, 3
    modes = ("regress",)
    heads: tuple[str, ...] = ("ct", "classes", "centre", "offset")

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        out = sum(HEADS[head] for head in self.heads)
        self.first = nn.Conv3d(3, 8, 3, padding=1)
        self.last = nn.Conv3d(8, out, 3, padding=1)

    def predict(self, condition):
        return self.last(F.silu(self.first(condition)))


class Noisy(nn.Module):
    """The sampler's answer is the input plus a tenth of the noise it was given."""

    ndim, divisor, in_channels = 3, 1, 3
    modes = ("regress", "sample", "mc")
    heads: tuple[str, ...] = ("ct",)
    scale = 0.1

    def predict(self, condition):
        return condition[:, :1] / 2

    def denoise(self, x, sigma, condition):
        return condition[:, :1] / 2 + self.scale * x / sigma

    def sample(self, denoise, like, steps, randn):
        assert steps is None
        sigma = torch.tensor(4.0)
        return denoise(sigma * randn(like), sigma)


def _bundle(method, tile=(16, 16, 16), flip=False, modes=None, overlap=0.25, **card):
    settings = Preprocessing(
        tile=tile, overlap=overlap, flip_average=flip, hu_low=-1000, hu_high=1000
    )
    modes = method.modes if modes is None else modes
    card = Card(name="fake", method="fake", modes=modes, preprocessing=settings, **card)
    return Bundle(card, method.eval(), Path())


@pytest.fixture(scope="module")
def mr():
    """A smooth random image on an oblique-ordered, anisotropic grid (P, I, R) of 2.5 mm slices."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((1, 1, 8, 10, 4), dtype=np.float32))
    data = F.interpolate(coarse, size=(30, 41, 9), mode="trilinear", align_corners=True)[0, 0]
    affine = np.array([[0, 0, 2.5, -9], [-1, 0, 0, 12], [0, -1, 0, 30], [0, 0, 0, 1]], float)
    return Volume(data.numpy() * 500 + 20, affine, "mr")


def _expected(mr):
    """The MR on its 1 mm grid, scaled as channel 0, and halved, in HU."""
    from spinect.geometry.resample import to_iso

    iso = to_iso(mr)
    data = torch.from_numpy(iso.data)[None, None]
    return iso, mr_channels(data, torch.ones_like(data))[0, 0].numpy() / 2 * 1000


@pytest.mark.parametrize("tile", [(8, 8, 8), (16, 16, 16), (24, 12, 40), (64, 64, 64)])
@pytest.mark.parametrize("flip", [False, True])
def test_identity_gives_back_the_mr_whatever_the_tile(mr, tile, flip):
    iso, expected = _expected(mr)
    out = translate(mr, _bundle(Identity(), tile, flip), device="cpu", precision="fp32")
    assert out.grid.matches(iso.grid)
    assert out.inside.all()
    np.testing.assert_allclose(out.ct.data, expected, atol=2e-3)


class Picker(Identity):
    """Gives back one of the channels."""

    def __init__(self, channels, which):
        super().__init__()
        self.in_channels, self.which = channels, which

    def predict(self, condition):
        assert condition.shape[1] == self.in_channels
        return condition[:, self.which : self.which + 1]


@pytest.mark.parametrize("tile", [(16, 16, 16), (24, 48, 48)])
def test_ramps_run_over_the_whole_volume(mr, tile):
    """Also where tiles are many; a volume smaller than the tile counts with its padding."""
    iso, _ = _expected(mr)
    data = torch.from_numpy(iso.data)
    bundle = _bundle(Picker(4, 0), tile, channels="max_ramps")
    out = translate(mr, bundle, device="cpu", precision="fp32")
    unit = (data / float(mr.data.max())).clamp(0, 1) * 2 - 1
    np.testing.assert_allclose(out.ct.data, unit.numpy() * 1000, atol=2e-3)
    for axis, (n, size) in enumerate(zip(iso.data.shape, tile, strict=True)):
        bundle = _bundle(Picker(4, axis + 1), tile, channels="max_ramps")
        out = translate(mr, bundle, device="cpu", precision="fp32")
        whole = max(n, size)
        wanted = (np.arange(n) + (whole - n) // 2) / (whole - 1) * 1000
        told = np.moveaxis(out.ct.data, axis, -1)
        np.testing.assert_allclose(told, np.broadcast_to(wanted, told.shape), atol=2e-3)


def test_ramps_of_a_foreign_network_run_along_its_own_axes(mr):
    """To the right, to the feet, to the back, in this order; the last two fall along S and A."""
    told = {}
    for recipe in ("max_ramps", "max_ramps_rip"):
        picked = [_bundle(Picker(4, c), (16, 16, 16), channels=recipe) for c in range(4)]
        told[recipe] = [translate(mr, b, device="cpu", precision="fp32").ct.data for b in picked]
    image, right, front, head = told["max_ramps"]
    wanted = (image, right, 1000 - head, 1000 - front)  # 1 is 1000 HU
    for ours, theirs in zip(wanted, told["max_ramps_rip"], strict=True):
        np.testing.assert_allclose(theirs, ours, atol=2e-3)


def test_two_dimensional_methods_see_sagittal_slices(mr):
    _, expected = _expected(mr)
    out = translate(mr, _bundle(Identity(2), (1, 16, 16), True), device="cpu", precision="fp32")
    np.testing.assert_allclose(out.ct.data, expected, atol=2e-3)
    with pytest.raises(BundleError, match="its tile must be one slice"):
        translate(mr, _bundle(Identity(2)), device="cpu")


def test_constant_boundary_planes_are_outside(mr):
    data = mr.data.copy()
    data[:2] = 255
    data[:, :, -1] = 0
    with pytest.warns(UserWarning, match="3 boundary planes"):
        out = translate(mr.with_data(data), _bundle(Identity()), device="cpu", precision="fp32")
    assert (out.ct.data[~out.inside] == -1000).all()
    assert out.inside.sum() == 20 * 28 * 41  # 8 of 9 slices of 2.5 mm, 28 of 30 rows
    assert (out.ct.data[out.inside] >= 0).all()
    native, std = to_native(out, mr)
    assert native.grid.matches(mr.grid)
    assert std is None
    assert (native.data[:2] == -1000).all()


def test_native_ct_of_the_identity_is_the_mr(mr):
    """In plane the spacing is already 1 mm, so only the slices are averaged back."""
    native, _ = to_native(translate(mr, _bundle(Identity()), device="cpu", precision="fp32"), mr)
    iso, expected = _expected(mr)
    from spinect.geometry.resample import resample

    back = resample(Volume(expected.astype(np.float32), iso.affine, "ct"), mr.grid)
    np.testing.assert_allclose(native.data, back.data, atol=2e-3)


def test_tiles_of_a_convolution_equal_the_whole_volume(mr):
    """Weights vanish on a tile's rim, which is as wide here as the network's sight."""
    method = Convolution()
    bundle = _bundle(method, (24, 24, 24), overlap=1 / 3)
    whole = _bundle(method, (48, 48, 48))
    tiled = translate(mr, bundle, device="cpu", precision="fp32")
    once = translate(mr, whole, device="cpu", precision="fp32")
    crop = tuple(slice(2, -2) for _ in range(3))  # padding differs at the volume's own border
    np.testing.assert_allclose(tiled.ct.data[crop], once.ct.data[crop], atol=2e-2)
    assert (tiled.masks.classes == once.masks.classes)[crop].mean() > 0.999
    assert np.abs(tiled.masks.vertebra.astype(int) - once.masks.vertebra)[crop].max() <= 1
    assert np.abs(tiled.masks.centre.astype(int) - once.masks.centre)[crop].max() <= 1


def test_flip_average_of_a_mirrored_image_is_mirrored(mr):
    """Left and right are treated alike, offsets turn their sign along the first axis only."""
    bundle = _bundle(Convolution(), (24, 24, 24), True)
    canonical = mr.canonical()
    mirrored = canonical.with_data(canonical.data[::-1].copy())
    first = translate(canonical, bundle, device="cpu", precision="fp32")
    second = translate(mirrored, bundle, device="cpu", precision="fp32")
    inner = slice(2, -2)  # one of the borders is padded, the other is not
    np.testing.assert_allclose(first.ct.data[inner], second.ct.data[::-1][inner], atol=2e-2)
    agree = first.masks.classes == second.masks.classes[::-1]
    agree[:2] = agree[-2:] = False
    assert agree[inner].mean() > 0.999
    turned = second.masks.offset[:, ::-1] * np.array([-1, 1, 1], np.int8)[:, None, None, None]
    step = np.abs(first.masks.offset.astype(int) - turned)[:, agree]
    assert step.max() <= 1
    assert np.abs(first.masks.offset).max() > 2


@pytest.mark.parametrize("mode", ["regress", "sample", "mc"])
def test_memory_limit_changes_nothing(mr, mode, monkeypatch):
    bundle = _bundle(Noisy(), (16, 16, 16))
    results = []
    for batch, on_disk in [(4, False), (1, True)]:
        from spinect.inference import walk

        plan = walk.Plan(batch, on_disk, 0)
        monkeypatch.setattr(walk, "plan_memory", lambda *_, plan=plan: plan)
        out = translate(mr, bundle, mode=mode, samples=3, device="cpu", precision="fp32")
        results.append(out)
    a, b = results
    np.testing.assert_allclose(a.ct.data, b.ct.data, atol=1e-4)
    assert isinstance(b.ct.data, np.memmap) == (mode != "sample")
    if mode == "mc":
        np.testing.assert_allclose(a.std.data, b.std.data, atol=1e-4)


def test_memory_limit_is_planned_and_refused(mr):
    bundle = _bundle(Convolution(), (16, 16, 16))
    wide = translate(mr, bundle, device="cpu", precision="fp32", max_memory=8 * GB)
    assert resident_bytes() * 0.8 < wide.planned_peak < 8 * GB
    with pytest.raises(ResourceError, match=r"GB of memory are needed .* 0\.10 GB are allowed"):
        translate(mr, bundle, device="cpu", precision="fp32", max_memory=GB // 10)


def test_activation_bytes_of_a_known_network():
    """Input 3, then 8 (twice while SiLU runs), then 15 channels beside 8."""
    voxels = 16**3
    found = activation_bytes(Convolution(), 3, (16, 16, 16))
    assert found == (3 + 8 + 15) * 4 * voxels


def test_samples_are_those_of_the_noise_field(mr):
    from spinect.inference import NoiseField

    _, expected = _expected(mr)
    out = translate(mr, _bundle(Noisy()), mode="sample", seed=5, device="cpu", precision="fp32")
    noise = NoiseField(5).box((0, 0, 0), out.grid.shape)
    np.testing.assert_allclose(out.ct.data, np.clip(expected + 100 * noise, -1000, 1000), atol=2e-2)
    other = _bundle(Noisy(), (40, 40, 48))
    again = translate(mr, other, mode="sample", seed=5, device="cpu", precision="fp32")
    np.testing.assert_allclose(out.ct.data, again.ct.data, atol=2e-2)  # whatever the tile


def test_mc_has_the_mean_and_spread_of_its_noise(mr):
    _, expected = _expected(mr)
    bundle = _bundle(Noisy(), (40, 40, 48))
    out = translate(mr, bundle, mode="mc", samples=8, device="cpu", precision="fp32")
    inner = np.abs(expected) < 600  # not clipped
    error = (out.ct.data - expected)[inner]
    assert error.std() == pytest.approx(100 / 8**0.5, rel=0.05)
    variance = (out.std.data[inner].astype(float) ** 2).mean()  # ddof 1 is unbiased
    assert variance == pytest.approx(100**2, rel=0.03)
    assert out.calls == 8 * len_tiles(out)


def len_tiles(out):
    return int(np.prod([-(-n // t) for n, t in zip(out.grid.shape, (40, 40, 48), strict=True)]))


def test_modes_that_a_bundle_does_not_offer_are_refused(mr):
    with pytest.raises(BundleError, match="does not offer mode mc"):
        translate(mr, _bundle(Identity()), mode="mc", device="cpu")
    deterministic = Noisy()
    deterministic.scale = 0.0
    with pytest.raises(BundleError, match="identical"):
        translate(mr, _bundle(deterministic), mode="mc", samples=2, device="cpu")
    with pytest.raises(ConfigError, match="at least 2 samples"):
        translate(mr, _bundle(Noisy()), mode="mc", samples=1, device="cpu")
    with pytest.raises(ConfigError, match="steps"):
        translate(mr, _bundle(Noisy()), steps=3, device="cpu")


def test_wrong_inputs_are_refused(mr):
    with pytest.raises(ImageError, match="'mr'"):
        translate(Volume(mr.data, mr.affine, "ct"), _bundle(Identity()), device="cpu")
    with pytest.raises(ImageError, match="constant"):
        translate(mr.with_data(np.full_like(mr.data, 7)), _bundle(Identity()), device="cpu")
    with pytest.raises(ConfigError, match="precision"):
        translate(mr, _bundle(Identity()), device="cpu", precision="fp8")
    with pytest.raises(BundleError, match="cannot segment"):
        predict_masks(mr, _bundle(Identity()), device="cpu")


def test_masks_of_a_ct(mr):
    """The segmenter's walk: HU in, quantised heads out."""

    class Threshold(nn.Module):
        ndim, divisor, modes = 3, 1, ("regress",)
        heads = ("classes", "centre", "offset")

        def predict(self, ct):
            out = ct.new_zeros((len(ct), 14, *ct.shape[2:]))
            bone = (ct[:, 0] > 0.9).float()  # above 200 HU
            out[:, 2] = 20 * bone
            out[:, 0] = 10.0
            out[:, 10] = 4.0
            out[:, 11] = 20 / OFFSET_MM
            out[:, 13] = -7.4 / OFFSET_MM
            return out

    ct = Volume(mr.data, mr.affine, "ct")
    bundle = _bundle(Threshold(), inputs="ct", channels="hu")
    masks = predict_masks(ct, bundle, device="cpu", precision="fp32")
    from spinect.geometry.resample import to_iso

    bone = to_iso(ct).data > 200
    assert np.array_equal(masks.classes == 2, bone)
    assert np.array_equal(masks.vertebra > 127, bone)
    assert (masks.centre == round(255 / (1 + np.exp(-4)))).all()
    assert (masks.offset[:, bone].T == [20, 0, -7]).all()
    assert not masks.offset[:, ~bone].any()


def test_progress_rises_to_one(mr):
    seen = []
    translate(
        mr,
        _bundle(Noisy()),
        mode="mc",
        samples=2,
        device="cpu",
        precision="fp32",
        progress=seen.append,
    )
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_running_moments_far_from_zero():
    values = (1e4 + np.random.default_rng(1).normal(0, 3, (50, 4, 100))).astype(np.float32)
    moments = RunningMoments(np.zeros((4, 100)), np.zeros((4, 100)))
    with pytest.raises(ConfigError, match="at least 2"):
        moments.finish(np.empty((4, 100)), np.empty((4, 100)))
    for value in values:
        moments.add(value)
    mean, std = np.empty((4, 100)), np.empty((4, 100))
    moments.finish(mean, std)
    np.testing.assert_allclose(mean, values.astype(float).mean(0), rtol=1e-13)
    np.testing.assert_allclose(std, values.astype(float).std(0, ddof=1), rtol=1e-10)
