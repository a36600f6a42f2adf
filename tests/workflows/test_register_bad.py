"""Pairs that cannot be registered: a row with the reason, and the others go on."""

import csv
import json
import shutil

import articulated as art
import numpy as np
import pytest
from typer.testing import CliRunner

from spinect.cli.main import app
from spinect.geometry import Volume
from spinect.geometry.landmarks import Landmarks
from spinect.io import read, write_poi, write_volume
from spinect.workflows.register import RegisterOptions, register_dataset

RIGID = RegisterOptions(model="rigid")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    art.write_study(root)
    return root


@pytest.fixture
def study(source, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "spinect.workflows.register.pair.write_registration", lambda _a, path, _t: path.touch()
    )
    return art.Files(shutil.copytree(source, tmp_path / "set"), "sub-1")


def points(change):
    def plant(files):
        marks = change(dict(art.points(art.spine()).points))
        write_poi(Landmarks(marks), files.ct_points)

    return plant


def not_a_number(files):
    content = json.loads(files.ct_points.read_text())
    content[1]["L3"]["50"] = [1.0, float("nan"), 2.0]
    files.ct_points.write_text(json.dumps(content))


def other_grid(files):
    mask = read(files.mask("vertebrae"), "labels")
    affine = mask.affine.copy()
    affine[0, 3] += 3
    write_volume(Volume(mask.data, affine, "labels"), files.mask("vertebrae"))


def empty(files):
    mask = read(files.mask("vertebrae"), "labels")
    write_volume(mask.with_data(mask.data * 0), files.mask("vertebrae"))


def mask_one_level_off(files):
    mask = read(files.mask("vertebrae"), "labels")
    write_volume(mask.with_data(np.where(mask.data > 0, mask.data - 1, 0)), files.mask("vertebrae"))


def second_ct(files):
    shutil.copy(files.ct, files.ct.with_name("sub-1_run-2_ct.nii.gz"))
    shutil.copy(files.ct_points, files.ct.with_name("sub-1_run-2_ct_poi.json"))
    files.mr.rename(files.mr.with_name("sub-1_acq-sag_T2w.nii.gz"))


BAD = {
    "unequal names": (
        points(lambda m: {(v - 15, s): p for (v, s), p in m.items()}),
        "name the levels differently",
    ),
    "one key": (points(lambda m: {(22, 50): m[22, 50]}), "1 common landmark"),
    "no common key": (
        points(lambda m: {(v, 45): p for (v, s), p in m.items() if s == 50}),
        "share no",
    ),
    "nan": (not_a_number, "three finite numbers"),
    "outside": (points(lambda m: m | {(22, 50): m[22, 50] + 500}), "outside the image"),
    "other grid": (other_grid, "give the mask that was made on this image"),
    "empty mask": (empty, "no voxel has a label"),
    "mask off": (mask_one_level_off, "name the levels differently"),
    "no ct": (lambda f: f.ct.unlink(), "has no CT"),
    "no landmarks": (lambda f: f.mr_points.unlink(), "has no landmarks"),
    "two cts": (second_ct, "could belong to 2 CTs"),
    "damaged": (lambda f: f.ct.write_bytes(b"\x1f\x8b no"), "damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_pair_says_why(study, name):
    plant, reason = BAD[name]
    plant(study)
    summary = register_dataset(study.root, RIGID)
    assert summary.exit_code == 1
    assert reason in summary.outcomes[0].error
    table = study.root / "derivatives" / "registered" / "registration.tsv"
    with table.open(newline="") as stream:
        row = next(csv.DictReader(stream, delimiter="\t"))
    assert row["status"] == "failed"
    assert reason in row["error"]
    assert not list(study.done.parent.glob("*"))


def test_the_others_go_on(study):
    art.write_subject(study.root, "sub-2", art.spine())
    not_a_number(study)
    (study.root / "sub-3" / "ct").mkdir(parents=True)
    summary = register_dataset(study.root, RIGID)
    assert [o.status for o in summary.outcomes] == ["failed", "done", "failed"]
    assert summary.exit_code == 3
    again = register_dataset(study.root, RIGID.model_copy(update={"resume": True}))
    assert [o.status for o in again.outcomes] == ["failed", "kept", "failed"]


def test_shifted_levels_are_rejected_with_the_reason(study):
    """A curved spine whose CT landmarks are all called one level too low; no masks to tell."""
    study.mask("vertebrae").unlink()
    study.mask("subregions").unlink()
    uneven = {24: 0.0, 23: -6.0, 22: 4.0, 21: -5.0}  # heights of discs differ, as they do
    marks = {k: p + np.array([0, 0, uneven[k[0]]]) for k, p in art.points().points.items()}
    write_poi(Landmarks(marks), study.mr_points)
    write_poi(Landmarks({(v + 1, s): p for (v, s), p in marks.items() if v < 24}), study.ct_points)
    record = register_dataset(study.root, RIGID).outcomes[0].record
    assert record.verdict == "reject"
    assert "levels look shifted" in record.reason
    assert "1 level(s) towards the head" in record.reason


def test_a_ct_of_a_part_is_valid_there_only(study):
    ct = read(study.ct, "ct")
    for path in (study.ct, study.mask("vertebrae"), study.mask("subregions")):
        whole = read(path, "ct" if path == study.ct else "labels")
        write_volume(Volume(whole.data[:, :, :60], ct.affine, whole.kind), path)
    marks = art.points(art.spine()).points
    write_poi(Landmarks({k: p for k, p in marks.items() if p[2] < 85}), study.ct_points)
    record = register_dataset(study.root, RIGID).outcomes[0].record
    assert 0.2 < record.valid < 0.9
    assert any("the CT covers" in note for note in record.notes)
    valid = read(study.end("_res-iso_desc-valid_mask.nii.gz"), "labels")
    hu = read(study.end("_res-iso_ct.nii.gz"), "ct")
    assert (hu.data[valid.data == 0] == -1000).all()


def test_a_ct_elsewhere_is_rejected(study):
    for path in (study.ct, study.mask("vertebrae"), study.mask("subregions")):
        volume = read(path, "ct" if path == study.ct else "labels")
        affine = volume.affine.copy()
        affine[2, 3] += 1000
        write_volume(Volume(volume.data, affine, volume.kind), path)
    study.ct_points.unlink()
    outcome = register_dataset(study.root, RegisterOptions(points="0")).outcomes[0]
    assert outcome.record.verdict == "reject"
    assert "covers 0.0% of the MR" in outcome.record.reason
    asked = RegisterOptions(points="0", frame="centre", overwrite=True)
    assert register_dataset(study.root, asked).outcomes[0].record.verdict == "review"


def test_command_line(study, tmp_path):
    runner = CliRunner()
    done = runner.invoke(app, ["register", str(study.root), "--model", "rigid", "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["pairs"][0]["record"]["verdict"] in ("accept", "review")
    files = {
        "--mr": study.mr,
        "--ct": study.ct,
        "--mr-landmarks": study.mr_points,
        "--ct-landmarks": study.ct_points,
        "--out": tmp_path / "one",
    }
    words = [str(word) for pair in files.items() for word in pair]
    done = runner.invoke(app, ["register", *words, "--model", "rigid"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "one" / "sub-1_space-T2w_ct.nii.gz").is_file()
    assert not list((tmp_path / "one").glob("*dseg*"))
    assert runner.invoke(app, ["register"]).exit_code == 2
    assert runner.invoke(app, ["register", str(study.root), "--mr", "x"]).exit_code == 2
    assert runner.invoke(app, ["register", str(tmp_path / "nowhere")]).exit_code == 1
