"""Stacks and the field of view."""

import numpy as np
import pytest
from scipy import ndimage

from spinect.errors import ImageError, SpinectWarning
from spinect.geometry import Volume
from spinect.io import detect_stack, field_of_view

RNG = np.random.default_rng(4)


def stack(slices, seed=0):
    """Slices of something smooth: neighbours are alike."""
    fine = np.random.default_rng(seed).normal(size=(slices, 60, 60))
    return ndimage.gaussian_filter(fine, (3, 4, 4)).astype(np.float32)


def sagittal(data, thick=4.0):
    return Volume(data, np.diag([thick, 0.6, 0.6, 1.0]), "mr")


@pytest.mark.parametrize(
    ("axes", "plane"), [("RAS", "sagittal"), ("PIR", "sagittal"), ("SRA", "sagittal")]
)
def test_the_plane_is_that_of_the_thick_axis(axes, plane):
    assert detect_stack(sagittal(stack(16)).reoriented(axes), "mr") == plane


def test_other_planes():
    data = stack(16)
    assert (
        detect_stack(Volume(np.moveaxis(data, 0, 2), np.diag([0.6, 0.6, 5, 1.0]), "mr"), "")
        == "axial"
    )
    assert (
        detect_stack(Volume(np.moveaxis(data, 0, 1), np.diag([0.6, 5, 0.6, 1.0]), "mr"), "")
        == "coronal"
    )
    assert detect_stack(Volume(data, np.eye(4), "mr"), "") == "isotropic"


@pytest.mark.parametrize("thick", [8.0, 0.6])
def test_a_localiser_is_refused(thick):
    volume = sagittal(stack(7), thick)
    with pytest.raises(ImageError, match=r"loc\.nii: 7 .*slices.*at least 8.*--force"):
        detect_stack(volume, "loc.nii")
    with pytest.warns(SpinectWarning, match="7 .* slices"):
        detect_stack(volume, "loc.nii", force=True)


def test_a_repeated_stack_is_refused():
    data = stack(10)
    with pytest.raises(ImageError, match="slices 0 and 10 are the same image"):
        detect_stack(sagittal(np.concatenate([data, data])), "mr")


def test_stacks_of_several_angles_are_refused():
    data = np.concatenate([stack(6, 1), stack(6, 2), stack(6, 3)])
    with pytest.raises(ImageError, match="slices 5 and 6 show different things"):
        detect_stack(sagittal(data), "mr")


def test_slices_doubled_by_interpolation_and_empty_ones_pass():
    data = np.repeat(stack(10), 2, axis=0)
    data[:3] = data[-3:] = 0
    assert detect_stack(sagittal(data), "mr") == "sagittal"


def test_flat_boundary_planes_are_peeled_again_and_again():
    data = RNG.normal(size=(10, 12, 14))
    expected = np.zeros(data.shape, bool)
    expected[1:9, 2:12, 0:13] = True
    data[~expected] = 255
    data[0] = 0  # a frame of another value around the frame
    assert np.array_equal(field_of_view(data), expected)


def test_flat_planes_inside_are_anatomy():
    data = RNG.normal(size=(6, 6, 6))
    data[3] = 0
    assert field_of_view(data).all()


def test_a_plane_that_is_nearly_flat_stays():
    data = np.zeros((6, 6, 6), np.float32)
    data[2:4, 2:4, 2:4] = RNG.normal(size=(2, 2, 2))
    data[0, 0, 0] = 1e-6
    inside = field_of_view(data)
    assert inside[0, 0, 0]
    assert inside.sum() == 4 * 4 * 4


def test_nothing_is_inside_a_constant():
    assert not field_of_view(np.full((4, 5, 6), 3)).any()
