"""Axial slices from training to inference, and patients without masks."""

import shutil

import numpy as np
import pytest
import torch

from spinect.card import Card, Preprocessing
from spinect.data.augment import draw_field_of_view
from spinect.data.dataset import DatasetPatches
from spinect.data.options import DatasetOptions
from spinect.data.stream import PatchStream
from spinect.errors import ConfigError, InputError
from spinect.geometry import Volume
from spinect.inference.prepare import prepare
from spinect.io import read, write_table, write_volume
from spinect.phantom.anatomy import field_of_view_grid, make_subject, rasterise
from spinect.training.config import parse_config
from spinect.training.loader import make_stream

STILL = {"rotate_deg": 0.0, "scale": 0.0, "elastic_mm": 0.0, "flip": False}
SHAPE, STEP = (40, 36, 10), (0.9, 0.8, 3.0)
TRUTH = "derivatives/truth/sub-1/sub-1_space-T2w"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One patient of ten axial slices, stored as L, P, S."""
    root = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    vertebrae = np.zeros(SHAPE, np.uint8)
    vertebrae[10:25, 8:20, 2:8] = 26
    mr = rng.uniform(100, 500, SHAPE).astype(np.float32)
    ct = np.where(vertebrae > 0, 600, -100).astype(np.float32)
    affine = np.diag([*STEP, 1.0])
    for data, kind, path in (
        (mr, "mr", "sub-1/anat/sub-1_T2w"),
        (ct, "ct", f"{TRUTH}_ct"),
        (vertebrae, "labels", f"{TRUTH}_desc-vertebrae_dseg"),
    ):
        write_volume(Volume(data, affine, kind).reoriented("LPS"), root / f"{path}.nii.gz")
    write_table([{"participant_id": "sub-1", "split": "train"}], root / "participants.tsv")
    return root


@pytest.fixture(scope="module")
def unmasked(folder, tmp_path_factory):
    """The same patient without vertebrae, as a collection of pelves gives it."""
    root = tmp_path_factory.mktemp("bare") / "set"
    shutil.copytree(folder, root)
    (root / f"{TRUTH}_desc-vertebrae_dseg.nii.gz").unlink()
    return root


def patches(folder, **changes):
    told = {"patch": (1, 40, 36), "place": "anywhere", "plane": "axial", "raster": "slices",
            "patches_per_scan": 3, "augment": "off", "cache": False} | STILL | changes  # fmt: skip
    return DatasetPatches(folder, DatasetOptions(**told), 0, 1)


@pytest.mark.parametrize(("raster", "across"), [("slices", 3.0), ("iso", 1.5)])
def test_training_and_inference_see_the_same_slices(folder, raster, across):
    mr = read(folder / "sub-1/anat/sub-1_T2w.nii.gz", "mr")
    about = Preprocessing(raster=raster, spacing_mm=1.5, axes="SRA", tile=(1, 16, 16))
    seen = prepare(mr, Card(name="x", method="regression", preprocessing=about))
    np.testing.assert_allclose(seen.grid.spacing, [across, 1.5, 1.5])
    assert seen.grid.axes == "SRA"
    batch = patches(folder, patch=(1, *seen.grid.shape[1:]), raster=raster, spacing_mm=1.5)[0]
    whole = seen.channels.movedim(1, 0)
    for patch in batch.condition[:, :, 0]:
        assert min(float((patch - one).abs().max()) for one in whole) < 2e-3  # half precision


def test_left_and_right_are_mirrored_and_nothing_else(folder):
    """The first axis of an axial patch is S: `flip` belongs to its second one."""
    options = DatasetOptions(patch=(1, 8, 8), plane="axial", mirror=(0.1, 0.2))
    assert options.axes == "SRA"
    assert options.mirrored == (0.2, 0.5, 0.1)
    assert DatasetOptions(mirror=(0.1, 0.2)).mirrored == (0.5, 0.1, 0.2)
    plain = patches(folder)[0]
    turned = [patches(folder, flip=True, augment="on", patches_per_scan=8)[0]]
    slices = patches(folder, patches_per_scan=60)[0].condition[:, 0, 0]
    found = set()
    for image in turned[0].condition[:, 0, 0]:
        same = min(float((image - one).abs().max()) for one in slices)
        mirrored = min(float((image - one.flip(0)).abs().max()) for one in slices)
        assert min(same, mirrored) < 1e-3
        found.add(same < mirrored)
    assert found == {True, False}
    assert plain.condition.shape == (3, 3, 1, 40, 36)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"patch": (8, 8, 8)}, "plane axial is for 2D"),
        ({"task": "segment"}, "masks of sagittal slices"),
        ({"mirror": (0.5, 0.2), "flip": True}, "along S, R, A exceed 1"),
    ],
)
def test_options_that_contradict_the_plane(changes, told):
    with pytest.raises(ConfigError, match=told):
        DatasetOptions(**{"patch": (1, 8, 8), "plane": "axial", **STILL, **changes})


def run(**data):
    fields = {"source": "phantom", "subjects": 1, "region": "pelvis", "patch": [16, 16]} | data
    return {
        "name": "x",
        "method": {"name": "regression", "ndim": len(fields["patch"]), "heads": ["ct"]},
        "data": fields,
        "trainer": {"max_steps": 1},
    }


def test_the_bundle_says_which_slices_were_learnt():
    assert parse_config(run(plane="axial")).export.preprocessing.axes == "SRA"
    assert parse_config(run()).export.preprocessing.axes == "RAS"
    dataset = {"source": "dataset", "folder": "x", "raster": "slices", "place": "anywhere"} | STILL
    raw = run(plane="axial")
    raw["data"] = dataset | {"patch": [16, 16], "plane": "axial"}
    about = parse_config(raw).export.preprocessing
    assert (about.axes, about.raster) == ("SRA", "slices")
    with pytest.raises(ConfigError, match="sees axial slices, axes SRA, but the bundle would say"):
        parse_config(run(plane="axial") | {"export": {"preprocessing": {"axes": "RAS"}}})
    with pytest.raises(ConfigError, match="plane axial is for translation slice by slice"):
        parse_config(run(plane="axial", patch=[8, 8, 8]))


def test_patients_without_masks_teach_the_image_alone(folder, unmasked):
    full, bare = patches(folder)[0], patches(unmasked)[0]
    torch.testing.assert_close(bare.condition, full.condition)
    torch.testing.assert_close(bare.target, full.target)
    assert full.classes is not None
    assert bare.classes is bare.centre is bare.offset is None
    # bone is what is above 200 HU: the same block here
    torch.testing.assert_close(bare.near_bone, full.near_bone)
    kept = patches(unmasked, cache=True)
    assert not kept.cases[0].masks
    assert not patches(unmasked, cache=True).cases[0].masks  # as it is read back
    for changes in ({"place": "bone"}, {"min_pixels": 5}, {"plane": "sagittal", "task": "segment"}):
        with pytest.raises(InputError, match="without masks it translates only"):
            patches(unmasked, **changes)


@pytest.mark.slow
def test_simulated_scans_of_a_pelvis_are_axial(tmp_path):
    """A pool of one low pelvis: whole axial planes, patches near hips and femora, repeatable."""
    anatomy = make_subject(5, "pelvis")
    grid = field_of_view_grid(anatomy)
    centre = np.array(anatomy.pelvis.frame) @ [*anatomy.pelvis.head_centre(1), 1.0]
    first = int(grid.index(centre[:3])[2]) - 8
    made = rasterise(anatomy, grid.crop((0, 0, first), (*grid.shape[:2], 16)))
    pool = tmp_path / "pelvis-5-5"
    made.save(pool / "sub-5")
    assert made.subject.part == "pelvis"
    view = draw_field_of_view(made, np.random.default_rng(0))
    assert view.shape == made.tissue.shape
    raw = run(plane="axial", patch=[96, 80], seed=5, folder=str(tmp_path), workers=0)
    stream = make_stream(parse_config(raw | {"trainer": {"max_steps": 6}}))
    batch = stream[0]
    assert batch.condition.shape == (2, 3, 96, 80)
    assert batch.classes.shape == (2, 96, 80)
    assert torch.equal(stream[0].condition, batch.condition)
    bright = [float((stream[i].target > 0.15).float().mean()) for i in range(6)]  # above 700 HU
    assert sum(share > 0 for share in bright) >= 3  # hips and femora, which have no label
    whole = PatchStream({pool: 1.0}, seed=0, patch=(96, 80, 1))[0]
    assert whole.condition.shape == (2, 3, 96, 80, 1)
