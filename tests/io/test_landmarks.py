"""Landmark files of other programs, written here by hand as those programs write them."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spinect.errors import InputError, LandmarkError, OutputError, SpinectWarning
from spinect.geometry import Grid, Volume
from spinect.geometry.landmarks import Landmarks
from spinect.io import read_landmarks, write_poi, write_slicer, write_volume

AFFINE = np.eye(4)
AFFINE[:3, :3] = Rotation.from_rotvec((0.1, 0.2, -0.3)).as_matrix() * (0.5, 0.6, 4.0)
AFFINE[:3, 3] = (-10, 20, 30)
GRID = Grid((100, 120, 16), AFFINE)

SLICER = {
    "@schema": "https://raw.githubusercontent.com/Slicer/Slicer/main/Modules/Loadable/Markups/"
    "Resources/Schema/markups-schema-v1.0.0.json#",
    "markups": [
        {
            "type": "Fiducial",
            "coordinateSystem": "LPS",
            "controlPoints": [
                {"id": "1", "label": "L1", "position": [1, 2, 3]},
                {"id": "2", "label": "L1-42", "position": [4.5, -5, 6]},
                {"id": "3", "label": "Th12 body", "position": [7, 8, 9]},
                {"id": "4", "label": "l2 spinous", "position": [0, 0, 1]},
            ],
        }
    ],
}


def save(path, content):
    path.write_text(json.dumps(content))
    return path


def marks(count=6):
    rng = np.random.default_rng(3)
    keys = [(19, 50), (28, 42), (20, 50), (20, 42), (26, 50), (27, 40)][:count]
    return Landmarks({key: rng.normal(0, 100, 3) for key in keys})


def equal(one, other):
    assert list(one) == list(other)
    np.testing.assert_array_equal(one.array(), other.array())


@pytest.mark.parametrize(
    ("write", "name"), [(write_poi, "a_poi.json"), (write_slicer, "a.mrk.json")]
)
def test_round_trip_by_content_not_by_name(tmp_path, write, name):
    path = write(marks(), tmp_path / name, {"note": "kept"})
    equal(read_landmarks(path), marks())
    equal(read_landmarks(path.rename(tmp_path / "landmarks")), marks())


def test_slicer_labels_and_world(tmp_path):
    found = read_landmarks(save(tmp_path / "a.mrk.json", SLICER))
    assert set(found) == {(20, 50), (20, 42), (19, 50), (21, 42)}
    np.testing.assert_array_equal(found[20, 42], [-4.5, 5, 6])
    content = json.loads(json.dumps(SLICER).replace('"LPS"', '"RAS"'))
    found = read_landmarks(save(tmp_path / "b.mrk.json", content))
    np.testing.assert_array_equal(found[20, 42], [4.5, -5, 6])


def test_slicer_file_is_what_slicer_reads(tmp_path):
    path = write_slicer(Landmarks({(20, 42): np.array([1.0, 2, 3])}), tmp_path / "a.mrk.json")
    content = json.loads(path.read_text())
    assert content["@schema"].endswith("markups-schema-v1.0.3.json#")
    (markup,) = content["markups"]
    assert (markup["type"], markup["coordinateSystem"]) == ("Fiducial", "LPS")
    (point,) = markup["controlPoints"]
    assert point["label"] == "L1-42"
    assert point["position"] == [-1.0, -2.0, 3.0]
    assert point["positionStatus"] == "defined"
    with pytest.raises(OutputError, match=r"suffix \.mrk\.json"):
        write_slicer(marks(), tmp_path / "a.json")


def test_slicer_points_that_tptbox_wrote(tmp_path):
    content = {"markups": [{"type": "Fiducial", "coordinateSystem": "LPS", "controlPoints": [
        {"id": "20-50", "label": "Vertebra_Corpus", "position": [1, 2, 3]}]}]}  # fmt: skip
    assert list(read_landmarks(save(tmp_path / "a.json", content))) == [(20, 50)]


def test_slicer_leftovers_are_said(tmp_path):
    content = json.loads(json.dumps(SLICER))
    content["markups"][0]["controlPoints"][3]["positionStatus"] = "undefined"
    with pytest.warns(SpinectWarning, match="point l2 spinous was never placed"):
        assert len(read_landmarks(save(tmp_path / "a.mrk.json", content))) == 3
    content = {"markups": [*SLICER["markups"], {"type": "Line", "controlPoints": []}]}
    with pytest.warns(SpinectWarning, match="1 markups that are no point lists"):
        assert len(read_landmarks(save(tmp_path / "b.mrk.json", content))) == 4


@pytest.mark.parametrize(
    ("field", "value", "wrong"),
    [
        ("label", "F-1", "'F' is not a vertebra"),
        ("label", "L7", "'L7' is not a vertebra"),
        ("label", "L1-1", "'1' is not a subregion"),
        ("label", "", "does not begin with a vertebra"),
        ("label", "L1 body", "L1/vertebral body stands there twice"),
        ("position", [float("nan"), 0, 1], "L1/spinous process must be three finite numbers"),
        ("position", [1, 2], "cannot be understood"),
    ],
)
def test_slicer_points_that_are_refused(tmp_path, field, value, wrong):
    content = json.loads(json.dumps(SLICER))
    content["markups"][0]["controlPoints"][1][field] = value
    with pytest.raises(LandmarkError, match=wrong) as caught:
        read_landmarks(save(tmp_path / "a.mrk.json", content))
    assert str(caught.value).startswith(str(tmp_path / "a.mrk.json"))


def test_slicer_files_that_are_refused(tmp_path):
    path = tmp_path / "a.mrk.json"
    with pytest.raises(LandmarkError, match="no point list among 1"):
        read_landmarks(save(path, {"markups": [{"type": "Line"}]}))
    odd = {"markups": [SLICER["markups"][0] | {"coordinateSystem": "voxels"}]}
    with pytest.raises(LandmarkError, match="the world 'voxels'"):
        read_landmarks(save(path, odd))
    with pytest.raises(LandmarkError, match="not a single landmark"):
        read_landmarks(save(path, {"markups": [{"type": "Fiducial", "controlPoints": []}]}))


def test_verse_list(tmp_path):
    """As in VerSe'20: sub-verse505_..._seg-subreg_ctd.json."""
    content = [
        {"direction": ["P", "I", "R"]},
        {"X": 30.5, "Y": 7.0, "Z": 11.0, "label": 20},
        {"X": 60.0, "Y": 8.0, "Z": 12.0, "label": 42 * 256 + 20},
    ]
    path = save(tmp_path / "a.json", content)
    found = read_landmarks(path, GRID)
    turned = GRID.reoriented("PIR")
    np.testing.assert_allclose(found[20, 50], turned.world((30.5, 7, 11)))
    np.testing.assert_allclose(found[20, 42], turned.world((60, 8, 12)))
    with pytest.raises(LandmarkError, match="give the image's grid"):
        read_landmarks(path)


@pytest.mark.parametrize(
    ("label", "wrong"),
    [(20, "twice"), (33, "'33' is not a vertebra"), (7 * 256 + 20, "'7'"), (2.5, "2.5 is not")],
)
def test_verse_labels_that_are_refused(tmp_path, label, wrong):
    point = {"X": 30, "Y": 7, "Z": 11}
    content = [{"direction": ["P", "I", "R"]}, {"label": 20, **point}, {"label": label, **point}]
    with pytest.raises(LandmarkError, match=wrong):
        read_landmarks(save(tmp_path / "a.json", content), GRID)


def test_a_shape_tells_that_the_image_is_another(tmp_path):
    point = {"label": 20, "X": 30, "Y": 7, "Z": 11}
    header = {"direction": ["R", "A", "S"], "shape": [100, 120, 16]}
    fits = save(tmp_path / "a.json", [header, point])
    assert list(read_landmarks(fits, GRID)) == [(20, 50)]
    other = save(tmp_path / "b.json", [header | {"shape": [100, 140, 16]}, point])
    with pytest.raises(LandmarkError, match=r"points of an image of 100x140x16 voxels"):
        read_landmarks(other, GRID)
    # The same image at 1 mm, as TPTBox writes after rescaling: 50 x 72 x 64 voxels.
    scaled = [header | {"shape": [50, 72, 64], "zoom": [1, 1, 1]}, point]
    found = read_landmarks(save(tmp_path / "c.json", scaled), GRID)
    np.testing.assert_allclose(found[20, 50], GRID.world((60, 7 / 0.6, 11 / 4)))


def test_the_oldest_poi_files(tmp_path):
    """No header; voxels of 1 mm in the order R, P, I."""
    grid = Grid((60, 60, 60), np.diag([1.0, 1, 1, 1]))
    content = [{"vert_label": "20", "50": "(10.0, 20.0, 30.0)", "42": "(10.0, 50.0, 35.0)"}]
    found = read_landmarks(save(tmp_path / "a.json", content), grid)
    np.testing.assert_allclose(found[20, 50], [10, 59 - 20, 59 - 30])
    np.testing.assert_allclose(found[20, 42], [10, 59 - 50, 59 - 35])


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('[{"format":"POI_GLOBAL"},{"L1":{"50":[1,2,3],"50":[4,5,6]}}]', "50 stands there twice"),
        ('[{"format":"POI_GLOBAL"},{"L1":{"50":[1,2,3]},"20":{"50":[4,5,6]}}]', "twice, at"),
        ('[{"format":"POI_GLOBAL"},{"L1":{"50":[1,NaN,3]}}]', "three finite numbers"),
        ('[{"format":"POI_GLOBAL"},{"L1":{"50":[1,null,3]}}]', "three finite numbers"),
        ('[{"format":"POI_GLOBAL"},{"L1":{"Corpse":[1,2,3]}}]', "'Corpse' is not a subregion"),
        ('[{"format":"POI_GLOBAL","coordinate_system":"mni"},{}]', "neither nib nor itk"),
        ('[{"format":"POI_GLOBAL"},{}]', "not a single landmark"),
        ('{"a": 1}', "JSON with a holds no landmarks"),
        ("[]", "holds a list"),
    ],
)
def test_poi_files_that_are_refused(tmp_path, text, wrong):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(LandmarkError, match=wrong):
        read_landmarks(tmp_path / "a.json")


def test_points_outside_the_image(tmp_path):
    inside, outside = GRID.world((50, 60, 8)), GRID.world((50, 60, 15.6))
    path = write_poi(Landmarks({(20, 50): inside, (20, 42): outside}), tmp_path / "a_poi.json")
    assert len(read_landmarks(path)) == 2
    with pytest.raises(LandmarkError, match=r"1 of 2 landmarks lie outside.*L1/spinous.*15\.6"):
        read_landmarks(path, GRID)


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("a.json", b"hello", "neither JSON nor an image"),
        ("a.json", b"[1, 2", "not JSON"),
        ("a.nii.gz", b"hello", "not an image"),
        ("a.json", b"", "neither JSON nor an image"),
        ("a.json", b"[\xff", "not JSON"),
    ],
)
def test_files_that_are_nothing(tmp_path, name, content, wrong):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=wrong):
        read_landmarks(tmp_path / name)


def test_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_landmarks(tmp_path / "a.json")
    with pytest.raises(InputError, match="a folder"):
        read_landmarks(tmp_path)


@pytest.fixture
def blobs():
    data = np.zeros(GRID.shape, np.uint8)
    data[10:13, 20:23, 4:7] = 20
    data[40:43, 21:24, 4:7] = 21
    return data


def test_blobs_in_two_files(tmp_path, blobs):
    bodies = write_volume(Volume(blobs, AFFINE, "labels"), tmp_path / "msk.nii.gz")
    spinous = write_volume(Volume(np.roll(blobs, 50, 1), AFFINE, "labels"), tmp_path / "p.mha")
    found = read_landmarks(bodies, GRID).joined(read_landmarks(spinous, GRID, subregion=42))
    assert list(found) == [(20, 42), (20, 50), (21, 42), (21, 50)]
    np.testing.assert_allclose(found[20, 50], GRID.world((11, 21, 5)), atol=1e-3)
    np.testing.assert_allclose(found[21, 42], GRID.world((41, 72, 5)), atol=1e-3)


def test_blobs_that_are_refused(tmp_path, blobs):
    def wrote(data):
        return write_volume(Volume(data, AFFINE, "labels"), tmp_path / "msk.nii.gz")

    with pytest.raises(LandmarkError, match="the mask is empty"):
        read_landmarks(wrote(blobs * 0))
    with pytest.raises(LandmarkError, match=r"labels 40 are no vertebrae.*L1 is 20"):
        read_landmarks(wrote(np.where(blobs == 20, 40, blobs).astype(np.uint8)))
    stray = blobs.copy()
    stray[80, 80, 8] = 20
    with pytest.warns(SpinectWarning, match=r"1 stray pieces of L1/vertebral body \(1 of 28"):
        found = read_landmarks(wrote(stray))
    np.testing.assert_allclose(found[20, 50], GRID.world((11, 21, 5)), atol=1e-3)
    stray[80:83, 80:83, 8] = 20
    with pytest.raises(LandmarkError, match="L1/vertebral body is painted in 2 places"):
        read_landmarks(wrote(stray))
