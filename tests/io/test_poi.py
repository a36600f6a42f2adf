"""TPTBox point-of-interest files."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from spinect.errors import InputError, LandmarkError, SpinectWarning
from spinect.geometry import Grid
from spinect.geometry.landmarks import Landmarks
from spinect.io.poi import read_poi, write_poi

TURN = Rotation.from_rotvec((0.1, 0.2, -0.3)).as_matrix()
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN * (0.5, 0.6, 4.0)
AFFINE[:3, 3] = (-10, 20, 30)
GRID = Grid((100, 120, 16), AFFINE)
VOXEL = (12.5, 30.0, 7.25)


def save(path, content):
    path.write_text(json.dumps(content))
    return path


def test_round_trip(tmp_path):
    rng = np.random.default_rng(2)
    keys = [(7, 42), (19, 50), (28, 41), (20, 50), (20, 43), (26, 50), (27, 40)]
    marks = Landmarks({key: rng.normal(0, 100, 3) for key in keys})
    again = read_poi(write_poi(marks, tmp_path / "a_poi.json"))
    assert list(again) == list(marks)
    np.testing.assert_array_equal(again.array(), marks.array())


def test_the_file_is_what_tptbox_writes(tmp_path):
    path = write_poi(Landmarks({(20, 50): np.array([1.0, 2, 3])}), tmp_path / "a_poi.json")
    header, points = json.loads(path.read_text())
    assert header == {
        "coordinate_system": "nib",
        "format": "POI_GLOBAL",
        "level_one_info": "Vertebra_Instance",
        "level_two_info": "Location",
    }
    assert points == {"L1": {"50": [1.0, 2.0, 3.0]}}


def test_itk_coordinates_become_ras(tmp_path):
    header = {"coordinate_system": "itk", "format": "POI_GLOBAL"}
    path = save(tmp_path / "a.json", [header, {"T12": {"Vertebra_Corpus": [1, 2, 3]}}])
    np.testing.assert_array_equal(read_poi(path)[19, 50], [-1, -2, 3])


def test_voxels_of_a_described_grid(tmp_path):
    header = {
        "direction": ["R", "A", "S"],
        "zoom": [0.5, 0.6, 4.0],
        "origin": [-10, 20, 30],
        "rotation": TURN.tolist(),
        "shape": [100, 120, 16],
        "format": "POI",
    }
    path = save(tmp_path / "a.json", [header, {"L5": {"50": VOXEL}, "COCC": {"50": VOXEL}}])
    marks = read_poi(path)
    np.testing.assert_allclose(marks[24, 50], GRID.world(VOXEL))
    assert (27, 50) in marks


def test_old_lists_need_the_image(tmp_path):
    """label = subregion * 256 + vertebra, voxels of the image turned to `direction`."""
    turned = GRID.reoriented("PIR")
    x, y, z = VOXEL
    content = [
        {"direction": ["P", "I", "R"]},
        {"label": 42 * 256 + 20, "X": x, "Y": y, "Z": z},
        {"label": 21, "X": x, "Y": y, "Z": z},
        {"label": 22, "X": float("nan"), "Y": y, "Z": z},
    ]
    path = save(tmp_path / "a.json", content)
    with pytest.warns(SpinectWarning, match=r"1 landmarks have no position.*L3/vertebral body"):
        marks = read_poi(path, GRID)
    assert list(marks) == [(20, 42), (21, 50)]
    np.testing.assert_allclose(marks[20, 42], turned.world(VOXEL))
    with pytest.raises(LandmarkError, match=r"a\.json: points are voxels.*give the image's grid"):
        read_poi(path)


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        ({"a": 1}, "holds a dict"),
        ([], "holds a list"),
        ([{"format": "POI_GLOBAL"}, {"Q7": {"50": [1, 2, 3]}}], "Q7"),
        ([{"format": "POI_GLOBAL"}, {"L1": 5}], "cannot be understood"),
    ],
)
def test_what_is_no_poi_file(tmp_path, content, wrong):
    with pytest.raises(LandmarkError, match=wrong):
        read_poi(save(tmp_path / "a.json", content))


def test_no_file_and_no_json(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_poi(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("hello")
    with pytest.raises(InputError, match="not JSON"):
        read_poi(tmp_path / "a.json")
