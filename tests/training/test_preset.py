"""The preset graf2023, from the config to a few updates of a tiny network."""

import numpy as np
import pytest
import yaml

from spinect.errors import ConfigError
from spinect.geometry import Volume
from spinect.io import write_table, write_volume
from spinect.training.config import dump_config, parse_config
from spinect.training.loader import make_stream
from spinect.training.run import train

NETWORK = {"channels": [4, 6], "blocks": [1, 1], "decoder_blocks": [1], "head": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One patient of 12 slices of 4 mm, the CT with values between air and bone."""
    root = tmp_path_factory.mktemp("set")
    shape, affine = (12, 60, 64), np.diag([4.0, 1, 1, 1])
    rng = np.random.default_rng(0)
    vertebrae = np.zeros(shape, np.uint8)
    vertebrae[3:9, 20:40, 5:28], vertebrae[3:9, 20:40, 34:60] = 22, 21
    ct = np.where(vertebrae > 0, 600.0, 40.0) + rng.normal(0, 5, shape)
    ct[:, :6] = -1000
    mr = rng.uniform(100, 500, shape)
    truth = root / "derivatives" / "truth" / "sub-1"
    write_volume(Volume(mr.astype(np.float32), affine, "mr"), root / "sub-1/anat/sub-1_T2w.nii.gz")
    write_volume(Volume(ct.astype(np.float32), affine, "ct"), truth / "sub-1_space-T2w_ct.nii.gz")
    path = truth / "sub-1_space-T2w_desc-vertebrae_dseg.nii.gz"
    write_volume(Volume(vertebrae, affine, "labels"), path)
    write_table([{"participant_id": "sub-1", "split": "train"}], root / "participants.tsv")
    return root


def config(folder, ndim, **data):
    patch = [64, 64] if ndim == 2 else [16, 32, 32]
    method = {"name": "regression", "ndim": ndim, "in_channels": 1 if ndim == 2 else 4}
    return parse_config({
        "name": "tiny",
        "method": method | {"heads": ["ct", "classes"], "network": NETWORK},
        "data": {"source": "dataset", "folder": str(folder), "preset": "graf2023",
                 "patch": patch, "workers": 0, **data},
        "trainer": {"max_steps": 5, "warmup": 1, "precision": "fp32", "preview_every": 5,
                    "log_every": 1, "accelerator": "cpu", "checkpoint_minutes": 0},
    })  # fmt: skip


@pytest.mark.parametrize("ndim", [2, 3])
def test_five_updates(folder, tmp_path, ndim):
    """Two and three dimensions through the same code; the batches are those of the paper."""
    made = config(folder, ndim)
    batch = make_stream(made)[0]
    size = made.data.patch
    assert batch.condition.shape == (2, 1 if ndim == 2 else 4, *size)
    assert batch.target.shape == (2, 1, *size)
    assert float(batch.condition[:, 0].min()) >= -1
    assert float(batch.condition[:, 0].max()) <= 1
    bone = batch.target[(batch.classes == 254)[:, None] & (batch.inside > 0)]
    assert float(bone.median()) == pytest.approx(0.6, abs=0.05)  # HU / 1000
    run = train(made, tmp_path / "run")
    log = (run / "log.csv").read_text()
    assert "nan" not in log


def test_a_preset_fills_what_is_not_written(folder):
    flat, deep = config(folder, 2, jitter=0.1), config(folder, 3)
    assert (flat.data.raster, flat.data.min_pixels, flat.data.dropout) == ("slices", 10, 0.3)
    assert (deep.data.raster, deep.data.ramps, deep.data.border) == ("iso", True, "mirror")
    assert flat.data.jitter == 0.1
    assert flat.data.copies == 10
    assert flat.data.elastic.rule == "voxels"
    for made, channels in ((flat, "max"), (deep, "max_ramps")):
        assert made.export.channels == channels
        assert (made.export.preprocessing.hu_low, made.export.preprocessing.hu_high) == (
            -1000,
            1000,
        )
        assert not made.export.preprocessing.flip_average
        assert parse_config(yaml.safe_load(dump_config(made))) == made


def test_a_bundle_cannot_say_other_channels_than_were_learnt(folder):
    raw = yaml.safe_load(dump_config(config(folder, 3)))
    raw["export"]["channels"] = "robust3"
    with pytest.raises(ConfigError, match="channels max_ramps, but the bundle would say robust3"):
        parse_config(raw)


def test_contradictions_name_the_field_and_the_way_out(folder):
    with pytest.raises(ConfigError, match=r"data: .*set rotate_deg, scale and elastic_mm to 0"):
        config(folder, 3, rotate_deg=5)


def test_a_network_of_other_channels_is_refused_before_it_runs(folder, tmp_path):
    made = config(folder, 3)
    other = made.model_copy(update={"method": made.method | {"in_channels": 3}})
    with pytest.raises(ConfigError, match=r"patches have 4 channels \(max_ramps\), .* takes 3"):
        train(other, tmp_path / "run")


def test_a_segmenter_gets_the_ct_alone(folder):
    with pytest.raises(ConfigError, match="ramps go with task translate"):
        config(folder, 3, task="segment", ramps=True)


def test_a_method_counts_on_what_its_training_drops(folder):
    """Scale and share must be those of the data; what is dropped need not be used."""
    raw = yaml.safe_load(dump_config(config(folder, 2)))
    method = {"name": "diffusion", "ndim": 2, "in_channels": 1}
    for told in ("max", "none"):
        assert parse_config(raw | {"method": method | {"dropped": told}})
    with pytest.raises(ConfigError, match=r"method\.dropped is robust, but training drops max"):
        parse_config(raw | {"method": method | {"dropped": "robust"}})
    raw["data"]["dropout"] = 0.0
    with pytest.raises(ConfigError, match=r"method\.dropped is max, but training drops none"):
        parse_config(raw | {"method": method | {"dropped": "max"}})
