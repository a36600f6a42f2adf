"""The pelvis of a man: shapes against closed formulas, organs in their order, HU and contrast."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from spinect.cli.main import app
from spinect.errors import ConfigError
from spinect.geometry import Grid
from spinect.geometry.resample import resample
from spinect.geometry.transform import apply
from spinect.phantom import pair as module
from spinect.phantom.anatomy import field_of_view_grid, make_subject, pose, rasterise
from spinect.phantom.contrast import draw_mr, mr_signal, thick_shell
from spinect.phantom.maps import DISTANCE_STEP_MM
from spinect.phantom.pair import make_pair
from spinect.phantom.pelvis import OPENING
from spinect.phantom.series import mr_grid
from spinect.phantom.tissues import Tissue

SEED = 1_000_001
SEEDS = (SEED, 11, 12)
HEIGHT = 30.0  # mm of a low field of view: 12 slices of 2.5 mm, 10 of 3 mm


@pytest.fixture(scope="module")
def maps():
    """Anatomy and map at 3 mm by seed."""
    made = {}
    for seed in SEEDS:
        anatomy = make_subject(seed, "pelvis")
        made[seed] = anatomy, rasterise(anatomy, field_of_view_grid(anatomy, 3.0))
    return made


@pytest.fixture(scope="module")
def pair():
    """A pair about the femoral heads."""

    def cut(seed, region):
        anatomy = make_subject(seed, region)
        low, high = anatomy.window.copy()
        heads = apply(np.array(anatomy.pelvis.frame), anatomy.pelvis.head_centre(1))
        low[2], high[2] = heads[2] - HEIGHT / 2, heads[2] + HEIGHT / 2
        return replace(anatomy, window=np.array([low, high]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make_subject", cut)
        return make_pair(SEED, "pelvis")


def centre(anatomy, made, *tissues):
    """Centre of some tissues in pelvis coordinates, mm."""
    index = np.argwhere(np.isin(made.tissue, tissues))
    world = made.grid.world(index.mean(0))
    return apply(np.linalg.inv(np.array(anatomy.pelvis.frame)), world)


def volume(made, *tissues):
    """mL."""
    return np.isin(made.tissue, tissues).sum() * np.prod(made.grid.spacing) / 1000


def round_head(anatomy, side, reach=36.0, step=0.8):
    """Bone around a femoral head, and offsets from its centre in pelvis coordinates."""
    frame = np.array(anatomy.pelvis.frame)
    middle = apply(frame, anatomy.pelvis.head_centre(side))
    count = int(2 * reach / step)
    affine = np.diag([step, step, step, 1.0])
    affine[:3, 3] = middle - step * (count - 1) / 2
    made = rasterise(anatomy, Grid((count, count, count), affine))
    index = np.stack(np.indices(made.tissue.shape), -1)
    offset = (made.grid.world(index) - middle) @ frame[:3, :3]
    return made.bone_distance < 0, offset, step


@pytest.mark.parametrize("side", [-1, 1])
def test_the_femoral_head_is_a_ball_in_its_socket(side):
    """On the side of the socket: half a ball, its volume and centroid in closed form."""
    anatomy = make_subject(SEED, "pelvis")
    pelvis = anatomy.pelvis
    bone, offset, step = round_head(anatomy, side)
    look = np.array(OPENING) * (side, 1, 1)
    far, along = np.linalg.norm(offset, axis=-1), offset @ look
    r = pelvis.head_radius
    assert np.linalg.norm(look) == pytest.approx(1.0, abs=1e-3)
    ball = bone & (far < r + pelvis.joint / 2) & (along < 0)
    assert ball.sum() * step**3 == pytest.approx(2 / 3 * np.pi * r**3, rel=0.015)
    np.testing.assert_allclose(offset[ball].mean(0), -3 / 8 * r * look, atol=0.25)
    behind = along < -6  # well inside the socket
    joint = behind & (far > r + 0.6) & (far < r + pelvis.joint - 1.2)  # its wall is rough
    assert not bone[joint].any()
    socket = behind & (far > r + pelvis.joint + 1.2) & (far < r + pelvis.joint + 3.5)
    assert bone[socket].mean() > 0.97
    neck = np.array(pelvis.neck) * (side, 1, 1)
    aside = offset @ neck < 0.5 * far * np.linalg.norm(neck)  # 60 degrees from the neck, or more
    mouth = (along > 14) & aside & (far > r + 0.6) & (far < r + 6)
    assert mouth.sum() > 1000
    assert not bone[mouth].any()


def test_the_neck_carries_the_head(maps):
    """Its axis has an angle of 120-135 degrees with the shaft."""
    for anatomy, _ in maps.values():
        out, _, down = anatomy.pelvis.neck
        assert 118 < np.rad2deg(np.arctan2(np.hypot(out, anatomy.pelvis.neck[1]), down)) < 136
        assert 22 < anatomy.pelvis.head_radius < 28


def test_organs_lie_in_their_order(maps):
    for anatomy, made in maps.values():
        bladder = centre(anatomy, made, Tissue.BLADDER, Tissue.BLADDER_WALL)
        prostate = centre(anatomy, made, Tissue.PROSTATE, Tissue.PROSTATE_PERIPHERAL)
        vesicles = centre(anatomy, made, Tissue.SEMINAL_VESICLE)
        inner = centre(anatomy, made, Tissue.PROSTATE)
        assert bladder[2] > prostate[2] + 20
        assert inner[1] > prostate[1]  # the peripheral zone is behind
        assert vesicles[1] < bladder[1] - 8
        assert prostate[2] < vesicles[2] < bladder[2] + 5
        for place in (bladder, prostate, vesicles):
            assert abs(place[0]) < 4
        index = np.stack(np.indices(made.tissue.shape), -1)
        world = made.grid.world(index) @ np.linalg.inv(np.array(anatomy.pelvis.frame))[:3, :3].T
        back = np.array(anatomy.pelvis.frame)
        y = world[..., 1] - back[:3, :3].T[1] @ back[:3, 3]
        z = world[..., 2] - back[:3, :3].T[2] @ back[:3, 3]
        level = np.abs(z - prostate[2]) < 6
        rectum = level & (made.tissue == Tissue.RECTUM)
        joint = level & (made.tissue == Tissue.CARTILAGE) & (np.abs(y - 70) < 14)
        assert y[rectum].max() < prostate[1]
        assert y[joint].min() > prostate[1] + 10
        wall = np.isin(made.tissue, (Tissue.RECTUM, Tissue.BOWEL, Tissue.GAS)) & (z < -50)
        sacrum = np.isin(made.vertebrae, (31, 32, 27))
        assert y[sacrum].mean() < y[wall & (z > -110)].mean() - 8
        assert y[sacrum].mean() < bladder[1] - 40


def test_sizes_are_those_of_men(maps):
    for anatomy, made in maps.values():
        assert anatomy.subject.sex == "M"
        assert 50 <= anatomy.subject.age <= 85
        assert 45 < volume(made, Tissue.BLADDER) < 450
        assert 18 < volume(made, Tissue.PROSTATE, Tissue.PROSTATE_PERIPHERAL) < 105
        assert volume(made, Tissue.MUSCLE) > 3000
        assert 1500 < volume(made, Tissue.FAT) < 15_000
        for axis in (0, 1):  # the whole width and depth is in the field of view
            assert (made.tissue.take((0, -1), axis) == Tissue.AIR).all()
    filled = [volume(made, Tissue.BLADDER) for _, made in maps.values()]
    assert np.ptp(filled) > 10


def test_masks_hold_the_spine_only(maps):
    for _, made in maps.values():
        ids = set(np.unique(made.vertebrae).tolist())
        assert {0, 26, 27, 29, 30, 31, 32} <= ids
        assert ids <= {0, 23, 24, 25, 26, 27, 29, 30, 31, 32}
        assert set(np.unique(made.subregions).tolist()) <= {0, *range(41, 51), 60, 61, 100}
        hips = np.isin(made.tissue, (Tissue.COMPACT, Tissue.HIP_MARROW))
        assert not made.vertebrae[hips].any()
        assert (made.bone_distance[hips] < 0).all()
        assert not np.isin(made.tissue, (Tissue.OTHER_CORTEX, Tissue.OTHER_MARROW)).any()


def test_a_seed_gives_the_same_man():
    anatomy = make_subject(SEED, "pelvis")
    grid = field_of_view_grid(anatomy, 4.0)
    first, second = (rasterise(make_subject(SEED, "pelvis"), grid) for _ in range(2))
    np.testing.assert_array_equal(first.tissue, second.tissue)
    np.testing.assert_array_equal(first.bone_distance, second.bone_distance)
    assert first.subject == second.subject
    other = make_subject(SEED + 1, "pelvis").pelvis
    assert other.form != anatomy.pelvis.form
    assert other.head_radius != anatomy.pelvis.head_radius


def test_a_body_that_moves_takes_its_organs_along():
    anatomy = make_subject(SEED, "pelvis")
    moved = pose(anatomy, "rigid", seed=1)
    grid = field_of_view_grid(anatomy, 4.0)
    here, there = rasterise(anatomy, grid), rasterise(anatomy, grid, moved)
    for tissues in ((Tissue.BLADDER,), (Tissue.PROSTATE, Tissue.PROSTATE_PERIPHERAL)):
        first, second = (
            m.grid.world(np.argwhere(np.isin(m.tissue, tissues)).mean(0)) for m in (here, there)
        )
        assert np.linalg.norm(second - first) > 2
        assert np.linalg.norm(apply(moved[26], first) - second) < 0.6


@pytest.mark.parametrize("name", ["T1w", "T2w"])
def test_contrasts_are_in_their_order(maps, name):
    """Fat bright and urine dark on T1w, urine bright on T2w, cortex dark on both."""
    for seed, (anatomy, made) in maps.items():
        tissue = torch.from_numpy(made.tissue)[None]
        distance = torch.from_numpy(made.bone_distance)[None].float() * DISTANCE_STEP_MM
        recipe = draw_mr(name, anatomy.subject, np.random.default_rng(seed))
        thick = thick_shell(tissue, torch.from_numpy(made.subregions)[None])
        water, fat = mr_signal(
            tissue, distance, [recipe], thick=thick, spacing_mm=3.0,
            generator=torch.Generator().manual_seed(seed),
        )  # fmt: skip
        image = (water + fat)[0].numpy()
        seen = {t: float(np.median(image[made.tissue == t])) for t in np.unique(made.tissue)}
        dark = 0.35 * seen[Tissue.FAT]
        assert seen[Tissue.COMPACT] < dark
        assert seen[Tissue.HIP_MARROW] > 1.5 * seen[Tissue.COMPACT]
        assert seen[Tissue.FAT] > 1.5 * seen[Tissue.MUSCLE]
        if name == "T1w":
            assert seen[Tissue.BLADDER] < seen[Tissue.MUSCLE]
        else:
            assert seen[Tissue.BLADDER] > seen[Tissue.FAT]
            assert seen[Tissue.PROSTATE_PERIPHERAL] > seen[Tissue.PROSTATE]
            assert seen[Tissue.SEMINAL_VESICLE] > 2 * seen[Tissue.MUSCLE]


RANGES = {
    Tissue.FAT: (-125, -75),
    Tissue.MUSCLE: (35, 75),
    Tissue.BLADDER: (-10, 20),
    Tissue.GAS: (-1000, -880),
    Tissue.HIP_MARROW: (150, 300),
}


@pytest.mark.parametrize("tissue", list(RANGES), ids=lambda t: t.name)
def test_hu_inside_tissues(pair, tissue):
    from scipy.ndimage import binary_erosion

    deep = binary_erosion(pair.truth.tissue == tissue, iterations=3)
    assert deep.any()
    low, high = RANGES[tissue]
    assert low < np.median(pair.truth_ct.data[deep]) < high


def test_hu_of_cortex(pair):
    """The peak along the surface of hips and femora: what a thin shell reads through the PSF."""
    from scipy.ndimage import maximum_filter

    peak = maximum_filter(pair.truth_ct.data, 3)[pair.truth.tissue == Tissue.COMPACT]
    assert (np.percentile(peak, [5, 95]) > (450, 800)).all()
    assert (np.percentile(peak, [50, 95]) < (1250, 1450)).all()
    assert 600 < np.median(peak) < 1400


def test_ct_and_mr_lie_in_one_world(pair):
    assert {name: round(float(v.grid.canonical().spacing[2]), 3) for name, v in pair.mr.items()} \
        == {"T1w": 3.0, "T2w": 2.5}  # fmt: skip
    boxes = []
    for image in (*pair.mr.values(), pair.truth_ct, pair.ct):
        grid = image.grid.canonical()
        low = grid.world(np.full(3, -0.5))
        boxes.append([low, low + grid.extent])
    np.testing.assert_allclose(boxes, np.broadcast_to(boxes[0], np.shape(boxes)), atol=1e-6)
    assert all(np.array_equal(m, np.eye(4)) for m in pair.ct_from_mr.values())
    scanned = resample(pair.ct, pair.truth.grid).data > 200
    true = pair.truth_ct.data > 200
    assert 2 * (scanned & true).sum() / (scanned.sum() + true.sum()) > 0.85
    urine = resample(pair.mr["T2w"], pair.truth.grid).data
    inside = pair.truth.tissue == Tissue.BLADDER
    assert np.median(urine[inside]) > 1.4 * np.median(urine[pair.truth.tissue == Tissue.MUSCLE])


def test_series_are_those_of_the_gold_atlas():
    anatomy = make_subject(SEED, "pelvis")
    for contrast, slices, spacing in (("T2w", 84, 2.5), ("T1w", 70, 3.0), ("STIR", 84, 2.5)):
        grid = mr_grid(anatomy, contrast=contrast)
        assert grid.plane == "axial"
        assert grid.shape[2] == slices
        np.testing.assert_allclose(grid.spacing, [0.875, 0.875, spacing])


def test_what_makes_no_sense_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="choose none or rigid"):
        make_pair(SEED, "pelvis", motion="articulated")
    with pytest.raises(ConfigError, match="slices of 4 mm are for sagittal series"):
        make_pair(SEED, "pelvis", slice_mm=4.0)
    asked = ["phantom", str(tmp_path / "x"), "--region", "pelvis", "--motion", "articulated"]
    done = CliRunner().invoke(app, asked)
    assert done.exit_code == 1
    assert "one piece" in done.stderr
