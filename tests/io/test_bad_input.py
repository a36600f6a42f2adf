"""Every bad file gets one line: which file, what is wrong, the value found, what to do."""

import gzip
import re

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from spinect.errors import GeometryError, ImageError, InputError, LabelError, SpinectWarning
from spinect.geometry import Volume
from spinect.io import check_ct, check_mr, read

RNG = np.random.default_rng(8)
SHAPE = (9, 10, 11)
THIN = [1, 1, 0, 1, 0, 0, 0, 0]


def noise(shape=SHAPE):
    return RNG.normal(300, 90, shape).astype(np.float32)


def nifti(path, data, affine=None, **fields):
    """A NIfTI file whose header fields are set as given, right or wrong."""
    image = nib.Nifti1Image(data, np.eye(4) if affine is None else np.asarray(affine, float))
    raw = bytearray(image.to_bytes())
    header = np.ndarray((), nib.nifti1.header_dtype, buffer=raw)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(gzip.compress(bytes(raw)) if path.suffix == ".gz" else bytes(raw))


def cut(path, data, keep):
    nifti(path, data)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def with_value(value):
    data = noise()
    data[2, 3, 4] = value
    return data


def rgb(path):
    data = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(data, np.eye(4)), path)


def itk_rgb(path):
    sitk.WriteImage(
        sitk.GetImageFromArray(np.zeros((9, 9, 9, 3), np.uint8), isVector=True), str(path)
    )


def mha(path, spacing="1 1 1", matrix="1 0 0 0 1 0 0 0 1", voxels=None):
    data = noise().astype(np.int16).tobytes() if voxels is None else voxels
    path.write_bytes(
        f"ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\n"
        f"CompressedData = False\nTransformMatrix = {matrix}\nOffset = 0 0 0\n"
        f"ElementSpacing = {spacing}\nDimSize = 9 10 11\nElementType = MET_SHORT\n"
        "ElementDataFile = LOCAL\n".encode()
        + data
    )


def dicom_folder(path):
    path.mkdir()
    (path / "IM0001").write_bytes(bytes(128) + b"DICM" + bytes(50))
    (path / "notes.txt").write_text("hello")


def folder(path):
    path.mkdir()


def ct_as_mr():
    data = np.full((20, 20, 20), -1000, np.float32)
    data[5:15, 5:15, 5:15] = RNG.normal(40, 20, (10, 10, 10))
    data[9:13, 9:13, 9:13] = 700
    return data


def label_map():
    data = np.zeros((20, 20, 20), np.int16)
    data[3:10, 3:10, 3:10], data[10:16, 3:10, 3:10] = 20, 21
    return data


BAD = {  # name: (how it is made, error, what is wrong, value found, what to do)
    "missing.nii.gz": (lambda _: None, InputError, "no such file", "", "check the path"),
    "empty.nii.gz": (lambda p: p.touch(), ImageError, "empty", "0 bytes", "copy or export"),
    "half.nii.gz": (lambda p: cut(p, noise(), 0.5),
        ImageError, "cut off", "bytes", "copy or export"),
    "stub.nii.gz": (lambda p: cut(p, noise(), 0.05), ImageError, "damaged", "", "copy or export"),
    "half.nii": (lambda p: cut(p, noise(), 0.5), ImageError, "damaged", "bytes", "copy or export"),
    "half.mha": (lambda p: mha(p, voxels=b"1234"),
        ImageError, "cut off", "bytes", "copy or export"),
    "text.nii": (lambda p: p.write_text("hello " * 99), ImageError, "not an image", "", "export"),
    "text.nrrd": (lambda p: p.write_text("hello " * 99), ImageError, "not an image", "", "export"),
    "plain.nii.gz": (lambda p: p.write_text("hello"),
        ImageError, "not an image", "b'hell'", "export"),
    "zipped.nii": (lambda p: p.write_bytes(gzip.compress(b"x" * 400)),
        ImageError, "gzip", "", "rename"),
    "picture.png": (lambda p: p.write_bytes(b"\x89PNG"),
        ImageError, "not an image", ".png", ".nii.gz"),
    "series": (dicom_folder, ImageError, "a DICOM folder", "2 files", "dcm2niix"),
    "things": (folder, ImageError, "a folder", "0 files", "give one image file"),
    "one.dcm": (lambda p: p.write_bytes(bytes(128) + b"DICM"), ImageError, "DICOM", "", "dcm2niix"),
    "slice.nii.gz": (lambda p: nifti(p, noise((64, 64))),
        ImageError, "2D", "64x64", "whole series"),
    "single.nii.gz": (lambda p: nifti(p, noise((64, 64, 1))),
        ImageError, "2D", "64x64x1", "series"),
    "time.nii.gz": (lambda p: nifti(p, noise((9, 9, 9, 4))),
        ImageError, "4D", "4 volumes", "--volume N"),
    "five.nii": (lambda p: nifti(p, noise((3, 4, 5, 2, 3))),
        ImageError, "5D", "3x4x5x2x3", "split"),
    "zero.nii": (lambda p: nifti(p, noise(), dim=[3, 9, 0, 11, 1, 1, 1, 1]),
        ImageError, "no voxels", "9x0x11", "export"),
    "black.nii.gz": (lambda p: nifti(p, np.zeros(SHAPE, np.int16)),
        ImageError, "every voxel is", "0", "export"),
    "flat.nii.gz": (lambda p: nifti(p, np.full(SHAPE, 7.5)),
        ImageError, "every voxel is", "7.5", "export"),
    "nan.nii.gz": (lambda p: nifti(p, with_value(np.nan)),
        ImageError, "NaN", "1 of 990", "replace"),
    "inf.nii.gz": (lambda p: nifti(p, with_value(-np.inf)),
        ImageError, "infinite", "1 of 990", "replace"),
    "thin.nii": (lambda p: nifti(p, noise(), srow_y=[0, 0, 0, 0]),
        GeometryError, "spacing", "1 x 0 x 1", "header"),
    "thin_q.nii": (lambda p: nifti(p, noise(), sform_code=0, qform_code=1, pixdim=THIN),
        GeometryError, "spacing", "1 x 0 x 1", "header"),
    "thick.nii": (lambda p: nifti(p, noise(), np.diag([1, 100, 1, 1.0])),
        GeometryError, "spacing", "1 x 100 x 1", "header"),
    "metre.nii": (lambda p: nifti(p, noise(), xyzt_units=1),
        GeometryError, "unit is metre", "1000 x 1000 x 1000", "correct the unit"),
    "folded.nii": (lambda p: nifti(p, noise(), srow_x=[1, 1, 0, 0], srow_y=[0, 0, 0, 0]),
        GeometryError, "singular", "1.0", "convert"),
    "lost.nii": (lambda p: nifti(p, noise(), srow_x=[np.nan, 0, 0, 0]),
        GeometryError, "not finite", "nan", "convert"),
    "skewed.nii": (lambda p: nifti(p, noise(), srow_x=[1, 0.2, 0, 0]),
        GeometryError, "sheared", "11.3 degrees", "resample"),
    "bad_q.nii": (lambda p: nifti(p, noise(), sform_code=0, qform_code=1, quatern_b=3),
        GeometryError, "no rotation", "-8", "convert"),
    "thin.mha": (lambda p: mha(p, spacing="1 0 1"), GeometryError, "spacing", "0", "header"),
    "folded.mha": (lambda p: mha(p, matrix="0 0 0 0 0 0 0 0 0"),
        GeometryError, "singular", "determinant 0", "convert"),
    "colour.nii.gz": (rgb, ImageError, "RGB", "data type RGB", "not a screenshot"),
    "colour.mha": (itk_rgb, ImageError, "RGB", "3 numbers", "grey image"),
    "phase.nii": (lambda p: nifti(p, noise().astype(np.complex64)),
        ImageError, "complex", "complex64", "magnitude"),
    "ct.nii.gz": (lambda p: nifti(p, ct_as_mr()), ImageError, "looks like a CT", "88%", "--force"),
    "labels.nii.gz": (lambda p: nifti(p, label_map()),
        ImageError, "looks like a label map", "3 values", "--force"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_one_clear_line(tmp_path, name):
    make, error, wrong, value, remedy = BAD[name]
    path = tmp_path / name
    make(path)
    with pytest.raises(error) as caught:
        read(path)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    for part in (name, wrong, value, remedy):
        assert part in text, (part, text)


@pytest.mark.parametrize(("volume", "found"), [(4, "--volume 4"), (-1, "--volume -1")])
def test_a_volume_that_is_not_there(tmp_path, volume, found):
    nifti(tmp_path / "t.nii", noise((9, 9, 9, 4)))
    with pytest.raises(ImageError, match=rf"{found} is not there.*N from 0 to 3"):
        read(tmp_path / "t.nii", volume=volume)


@pytest.mark.parametrize("name", ["ct.nii.gz", "labels.nii.gz"])
def test_force_turns_doubts_into_warnings(tmp_path, name):
    BAD[name][0](tmp_path / name)
    with pytest.warns(SpinectWarning, match=f"{name}: looks like a .*used all the same"):
        assert read(tmp_path / name, force=True).kind == "mr"


def test_a_header_without_its_voxels(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(noise()), str(tmp_path / "a.mhd"))
    (tmp_path / "a.raw").unlink()
    with pytest.raises(ImageError, match=r"a\.mhd.*missing or cut off"):
        read(tmp_path / "a.mhd")


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (np.linspace(0, 5, 990).reshape(SHAPE), "from 0 to 5 with fractions"),
        (np.full(SHAPE, -1, np.int16), "from -1 to -1"),
        (np.full(SHAPE, 70000, np.int32), "from 70000 to 70000"),
    ],
)
def test_labels_must_be_ids(tmp_path, data, wrong):
    nifti(tmp_path / "l.nii", data)
    with pytest.raises(LabelError, match=rf"l\.nii: labels must .*{wrong}"):
        read(tmp_path / "l.nii", "labels")


@pytest.mark.parametrize(
    ("low", "high", "remedy"),
    [(0, 1, "scale"), (-1, 1, "scale"), (0, 4095, "subtract the offset"), (-1e6, 1e6, "slope")],
)
def test_a_ct_out_of_hu_range(low, high, remedy):
    data = np.linspace(low, high, 1000, dtype=np.float32).reshape(10, 10, 10)
    volume = Volume(data, np.eye(4), "ct")
    with pytest.raises(
        ImageError,
        match=re.escape(f"x.nii: not in HU, the values run from {low:g} to {high:g}: ")
        + f".*{remedy}",
    ):
        check_ct(volume, "x.nii")
    with pytest.warns(SpinectWarning, match="used all the same"):
        check_ct(volume, "x.nii", force=True)


def test_images_of_the_right_kind_pass():
    check_ct(Volume(ct_as_mr(), np.eye(4), "ct"), "ct")
    for data in (
        noise(),
        np.clip(np.rint(noise((20, 20, 20)) / 10), 0, 63),  # few whole numbers, but noisy
        np.where(noise((20, 20, 20)) > 300, noise((20, 20, 20)), 0),  # much background
        noise((20, 20, 20)) - 900,  # far below zero, but nothing bright
    ):
        check_mr(Volume(data.astype(np.float32), np.eye(4), "mr"), "mr")


def test_a_synthetic_ct_of_one_value_is_read_where_it_is_trusted(tmp_path):
    """The CT of the baseline constant HU; a NaN in it is still refused."""
    path = tmp_path / "ct.nii.gz"
    nifti(path, np.full(SHAPE, 52.0, np.float32))
    assert float(read(path, "ct", trusted=True).data.std()) == 0
    with pytest.raises(ImageError, match="every voxel is 52"):
        read(path, "ct")
    nifti(path, with_value(np.nan))
    with pytest.raises(ImageError, match="NaN"):
        read(path, "ct", trusted=True)
