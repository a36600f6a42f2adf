"""Subregions, their sides, and the pieces of the sacrum."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial import cKDTree

from spinect.anatomy import CLASS, SACRUM
from spinect.evaluation.overlap import dice
from spinect.geometry import Grid
from spinect.inference import MaskHeads
from spinect.phantom.anatomy import field_of_view_grid, make_subject, rasterise
from spinect.segmentation.instances import find_instances
from spinect.segmentation.result import Instances
from spinect.segmentation.sides import midplanes
from spinect.segmentation.subregions import (
    SACRAL_LENGTHS_MM,
    sacral_axis,
    sacrum_ids,
    subregion_map,
    within,
)

SIDED = (43, 44, 45, 46, 47, 48)


@pytest.fixture(scope="module")
def tissue_map():
    """L2 to the coccyx."""
    anatomy = make_subject(1_000_002, "whole")
    grid = field_of_view_grid(anatomy)
    centres = {v: np.rint(grid.index(c)) for v, c in anatomy.subject.centres.items()}
    low = np.array([centres[24][0] - 60, centres[29][1] - 70, 0])
    high = np.array([centres[24][0] + 60, centres[23][1] + 40, centres[21][2] + 20])
    low = np.maximum(low, 0)
    high = np.minimum(high, grid.shape)
    return rasterise(anatomy, grid.crop(low.astype(int), (high - low).astype(int)))


@pytest.fixture(scope="module")
def case(ideal, tissue_map):
    scene, _, heads = ideal(tissue_map)
    return scene, heads, find_instances(heads)


def parts_of(heads, instances):
    planes = midplanes(heads, instances)
    return subregion_map(heads, instances, planes, sacral_axis(heads, instances, planes))


def ids_of(heads, instances, single):
    axis = sacral_axis(heads, instances, midplanes(heads, instances))
    return sacrum_ids(instances, axis, single)


def turned(axis, degrees):
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    i, j = (a for a in range(3) if a != axis)
    turn = np.eye(3)
    turn[i, i], turn[j, j], turn[i, j], turn[j, i] = cos, cos, -sin, sin
    return turn


def cropped(heads, box):
    start = [s.start or 0 for s in box]
    part = {k: getattr(heads, k)[box] for k in ("classes", "vertebra", "centre", "inside")}
    grid = heads.grid.crop(start, part["classes"].shape)
    return MaskHeads(grid=grid, offset=heads.offset[(slice(None), *box)], **part)


def assert_sides(parts, truth, sacral, least=0.98):
    for number in SIDED:
        if np.count_nonzero((truth == number) & ~sacral) > 200:
            score = dice((parts == number) & ~sacral, (truth == number) & ~sacral)
            assert score > least, (number, score)


def truth_of(scene):
    parts = scene.subregions.numpy()
    return np.where(parts == 60, 61, parts), np.isin(scene.vertebrae.numpy(), list(SACRUM))


def test_perfect_heads_give_back_the_subregions(case):
    scene, heads, instances = case
    truth, sacral = truth_of(scene)
    parts = parts_of(heads, instances)
    assert parts.dtype == np.uint8
    assert_sides(parts, truth, sacral, 0.99)
    for number in (41, 42, 50, 61, 100):
        assert dice((parts == number) & ~sacral, (truth == number) & ~sacral) > 0.99
    assert dice((parts == 50) & sacral, (truth == 50) & sacral) > 0.85
    assert dice((parts == 41) & sacral, (truth == 41) & sacral) > 0.85
    assert np.all(np.isin(parts[sacral & instances.sacrum], (41, 50)))


@pytest.mark.parametrize(("axis", "degrees"), [(1, 25), (2, 25), (0, -25)])
def test_sides_follow_a_turned_spine(tissue_map, axis, degrees, ideal):
    scene, _, heads = ideal(tissue_map, turned(axis, degrees))
    truth, sacral = truth_of(scene)
    parts = parts_of(heads, find_instances(heads))
    assert_sides(parts, truth, sacral)
    assert dice((parts == 50) & sacral, (truth == 50) & sacral) > 0.8


@pytest.mark.parametrize("shift", [-14, 0, 14])
def test_sides_in_a_slab(case, shift):
    """Beside the middle there is one side only, and neither spinous process nor whole canal."""
    scene, heads, _ = case
    truth, sacral = truth_of(scene)
    start = int(scene.centres[23][0]) + shift - 8
    box = (slice(start, start + 16), slice(None), slice(None))
    part = cropped(heads, box)
    assert_sides(parts_of(part, find_instances(part)), truth[box], sacral[box], 0.95)


def test_the_first_axis_grows_to_the_right(case):
    scene, heads, instances = case
    parts = parts_of(heads, instances)
    own = instances.labels == instances.labels[tuple(np.rint(scene.centres[22]).astype(int))]
    left, right = (np.argwhere(own & (parts == n))[:, 0].mean() for n in (43, 44))
    assert left + 30 < right
    assert midplanes(heads, instances)[:, 0].min() > 0.95


def test_what_lies_far_from_the_column_goes(case):
    scene, heads, instances = case
    before = parts_of(heads, instances)
    classes = heads.classes.copy()
    corner = (slice(0, 12), slice(0, 12), slice(-12, None))
    speck = tuple(slice(int(c) + a, int(c) + a + 4) for c, a in zip(scene.centres[22], (0, 30, 0), strict=True))  # fmt: skip # noqa: E501
    assert not np.isin(before[speck], (61, 100)).any()
    classes[corner], classes[speck] = CLASS["canal"], CLASS["disc"]
    after = parts_of(replace(heads, classes=classes), instances)
    assert not after[corner].any()
    assert not (after[speck] == 100).any()
    assert np.count_nonzero(after == 61) == np.count_nonzero(before == 61)


def test_bone_of_no_instance_has_no_subregion(case):
    _, heads, instances = case
    labels = np.where(instances.labels == 2, 0, instances.labels)
    parts = parts_of(heads, replace(instances, labels=labels))
    assert not parts[instances.labels == 2].any()
    assert parts[instances.labels == 1].any()


def test_single_sacrum_is_all_26(case):
    _, heads, instances = case
    ids = ids_of(heads, instances, single=True)
    np.testing.assert_array_equal(ids == 26, instances.sacrum)
    assert not ids[~instances.sacrum].any()


def test_the_pieces_of_the_sacrum(case):
    """Lengths vary between people, so the lower cuts lie a few millimetres off."""
    scene, heads, instances = case
    truth = scene.vertebrae.numpy()
    ids = ids_of(heads, instances, single=False)
    assert not ids[~instances.sacrum].any()
    assert np.all(ids[instances.sacrum] > 0)
    for number, least in ((26, 0.95), (29, 0.85), (30, 0.75), (31, 0.55)):
        assert dice(ids == number, truth == number) > least
    heights = [np.argwhere(ids == n)[:, 2].mean() for n in (26, 29, 30, 31, 32)]
    assert np.all(np.diff(heights) < 0)


def test_a_cut_sacrum_has_fewer_pieces_not_shorter_ones(case):
    scene, heads, _ = case
    whole = ids_of(heads, find_instances(heads), single=False)
    start = int(scene.centres[30][2])
    box = (slice(None), slice(None), slice(start, None))
    part = cropped(heads, box)
    ids = ids_of(part, find_instances(part), single=False)
    assert not np.isin(ids, (32, 27)).any()
    for number in (26, 29):
        assert dice(ids == number, whole[box] == number) > 0.93


def block(length, canal=True):
    """A straight sacrum of square section that stands upright below three cubes."""
    shape = (60, 80, 160 + length)
    classes = np.zeros(shape, np.uint8)
    labels = np.zeros(shape, np.uint8)
    centres = np.array([[29.5, 50, length + z] for z in (130.0, 93.0, 56.0)])
    for i, centre in enumerate(centres):
        at = tuple(slice(int(c) - 12, int(c) + 13) for c in centre)
        classes[at], labels[at] = CLASS["body"], i + 1
    sacrum = np.zeros(shape, bool)
    sacrum[10:50, 25:60, 10 : 10 + length] = True
    if canal:
        classes[22:38, 25:35, :] = CLASS["canal"]
        sacrum[22:38, 25:35, :] = False
    classes[sacrum] = CLASS["sacrum"]
    zero = np.zeros(shape, np.uint8)
    heads = MaskHeads(Grid(shape), classes, zero, zero, np.zeros((3, *shape), np.int8),
                      np.ones(shape, bool))  # fmt: skip
    return heads, Instances(labels, centres, sacrum)


def test_a_straight_block_is_cut_at_the_stated_lengths():
    """Spacing 37 mm: a person of the usual size."""
    heads, instances = block(length=120)
    ids = ids_of(heads, instances, single=False)
    found = [np.count_nonzero((ids == n).any((0, 1))) for n in (26, 29, 30, 31, 32)]
    assert np.abs(np.subtract(found, SACRAL_LENGTHS_MM)).max() <= 2
    assert np.count_nonzero((ids == 27).any((0, 1))) == pytest.approx(8.5, abs=3)


def test_in_a_block_the_canal_parts_body_and_rest():
    heads, instances = block(length=60)
    parts = parts_of(heads, instances)
    assert np.all(parts[20:40, 36:58, 20:60] == 50)
    assert np.all(parts[10:20, 25:33, 20:60] == 41)
    assert np.all(parts[22:38, 25:35, 20:60] == 61)


def test_nothing_in_nothing_out():
    shape = (20, 20, 20)
    zero = np.zeros(shape, np.uint8)
    heads = MaskHeads(Grid(shape), zero, zero, zero, np.zeros((3, *shape), np.int8),
                      np.ones(shape, bool))  # fmt: skip
    nothing = Instances(zero, np.zeros((0, 3)), zero > 0)
    assert not parts_of(heads, nothing).any()
    assert not ids_of(heads, nothing, single=False).any()


@pytest.mark.parametrize("limit", [3.0, 10.0, 40.0])
def test_near_is_what_a_search_of_every_place_says(limit):
    rng = np.random.default_rng(0)
    places = rng.uniform(-20, 90, (3000, 3))
    points = rng.uniform(0, 60, (20, 3))
    places[:20] = points + np.array([limit, 0, 0])  # on the edge
    asked = cKDTree(points).query(places, distance_upper_bound=limit)[0] <= limit
    assert 0 < asked.mean() < 1
    np.testing.assert_array_equal(within(places, points, limit), asked)
    np.testing.assert_array_equal(within(places[:1], points, limit), asked[:1])
