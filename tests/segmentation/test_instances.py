"""Vertebrae told apart on phantoms, seen by a perfect network and by ever worse ones."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from spinect.anatomy import CLASS, PRESACRAL, VERTEBRA_IDS
from spinect.evaluation.overlap import dice, match
from spinect.geometry import Grid
from spinect.inference import MaskHeads
from spinect.phantom.anatomy import field_of_view_grid, make_subject, rasterise
from spinect.segmentation.centres import Candidates, choose_chain, heat_peaks
from spinect.segmentation.instances import find_instances, reach_mm

SMALLEST = 1000  # voxels: less than this of a vertebra is nobody's


def phantom(region, seed=1_000_003, front=35):
    """A tissue map cropped to the spine and `front` mm before it."""
    anatomy = make_subject(seed, region)
    grid = field_of_view_grid(anatomy)
    centres = grid.index(list(anatomy.subject.centres.values()))
    centres = centres[(centres[:, 2] > 0) & (centres[:, 2] < grid.shape[2])]
    left, back, _ = centres.min(0) - (40, 75, 0)
    right, ahead, _ = np.add(centres.max(0), (40, front, 0))
    low = np.array([max(left, 0), max(back, 0), 0]).astype(int)
    high = np.minimum([right, ahead, grid.shape[2]], grid.shape).astype(int)
    return rasterise(anatomy, grid.crop(low, high - low))


@pytest.fixture(scope="module")
def lumbar(ideal):
    return ideal(phantom("lumbar", front=100))


@pytest.fixture(scope="module")
def cervical(ideal):
    return ideal(phantom("cervical"))


def scores(heads, truth):
    """Dice of every vertebra of the truth that is large enough; the number of instances."""
    found = find_instances(heads)
    partner = match(found.labels, truth)
    count = np.bincount(truth.ravel())
    wanted = [v for v in PRESACRAL if v < len(count) and count[v] >= SMALLEST]
    of = {v: dice(found.labels == partner[v], truth == v) if v in partner else 0 for v in wanted}
    return of, found


def assert_all(heads, truth, least=0.99):
    of, found = scores(heads, truth)
    assert min(of.values()) >= least, of
    assert len(found.centres) == len(of)
    return found


def square_distance(shape, centre):
    index = np.ogrid[tuple(map(slice, shape))]
    return sum((i - c) ** 2 for i, c in zip(index, centre, strict=True))


def ball(shape, centre, radius):
    return square_distance(shape, centre) < radius**2


def gauss(shape, centre):
    return 255 * np.exp(-square_distance(shape, centre) / 32)


def with_peaks(heads, without=(), extra=()):
    """Another heatmap: peaks around some places erased, others added."""
    heat = heads.centre.astype(float)
    for centre in without:
        heat[ball(heat.shape, centre, 15)] = 0
    for centre in extra:
        heat = np.maximum(heat, gauss(heat.shape, centre))
    return replace(heads, centre=heat.round().astype(np.uint8))


def with_noise(heads, sd, seed, smooth=0.0):
    """Offsets wrong by `sd` mm, each voxel by itself or together with its surroundings."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, heads.offset.shape).astype(np.float32)
    if smooth:
        noise = np.stack([ndimage.gaussian_filter(n, smooth) for n in noise])
    noise *= sd / noise.std() * (heads.vertebra > 0)
    wrong = (heads.offset + noise).round().clip(-127, 127)
    return replace(heads, offset=wrong.astype(np.int8))


def with_lump(heads, centre, radius=12):
    """A false body in the belly, sure of itself: class, offsets and a peak of its own."""
    lump = ball(heads.classes.shape, centre, radius)
    classes, offset = heads.classes.copy(), heads.offset.copy()
    classes[lump] = CLASS["body"]
    away = np.rint(np.asarray(centre)[:, None] - np.stack(np.nonzero(lump)))
    offset[:, lump] = away.astype(np.int8)
    vertebra = np.where(lump, 255, heads.vertebra).astype(np.uint8)
    heads = replace(heads, classes=classes, offset=offset, vertebra=vertebra)
    return with_peaks(heads, extra=[centre]), lump


def cropped(heads, truth, box):
    """The same network on a part of the image."""
    start = [s.start or 0 for s in box]
    part = {k: getattr(heads, k)[box] for k in ("classes", "vertebra", "centre", "inside")}
    grid = heads.grid.crop(start, part["classes"].shape)
    return MaskHeads(grid=grid, offset=heads.offset[(slice(None), *box)], **part), truth[box]


@pytest.mark.parametrize("case", ["lumbar", "cervical"])
def test_perfect_heads_give_every_vertebra_and_its_centre(case, request):
    scene, truth, heads = request.getfixturevalue(case)
    found = assert_all(heads, truth)
    partner = match(found.labels, truth)
    for vertebra, label in partner.items():
        if np.count_nonzero(truth == vertebra) >= SMALLEST:
            gap = found.centres[label - 1] - scene.centres[vertebra]
            assert np.linalg.norm(gap) < 1.0
    assert np.all(np.diff(found.centres[:, 2]) < 0)
    assert found.labels.dtype == np.uint8
    assert found.warnings == ()


def test_the_sacrum_is_told_from_strays_and_from_what_lies_above(lumbar):
    scene, _, heads = lumbar
    truth = heads.classes == CLASS["sacrum"]
    classes = heads.classes.copy()
    high, stray = scene.centres[20], [10, 20, 30]
    above = ball(classes.shape, np.add(high, [0, 75, 0]), 9)
    classes[above | ball(classes.shape, stray, 5)] = CLASS["sacrum"]
    found = find_instances(replace(heads, classes=classes))
    assert dice(found.sacrum, truth) > 0.999


@pytest.mark.parametrize("smooth", [0.0, 6.0])
@pytest.mark.parametrize("case", ["lumbar", "cervical"])
def test_noisy_offsets_and_wrong_peaks(case, smooth, request):
    """3 mm of noise; of the peaks one in ten is missing, one in ten is two."""
    scene, truth, heads = request.getfixturevalue(case)
    seen = [v for v in scene.centres if np.count_nonzero(truth == v) >= SMALLEST]
    twice = np.array(scene.centres[seen[2]])
    without = [scene.centres[seen[1]], scene.centres[seen[-1]], twice]
    heads = with_peaks(heads, without, [np.add(twice, (0, 0, 6)), twice - (0, 0, 7)])
    assert_all(with_noise(heads, 3.0, seed=1, smooth=smooth), truth, 0.99 if not smooth else 0.96)


@pytest.mark.parametrize("case", ["lumbar", "cervical"])
def test_votes_stand_in_for_a_blank_heatmap(case, request):
    _, truth, heads = request.getfixturevalue(case)
    assert_all(replace(heads, centre=np.zeros_like(heads.centre)), truth)


def test_the_heatmap_stands_in_for_the_votes_of_one_vertebra(lumbar):
    """L3's offsets are shrunk to a third: they agree on nothing, yet its voxels are its own."""
    scene, truth, heads = lumbar
    own = truth == 22
    offset = heads.offset.copy()
    offset[:, own] = offset[:, own] // 3
    found = find_instances(replace(heads, offset=offset))
    gap = np.linalg.norm(found.centres - scene.centres[22], axis=1)
    assert gap.min() < 8
    label = int(gap.argmin()) + 1
    body = own & (heads.classes == CLASS["body"])
    assert np.mean(found.labels[body] == label) > 0.6


@pytest.mark.parametrize("canal", [True, False])
def test_a_lump_in_the_belly_is_not_a_vertebra(lumbar, canal):
    scene, truth, heads = lumbar
    if not canal:
        classes = np.where(heads.classes == CLASS["canal"], 0, heads.classes)
        heads = replace(heads, classes=classes.astype(np.uint8))
    for vertebra, side in ((20, 5), (22, -8), (23, 10)):
        heads, lump = with_lump(heads, np.rint(np.add(scene.centres[vertebra], [side, 68, 12])))
        truth = np.where(lump, 0, truth)
    found = assert_all(heads, truth)
    assert any("left out" in line for line in found.warnings)


@pytest.mark.parametrize("width", [13, 20])
@pytest.mark.parametrize("shift", [0, 12])
def test_slabs(lumbar, width, shift):
    """Sagittal slabs through the middle, and beside it where bodies and processes come apart."""
    scene, truth, heads = lumbar
    start = int(scene.centres[22][0]) + shift - width // 2
    heads, truth = cropped(heads, truth, (slice(start, start + width), slice(None), slice(None)))
    assert_all(with_noise(heads, 2.0, seed=2), truth, 0.97)


def test_a_slab_beside_the_centres_still_has_its_vertebrae(cervical):
    scene, truth, heads = cervical
    start = int(max(c[0] for v, c in scene.centres.items() if v in PRESACRAL and v < 10)) + 6
    heads, truth = cropped(heads, truth, (slice(start, start + 14), slice(None), slice(None)))
    found = assert_all(heads, truth, 0.97)
    assert np.all(found.centres[:, 0] < 0)


def test_a_vertebra_whose_centre_lies_outside_is_an_instance(lumbar):
    scene, truth, heads = lumbar
    top = int(scene.centres[18][2]) - 9
    heads, truth = cropped(heads, truth, (slice(None), slice(None), slice(0, top)))
    found = assert_all(heads, truth)
    assert found.centres[0, 2] == pytest.approx(scene.centres[18][2], abs=1.0)
    assert found.centres[0, 2] > top


def test_fused_bodies_are_parted(lumbar):
    """The discs T12-L3 are bone: each half says what it belongs to."""
    scene, truth, heads = lumbar
    classes, offset = heads.classes.copy(), heads.offset.copy()
    truth = truth.copy()
    for upper, lower in ((19, 20), (20, 21), (21, 22)):
        places = np.argwhere(heads.classes == CLASS["disc"])
        both = np.array([scene.centres[upper], scene.centres[lower]])
        between = np.linalg.norm(places - both.mean(0), axis=1) < 32
        places = places[between & (places[:, 2] < both[0, 2]) & (places[:, 2] > both[1, 2])]
        own = np.linalg.norm(places[:, None] - both, axis=2).argmin(1)
        at = tuple(places.T)
        classes[at] = CLASS["body"]
        offset[(slice(None), *at)] = np.rint(both[own] - places).T
        truth[at] = np.where(own == 0, upper, lower)
    fused = replace(heads, classes=classes, offset=offset)
    assert ndimage.label(np.isin(truth, [19, 20]) & (classes == CLASS["body"]))[1] == 1
    assert_all(with_noise(fused, 3.0, seed=3), truth)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_crooked_spine(axis, ideal):
    """Turned by 25 degrees: a side bend, or a flexed back."""
    cos, sin = np.cos(np.radians(25)), np.sin(np.radians(25))
    i, j = (a for a in range(3) if a != axis)
    turn = np.eye(3)
    turn[i, i], turn[j, j], turn[i, j], turn[j, i] = cos, cos, -sin, sin
    _, truth, heads = ideal(phantom("lumbar", seed=1_000_001), turn)
    assert_all(heads, truth)


def test_a_missed_vertebra_leaves_a_gap_and_a_warning(lumbar):
    """Neither peak nor votes: the others stay as they are and nobody swallows its voxels."""
    scene, truth, heads = lumbar
    own = truth == 22
    offset = heads.offset.copy()
    offset[:, own] = np.random.default_rng(4).integers(-100, 100, (3, own.sum()))
    heads = with_peaks(replace(heads, offset=offset), without=[scene.centres[22]])
    of, found = scores(heads, truth)
    assert of.pop(22) < 0.3
    assert min(of.values()) > 0.97
    assert len(found.centres) == len(of)
    assert any("left out" in line for line in found.warnings)


def test_the_reach_follows_the_nearer_neighbour():
    """Cervical steps of 17 mm, a missed vertebra, lumbar steps of 34 and 60 mm; one alone."""
    heights = np.array([300.0, 283.0, 249.0, 189.0])
    chain = np.stack([np.zeros(4), np.zeros(4), heights], 1)
    np.testing.assert_allclose(reach_mm(chain), [15.0, 15.0, 0.7 * 34, 25.0])
    np.testing.assert_allclose(reach_mm(chain[:1]), [15.0])


def test_the_far_end_of_a_process_may_miss_by_more(lumbar):
    """Vectors of one lumbar spinous process that all fall 20 mm short still find their body."""
    _, truth, heads = lumbar
    process = (truth == VERTEBRA_IDS["L3"]) & (heads.classes == CLASS["spinous"])
    assert process.sum() > 1000
    offset = heads.offset.copy()
    offset[1][process] -= 20  # behind the centre, far from the neighbours'
    found = find_instances(replace(heads, offset=offset))
    sure = find_instances(heads)
    own = sure.labels[process]
    assert (found.labels[process] == own).mean() > 0.95


def test_strays_without_a_link_go(lumbar):
    """A piece under 1 mL that points to L3 from afar goes, a piece above 1 mL stays."""
    scene, truth, heads = lumbar
    centre = np.rint(scene.centres[22])
    classes, offset = heads.classes.copy(), heads.offset.copy()
    small, large = (
        ball(truth.shape, np.add(centre, (s, 45, 0)), r) for s, r in ((-25, 5), (20, 8))
    )
    for piece in (small, large):
        classes[piece] = CLASS["body"]
        offset[:, piece] = (centre[:, None] - np.stack(np.nonzero(piece))).astype(np.int8)
    found = find_instances(replace(heads, classes=classes, offset=offset))
    label = found.labels[tuple(centre.astype(int))]
    assert not found.labels[small].any()
    assert np.all(found.labels[large] == label)


def test_nothing_in_nothing_out():
    shape = (30, 40, 50)
    empty = np.zeros(shape, np.uint8)
    heads = MaskHeads(
        grid=Grid(shape),
        classes=empty,
        vertebra=empty,
        centre=empty,
        offset=np.zeros((3, *shape), np.int8),
        inside=np.ones(shape, bool),
    )
    found = find_instances(heads)
    assert found.centres.shape == (0, 3)
    assert not found.labels.any()
    assert not found.sacrum.any()


def test_peaks_between_two_voxels_and_on_plateaus_count_once():
    shape = (40, 40, 60)
    heat = np.maximum(gauss(shape, (20.5, 20, 15)), gauss(shape, (20.3, 19.5, 40.5)))
    heat = np.minimum(heat, 230)  # flat tops
    empty = np.zeros(shape, np.uint8)
    heads = MaskHeads(Grid(shape), empty, empty, heat.round().astype(np.uint8),
                      np.zeros((3, *shape), np.int8), np.ones(shape, bool))  # fmt: skip
    places, heights = heat_peaks(heads)
    assert heights == pytest.approx([230 / 255] * 2)
    places = places[np.argsort(places[:, 2])]
    np.testing.assert_allclose(places, [(20.5, 20, 15), (20.3, 19.5, 40.5)], atol=0.3)


def column(*heights):
    return np.array([[0.0, 20.0, z] for z in heights])


CANAL = np.array([[0.0, 0.0, z] for z in range(0, 300)], np.float64)


@pytest.mark.parametrize(
    ("extra", "score"),
    [
        ((0, 20, 152), 0.5),  # a second peak in a body, without votes
        ((0, 20, 143), 1.0),  # halfway: too near to both
        ((0, 75, 150), 1.5),  # in the belly
        ((0, -30, 165), 0.9),  # behind the canal
        ((45, 20, 150), 1.0),  # beside the column
    ],
)
def test_the_chain_leaves_out(extra, score):
    good = column(280, 245, 210, 175, 140, 105, 70)
    places = np.concatenate([good, [extra]])
    scores_ = np.append(np.full(len(good), 1.2), score)
    np.testing.assert_array_equal(choose_chain(Candidates(places, scores_), CANAL), good)


def test_the_chain_crosses_a_gap_and_keeps_weak_links():
    good = column(280, 245, 140, 105, 70)  # two missed
    weak = np.array([1.2, 0.35, 1.2, 0.35, 1.2])
    shuffled = [3, 0, 4, 2, 1]
    chain = choose_chain(Candidates(good[shuffled], weak[shuffled]), np.zeros((0, 3)))
    np.testing.assert_array_equal(chain, good)


def test_the_same_in_the_same_out(lumbar):
    heads = with_noise(lumbar[2], 3.0, seed=5)
    first = find_instances(heads)
    second = find_instances(heads)
    np.testing.assert_array_equal(first.labels, second.labels)
    np.testing.assert_array_equal(first.centres, second.centres)


@pytest.mark.slow
def test_a_whole_spine(ideal):
    _, truth, heads = ideal(phantom("whole"))
    found = assert_all(with_noise(heads, 3.0, seed=6), truth)
    assert len(found.centres) == 23
