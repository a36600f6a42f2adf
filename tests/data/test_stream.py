"""The training stream: reproducible, refusing, and shaped as the networks expect."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from spinect.anatomy import CLASS
from spinect.data.augment import FieldOfView, view
from spinect.data.stream import PatchStream, draw_patches, pad, training_maps
from spinect.errors import ConfigError
from spinect.phantom.maps import TissueMap

PATCH = (32, 40, 48)


def same(first, second):
    for field in fields(first):
        a, b = getattr(first, field.name), getattr(second, field.name)
        if a is None:
            assert b is None
        else:
            assert torch.equal(a.nan_to_num(7), b.nan_to_num(7)), field.name


@pytest.mark.parametrize("task", ["translate", "segment"])
def test_items_depend_on_seed_and_index_alone(pool, task):
    stream = PatchStream({pool: 1.0}, seed=3, patch=PATCH, task=task)
    again = PatchStream({pool: 1.0}, seed=3, patch=PATCH, task=task)
    items = [stream[i] for i in (0, 1)]
    same(items[1], again[1])
    same(items[0], again[0])
    assert not torch.equal(items[0].condition, items[1].condition)
    other = PatchStream({pool: 1.0}, seed=4, patch=PATCH, task=task)
    assert not torch.equal(items[0].condition, other[0].condition)


def test_workers_give_the_same_items(pool):
    stream = PatchStream({pool: 1.0}, seed=5, patch=PATCH, length=3)
    loaded = list(DataLoader(stream, batch_size=None, num_workers=1))
    assert len(loaded) == 3
    same(loaded[2], stream[2])


def test_translate_items_have_the_shapes_of_a_batch(pool):
    stream = PatchStream({pool: 1.0}, seed=0, patch=PATCH, patches_per_scan=3)
    vertebra = 0
    for index in range(4):
        batch = stream[index]
        assert batch.condition.shape == (3, 3, *PATCH)
        assert batch.inside.shape == batch.target.shape == batch.near_bone.shape == (3, 1, *PATCH)
        assert batch.classes.shape == (3, *PATCH)
        assert batch.classes.dtype == torch.uint8
        assert batch.centre.shape == (3, 1, *PATCH)
        assert batch.offset.shape == (3, 3, *PATCH)
        assert torch.isfinite(batch.condition).all()
        assert batch.target.abs().max() <= 1
        outside = batch.condition[:, 2:] == 0
        assert batch.condition[outside.expand_as(batch.condition)].abs().sum() == 0
        assert batch.inside[outside].sum() == 0
        vertebra += int(((batch.classes >= 2) & (batch.classes <= 7)).sum())
    assert vertebra > 0


def test_segment_items_see_a_ct_with_bone_brighter_than_soft_tissue(pool):
    stream = PatchStream({pool: 1.0}, seed=0, patch=PATCH, task="segment")
    bone, soft = [], []
    for index in range(4):
        batch = stream[index]
        assert batch.condition.shape == (2, 1, *PATCH)
        assert batch.target is None
        body = (batch.classes >= 2) & (batch.classes <= 7)
        canal = batch.classes == CLASS["canal"]
        bone.append(batch.condition[:, 0][body])
        soft.append(batch.condition[:, 0][canal])
    assert torch.cat(bone).mean() > torch.cat(soft).mean() + 0.2


def test_test_seeds_are_refused(pool, tmp_path):
    held = TissueMap.load(pool / "sub-11")
    replace(held, subject=replace(held.subject, seed=1_000_003)).save(tmp_path / "sub-x")
    with pytest.raises(ConfigError, match="seed 1000003: seeds from 1000000 on are for testing"):
        PatchStream({tmp_path: 1.0}, seed=0)


def test_empty_pools_and_useless_weights_are_refused(pool, tmp_path):
    with pytest.raises(ConfigError, match="holds no tissue maps"):
        training_maps(tmp_path)
    with pytest.raises(ConfigError, match="positive weight"):
        PatchStream({pool: 0.0}, seed=0)


def test_patches_touch_the_scan_and_narrow_scans_lie_within_them(pool):
    tissue_map = TissueMap.load(pool / "sub-11")
    shape = (14, 110, 80)
    field = FieldOfView(shape, (34.5, 54.5, 39.5), np.eye(3), False)
    scene = view(tissue_map, field)
    rng = np.random.default_rng(0)
    for start in draw_patches(scene, PATCH, 60, rng):
        for at, size, n in zip(start, PATCH, shape, strict=True):
            low, high = min(0, n - size), max(0, n - size)
            assert low <= at <= high


def test_pad_puts_the_scan_where_the_patch_says():
    x = torch.arange(6.0).view(2, 3, 1)
    out = pad(x, (-1, 0, -2), (4, 3, 5), -9.0)
    assert out.shape == (4, 3, 5)
    assert torch.equal(out[1:3, :, 2], x[..., 0])
    assert (out == -9).sum() == out.numel() - 6
