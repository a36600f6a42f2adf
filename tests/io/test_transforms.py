"""Transform files: SimpleITK resamples with them what spinect resamples with the matrix."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from spinect.errors import GeometryError, InputError, OutputError
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.geometry.transform import apply, rigid
from spinect.io import (
    Transforms,
    read_itk_rigid,
    read_transforms,
    write_itk_field,
    write_itk_rigid,
    write_transforms,
    write_volume,
)

CT_FROM_MR = rigid((0.15, -0.1, 0.2), (4, -6, 3), centre=(5, 10, -20))
LPS = np.array([-1.0, -1.0, 1.0])


def oblique(shape, spacing, turn, origin):
    affine = rigid(turn, origin)
    affine[:3, :3] = affine[:3, :3] * spacing
    return Grid(shape, affine)


CT_GRID = oblique((60, 64, 56), (1, 1, 1), (0, 0, 0), (-25, -25, -45))
MR_GRID = oblique((20, 30, 24), (1.0, 1.0, 1.0), (0.1, 0.05, -0.1), (-5, -5, -30))


@pytest.fixture(scope="module")
def ct():
    """Waves of 20-30 mm of another length along each axis: no flip or swap goes unseen."""
    x, y, z = np.moveaxis(CT_GRID.world(np.moveaxis(np.indices(CT_GRID.shape), 0, -1)), -1, 0)
    data = 300 * np.sin(x / 4) + 200 * np.cos(y / 5 + 1) + 400 * np.sin(z / 4.5 + 2) + 5 * x - 7 * y
    return Volume(data.astype(np.float32), CT_GRID.affine, "ct")


def resampled(ct, transform, tmp_path):
    """By SimpleITK, on the MR's grid; (X, Y, Z)."""
    moving = sitk.GetImageFromArray(ct.data.transpose(2, 1, 0))
    fixed = sitk.ReadImage(
        write_volume(Volume(np.zeros(MR_GRID.shape), MR_GRID.affine, "mr"), tmp_path / "m.nii.gz")
    )
    moving.SetOrigin((CT_GRID.affine[:3, 3] * LPS).tolist())
    moving.SetDirection((np.diag(LPS) @ CT_GRID.direction).ravel().tolist())
    moving.SetSpacing(CT_GRID.spacing.tolist())
    done = sitk.Resample(moving, fixed, transform, sitk.sitkLinear, -1000.0, sitk.sitkFloat32)
    return sitk.GetArrayFromImage(done).transpose(2, 1, 0)


def shift(matrix, grid):
    """(X, Y, Z, 3) displacement of a rigid map."""
    world = grid.world(np.moveaxis(np.indices(grid.shape), 0, -1))
    return apply(matrix, world) - world


@pytest.mark.parametrize("suffix", [".tfm", ".txt", ".h5"])
def test_rigid_resamples_alike(ct, tmp_path, suffix):
    path = write_itk_rigid(CT_FROM_MR, tmp_path / f"from-mr_to-ct{suffix}")
    theirs = resampled(ct, sitk.ReadTransform(str(path)), tmp_path)
    ours = resample(ct, MR_GRID, CT_FROM_MR).data
    assert (ours > -1000).all()
    np.testing.assert_allclose(theirs, ours, atol=0.5)  # HU, of waves of 900
    wrong = resample(ct, MR_GRID, np.linalg.inv(CT_FROM_MR)).data
    assert np.abs(theirs - wrong).mean() > 50
    np.testing.assert_allclose(read_itk_rigid(path), CT_FROM_MR, atol=1e-12)


def test_points_go_the_same_way(tmp_path):
    path = write_itk_rigid(CT_FROM_MR, tmp_path / "a.tfm")
    transform = sitk.ReadTransform(str(path))
    for point in np.random.default_rng(0).normal(0, 80, (5, 3)):
        theirs = np.array(transform.TransformPoint((point * LPS).tolist())) * LPS
        np.testing.assert_allclose(theirs, apply(CT_FROM_MR, point), atol=1e-9)


def test_a_field_resamples_as_the_matrix(ct, tmp_path):
    path = write_itk_field(shift(CT_FROM_MR, MR_GRID), MR_GRID, tmp_path / "a.h5")
    transform = sitk.ReadTransform(str(path))
    theirs = resampled(ct, transform, tmp_path)
    inside = (slice(1, -1),) * 3  # the outer half voxel of a field is ITK's to fill
    np.testing.assert_allclose(
        theirs[inside], resample(ct, MR_GRID, CT_FROM_MR).data[inside], atol=0.5
    )
    with pytest.raises(GeometryError, match="not a rigid map"):
        read_itk_rigid(path)


def test_a_field_of_another_shape_keeps_its_axes(tmp_path):
    """Each component on each axis: a field that differs along all of them, point by point."""
    grid = oblique((5, 6, 7), (2.0, 1.0, 3.0), (0.3, -0.2, 0.4), (3, 4, 5)).reoriented("PIR")
    field = np.random.default_rng(1).normal(0, 3, (*grid.shape, 3))
    path = write_itk_field(field, grid, tmp_path / "a.h5")
    transform = sitk.ReadTransform(str(path))
    for index in [(1, 2, 3), (4, 0, 2), (0, 5, 6), (3, 1, 1)]:
        index = tuple(min(i, n - 1) for i, n in zip(index, grid.shape, strict=True))
        point = grid.world(index)
        moved = np.array(transform.TransformPoint((point * LPS).tolist())) * LPS
        np.testing.assert_allclose(moved - point, field[index], atol=1e-6)


@pytest.mark.parametrize(
    "transform",
    [
        sitk.VersorRigid3DTransform((0, 0, 1), 0.3, (1, 2, 3), (5, 6, 7)),
        sitk.CompositeTransform([sitk.Euler3DTransform((0, 0, 0), 0.1, 0.2, 0.3, (1, 2, 3))]),
        sitk.TranslationTransform(3, (1, 2, 3)),
    ],
)
def test_rigid_maps_of_other_classes_are_read(tmp_path, transform):
    sitk.WriteTransform(transform, str(tmp_path / "a.tfm"))
    found = read_itk_rigid(tmp_path / "a.tfm")
    point = np.array([7.0, -8, 9])
    np.testing.assert_allclose(apply(found, point * LPS) * LPS, transform.TransformPoint(point))


def test_itk_refusals(tmp_path):
    with pytest.raises(GeometryError, match="not rigid"):
        write_itk_rigid(np.diag([1.0, 1, -1, 1]), tmp_path / "a.tfm")
    with pytest.raises(OutputError, match=r"ITK writes transforms as \.tfm"):
        write_itk_rigid(np.eye(4), tmp_path / "a.mat")
    with pytest.raises(OutputError, match=r"written as \.h5"):
        write_itk_field(np.zeros((*MR_GRID.shape, 3)), MR_GRID, tmp_path / "a.tfm")
    with pytest.raises(GeometryError, match="does not fit the grid"):
        write_itk_field(np.zeros((2, 2, 2, 3)), MR_GRID, tmp_path / "a.h5")
    field = np.zeros((*MR_GRID.shape, 3))
    field[0, 0, 0, 0] = np.nan
    with pytest.raises(GeometryError, match="1 numbers that are not finite"):
        write_itk_field(field, MR_GRID, tmp_path / "a.h5")
    sheared = np.eye(4)
    sheared[0, 1] = 0.1
    with pytest.raises(GeometryError, match="off a right angle"):
        write_itk_field(np.zeros((3, 3, 3, 3)), Grid((3, 3, 3), sheared), tmp_path / "a.h5")
    with pytest.raises(InputError, match="no such file"):
        read_itk_rigid(tmp_path / "none.tfm")
    (tmp_path / "a.tfm").write_text("hello")
    with pytest.raises(InputError, match="not an ITK transform"):
        read_itk_rigid(tmp_path / "a.tfm")
    sitk.WriteTransform(sitk.ScaleTransform(3, (1, 1, 2)), str(tmp_path / "b.tfm"))
    with pytest.raises(GeometryError, match="not rigid"):
        read_itk_rigid(tmp_path / "b.tfm")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tfm", "b.tfm"]


TRANSFORMS = Transforms("T2w", "ct", CT_FROM_MR, {20: rigid((0.1, 0, 0)), 28: rigid((0, 0.1, 0))})


def test_json_round_trip(tmp_path):
    path = write_transforms(TRANSFORMS, tmp_path / "a.json", {"model": "polyrigid"})
    content = json.loads(path.read_text())
    fields = ["from", "to", "unit", "world", "global", "vertebrae", "model"]
    assert list(content) == fields
    assert list(content["vertebrae"]) == ["L1", "T13"]
    again = read_transforms(path)
    assert (again.source, again.target) == ("T2w", "ct")
    np.testing.assert_array_equal(again.whole, CT_FROM_MR)
    assert list(again.vertebrae) == [20, 28]
    np.testing.assert_array_equal(again.vertebrae[28], TRANSFORMS.vertebrae[28])


@pytest.mark.parametrize(
    ("change", "error", "wrong"),
    [
        ({"unit": "m"}, InputError, "transforms in m of RAS"),
        ({"world": "LPS+"}, InputError, "transforms in mm of LPS"),
        ({"global": [[1, 2], [3, 4]]}, GeometryError, "global is not a 4x4 matrix"),
        ({"global": None}, GeometryError, "global is not a 4x4 matrix"),
        ({"vertebrae": {"Q1": np.eye(4).tolist()}}, InputError, "Q1 are no vertebrae"),
        ({"vertebrae": {"L1": np.diag([1, 1, -1.0, 1]).tolist()}}, GeometryError, "L1.*not rigid"),
    ],
)
def test_json_refusals(tmp_path, change, error, wrong):
    path = write_transforms(TRANSFORMS, tmp_path / "a.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(error, match=wrong):
        read_transforms(path)


def test_json_that_is_none(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_transforms(tmp_path / "a.json")
    for text, wrong in (
        ("hello", "not JSON"),
        ("[]", "every field"),
        ('{"from": "a"}', "lacks to"),
    ):
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(InputError, match=wrong):
            read_transforms(tmp_path / "a.json")
