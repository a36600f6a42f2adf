"""Small synthetic collections in their real layout, with the traps in it."""

import csv
import io
import json
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from spinect.cli.main import app
from spinect.data.dataset import DatasetPatches
from spinect.data.options import DatasetOptions
from spinect.errors import InputError
from spinect.geometry import Volume
from spinect.io import read, write_poi, write_table, write_volume
from spinect.io.archives import Limits, unpack
from spinect.io.splits import draw_splits, parse_shares
from spinect.workflows.check import check
from spinect.workflows.importers import files, gold_atlas, synthrad
from spinect.workflows.importers.write import write_dataset

SHAPE = (40, 36, 12)


def call(*arguments):
    return CliRunner().invoke(app, ["import", *map(str, arguments)])


def participants(folder):
    with (folder / "participants.tsv").open() as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def body(seed=0):
    """An ellipse of tissue with bone in it: HU, and T2-like values, (columns, rows, slices)."""
    x, y, z = np.meshgrid(*[np.linspace(-1, 1, n) for n in SHAPE], indexing="ij")
    rng = np.random.default_rng(seed)
    inside = x**2 + y**2 < 0.8
    bone = (x**2 + (y - 0.3) ** 2 < 0.08) & (np.abs(z) < 0.7)
    hu = np.where(inside, 40 + 60 * z, -1000) + rng.normal(0, 5, SHAPE)
    hu[bone] = 600
    t2 = np.where(inside, 300 + 150 * z, 3) + np.abs(rng.normal(0, 20, SHAPE))
    return np.round(hu).astype(np.int16), np.round(t2).astype(np.int16), inside


# ---- Gold Atlas ------------------------------------------------------------------------------


def gold_patient(dicom, folder, site, seed=0, padding=True, **deformed):
    """Flat DICOM files of one patient as the users of the collection describe them."""
    hu, t2, inside = body(seed)
    count = SHAPE[2]
    place = {"origin": (-17.0, -15.0, 30.0), "spacing": (0.9, 0.9, 2.5)}
    if padding:  # DefaultPixelValue -1 of the registration
        hu[:4], hu[-4:], hu[:, :3], hu[:, -3:] = -1, -1, -1, -1
    # Site 2: the numbers of the CT run against those of the MR.
    numbers = list(range(count, 0, -1)) if site == 2 else None
    moved = dicom.Stack(
        "CT",
        f"Deformed 'CT 1' using 'CTtoMR DIR site{site}'",
        hu + 1024,
        intercept=-1024,
        numbering=numbers,
        **(place | deformed),
    )
    dicom.write_stack(moved, folder, 100)
    dicom.write_stack(dicom.Stack("MR", "Ax T2 FRFSE GOLD ATLAS", t2, **place), folder, 200)
    t1 = dicom.Stack("MR", "Ax T1 FSE GOLD ATLAS", t2[:, :, :9] // 2, (-17, -15, 30))
    dicom.write_stack(t1, folder, 300)
    original = dicom.Stack(
        "CT",
        "RT p+ Buk 3.0 B30f",
        np.pad(body(seed + 50)[0], ((0, 0), (0, 0), (3, 3)), constant_values=-1000) + 1024,
        (100, 80, -60),
        spacing=(1, 1, 3),
        intercept=-1024,
        frame="1.2.3.9",
    )
    dicom.write_stack(original, folder, 400)
    turn = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    circle = np.stack([6 * np.cos(turn), 5 * np.sin(turn), np.full(60, 40.0)], -1)
    dicom.write_structures(folder / "00501.dcm", {"Bladder": [circle], "Femoral head L": [circle]})
    dicom.write_structures(folder / "00502.dcm", {"Bladder": [circle * [1.1, 1, 1]]}, label="User1")
    dicom.write_structures(folder / "00503.dcm", {"External": [circle]}, frame="1.2.3.9")
    return hu, t2, inside


@pytest.fixture
def gold(tmp_path, dicom):
    """One patient of each site: a folder, a zip, and a zip with the browser's name."""
    source = tmp_path / "source"
    truth = {}
    for name, site in (("1_01_P", 1), ("2_03_P", 2), ("3_03_P", 3)):
        folder = source / name
        truth[name] = gold_patient(dicom, folder, site, seed=site)
        if site > 1:
            zipped = source / ("3_03_P (1).zip" if site == 3 else f"{name}.zip")
            with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
                for path in folder.iterdir():
                    archive.write(path, f"{name}/{path.name}")
            shutil.rmtree(folder)
    (source / "readme.txt").write_text("not a patient")
    return source, truth


def test_gold_atlas(gold, tmp_path):
    source, truth = gold
    out = tmp_path / "set"
    done = call("gold-atlas", source, "-o", out, "--json")
    assert done.exit_code == 0, done.stderr
    rows = participants(out)
    assert [row["participant_id"] for row in rows] == ["sub-1x01", "sub-2x03", "sub-3x03"]
    assert {row["site"] for row in rows} == {"1", "2", "3"}
    for row in rows:
        hu, t2, _ = truth[row["source"]]
        name = row["participant_id"]
        mr = read(out / name / "anat" / f"{name}_T2w.nii.gz")
        held = out / "derivatives" / "truth" / name
        ct = read(held / f"{name}_space-T2w_ct.nii.gz", "ct")
        valid = read(held / f"{name}_space-T2w_desc-valid_mask.nii.gz", "labels")
        np.testing.assert_array_equal(mr.data, t2)  # slices in the order of their position
        assert mr.grid.matches(ct.grid)
        inside = valid.data > 0
        np.testing.assert_array_equal(ct.data[inside], hu[inside])
        assert (ct.data[~inside] == -1000).all()  # -1 HU outside is not water
        assert not inside[:4].any()
        assert inside[4:-4, 3:-3].mean() > 0.99
        assert (out / name / "ct" / f"{name}_ct.nii.gz").is_file()
        assert (out / name / "anat" / f"{name}_T1w.nii.gz").is_file()
    record = json.loads((out / "import.json").read_text())
    assert "filled with water" in record["imported"]["2_03_P"][0]
    assert not list(out.glob(".*"))
    assert not list(tmp_path.glob(".unpacked*"))


def test_gold_atlas_structures(gold, tmp_path):
    source, _ = gold
    out = tmp_path / "set"
    call("gold-atlas", source / "1_01_P", "-o", out)
    folder = out / "derivatives" / "structures" / "sub-1x01"
    mask = read(folder / "sub-1x01_space-T2w_label-Bladder_mask.nii.gz", "labels")
    assert set(np.flatnonzero(mask.data.any((0, 1)))) == {4}  # 30 + 4 * 2.5 mm
    assert mask.data.sum() * 0.81 == pytest.approx(np.pi * 30, rel=0.05)
    table = (folder / "sub-1x01_structures.tsv").read_text()
    assert "label-Bladderx2_mask.nii.gz\tBladder\tUser1" in table
    assert "External" not in table  # drawn in the original CT's frame
    notes = json.loads((out / "import.json").read_text())["imported"]["1_01_P"]
    assert any("not in the MR's frame" in note for note in notes)


def test_gold_atlas_dataset_passes_the_check(gold, tmp_path):
    source, _ = gold
    call("gold-atlas", source, "-o", tmp_path / "set")
    assert [f for f in check(tmp_path / "set").findings if f.severity == "error"] == []


def test_gold_atlas_traps(tmp_path, dicom):
    source = tmp_path / "source"
    gold_patient(dicom, source / "1_01_P", 1, padding=False)
    gold_patient(dicom, source / "1_02_P", 1, seed=2, spacing=(0.9, 0.9, 2.4))
    gold_patient(dicom, source / "1_03_P", 1, seed=3, frame="1.2.3.4")
    (source / "2_10_P").mkdir()
    (source / "2_10_P" / "x.dcm").write_text("nothing")
    out = tmp_path / "set"
    done = call("gold-atlas", source, "-o", out)
    assert done.exit_code == 3
    record = json.loads((out / "import.json").read_text())
    assert list(record["imported"]) == ["1_01_P"]
    assert "0 T2 series on the grid" in record["rejected"]["1_02_P"]
    assert "different frames of reference" in record["rejected"]["1_03_P"]
    assert "no DICOM file" in record["rejected"]["2_10_P"]
    assert not (
        out / "derivatives/truth/sub-1x01/sub-1x01_space-T2w_desc-valid_mask.nii.gz"
    ).exists()
    assert [p.name for p in sorted(out.glob("sub-*"))] == ["sub-1x01"]
    twice = source / "1_01_P (1)"
    twice.mkdir()
    assert "1_01_P is there twice" in call("gold-atlas", source, "-o", tmp_path / "b").stderr
    assert "holds no patient" in call("gold-atlas", twice.parent.parent, "-o", out).stderr


def test_every_gold_atlas_patient_gets_a_split(tmp_path):
    """All 19 of the collection; a published split forgets 2_09_P, another one drops 2_10_P."""
    numbers = {1: range(1, 9), 2: (3, 4, 5, 6, 9, 10, 11), 3: range(1, 5)}
    names = {f"{site}_{n:02d}_P" for site, own in numbers.items() for n in own}
    for name in names:
        (tmp_path / (f"{name} (1)" if name == "3_03_P" else name)).mkdir()
    found = gold_atlas.plan(tmp_path, tmp_path)
    assert {one.source for one in found} == names
    assert len(names) == 19
    noted = {one.source for one in found if one.row["note"]}
    assert noted == {"2_10_P"}  # kept, and said to be doubted
    split = draw_splits({one.subject: (one.person, one.stratum) for one in found},
                        parse_shares("0.6,0.2,0.2"), 0)  # fmt: skip
    assert split.keys() == {one.subject for one in found}
    assert set(split.values()) == {"train", "validation", "test"}


def test_gold_atlas_trains_a_translator(gold, tmp_path):
    """It has no vertebra masks: patches lie anywhere, axial slices, the CT where it is valid."""
    source, _ = gold
    out = tmp_path / "set"
    call("gold-atlas", source, "-o", out, "--split", "1,0,0")
    options = DatasetOptions(
        patch=(1, 40, 36), plane="axial", raster="slices", spacing_mm=0.9, place="anywhere",
        rotate_deg=0, scale=0, elastic_mm=0, augment="off", pose="truth", patches_per_scan=2,
    )  # fmt: skip
    stream = DatasetPatches(out, options, 0, 1)
    assert len(stream.cases) == 3
    batch = stream[0]
    assert batch.condition.shape == (2, 3, 1, 40, 36)
    assert batch.classes is None
    assert 0.5 < float(batch.inside.mean()) < 0.9  # not where the registration filled in water
    for case in stream.cases:
        assert case.spacing == pytest.approx((2.5, 0.9, 0.9))


# ---- SynthRAD --------------------------------------------------------------------------------


def volumes(seed=0, shift=0.0):
    hu, t2, inside = body(seed)
    affine = np.diag([1.0, 1.0, 2.5, 1.0])
    affine[0, 3] = shift
    return {
        "mr": Volume(t2.astype(np.float32), affine, "mr"),
        "ct": Volume(hu.astype(np.float32), affine, "ct"),
        "mask": Volume(inside.astype(np.uint8), affine, "labels"),
    }


@pytest.mark.parametrize(
    ("task", "names", "end"),
    [
        ("Task1/pelvis", ["1PA001", "1PC012"], ".nii.gz"),
        ("Task1/AB", ["1ABA005", "1ABB011"], ".mha"),
    ],
)
def test_synthrad(tmp_path, task, names, end):
    source = tmp_path / "source"
    for seed, name in enumerate(names):
        for key, volume in volumes(seed).items():
            write_volume(volume, source / task / name / (key + end))
    (source / task / "overview").mkdir()
    (source / task / "overview" / f"{names[0]}_train.png").write_bytes(b"picture")
    for key in ("mr", "mask"):  # validation set: no CT
        write_volume(volumes(7)[key], source / task / f"{names[0][:-3]}099" / (key + end))
    for key, new in (("ct", "ct"), ("ct", "cbct")):
        write_volume(volumes(8)[key], source / "Task2" / f"2{names[0][1:]}" / (new + end))
    shifted = volumes(9, shift=2.0)["ct"]
    write_volume(volumes(9)["mr"], source / task / f"{names[0][:-3]}077" / f"mr{end}")
    write_volume(shifted, source / task / f"{names[0][:-3]}077" / f"ct{end}")
    out = tmp_path / "set"
    done = call("synthrad", source, "-o", out, "--contrast", "T1w")
    assert done.exit_code == 3
    record = json.loads((out / "import.json").read_text())
    assert sorted(record["imported"]) == sorted(names)
    reasons = "\n".join(record["rejected"].values())
    assert "no ct, a case of a validation or test set" in reasons
    assert "task 2 (cone-beam CT)" in reasons
    assert "corners 2.00 mm apart" in reasons
    for seed, name in enumerate(names):
        truth = out / "derivatives" / "truth" / f"sub-{name}"
        ct = read(truth / f"sub-{name}_space-T1w_ct.nii.gz", "ct")
        np.testing.assert_array_equal(ct.data, volumes(seed)["ct"].data)
        mr = read(out / f"sub-{name}" / "anat" / f"sub-{name}_T1w.nii.gz")
        assert mr.grid.matches(ct.grid)
        assert (truth / f"sub-{name}_space-T1w_desc-body_mask.nii.gz").is_file()
    assert {row["site"] for row in participants(out)} == {n[-4] for n in names}
    assert [f for f in check(out).findings if f.severity == "error"] == []


def test_synthrad_from_an_archive(tmp_path):
    source = tmp_path / "Task1.tar.gz"
    for key, volume in volumes().items():
        write_volume(volume, tmp_path / "t" / "AB" / "1ABA005" / f"{key}.mha")
    with tarfile.open(source, "w:gz") as archive:
        archive.add(tmp_path / "t", "Task1")
    done = call("synthrad", source, "-o", tmp_path / "set")
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "set/sub-1ABA005/anat/sub-1ABA005_mr.nii.gz").is_file()


# ---- folders and tables ----------------------------------------------------------------------


@pytest.fixture
def plain(tmp_path):
    for seed, name in enumerate(("a_1", "b_2", "c_3")):
        held = volumes(seed)
        write_volume(held["mr"], tmp_path / "mrs" / f"{name}.nii.gz")
        write_volume(held["ct"], tmp_path / "cts" / f"{name}.mha")
    return tmp_path


def test_two_folders(plain):
    done = call("folders", plain / "mrs", "--ct", plain / "cts", "-o", plain / "set")
    assert done.exit_code == 0, done.stderr
    names = [row["participant_id"] for row in participants(plain / "set")]
    assert names == ["sub-a1", "sub-b2", "sub-c3"]
    assert (plain / "set/sub-a1/ct/sub-a1_ct.nii.gz").is_file()
    aligned = call(
        "folders", plain / "mrs", "--ct", plain / "cts", "-o", plain / "two", "--aligned"
    )
    assert aligned.exit_code == 0, aligned.stderr
    assert (plain / "two/derivatives/truth/sub-a1/sub-a1_space-T2w_ct.nii.gz").is_file()
    again = call("folders", plain / "mrs", "--ct", plain / "cts", "-o", plain / "two")
    assert again.exit_code == 1
    assert "not an empty folder" in again.stderr


def test_unequal_names_are_named(plain):
    (plain / "mrs/b_2.nii.gz").rename(plain / "mrs/b2.nii.gz")
    with pytest.raises(InputError, match=r"only in mrs: b2; only in cts: b_2"):
        files.plan_folders(plain / "mrs", plain / "cts", "T2w", False)
    shutil.copy(plain / "mrs/b2.nii.gz", plain / "mrs/a_1.nii.gz.copy.nii.gz")
    write_volume(volumes()["mr"], plain / "mrs" / "a_1.nii")
    with pytest.raises(InputError, match=r"both a_1.nii and a_1.nii.gz"):
        files.plan_folders(plain / "mrs", plain / "cts", "T2w", False)


def test_names_that_become_one_are_refused(tmp_path):
    for name in ("a_1", "a1"):
        write_volume(volumes()["mr"], tmp_path / "mrs" / f"{name}.nii.gz")
        write_volume(volumes()["ct"], tmp_path / "cts" / f"{name}.nii.gz")
    done = call("folders", tmp_path / "mrs", "--ct", tmp_path / "cts", "-o", tmp_path / "set")
    assert "a1 and a_1 would both be sub-a1" in done.stderr
    assert not (tmp_path / "set").exists()


@pytest.fixture
def listed(tmp_path, tiny_pair):
    """Patient 1 with two T2w of one contrast and a T1w, patients 2 and 3 who are one person."""
    for i in range(3):
        mr = tiny_pair.mr.with_data(tiny_pair.mr.data + i)
        write_volume(mr, tmp_path / "images" / f"mr{i}.nii.gz")
    for name in ("ct", "vertebrae", "subregions"):
        write_volume(getattr(tiny_pair, name), tmp_path / "images" / f"{name}.nii.gz")
    from spinect.geometry import centres_of_mass

    points = centres_of_mass(tiny_pair.vertebrae, tiny_pair.subregions)
    write_poi(points, tmp_path / "images" / "points.json")
    full = {"ct": "images/ct.nii.gz", "vertebrae": "images/vertebrae.nii.gz",
            "subregions": "images/subregions.nii.gz",
            "ct_landmarks": "images/points.json"}  # fmt: skip
    one = {"participant_id": "1", "sex": "F", "patient_id": "X"} | full
    return tmp_path / "list.tsv", [
        one | {"mr": "images/mr0.nii.gz", "mr_landmarks": "images/points.json"},
        one | {"mr": "images/mr1.nii.gz"},
        one | {"mr": "images/mr2.nii.gz", "contrast": "T1w"},
        {"participant_id": "2", "patient_id": "Y", "mr": "images/mr0.nii.gz", **full},
        {"participant_id": "3", "patient_id": "Y", "mr": "images/mr1.nii.gz", **full},
    ]


def test_a_table_of_many_series(listed, tmp_path):
    table, rows = listed
    write_table(rows, table)
    out = tmp_path / "set"
    done = call("table", table, "-o", out, "--split", "0.5,0,0.5")
    assert done.exit_code == 0, done.stderr
    names = sorted(p.name for p in (out / "sub-1").rglob("*") if p.is_file())
    assert names == sorted([
        "sub-1_run-1_T2w.nii.gz", "sub-1_run-1_T2w_poi.json", "sub-1_run-2_T2w.nii.gz",
        "sub-1_T1w.nii.gz", "sub-1_ct.nii.gz", "sub-1_ct_poi.json",
        "sub-1_desc-vertebrae_dseg.nii.gz", "sub-1_desc-vertebrae_dseg.tsv",
        "sub-1_desc-subregions_dseg.nii.gz", "sub-1_desc-subregions_dseg.tsv",
    ])  # fmt: skip
    split = {row["participant_id"]: row["split"] for row in participants(out)}
    assert split["sub-2"] == split["sub-3"] != split["sub-1"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "red"}, "column colour is not known"),
        ({"mr": "images/none.nii.gz"}, "row 2, mr"),
        ({"ct": ""}, "masks or ct_landmarks without a ct"),
        ({"split": "val"}, "not one of train"),
        ({"sex": "M"}, "has sex F and M"),
        ({"aligned": "perhaps"}, "not yes or no"),
        ({"contrast": "T2-w"}, "suffix"),
    ],
)
def test_bad_tables(listed, tmp_path, change, said):
    table, rows = listed
    write_table([rows[0] | change, *rows[1:]], table)
    done = call("table", table, "-o", tmp_path / "set")
    assert done.exit_code == 1
    assert said in done.stderr
    assert not (tmp_path / "set").exists()


def test_one_person_keeps_one_split(listed, tmp_path):
    table, rows = listed
    rows = [row | {"split": s} for row, s in zip(rows, ["train"] * 4 + ["test"], strict=True)]
    write_table(rows, table)
    assert "Y is on 2 sides" in call("table", table, "-o", tmp_path / "set").stderr


def test_a_bad_patient_does_not_stop_the_others(listed, tmp_path, tiny_pair):
    table, rows = listed
    write_table(rows, table)
    shifted = tiny_pair.vertebrae
    moved = Volume(shifted.data, shifted.affine + np.eye(4, k=3), "labels")
    write_volume(moved, tmp_path / "images" / "off.nii.gz")
    write_table([*rows[:4], rows[4] | {"vertebrae": "images/off.nii.gz"}], table)
    done = call("table", table, "-o", tmp_path / "set")
    assert done.exit_code == 3
    assert "off.nii.gz lies on" in done.stdout
    assert not (tmp_path / "set" / "sub-3").exists()
    assert len(participants(tmp_path / "set")) == 2


def test_a_killed_import_leaves_whole_patients(tmp_path, monkeypatch):
    for seed, name in enumerate(("1ABA001", "1ABA002")):
        for key, volume in volumes(seed).items():
            write_volume(volume, tmp_path / "s" / name / f"{key}.mha")
    plan = synthrad.plan(tmp_path / "s", "mr")
    from spinect.workflows.importers import case

    original, count = case.write_volume, []

    def killed(volume, path):
        count.append(path)
        if len(count) == 5:
            raise KeyboardInterrupt
        return original(volume, path)

    monkeypatch.setattr(case, "write_volume", killed)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(plan, tmp_path / "set", "synthrad")
    assert [p.name for p in (tmp_path / "set").glob("sub-*")] == ["sub-1ABA001"]
    assert not list((tmp_path / "set/derivatives/truth").glob("*2"))


# ---- splits and archives ---------------------------------------------------------------------


def test_splits_are_whole_persons_and_even():
    """19 patients of three sites as in the Gold Atlas: nobody is left out, every share is near."""
    persons = {f"{s}_{i:02d}": (f"{s}_{i:02d}", f"site {s}")
               for s, n in ((1, 8), (2, 7), (3, 4)) for i in range(n)}  # fmt: skip
    shares = parse_shares("0.6,0.2,0.2")
    for seed in range(20):
        split = draw_splits(persons, shares, seed)
        assert split.keys() == persons.keys()
        counts = {k: sum(v == k for v in split.values()) for k in shares}
        assert abs(counts["train"] - 11.4) <= 1.4
        assert min(counts.values()) >= 3
        train = {persons[p][1] for p, s in split.items() if s == "train"}
        assert train == {"site 1", "site 2", "site 3"}
    again = draw_splits(dict(reversed(persons.items())), shares, 19)
    assert again == split
    one = draw_splits({str(i): ("same", str(i)) for i in range(9)}, shares, 0)
    assert len(set(one.values())) == 1


def zipped(path, members, **keywords):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **keywords) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["../out.txt", "/etc/x", "a/../../x", "..\\x", "C:\\x"])
def test_path_traversal_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="path traversal"):
        unpack(zipped(tmp_path / "a.zip", {"ok.txt": "x", name: "x"}), tmp_path / "in")
    assert not (tmp_path / "in").exists()
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO(b""))
    with pytest.raises(InputError, match="path traversal"):
        unpack(tmp_path / "a.tar", tmp_path / "in")
    assert {p.name for p in tmp_path.iterdir()} == {"a.zip", "a.tar"}


def test_links_in_archives_are_refused(tmp_path):
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with pytest.raises(InputError, match="link or device"):
        unpack(zipped(tmp_path / "a.zip", {link: "/etc/passwd"}), tmp_path / "in")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        archive.addfile(info)
    with pytest.raises(InputError, match="link or device"):
        unpack(tmp_path / "a.tar", tmp_path / "in")


def test_bombs_and_damage_are_refused(tmp_path):
    bomb = zipped(tmp_path / "bomb.zip", {"zeros": bytes(40 << 20)})
    with pytest.raises(InputError, match="zip bomb"):
        unpack(bomb, tmp_path / "in")
    big = zipped(tmp_path / "big.zip", {"a": np.random.default_rng(0).bytes(300_000)})
    with pytest.raises(InputError, match="more than 200000 bytes"):
        unpack(big, tmp_path / "in", Limits(total_bytes=200_000))
    many = zipped(tmp_path / "many.zip", {str(i): "x" for i in range(20)})
    with pytest.raises(InputError, match="more than 10 files"):
        unpack(many, tmp_path / "in", Limits(files=10))
    broken = tmp_path / "broken.zip"
    broken.write_bytes(big.read_bytes()[:-300])
    with pytest.raises(InputError, match="cannot be unpacked"):
        unpack(broken, tmp_path / "in")
    assert not (tmp_path / "in").exists()


def test_a_bomb_among_the_patients_is_rejected_and_the_others_go_on(gold, tmp_path):
    source, _ = gold
    zipped(source / "1_02_P.zip", {"1_02_P/x.dcm": bytes(40 << 20)})
    done = call("gold-atlas", source, "-o", tmp_path / "set")
    assert done.exit_code == 3
    assert "rejected  1_02_P" in done.stdout
    assert len(participants(tmp_path / "set")) == 3
