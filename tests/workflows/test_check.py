"""One planted failure per finding, and the mends."""

import gzip
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from typer.testing import CliRunner

from spinect.cli.main import app
from spinect.errors import InputError
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.io import read, write_dseg_table, write_table, write_volume
from spinect.io.participants import patient_splits
from spinect.workflows.check import CODES, check, fix

T2 = "sub-1/anat/sub-1_T2w.nii.gz"
CT = "sub-1/ct/sub-1_ct.nii.gz"
VERTEBRAE = "sub-1/ct/sub-1_desc-vertebrae_dseg.nii.gz"
SUBREGIONS = "sub-1/ct/sub-1_desc-subregions_dseg.nii.gz"
TRUTH = "derivatives/truth/sub-1/sub-1_space-T2w_"
ROWS = [
    {"participant_id": "sub-1", "split": "train", "seed": "3"},
    {"participant_id": "sub-2", "split": "test", "seed": "1000003"},
]


@pytest.fixture(scope="session")
def clean(tmp_path_factory, tiny_pair):
    """Two patients with everything; the second has other noise and sided processes as well."""
    folder = tmp_path_factory.mktemp("clean") / "study"
    subregions = tiny_pair.subregions.data.copy()
    subregions[6:12, 48:56][tiny_pair.vertebrae.data[6:12, 48:56] > 0] = 43
    subregions[36:42, 48:56][tiny_pair.vertebrae.data[36:42, 48:56] > 0] = 44
    parts = tiny_pair.subregions.with_data(subregions)
    for name in ("sub-1", "sub-2"):
        rng = np.random.default_rng(int(name[-1]))
        ct = tiny_pair.ct.with_data(
            (tiny_pair.ct.data + rng.normal(0, 8, parts.data.shape)).astype(np.float32)
        )
        mr = tiny_pair.mr.with_data(
            np.abs(tiny_pair.mr.data + rng.normal(0, 3, tiny_pair.mr.data.shape))
        )
        write_volume(mr, folder / name / "anat" / f"{name}_T2w.nii.gz")
        write_volume(
            mr.with_data(mr.data**0.8), folder / name / "anat" / f"{name}_acq-sag_T1w.nii.gz"
        )
        write_volume(ct, folder / name / "ct" / f"{name}_ct.nii.gz")
        truth = folder / "derivatives" / "truth" / name
        write_volume(resample(ct, mr.grid), truth / f"{name}_space-T2w_ct.nii.gz")
        for desc, mask in (("vertebrae", tiny_pair.vertebrae), ("subregions", parts)):
            for where, volume in (
                (folder / name / "ct" / f"{name}_desc-{desc}_dseg", mask),
                (truth / f"{name}_space-T2w_desc-{desc}_dseg", resample(mask, mr.grid)),
            ):
                write_volume(volume, where.parent / f"{where.name}.nii.gz")
                write_dseg_table(where.parent / f"{where.name}.tsv", np.unique(volume.data))
    write_table(ROWS, folder / "participants.tsv")
    return folder


@pytest.fixture
def study(clean, tmp_path):
    return shutil.copytree(clean, tmp_path / "study")


def codes(folder, severity=None):
    return {f.code for f in check(folder).findings if severity in (None, f.severity)}


def rows(*extra, **changes):
    return [{**row, **changes.get(row["participant_id"].replace("-", ""), {})} for row in ROWS] + [
        *extra
    ]


def table(*extra, **changes):
    return lambda folder: write_table(rows(*extra, **changes), folder / "participants.tsv")


def move(source, target):
    def plant(folder):
        (folder / target).parent.mkdir(parents=True, exist_ok=True)
        (folder / source).rename(folder / target)

    return plant


def copy(source, target):
    return lambda folder: shutil.copy(folder / source, folder / target)


def header(path, change):
    """Change the raw header of a file, voxels untouched."""

    def plant(folder):
        content = bytearray(gzip.decompress((folder / path).read_bytes()))
        head = nib.Nifti1Header(bytes(content[:348]), check=False)
        change(head)
        content[:348] = head.binaryblock
        (folder / path).write_bytes(gzip.compress(bytes(content)))

    return plant


def unit(code, factor=1.0):
    def change(head):
        head["xyzt_units"] = code
        head["pixdim"][1:4] *= factor
        for field in ("srow_x", "srow_y", "srow_z", "qoffset_x", "qoffset_y", "qoffset_z"):
            head[field] = head[field] * factor

    return change


def data(path, change, dtype=np.float32):
    """Other voxels under the same affine."""

    def plant(folder):
        image = nib.load(folder / path)
        values = np.asarray(image.dataobj).astype(dtype)
        out = change(values)
        new = nib.Nifti1Image(np.asarray(values if out is None else out, dtype), image.affine)
        new.header.set_xyzt_units("mm")
        nib.save(new, folder / path)

    return plant


def affine(paths, change):
    """Another affine under the same voxels, for images and masks together."""

    def plant(folder):
        for path in paths:
            image = nib.load(folder / path)
            new = nib.Nifti1Image(np.asarray(image.dataobj), change @ image.affine)
            new.header.set_xyzt_units("mm")
            nib.save(new, folder / path)

    return plant


def ids(**changes):
    table_of = {22: 22, 23: 23, 24: 24} | {int(k[1:]): v for k, v in changes.items()}

    def change(values):
        out = values.copy()
        for old, new in table_of.items():
            out[values == old] = new
        return out

    return change


def put_nan(values):
    values[3, 4, 5] = np.nan


def sform_shifted(head):
    head["srow_x"][3] += 7
    head["qform_code"] = 1


def frame_of_water(values):
    values[:6], values[-6:], values[:, :4], values[:, -4:] = -1, -1, -1, -1
    return values


OWN = [CT, VERTEBRAE, SUBREGIONS]
PLANTS = {
    "participants": lambda folder: (folder / "participants.tsv").unlink(),
    "participant-twice": table(ROWS[0]),
    "participant-folder": table({"participant_id": "sub-9", "split": "train"}),
    "participant-unlisted": lambda f: write_table(ROWS[:1], f / "participants.tsv"),
    "split-unknown": table(sub2={"split": "val"}),
    "split-missing": table(sub2={"split": ""}),
    "name": move(T2, "sub-1/anat/sub-1_T2w_final version.nii.gz"),
    "format": lambda f: (f / "sub-1/anat/sub-1_STIR.mhd").touch(),
    "name-other-subject": move(T2, "sub-1/anat/sub-2_T2w.nii.gz"),
    "name-clash": lambda f: [
        copy(T2, f"sub-1/anat/sub-1_run-{run}_T2w.nii.gz")(f) for run in ("1", "01")
    ],
    "mr-missing": lambda folder: shutil.rmtree(folder / "sub-1" / "anat"),
    "ct-missing": lambda f: [(f / CT).unlink(), (f / f"{TRUTH}ct.nii.gz").unlink()],
    "masks-missing": lambda folder: (folder / VERTEBRAE).unlink(),
    "reference-missing": move(T2, "sub-1/anat/sub-1_run-2_T2w.nii.gz"),
    "dseg-table": lambda f: (f / VERTEBRAE.replace(".nii.gz", ".tsv")).unlink(),
    "unreadable": lambda folder: (folder / T2).write_bytes(b"\x1f\x8b and nothing"),
    "unit-wrong": header(T2, unit(3)),
    "unit-not-mm": header(T2, unit(3, 1000.0)),
    "orientation-missing": header(
        T2, lambda head: [head.set_sform(None, 0), head.set_qform(None, 0)]
    ),
    "sform-qform": header(T2, sform_shifted),
    "header": header(T2, lambda head: head["srow_y"].__setitem__(2, head["srow_y"][2] + 0.008)),
    "size": affine(OWN, np.diag([0.1, 0.1, 0.1, 1])),
    "grid": affine([VERTEBRAE], np.diag([1, 1, 1.05, 1])),
    "head-feet": affine(OWN, np.diag([1, 1, -1, 1])),
    "front-back": affine(OWN, np.diag([1, -1, 1, 1])),
    "left-right": affine(OWN, np.diag([-1, 1, 1, 1])),
    "level-order": data(VERTEBRAE, ids(i22=23, i23=22), np.uint8),
    "not-determinable": lambda folder: (folder / SUBREGIONS).unlink(),
    "nan": data(CT, put_nan),
    "constant": data(T2, lambda v: v * 0 + 4),
    "ct-is-mr": data(CT, lambda v: np.abs(v + 300)),
    "ct-not-hu": data(CT, lambda v: v + 1024),
    "ct-padding": data(CT, frame_of_water),
    "mr-is-ct": copy(CT, T2),
    "stack": data(T2, lambda v: v[..., :5]),
    "mask-empty": data(VERTEBRAE, lambda v: v * 0, np.uint8),
    "labels-not-whole": data(VERTEBRAE, lambda v: v * 0.9),
    "labels-unknown": data(VERTEBRAE, ids(i22=77), np.uint8),
    "mask-off-bone": lambda f: [
        data(path, lambda v: v[:, ::-1], np.uint8)(f) for path in (VERTEBRAE, SUBREGIONS)
    ],
    "duplicate": copy(T2, "sub-1/anat/sub-1_acq-sag_T1w.nii.gz"),
    "two-patients": lambda f: [
        copy(CT, CT.replace("sub-1", "sub-2"))(f),
        table(sub2={"split": "train", "seed": "4"})(f),
    ],
    "leak": copy(CT, CT.replace("sub-1", "sub-2")),
    "seed-split": table(sub1={"seed": "1000001"}),
}


def test_a_clean_dataset_has_nothing_to_say(clean):
    report = check(clean)
    assert report.findings == ()
    assert report.patients == 2
    assert report.files == 16


def test_every_code_has_a_planted_failure_and_is_documented():
    assert set(PLANTS) == set(CODES)
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "dataset.md").read_text()
    for code, (severity, meaning) in CODES.items():
        assert f"| `{code}` | {severity} | {meaning} |" in page


@pytest.mark.parametrize("code", PLANTS)
def test_the_planted_failure_is_found(study, code):
    PLANTS[code](study)
    found = [f for f in check(study).findings if f.code == code]
    assert found, f"{code} was not found among {codes(study)}"
    for finding in found:
        assert finding.text
        assert finding.todo
        assert finding.severity == CODES[code].severity


def test_findings_name_values(study):
    PLANTS["nan"](study)
    PLANTS["grid"](study)
    text = {f.code: f"{f.file} {f.text}" for f in check(study).findings}
    assert "1 of 475200 voxels" in text["nan"]
    assert "corners 2." in text["grid"]
    assert "1x1x1.05 mm" in text["grid"]


def test_stored_axes_do_not_matter(study):
    """The same image flipped and permuted in memory is the same image, and no contradiction."""
    for path in OWN:
        volume = read(study / path, "labels" if "dseg" in path else "ct")
        write_volume(volume.reoriented("PIL"), study / path)
    assert codes(study) == set()
    turned = read(study / CT, "ct").reoriented("SRA")
    write_volume(turned, study / CT.replace("sub-1", "sub-2"))
    assert "leak" in codes(study)


def test_one_person_on_two_sides(study):
    """T1w in training and T2w in testing, said by patient_id or by scans.tsv."""
    table(sub1={"patient_id": "A"}, sub2={"patient_id": "A"})(study)
    assert "leak" in codes(study)
    with pytest.raises(InputError, match=r"A is on 2 sides .*train: sub-1; test: sub-2"):
        patient_splits(study)
    table()(study)
    assert patient_splits(study) == {"sub-1": "train", "sub-2": "test"}
    scans = [{"filename": "anat/sub-1_T2w.nii.gz", "split": "test"}]
    write_table(scans, study / "sub-1" / "sub-1_scans.tsv")
    assert "leak" in codes(study)
    with pytest.raises(InputError, match="2 sides"):
        patient_splits(study)


def test_left_right_cannot_be_known_without_sides(study):
    def one_sided(values):
        values[(values == 43) | (values == 44)] = 50

    data(SUBREGIONS, one_sided, np.uint8)(study)
    data(f"{TRUTH}desc-subregions_dseg.nii.gz", one_sided, np.uint8)(study)
    PLANTS["left-right"](study)
    found = check(study).findings
    assert "left-right" not in {f.code for f in found}
    assert any(f.code == "not-determinable" and "left/right" in f.text for f in found)


def voxels(path):
    return gzip.decompress(path.read_bytes())[352:]


@pytest.mark.parametrize("code", ["unit-wrong", "unit-not-mm", "sform-qform"])
def test_headers_are_mended_and_the_old_file_is_kept(study, code):
    good = read(study / T2)
    PLANTS[code](study)
    broken = (study / T2).read_bytes()
    (done,) = fix(study, check(study))
    assert not done.problem
    assert (study / done.backup).read_bytes() == broken
    assert voxels(study / T2) == gzip.decompress(broken)[352:]
    assert codes(study, "error") == codes(study, "warning") == set() or code == "sform-qform"
    mended = read(study / T2)
    assert (mended.data == good.data).all()
    if code != "sform-qform":
        assert mended.grid.gap(good.grid) < 1e-3
    log = (study / "derivatives/check/fixes.tsv").read_text().splitlines()
    assert log[0].startswith("file\tmend\tbackup")
    assert len(log) == 2


def test_backups_never_overwrite_each_other(study):
    kept = []
    for factor in (1.0, 1.01):
        header(T2, unit(3, factor))(study)
        kept.append((study / T2).read_bytes())
        fix(study, check(study))
    backup = study / "derivatives/check/backup" / T2
    assert backup.read_bytes() == kept[0]
    assert backup.with_name(backup.name + ".1").read_bytes() == kept[1]


def test_names_of_labels_are_written(study):
    PLANTS["dseg-table"](study)
    (done,) = fix(study, check(study))
    assert (done.problem, done.backup) == ("", "")
    assert check(study).findings == ()


def test_no_mend_of_a_header_that_the_anatomy_contradicts(study):
    PLANTS["head-feet"](study)
    PLANTS["sform-qform"](study)
    before = (study / T2).read_bytes()
    done = [one for one in fix(study, check(study)) if one.file == T2]
    assert len(done) == 1
    assert "decide by hand" in done[0].problem
    assert (study / T2).read_bytes() == before


def test_a_mend_that_fails_leaves_everything(study, monkeypatch):
    PLANTS["unit-wrong"](study)
    before = (study / T2).read_bytes()
    report = check(study)

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("spinect.workflows.check.mending._mended", full)
    (done,) = fix(study, report)
    assert "No space" in done.problem
    assert (study / T2).read_bytes() == before
    assert not [p for p in study.rglob("*.part*")]


def test_the_command(study):
    def call(*arguments):
        return CliRunner().invoke(app, ["check", str(study), *arguments])

    assert call().exit_code == 0
    PLANTS["unit-wrong"](study)
    broken = call("--json")
    assert broken.exit_code == 1
    said = json.loads(broken.stdout)
    assert said["errors"] == sum(f["severity"] == "error" for f in said["findings"]) > 0
    assert {"code", "severity", "file", "text", "todo", "fixable"} == set(said["findings"][0])
    mended = call("--fix")
    assert mended.exit_code == 0
    assert "mended" in mended.stdout
    missing = CliRunner().invoke(app, ["check", str(study / "nothing")])
    assert missing.exit_code == 1
    assert "not a folder" in missing.stderr


def test_other_formats_are_checked_too(study, tiny_pair):
    write_volume(tiny_pair.mr, study / "sub-1/anat/sub-1_STIR.nrrd")
    assert codes(study) == set()
    volume = Volume(tiny_pair.mr.data * np.nan, tiny_pair.mr.affine, "mr")
    image = nib.Nifti1Image(volume.data, volume.affine)
    nib.save(image, study / "sub-1/anat/sub-1_PDw.nii")
    assert "nan" in codes(study)
