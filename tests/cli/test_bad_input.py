"""Every bad input of the list gets one clear line and exit code 1, or 3 beside a good one."""

import gzip
import shutil

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from spinect.cli.main import app


@pytest.fixture
def cli(engine, monkeypatch):
    monkeypatch.setattr("spinect.workflows.run.load_engine", lambda _options: engine)

    def call(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return call


def nifti(path, data, affine=None):
    nib.save(nib.Nifti1Image(data, np.eye(4) if affine is None else affine), path)
    return path


def noise(shape=(20, 24, 28), seed=3):
    return np.random.default_rng(seed).normal(300, 60, shape).astype(np.float32)


def with_sform(path, matrix):
    """An uncompressed file whose header says just this: nibabel would mend it when saving."""
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(np.float32)
    header.set_data_shape((20, 24, 28))
    header["pixdim"][1:4] = np.linalg.norm(matrix, axis=0)
    header["sform_code"], header["qform_code"] = 1, 0
    for axis, row in enumerate(("srow_x", "srow_y", "srow_z")):
        header[row][:3] = matrix[axis]
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(bytes(header.binaryblock) + bytes(4) + noise().tobytes("F"))
    return path


def dicom_folder(folder):
    path = folder / "series"
    path.mkdir()
    (path / "1.dcm").write_bytes(bytes(128) + b"DICM" + bytes(64))
    return path


def truncated(folder):
    path = nifti(folder / "cut.nii.gz", noise())
    path.write_bytes(path.read_bytes()[:2000])
    return path


def rgb(folder):
    path = folder / "rgb.mha"
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((10, 11, 12, 3), np.uint8), True), str(path))
    return path


def zero_axis(folder):
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header["dim"][:4] = [3, 10, 0, 10]
    header["magic"], header["vox_offset"] = b"n+1", 352
    path = folder / "zero.nii"
    path.write_bytes(bytes(header.binaryblock) + bytes(4))
    return path


def synthetic_ct(folder):
    data = noise()
    data[:6], data[6:9] = -1000, 900
    return nifti(folder / "ct.nii.gz", data)


def labels(folder):
    data = np.zeros((20, 24, 28), np.int16)
    data[5:15, 5:15, 5:25] = 21
    data[5:15, 15:20, 5:25] = 22
    return nifti(folder / "labels.nii.gz", data)


def filled(folder, name, value):
    return nifti(folder / name, np.full((20, 24, 28), value, np.float32))


def holed(folder, value):
    data = noise()
    data[3, 4, 5] = value
    return nifti(folder / "hole.nii.gz", data)


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


BAD = {
    "missing": (lambda f: f / "absent.nii.gz", "no such file"),
    "empty": (lambda f: written(f, "empty.nii.gz", b""), "empty (0 bytes)"),
    "truncated gzip": (truncated, "cut off"),
    "not an image": (lambda f: written(f, "text.nii.gz", gzip.compress(b"hello")), "not an image"),
    "other suffix": (lambda f: written(f, "text.docx", b"hello"), "suffix is .docx"),
    "DICOM folder": (dicom_folder, "dcm2niix"),
    "2D": (lambda f: nifti(f / "flat.nii.gz", noise((30, 30))), "2"),
    "4D": (lambda f: nifti(f / "four.nii.gz", noise((20, 20, 20, 3))), "--volume"),
    "zero-size axis": (zero_axis, "zero"),
    "all zero": (lambda f: filled(f, "zero.nii.gz", 0), "every voxel is 0"),
    "constant": (lambda f: filled(f, "same.nii.gz", 7), "every voxel is 7"),
    "NaN": (lambda f: holed(f, np.nan), "1 of 13440 voxels are NaN"),
    "infinite": (lambda f: holed(f, np.inf), "NaN or infinite"),
    "singular affine": (
        lambda f: with_sform(f / "flat.nii", [[1, 0, 0], [0, 1, 1], [0, 0, 0]]), "affine"
    ),
    "spacing 0": (lambda f: with_sform(f / "zero.nii", np.zeros((3, 3))), " 0"),
    "spacing 100 mm": (lambda f: with_sform(f / "far.nii", 100 * np.eye(3)), "100"),
    "RGB": (rgb, "RGB"),
    "CT as MR": (synthetic_ct, "looks like a CT"),
    "labels as MR": (labels, "looks like a label map"),
    "localiser": (
        lambda f: nifti(f / "scout.nii.gz", noise((40, 40, 3)), np.diag([1.0, 1, 10, 1])),
        "localiser",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_clear_line_and_the_others_go_on(name, cli, mr_file, tmp_path):
    make, message = BAD[name]
    folder = tmp_path / "bad"
    folder.mkdir()
    path = make(folder)
    out = tmp_path / "out"
    done = cli("run", path, "-o", out, "--outputs", "ct")
    assert done.exit_code == 1
    assert "Traceback" not in done.output
    reasons = [line for line in done.stderr.splitlines() if "failed:" in line]
    assert len(reasons) == 1
    assert path.name in reasons[0]
    assert message in reasons[0]
    assert list(out.iterdir()) == []
    done = cli("run", path, mr_file, "-o", out, "--outputs", "ct")
    assert done.exit_code == 3
    assert sorted(p.name for p in out.iterdir()) == [
        "cohort.tsv",
        "sub-1_T2w_desc-synth_ct.nii.gz",
        "sub-1_T2w_run.json",
    ]


@pytest.mark.parametrize("name", ["CT as MR", "labels as MR"])
def test_force_overrides_a_doubt_and_records_it(name, cli, tmp_path):
    path = BAD[name][0](tmp_path)
    out = tmp_path / "out"
    assert cli("run", path, "-o", out, "--outputs", "ct", "--force").exit_code == 0
    assert "looks like" in next(out.glob("*_run.json")).read_text()


def test_a_chosen_volume_of_a_4d_file(cli, tiny_pair, tmp_path):
    data = np.stack([tiny_pair.mr.data, 2 * tiny_pair.mr.data], -1)
    path = nifti(tmp_path / "four.nii.gz", data, tiny_pair.mr.affine)
    out = tmp_path / "out"
    assert cli("run", path, "-o", out, "--outputs", "ct", "--volume", 1).exit_code == 0
    assert cli("run", path, "-o", tmp_path / "b", "--volume", 2).exit_code == 1


def test_existing_outputs(cli, mr_file, tmp_path):
    arguments = ["run", mr_file, "-o", tmp_path / "out", "--outputs", "ct"]
    assert cli(*arguments).exit_code == 0
    done = cli(*arguments)
    assert done.exit_code == 1
    assert "--overwrite" in done.stderr
    assert "--resume" in done.stderr
    assert cli(*arguments, "--overwrite").exit_code == 0
    assert "kept" in cli(*arguments, "--resume").output


def test_unwritable_out(cli, mr_file, tmp_path):
    (tmp_path / "out").touch()
    done = cli("run", mr_file, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert "cannot be written" in done.stderr


def test_disk_full_while_writing(cli, mr_file, tmp_path, monkeypatch):
    def full(*_arguments, **_keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spinect.workflows.outputs.write_volume", full)
    done = cli("run", mr_file, "-o", tmp_path / "out", "--outputs", "ct")
    assert done.exit_code == 1
    assert "No space left" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_clash_names_both_inputs(cli, mr_file, tmp_path):
    twin = tmp_path / "twin" / mr_file.name
    twin.parent.mkdir()
    shutil.copy(mr_file, twin)
    done = cli("run", mr_file, twin, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert str(mr_file) in done.stderr
    assert str(twin) in done.stderr
    assert not (tmp_path / "out").exists()
