"""A pair of scans and its truth, and the dataset folder."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

from spinect.errors import ConfigError, OutputError
from spinect.geometry.resample import resample
from spinect.geometry.transform import apply
from spinect.io import read, read_poi
from spinect.phantom import pair as module
from spinect.phantom.anatomy import make_subject
from spinect.phantom.pair import make_pair, mr_grid, split_of, write_dataset

SEED = 1_000_042


def small_pair():
    """A pair whose field of view is 70 mm high, so that it takes seconds."""

    def cut(seed, region):
        anatomy = make_subject(seed, region)
        low, high = anatomy.window.copy()
        low[2], high[2] = -40, 30
        return replace(anatomy, window=np.array([low, high]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make_subject", cut)
        return make_pair(SEED, "lumbar", ("T2w",), "articulated")


@pytest.fixture(scope="module")
def pair():
    return small_pair()


@pytest.fixture(scope="module")
def dataset(pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make_pair", lambda *_: pair)
        write_dataset(folder, 1, SEED, "lumbar", ("T2w",), "articulated")
    return folder


def test_mr_is_a_sagittal_series(pair):
    grid = pair.mr["T2w"].grid
    assert grid.plane == "sagittal"
    np.testing.assert_allclose(sorted(grid.spacing), [0.6, 0.6, 4.0])
    assert pair.truth.grid.matches(grid.canonical().with_spacing(1.0))


def test_mr_and_truth_lie_in_one_place(pair):
    """Water of the canal is bright, deep cortex-free marrow darker; both read off the truth."""
    mr = resample(pair.mr["T2w"], pair.truth.grid).data
    middle = np.abs(np.arange(mr.shape[0]) - mr.shape[0] / 2) < 12
    csf = (pair.truth.tissue == 14) & middle[:, None, None]
    marrow = (pair.truth.bone_distance < -40) & (pair.truth.subregions == 50)
    assert np.median(mr[csf]) > 1.3 * np.median(mr[marrow])


def test_truth_is_free_of_noise_and_the_scan_is_not(pair):
    deep = (pair.truth.tissue == 3) & (pair.truth.bone_distance > 60)
    assert pair.truth_ct.data[deep].std() < 25
    assert pair.truth_ct.data[pair.truth.vertebrae > 0].mean() > 150
    scanned = pair.ct.data[resample(pair.ct_vertebrae, pair.ct.grid).data == 0]
    assert scanned[(scanned > 0) & (scanned < 110)].std() > 14


def test_transforms_carry_bodies_and_landmarks(pair):
    """The masks of both scans are the same bones moved by ct_from_mr."""
    for vertebra in (22, 23):
        ours = pair.truth.vertebrae == vertebra
        theirs = pair.ct_vertebrae.data == vertebra
        if ours[..., [0, -1]].any() or theirs[..., [0, -1]].any():
            continue  # cut by the field of view
        centre = pair.truth.grid.world(np.argwhere(ours).mean(0))
        moved = pair.ct_vertebrae.grid.world(np.argwhere(theirs).mean(0))
        assert np.linalg.norm(apply(pair.ct_from_mr[vertebra], centre) - moved) < 0.6
    for key in pair.mr_landmarks.common(pair.ct_landmarks):
        expected = apply(pair.ct_from_mr[key[0]], pair.mr_landmarks[key])
        np.testing.assert_allclose(pair.ct_landmarks[key], expected, atol=1e-6)
    assert len(pair.mr_landmarks.common(pair.ct_landmarks)) >= 8


def test_articulated_motion_differs_between_levels(pair):
    gap = np.linalg.inv(pair.ct_from_mr[22]) @ pair.ct_from_mr[24]
    assert np.abs(gap - np.eye(4)).max() > 0.01


def test_a_pair_is_determined_by_its_seed(pair):
    again = small_pair()
    np.testing.assert_array_equal(again.mr["T2w"].data, pair.mr["T2w"].data)
    np.testing.assert_array_equal(again.ct.data, pair.ct.data)


def test_dataset_folder_holds_what_the_definitions_name(dataset):
    name = f"sub-{SEED}"
    truth = f"derivatives/truth/{name}/{name}"
    expected = {
        "participants.tsv",
        f"{name}/anat/{name}_T2w.nii.gz",
        f"{name}/anat/{name}_T2w_poi.json",
        f"{name}/ct/{name}_ct.nii.gz",
        f"{name}/ct/{name}_desc-vertebrae_dseg.nii.gz",
        f"{name}/ct/{name}_desc-subregions_dseg.nii.gz",
        f"{name}/ct/{name}_ct_poi.json",
        f"{truth}_from-T2w_to-ct_transforms.json",
        f"{truth}_space-iso_desc-tissue_dseg.nii.gz",
    } | {
        f"{truth}_space-{space}_{what}.nii.gz"
        for space in ("T2w", "iso")
        for what in ("ct", "desc-vertebrae_dseg", "desc-subregions_dseg")
    }
    found = {p.relative_to(dataset).as_posix() for p in dataset.rglob("*") if p.is_file()}
    assert expected <= found


def test_participants_and_transforms_read_back(dataset, pair):
    with (dataset / "participants.tsv").open(encoding="utf-8") as file:
        row = next(csv.DictReader(file, delimiter="\t"))
    assert row["participant_id"] == f"sub-{SEED}"
    assert row["split"] == "test"
    assert row["sex"] in "FM"
    truth = dataset / "derivatives" / "truth" / f"sub-{SEED}"
    held = json.loads((truth / f"sub-{SEED}_from-T2w_to-ct_transforms.json").read_text())
    np.testing.assert_allclose(held["vertebrae"]["L3"], pair.ct_from_mr[22])
    np.testing.assert_allclose(held["global"], pair.ct_from_mr[0])
    points = read_poi(dataset / f"sub-{SEED}" / "anat" / f"sub-{SEED}_T2w_poi.json")
    assert set(points) == set(pair.mr_landmarks)


def test_written_volumes_lie_on_their_grids(dataset, pair):
    truth = dataset / "derivatives" / "truth" / f"sub-{SEED}"
    mr = read(dataset / f"sub-{SEED}" / "anat" / f"sub-{SEED}_T2w.nii.gz", "mr")
    native = read(truth / f"sub-{SEED}_space-T2w_desc-vertebrae_dseg.nii.gz", "labels")
    assert native.grid.matches(mr.grid)
    iso = read(truth / f"sub-{SEED}_space-iso_ct.nii.gz", "ct")
    np.testing.assert_allclose(iso.data, pair.truth_ct.data, atol=0.51)


def test_refusals(tmp_path):
    (tmp_path / "old").write_text("x")
    with pytest.raises(OutputError, match="not an empty folder"):
        write_dataset(tmp_path, 1, 0)
    with pytest.raises(ConfigError, match="no contrast 'T3w'"):
        make_pair(0, contrasts=("T3w",))
    with pytest.raises(ConfigError, match="0 subjects"):
        write_dataset(tmp_path / "new", 0, 0)


def test_splits_follow_the_seed():
    assert [split_of(s) for s in (0, 999_999, 1_000_000, 2_000_000)] == [
        "train", "train", "test", "validation",
    ]  # fmt: skip


def test_mr_grid_covers_the_spine():
    anatomy = make_subject(5)
    grid = mr_grid(anatomy)
    for vertebra in (21, 22, 23):
        index = grid.index(anatomy.subject.centres[vertebra])
        assert np.all(index > 0)
        assert np.all(index < np.array(grid.shape) - 1)
