"""The tile that is shown again: where it lies, what is turned, and what is counted."""

import numpy as np
import pytest
import torch

from spinect.bundle import Bundle
from spinect.card import Card, Preprocessing
from spinect.geometry import Grid, Volume
from spinect.inference import MaskHeads, predict_masks, probe
from spinect.inference.mirror import Overlap, vertebra_probability
from spinect.inference.probe import TURNS, densest_box
from spinect.protocols import HEADS

HEADS_OF = ("ct", "classes", "centre", "offset")


class Pointwise(torch.nn.Module):
    """Vertebra where the image is bright; arcus in the upper front of the tile, else body."""

    ndim, parts, modes, heads = 3, (), ("regress",), HEADS_OF
    in_channels, divisor = 3, 8

    def predict(self, condition):
        channels = sum(HEADS[h] for h in HEADS_OF)
        out = condition.new_zeros((len(condition), channels, *condition.shape[2:]))
        classes = out[:, 1:11]
        bright = condition[:, 0] > 0.5
        half = [n // 2 for n in condition.shape[3:]]
        classes[:, 0] = torch.where(bright, -20.0, 20.0)
        classes[:, 2] = torch.where(bright, 20.0, -20.0)
        corner = classes[:, :, :, half[0] :, half[1] :]
        corner[:, 3], corner[:, 2] = corner[:, 2].clone(), -20.0
        return out


def bundle(tile=(16, 16, 16), flip=False, network=None):
    about = Preprocessing(tile=tile, flip_average=flip)
    return Bundle(
        Card(name="p", method="regression", preprocessing=about), network or Pointwise(), None
    )


def dark(shape):
    """Noise far below the threshold; planes of one value would not count as image."""
    return np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)


def image(box, shape=(16, 16, 16), affine=None):
    data = dark(shape)
    data[box] += 99.0
    return Volume(data, np.eye(4) if affine is None else affine, "mr")


@pytest.mark.parametrize(
    ("box", "best"),
    [
        ((slice(None), slice(8, 16), slice(8, 16)), "as stored"),
        ((slice(None), slice(8, 16), slice(0, 8)), "head-feet"),
        ((slice(None), slice(0, 8), slice(8, 16)), "front-back"),
        ((slice(None), slice(0, 8), slice(0, 8)), "both"),
    ],
)
def test_each_turn_reverses_its_own_axes(box, best):
    mr = image(box)
    seen = probe(mr, bundle(), np.ones(mr.data.shape, np.uint8)).seen
    assert set(seen) == set(TURNS)
    for turn, sight in seen.items():
        whole = 16 * 8 * 8 / 1000
        assert sight.posterior == pytest.approx(whole if turn == best else 0.0, rel=1e-3)
        assert sight.body == pytest.approx(0.0 if turn == best else whole, rel=1e-3)
        assert sight.canal == 0


def test_the_way_of_storage_changes_nothing():
    mr = image((slice(None), slice(8, 16), slice(8, 16)))
    stored = mr.reoriented("PIL")
    asked = np.ones(mr.data.shape, np.uint8)
    assert probe(stored, bundle(), asked) == probe(mr, bundle(), asked)


def test_only_the_tile_is_shown():
    """Every eighth voxel is bright, and a tile has 4096 of them; they count in mL."""
    bright = (np.indices((40, 40, 40)) % 8 < 4).all(0)
    mr = image(bright, (40, 40, 40))
    marked = np.zeros(mr.data.shape, np.uint8)
    marked[20:30, 20:30, 20:30] = 9
    seen = probe(mr, bundle(), marked).seen
    assert seen["as stored"].posterior + seen["as stored"].body == pytest.approx(0.512, rel=1e-3)


def test_contrast_that_moves_no_voxel_over_the_threshold_agrees_wholly():
    mr = image((slice(0, 5), slice(None), slice(None)))
    assert probe(mr, bundle(), np.ones(mr.data.shape, np.uint8)).gamma == 1.0


def test_contrast_that_does():
    """0.4 of the scale is dark, and bright after the power of 0.7: 0.4 ** 0.7 = 0.527."""
    data = dark((16, 16, 16))
    data[:4] += 99
    data[4:8] += 39.5
    mr = Volume(data, np.eye(4), "mr")
    found = probe(mr, bundle(), np.ones(data.shape, np.uint8))
    assert found.gamma == pytest.approx(0.5, abs=0.01)


def test_networks_that_see_slices_are_not_asked():
    network = Pointwise()
    network.ndim = 2
    mr = image((slice(0, 5),))
    assert probe(mr, bundle(network=network), np.ones((16, 16, 16), np.uint8)) is None


@pytest.mark.parametrize("seed", range(5))
def test_the_densest_box_is_that_of_exhaustive_search(seed):
    rng = np.random.default_rng(seed)
    weights = np.repeat(np.repeat(np.repeat(rng.integers(0, 9, (5, 3, 4)), 8, 0), 8, 1), 8, 2)
    box = densest_box(weights.astype(np.uint8), (16, 40, 8))
    best = max(
        weights[i : i + 16, :, k : k + 8].sum() for i in range(0, 25, 8) for k in range(0, 25, 8)
    )
    assert weights[box].sum() == best
    assert weights[box].shape == (16, 24, 8)


def test_without_any_weight_the_middle_is_shown():
    box = densest_box(np.zeros((40, 10, 16), np.uint8), (16, 16, 16))
    assert box == (slice(12, 28), slice(0, 10), slice(0, 16))


def test_overlap_is_common_over_union():
    overlap = Overlap()
    assert overlap.share() is None
    one, half, none = (torch.full((300,), value) for value in (1.0, 0.5, 0.0))
    overlap.add(torch.cat([one, half]), torch.cat([half, one]))
    assert overlap.share() is None  # 600 voxels are too few
    overlap.add(torch.cat([one, none]), torch.cat([one, one]))
    assert overlap.share() == pytest.approx((1.0 + 1.0) / (2.0 + 2.0))


def test_vertebra_probability_is_the_softmax_of_its_classes():
    values = torch.randn((2, 15, 3, 3, 3), generator=torch.Generator().manual_seed(0))
    expected = values[:, 1:11].softmax(1)[:, 2:8].sum(1)
    torch.testing.assert_close(vertebra_probability(values, HEADS_OF), expected)


class Sided(Pointwise):
    """Sees vertebra in the right half of whatever it is shown."""

    def predict(self, condition):
        out = super().predict(torch.zeros_like(condition))
        half = condition.shape[2] // 2
        out[:, 1, half:], out[:, 3, half:] = -40.0, 40.0
        return out


def test_heads_tell_how_far_the_mirrored_prediction_agrees():
    mr = image((slice(3, 9),))
    made = {
        name: predict_masks(mr, bundle(flip=True, network=network), device="cpu", precision="fp32")
        for name, network in (("even", Pointwise()), ("sided", Sided()))
    }
    assert made["even"].mirror == pytest.approx(1.0, abs=1e-6)
    assert made["sided"].mirror == pytest.approx(0.0, abs=1e-6)
    plain = predict_masks(mr, bundle(), device="cpu", precision="fp32")
    assert isinstance(plain, MaskHeads)
    assert plain.mirror is None
    assert Grid(mr.data.shape).matches(plain.grid)
