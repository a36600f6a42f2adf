"""spinect landmarks: from masks to files, on the tiny pair and the phantom's own truth."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from spinect.cli.main import app
from spinect.errors import ConfigError, GeometryError, LabelError, LandmarkError, OutputError
from spinect.geometry import Volume
from spinect.geometry.landmarks import Landmarks
from spinect.io import read_landmarks, write_volume
from spinect.workflows.landmarks import LandmarkOptions, landmarks_of, make_landmarks


@pytest.fixture
def masks(tiny_pair):
    return tiny_pair.vertebrae, tiny_pair.subregions


@pytest.fixture
def files(masks, tmp_path):
    return [
        write_volume(mask, tmp_path / f"sub-1_desc-{name}_dseg.nii.gz")
        for mask, name in zip(masks, ("vertebrae", "subregions"), strict=True)
    ]


def call(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_two_points_on_each_vertebra(masks):
    """Bodies are symmetric about (24, 60), spinous processes about (24, 20), 4 mm lower."""
    made = landmarks_of(*masks)
    assert list(made.landmarks) == [(v, s) for v in (22, 23, 24) for s in (42, 50)]
    grid = masks[0].grid
    for number, height in ((24, 20), (23, 54), (22, 88)):
        np.testing.assert_allclose(made.landmarks[number, 50], grid.world((24, 60, height)))
        np.testing.assert_allclose(made.landmarks[number, 42], grid.world((24, 20, height - 4)))
    assert made.warnings == ()


def test_border_and_body_are_one(masks):
    vertebrae, subregions = masks
    border = subregions.data.copy()
    border[:, :62][subregions.data[:, :62] == 50] = 49
    made = landmarks_of(vertebrae, subregions.with_data(border), LandmarkOptions(points="all"))
    assert isinstance(made.landmarks, Landmarks)
    expected = landmarks_of(*masks).landmarks
    assert list(made.landmarks) == list(expected)
    np.testing.assert_allclose(made.landmarks.array(), expected.array())


def test_a_cut_vertebra_is_left_out_and_named(masks):
    vertebrae, subregions = (
        Volume(m.data[:, :, 15:], m.grid.crop((0, 0, 15), (48, 90, 95)).affine, "labels")
        for m in masks
    )
    made = landmarks_of(vertebrae, subregions)
    assert made.landmarks.vertebrae == (22, 23)
    assert made.warnings == ("cut by the head or feet face of the image and left out: L5",)
    whole = landmarks_of(*masks).landmarks
    np.testing.assert_allclose(made.landmarks[23, 50], whole[23, 50])


def test_normalised_with_arcus_for_a_missing_spinous_process(masks):
    vertebrae, subregions = masks
    parts = subregions.data.copy()
    parts[(vertebrae.data == 23) & (parts == 42)] = 41
    parts[(vertebrae.data == 22) & (parts == 42)] = 0
    made = landmarks_of(
        vertebrae, subregions.with_data(parts), LandmarkOptions(normalise_spinous=True)
    )
    assert list(made.landmarks) == [(22, 50), (23, 42), (23, 50), (24, 42), (24, 50)]
    for v in (23, 24):
        np.testing.assert_allclose(made.landmarks[v, 42] - made.landmarks[v, 50], [0, -50, 0])
    said = "; ".join(made.warnings)
    assert "the arcus replaces a missing spinous process: L4" in said
    assert "without a second point: L3" in said
    assert "50 mm" in said


def test_what_is_missing_or_too_small_is_said(masks):
    vertebrae, subregions = masks
    parts = subregions.data.copy()
    spinous = np.argwhere((vertebrae.data == 23) & (parts == 42))
    parts[(vertebrae.data == 23) & (parts == 42)] = 0
    parts[tuple(spinous[0])] = 42
    parts[(vertebrae.data == 24) & (parts == 50)] = 0
    made = landmarks_of(vertebrae, subregions.with_data(parts))
    assert list(made.landmarks) == [(22, 42), (22, 50), (23, 50), (24, 42)]
    said = "; ".join(made.warnings)
    assert "pieces below 50 mm3 give no landmark: L4/spinous process" in said
    assert "without a body: L5" in said
    assert "without a spinous process: L4" in said


def test_refusals(masks):
    vertebrae, subregions = masks
    with pytest.raises(GeometryError, match="lie on different grids"):
        landmarks_of(vertebrae, Volume(subregions.data, np.eye(4), "labels"))
    with pytest.raises(LabelError, match=r"no vertebrae: 50: .* scheme \(totalsegmentator"):
        landmarks_of(
            subregions.with_data(np.uint8(subregions.data == 50) * np.uint8(50)), subregions
        )
    with pytest.raises(LabelError, match="holds 22, 23, 24, and no part of a vertebra"):
        landmarks_of(vertebrae, vertebrae)
    with pytest.raises(LandmarkError, match="the vertebra mask is empty"):
        landmarks_of(vertebrae.with_data(vertebrae.data * 0), subregions)


def test_labels_of_another_scheme(masks):
    vertebrae, subregions = masks
    total = np.where(vertebrae.data > 0, 51 - vertebrae.data, 0).astype(np.uint8)  # L5 24 -> 27
    made = landmarks_of(
        vertebrae.with_data(total), subregions, LandmarkOptions(scheme="totalsegmentator")
    )
    assert made.landmarks.vertebrae == (22, 23, 24)


@pytest.mark.parametrize(("form", "name"), [("poi", "a_poi.json"), ("slicer", "a.mrk.json")])
def test_the_command_writes_what_can_be_read(files, masks, tmp_path, form, name):
    out = tmp_path / "out" / name
    arguments = ("landmarks", "--vertebrae", files[0], "--subregions", files[1], "-o", out)
    done = call(*arguments, "--format", form, "--normalise-spinous")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip() == str(out)
    assert "warning: spinous processes stand at the height of the body" in done.stderr
    found = read_landmarks(out, masks[0].grid)
    expected = landmarks_of(*masks, LandmarkOptions(normalise_spinous=True)).landmarks
    assert list(found) == list(expected)
    np.testing.assert_allclose(found.array(), expected.array(), atol=1e-4)
    content = json.loads(out.read_text())
    source = (content if form == "slicer" else content[0])["spinect"]
    assert source["vertebrae"]["path"] == files[0].name
    assert len(source["warnings"]) == 1
    again = call(*arguments, "--format", form)
    assert again.exit_code == 1
    assert "exists" in again.stderr
    assert call(*arguments, "--format", form, "--overwrite").exit_code == 0
    np.testing.assert_allclose(
        read_landmarks(out).array(), landmarks_of(*masks).landmarks.array(), atol=1e-4
    )


def test_names_that_do_not_fit_the_format(files, tmp_path):
    for name, form in (("a.json", "slicer"), ("a.mrk.json", "poi"), ("a.nii.gz", "poi")):
        with pytest.raises(OutputError, match=r"suffix \.mrk\.json|ends in \.json"):
            make_landmarks(*files, tmp_path / name, LandmarkOptions(format=form))
    with pytest.raises(ConfigError, match="scheme 'x' is not one of"):
        make_landmarks(*files, tmp_path / "a.json", LandmarkOptions(scheme="x"))
    with pytest.raises(ConfigError, match="points 'three'"):
        make_landmarks(*files, tmp_path / "a.json", LandmarkOptions(points="three"))
