"""Numbers of masks that can be worked out by hand."""

import numpy as np
import pytest

from spinect.geometry import Grid, Volume
from spinect.inference import MaskHeads
from spinect.segmentation.plausible import canal_share, doubt_of, shape_of, whole_agreement
from spinect.segmentation.result import Segmentation

SHAPE = (40, 60, 120)
STEP, TALL, WIDE, DEEP = 30, 20, 20, 24  # mm
LEVELS = (22, 23, 24)


def column(halves=(10, 30), canal=True, spacing=1.0):
    """Three box bodies, each with a box behind it, and a canal between, feet at z = 10."""
    names, parts = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
    wide = slice(*halves)
    for k, level in enumerate(reversed(LEVELS)):
        tall = slice(10 + STEP * k, 10 + STEP * k + TALL)
        body, behind = (wide, slice(30, 30 + DEEP), tall), (wide, slice(8, 20), tall)
        names[body], parts[body] = level, 50
        names[behind], parts[behind] = level, 42
    if canal:
        parts[18:22, 22:28] = 61
    affine = np.diag([spacing, spacing, spacing, 1.0])
    return Segmentation(Volume(names, affine, "labels"), Volume(parts, affine, "labels"))


def heads(probability, classes=None):
    """Mask heads of which only classes and probability matter."""
    values = np.asarray(probability, np.uint8)
    empty = np.zeros(values.shape, np.uint8)
    made = np.where(values >= 128, 2, 0).astype(np.uint8) if classes is None else classes
    offset = np.zeros((3, *values.shape), np.int8)
    return MaskHeads(Grid(values.shape), made, values, empty, offset, values >= 0)


@pytest.mark.parametrize("spacing", [1.0, 0.5])
def test_a_column_of_boxes(spacing):
    shape = shape_of(column(spacing=spacing))
    whole = WIDE * DEEP * TALL * spacing**3 / 1000
    assert shape.vertebrae == 3
    assert shape.body_ml == pytest.approx((whole, whole))
    assert shape.step_mm == pytest.approx((STEP * spacing, STEP * spacing))
    assert shape.canal == 1.0
    assert shape.posterior == pytest.approx(12 / DEEP)
    assert shape.halved == 0.0


@pytest.mark.parametrize(
    ("halves", "halved"), [((0, 12), 1.0), ((26, 40), 1.0), ((0, 40), 0.0), ((10, 30), 0.0)]
)
def test_a_body_is_halved_by_one_side_only(halves, halved):
    """A slab that both sides cut is narrow, not cut in half."""
    shape = shape_of(column(halves))
    assert shape.halved == halved
    assert (shape.body_ml is None) == (halves != (10, 30))  # what a face cuts has no volume


def test_one_body_at_a_face_of_three():
    found = column()
    names = found.vertebrae.data
    names[10:30, :, :30] = 0
    names[0:20, 30:54, 10:30] = 24
    found.subregions.data[0:20, 30:54, 10:30] = 50
    assert shape_of(found).halved == pytest.approx(1 / 3)


def test_without_canal_posterior_elements_or_anything():
    found = column(canal=False)
    parts = np.where(found.subregions.data == 50, 50, 0).astype(np.uint8)
    bare = shape_of(Segmentation(found.vertebrae, found.subregions.with_data(parts)))
    assert (bare.canal, bare.posterior) == (0.0, 0.0)
    nothing = found.vertebrae.with_data(np.zeros(SHAPE, np.uint8))
    empty = shape_of(Segmentation(nothing, nothing))
    assert empty.vertebrae == 0
    assert (empty.body_ml, empty.step_mm, empty.canal, empty.posterior) == (None,) * 4
    assert shape_of(Segmentation(found.vertebrae, nothing)).vertebrae == 3  # masks without bodies


def test_the_sacrum_is_not_counted():
    found = column()
    names = np.where(found.vertebrae.data == 24, 26, found.vertebrae.data)
    assert shape_of(Segmentation(found.vertebrae.with_data(names), found.subregions)).vertebrae == 2


def test_a_gap_in_the_canal_counts_by_its_length():
    """Bodies 100 mm apart in one line, canal beside the upper 60 mm: samples 0, 5 ... 95."""
    centres = np.array([[0.0, 0, 100], [0.0, 0, 0]])
    z = np.arange(40, 101, 1.0)
    canal = np.stack([0 * z, 0 * z - 25, z], 1)
    # Levels 100, 95 ... 35 lie within 5 mm of the canal's, 30, 25 ... 5 do not.
    assert canal_share(centres, canal) == pytest.approx(14 / 20)
    assert canal_share(centres, canal - [0, 30, 0]) == 0.0  # 55 mm behind is another's
    assert canal_share(centres, np.zeros((0, 3))) == 0.0
    assert canal_share(centres[:1], canal) == 1.0
    assert canal_share(centres[1:], canal) == 0.0


def test_doubt_is_weighted_by_probability():
    values = np.zeros((4, 40, 40), np.uint8)
    assert doubt_of(heads(values)) is None
    values[0, :20] = 255
    assert doubt_of(heads(values)) is None  # 0.8 mL
    values[0], values[1] = 255, 51  # p of 1 and of 0.2
    assert doubt_of(heads(values)) == pytest.approx(0.2 * 0.8 / 1.2)
    assert doubt_of(heads(np.where(values > 0, 255, 0))) == 0.0


def test_agreement_counts_what_belongs_to_no_vertebra():
    found = column()
    bone = found.vertebrae.data > 0
    classes = np.where(bone, 2, 0).astype(np.uint8)
    assert whole_agreement(heads(255 * bone, classes), found) == 1.0
    elsewhere = classes.copy()
    extra = np.count_nonzero(bone) // 2
    elsewhere.ravel()[np.flatnonzero(~bone)[:extra]] = 5
    assert whole_agreement(heads(255 * bone, elsewhere), found) == pytest.approx(0.8, abs=1e-4)
    assert whole_agreement(heads(255 * bone, np.zeros_like(classes)), found) == 0.0
    nothing = found.vertebrae.with_data(np.zeros(SHAPE, np.uint8))
    none = heads(np.zeros(SHAPE), np.zeros_like(classes))
    assert whole_agreement(none, Segmentation(nothing, nothing)) == 1.0


def test_agreement_across_grids():
    """The same voxels on a grid that is stored the other way round."""
    found = column()
    classes = np.where(found.vertebrae.data > 0, 3, 0).astype(np.uint8)
    turned = Segmentation(found.vertebrae.reoriented("PIL"), found.subregions.reoriented("PIL"))
    assert whole_agreement(heads(255 * (classes > 0), classes), turned) == 1.0
