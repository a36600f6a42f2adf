"""Spinous length and canal width on boxes, ellipses and a phantom of known size."""

import math

import numpy as np
import pytest

from spinect.evaluation.measures import at
from spinect.evaluation.shape import Spine, canal_width, shape_values, spinous_length
from spinect.geometry import Grid, Volume
from spinect.phantom.anatomy import levels, make_subject, rasterise

L3 = 22


def vertebra(spacing=(1.0, 1.0, 1.0), width=20.0, length=30.0, offset=0.0, canal=True):
    """A box for a body, pedicles, lamina and spinous process (x right, y front, z head; mm).

    The canal is an ellipse `width` across. Faces of the pedicles and ends of the process lie where
    the arguments say; `offset` moves everything against the voxels.
    """
    grid = Grid((1, 1, 1)).with_spacing(1.0)
    size = np.array([70.0, 100.0, 40.0])
    shape = np.round(size / spacing).astype(int)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = np.array(spacing) / 2 - size / 2  # outer faces at -size / 2
    grid = Grid(tuple(shape), affine)
    x, y, z = np.moveaxis(grid.world(np.moveaxis(np.indices(shape), 0, -1)), -1, 0) - offset
    upper = np.abs(z) < 10
    subregions = np.zeros(shape, np.uint8)
    subregions[(np.abs(x) < 18) & (y > 10) & (y < 40) & (np.abs(z) < 12)] = 50
    half = width / 2
    arch = (np.abs(x) > half) & (np.abs(x) < half + 6) & (y > -12) & (y < 10)
    arch |= (np.abs(x) < half + 6) & (y > -16) & (y <= -12)
    subregions[arch & upper] = 41
    subregions[(np.abs(x) < 3) & (y < -16) & (y > -16 - length) & upper] = 42
    vertebrae = np.where(subregions > 0, L3, 0).astype(np.uint8)
    inside = (x / half) ** 2 + (y / 8) ** 2 < 1
    if canal:
        subregions[inside & (subregions == 0)] = 61
    return Volume(vertebrae, affine, "labels"), Volume(subregions, affine, "labels")


def test_boxes_on_voxel_faces_are_measured_exactly():
    spine = Spine.of(*vertebra())
    assert spinous_length(spine, L3) == pytest.approx(30, abs=0.01)
    assert canal_width(spine, L3, "arch") == pytest.approx(20, abs=1e-9)
    assert canal_width(spine, L3, "canal") == pytest.approx(20, abs=1e-9)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.5, 0.5, 2.0), (2.0, 0.5, 0.5)])
@pytest.mark.parametrize("offset", [0.0, 0.13, 0.37, 0.5, 0.71])
@pytest.mark.parametrize(("width", "length"), [(18.0, 24.0), (21.3, 30.6), (25.7, 33.9)])
def test_errors_stay_below_one_voxel_wherever_the_shape_lies(spacing, offset, width, length):
    spine = Spine.of(*vertebra(spacing, width, length, offset))
    assert spinous_length(spine, L3) == pytest.approx(length, abs=spacing[1] + 0.01)
    assert canal_width(spine, L3, "arch") == pytest.approx(width, abs=spacing[0] + 1e-9)
    ellipse = 0.1 * spacing[0]  # the row of the largest diameter lies between voxel centres
    assert canal_width(spine, L3, "canal") == pytest.approx(width, abs=spacing[0] + ellipse)


@pytest.mark.parametrize("axes", ["PSR", "LIA"])
def test_axes_of_the_array_change_nothing(axes):
    straight = Spine.of(*vertebra(width=21.3))
    turned = Spine.of(*[v.reoriented(axes) for v in vertebra(width=21.3)])
    assert spinous_length(turned, L3) == pytest.approx(spinous_length(straight, L3))
    for rule in ("canal", "arch"):
        assert canal_width(turned, L3, rule) == pytest.approx(canal_width(straight, L3, rule))


def test_a_stray_voxel_makes_no_process_longer():
    vertebrae, subregions = vertebra()
    vertebrae.data[35, 0, 20], subregions.data[35, 0, 20] = L3, 42
    subregions.data[3, 50, 20] = 61
    spine = Spine.of(vertebrae, subregions)
    assert spinous_length(spine, L3) == pytest.approx(30, abs=0.2)
    assert canal_width(spine, L3, "canal") == pytest.approx(20, abs=0.2)


def test_widths_are_taken_at_their_own_height():
    vertebrae, subregions = vertebra()
    low, high = np.s_[27:43, 52:60, 10:16], np.s_[10:60, 46:54, 32:36]
    vertebrae.data[low], subregions.data[low] = L3, 47  # facets below the pedicles, in the way
    subregions.data[high] = 61  # a canal that is wide above the body's middle
    spine = Spine.of(vertebrae, subregions)
    assert canal_width(spine, L3, "arch") == pytest.approx(20, abs=0.2)
    assert canal_width(spine, L3, "canal") == pytest.approx(20, abs=0.2)


def test_errors_are_predicted_minus_true():
    truth = Spine.of(*vertebra(width=20, length=30))
    found = shape_values(Spine.of(*vertebra(width=24, length=26)), truth, {L3: L3})
    assert at(found, "spinous_process", "spinous_length_error", "L3") == pytest.approx(-4, abs=0.01)
    assert at(found, "canal", "canal_width_error", "L3") == pytest.approx(4)
    assert at(found, "canal", "canal_width_error") == pytest.approx(4)


def test_both_maps_follow_one_rule_where_one_has_no_canal():
    truth = Spine.of(*vertebra(width=20))
    found = shape_values(Spine.of(*vertebra(width=24, canal=False)), truth, {L3: L3})
    value = next(v for v in found if v.region == "canal" and v.item == "L3")
    assert value.value == pytest.approx(4)
    assert "between the arches" in value.note


def test_what_is_missing():
    vertebrae, subregions = vertebra()
    bodies = subregions.with_data(np.where(subregions.data == 50, 50, 0).astype(np.uint8))
    truth, lacking = Spine.of(vertebrae, subregions), Spine.of(vertebrae, bodies)
    assert spinous_length(lacking, L3) is None
    assert canal_width(lacking, L3, "arch") is canal_width(lacking, L3, "canal") is None
    omitted = shape_values(lacking, truth, {L3: L3})
    error = next(v for v in omitted if v.region == "spinous_process")
    assert error.value == pytest.approx(-30, abs=0.01)  # left out: length 0
    assert error.note.startswith("no spinous process")
    assert math.isnan(at(omitted, "canal", "canal_width_error"))
    for found in (shape_values(truth, lacking, {L3: L3}), shape_values(truth, truth, {L3: 0})):
        assert math.isnan(at(found, "spinous_process", "spinous_length_error"))
        assert math.isnan(at(found, "canal", "canal_width_error", "L3"))
    assert math.isnan(at(shape_values(truth, truth, {}), "canal", "canal_width_error"))


def test_width_between_the_pedicles_of_a_phantom():
    """The bony canal of a phantom is a rounded triangle, `canal_half` wide at its front."""
    anatomy = make_subject(1_000_001)
    wanted = {level.vertebra: level for level in levels(anatomy) if level.vertebra in (20, 21)}
    middle = np.mean([level.centre for level in wanted.values()], axis=0)
    affine = np.eye(4)
    affine[:3, 3] = np.round(middle) - [40, 85, 45]
    truth = rasterise(anatomy, Grid((80, 100, 90), affine))
    maps = [Volume(d, truth.grid.affine, "labels") for d in (truth.vertebrae, truth.subregions)]
    spine = Spine.of(*maps)
    for number, level in wanted.items():
        bony = canal_width(spine, number, "arch")
        assert bony == pytest.approx(2 * level.canal_half[0], abs=1.0)
        assert canal_width(spine, number, "canal") < bony  # the sac lies in the bony canal
