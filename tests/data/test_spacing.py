"""One grid from training to inference, at any spacing, in cubes and in slices as measured."""

import numpy as np
import pytest
import yaml

from spinect.card import Card, Preprocessing
from spinect.data import dataset as module
from spinect.data.dataset import DatasetPatches
from spinect.data.options import DatasetOptions
from spinect.data.prepared import Working
from spinect.errors import ConfigError
from spinect.geometry import Volume
from spinect.inference.prepare import prepare
from spinect.io import read, write_table, write_volume
from spinect.training.config import dump_config, parse_config

STILL = {"rotate_deg": 0.0, "scale": 0.0, "elastic_mm": 0.0, "flip": False}
SHAPE, STEP = (10, 60, 70), (4.0, 0.8, 0.6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One patient of ten slices."""
    root = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    affine = np.diag([*STEP, 1.0])
    vertebrae = np.zeros(SHAPE, np.uint8)
    vertebrae[3:7, 20:40, 10:60] = 22
    truth = root / "derivatives" / "truth" / "sub-1"
    mr = rng.uniform(100, 500, SHAPE).astype(np.float32)
    ct = np.where(vertebrae > 0, 600, -100).astype(np.float32)
    write_volume(Volume(mr, affine, "mr"), root / "sub-1/anat/sub-1_T2w.nii.gz")
    write_volume(Volume(ct, affine, "ct"), truth / "sub-1_space-T2w_ct.nii.gz")
    path = truth / "sub-1_space-T2w_desc-vertebrae_dseg.nii.gz"
    write_volume(Volume(vertebrae, affine, "labels"), path)
    write_table([{"participant_id": "sub-1", "split": "train"}], root / "participants.tsv")
    return root


def card(raster, spacing):
    about = Preprocessing(raster=raster, spacing_mm=spacing, tile=(1, 16, 16))
    return Card(name="x", method="regression", preprocessing=about)


@pytest.mark.parametrize("spacing", [1.0, 2.0])
@pytest.mark.parametrize("raster", ["iso", "slices"])
def test_training_and_inference_see_the_same_image(folder, raster, spacing):
    """A whole slice as a training patch equals that slice of the prepared volume."""
    mr = read(folder / "sub-1/anat/sub-1_T2w.nii.gz", "mr")
    seen = prepare(mr, card(raster, spacing))
    across = STEP[0] if raster == "slices" else spacing
    np.testing.assert_allclose(seen.grid.spacing, [across, spacing, spacing])
    assert Working(raster, "robust", spacing).grid(mr.grid).matches(seen.grid)
    options = DatasetOptions(
        patch=(1, *seen.grid.shape[1:]), raster=raster, spacing_mm=spacing, place="anywhere",
        patches_per_scan=4, augment="off", cache=False, **STILL,
    )  # fmt: skip
    batch = DatasetPatches(folder, options, 0, 1)[0]
    assert batch.condition.shape == (4, 3, 1, *seen.grid.shape[1:])
    whole = seen.channels.movedim(1, 0)
    for patch in batch.condition[:, :, 0]:
        nearest = min(float((patch - one).abs().max()) for one in whole)
        assert nearest < 2e-3  # training keeps half precision


def test_the_bundle_says_what_was_learnt(folder):
    raw = {
        "name": "x",
        "method": {"name": "regression", "ndim": 2, "heads": ["ct"]},
        "data": {"source": "dataset", "folder": str(folder), "patch": [16, 16], "raster": "slices",
                 "spacing_mm": 2.0, "place": "anywhere", **STILL},
        "trainer": {"max_steps": 1},
    }  # fmt: skip
    made = parse_config(raw)
    about = made.export.preprocessing
    assert (about.raster, about.spacing_mm) == ("slices", 2.0)
    assert parse_config(yaml.safe_load(dump_config(made))) == made
    wrong = raw | {"export": {"preprocessing": {"spacing_mm": 1.0}}}
    with pytest.raises(ConfigError, match="raster slices of 2 mm, but the bundle would say"):
        parse_config(wrong)


def test_a_phantom_stream_is_at_1_mm():
    raw = {"name": "x", "method": {"name": "regression"}, "trainer": {"max_steps": 1},
           "data": {"source": "phantom", "subjects": 1},
           "export": {"preprocessing": {"spacing_mm": 2.0}}}  # fmt: skip
    with pytest.raises(ConfigError, match="raster iso of 1 mm"):
        parse_config(raw)


@pytest.mark.parametrize("field", ["rotate_deg", "scale", "elastic_mm"])
def test_slices_are_not_turned(field):
    with pytest.raises(ConfigError, match="raster slices has voxels that are no cubes"):
        DatasetOptions(patch=(1, 16, 16), raster="slices", **STILL | {field: 1.0})


def test_a_bend_is_in_millimetres(folder, monkeypatch):
    """At 2 mm a displacement of 3 mm is one and a half voxels."""
    asked = []
    original = module.draw_warp

    def spy(centre, patch, spread, mirror, rng):
        asked.append(spread[2])
        return original(centre, patch, spread, mirror, rng)

    monkeypatch.setattr(module, "draw_warp", spy)
    options = DatasetOptions(patch=(8, 8, 8), spacing_mm=2.0, elastic_mm=3.0, cache=False)
    assert DatasetPatches(folder, options, 0, 1)[0].target.isfinite().all()
    assert asked == [1.5, 1.5]
