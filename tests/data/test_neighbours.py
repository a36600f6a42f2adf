"""2.5D in training: which slices stand beside a slice, and that nothing else changes."""

import numpy as np
import pytest
import torch

from spinect.data.dataset import DatasetPatches
from spinect.data.neighbours import beside, slices_of
from spinect.data.options import DatasetOptions
from spinect.data.stream import PatchStream, Shown
from spinect.errors import ConfigError
from spinect.geometry import Volume
from spinect.io import write_table, write_volume
from spinect.training.config import parse_config
from spinect.training.loader import make_stream

SLICES, STILL = 7, {"rotate_deg": 0.0, "scale": 0.0, "elastic_mm": 0.0}
MASKS = ("classes", "near_bone", "centre", "offset")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """One patient of seven slices of 4 mm; slice i is noise around 100 (i + 1)."""
    root = tmp_path_factory.mktemp("set")
    shape, affine = (SLICES, 40, 48), np.diag([4.0, 1, 1, 1])
    rng = np.random.default_rng(0)
    mr = rng.uniform(60, 140, shape) * np.arange(1, SLICES + 1)[:, None, None]
    vertebrae = np.zeros(shape, np.uint8)
    vertebrae[:, 10:30, 8:40] = 22
    ct = np.where(vertebrae > 0, 300.0, 20.0) + 10 * np.arange(SLICES)[:, None, None]
    ct[:, :2] = -1000
    truth = root / "derivatives" / "truth" / "sub-1"
    write_volume(Volume(mr.astype(np.float32), affine, "mr"), root / "sub-1/anat/sub-1_T2w.nii.gz")
    write_volume(Volume(ct.astype(np.float32), affine, "ct"), truth / "sub-1_space-T2w_ct.nii.gz")
    path = truth / "sub-1_space-T2w_desc-vertebrae_dseg.nii.gz"
    write_volume(Volume(vertebrae, affine, "labels"), path)
    write_table([{"participant_id": "sub-1", "split": "train"}], root / "participants.tsv")
    return root


def patches(folder, neighbours, **options):
    slices = {"raster": "slices", "place": "anywhere", "flip": False, "patch": (1, 40, 48)}
    held = slices | STILL | {"patches_per_scan": 6} | options
    return DatasetPatches(folder, DatasetOptions(neighbours=neighbours, **held), 3, 20)


def slot_of(image, channels):
    """Which slice of the volume a patch is."""
    return int((channels[0] - image).abs().flatten(1).mean(1).argmin())


def test_a_slice_comes_first_and_the_faces_are_repeated():
    assert slices_of(4, 0, 0, 8) == [4]
    assert slices_of(4, 2, 0, 8) == [4, 2, 3, 5, 6]
    assert slices_of(0, 2, 0, 8) == [0, 0, 0, 1, 2]
    assert slices_of(8, 1, 0, 8) == [8, 7, 8]
    assert slices_of(0, 3, 0, 0) == [0] * 7


def test_channels_of_slices_lie_one_after_the_other():
    image = torch.arange(2 * 5 * 3 * 4.0).reshape(2, 5, 3, 4)
    seen = beside(image, [2, 1, 3])
    assert seen.shape == (6, 1, 3, 4)
    for place, slot in enumerate([2, 1, 3]):
        assert torch.equal(seen[2 * place : 2 * place + 2, 0], image[:, slot])


@pytest.mark.parametrize("neighbours", [1, 2, 4])
def test_a_batch_holds_the_slices_around_its_own(dataset, neighbours):
    stream = patches(dataset, neighbours)
    channels = torch.from_numpy(np.array(stream.cases[0].arrays["channels"])).float()
    met = set()
    for index in range(4):
        batch = stream[index]
        assert batch.condition.shape == (6, 3 * (2 * neighbours + 1), 1, 40, 48)
        for one in batch.condition[:, :, 0]:
            slot = slot_of(one[0], channels)
            met.add(slot)
            around = [n for n in range(slot - neighbours, slot + neighbours + 1) if n != slot]
            inner = [slot, *np.clip(around, 0, SLICES - 1)]
            wanted = torch.cat([channels[:, n] for n in inner])
            torch.testing.assert_close(one, wanted, atol=2e-3, rtol=0)
    assert {0, SLICES - 1} <= met  # the faces, too


@pytest.mark.parametrize("options", [
    {},
    {"flip": True, "mirror": (0.2, 0.2), "jitter": 0.2},
    {"copies": 4, "interpolation": "cubic", "min_pixels": 10},
    {"raster": "iso", "place": "bone", "rotate_deg": 10.0, "scale": 0.1, "elastic_mm": 2.0},
    {"task": "segment"},
], ids=["plain", "flips", "copies", "turned", "segment"])  # fmt: skip
def test_what_is_learnt_is_that_of_the_slice_alone(dataset, options):
    """The same draws with and without neighbours; jitter stretches about the slab's mean."""
    for index in range(3):
        alone, seen = patches(dataset, 0, **options)[index], patches(dataset, 1, **options)[index]
        count = alone.condition.shape[1]
        assert seen.condition.shape[1] == 3 * count
        own = seen.condition[:, :count]
        close = {"atol": 0.35, "rtol": 0} if "jitter" in options else {"atol": 1e-5, "rtol": 0}
        torch.testing.assert_close(own, alone.condition, **close)
        for name in ("inside", "target", *MASKS):
            one, other = getattr(alone, name), getattr(seen, name)
            if name == "offset" or one is None:
                assert (one is None) == (other is None)
                continue
            torch.testing.assert_close(other.float(), one.float(), atol=1e-4, rtol=0)


def test_a_mirrored_slice_has_mirrored_neighbours(dataset):
    stream = patches(dataset, 1, flip=True)
    channels = torch.from_numpy(np.array(stream.cases[0].arrays["channels"])).float()
    sides = set()
    for index in range(6):
        for one in stream[index].condition[:, :, 0]:
            slots = [slot_of(one[3 * place], channels) for place in range(3)]
            if 0 < slots[0] < SLICES - 1:
                sides.add(slots[2] - slots[1])
    assert sides == {2, -2}


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("end", ["middle", "first", "last"])
def test_a_phantom_slice_has_its_neighbours(pool, monkeypatch, end, axis):
    """The scan is drawn before its patches, so that the same scan can be asked for each slice."""
    starts = []

    def at(scene, patch, count, rng):
        del patch, rng
        last = scene.shape[axis] - 1
        own = {"middle": last // 2, "first": 0, "last": last}[end]
        around = [own, max(own - 1, 0), min(own + 1, last)]
        starts[:] = [((n, 5, 3), (), (2, 5, n))[axis] for n in around[:count]]
        return starts

    monkeypatch.setattr("spinect.data.stream.draw_patches", at)
    size = ((1, 48, 40), (), (20, 48, 1))[axis]
    single = PatchStream({pool: 1.0}, 4, size, patches_per_scan=3)[0]
    beside_it = PatchStream({pool: 1.0}, 4, size, 1, shown=Shown(neighbours=1))[0]
    assert beside_it.condition.shape == (1, 9, *size)
    wanted = torch.cat(list(single.condition))
    assert torch.equal(beside_it.condition[0], wanted)
    assert torch.equal(beside_it.classes[0], single.classes[0])
    assert torch.equal(beside_it.inside[0], single.inside[0])


def config(folder, **data):
    return parse_config({
        "name": "tiny",
        "method": {"name": "regression", "ndim": 2, "heads": ["ct"], "in_channels": 9},
        "data": {"source": "dataset", "folder": str(folder), "patch": [40, 48], "workers": 0,
                 "raster": "slices", "place": "anywhere", **STILL, "neighbours": 1, **data},
        "trainer": {"max_steps": 3},
    })  # fmt: skip


def test_the_bundle_is_told(dataset):
    made = config(dataset)
    assert made.export.preprocessing.neighbours == 1
    assert make_stream(made)[0].condition.shape == (2, 9, 40, 48)
    raw = made.model_dump()
    raw["export"]["preprocessing"]["neighbours"] = 2
    with pytest.raises(ConfigError, match=r"training sees 1 neighbours .* would say 2"):
        parse_config(raw)


def test_neighbours_are_refused_where_there_are_no_slices(dataset):
    with pytest.raises(ConfigError, match="neighbours 1 are slices beside a slice"):
        config(dataset, patch=[16, 16, 16], raster="iso")
    with pytest.raises(ConfigError, match=r"dropout 0\.3 is for guidance"):
        config(dataset, dropout=0.3)
    with pytest.raises(ConfigError, match="neighbours 2 are slices beside a slice"):
        DatasetOptions(neighbours=2)
