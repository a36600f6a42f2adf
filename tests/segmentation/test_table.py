"""vertebrae.tsv on bodies whose volume, place, heights and cuts are known."""

from itertools import pairwise

import numpy as np
import pytest

from spinect.geometry import Volume
from spinect.segmentation.result import Level
from spinect.segmentation.table import vertebra_rows
from spinect.workflows.outputs import TABLE_COLUMNS

SHAPE = (60, 80, 120)
BODIES = {22: 90, 23: 55, 24: 20}  # id -> lowest voxel


def turned(degrees_x, degrees_z, spacing=(1.0, 1.0, 1.0)):
    """An affine that turns about x, then z, and shifts."""
    a, b = np.deg2rad([degrees_x, degrees_z])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag(spacing)
    affine[:3, 3] = (-20, 30, 7)
    return affine


def boxes(wedge=0, shape=SHAPE):
    """Three bodies 30 x 30 x 24, each with an arch behind; `wedge` voxels lower behind."""
    vertebrae, parts = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for number, z in BODIES.items():
        for y in range(30):
            top = 24 - round(wedge * (29 - y) / 29)
            vertebrae[15:45, 40 + y, z : z + top] = number
            parts[15:45, 40 + y, z : z + top] = 50
        vertebrae[25:35, 20:30, z : z + 10] = number
        parts[25:35, 20:30, z : z + 10] = 42
    return vertebrae, parts


def rows_of(vertebrae, parts, affine=None, **more):
    affine = np.eye(4) if affine is None else affine
    given = {"levels": {}, "ct": None, "inside": np.ones(vertebrae.shape, bool), "confidence": None}
    labels = (Volume(v, affine, "labels") for v in (vertebrae, parts))
    return vertebra_rows(*labels, **(given | more))


def heights(row):
    return [row[f"height_{part}_mm"] for part in ("anterior", "middle", "posterior")]


def test_the_columns_are_those_of_the_table_head_to_feet():
    rows = rows_of(*boxes())
    drawn = ("spread_hu", "draws_found")  # of a Monte-Carlo run, and filled in by it
    assert all((*row, *drawn) == TABLE_COLUMNS for row in rows)
    assert [row["name"] for row in rows] == ["L3", "L4", "L5"]


@pytest.mark.parametrize(
    "affine", [np.eye(4), turned(12, -20), turned(0, 0, (2.0, 1.0, 1.5)), turned(8, 5, (1, 1, 2))]
)
def test_volume_centroid_and_heights_on_any_grid(affine):
    vertebrae, parts = boxes()
    voxel = abs(np.linalg.det(affine[:3, :3]))
    slice_mm = np.linalg.norm(affine[:3, 2])
    for row in rows_of(vertebrae, parts, affine):
        assert row["volume_mm3"] == pytest.approx((30 * 30 * 24 + 1000) * voxel, abs=0.1)
        mean = np.argwhere(vertebrae == row["id"]).mean(axis=0)
        place = [row[f"centroid_{axis}_mm"] for axis in "xyz"]
        np.testing.assert_allclose(place, affine[:3, :3] @ mean + affine[:3, 3], atol=0.01)
        np.testing.assert_allclose(heights(row), 24 * slice_mm, atol=0.51 * slice_mm)


def test_a_wedge_is_higher_in_front():
    for row in rows_of(*boxes(wedge=9)):
        anterior, middle, posterior = heights(row)
        # mean loss of the thirds: 1/6, 1/2 and 5/6 of nine voxels
        assert anterior == pytest.approx(24 - 1.5, abs=1)
        assert middle == pytest.approx(24 - 4.5, abs=1)
        assert posterior == pytest.approx(24 - 7.5, abs=1)


def test_front_is_where_the_arch_is_not():
    """In a body that is turned round the arch decides, not the image's front."""
    vertebrae, parts = (np.ascontiguousarray(v[:, ::-1]) for v in boxes(wedge=9))
    for row in rows_of(vertebrae, parts):
        anterior, _, posterior = heights(row)
        assert anterior > posterior + 4


def test_one_body_alone_stands_on_its_own_axis():
    vertebrae, parts = boxes()
    vertebrae[vertebrae != 23] = 0
    (row,) = rows_of(vertebrae, parts, turned(15, 0))
    np.testing.assert_allclose(heights(row), 24, atol=1.5)


def test_cuts():
    vertebrae, parts = boxes()
    inside = np.ones(SHAPE, bool)
    whole = rows_of(vertebrae, parts, inside=inside)
    assert not any(row[c] for row in whole for c in ("cut_si", "cut_ap", "cut_lr"))
    inside[:, :, 110:] = False
    inside[:, 65:, 50:] = False
    vertebrae[inside == 0] = 0
    found = {row["name"]: row for row in rows_of(vertebrae, parts, inside=inside)}
    assert [found["L3"][c] for c in ("cut_si", "cut_ap", "cut_lr")] == [True, True, False]
    assert [found["L4"][c] for c in ("cut_si", "cut_ap", "cut_lr")] == [False, True, False]
    assert not any(found["L5"][c] for c in ("cut_si", "cut_ap", "cut_lr"))
    assert heights(found["L3"]) == heights(found["L4"]) == [None] * 3
    assert None not in heights(found["L5"])
    slab = tuple(v[15:40] for v in (vertebrae, parts))
    assert all(row["cut_lr"] for row in rows_of(*slab, inside=inside[15:40]))


def test_few_voxels_at_an_edge_do_not_cut():
    vertebrae, parts = boxes()
    vertebrae[20:23, 45:48, 44:120] = 0
    vertebrae[20, 45, 114:120] = 22
    rows = rows_of(vertebrae, parts)
    assert not rows[0]["cut_si"]


def test_levels_confidence_and_hu():
    vertebrae, parts = boxes()
    hu = np.where(vertebrae == 23, 250.0, -1000.0).astype(np.float32)
    rows = rows_of(
        vertebrae,
        parts,
        levels={22: Level(22, 0.75, "sacrum"), 23: Level(23, float("nan"), "user")},
        ct=Volume(hu, np.eye(4), "ct"),
        confidence={23: 0.5},
    )
    assert [row["level_p"] for row in rows] == [0.75, None, None]
    assert [row["level_source"] for row in rows] == ["sacrum", "user", None]
    assert [row["synthetic_hu_mean"] for row in rows] == [-1000.0, 250.0, -1000.0]
    assert [row["confidence"] for row in rows] == [None, 0.5, None]
    assert all(row["synthetic_hu_mean"] is None for row in rows_of(vertebrae, parts))


def test_nothing_there_and_no_subregions():
    vertebrae, parts = boxes()
    assert rows_of(np.zeros_like(vertebrae), parts) == ()
    rows = rows_of(vertebrae, np.zeros_like(parts))
    assert [heights(row) for row in rows] == [[None] * 3] * 3
    assert all(row["volume_mm3"] > 0 for row in rows)


def test_the_sacrum_has_a_row_without_heights():
    vertebrae, parts = boxes()
    vertebrae[vertebrae == 24] = 26
    rows = rows_of(vertebrae, parts)
    assert [row["name"] for row in rows] == ["L3", "L4", "S1"]
    assert heights(rows[-1]) == [None] * 3
    assert all(a["centroid_z_mm"] > b["centroid_z_mm"] for a, b in pairwise(rows))
