"""A dataset of tiny subjects with truth, and results that are the truth with a known error."""

import numpy as np
import pytest

from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.io import write_table, write_volume
from spinect.workflows.record import InputRecord, ModelRecord, RunRecord, sha256_of

SHAPE = (24, 56, 64)  # mm, R A S
MODEL = ModelRecord(name="fake", sha256="f" * 64)


def subject(seed):
    """MR (sagittal, 4 mm slices) and CT, vertebrae, subregions at 1 mm; L3-L5, L3 and L5 whole."""
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, 3] = [-12.0, -30.0, -32.0]
    x, y, z = np.meshgrid(*[np.arange(n) for n in SHAPE], indexing="ij")
    ct = 40 + 5 * rng.normal(size=SHAPE)
    ct[y < 4] = -1000
    vertebrae, subregions = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    wide, deep = 7 + seed % 4, 8 + rng.uniform(0, 1)
    for number, centre in ((24, 12), (23, 32), (22, 52)):
        body = ((x - 12) / wide) ** 2 + ((y - 40) / deep) ** 2 < 1
        body &= np.abs(z - centre) < 7
        spinous = (np.abs(x - 12) < 3) & (np.abs(y - 18) < 8) & (np.abs(z - centre) < 5)
        vertebrae[body | spinous] = number
        subregions[body], subregions[spinous] = 50, 42
        ct[body], ct[spinous] = 250, 500
    mr = Volume((300 + 0.3 * ct + 20 * rng.normal(size=SHAPE)).astype(np.float32), affine, "mr")
    grid = mr.grid.with_spacing([4.0, 0.8, 0.8]).reoriented("PIR")
    return {
        "mr": resample(mr, grid),
        "ct": Volume(ct.astype(np.float32), affine, "ct"),
        "vertebrae": Volume(vertebrae, affine, "labels"),
        "subregions": Volume(subregions, affine, "labels"),
    }


def write_volumes(parts, folder, native, iso, ct_end):
    """CT and masks on the MR's grid and at 1 mm."""
    grid = parts["mr"].grid
    for stem, place in ((native, lambda v: resample(v, grid)), (iso, lambda v: v)):
        for kind in ("vertebrae", "subregions"):
            path = folder / f"{stem}_desc-{kind}_dseg.nii.gz"
            write_volume(place(parts[kind]), path)
        write_volume(place(parts["ct"]), folder / f"{stem}_{ct_end}.nii.gz")


def write_dataset(folder, seeds=(1_000_000, 1_000_001, 1_000_002), splits=None):
    """One T2w each, with truth."""
    rows = []
    for k, seed in enumerate(seeds):
        name, parts = f"sub-{seed}", subject(seed)
        write_volume(parts["mr"], folder / name / "anat" / f"{name}_T2w.nii.gz")
        truth = folder / "derivatives" / "truth" / name
        write_volumes(parts, truth, f"{name}_space-T2w", f"{name}_space-iso", "ct")
        split = splits[k] if splits else "test"
        rows.append({"participant_id": name, "seed": seed, "split": split})
    write_table(rows, folder / "participants.tsv")
    return folder


def record_of(mr):
    """What a run says of itself; only what an evaluation reads is true."""
    source = InputRecord(path=mr.name, sha256=sha256_of(mr), shape=(1, 1, 1), spacing=(1, 1, 1),
                         orientation="RAS", plane="sagittal")  # fmt: skip
    return RunRecord(started="2026-01-01T00:00:00+00:00", inputs=(source,), outputs=(),
                     models=(MODEL,), options={}, options_sha256="0" * 64, seed=0, device="cpu",
                     versions={}, seconds={}, peak_bytes=0)  # fmt: skip


def write_result(folder, dataset, seed, offset=30.0):
    """The truth with `offset` HU on bone, and the lowest plane of every vertebra missing."""
    name = f"sub-{seed}"
    parts = subject(seed)
    labels = parts["vertebrae"].data
    below = np.zeros_like(labels)
    below[:, :, 1:] = labels[:, :, :-1]
    kept = np.where(below == labels, labels, 0)
    parts["vertebrae"] = parts["vertebrae"].with_data(kept)
    parts["subregions"] = parts["subregions"].with_data(
        np.where(kept > 0, parts["subregions"].data, 0)
    )
    parts["ct"] = parts["ct"].with_data(parts["ct"].data + np.float32(offset) * (labels > 0))
    stem = f"{name}_T2w"
    write_volumes(parts, folder, stem, f"{stem}_space-iso", "desc-synth_ct")
    mr = dataset / name / "anat" / f"{stem}.nii.gz"
    (folder / f"{stem}_run.json").write_text(record_of(mr).model_dump_json())


def write_results(folder, dataset, seeds=(1_000_000, 1_000_001, 1_000_002), offset=30.0):
    """Results of one method."""
    folder.mkdir(parents=True)
    for seed in seeds:
        write_result(folder, dataset, seed, offset)
    return folder


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory):
    """Three phantoms of the test side; not to be changed."""
    return write_dataset(tmp_path_factory.mktemp("tiny") / "phantoms")


@pytest.fixture(scope="session")
def tiny_results(tmp_path_factory, tiny_dataset):
    """Two methods, one of them without a result of the last case; not to be changed."""
    folder = tmp_path_factory.mktemp("tiny-results") / "results"
    write_results(folder / "good", tiny_dataset, offset=30.0)
    write_results(folder / "poor", tiny_dataset, seeds=(1_000_000, 1_000_001), offset=90.0)
    return folder


@pytest.fixture
def makers():
    """The functions that write datasets and results, for tests that change them."""
    return {"dataset": write_dataset, "results": write_results, "result": write_result}
