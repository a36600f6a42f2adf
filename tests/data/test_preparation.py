"""Preparation of a dataset: scalings, slices, crops, ramps, jitter, what is kept on disk."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from spinect.anatomy import CLASS_UNKNOWN
from spinect.data.appearance import in_range, jitter, ramps
from spinect.data.dataset import DatasetPatches
from spinect.data.elastic import Elastic
from spinect.data.intensity import GRAF_HU, mr_from_unit, unit_of_max
from spinect.data.options import DatasetOptions
from spinect.data.prepared import Case, Working, build_case, prepare_series
from spinect.data.series import find_series
from spinect.errors import ConfigError
from spinect.geometry import Volume
from spinect.io import write_table, write_volume
from spinect.protocols import without_image

SHAPE = (20, 44, 40)
PLAIN = DatasetOptions(
    patch=(8, 16, 16), intensity="max", place="anywhere", rotate_deg=0, scale=0, elastic_mm=0,
    flip=False, hu_range=GRAF_HU, patches_per_scan=1,
)  # fmt: skip
FULL = {"copies": 10, "elastic": Elastic(rule="voxels"), "jitter": 0.2, "dropout": 0.3}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two patients of 1 mm whose MR says where it is, one of each split; sub-1 has two series."""
    root = tmp_path_factory.mktemp("set")
    x, y, z = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    mr = (1 + x + 3 * y + 7 * z).astype(np.float32)
    vertebrae = np.zeros(SHAPE, np.uint8)
    vertebrae[6:14, 10:30, 5:18], vertebrae[6:14, 10:30, 22:36] = 22, 21
    vertebrae[15, 20, 20:25] = 21  # five pixels in a slice
    ct = np.where(vertebrae > 0, 700.0, 40.0).astype(np.float32)
    ct[:, :4] = -1000
    valid = np.ones(SHAPE, np.uint8)
    valid[:, :, :4] = 0
    affine = np.eye(4)
    rows = []
    for person, split, series in (("sub-1", "train", "_run-1"), ("sub-1", "train", "_run-2"),
                                  ("sub-2", "validation", "")):  # fmt: skip
        write_volume(
            Volume(mr, affine, "mr"), root / person / "anat" / f"{person}{series}_T2w.nii.gz"
        )
        stem = root / "derivatives" / "truth" / person / f"{person}{series}_space-iso"
        for end, data, kind in (("ct", ct, "ct"), ("desc-vertebrae_dseg", vertebrae, "labels"),
                                ("desc-subregions_dseg", (vertebrae > 0) * np.uint8(50), "labels"),
                                ("desc-valid_mask", valid, "labels")):  # fmt: skip
            write_volume(Volume(data, affine, kind), stem.with_name(f"{stem.name}_{end}.nii.gz"))
        if not rows or rows[-1]["participant_id"] != person:
            rows.append({"participant_id": person, "split": split})
    write_table(rows, root / "participants.tsv")
    return root


def stream(folder, seed=1, **changes):
    return DatasetPatches(folder, replace(PLAIN, **changes), seed, 1000)


def where(batch):
    """First voxel of a patch, from its ramps."""
    return [round(float(batch.condition[0, a + 1].min()) * (n - 1)) for a, n in enumerate(SHAPE)]


def test_scalings_have_inverses():
    hu = torch.linspace(-1000, 1000, 41)
    torch.testing.assert_close(GRAF_HU.to_unit(hu), hu / 1000)
    torch.testing.assert_close(GRAF_HU.to_hu(GRAF_HU.to_unit(hu)), hu, atol=1e-3, rtol=0)
    assert GRAF_HU.to_unit(torch.tensor([-2000.0, 3000])).tolist() == [-1, 1]
    mr = torch.rand(3, 4, 5) * 800
    torch.testing.assert_close(mr_from_unit(unit_of_max(mr, 800.0), 800.0), mr)
    assert unit_of_max(torch.tensor([-5.0, 900]), 800.0).tolist() == [0, 1]
    assert float(unit_of_max(mr, 0.0).max()) == 0


def test_every_series_of_a_patient_is_read(dataset):
    cases = stream(dataset).cases
    assert [c.name for c in cases] == ["sub-1_run-1_T2w", "sub-1_run-2_T2w"]
    assert [c.name for c in stream(dataset, split="validation").cases] == ["sub-2_T2w"]


@pytest.mark.parametrize("mirror", [(0.0, 0.0), (0.5, 0.5)])
def test_ramps_say_where_in_the_whole_volume_a_voxel_lies(dataset, mirror):
    """The MR is a function of the position, so it tells the same as the ramps, mirrored or not."""
    made = stream(dataset, ramps=True, mirror=mirror)
    weights = torch.tensor([1.0, 3.0, 7.0])
    most = 1 + float(weights @ (torch.tensor(SHAPE) - 1.0))
    falling = 0
    for number in range(12):
        mr, *position = made[number].condition[0]
        place = torch.stack(position) * (torch.tensor(SHAPE) - 1)[:, None, None, None]
        told = 1 + torch.einsum("c,cxyz->xyz", weights, place)
        torch.testing.assert_close((mr + 1) / 2 * most, told, atol=0.3, rtol=0)
        falling += sum(bool(p.diff(dim=a).min() < 0) for a, p in enumerate(position))
    assert falling == (0 if mirror == (0.0, 0.0) else 12)


def test_crops_hold_what_lies_there(dataset):
    made = stream(dataset, ramps=True)
    arrays = made.cases[0].arrays
    corners = set()
    for number in range(20):
        batch = made[number]
        first = where(batch)
        box = tuple(slice(a, a + p) for a, p in zip(first, PLAIN.patch, strict=True))
        hu = torch.from_numpy(arrays["hu"][box].astype(np.float32))
        torch.testing.assert_close(batch.target[0, 0], hu / 1000, atol=1e-5, rtol=0)
        valid = torch.from_numpy(arrays["valid"][box].astype(np.float32))
        assert torch.equal(batch.inside[0, 0], valid)
        assert ((batch.classes[0] == CLASS_UNKNOWN) == (valid == 0)).all()
        corners.add(tuple(first))
    assert len(corners) > 15


def test_a_small_volume_is_padded_as_said(dataset):
    """Nothing around it, or its mirror image; the ramps count the padding."""
    patch = (24, 32, 48)
    made = stream(dataset, patch=patch, ramps=True, split="validation")
    batch = made[0]
    assert float(batch.inside[0, 0, :2].max()) == 0  # 20 voxels in 24
    assert float(batch.inside[0, 0, 2:22, :, 8:44].min()) == 1
    assert float(batch.condition[0, 0, :2].max()) == -1
    assert batch.condition[0, 1, :, 0, 0].tolist() == pytest.approx(np.linspace(0, 1, 24))
    folded = stream(dataset, patch=patch, ramps=True, split="validation", border="mirror")[0]
    for now, then in ((1, 3), (0, 4), (22, 20)):
        torch.testing.assert_close(folded.condition[0, 0, now], folded.condition[0, 0, then])
        assert torch.equal(folded.inside[0, 0, now], folded.inside[0, 0, then])


def test_slices_with_few_pixels_are_left_out(dataset):
    """Slice 15 shows five pixels; 14 and more show none, 6 to 13 show 540."""
    changes = {"patch": (1, 48, 40), "raster": "slices", "min_pixels": 10, "copies": 1}
    made = stream(dataset, **changes)
    seen = [int((made[n].classes == 2).sum()) for n in range(40)]
    assert min(seen) > 400  # what the CT does not show is unknown
    few = stream(dataset, **(changes | {"min_pixels": 0}))
    assert min(int((few[n].classes == 2).sum()) for n in range(40)) == 0
    with pytest.raises(ConfigError, match="no slice of 2 series shows 3000 pixels"):
        stream(dataset, **(changes | {"min_pixels": 3000}))


def test_masks_keep_their_labels_in_every_copy(dataset):
    made = stream(dataset, **FULL, patch=(16, 32, 32), border="mirror")
    for number in range(10):
        classes = set(made[number].classes.unique().tolist())
        assert classes <= {0, 1, 2, CLASS_UNKNOWN}


def test_items_depend_on_seed_and_number_alone(dataset):
    wanted = stream(dataset, **FULL, interpolation="cubic")[7]
    again = stream(dataset, **FULL, interpolation="cubic", cache=False)[7]
    for key, value in vars(again).items():
        torch.testing.assert_close(value, vars(wanted)[key], equal_nan=True)
    other = stream(dataset, seed=2, **FULL, interpolation="cubic")[7]
    assert not torch.equal(other.condition, wanted.condition)


@pytest.mark.parametrize("scale", ["max", "robust"])
def test_cubic_splines_do_not_leave_the_scale(scale):
    """They overshoot at edges; a network must not see in training what inference clips."""
    image = torch.tensor([[-0.2, 0.5, 9.0], [0.1, -3.0, 4.5]])[: 1 if scale == "max" else 2]
    seen = in_range(image[..., None, None], scale)[..., 0, 0]
    expected = {"max": [[0, 0.5, 1]], "robust": [[0, 0.5, 1.5], [0.1, 0, 4]]}[scale]
    torch.testing.assert_close(seen, torch.tensor(expected))


def test_deformed_copies_stay_on_their_scale(dataset):
    changes = FULL | {"interpolation": "cubic", "jitter": 0.0, "intensity": "max", "copies": 10}
    made = stream(dataset, **changes)
    for number in range(10):
        condition = made[number].condition[:, 0]
        assert condition.min() >= -1
        assert condition.max() <= 1


def test_validation_sees_the_scan_as_it_is(dataset):
    """No copy, no jitter, no grey, no mirror, the middle; also if the seed changes."""
    varied = FULL | {"mirror": (0.5, 0.5), "split": "validation"}
    batch = stream(dataset, **varied)[3]
    assert torch.equal(batch.condition, stream(dataset, seed=9, **varied)[5].condition)
    x, y, z = (torch.arange(p) + (n - p) // 2 for p, n in zip(PLAIN.patch, SHAPE, strict=True))
    told = 1 + x[:, None, None] + 3 * y[:, None] + 7 * z
    most = 1 + 19 + 3 * 43 + 7 * 39
    torch.testing.assert_close(
        (batch.condition[0, 0] + 1) / 2 * most, told.float(), atol=0.3, rtol=0
    )
    trained = stream(dataset, **(varied | {"augment": "on"}))
    assert not torch.equal(trained[3].condition, batch.condition)


def test_jitter_is_that_of_the_formula_and_leaves_the_ct_alone(dataset):
    image, seen = torch.rand(1, 1, 8, 9), torch.ones(1, 1, 8, 9)
    seen[..., :2] = 0
    out = jitter(image, seen, "max", 0.2, np.random.default_rng(5))
    bright, contrast = 1 + 0.2 * np.random.default_rng(5).uniform(-1, 1, 2)
    wanted = (image * bright).clamp(0, 1)
    mean = wanted[seen > 0].mean()
    wanted = ((wanted - mean) * contrast + mean).clamp(0, 1) * seen
    torch.testing.assert_close(out, wanted)
    plain, varied = stream(dataset), stream(dataset, jitter=0.2)
    changed = 0
    for number in range(6):
        assert torch.equal(plain[number].target, varied[number].target)
        changed += not torch.equal(plain[number].condition, varied[number].condition)
    assert changed == 6


def test_dropped_conditions_are_mid_grey(dataset):
    made = stream(dataset, dropout=0.5, ramps=True)
    flat = [bool((made[n].condition[0, 0] == 0).all()) for n in range(60)]
    assert 15 < sum(flat) < 45
    assert all(float(made[n].condition[0, 1].std()) > 0 for n in range(5))
    robust = stream(dataset, dropout=1.0, intensity="robust")[0]
    seen = robust.condition[:, 2:]
    torch.testing.assert_close(robust.condition, torch.cat([0.5 * seen, seen, seen], dim=1))
    torch.testing.assert_close(robust.condition, without_image(robust.condition, "robust"))


@pytest.mark.parametrize("intensity", ["max", "robust"])
def test_a_method_drops_what_training_drops(dataset, intensity):
    """From the condition alone, also where a patch sticks out of the volume."""
    options = {"ramps": True, "intensity": intensity, "patch": (24, 48, 48)}
    kept, dropped = (stream(dataset, dropout=p, **options) for p in (1e-9, 1.0))
    for number in range(4):
        image, none = kept[number].condition, dropped[number].condition
        assert torch.equal(without_image(image, intensity), none)
        assert not torch.equal(image, none)


def test_ramps_of_a_part_are_the_part_of_the_ramps():
    places = torch.stack(torch.meshgrid(*[torch.arange(-4.0, n + 4) for n in SHAPE], indexing="ij"))
    whole = ramps(places, SHAPE, (8, 8, 8))
    assert whole[0, 4:-4, 0, 0].tolist() == pytest.approx(np.linspace(0, 1, SHAPE[0]))
    assert float(whole.min()) == 0
    assert float(whole.max()) == 1


def test_native_slices_keep_their_thickness(tiny_pair, tmp_path):
    write_volume(tiny_pair.mr, tmp_path / "sub-1" / "anat" / "sub-1_T2w.nii.gz")
    for kind, end in (("ct", "ct"), ("vertebrae", "desc-vertebrae_dseg"),
                      ("subregions", "desc-subregions_dseg")):  # fmt: skip
        path = tmp_path / "derivatives" / "truth" / "sub-1" / f"sub-1_space-iso_{end}.nii.gz"
        write_volume(getattr(tiny_pair, kind), path)
    series = find_series(tmp_path, ["sub-1"], "T2w", "auto")[0]
    case = build_case(series, Working("slices", "max"))
    native = tiny_pair.mr.grid.canonical()
    assert case.shape[0] == native.shape[0]
    assert case.spacing == pytest.approx((native.spacing[0], 1, 1))
    cubes = build_case(series, Working("iso", "max"))
    assert cubes.spacing == (1, 1, 1)
    for vertebra, centre in case.centres.items():  # voxels; equal in mm from the first face
        ends = [(c + 0.5) * s for c, s in zip(centre, case.spacing, strict=True)]
        assert ends == pytest.approx(list(cubes.centres[vertebra] + 0.5), abs=1.2)
    assert np.abs(case.arrays["distance"][case.arrays["vertebrae"] > 0]).max() > 0


def test_what_is_kept_follows_content_and_settings(dataset, tmp_path):
    root = tmp_path / "copy"
    shutil.copytree(dataset, root, ignore=shutil.ignore_patterns("spinect"))
    series = find_series(root, ["sub-2"], "T2w", "auto")[0]
    made = prepare_series(root, series)
    stamp = (made / "hu.npy").stat().st_mtime_ns
    os.utime(series.mr, ns=(1, 1))  # another time, the same content
    assert prepare_series(root, series) == made
    assert (made / "hu.npy").stat().st_mtime_ns == stamp
    other = prepare_series(root, series, Working("slices", "max"))
    assert other != made
    assert made.is_dir()
    hu = np.full(SHAPE, 99, np.float32)
    hu[:, :4] = -1000
    write_volume(Volume(hu, np.eye(4), "ct"), series.parts["ct"])
    fresh = prepare_series(root, series)
    assert fresh != made
    assert not made.exists()  # of an older content
    assert other.is_dir()
    assert Case.load("x", fresh).arrays["hu"].max() == 99
    assert sorted(p.name for p in fresh.parent.iterdir()) == sorted([fresh.name, other.name])


def test_half_made_arrays_are_never_used(dataset, tmp_path, monkeypatch):
    root = tmp_path / "copy"
    shutil.copytree(dataset, root, ignore=shutil.ignore_patterns("spinect"))
    series = find_series(root, ["sub-2"], "T2w", "auto")[0]

    def fail(*_args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("spinect.data.prepared.write_json", fail)
        with pytest.raises(KeyboardInterrupt):
            prepare_series(root, series)
    assert list((root / "derivatives" / "spinect" / series.name).iterdir()) == []
    assert (prepare_series(root, series) / "case.json").is_file()
    without = DatasetPatches(root, replace(PLAIN, cache=False, split="validation"), 1, 1)
    assert without[0].condition.shape == (1, 1, *PLAIN.patch)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"raster": "slices"}, "raster slices is for 2D, the patch is 8 x 16 x 16"),
        ({"min_pixels": 10}, "min_pixels is for 2D"),
        ({"rotate_deg": 5.0}, "set rotate_deg, scale and elastic_mm to 0"),
        ({"flip": True, "mirror": (0.4, 0.2)}, "exceed 1"),
    ],
)
def test_contradictions_are_refused(changes, told):
    with pytest.raises(ConfigError, match=told):
        replace(PLAIN, **changes)
