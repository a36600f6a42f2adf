"""Tissue maps of CT: a spine of solids whose parts are known, and the real files where present."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from spinect.data.parts import find_frames, split
from spinect.data.spaces import neighbours
from spinect.data.synthesise import (
    WITHHELD,
    bone_distance,
    refuse_withheld,
    tissue_map_from_ct,
    warped,
)
from spinect.errors import ConfigError, GeometryError, LabelError
from spinect.geometry import Volume
from spinect.phantom.tissues import Tissue


@pytest.fixture(scope="module")
def made(model_spine):
    return tissue_map_from_ct(model_spine.ct, model_spine.vertebrae, None, "model")


def on_map(made, model_spine, mask):
    """A mask of the model's grid on the (cropped) grid of the map."""
    start = np.rint(model_spine.grid.index(made.grid.world([0, 0, 0]))).astype(int)
    box = tuple(slice(a, a + n) for a, n in zip(start, made.grid.shape, strict=True))
    return mask[box]


def dice(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def test_frames_lie_in_the_canal_and_along_it(model_spine):
    frames = find_frames(model_spine.vertebrae.data, model_spine.grid)
    assert list(frames) == [21, 22, 23]  # head to feet
    for vertebra, along in ((21, 38.0), (22, 0.0), (23, -38.0)):
        frame = frames[vertebra]
        assert frame.whole
        truth = np.array([0, -4.0, 0]) + along * model_spine.axis
        assert np.linalg.norm(frame.origin - truth) < 2.0
        assert np.degrees(np.arccos(frame.axes[2] @ model_spine.axis)) < 4.0
        assert frame.wall == pytest.approx(9.0, abs=1.2)
        assert frame.height == pytest.approx(28, abs=2.5)
        assert frame.depth == pytest.approx(32, abs=3)
        np.testing.assert_allclose(frame.axes @ frame.axes.T, np.eye(3), atol=1e-9)


def test_body_ends_at_the_posterior_wall_within_a_voxel(model_spine):
    frames = find_frames(model_spine.vertebrae.data, model_spine.grid)
    parts = split(model_spine.vertebrae.data, model_spine.grid, frames)
    truth = model_spine.subregions.data
    bone = truth > 0
    wrong = ((parts == 50) != (truth == 50)) & bone
    depth = np.where(
        truth == 50,
        ndimage.distance_transform_edt(truth == 50),
        ndimage.distance_transform_edt(truth != 50),
    )
    assert depth[wrong].max() <= 2.0  # one voxel beside the boundary, diagonals included
    assert wrong.sum() < 0.03 * bone.sum()
    assert dice(parts == 42, truth == 42) > 0.75
    assert dice(parts == 43, truth == 43) > 0.8  # the patient's left is -x
    assert dice(parts == 44, truth == 44) > 0.8


def test_canal_and_discs_fill_the_space_between(made, model_spine):
    canal = np.isin(made.subregions, (60, 61))
    truth = on_map(made, model_spine, model_spine.canal & (model_spine.vertebrae.data == 0))
    assert (canal & truth).sum() > 0.93 * truth.sum()
    assert canal.sum() < 1.45 * truth.sum()
    assert not (canal & (made.vertebrae > 0)).any()
    _, pieces = ndimage.label(canal)
    assert pieces == 1  # continuous over all levels
    disc = made.subregions == 100
    between = on_map(made, model_spine, model_spine.disc)
    assert disc[between].mean() > 0.95
    assert np.isin(made.tissue[disc], (Tissue.NUCLEUS, Tissue.ANNULUS)).all()
    assert (made.tissue[disc] == Tissue.NUCLEUS).any()


def test_what_is_not_labelled_is_not_known(made, model_spine):
    known = made.known.astype(bool)
    assert not known[on_map(made, model_spine, model_spine.unlabelled)].any()
    assert known[made.vertebrae > 0].all()
    rib = on_map(made, model_spine, model_spine.rib)
    assert known[rib].all()
    assert np.isin(made.tissue[rib], (Tissue.OTHER_CORTEX, Tissue.OTHER_MARROW)).mean() > 0.9


def test_tissues_by_hu_and_by_mask(made, model_spine):
    assert (made.tissue[on_map(made, model_spine, model_spine.gas)] == Tissue.GAS).mean() > 0.9
    assert (made.tissue[on_map(made, model_spine, model_spine.air)] == Tissue.AIR).mean() > 0.99
    bone = made.vertebrae > 0
    assert np.isin(made.tissue[bone], (Tissue.CORTEX, Tissue.MARROW)).all()
    assert (made.bone_distance[bone] < 5).all()
    assert (made.bone_distance[made.tissue == Tissue.FAT] > 0).mean() > 0.99
    assert made.grid.axes == "RAS"
    own = on_map(made, model_spine, model_spine.ct.data)
    np.testing.assert_allclose(made.hu, own, atol=0.51)  # the target stays the CT's own
    assert set(made.subject.centres) == {21, 22, 23}


@pytest.mark.slow
def test_the_same_input_gives_the_same_map(made, model_spine):
    again = tissue_map_from_ct(model_spine.ct, model_spine.vertebrae, None, "model")
    for name in ("tissue", "vertebrae", "subregions", "bone_distance", "hu", "known"):
        np.testing.assert_array_equal(getattr(again, name), getattr(made, name), err_msg=name)


def test_filling_is_not_known_and_given_subregions_win(model_spine):
    data = model_spine.ct.data.copy()
    data[:, :20] = -1024
    cut = model_spine.ct.with_data(data)
    made = tissue_map_from_ct(cut, model_spine.vertebrae, model_spine.subregions, "model")
    assert not made.known[:, :20].any()
    assert made.known[:, 26:60].mean() > 0.6
    assert (made.tissue[40:90, 23:26] != Tissue.SKIN).all()  # a cut is no skin
    truth = on_map(made, model_spine, model_spine.subregions.data)
    np.testing.assert_array_equal(made.subregions[truth > 0], truth[truth > 0])


def test_warped_labels_follow_the_warped_ct(model_spine):
    ct, labels = warped(model_spine.ct, model_spine.vertebrae, np.random.default_rng(5))
    bone = labels.data > 0
    assert dice(bone, model_spine.vertebrae.data > 0) < 0.97
    assert np.median(ct.data[bone]) == pytest.approx(350, abs=10)
    assert (ct.data[ndimage.binary_erosion(bone)] > 250).mean() > 0.99


@pytest.mark.parametrize("name", [*WITHHELD, "VerSe014-2"])
def test_withheld_sources_are_refused(model_spine, name):
    with pytest.raises(ConfigError, match="withheld"):
        tissue_map_from_ct(model_spine.ct, model_spine.vertebrae, None, name)
    refuse_withheld("verse012-1")


def test_labels_that_cannot_serve_are_refused(model_spine):
    empty = model_spine.vertebrae.with_data(np.zeros_like(model_spine.vertebrae.data))
    with pytest.raises(GeometryError, match="no vertebra label"):
        tissue_map_from_ct(model_spine.ct, empty, None, "model")
    bodies = np.where(model_spine.subregions.data == 50, model_spine.vertebrae.data, 0)
    with pytest.raises(LabelError, match="foramen"):
        tissue_map_from_ct(
            model_spine.ct, model_spine.vertebrae.with_data(bodies.astype(np.uint8)), None, "m"
        )


def test_bone_distance_of_a_ball():
    index = np.stack(np.meshgrid(*[np.arange(-20, 21)] * 3, indexing="ij"), -1)
    r = np.linalg.norm(index, axis=-1)
    distance = bone_distance(r < 12.0) * 0.1
    near = np.abs(r - 12) < 8
    assert np.abs(distance - (r - 12))[near].max() < 0.75
    assert np.abs((distance - (r - 12))[near].mean()) < 0.1


def test_neighbours_skip_only_optional_levels():
    assert neighbours([18, 19, 20]) == [(18, 19), (19, 20)]
    assert neighbours([24, 26]) == [(24, 26)]  # no L6
    assert neighbours([20, 22]) == []


def _real(name):
    folder = os.environ.get("SPINECT_REALDATA")
    if not folder or not (Path(folder) / "ct").is_dir():
        pytest.skip("SPINECT_REALDATA is not set: this test needs the real CT")
    images = [
        nib.as_closest_canonical(nib.load(Path(folder) / "ct" / f"{name}_{kind}.nii.gz"))
        for kind in ("ct", "vertebrae", "subregions")
    ]
    ct = Volume(np.asarray(images[0].dataobj, np.float32), images[0].affine, "ct")
    return ct, *(Volume(np.asarray(i.dataobj), i.affine, "labels") for i in images[1:])


def test_split_of_a_real_vertebra_agrees_with_its_labels():
    """Only measured here, never trained on: the one real vertebra with labelled subregions."""
    _, vertebrae, subregions = _real("tptbox_crop")
    grid = vertebrae.grid.with_spacing(1.0)
    at = np.rint(vertebrae.grid.index(grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))))
    pick = tuple(np.moveaxis(at.astype(int).clip(0, np.array(vertebrae.data.shape) - 1), -1, 0))
    labels, truth = vertebrae.data[pick].astype(np.uint8), subregions.data[pick]
    frames = find_frames(labels, grid)
    parts = split(labels, grid, frames)
    whole = labels == 22
    assert dice((parts == 50) & whole, (truth >= 49) & whole) > 0.97
    for part, least in ((41, 0.6), (42, 0.75), (45, 0.7), (46, 0.7), (47, 0.75), (48, 0.75)):
        assert dice((parts == part) & whole, (truth == part) & whole) > least, part
