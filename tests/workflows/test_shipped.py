"""The real engine with a tiny untrained network: everything of a run but the quality."""

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from spinect.bundle import save_bundle
from spinect.card import Card, Preprocessing
from spinect.cli.main import app
from spinect.errors import BundleError, ResourceError
from spinect.geometry import Grid
from spinect.methods.registry import build
from spinect.workflows import RunOptions
from spinect.workflows.record import read_record
from spinect.workflows.shipped import load_engine

CONFIG = {"network": {"channels": [8, 8], "blocks": [1, 1], "decoder_blocks": [1], "head": 4}}


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory):
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    card = Card(
        name="tiny",
        method="regression",
        config=CONFIG,
        preprocessing=Preprocessing(tile=(32, 32, 32), flip_average=False),
    )
    save_bundle(folder, build("regression", CONFIG), card)
    return folder


def cli(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_translate_with_a_real_network(tiny_bundle, mr_file, tmp_path):
    out = tmp_path / "out"
    arguments = ["translate", mr_file, "-o", out, "--model", tiny_bundle, "--outputs", "ct,iso"]
    done = cli(*arguments, "--precision", "fp32", "--device", "cpu")
    assert done.exit_code == 0, done.output
    given, made = nib.load(mr_file), nib.load(out / "sub-1_T2w_desc-synth_ct.nii.gz")
    assert made.shape == given.shape
    np.testing.assert_allclose(made.affine, given.affine, atol=1e-5)
    data = np.asarray(made.dataobj)
    assert data.dtype == np.int16
    assert -1024 <= data.min() < data.max() <= 2000
    record = read_record(out / "sub-1_T2w_run.json")
    assert record.models[0].name == "tiny"
    assert {"read", "translate", "native", "write", "report"} == set(record.seconds)


def test_a_mode_that_the_model_lacks(tiny_bundle, mr_file, tmp_path):
    done = cli("translate", mr_file, "-o", tmp_path / "out", "--model", tiny_bundle, "--mode", "mc")
    assert done.exit_code == 1
    assert "does not offer mode mc" in done.stderr
    assert list((tmp_path / "out").iterdir()) == []


def test_too_little_memory_is_said_before_the_start(tiny_bundle, mr_file, tmp_path):
    arguments = ["translate", mr_file, "-o", tmp_path / "out", "--model", tiny_bundle]
    done = cli(*arguments, "--max-memory", "1M")
    assert done.exit_code == 1
    assert "raise --max-memory" in done.stderr


def test_damaged_and_unknown_models(tiny_bundle, mr_file, tmp_path):
    done = cli("translate", mr_file, "-o", tmp_path / "out", "--model", "nonsense")
    assert done.exit_code == 1
    assert "nonsense" in done.stderr
    broken = tmp_path / "tiny"
    broken.mkdir()
    for name in ("bundle.yaml", "README.md"):
        (broken / name).write_bytes((tiny_bundle / name).read_bytes())
    (broken / "model.safetensors").write_bytes(b"x" * 1000)
    with pytest.raises(BundleError, match="sha256"):
        load_engine(RunOptions(model=str(broken), segmenter="none"))


def test_memory_need_grows_with_the_image_and_has_a_floor(tiny_bundle):
    options = RunOptions(model=str(tiny_bundle), segmenter="none")
    engine = load_engine(options)
    need = [engine.memory_need(Grid((20, n, n), np.diag([4, 1, 1, 1])), options) for n in (64, 512)]
    assert 10 * 2**20 < need[0] < need[1] < 6 * 2**30
    with pytest.raises(ResourceError):
        engine.memory_need(Grid((20, 64, 64)), options.model_copy(update={"max_memory": 2**20}))


def test_models_command_shows_and_verifies_a_folder(tiny_bundle):
    assert "# tiny" in cli("models", "show", tiny_bundle).stdout
    assert "as its card says" in cli("models", "verify", tiny_bundle).stdout
    assert cli("models", "show").exit_code == 1
