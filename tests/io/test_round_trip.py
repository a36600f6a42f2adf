"""What is written is read back, by us and by nibabel and SimpleITK."""

import itertools

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from spinect.errors import SpinectWarning
from spinect.geometry import Volume
from spinect.io import read, write_volume

RNG = np.random.default_rng(3)
ORIENTATIONS = [
    "".join(signs[axis] for axis, signs in zip(order, flips, strict=True))
    for order in itertools.permutations(range(3))
    for flips in itertools.product(("RAS", "LPI"), repeat=3)
]
SUFFIXES = [".nii.gz", ".nii", ".mha", ".nrrd"]


def volume_of(kind, axes="RAS", shape=(9, 10, 11)):
    """Random voxels on an oblique grid whose affine float32 holds exactly."""
    affine = np.eye(4)
    turn = Rotation.from_rotvec((0.1, -0.05, 0.2)).as_matrix()
    affine[:3, :3] = turn * (4.0, 0.55, 0.6)
    affine[:3, 3] = (-31.5, 12.25, 700.125)
    data = {
        "mr": RNG.normal(300, 90, shape).astype(np.float32),
        "ct": RNG.integers(-1024, 1500, shape).astype(np.float32),
        "labels": RNG.integers(0, 51, shape).astype(np.uint8),
    }[kind]
    volume = Volume(data, affine, kind).reoriented(axes)
    return Volume(np.ascontiguousarray(volume.data), volume.affine.astype(np.float32), kind)


@pytest.mark.parametrize("axes", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["mr", "labels"])
def test_all_orientations(tmp_path, axes, kind):
    volume = volume_of(kind, axes)
    again = read(write_volume(volume, tmp_path / "v.nii.gz"), kind)
    assert again.data.tobytes() == volume.data.tobytes()
    assert again.data.dtype == volume.data.dtype
    assert np.array_equal(again.affine, volume.affine)
    assert again.kind == kind
    assert again.grid.axes == axes


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kind", ["mr", "ct", "labels"])
def test_all_formats(tmp_path, suffix, kind):
    volume = volume_of(kind, "PIL")
    again = read(write_volume(volume, tmp_path / f"v{suffix}"), kind)
    assert np.array_equal(again.data, volume.data)
    np.testing.assert_allclose(again.affine, volume.affine, atol=1e-9)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_simpleitk_sees_the_same_points(tmp_path, suffix):
    """ITK's world is LPS+; a point is the same voxel for both."""
    volume = volume_of("ct", "IRP")
    image = sitk.ReadImage(str(write_volume(volume, tmp_path / f"v{suffix}")))
    assert np.array_equal(sitk.GetArrayFromImage(image).T, volume.data)
    for index in [(0, 0, 0), (8, 3, 2), (5, 8, 9)]:
        left, posterior, up = image.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose([-left, -posterior, up], volume.grid.world(index), atol=1e-3)


@pytest.mark.parametrize("kind", ["mr", "ct", "labels"])
def test_nibabel_sees_the_same(tmp_path, kind):
    volume = volume_of(kind, "LIP")
    image = nib.load(write_volume(volume, tmp_path / "v.nii.gz"))
    assert np.array_equal(np.asarray(image.dataobj), volume.data)
    assert image.get_data_dtype() == {"mr": np.float32, "ct": np.int16, "labels": np.uint8}[kind]
    assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
    np.testing.assert_allclose(image.get_qform(), volume.affine, atol=1e-3)
    assert image.header.get_xyzt_units()[0] == "mm"


@pytest.mark.parametrize("suffix", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_files_written_by_simpleitk(tmp_path, suffix):
    image = sitk.GetImageFromArray(RNG.integers(0, 900, (9, 10, 11)).astype(np.int16))
    image.SetSpacing((0.5, 0.6, 4.0))
    image.SetOrigin((10, -20, 30))
    image.SetDirection(Rotation.from_rotvec((0.2, 0.3, -0.1)).as_matrix().ravel())
    sitk.WriteImage(image, str(tmp_path / f"v{suffix}"))
    volume = read(tmp_path / f"v{suffix}")
    assert np.array_equal(volume.data, sitk.GetArrayFromImage(image).T)
    left, posterior, up = image.TransformIndexToPhysicalPoint((3, 4, 5))
    np.testing.assert_allclose(volume.grid.world((3, 4, 5)), [-left, -posterior, up], atol=1e-6)


def test_ct_is_rounded_and_clipped(tmp_path):
    data = np.full((9, 9, 9), -1000, np.float32)
    data[0, 0, :4] = [-5000, 40.6, -0.4, 9000]
    data[1] = 300
    again = read(write_volume(Volume(data, np.eye(4), "ct"), tmp_path / "ct.nii.gz"), "ct")
    assert again.data[0, 0, :4].tolist() == [-1024, 41, 0, 3071]


def test_label_ids_above_255_need_16_bits(tmp_path):
    data = np.zeros((4, 4, 4), np.int64)
    data[1, 1, 1] = 300
    again = read(write_volume(Volume(data, np.eye(4), "labels"), tmp_path / "l.nii.gz"), "labels")
    assert again.data.dtype == np.uint16
    assert again.data.max() == 300


def test_many_gzip_members_are_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr("spinect.io.records.BLOCK_BYTES", 500)
    volume = volume_of("mr", shape=(9, 10, 40))
    for suffix in (".nii.gz", ".nrrd"):
        path = write_volume(volume, tmp_path / f"v{suffix}")
        assert np.array_equal(read(path).data, volume.data)
        assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, volume.data)
    assert np.array_equal(nib.load(tmp_path / "v.nii.gz").get_fdata(), volume.data)


def test_the_same_volume_is_the_same_bytes(tmp_path):
    volume = volume_of("ct")
    first = write_volume(volume, tmp_path / "a.nii.gz").read_bytes()
    assert first == write_volume(volume, tmp_path / "b.nii.gz").read_bytes()


def test_like_keeps_the_coordinate_code(tmp_path):
    image = nib.Nifti1Image(RNG.normal(size=(9, 9, 9)).astype(np.float32), np.eye(4))
    image.set_sform(np.eye(4), code="aligned")
    nib.save(image, tmp_path / "mr.nii.gz")
    volume = read(tmp_path / "mr.nii.gz")
    write_volume(volume, tmp_path / "ct.nii.gz", like=tmp_path / "mr.nii.gz")
    assert int(nib.load(tmp_path / "ct.nii.gz").header["sform_code"]) == 2


def test_header_scaling_is_applied(tmp_path):
    image = nib.Nifti1Image(RNG.integers(0, 500, (9, 9, 9)).astype(np.int16), np.eye(4))
    image.header.set_slope_inter(2.0, -1024)
    nib.save(image, tmp_path / "ct.nii.gz")
    volume = read(tmp_path / "ct.nii.gz", "ct")
    np.testing.assert_allclose(volume.data, nib.load(tmp_path / "ct.nii.gz").get_fdata())
    assert volume.data.dtype == np.float32


def mr_image(affine=None):
    return nib.Nifti1Image(
        RNG.normal(300, 90, (9, 10, 11)).astype(np.float32), np.eye(4) if affine is None else affine
    )


@pytest.mark.parametrize(("unit", "spacing"), [("micron", 550.0), ("meter", 5.5e-4), ("mm", 0.55)])
def test_units_become_mm(tmp_path, unit, spacing):
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = spacing * 20
    image = mr_image(affine)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "mr.nii")
    volume = read(tmp_path / "mr.nii")
    np.testing.assert_allclose(volume.grid.spacing, 0.55, rtol=1e-6)
    np.testing.assert_allclose(volume.affine[:3, 3], 11.0, rtol=1e-6)


def test_sform_wins_over_a_different_qform(tmp_path):
    image = mr_image()
    image.set_sform(np.diag([2.0, 2, 2, 1]), code=1)
    image.set_qform(np.diag([2.0, 2, -2, 1]), code=1)
    nib.save(image, tmp_path / "mr.nii")
    with pytest.warns(SpinectWarning, match=r"mr\.nii: sform and qform disagree by up to 40\.0 mm"):
        volume = read(tmp_path / "mr.nii")
    np.testing.assert_allclose(volume.affine, np.diag([2.0, 2, 2, 1]))


def test_qform_is_used_when_there_is_no_sform(tmp_path):
    image = mr_image()
    image.set_sform(np.diag([2.0, 2, 2, 1]), code=0)
    image.set_qform(np.diag([2.0, 2, -2, 1]), code=1)
    nib.save(image, tmp_path / "mr.nii")
    np.testing.assert_allclose(read(tmp_path / "mr.nii").affine, np.diag([2.0, 2, -2, 1]))


def test_no_orientation_at_all_is_said(tmp_path):
    image = mr_image()
    image.header.set_zooms((1.0, 2.0, 3.0))
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, tmp_path / "mr.nii")
    with pytest.warns(SpinectWarning, match="no orientation"):
        volume = read(tmp_path / "mr.nii")
    np.testing.assert_allclose(volume.affine, nib.load(tmp_path / "mr.nii").affine)


def test_nearly_perpendicular_axes_are_straightened(tmp_path):
    affine = np.diag([4.0, 0.5, 0.5, 1.0])
    affine[1, 0] = 4 * 0.01  # 0.57 degrees
    nib.save(mr_image(affine), tmp_path / "mr.nii")
    with pytest.warns(SpinectWarning, match=r"0\.57 degrees off perpendicular"):
        volume = read(tmp_path / "mr.nii")
    cosines = volume.grid.direction
    np.testing.assert_allclose(cosines.T @ cosines, np.eye(3), atol=1e-12)
    middle = (np.array(volume.data.shape) - 1) / 2
    np.testing.assert_allclose(volume.grid.world(middle), (affine @ [*middle, 1])[:3], atol=1e-6)
    assert volume.grid.gap(Volume(volume.data, affine, "mr").grid) < 0.2


@pytest.mark.parametrize("wanted", [0, 2])
def test_one_volume_of_a_4d_file(tmp_path, wanted):
    data = RNG.normal(300, 90, (9, 10, 11, 3)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "mr.nii.gz")
    assert np.array_equal(read(tmp_path / "mr.nii.gz", volume=wanted).data, data[..., wanted])
    image = sitk.JoinSeries(
        [sitk.GetImageFromArray(np.ascontiguousarray(d.T)) for d in np.moveaxis(data, 3, 0)]
    )
    sitk.WriteImage(image, str(tmp_path / "mr.nrrd"))
    assert np.array_equal(read(tmp_path / "mr.nrrd", volume=wanted).data, data[..., wanted])


def test_a_fourth_axis_of_one_is_no_axis(tmp_path):
    data = RNG.normal(300, 90, (9, 10, 11, 1)).astype(np.float32)
    nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "mr.nii")
    assert np.array_equal(read(tmp_path / "mr.nii").data, data[..., 0])


def test_an_empty_label_map_is_one(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((9, 9, 9), np.float64), np.eye(4)), tmp_path / "l.nii")
    assert read(tmp_path / "l.nii", "labels").data.dtype == np.uint8
