"""Training from a dataset folder: seeded patches whose labels move along with the image."""

import csv
import shutil

import numpy as np
import pytest
import torch

from spinect.anatomy import CLASS
from spinect.data.dataset import DatasetPatches
from spinect.data.options import DatasetOptions
from spinect.data.prepared import prepare_series
from spinect.data.series import truth_series
from spinect.data.warp import Warp, draw_warp
from spinect.errors import ConfigError, GeometryError, InputError
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.io import write_table, write_volume
from spinect.io.bids import find_patients
from spinect.protocols import OFFSET_MM

STILL = {"rotate_deg": 0.0, "scale": 0.0, "elastic_mm": 0.0, "flip": False}


@pytest.fixture(scope="module")
def dataset(tiny_pair, tmp_path_factory):
    """Two patients of the training split and one of another."""
    root = tmp_path_factory.mktemp("set")
    rows = []
    for name, split in (("sub-1", "train"), ("sub-2", "train"), ("sub-3", "other")):
        write_volume(tiny_pair.mr, root / name / "anat" / f"{name}_T2w.nii.gz")
        truth = root / "derivatives" / "truth" / name
        write_volume(tiny_pair.ct, truth / f"{name}_space-iso_ct.nii.gz")
        for kind in ("vertebrae", "subregions"):
            mask = getattr(tiny_pair, kind)
            write_volume(mask, truth / f"{name}_space-iso_desc-{kind}_dseg.nii.gz")
        rows.append({"participant_id": name, "seed": len(rows), "split": split})
    write_table(rows, root / "participants.tsv")
    return root


def prepare(folder, name, contrast):
    found = {patient.name: patient for patient in find_patients(folder)}
    return prepare_series(folder, truth_series(folder, found[name], contrast)[0])


def options(**changes):
    return DatasetOptions(**{"patch": (32, 32, 32), "patches_per_scan": 2} | changes)


def test_items_depend_on_seed_and_number_alone(dataset):
    first = DatasetPatches(dataset, options(), seed=1, length=10)
    again = DatasetPatches(dataset, options(), seed=1, length=10)
    other = DatasetPatches(dataset, options(), seed=2, length=10)
    wanted = first[3]
    held = {key: value for key, value in vars(again[3]).items() if value is not None}
    for key, value in held.items():
        assert torch.equal(vars(wanted)[key].nan_to_num(-9), value.nan_to_num(-9)), key
    assert not torch.equal(wanted.condition, other[3].condition)
    assert not torch.equal(wanted.condition, first[4].condition)
    assert wanted.condition.shape == (2, 3, 32, 32, 32)
    assert wanted.classes.shape == (2, 32, 32, 32)


def test_image_ct_and_classes_show_the_same_anatomy(dataset):
    """The pair's bodies have 220 HU, its canal 15 HU, and the air behind the back -1000 HU."""
    stream = DatasetPatches(dataset, options(patch=(48, 64, 64), **STILL), 5, 10)
    batch = stream[0]
    hu = stream.options.hu_range.to_hu(batch.target[:, 0])
    body, seen = batch.classes == CLASS["body"], batch.inside[:, 0] > 0
    assert int((body & seen).sum()) > 5000
    assert (
        float(((hu[body & seen] - 220).abs() < 1).float().mean()) > 0.8
    )  # the rest is cut by voxels
    bright = batch.condition[:, 0] > 0.8  # the canal, 900 of at most 1000 in the MR
    assert float((hu[bright & seen] - 15).abs().median()) < 1
    assert float(batch.near_bone[:, 0][body].min()) == 1
    assert float(batch.condition[:, :2].abs().amax(1)[~seen].max()) == 0


def test_offsets_point_at_the_turned_bodies(dataset):
    """The vectors of a body's voxels all end at the mean of those voxels."""
    patch = (80, 64, 64)
    stream = DatasetPatches(dataset, options(patch=patch, rotate_deg=15.0, elastic_mm=0.0), 11, 20)
    checked = 0
    for number in range(12):
        batch = stream[number]
        for classes, offset in zip(batch.classes, batch.offset, strict=True):
            body = (classes == CLASS["body"]) & ~offset[0].isnan()
            places = body.nonzero()
            while len(places) > 3000:  # the first voxel's body, then the next one
                ends = places + OFFSET_MM * offset[:, *places.T].T
                near = (ends - ends[0]).norm(dim=1) < 0.5
                own = places[near].float()
                whole = bool((own > 0).all()) and bool((own < torch.tensor(patch) - 1).all())
                if whole and len(own) > 3000:
                    assert float((own.mean(0) - ends[0]).norm()) < 0.7
                    checked += 1
                places = places[~near]
    assert checked >= 3


def test_heat_peaks_where_offsets_end(dataset):
    batch = DatasetPatches(dataset, options(patch=(48, 64, 64)), 11, 20)[0]
    heat = batch.centre[0, 0]
    body = (batch.classes[0] == CLASS["body"]) & ~batch.offset[0, 0].isnan()
    ends = body.nonzero() + OFFSET_MM * batch.offset[0][:, body].T
    inside = ((ends >= 0) & (ends <= torch.tensor([47, 63, 63]))).all(1)
    found = ends[inside].round().long()
    assert len(found) > 100
    assert float(heat[found[:, 0], found[:, 1], found[:, 2]].min()) > 0.9


def test_segmentation_sees_the_ct_and_slabs_become_slices(dataset):
    batch = DatasetPatches(dataset, options(task="segment", patch=(1, 32, 32)), 0, 5)[0]
    assert batch.condition.shape == (2, 1, 1, 32, 32)
    assert batch.target is None
    assert float(batch.condition.max()) > 0.5


def test_a_second_start_reads_the_prepared_arrays(dataset):
    made = prepare(dataset, "sub-1", "T2w")
    stamp = (made / "hu.npy").stat().st_mtime_ns
    assert (prepare(dataset, "sub-1", "T2w") / "hu.npy").stat().st_mtime_ns == stamp


def test_bad_folders_say_what_is_missing(dataset, tiny_pair, tmp_path):
    with pytest.raises(ConfigError, match=r"no patient of split 'val'; it has other, train"):
        DatasetPatches(dataset, options(split="val"), 0, 1)
    with pytest.raises(InputError, match=r"sub-1_T1w.nii.gz is missing"):
        DatasetPatches(dataset, options(contrast="T1w"), 0, 1)
    root = tmp_path / "copy"
    shutil.copytree(dataset, root)
    with (root / "participants.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    write_table([row | {"seed": 1_000_000} for row in rows], root / "participants.tsv")
    with pytest.raises(ConfigError, match="seed 1000000"):
        DatasetPatches(root, options(), 0, 1)
    truth = root / "derivatives" / "truth" / "sub-1"
    for path in truth.glob("*space-iso*"):
        path.rename(truth / path.name.replace("space-iso", "space-T2w"))
    with pytest.raises(GeometryError, match="resample it onto the MR"):
        prepare(root, "sub-1", "T2w")
    for kind, mask in (("ct", tiny_pair.ct), ("desc-vertebrae_dseg", tiny_pair.vertebrae)):
        native = resample(mask, tiny_pair.mr.grid)
        write_volume(native, truth / f"sub-1_space-T2w_{kind}.nii.gz")
    (truth / "sub-1_space-T2w_desc-subregions_dseg.nii.gz").unlink()
    assert (prepare(root, "sub-1", "T2w") / "case.json").is_file()


@pytest.mark.parametrize("mirror", [None, 0, 1])
def test_points_move_as_voxels_do(mirror):
    """A point's place in the patch is where the patch reads that point."""
    warp = draw_warp((20, 24, 28), (24, 26, 21), (12.0, 0.1, 2.0), mirror, np.random.default_rng(3))
    at = warp.sources()
    for place in ((5, 6, 7), (12, 13, 10), (20, 3, 18)):
        x, y, z = warp.moved({1: at[(slice(None), *place)].numpy()})[1]
        assert np.abs(np.array([x, y, z]) - place).max() < 0.1
    assert (np.linalg.det(warp.matrix) < 0) == (mirror is not None)


def test_without_spread_a_patch_is_a_crop():
    warp = draw_warp((10, 11, 12), (8, 7, 6), (0.0, 0.0, 0.0), None, np.random.default_rng(0))
    image = torch.randn(2, 20, 20, 20)
    box, at = warp.box((20, 20, 20))
    for mode in ("linear", "nearest"):
        read = warp.read(image[(slice(None), *box)], at, mode)
        torch.testing.assert_close(read, image[:, 7:15, 8:15, 10:16], atol=1e-4, rtol=0)


def test_reading_a_linear_image_is_exact():
    """Trilinear reading of a ramp gives the coordinate itself, and 0 beyond the image."""
    warp = Warp(np.array([9.3, 8.1, 7.7]), np.eye(3) * 0.8, torch.zeros(3, 6, 6, 6))
    ramp = torch.stack(torch.meshgrid(*[torch.arange(20.0)] * 3, indexing="ij"))
    box, at = warp.box((20, 20, 20))
    read = warp.read(ramp[(slice(None), *box)], at, "linear")
    torch.testing.assert_close(read, warp.sources().float(), atol=1e-4, rtol=0)
    away = Warp(np.array([100.0, 8, 8]), np.eye(3), torch.zeros(3, 4, 4, 4))
    box, at = away.box((20, 20, 20))
    assert float(away.read(ramp[(slice(None), *box)], at, "linear").abs().max()) == 0


def test_masks_of_unlabelled_parts_stay_whole_vertebrae(dataset, tiny_pair, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(dataset, root, ignore=shutil.ignore_patterns("*subregions*", "spinect"))
    batch = DatasetPatches(root, options(**STILL), 0, 4)[0]
    assert bool((batch.classes == 254).any())
    assert bool(batch.offset.isnan().all())
    assert isinstance(tiny_pair.mr, Volume)
