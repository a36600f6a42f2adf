"""CT to MR from the config to a translated CT, and 2.5D beside it."""

import csv
import logging

import numpy as np
import pytest
import yaml

from spinect.bundle import load_bundle
from spinect.errors import ConfigError, ImageError
from spinect.geometry.resample import resample
from spinect.inference import to_native, translate
from spinect.inference.prepare import relative_mr
from spinect.io import write_table, write_volume
from spinect.training import export, train
from spinect.training.config import parse_config

NETWORK = {"channels": [8, 12], "blocks": [1, 1], "decoder_blocks": [1], "head": 16}


@pytest.fixture(scope="module")
def folder(tiny_pair, tmp_path_factory):
    """A dataset of two phantoms, one to learn from and one to measure on."""
    root, rows = tmp_path_factory.mktemp("directions"), []
    for number, split in ((1, "train"), (2, "validation")):
        name = f"sub-{number}"
        mr = tiny_pair.mr.with_data(tiny_pair.mr.data * (1 + 0.1 * number))
        write_volume(mr, root / name / "anat" / f"{name}_T2w.nii.gz")
        stem = root / "derivatives" / "truth" / name / f"{name}_space-iso"
        for part, end in {"ct": "_ct", "vertebrae": "_desc-vertebrae_dseg"}.items():
            write_volume(getattr(tiny_pair, part), stem.with_name(f"{stem.name}{end}.nii.gz"))
        rows.append({"participant_id": name, "split": split})
    write_table(rows, root / "participants.tsv")
    return root


def config(folder, updates, method=None, validation=None, **data):
    flat = {"name": "regression", "ndim": 2, "in_channels": 1, "heads": ["ct"], "network": NETWORK}
    return parse_config({
        "name": "tiny",
        "method": flat | (method or {}),
        "data": {"source": "dataset", "folder": str(folder), "patch": [64, 64], "workers": 0,
                 "scans": 2, "patches_per_scan": 4, "direction": "ct_to_mr", **data},
        "trainer": {"max_steps": updates, "warmup": 2, "precision": "fp32", "lr": 5e-3,
                    "preview_every": updates, "log_every": 1, "accelerator": "cpu", "ema": 0.8,
                    "checkpoint_minutes": 0},
        "validation": None if validation is None
        else {"every": updates, "split": "validation"} | validation,
        "export": {"preprocessing": {"tile": [1, 64, 64]}},
    })  # fmt: skip


def test_from_a_ct_to_an_mr(folder, tiny_pair, tmp_path, caplog):
    """Trained, saved, loaded, and asked: the canal is bright and the air dark, as in the MR."""
    run = tmp_path / "run"
    with caplog.at_level(logging.INFO, logger="spinect"):
        train(config(folder, 40, validation={}), run)
    assert "mae_near_bone" in caplog.text
    assert "relative intensity" in caplog.text
    assert " HU" not in "".join(r.getMessage() for r in caplog.records if "validation" in r.name)
    card = export(run, tmp_path / "model", checkpoint="best")
    assert (card.inputs, card.makes, card.channels) == ("ct", "T2w", "hu_range")
    assert card.training.validation["unit"] == "relative intensity"
    text = (tmp_path / "model" / "README.md").read_text()
    assert "synthetic T2w in relative intensity" in text
    made = translate(tiny_pair.ct, load_bundle(tmp_path / "model"), device="cpu")
    native, _ = to_native(made, tiny_pair.ct)
    assert native.kind == "mr"
    assert native.grid.matches(tiny_pair.ct.grid)
    truth, inside = relative_mr(tiny_pair.mr, card)
    truth = resample(truth, tiny_pair.ct.grid).data
    assert inside.all()
    air, bone = tiny_pair.ct.data < -900, tiny_pair.vertebrae.data > 0
    for part in (air, bone):
        assert abs(np.median(native.data[part]) - np.median(truth[part])) < 150
    with pytest.raises(ImageError, match="takes a volume of kind 'ct', not 'mr'"):
        translate(tiny_pair.mr, load_bundle(tmp_path / "model"), device="cpu")
    with (run / "validation.csv").open() as file:
        row = list(csv.DictReader(file))[-1]
    assert 0 < float(row["mae_patient"]) < 200  # of 1500
    assert float(row["psnr_patient"]) > 15
    assert list((run / "previews").glob("*.png"))


@pytest.mark.parametrize("direction", ["mr_to_ct", "ct_to_mr"])
@pytest.mark.parametrize("name", ["diffusion", "wgan"])
def test_slices_with_neighbours_by_other_methods(folder, tiny_pair, tmp_path, direction, name):
    """A few updates; the bundle tells the driver what the network sees beside a slice."""
    count = 9 if direction == "mr_to_ct" else 3
    method = {"name": name, "ndim": 2, "in_channels": count}
    if name == "diffusion":
        method |= {"network": NETWORK, "steps": 2, "embedding": 8}
    else:
        method |= {
            "generator": {"kind": "residual", **NETWORK},
            "critic": {"width": 4, "halvings": 1, "wide": False, "norm": "none"},
        }
    made = config(folder, 3, direction=direction, neighbours=1)
    raw = made.model_dump() | {"method": method}
    train(parse_config(raw), tmp_path / "run")
    card = export(tmp_path / "run", tmp_path / "model")
    assert card.preprocessing.neighbours == 1
    assert "of the slice and 1 on each side" in (tmp_path / "model" / "README.md").read_text()
    source = tiny_pair.mr if direction == "mr_to_ct" else tiny_pair.ct
    out = translate(source, load_bundle(tmp_path / "model"), device="cpu")
    assert out.image.kind == card.image_kind
    assert np.isfinite(out.image.data).all()


def test_the_number_of_channels_is_told(folder, tmp_path):
    wrong = config(folder, 3, direction="mr_to_ct", neighbours=1)
    with pytest.raises(
        ConfigError, match=r"9 channels \(robust3 of 3 slices\), the method takes 1: .* to 9"
    ):
        train(wrong, tmp_path / "run")


def test_a_head_too_narrow_for_many_slices_is_refused(folder, tmp_path):
    method = {"in_channels": 21}
    wide = config(folder, 3, method=method, direction="mr_to_ct", neighbours=3)
    with pytest.raises(ConfigError, match=r"head 16 holds the 21 channels .*head to 32 or more"):
        train(wide, tmp_path / "run")


def test_what_is_validated_is_what_is_made(folder, tmp_path):
    with pytest.raises(ConfigError, match="what is learnt makes T2w of a CT"):
        train(config(folder, 3, validation={"contrast": "T1w"}), tmp_path / "run")


def test_features_of_a_ct_say_nothing_about_an_mr(folder, tmp_path):
    weights = {"weights": {"features": 1.0}}
    raw = config(folder, 3, method=weights).model_dump() | {"features": {"bundle": "vertebrae"}}
    with pytest.raises(ConfigError, match="it compares CTs, and direction ct_to_mr makes an MR"):
        train(parse_config(raw), tmp_path / "run")


def test_a_card_without_the_new_fields_is_one_from_mr_to_ct(tmp_path, folder):
    """Older bundles are read as they were written."""
    train(config(folder, 1, method={"in_channels": 3}, direction="mr_to_ct"), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "model")
    path = tmp_path / "model" / "bundle.yaml"
    card = yaml.safe_load(path.read_text())
    assert card.pop("makes") == "ct"
    assert card["preprocessing"].pop("neighbours") == 0
    path.write_text(yaml.safe_dump(card))
    read_again = load_bundle(tmp_path / "model").card
    assert (read_again.image_kind, read_again.preprocessing.neighbours) == ("ct", 0)
