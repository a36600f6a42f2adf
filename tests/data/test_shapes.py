"""Variations of vertebra shapes and surfaces."""

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from spinect.data.parts import find_frames
from spinect.data.shapes import tissue_map_from_shapes
from spinect.data.surfaces import labels_from_surfaces, read_obj, voxelise
from spinect.errors import ConfigError, ImageError, LabelError
from spinect.geometry import Grid, Volume
from spinect.phantom.tissues import Tissue


@pytest.fixture(scope="module")
def made(model_spine):
    return tissue_map_from_shapes(model_spine.vertebrae, 11, "model")


def test_a_variation_is_another_spine_of_the_same_kind(made, model_spine):
    assert made.grid.axes == "RAS"
    np.testing.assert_allclose(made.grid.spacing, 1)
    assert set(np.unique(made.vertebrae)) == {0, 21, 22, 23}
    for vertebra in (21, 22, 23):
        own = (made.vertebrae == vertebra).sum()
        source = (model_spine.vertebrae.data == vertebra).sum()
        assert 0.65 < own / source < 1.45  # 12 % per axis
        assert own != source
        _, pieces = ndimage.label(made.vertebrae == vertebra, np.ones((3, 3, 3)))
        assert pieces == 1
    spacing = [
        np.linalg.norm(np.subtract(made.subject.centres[a], made.subject.centres[b]))
        for a, b in ((21, 22), (22, 23))
    ]
    assert all(32 < s < 45 for s in spacing)  # 38 mm in the source


def test_every_part_and_space_is_there(made):
    for part in (41, 42, 43, 44, 50, 61, 100):
        assert (made.subregions == part).sum() > 200, part
    assert not (np.isin(made.subregions, (60, 61, 100)) & (made.vertebrae > 0)).any()
    disc = made.subregions == 100
    assert np.isin(made.tissue[disc], (Tissue.NUCLEUS, Tissue.ANNULUS, Tissue.CARTILAGE)).all()
    bone = made.vertebrae > 0
    marrow = (Tissue.CORTEX, Tissue.MARROW, Tissue.BASIVERTEBRAL)
    assert np.isin(made.tissue[bone], marrow).mean() > 0.98
    assert (made.bone_distance[bone] < 5).all()
    assert made.known[bone].all()
    assert made.known.min() == 0  # beyond the labelled levels
    share = np.isin(made.subregions[bone], range(41, 49)).mean()
    assert 0.1 < share < 0.45


def test_vertebrae_never_touch(made):
    for vertebra in (21, 22):
        own = ndimage.binary_dilation(made.vertebrae == vertebra)
        assert not np.isin(made.vertebrae[own], [v for v in (21, 22, 23) if v != vertebra]).any()


def test_seed_decides(made, model_spine):
    again = tissue_map_from_shapes(model_spine.vertebrae, 11, "model")
    np.testing.assert_array_equal(again.tissue, made.tissue)
    np.testing.assert_array_equal(again.vertebrae, made.vertebrae)
    assert again.subject == made.subject


def test_withheld_and_useless_shapes_are_refused(model_spine):
    with pytest.raises(ConfigError, match="withheld"):
        tissue_map_from_shapes(model_spine.vertebrae, 1, "verse004_T9-L5")
    bodies = np.where(model_spine.subregions.data == 50, model_spine.vertebrae.data, 0)
    with pytest.raises(LabelError, match="foramen"):
        tissue_map_from_shapes(model_spine.vertebrae.with_data(bodies.astype(np.uint8)), 1, "m")


BOX = """# a box of 10 x 20 x 30
v 0 0 0
v 10 0 0
v 10 20 0
v 0 20 0
v 0 0 30
v 10 0 30
v 10 20 30
v 0 20 30
f 1//1 3//1 2//1
f 1 4 3
f 5 6 7
f 5 7 8
f 1 2 6
f 1 6 5
f 2 3 7
f 2 7 6
f 3 4 8
f 3 8 7
f 4 1 5
f 4 5 8
"""


def test_voxelised_box_has_its_volume_to_the_voxel(tmp_path):
    path = tmp_path / "box.obj"
    path.write_text(BOX)
    vertices, faces = read_obj(path)
    affine = np.eye(4)
    affine[:3, 3] = [-4.5, -4.5, -4.5]
    mask = voxelise(vertices, faces, Grid((20, 30, 45), affine))
    assert mask.sum() == 10 * 20 * 30
    assert mask[5:15, 5:25, 5:35].all()
    labels = labels_from_surfaces({20: (vertices, faces)})
    assert (labels.data == 20).sum() == pytest.approx(6000, rel=0.1)


def test_a_grid_that_cuts_the_surface_sees_its_part(tmp_path):
    path = tmp_path / "box.obj"
    path.write_text(BOX)
    vertices, faces = read_obj(path)
    affine = np.eye(4)
    affine[:3, 3] = [5.5, 5.5, 10.5]
    mask = voxelise(vertices, faces, Grid((20, 5, 10), affine))
    assert mask[:4].all()
    assert not mask[5:].any()


def test_an_open_polygon_file_is_refused(tmp_path):
    path = tmp_path / "quad.obj"
    path.write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n")
    with pytest.raises(ImageError, match="triangles"):
        read_obj(path)


@pytest.mark.slow
def test_real_label_map_meets_the_measured_gates():
    folder = os.environ.get("SPINECT_REALDATA")
    if not folder or not (Path(folder) / "shapes").is_dir():
        pytest.skip("SPINECT_REALDATA is not set: this test needs the real shapes")
    image = nib.load(Path(folder) / "shapes" / "healthivert0007_T9-L5_vertebrae.nii.gz")
    labels = Volume(np.asarray(image.dataobj), image.affine, "labels")
    made = tissue_map_from_shapes(labels, 5, "healthivert0007")
    frames = find_frames(made.vertebrae, made.grid)
    for vertebra in range(20, 25):
        own = made.vertebrae == vertebra
        assert 30_000 < own.sum() < 85_000  # 36-78 mL in the source files, 12 % per axis
        assert 0.22 < np.isin(made.subregions[own], range(41, 49)).mean() < 0.46
        assert frames[vertebra].whole
