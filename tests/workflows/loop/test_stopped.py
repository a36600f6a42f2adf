"""A loop that SIGTERM ends while its model is trained."""

import signal

import pytest
import yaml
from planted import GOOD, SHIFTED, Oracle
from typer.testing import CliRunner

from spinect.cli.main import app
from spinect.data.dataset import DatasetPatches
from spinect.io import read
from spinect.training import load_config
from spinect.training.folder import RunFolder
from spinect.workflows.loop import Models
from spinect.workflows.loop.engines import ConfiguredTrainer

NETWORK = {"channels": [4, 6], "blocks": [1, 1], "decoder_blocks": [1], "head": 4}
TRAINING = {
    "name": "tiny",
    "method": {"name": "regression", "in_channels": 3, "heads": ["ct"], "network": NETWORK},
    "data": {
        "source": "dataset",
        "folder": "replaced",
        "patch": [12, 12, 12],
        "patches_per_scan": 1,
        "scans": 1,
        "workers": 0,
    },
    "trainer": {
        "max_steps": 4,
        "warmup": 0,
        "precision": "fp32",
        "checkpoint_minutes": 60,
        "preview_every": 0,
        "accelerator": "cpu",
        "threads": 1,
    },
}


@pytest.fixture
def loop(raw, study, tmp_path, monkeypatch):
    """The command on the planted study: real training, the truth for every other model."""
    train = tmp_path / "train.yaml"
    train.write_text(yaml.safe_dump(TRAINING))
    (tmp_path / "loop.yaml").write_text(yaml.safe_dump(raw | {"rounds": 1, "train": str(train)}))

    class Truth(Oracle):
        def translate(self, case, mr, model):
            assert (model / "model.safetensors").is_file()
            name = case.pair.participant
            truth = self.dataset / "derivatives" / "truth" / name / f"{name}_space-T1w_ct.nii.gz"
            made = read(truth, "ct")
            assert made.grid.matches(mr.grid)
            return made

    oracle = Truth(study)
    models = Models(ConfiguredTrainer(load_config(train)), oracle.translate, oracle.segment)
    monkeypatch.setattr("spinect.workflows.loop.run.make_models", lambda *_: models)
    words = ["loop", str(tmp_path / "loop.yaml"), "-o"]
    return lambda out: CliRunner().invoke(app, [*words, str(tmp_path / out)])


def test_sigterm_leaves_a_checkpoint_and_the_next_start_ends_equal(loop, tmp_path, monkeypatch):
    whole = loop("whole")
    assert whole.exit_code == 3, whole.output  # FAR, WRONG, EMPTY and LOST stay
    plain = DatasetPatches.__getitem__

    def item(self, index):
        if index == 1:
            signal.raise_signal(signal.SIGTERM)
        return plain(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(DatasetPatches, "__getitem__", item)
        assert loop("cut").exit_code == 143
    cut = tmp_path / "cut" / "round-1"
    assert RunFolder(cut / "training" / "run").load()["updates"] == 2
    assert not (cut / "steps" / "train.json").exists()
    assert not (cut / "training" / "model").exists()

    again = loop("cut")
    assert again.exit_code == 3, again.output
    one, other = (
        (tmp_path / name / "round-1" / "training" / "model" / "model.safetensors").read_bytes()
        for name in ("whole", "cut")
    )
    assert one == other
    one, other = ((tmp_path / name / "cases.tsv").read_text() for name in ("whole", "cut"))
    assert one == other
    for name in (GOOD, SHIFTED):
        assert f"{name}_T1w\t{name}\tT1w\ttrain\taccepted\t1" in one
