"""Registration of small articulated spines, from files to files."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import articulated as art
import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk

from spinect.errors import ConfigError, OutputError
from spinect.geometry.transform import apply
from spinect.io import read, read_poi, read_transforms, write_poi, write_volume
from spinect.workflows.register import (
    Pair,
    RegisterOptions,
    find_pairs,
    read_record,
    register_dataset,
    register_files,
)

MOTIONS = art.spine()


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """One subject, not registered."""
    root = tmp_path_factory.mktemp("source")
    art.write_study(root)
    return root


@pytest.fixture(scope="module")
def done(tmp_path_factory, source):
    """The same, registered with all points."""
    root = tmp_path_factory.mktemp("done") / "set"
    shutil.copytree(source, root)
    summary = register_dataset(root, RegisterOptions(points="all"))
    assert summary.exit_code == 0, summary.outcomes[0].error
    return art.Files(root, "sub-1")


@pytest.fixture
def study(source, tmp_path):
    return art.Files(Path(shutil.copytree(source, tmp_path / "set")), "sub-1")


@pytest.fixture
def no_pictures(monkeypatch):
    """Pictures take most of the time of a tiny pair."""
    monkeypatch.setattr(
        "spinect.workflows.register.pair.write_registration", lambda _a, path, _t: path.touch()
    )


def test_motions_are_found(done):
    found = read_transforms(done.done.with_name("sub-1_from-T2w_to-ct_transforms.json"))
    for vertebra, true in MOTIONS.items():
        np.testing.assert_allclose(found.vertebrae[vertebra], true, atol=5e-3)
    record = read_record(done.end("_registration.json"))
    assert record.verdict == "accept"
    assert record.landmarks == 16
    assert record.max_mm < 0.01
    assert record.rigidity_mm < 0.1
    assert 0 < record.min_jacobian < 1


@pytest.mark.parametrize("space", ["", "_res-iso"])
def test_masks_lie_on_the_mr(done, space):
    mr = read(done.mr, "mr")
    made = read(done.end(f"{space}_desc-vertebrae_dseg.nii.gz"), "labels")
    assert made.grid.matches(mr.grid) == (space == "")
    if space:
        np.testing.assert_allclose(made.grid.spacing, 1)
        assert made.grid.axes == "RAS"
    true = art.draw(made.grid, "mr")[1]
    for vertebra in art.LEVELS:
        one, two = made.data == vertebra, true.data == vertebra
        assert 2 * (one & two).sum() / (one.sum() + two.sum()) > 0.9
    ct = read(done.end(f"{space}_ct.nii.gz"), "ct")
    valid = read(done.end(f"{space}_desc-valid_mask.nii.gz"), "labels")
    assert ct.grid.matches(made.grid)
    assert np.median(ct.data[true.data > 0]) == pytest.approx(340, abs=10)
    assert (ct.data[valid.data == 0] <= -900).mean() > 0.5


def test_files_open_in_itk_and_mean_the_same(done):
    """The field of the .h5 takes MR points to the CT, in ITK's LPS world."""
    field = sitk.ReadTransform(str(done.done.with_name("sub-1_from-T2w_to-ct_xfm.h5")))
    rigid = sitk.ReadTransform(str(done.done.with_name("sub-1_from-T2w_to-ct_xfm.tfm")))
    assert rigid.IsLinear()
    flip = np.array([-1, -1, 1])
    for (vertebra, _), point in art.points().points.items():
        moved = flip * field.TransformPoint((flip * point).tolist())
        assert np.linalg.norm(moved - apply(MOTIONS[vertebra], point)) < 0.2
    assert sitk.ReadImage(str(done.end("_ct.nii.gz"))).GetDimension() == 3


def test_the_table_and_the_residuals_tell_the_same(done):
    table = rows(done.root / "derivatives" / "registered" / "registration.tsv")
    assert [row["verdict"] for row in table] == ["accept"]
    assert table[0]["mr"] == "sub-1/anat/sub-1_T2w.nii.gz"
    assert table[0]["outputs"] == "sub-1/sub-1_space-T2w"
    residuals = rows(done.end("_residuals.tsv"))
    assert len(residuals) == 16
    assert max(float(row["residual_mm"]) for row in residuals) < 0.01
    assert read_poi(done.end("_desc-mr_poi.json")).common(art.points()) == tuple(art.points())
    moved = read_poi(done.end("_desc-ct_poi.json"))
    np.testing.assert_allclose(moved.array(), art.points().array(), atol=0.02)


def test_the_picture_is_one(done):
    picture = sitk.ReadImage(str(done.end("_registration.png")))
    assert picture.GetSize()[0] == 1650
    assert sitk.GetArrayFromImage(picture).std() > 20


@pytest.mark.usefixtures("no_pictures")
def test_residuals_are_those_of_the_noise(study):
    """One bad point is rejected and named; the others keep their distance."""
    marks = dict(art.points(MOTIONS).points)
    marks[22, 43] = marks[22, 43] + (0, 25.0, 0)
    write_poi(type(art.points())(marks), study.ct_points)
    outcome = register_dataset(study.root, RegisterOptions(points="all")).outcomes[0]
    assert outcome.record.rejected == ("L3 transverse process left",)
    row = next(r for r in rows(study.end("_residuals.tsv")) if r["used"] == "false")
    assert (row["vertebra"], float(row["residual_mm"])) == ("L3", pytest.approx(25, abs=0.5))
    assert outcome.record.max_mm < 0.1


@pytest.mark.usefixtures("no_pictures")
def test_rigid_and_unregistered(study):
    rigid = register_dataset(study.root, RegisterOptions(points="2", model="rigid")).outcomes[0]
    assert rigid.record.rigidity_mm == 0
    assert rigid.record.min_jacobian == 1
    assert rigid.record.mean_mm > 0.5
    assert not study.done.with_name("sub-1_from-T2w_to-ct_xfm.h5").exists()
    asked = RegisterOptions(points="0", overwrite=True)
    nothing = register_dataset(study.root, asked).outcomes[0].record
    assert (nothing.verdict, nothing.options["model"]) == ("review", "rigid")
    assert "not registered" in nothing.reason
    assert nothing.mean_mm > 5  # where the landmarks lie without a registration
    found = read_transforms(study.done.with_name("sub-1_from-T2w_to-ct_transforms.json"))
    np.testing.assert_array_equal(found.whole, np.eye(4))


@pytest.mark.usefixtures("no_pictures")
def test_identity_returns_the_ct(tmp_path):
    """A CT that lies on the MR's own grid already comes back bit for bit."""
    files = art.write_subject(tmp_path, "sub-1", {v: np.eye(4) for v in art.LEVELS})
    ct = art.draw(art.mr_grid(), "ct")[0]
    write_volume(ct, files.ct)
    pair = Pair(files.mr, files.ct, tmp_path / "out", files.mr_points, files.mr_points)
    outcome = register_files(pair, RegisterOptions(points="2", model="rigid")).outcomes[0]
    assert outcome.record is not None, outcome.error
    made = nib.load(tmp_path / "out" / "sub-1_space-T2w_ct.nii.gz")
    np.testing.assert_array_equal(made.get_fdata(), nib.load(files.ct).get_fdata())


@pytest.mark.usefixtures("no_pictures")
def test_many_series_of_one_patient_do_not_clash(study):
    for name in ("sub-1_acq-sag_run-1_T2w", "sub-1_acq-sag_run-2_T2w", "sub-1_T1w"):
        shutil.copy(study.mr, study.mr.with_name(name + ".nii.gz"))
        shutil.copy(study.mr_points, study.mr.with_name(name + "_poi.json"))
    pairs = find_pairs(study.root, study.root / "out")
    assert len({pair.record for pair in pairs}) == 4
    assert {pair.ct for pair in pairs} == {study.ct}
    summary = register_dataset(study.root, RegisterOptions(model="rigid"))
    assert summary.exit_code == 0
    listed = [set(o.record.outputs) for o in summary.outcomes]
    assert len(set().union(*listed)) == sum(map(len, listed))


def test_options_that_contradict_are_refused():
    with pytest.raises(ConfigError, match="0 points"):
        RegisterOptions.checked(points="0", model="polyrigid")
    with pytest.raises(ConfigError, match="frame"):
        RegisterOptions.checked(points="2", frame="centre")
    with pytest.raises(ConfigError, match="overwrite and resume"):
        RegisterOptions.checked(overwrite=True, resume=True)


@pytest.mark.usefixtures("no_pictures")
def test_existing_results_are_not_replaced_unasked(study):
    asked = {"model": "rigid"}
    register_dataset(study.root, RegisterOptions(**asked))
    with pytest.raises(OutputError, match="--resume"):
        register_dataset(study.root, RegisterOptions(**asked))
    kept = register_dataset(study.root, RegisterOptions(**asked, resume=True))
    assert [o.status for o in kept.outcomes] == ["kept"]
    study.end("_ct.nii.gz").unlink()
    again = register_dataset(study.root, RegisterOptions(**asked, resume=True))
    assert [o.status for o in again.outcomes] == ["done"]
    shutil.copy(study.mr_points, study.ct_points)  # another input
    moved = register_dataset(study.root, RegisterOptions(**asked, resume=True))
    assert [o.status for o in moved.outcomes] == ["done"]


KILLED = """
import sys
from pathlib import Path
import spinect.workflows.register.pair as pair
from spinect.workflows.register import RegisterOptions, register_dataset
def hang(*_args):
    print("written", flush=True)
    import time
    time.sleep(60)
pair.write_registration = hang
register_dataset(Path(sys.argv[1]), RegisterOptions(model="rigid", resume=True))
"""


@pytest.mark.usefixtures("no_pictures")
def test_a_killed_run_leaves_nothing_and_the_next_one_goes_on(study):
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, study.root], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "written\n"
        process.kill()
    assert not list(study.done.parent.glob("[!.]*"))
    summary = register_dataset(study.root, RegisterOptions(model="rigid", resume=True))
    assert [o.status for o in summary.outcomes] == ["done"]
    assert not list(study.done.parent.glob(".*"))
    json.dumps(summary.as_json())
