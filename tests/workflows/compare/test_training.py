"""A row's training in pieces, on one patient of a few slices."""

import numpy as np
import pytest
from planted_compare import RAW, experiment

from spinect.bundle import load_bundle
from spinect.geometry import Volume
from spinect.io import write_table, write_volume
from spinect.workflows.compare import training
from spinect.workflows.compare.stages import Paused
from spinect.workflows.compare.training import progress, take_bundle, train_row, training_fields


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    shape, affine = (6, 40, 44), np.diag([4.0, 1, 1, 1])
    vertebrae = np.zeros(shape, np.uint8)
    vertebrae[2:5, 10:30, 5:40] = 22
    truth = root / "derivatives" / "truth" / "sub-1"
    mr = rng.uniform(100, 500, shape).astype(np.float32)
    ct = np.where(vertebrae > 0, 600, -100).astype(np.float32)
    write_volume(Volume(mr, affine, "mr"), root / "sub-1/anat/sub-1_T2w.nii.gz")
    write_volume(Volume(ct, affine, "ct"), truth / "sub-1_space-T2w_ct.nii.gz")
    path = truth / "sub-1_space-T2w_desc-vertebrae_dseg.nii.gz"
    write_volume(Volume(vertebrae, affine, "labels"), path)
    write_table([{"participant_id": "sub-1", "split": "train"}], root / "participants.tsv")
    return root


@pytest.fixture
def fields(home):
    """Of the row flat, six updates, a checkpoint after each."""
    rows = [*RAW["rows"], {"name": "short", "preset": "flat", "registration": "truth",
                           "set": {"trainer.max_steps": 6, "trainer.schedule": "cosine",
                                   "data.workers": 0}}]  # fmt: skip
    made = experiment(rows=rows, trainer={"checkpoint_minutes": 0, "log_every": 1, "warmup": 1,
                                          "preview_every": 0, "accelerator": "cpu"})  # fmt: skip
    return training_fields(made, made.rows[-1], 3, home)


def weights(folder):
    return load_bundle(folder / "bundle").method.state_dict()


def test_a_training_leaves_a_bundle_and_facts(folder, fields, tmp_path):
    facts = train_row(fields, folder, tmp_path / "a", None)
    assert (facts["updates"], facts["ndim"], facts["method"]) == (6, 2, "regression")
    card = load_bundle(tmp_path / "a" / "bundle").card
    assert card.sha256 == facts["sha256"]
    assert (card.preprocessing.raster, card.preprocessing.spacing_mm) == ("slices", 2.0)
    assert progress(tmp_path / "a")["updates"] == 6
    assert progress(tmp_path / "nothing") == {}


def test_in_pieces_it_ends_with_the_same_weights(folder, fields, tmp_path, monkeypatch):
    """The first piece is over after one update."""
    train_row(fields, folder, tmp_path / "whole", None)
    real = training.train

    def short(config, run):
        trainer = config.trainer.model_copy(update={"piece_minutes": 1e-9})
        return real(config.model_copy(update={"trainer": trainer}), run)

    monkeypatch.setattr(training, "train", short)
    with pytest.raises(Paused, match="training stopped at update 1"):
        train_row(fields, folder, tmp_path / "parts", 5.0)
    assert not (tmp_path / "parts" / "bundle").exists()
    monkeypatch.setattr(training, "train", real)
    train_row(fields, folder, tmp_path / "parts", 5.0)
    one, other = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    for key, value in one.items():
        np.testing.assert_array_equal(other[key].numpy(), value.numpy())


def test_a_bundle_that_was_brought_along_tells_its_own_training():
    folder, facts = take_bundle("mr2ct")
    assert (folder / "bundle.yaml").is_file()
    assert facts["updates"] > 0
    assert facts["method"] == "regression"
