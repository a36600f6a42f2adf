"""The articulated phantom: same seed, same spine; masks that agree with each other and with the
shapes they were cut from."""

import numpy as np
import pytest
from scipy.ndimage import label

from spinect.anatomy import PRESACRAL, SACRUM
from spinect.errors import ConfigError
from spinect.geometry import Grid
from spinect.phantom.anatomy import (
    GLOBAL,
    field_of_view_grid,
    landmarks,
    levels,
    make_subject,
    pose,
    rasterise,
)
from spinect.phantom.canal import CANAL, CORD, DISC
from spinect.phantom.maps import TissueMap
from spinect.phantom.tissues import Tissue

SPACING = 1.25
BONE_TISSUE = {Tissue.CORTEX, Tissue.MARROW, Tissue.BASIVERTEBRAL, Tissue.METAL}
SEEDS = (3, 8)  # small and large


def around(subject, spacing=SPACING, half=(62, 90), rise=75):
    """A grid around L3, wide enough for its neighbours' transverse processes."""
    low = np.array(subject.subject.centres[22]) - [half[0], half[1], rise]
    size = np.array([2 * half[0], 150, 2 * rise])
    affine = np.diag([spacing] * 3 + [1.0])
    affine[:3, 3] = low
    return Grid(tuple(np.ceil(size / spacing).astype(int)), affine)


@pytest.fixture(scope="module", params=SEEDS)
def lumbar(request) -> tuple:
    subject = make_subject(request.param, "lumbar")
    return subject, rasterise(subject, around(subject))


@pytest.fixture(scope="module")
def neck() -> tuple:
    subject = make_subject(4, "cervical")
    return subject, rasterise(subject, field_of_view_grid(subject, 1.25))


def touches_face(mask: np.ndarray) -> bool:
    return any(mask.take(end, axis).any() for axis in range(3) for end in (0, -1))


def test_a_seed_is_one_subject_to_the_bit():
    grids = []
    for seed in (21, 21, 22):
        subject = make_subject(seed, "lumbar")
        grids.append(rasterise(subject, around(subject, 2.5)))
    first, again, other = grids
    for name in ("tissue", "vertebrae", "subregions", "bone_distance"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert (first.subject, first.grid.affine.tolist()) == (
        again.subject,
        again.grid.affine.tolist(),
    )
    assert not np.array_equal(first.vertebrae, other.vertebrae)


def test_bones_and_canal_do_not_depend_on_the_grid():
    """A crop of the grid is a crop of the masks: shapes live in millimetres, not in voxels."""
    subject = make_subject(8, "lumbar")
    whole = around(subject, 2.0)
    part = whole.crop((10, 12, 8), (40, 45, 50))
    large, small = rasterise(subject, whole), rasterise(subject, part)
    inner = (slice(10, 50), slice(12, 57), slice(8, 58))
    middle = (slice(2, -2),) * 3  # the canal curve is smoothed and may differ at the faces
    for name in ("vertebrae", "subregions"):
        a, b = getattr(large, name)[inner][middle], getattr(small, name)[middle]
        assert np.mean(a != b) < 0.002


def test_each_vertebra_is_one_piece(lumbar, neck):
    for subject, made in (lumbar, neck):
        for vertebra in PRESACRAL:
            mask = made.vertebrae == vertebra
            if mask.any() and not touches_face(mask):
                assert label(mask, np.ones((3, 3, 3)))[1] == 1, (subject.seed, vertebra)


def test_subregions_fill_their_vertebrae(lumbar, neck):
    for _, made in (lumbar, neck):
        inside = made.vertebrae > 0
        bony = (made.subregions >= 41) & (made.subregions <= 50)
        np.testing.assert_array_equal(inside, bony)
        sacral = np.isin(made.vertebrae, list(SACRUM))
        assert set(np.unique(made.subregions[sacral])) <= {41, 50}


def test_a_whole_lumbar_vertebra_has_all_its_parts(lumbar):
    _, made = lumbar
    own = made.subregions[made.vertebrae == 22]
    for part in (41, 42, 43, 44, 45, 46, 47, 48, 50):
        assert (own == part).sum() * SPACING**3 > 300, part


def test_left_is_left(lumbar):
    subject, made = lumbar
    middle = made.grid.index(subject.subject.centres[22])[0]
    for left, right in ((43, 44), (45, 46), (47, 48)):
        x = [
            np.argwhere((made.vertebrae == 22) & (made.subregions == p))[:, 0]
            for p in (left, right)
        ]
        assert x[0].mean() < middle < x[1].mean()  # R+ axis: the patient's left has smaller x


def test_bone_distance_agrees_with_the_masks(lumbar):
    _, made = lumbar
    labelled = made.vertebrae > 0
    assert (made.bone_distance[labelled] < 0).all()
    other = (made.bone_distance < 0) & ~labelled
    kinds = set(np.unique(made.tissue[other]))
    assert kinds <= {Tissue.OTHER_CORTEX, Tissue.OTHER_MARROW, Tissue.METAL}
    assert set(np.unique(made.tissue[labelled])) <= BONE_TISSUE
    # as a distance: a step of one voxel changes it by at most about one voxel
    near = np.abs(made.bone_distance[:-1].astype(int)) < 25
    jump = np.abs(np.diff(made.bone_distance.astype(int), axis=0))[near]
    assert np.percentile(jump, 99) < 14 * SPACING


def test_discs_lie_between_bodies(lumbar):
    subject, made = lumbar
    found, count = label(made.subregions == DISC)
    heights = {lv.vertebra: made.grid.index(lv.centre)[2] for lv in levels(subject)}
    for number in range(1, count + 1):
        piece = found == number
        if touches_face(piece) or piece.sum() * SPACING**3 < 1000:
            continue
        z = np.argwhere(piece)[:, 2].mean()
        above = [v for v, height in heights.items() if height > z]
        below = [v for v, height in heights.items() if height < z]
        assert above
        assert below
        assert made.vertebrae[piece].max() == 0
    assert (made.subregions == DISC).sum() * SPACING**3 > 10_000


@pytest.mark.parametrize("seed", [5, 17])
def test_the_canal_is_free_from_c2_to_the_sacrum(seed):
    subject = make_subject(seed, "whole")
    grid = field_of_view_grid(subject, 2.5)
    moved = pose(subject, "articulated", seed=1, degrees=4.0)
    made = rasterise(subject, grid, moved)
    spine = levels(subject, moved)
    top = min(grid.index(spine[0].centre)[2], grid.shape[2] - 2)
    low = max(grid.index(next(lv for lv in spine if lv.vertebra == 26).centre)[2], 1)
    sac = np.isin(made.subregions, (CANAL, CORD))
    area = sac[:, :, int(low) : int(top)].sum((0, 1)) * 6.25
    assert area.min() > 60  # mm2 in every slice
    assert label(sac)[1] == 1
    assert made.vertebrae[sac].max() == 0


def test_landmarks_lie_in_their_subregion(lumbar, neck):
    for subject, made in (lumbar, neck):
        points = landmarks(subject)
        assert {(22, 50), (22, 42), (22, 45), (22, 48), (26, 50)} <= set(points)
        seen = 0
        for (vertebra, subregion), place in points.items():
            index = np.rint(made.grid.index(place)).astype(int)
            if (index < 0).any() or (index >= made.grid.shape).any():
                continue
            seen += 1
            here = tuple(index)
            assert made.vertebrae[here] == vertebra, (subject.seed, vertebra, subregion)
            assert made.subregions[here] == subregion, (subject.seed, vertebra, subregion)
        assert seen > 25


def test_a_rigid_pose_moves_the_masks_rigidly():
    """Moving body and grid together changes nothing: the posed centre is where it should be."""
    subject = make_subject(8, "lumbar")
    poses = pose(subject, "rigid", seed=5)
    whole = poses[GLOBAL]
    assert np.linalg.norm(whole[:3, 3]) > 1
    np.testing.assert_allclose(whole[:3, :3] @ whole[:3, :3].T, np.eye(3), atol=1e-12)
    still = around(subject, 1.0, half=(50, 80), rise=34)
    centre = still.affine[:3, 3] + [50, 75, 34]
    target = whole[:3, :3] @ centre + whole[:3, 3]
    affine = still.affine.copy()
    affine[:3, 3] = target - [50, 75, 34]
    moved_grid = Grid(still.shape, affine)
    before = rasterise(subject, still)
    after = rasterise(subject, moved_grid, poses)

    def body(made: TissueMap) -> np.ndarray:
        mask = (made.vertebrae == 22) & (made.subregions == 50)
        return made.grid.world(np.argwhere(mask)).mean(0)

    expected = whole[:3, :3] @ body(before) + whole[:3, 3]
    assert np.linalg.norm(body(after) - expected) < 0.1
    np.testing.assert_allclose(
        after.subject.centres[22],
        whole[:3, :3] @ np.array(before.subject.centres[22]) + whole[:3, 3],
    )


def test_articulated_poses_bend_joints_but_not_bones():
    subject = make_subject(8, "lumbar")
    poses = pose(subject, "articulated", seed=2, degrees=2.0)
    turns = []
    for upper, lower in zip((20, 21, 22, 23), (21, 22, 23, 24), strict=True):
        relative = np.linalg.inv(poses[lower]) @ poses[upper]
        np.testing.assert_allclose(relative[:3, :3] @ relative[:3, :3].T, np.eye(3), atol=1e-12)
        turns.append(np.rad2deg(np.arccos((np.trace(relative[:3, :3]) - 1) / 2)))
    assert 0.3 < np.mean(turns) < 6
    np.testing.assert_array_equal(poses[26], poses[32])  # the sacrum is one piece
    hard = pose(subject, "articulated", seed=2, degrees=4.0)
    assert not np.allclose(hard[20], poses[20])
    assert all(np.array_equal(m, np.eye(4)) for m in pose(subject, "none", seed=9).values())


def test_unknown_regions_and_seeds_are_refused():
    with pytest.raises(ConfigError, match="lumbar"):
        make_subject(1, "knee")
    with pytest.raises(ConfigError, match="-1"):
        make_subject(-1)
