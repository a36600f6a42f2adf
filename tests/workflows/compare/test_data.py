"""The dataset and the pairs of an experiment, on phantoms of a few seconds."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
from planted_compare import experiment
from scipy.spatial.transform import Rotation

from spinect.geometry.transform import apply, invert
from spinect.io import read, read_poi
from spinect.io.participants import read_rows
from spinect.phantom import pair as module
from spinect.phantom.anatomy import make_subject
from spinect.phantom.pair import make_pair, mr_grid
from spinect.registration import register
from spinect.workflows.compare import data as stage
from spinect.workflows.compare.data import make_phantoms, options_of, register_level
from spinect.workflows.compare.marks import Errors, marked, misalignment
from spinect.workflows.compare.stages import Paused
from spinect.workflows.register import find_pairs


@pytest.fixture(scope="module")
def small():
    """The pair of any seed: one subject of 70 mm, renamed."""

    def cut(seed, region):
        anatomy = make_subject(seed, region)
        low, high = anatomy.window.copy()
        low[2], high[2] = -40, 30
        return replace(anatomy, window=np.array([low, high]))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "make_subject", cut)
        return make_pair(3, "lumbar", ("T2w",), "rigid")


@pytest.fixture
def phantoms(small, monkeypatch):
    made = []

    def pair_of(seed, *_):
        made.append(seed)
        return replace(small, subject=replace(small.subject, seed=seed))

    monkeypatch.setattr(stage, "make_pair", pair_of)
    return made


@pytest.fixture(autouse=True)
def no_pictures(monkeypatch):
    """Pictures take most of the time of a small pair."""
    monkeypatch.setattr(
        "spinect.workflows.register.pair.write_registration", lambda _a, path, _t: path.touch()
    )


def names(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_phantoms_are_made_once_and_a_stopped_start_goes_on(phantoms, tmp_path):
    source = experiment(data={"source": "phantom", "train": 1, "test": 1, "train_seed": 7}).data
    make_phantoms(source, tmp_path / "whole", lambda: None)
    assert phantoms == [7, 1_000_000]
    looks = iter([None])

    def pause():
        if next(looks, "over") == "over":
            raise Paused

    with pytest.raises(Paused):
        make_phantoms(source, tmp_path / "parts", pause)
    assert not (tmp_path / "parts" / "participants.tsv").exists()
    make_phantoms(source, tmp_path / "parts", lambda: None)
    assert phantoms == [7, 1_000_000, 7, 1_000_000]
    assert names(tmp_path / "parts") == names(tmp_path / "whole")
    rows = read_rows(tmp_path / "parts" / "participants.tsv")
    assert [(r["participant_id"], r["split"]) for r in rows] == [
        ("sub-7", "train"), ("sub-1000000", "test"),
    ]  # fmt: skip


def test_a_subject_that_was_cut_off_is_made_again(phantoms, tmp_path):
    """Its truth lies there already, its images do not."""
    source = experiment(data={"source": "phantom", "train": 1, "test": 1}).data
    make_phantoms(source, tmp_path / "set", lambda: None)
    before = names(tmp_path / "set")
    shutil.move(tmp_path / "set" / "sub-0", tmp_path / "set" / ".sub-0.part")
    make_phantoms(source, tmp_path / "set", lambda: None)
    assert phantoms[-1] == 0
    assert names(tmp_path / "set") == before


def test_levels_are_options_of_register():
    assert (options_of("0").points, options_of("0").motion) == ("0", "rigid")
    assert (options_of("2").points, options_of("2").motion) == ("2", "rigid")
    assert (options_of("polyrigid-all").points, options_of("polyrigid-all").motion) == (
        "all",
        "polyrigid",
    )


@pytest.mark.usefixtures("phantoms")
def test_training_pairs_are_registered_into_a_view(tmp_path):
    """The view holds training subjects only; the same noise at every level, inside the image."""
    source = experiment(data={"source": "phantom", "train": 1, "test": 1}).data
    folder = tmp_path / "set"
    make_phantoms(source, folder, lambda: None)
    facts = register_level(folder, "T2w", "2", Errors(2.0, 5), tmp_path / "two", lambda: None)
    assert (facts["pairs"], facts["registered"]) == (1, 1)
    register_level(folder, "T2w", "0", Errors(2.0, 5), tmp_path / "zero", lambda: None)
    (row,) = read_rows(tmp_path / "two" / "participants.tsv")
    assert row["participant_id"] == "sub-0"
    (row,) = read_rows(tmp_path / "two" / "derivatives" / "registered" / "registration.tsv")
    assert (tmp_path / "two" / row["mr"]).resolve() == folder / "sub-0/anat/sub-0_T2w.nii.gz"
    exact = read_poi(folder / "sub-0" / "anat" / "sub-0_T2w_poi.json").points
    noisy, other = (
        read_poi(tmp_path / view / "landmarks" / "sub-0_T2w_poi.json").points
        for view in ("two", "zero")
    )
    assert noisy.keys() == other.keys()
    moved = np.array([noisy[key] - exact[key] for key in noisy])
    assert 1.2 < moved.std() < 2.8
    grid = read(folder / "sub-0" / "anat" / "sub-0_T2w.nii.gz", "mr").grid
    at = grid.index(np.array(list(noisy.values())))
    assert ((at >= -0.5) & (at <= np.array(grid.shape) - 0.5)).all()
    np.testing.assert_allclose(
        [noisy[key] for key in noisy], [other[key] for key in noisy], atol=1e-9
    )


@pytest.mark.usefixtures("phantoms")
@pytest.mark.parametrize(("shift", "turn"), [(4.0, 0.0), (0.0, 10.0), (3.0, 5.0)])
def test_a_misalignment_is_exactly_what_registration_is_off_by(tmp_path, shift, turn):
    """Without noise: as long as asked for, about the head-feet axis through the landmarks."""
    source = experiment(data={"source": "phantom", "train": 1, "test": 1}).data
    make_phantoms(source, tmp_path / "set", lambda: None)
    pair = next(p for p in find_pairs(tmp_path / "set", tmp_path) if p.participant == "sub-0")
    off = marked(pair, Errors(0.0, 5, shift, turn), tmp_path)
    true, found = (
        register(read_poi(one.ct_landmarks), read_poi(one.mr_landmarks)).ct_from_mr
        for one in (pair, off)
    )
    moved = invert(found) @ true  # of the CT in the MR's world
    middle = read_poi(pair.mr_landmarks).array().mean(axis=0)
    assert np.linalg.norm(apply(moved, middle) - middle) == pytest.approx(shift, abs=1e-6)
    vector = np.rad2deg(Rotation.from_matrix(moved[:3, :3]).as_rotvec())
    np.testing.assert_allclose([*vector[:2], abs(vector[2])], [0, 0, turn], atol=1e-6)
    planted = misalignment(Errors(2.0, 5, shift, turn), 0, middle)
    np.testing.assert_allclose(moved, planted, atol=1e-6)


def test_a_subject_keeps_its_direction_at_every_dose():
    """And subjects differ, in the sign of the turn too."""
    two, four = (misalignment(Errors(2.0, 5, mm, 0), 7, 0)[:3, 3] for mm in (2, 4))
    np.testing.assert_allclose(2 * two, four, atol=1e-12)
    many = [misalignment(Errors(2.0, 5, 1.0, 10.0), number, 0) for number in range(200)]
    shifts = np.array([m[:3, 3] for m in many])
    np.testing.assert_allclose(np.linalg.norm(shifts, axis=1), 1.0)
    assert np.abs(shifts.mean(axis=0)).max() < 0.15  # 3.7 SD of an even sphere
    left = sum(m[1, 0] > 0 for m in many)
    assert 70 < left < 130


@pytest.mark.usefixtures("phantoms")
def test_a_misaligned_level_is_registered_and_writes_what_is_seen(tmp_path):
    """A shift that takes points off the image leaves the others, and the same noise on the CT."""
    source = experiment(data={"source": "phantom", "train": 1, "test": 1}).data
    folder = tmp_path / "set"
    make_phantoms(source, folder, lambda: None)
    pair = next(p for p in find_pairs(folder, tmp_path) if p.participant == "sub-0")
    near, far = (
        marked(pair, Errors(2.0, 5, mm), tmp_path / str(mm)) for mm in (0.0, 25.0)
    )  # fmt: skip
    before, after = read_poi(near.mr_landmarks), read_poi(far.mr_landmarks)
    assert set(after) < set(before)
    assert not after.outside(read(pair.mr, "mr").grid)
    assert near.ct_landmarks.read_text() == far.ct_landmarks.read_text()
    facts = register_level(folder, "T2w", "2", Errors(2.0, 5, 2.0), tmp_path / "v", lambda: None)
    assert facts["registered"] == 1


def test_thin_slices_cover_the_same_width():
    anatomy = make_subject(3, "lumbar")
    usual, thin = mr_grid(anatomy), mr_grid(anatomy, 2.0)
    assert thin.canonical().spacing[0] == 2.0
    assert thin.canonical().extent[0] == pytest.approx(usual.canonical().extent[0], abs=2.0)
    np.testing.assert_allclose(thin.canonical().spacing[1:], usual.canonical().spacing[1:])
