"""Planted leaks, swapped and doubled results, wrong grids and labels: caught, the others go on."""

import shutil

import numpy as np
import pytest

from spinect.card import Card, TrainingFacts
from spinect.errors import InputError
from spinect.geometry.resample import resample
from spinect.io import read, write_table, write_volume
from spinect.io.participants import read_rows
from spinect.workflows.evaluate import EvaluateOptions, leaks, score_results
from spinect.workflows.record import Stopwatch

A, B, C = (f"sub-100000{k}_T2w" for k in range(3))
MASKS = ("desc-vertebrae_dseg.nii.gz", "desc-subregions_dseg.nii.gz")


@pytest.fixture
def results(tiny_results, tmp_path):
    """A copy of the good method that a test may spoil."""
    return shutil.copytree(tiny_results / "good", tmp_path / "results")


@pytest.fixture
def score(tiny_dataset, results, tmp_path):
    """Scores, and what became of each case: case -> (status, error)."""

    def call(dataset=tiny_dataset, **changed):
        options = EvaluateOptions(**({"protocols": ("graf2023",)} | changed))
        scores = score_results(dataset, results, tmp_path / "out", options, Stopwatch())
        own = [o for o in scores.outcomes if o.method == "results"]
        return scores, {o.series.name: (o.status, o.error) for o in own}

    return call


def statuses(fates):
    return [fates[case][0] for case in (A, B, C)]


def test_clean_results_pass_without_a_word(score):
    scores, fates = score()
    assert statuses(fates) == ["done"] * 3
    assert scores.warnings == ()
    assert scores.exit_code == 0


def swap(folder, first, second):
    """Exchange everything that two cases have, records included."""
    for path in list(folder.glob(f"{first}_*")):
        path.rename(path.with_name("held" + path.name.removeprefix(first)))
    for path in list(folder.glob(f"{second}_*")):
        path.rename(path.with_name(first + path.name.removeprefix(second)))
    for path in list(folder.glob("held_*")):
        path.rename(path.with_name(second + path.name.removeprefix("held")))


def test_swapped_results_are_refused(score, results):
    swap(results, A, B)
    scores, fates = score()
    assert statuses(fates) == ["failed", "failed", "done"]
    assert f"was made from {B}.nii.gz" in fates[A][1]
    assert scores.exit_code == 3
    rows = [r for r in scores.rows if r.case == A and r.method == "results"]
    assert rows
    assert all(np.isnan(r.value) and r.note == "failed" for r in rows)


def test_one_result_for_two_cases_is_refused(score, results):
    for path in list(results.glob(f"{A}_*.nii.gz")):
        shutil.copy(path, results / path.name.replace(A, B))
    _, fates = score()
    assert statuses(fates) == ["failed", "failed", "done"]
    assert "is the same file as" in fates[A][1]
    assert "is the same file as" in fates[B][1]


def test_equal_empty_masks_are_no_copies(score, results):
    grids = set()
    for case in (A, B):
        for path in [p for end in MASKS for p in results.glob(f"{case}_*{end}")]:
            labels = read(path, "labels")
            grids.add(str(labels.grid))
            write_volume(labels.with_data(np.zeros_like(labels.data)), path)
    assert len(grids) == 2  # native and iso: equal for both cases, and so are the files
    scores, fates = score()
    assert statuses(fates) == ["done"] * 3
    dice = [r.value for r in scores.rows
            if (r.case, r.region, r.method, r.item) == (A, "vertebra", "results", "")]  # fmt: skip
    assert dice == [0.0]


def test_wrong_grid_is_refused(score, results):
    path = results / f"{B}_desc-synth_ct.nii.gz"
    ct = read(path, "ct")
    write_volume(resample(ct, ct.grid.with_spacing([1.0, 1.0, 4.0])), path)
    scores, fates = score()
    assert statuses(fates) == ["done", "failed", "done"]
    assert "a result lies on the grid of its MR" in fates[B][1]
    assert scores.exit_code == 3


def test_shifted_masks_are_a_wrong_grid(score, results):
    path = results / f"{B}_{MASKS[0]}"
    labels = read(path, "labels")
    affine = labels.affine.copy()
    affine[2, 3] += 3.0
    write_volume(type(labels)(labels.data, affine, "labels"), path)
    _, fates = score()
    assert statuses(fates) == ["done", "failed", "done"]
    assert "3.00 mm apart" in fates[B][1]


def test_vertebrae_and_subregions_exchanged_are_refused(score, results):
    first, second = (results / f"{C}_{end}" for end in MASKS)
    held = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(held)
    _, fates = score()
    assert statuses(fates) == ["done", "done", "failed"]
    assert "which are no vertebrae: swapped" in fates[C][1]


def test_swapped_level_names_are_counted_and_named(score, results):
    for end in ("_", "_space-iso_"):
        path = results / f"{A}{end}{MASKS[0]}"
        labels = read(path, "labels")
        names = np.where(labels.data > 0, labels.data - 1, 0).astype(np.uint8)  # one level up
        write_volume(labels.with_data(names), path)
    scores, _ = score(protocols=("strict",))
    wrong = {r.space: r for r in scores.rows if r.case == A and r.metric == "wrong_level"
             and r.method == "results"}  # fmt: skip
    assert wrong["iso"].value == wrong["native"].value == 3
    assert "L3 is called L2" in wrong["iso"].note


def test_incomplete_and_damaged_results_fail_alone(score, results):
    (results / f"{A}_space-iso_desc-synth_ct.nii.gz").unlink()
    (results / f"{B}_desc-synth_ct.nii.gz").write_bytes(b"no image")
    scores, fates = score()
    assert statuses(fates) == ["failed", "failed", "done"]
    assert "incomplete, no ct_iso" in fates[A][1]
    assert scores.exit_code == 3


def test_records_are_read(score, results):
    (results / f"{A}_run.json").unlink()
    (results / f"{B}_run.json").write_text("{}")
    scores, fates = score()
    assert statuses(fates) == ["done", "failed", "done"]
    assert "is not a run record" in fates[B][1]
    assert any(f"{A} have no run record" in text for text in scores.warnings)


def write_splits(dataset, splits, **more):
    rows = read_rows(dataset / "participants.tsv")
    for row, split in zip(rows, splits, strict=True):
        row |= {"split": split} | more
    write_table(rows, dataset / "participants.tsv")


@pytest.fixture
def dataset(tiny_dataset, tmp_path):
    """A copy of the dataset that a test may spoil."""
    return shutil.copytree(tiny_dataset, tmp_path / "set")


def test_results_of_the_training_side_are_not_scored(score, dataset):
    write_splits(dataset, ("train", "test", "test"))
    scores, fates = score(dataset)
    assert set(fates) == {B, C}
    assert any(f"{A} stand on another side" in text for text in scores.warnings)


def test_an_image_of_the_training_side_is_a_leak(score, dataset, results):
    """The same voxels, stored along other axes: other bytes, the same image."""
    write_splits(dataset, ("train", "test", "test"))
    source = dataset / f"sub-1000000/anat/{A}.nii.gz"
    planted = dataset / f"sub-1000001/anat/{B}.nii.gz"
    write_volume(read(source).reoriented("RAS"), planted)
    (results / f"{B}_run.json").unlink()
    assert source.read_bytes() != planted.read_bytes()
    _, fates = score(dataset)
    assert fates[B][0] == "failed"
    assert f"leak: {B}.nii.gz has the same voxels as" in fates[B][1]
    assert fates[C][0] == "done"


def test_a_training_seed_on_the_test_side_is_a_leak(score, dataset):
    rows = read_rows(dataset / "participants.tsv")
    rows[0]["seed"] = "17"
    write_table(rows, dataset / "participants.tsv")
    _, fates = score(dataset)
    assert fates[A][0] == "failed"
    assert "leak: sub-1000000 has seed 17 and split test" in fates[A][1]
    assert fates[B][0] == "done"


def test_a_person_on_two_sides_stops_everything(score, dataset):
    write_splits(dataset, ("train", "test", "test"), patient_id="one")
    with pytest.raises(InputError, match="2 sides of the split"):
        score(dataset)


def test_a_model_trained_on_this_very_dataset_is_named(score, tiny_dataset, monkeypatch):
    facts = TrainingFacts(data={"phantoms": {"sha256": leaks.listing_hash(tiny_dataset)}})
    card = Card(name="fake", method="regression", sha256="f" * 64, training=facts)
    monkeypatch.setattr(leaks, "list_bundles", lambda: [card])
    scores, _ = score()
    assert any("leak: results used fake" in text for text in scores.warnings)


def test_listing_hash_is_what_training_records(tiny_dataset):
    run = pytest.importorskip("spinect.training.run")
    from spinect.training.config import parse_config

    config = parse_config(
        {
            "name": "tiny",
            "method": {"name": "regression"},
            "data": {"source": "dataset", "folder": str(tiny_dataset)},
            "trainer": {"max_steps": 1, "warmup": 0},
        }
    )
    facts = run.data_fingerprint(config)
    assert facts[tiny_dataset.name]["sha256"] == leaks.listing_hash(tiny_dataset)


def test_two_methods_with_one_ct_are_named(tiny_dataset, tiny_results, tmp_path):
    both = tmp_path / "both"
    shutil.copytree(tiny_results / "good", both / "one")
    shutil.copytree(tiny_results / "good", both / "two")
    options = EvaluateOptions(protocols=("graf2023",))
    scores = score_results(tiny_dataset, both, tmp_path / "out", options, Stopwatch())
    assert any("one and two have the same synthetic CT" in text for text in scores.warnings)
    assert scores.exit_code == 0


def test_what_a_reader_says_is_kept_too(score, results):
    """A header whose sform and qform disagree: read, and said, again after a resume."""
    import nibabel as nib

    path = results / f"{A}_desc-synth_ct.nii.gz"
    image = nib.load(path)
    other = image.affine.copy()
    other[:3, 3] += 20
    image.set_qform(other, 1)
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), None, image.header), path)
    first, fates = score(resume=True)
    again, _ = score(resume=True)
    assert statuses(fates) == ["done"] * 3
    assert any(f"results, {A}: " in text and "qform" in text for text in first.warnings)
    assert again.warnings == first.warnings
    assert again.count("kept") == 3
