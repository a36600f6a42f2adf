"""What the networks are trained to say, on a small phantom."""

import numpy as np
import pytest
import torch

from spinect.anatomy import CLASS, CLASS_UNKNOWN, VERTEBRA_CLASSES
from spinect.data.augment import FieldOfView, draw_field_of_view, view
from spinect.data.targets import CENTRE_SIGMA_MM, targets
from spinect.phantom.anatomy import field_of_view_grid, make_subject, rasterise
from spinect.protocols import OFFSET_MM


@pytest.fixture(scope="module")
def small_map():
    """L2 to L4 of a subject, 90 x 110 x 100 mm."""
    anatomy = make_subject(11)
    grid = field_of_view_grid(anatomy)
    middle = np.rint(grid.index(anatomy.subject.centres[22])).astype(int)
    return rasterise(anatomy, grid.crop(middle - [45, 70, 50], (90, 110, 100)))


def whole(tissue_map, matrix=None, mirror=False):
    shape = tissue_map.grid.shape
    centre = tuple((n - 1) / 2 for n in shape)
    return FieldOfView(shape, centre, np.eye(3) if matrix is None else matrix, mirror)


def turned(degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) * 1.03


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("matrix", [None, turned(9)])
def test_offsets_point_to_the_centre_of_the_own_body(small_map, matrix, mirror):
    scene = view(small_map, whole(small_map, matrix, mirror))
    goal = targets(scene)
    vertebra = torch.isin(goal.classes, torch.tensor(VERTEBRA_CLASSES, dtype=torch.uint8))
    assert torch.equal(torch.isfinite(goal.offset[0]), vertebra)
    places = vertebra.nonzero()
    pointed = places + OFFSET_MM * goal.offset[:, vertebra].T
    own = torch.tensor([scene.centres[int(v)] for v in scene.vertebrae[vertebra]])
    torch.testing.assert_close(pointed, own, atol=1e-3, rtol=0)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("matrix", [None, turned(9)])
def test_centres_lie_in_the_middle_of_their_bodies(small_map, matrix, mirror):
    scene = view(small_map, whole(small_map, matrix, mirror))
    body = (scene.vertebrae == 22) & (scene.subregions == 50)
    mean = body.nonzero().float().mean(0)
    assert (mean - torch.tensor(scene.centres[22])).norm() < 2.5


def test_heatmap_is_a_gaussian_at_each_centre(small_map):
    scene = view(small_map, whole(small_map))
    heat = targets(scene).centre[0]
    centre = torch.tensor(scene.centres[22])
    at = centre.round().long()
    expected = torch.exp(-0.5 * ((at - centre).norm() / CENTRE_SIGMA_MM) ** 2)
    assert heat[tuple(at)] == pytest.approx(float(expected), abs=1e-4)
    assert heat.max() <= 1


def test_classes_and_bone_surroundings(small_map):
    scene = view(small_map, whole(small_map))
    goal = targets(scene)
    for name in ("body", "arcus", "spinous", "disc", "canal"):
        assert (goal.classes == CLASS[name]).sum() > 300, name
    assert bool((goal.near_bone[0] == 1)[scene.vertebrae > 0].all())
    far = scene.distance > 10
    assert bool((goal.near_bone[0] == 0)[far].all())


def test_unknown_regions_have_no_class_and_no_ct(small_map):
    known = np.ones(small_map.grid.shape, np.uint8)
    known[:, :, :20] = 0
    partly = type(small_map)(**{**vars(small_map), "known": known})
    goal = targets(view(partly, whole(partly)))
    assert bool((goal.classes[:, :, :20] == CLASS_UNKNOWN).all())
    assert bool((goal.classes[:, :, 20:] != CLASS_UNKNOWN).all())
    assert goal.known[..., :20].max() == 0
    assert goal.known[..., 20:].min() == 1


def test_beyond_the_map_is_unknown_air(small_map):
    scene = view(small_map, whole(small_map, np.eye(3) * 1.2))
    assert not scene.known[0, 0, 0]
    assert scene.tissue[0, 0, 0] == 0
    assert scene.distance[0, 0, 0] > 10


def test_turning_keeps_volumes_and_distances(small_map):
    plain, other = (view(small_map, whole(small_map, m)) for m in (None, turned(9)))
    volumes = [float((s.vertebrae == 22).sum()) for s in (plain, other)]
    assert volumes[1] * 1.03**3 == pytest.approx(volumes[0], rel=0.03)
    bone = other.vertebrae > 0
    assert (other.distance[bone] < 0.8).float().mean() > 0.99
    near = ~bone & (other.distance < 12) & other.known
    assert (other.distance[near] > -1.2).float().mean() > 0.95


def test_fields_of_view_lie_in_the_map_and_vary(small_map):
    rng = np.random.default_rng(0)
    widths = []
    for _ in range(200):
        field = draw_field_of_view(small_map, rng)
        half = (np.array(field.shape) - 1) / 2
        assert np.all(np.array(field.centre) - half > -1e-6)
        assert np.all(np.array(field.centre) + half < np.array(small_map.grid.shape) - 1 + 1e-6)
        widths.append(field.shape[0])
    assert 0.2 < np.mean(np.array(widths) < 30) < 0.45
