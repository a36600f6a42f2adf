"""A part of a volume: what is inside must not tell that the rest was left out."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spinect.bundle import Bundle
from spinect.card import Card, Preprocessing
from spinect.data.tiles import plan_tiles
from spinect.errors import GeometryError
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.inference import predict_masks, to_native, translate
from spinect.inference.compute import Compute, TileNetwork
from spinect.inference.region import box_on, region_mask
from spinect.protocols import HEADS

STEPS = 3
ROUNDING = 1e-3  # HU: a batch of other size may sum in another order


class Network(nn.Module):
    """One random convolution that sees a voxel to each side; its sampler feeds itself."""

    divisor = 1
    modes = ("regress", "sample", "mc")

    def __init__(self, channels=3, ndim=3, heads=("ct",)):
        super().__init__()
        torch.manual_seed(0)
        self.in_channels, self.ndim, self.heads = channels, ndim, heads
        kind = nn.Conv3d if ndim == 3 else nn.Conv2d
        self.layer = kind(channels, sum(HEADS[h] for h in heads), 3, padding=1)
        self.back = kind(1, 1, 3, padding=1)

    def predict(self, condition):
        return self.layer(condition)

    def denoise(self, x, sigma, condition):
        return torch.tanh(self.layer(condition)[:, :1] + self.back(x) / (1 + sigma))

    def sample(self, denoise, like, steps, randn):
        sigma = torch.tensor(1.0)
        x = randn(like)
        for _ in range(steps or STEPS):
            x = denoise(x, sigma) + 0.1 * randn(like)
        return x


def bundle_of(method, tile=(16, 16, 16), neighbours=0, flip=False, **card):
    settings = Preprocessing(
        tile=tile, raster="slices" if method.ndim == 2 else "iso", neighbours=neighbours,
        hu_low=-1000, hu_high=1000, flip_average=flip, axes=card.pop("axes", "RAS"),
    )  # fmt: skip
    made = Card(name="fake", method="fake", modes=method.modes, preprocessing=settings, **card)
    return Bundle(made, method.eval(), Path())


@pytest.fixture(scope="module")
def mr():
    """Noise on an oblique, anisotropic grid (P, I, R) of 3 mm slices."""
    data = np.random.default_rng(0).uniform(20, 500, (44, 57, 12)).astype(np.float32)
    turn = np.array([[0.99, -0.14, 0], [0.14, 0.99, 0], [0, 0, 1]])
    turn = np.linalg.qr(turn)[0] @ np.array([[0, 0, 3.0], [-1, 0, 0], [0, -1, 0]])
    affine = np.eye(4)
    affine[:3, :3] = turn
    return Volume(data, affine, "mr")


def run(mr, bundle, region=None, **options):
    return translate(mr, bundle, region=region, device="cpu", precision="fp32", **options)


def some(grid):
    """A box in a corner of a grid, and which voxels it holds."""
    box = tuple(slice(n // 6, n // 2) for n in grid.shape)
    return grid.crop([b.start for b in box], [b.stop - b.start for b in box]), box


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("channels", ["robust3", "max_ramps"])
def test_regress_is_the_same_inside_and_air_outside(mr, channels, flip):
    count = {"robust3": 3, "max_ramps": 4}[channels]
    bundle = bundle_of(Network(count), flip=flip, channels=channels)
    whole = run(mr, bundle)
    region, box = some(whole.grid)
    part = run(mr, bundle, region)
    np.testing.assert_allclose(part.ct.data[box], whole.ct.data[box], atol=ROUNDING)
    outside = np.ones(whole.grid.shape, bool)
    outside[box] = False
    assert (part.ct.data[outside] == -1000).all()
    assert not part.inside[outside].any()
    np.testing.assert_array_equal(part.inside[box], whole.inside[box])
    assert 0 < part.calls < whole.calls


def test_masks_are_the_same_inside_and_nothing_outside(mr):
    heads = ("ct", "classes", "centre", "offset")
    bundle = bundle_of(Network(heads=heads))
    options = {"device": "cpu", "precision": "fp32"}
    whole = predict_masks(mr, bundle, **options)
    region, box = some(whole.grid)
    part = predict_masks(mr, bundle, **options, region=region)
    for name in ("classes", "vertebra", "centre", "offset"):
        got, wanted = getattr(part, name), getattr(whole, name).copy()
        inner = (slice(None),) * (got.ndim - 3) + box
        kept = wanted[inner].copy()
        wanted[:] = 0
        wanted[inner] = kept
        np.testing.assert_array_equal(got, wanted)
        assert got.any()


@pytest.mark.parametrize("neighbours", [0, 2])
@pytest.mark.parametrize("axes", ["RAS", "SRA"])
def test_slices_are_sampled_the_same(mr, neighbours, axes):
    """Slices do not know of each other; those beside a slice that is left out are still seen."""
    network = Network(3 * (2 * neighbours + 1), ndim=2)
    bundle = bundle_of(network, (1, 64, 64), neighbours, axes=axes)
    whole = run(mr, bundle, mode="mc", samples=2, medoid=True, interval=0.3)
    region, box = some(whole.grid)
    part = run(mr, bundle, region, mode="mc", samples=2, medoid=True, interval=0.3)
    assert 0 < part.calls < whole.calls
    pairs = [
        (part.ct, whole.ct, ROUNDING),
        (part.std, whole.std, ROUNDING),
        (part.interval.lower, whole.interval.lower, 1),  # whole HU
        (part.interval.upper, whole.interval.upper, 1),
    ]
    for got, wanted, near in pairs:
        np.testing.assert_allclose(got.data[box], wanted.data[box], atol=near)
        outside = got.data.copy()
        outside[box] = got.rules.outside
        assert (outside == got.rules.outside).all()
    assert (part.medoid.ct.data[box] > -1000).any()


def test_one_step_in_three_dimensions_is_sampled_the_same(mr):
    whole = run(mr, bundle_of(Network()), mode="sample", steps=1)
    region, box = some(whole.grid)
    part = run(mr, bundle_of(Network()), region, mode="sample", steps=1)
    np.testing.assert_allclose(part.ct.data[box], whole.ct.data[box], atol=ROUNDING)


def test_several_steps_differ_only_near_the_faces(mr):
    """What is left out is told step by step, as far as the network sees: here a voxel a step."""
    bundle, steps = bundle_of(Network(), (12, 12, 12)), 8
    whole = run(mr, bundle, mode="sample", steps=steps)
    shape = whole.grid.shape
    tiling = plan_tiles(shape, (12, 12, 12))
    next_tile = tiling.axes[2].starts[2] - tiling.before[2]  # the region ends where it begins
    last = next_tile + tiling.axes[2].starts[1] + 12 - tiling.axes[2].starts[2]
    region = whole.grid.crop((0, 0, 0), (*shape[:2], next_tile))
    part = run(mr, bundle, region, mode="sample", steps=steps)
    assert part.calls < whole.calls
    differs = np.abs(part.ct.data - whole.ct.data)[..., :next_tile] > ROUNDING
    assert differs.any()
    assert not differs[..., : last - steps].any()


def test_the_native_grid_mixes_nothing_with_what_was_left_out(mr):
    bundle = bundle_of(Network())
    whole = run(mr, bundle)
    region, _ = some(whole.grid)
    part = run(mr, bundle, region)
    mask = region_mask(region, part.grid, mr.grid).data > 0
    got, _ = to_native(part, mr)
    assert 0.03 < mask.mean() < 0.06  # of a third of each axis, less the faces
    wanted = resample(whole.image, mr.grid).data[mask]
    np.testing.assert_allclose(got.data[mask], wanted, atol=ROUNDING)
    assert (got.data[~mask] == -1000).all()


def test_a_region_is_told_on_any_grid_along_its_axes():
    region = Grid((10, 20, 30), np.diag([1.0, 1.0, 1.0, 1.0])).crop((5, 6, 7), (10, 20, 30))
    turned = Grid((40, 40, 40)).reoriented("PIR")
    held = np.zeros((40, 40, 40), bool)
    held[box_on(region, turned)] = True
    at = turned.world(np.argwhere(held))
    assert held.sum() == 10 * 20 * 30
    np.testing.assert_allclose(at.min(0), [5, 6, 7])
    np.testing.assert_allclose(at.max(0), [14, 25, 36])
    coarse = Grid((10, 10, 10), np.diag([4.0, 4, 4, 1]))
    assert box_on(region, coarse) == (slice(2, 4), slice(2, 7), slice(2, 10))  # centres count


def test_a_region_elsewhere_or_askew_is_refused():
    grid = Grid((20, 20, 20))
    with pytest.raises(GeometryError, match="lies outside"):
        box_on(grid.crop((30, 0, 0), (5, 5, 5)), grid)
    turn = np.eye(4)
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    with pytest.raises(GeometryError, match="not parallel"):
        box_on(Grid((5, 5, 5), turn), grid)


def test_without_a_region_everything_belongs_to_it(mr):
    assert region_mask(None, mr.grid, mr.grid).data.all()


def test_the_mirrored_pass_is_the_plain_mean_to_the_bit():
    """The sums are made in place; only the offset to the right turns its sign."""
    heads = ("ct", "offset")
    condition = torch.rand(3, 10, 12, 14)
    network = TileNetwork(
        Network(heads=heads).eval(), condition, Compute.choose("cpu", "fp32"), True
    )
    boxes = [tuple(slice(0, n) for n in condition.shape[1:])]
    with torch.no_grad():
        plain = network.method.predict(condition[None])
        mirrored = network.method.predict(condition[None].flip(2)).flip(2)
        told = network.regress(boxes)
    signs = torch.tensor([1, -1, 1, 1.0]).view(-1, 1, 1, 1)
    assert torch.equal(told, (plain + mirrored * signs) / 2)
