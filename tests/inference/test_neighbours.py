"""2.5D and CT to MR through the volume driver: what a network picks is what comes out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spinect.bundle import Bundle
from spinect.card import Card, Preprocessing
from spinect.errors import BundleError, ConfigError, ImageError
from spinect.geometry import Volume
from spinect.inference import to_native, translate
from spinect.inference.prepare import relative_mr

SHAPE = (7, 30, 41)


class Picker(nn.Module):
    """Gives back one channel of what it sees, in one call or as a sample."""

    ndim, divisor = 2, 1
    modes, heads = ("regress", "sample", "mc"), ("ct",)

    def __init__(self, channels, which, ndim=2, scale=1.0):
        super().__init__()
        self.in_channels, self.which, self.ndim, self.scale = channels, which, ndim, scale

    def predict(self, condition):
        assert condition.shape[1] == self.in_channels
        return condition[:, self.which : self.which + 1] * self.scale

    def denoise(self, x, sigma, condition):
        return self.predict(condition) + 0.01 * x / sigma

    def sample(self, denoise, like, steps, randn):
        assert steps is None
        sigma = torch.tensor(4.0)
        return denoise(sigma * randn(like), sigma)


def bundle_of(method, tile, neighbours=0, **card):
    settings = Preprocessing(
        tile=tile, raster="slices" if method.ndim == 2 else "iso", neighbours=neighbours,
        hu_low=-1000, hu_high=1000, flip_average=False,
    )  # fmt: skip
    made = Card(name="fake", method="fake", modes=method.modes, preprocessing=settings, **card)
    return Bundle(made, method.eval(), Path())


@pytest.fixture(scope="module")
def mr():
    """Noise of seven slices of 4 mm."""
    data = np.random.default_rng(0).uniform(20, 500, SHAPE).astype(np.float32)
    return Volume(data, np.diag([4.0, 1, 1, 1]), "mr")


@pytest.fixture(scope="module")
def ct():
    """Noise of seven slices on axes (P, I, R) of 4 mm."""
    data = np.random.default_rng(1).uniform(-900, 900, (30, 41, 7)).astype(np.float32)
    affine = np.array([[0, 0, 4.0, -9], [-1, 0, 0, 12], [0, -1, 0, 30], [0, 0, 0, 1]])
    return Volume(data, affine, "ct")


def run(volume, bundle, **options):
    return translate(volume, bundle, device="cpu", precision="fp32", **options)


@pytest.mark.parametrize("tile", [(1, 64, 64), (1, 16, 20)])
@pytest.mark.parametrize("mode", ["regress", "sample"])
@pytest.mark.parametrize("neighbours", [1, 2])
def test_a_picked_neighbour_is_the_volume_shifted(mr, tile, mode, neighbours):
    """The image of channel 3 j is that of the slice before or behind; the faces are repeated."""
    count = 3 * (2 * neighbours + 1)
    own = run(mr, bundle_of(Picker(3, 0, scale=0.5), tile), mode=mode).ct.data
    shifts = [0, *(n for n in range(-neighbours, neighbours + 1) if n)]
    for place, shift in enumerate(shifts):
        picker = Picker(count, 3 * place, scale=0.5)
        out = run(mr, bundle_of(picker, tile, neighbours), mode=mode).ct.data
        slots = np.clip(np.arange(SHAPE[0]) + shift, 0, SHAPE[0] - 1)
        # A sample carries noise of a hundredth, which belongs to the place and not to the slice.
        close = 1e-3 if mode == "regress" else 1000 * 0.01 * 12
        np.testing.assert_allclose(out, own[slots], atol=close)


def test_memory_decides_nothing(mr):
    """The condition on disk, one tile at a time: the same bits."""
    bundle = bundle_of(Picker(9, 6, scale=0.5), (1, 16, 20), 1)
    plain = run(mr, bundle)
    from spinect.inference import walk

    kept = walk.fit

    def on_disk(*args):
        tiling, plan = kept(*args)
        return tiling, type(plan)(1, True, plan.peak_bytes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(walk, "fit", on_disk)
        again = run(mr, bundle)
    np.testing.assert_array_equal(plain.ct.data, again.ct.data)


def test_more_slices_need_more_memory(mr):
    """The plan counts what a tile of three slices takes."""
    plans = [
        run(mr, bundle_of(Picker(3 * (2 * n + 1), 0), (1, 64, 64), n)).planned_peak for n in (0, 2)
    ]
    assert plans[1] > plans[0]


def test_a_network_of_other_channels_is_refused(mr):
    with pytest.raises(BundleError, match=r"1 neighbours .* are 9 channels .* takes 3 in 2"):
        run(mr, bundle_of(Picker(3, 0), (1, 16, 16), 1))
    with pytest.raises(BundleError, match="in 3 dimensions"):
        run(mr, bundle_of(Picker(9, 0, ndim=3), (8, 16, 16), 1))


MR_MAKER = {"inputs": "ct", "makes": "T2w", "channels": "hu_range"}


@pytest.mark.parametrize(("ndim", "tile"), [(3, (8, 16, 16)), (2, (1, 16, 20)), (2, (1, 64, 64))])
def test_identity_gives_back_the_ct_as_an_mr(ct, ndim, tile):
    """-1000 and 1000 HU are 0 and 1500 of relative intensity, on the CT's own grid."""
    out = run(ct, bundle_of(Picker(1, 0, ndim), tile, **MR_MAKER))
    assert out.image.kind == "mr"
    native, std = to_native(out, ct)
    assert native.kind == "mr"
    assert std is None
    assert native.grid.matches(ct.grid)
    if ndim == 2:  # 1 mm in plane as measured: nothing is interpolated
        np.testing.assert_allclose(native.data, (ct.data + 1000) / 2000 * 1500, atol=0.01)
    with pytest.raises(ImageError, match="made an MR, where a CT is needed"):
        _ = out.ct


def test_outside_the_field_of_view_an_mr_is_zero(ct, monkeypatch):
    """What the kind says, not the air of a CT; a network that says 1 everywhere shows where."""

    class Bright(Picker):
        def predict(self, condition):
            return torch.ones_like(condition[:, :1])

    def left_half(_volume, grid):
        inside = np.zeros(grid.shape, bool)
        inside[:4] = True
        return inside

    monkeypatch.setattr("spinect.inference.prepare._coverage", left_half)
    made = run(ct, bundle_of(Bright(1, 0), (1, 16, 16), **MR_MAKER)).image.data
    np.testing.assert_allclose(made[:4], 1500, atol=0.01)
    assert (made[4:] == 0).all()


def test_neighbours_of_a_ct(ct):
    """The padding of a CT is air, the neighbours are those of the same CT."""
    own = run(ct, bundle_of(Picker(1, 0), (1, 16, 20), **MR_MAKER)).image
    out = run(ct, bundle_of(Picker(3, 2), (1, 16, 20), 1, **MR_MAKER)).image
    slots = np.clip(np.arange(7) + 1, 0, 6)
    np.testing.assert_allclose(out.data, own.data[slots], atol=1e-3)


def test_samples_of_an_mr_have_a_mean_and_a_spread(ct):
    bundle = bundle_of(Picker(1, 0), (1, 64, 64), **MR_MAKER)
    out = run(ct, bundle, mode="mc", samples=4)
    assert (out.image.kind, out.std.kind) == ("mr", "mr")
    # Unit noise of 0.01 on [-1, 1], where 750 of relative intensity are 1.
    assert float(out.std.data[out.inside].mean()) == pytest.approx(7.5 * 0.92, rel=0.1)
    with pytest.raises(ConfigError, match="kept in HU, and bundle fake makes T2w"):
        run(ct, bundle, mode="mc", samples=4, medoid=True)


def test_each_direction_refuses_the_other_image(mr, ct):
    with pytest.raises(ImageError, match="takes a volume of kind 'ct', not 'mr'"):
        run(mr, bundle_of(Picker(1, 0), (1, 16, 16), **MR_MAKER))
    with pytest.raises(ImageError, match="takes a volume of kind 'mr', not 'ct'"):
        run(ct, bundle_of(Picker(3, 0), (1, 16, 16)))
    with pytest.raises(ValueError, match="it makes an MR"):
        Card(name="x", method="fake", makes="T2w")


def test_a_measured_mr_in_the_unit_of_a_synthetic_one(mr):
    """Channel 0 of what a network sees of it, a thousandfold, whatever its gain and offset."""
    card = bundle_of(Picker(3, 0), (1, 16, 20)).card
    truth, inside = relative_mr(mr, card)
    seen = run(mr, bundle_of(Picker(3, 0, scale=0.5), (1, 16, 20))).ct.data
    assert inside.all()
    np.testing.assert_allclose(truth.data, seen * 2, atol=1e-2)
    other, _ = relative_mr(mr.with_data(mr.data * 7 + 30), card)
    np.testing.assert_allclose(other.data, truth.data, atol=0.5)
