"""DICOM: geometry decides, whatever files are called or numbered; contours become masks."""

import numpy as np
import pytest
import SimpleITK as sitk

from spinect.errors import GeometryError, ImageError, InputError
from spinect.geometry import Grid

pytest.importorskip("pydicom")

from spinect.io.dicom import find_series, read_headers, read_series
from spinect.io.rtstruct import rasterise, read_structures

OBLIQUE = (0.98480775, 0.17364818, 0.0)  # a turn of 10 degrees about the body's axis
OBLIQUE_ROWS = (-0.17364818, 0.98480775, 0.0)


@pytest.fixture
def stored():
    return np.random.default_rng(1).integers(0, 900, (14, 10, 6)).astype(np.int16)


def only(folder):
    found = find_series(read_headers(folder))
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("numbering", [None, [6, 5, 4, 3, 2, 1], [3, 1, 6, 2, 5, 4]])
def test_slices_are_sorted_by_position_not_by_number(tmp_path, dicom, stored, numbering):
    stack = dicom.Stack("CT", "x", stored, (-3, 4, 5), intercept=-1024, numbering=numbering)
    dicom.write_stack(stack, tmp_path)
    series = only(tmp_path)
    volume = read_series(series)
    assert volume.kind == "ct"
    np.testing.assert_array_equal(volume.data, stored - 1024)
    np.testing.assert_allclose(volume.grid.world([0, 0, 0]), [3, -4, 5])
    np.testing.assert_allclose(volume.grid.world([1, 2, 3]), [2, -6, 14])


def test_geometry_and_values_are_those_of_itk(tmp_path, dicom, stored):
    """An oblique series with unequal pixels, against another reader."""
    stack = dicom.Stack(
        "CT", "x", stored, (-31.5, 20, -7), OBLIQUE, OBLIQUE_ROWS, (0.7, 0.9, 2.5), 2.0, -1000
    )
    dicom.write_stack(stack, tmp_path)
    ours = read_series(only(tmp_path))
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    theirs = reader.Execute()
    np.testing.assert_array_equal(ours.data, sitk.GetArrayFromImage(theirs).T)
    for index in ([0, 0, 0], [13, 0, 0], [0, 9, 0], [0, 0, 5]):
        point = np.array(theirs.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]
        np.testing.assert_allclose(ours.grid.world(index), point, atol=1e-4)


def test_slope_of_each_slice_and_padding(tmp_path, dicom, stored):
    stored[0, 0] = -2000
    slopes = [1.0, 2.0, 1.5, 1.0, 0.5, 1.0]
    stack = dicom.Stack("CT", "x", stored, slope=slopes, extra={"PixelPaddingValue": -2000})
    dicom.write_stack(stack, tmp_path)
    got = read_series(only(tmp_path)).data
    expected = stored * np.array(slopes)
    expected[0, 0] = -1000
    np.testing.assert_allclose(got, expected)


def test_stacks_of_one_series_are_told_apart_by_geometry(tmp_path, dicom, stored):
    dicom.write_stack(dicom.Stack("MR", "a", stored), tmp_path)
    dicom.write_stack(
        dicom.Stack("MR", "a", stored, columns=(0, 1, 0), rows=(0, 0, -1)), tmp_path, 50
    )
    (tmp_path / "notes.txt").write_text("not DICOM")
    found = find_series(read_headers(tmp_path))
    assert {s.grid.axes for s in found} == {"LPS", "PIR"}


def test_missing_doubled_and_tilted_slices_are_refused(tmp_path, dicom, stored):
    paths = dicom.write_stack(dicom.Stack("CT", "x", stored), tmp_path / "a")
    paths[2].rename(tmp_path / "kept.dcm")
    with pytest.raises(GeometryError, match=r"missing after 3\.00 mm"):
        find_series(read_headers(tmp_path / "a"))
    (tmp_path / "kept.dcm").rename(paths[2])
    (tmp_path / "a" / "copy.dcm").write_bytes(paths[1].read_bytes())
    with pytest.raises(GeometryError, match=r"two slices lie at 3\.00 mm"):
        find_series(read_headers(tmp_path / "a"))

    import pydicom

    for i, path in enumerate(dicom.write_stack(dicom.Stack("CT", "x", stored), tmp_path / "b")):
        file = pydicom.dcmread(path)
        file.ImagePositionPatient = [0.0, 0.5 * i, 3.0 * i]
        file.save_as(path)
    with pytest.raises(GeometryError, match=r"shifted sideways by 0\.50 mm"):
        find_series(read_headers(tmp_path / "b"))


def test_what_is_no_plain_grey_series_is_refused(tmp_path, dicom, stored):
    with pytest.raises(InputError, match="no DICOM"):
        read_headers(tmp_path)
    inverted = dicom.Stack("CT", "x", stored, extra={"PhotometricInterpretation": "MONOCHROME1"})
    dicom.write_stack(inverted, tmp_path / "a")
    with pytest.raises(ImageError, match="MONOCHROME1"):
        read_series(only(tmp_path / "a"))
    many = dicom.Stack("CT", "x", stored, extra={"NumberOfFrames": 6})
    dicom.write_stack(many, tmp_path / "b")
    with pytest.raises(ImageError, match="multi-frame"):
        find_series(read_headers(tmp_path / "b"))


def ellipse(centre, radii, z, count=400):
    turn = np.linspace(0, 2 * np.pi, count, endpoint=False)
    xy = np.array(centre) + np.stack([np.cos(turn), np.sin(turn)], -1) * radii
    return np.concatenate([xy, np.full((count, 1), z)], 1)


def test_structures_become_masks_on_the_images_grid(tmp_path, dicom):
    """An ellipse with a hole: its voxels are those whose centre is inside; area by formula."""
    stored = np.zeros((60, 50, 4), np.int16)
    dicom.write_stack(
        dicom.Stack("MR", "t2", stored, (-20, -15, 8), spacing=(0.8, 0.8, 2.5)), tmp_path
    )
    outer, inner = ellipse((4, 5), (12, 9), 10.5), ellipse((4, 5), (5, 4), 10.5)
    path = dicom.write_structures(
        tmp_path / "rs.dcm", {"Bladder": [outer, inner], "Rectum": [ellipse((0, 0), (6, 6), 13)]}
    )
    grid = only(tmp_path).grid
    structures = read_structures(path)
    assert structures.frames == {"1.2.3.1"}
    assert list(structures.regions) == ["Bladder", "Rectum"]
    mask = rasterise(structures.regions["Bladder"], grid, "Bladder")
    assert set(np.flatnonzero(mask.any((0, 1)))) == {1}
    place = grid.world(np.argwhere(np.ones(grid.shape))) * [-1, -1, 1]  # LPS again

    def inside(radii):
        away = (place[:, :2] - (4, 5)) / radii
        return ((away**2).sum(1) < 1) & (np.abs(place[:, 2] - 10.5) < 0.1)

    exact = (inside((12, 9)) & ~inside((5, 4))).reshape(grid.shape)
    assert np.count_nonzero(mask ^ exact) <= 4  # centres within rounding of the line
    area = mask.sum() * 0.64
    assert area == pytest.approx(np.pi * (12 * 9 - 5 * 4), rel=0.02)


def test_polygon_filling_agrees_with_another_library(dicom):  # noqa: ARG001 - needs pydicom
    draw = pytest.importorskip("skimage.draw")
    rng = np.random.default_rng(5)
    for _ in range(20):
        corners = rng.uniform(-5, 45, (7, 2))  # crosses itself, leaves the image
        grid = Grid((40, 40, 1))
        mine = rasterise([np.c_[corners, np.zeros(7)]], grid, "x")[:, :, 0]
        theirs = draw.polygon2mask((40, 40), corners)
        assert np.count_nonzero(mine ^ theirs) <= 2


def test_contours_of_another_series_or_kind(tmp_path, dicom):
    grid = Grid((40, 40, 4), np.diag([-1.0, -1.0, 2.5, 1.0]))
    path = dicom.write_structures(tmp_path / "a.dcm", {"Bladder": [ellipse((9, 9), (5, 5), 3.7)]})
    with pytest.raises(GeometryError, match=r"'Bladder' lies 1\.20 mm off the slices"):
        rasterise(read_structures(path).regions["Bladder"], grid, "Bladder")
    path = dicom.write_structures(
        tmp_path / "b.dcm", {"Point": [ellipse((9, 9), (5, 5), 0)]}, kind="POINT"
    )
    assert read_structures(path).passed_over == ("Point",)
    dicom.write_stack(dicom.Stack("CT", "x", np.zeros((4, 4, 2), np.int16)), tmp_path / "c")
    with pytest.raises(InputError, match="not an RTSTRUCT"):
        read_structures(tmp_path / "c" / "00001.dcm")
