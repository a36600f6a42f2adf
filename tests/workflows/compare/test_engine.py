"""Bundles as rows use them, and the whole of an experiment on the smallest one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from typer.testing import CliRunner

from spinect.bundle import load_bundle, save_bundle
from spinect.card import Card, Preprocessing
from spinect.cli.main import app
from spinect.errors import ConfigError
from spinect.geometry import Volume
from spinect.methods.registry import build
from spinect.methods.segmentation import Segmentation
from spinect.segmentation import Segmentation as Found
from spinect.workflows.compare.config import Inference
from spinect.workflows.compare.engine import RowEngine, Use, variant
from spinect.workflows.record import Stopwatch

NETWORK = {"channels": [8, 12], "blocks": [1, 1], "decoder_blocks": [1], "head": 8}
CONFIGS = Path(__file__).parents[3] / "configs" / "experiments"


def bundle(folder, method, modes=("regress",), **config):
    """A bundle of random weights, 2 mm."""
    fields = {"network": NETWORK, **config}
    torch.manual_seed(0)
    about = Preprocessing(spacing_mm=2.0, tile=(8, 16, 16))
    card = Card(name="x", method=method, config=fields, modes=modes, preprocessing=about)
    save_bundle(folder, build(method, fields), card)
    return folder


@pytest.fixture
def mr():
    rng = np.random.default_rng(0)
    data = rng.uniform(50, 500, (8, 30, 34)).astype(np.float32)
    return Volume(data, np.diag([4.0, 1, 1, 1]), "mr")


def use(**inference):
    return Use(Inference(**inference), "vertebrae", seed=1, threads=1)


def test_a_variant_has_the_same_weights_and_other_fields(tmp_path):
    loaded = load_bundle(bundle(tmp_path / "b", "diffusion", ("regress", "sample", "mc")))
    other = variant(loaded, {"eta": 1.0, "sampler": "ancestral"})
    assert (other.method.config.eta, loaded.method.config.eta) == (1.0, None)
    for key, value in loaded.method.state_dict().items():
        assert torch.equal(other.method.state_dict()[key], value)
    assert variant(loaded, {}) is loaded
    with pytest.raises(ConfigError, match="guidance"):  # nothing was dropped in its training
        variant(loaded, Inference(guidance=2.0).method_fields)
    still = load_bundle(bundle(tmp_path / "r", "regression", heads=["ct"]))
    with pytest.raises(ConfigError, match="method regression of bundle x has no eta"):
        variant(still, {"eta": 1.0})
    with pytest.raises(ConfigError, match="eta"):
        variant(loaded, {"eta": 1.0, "sampler": "heun"})


def test_a_translator_makes_ct_and_masks(tmp_path, mr):
    """Eta and steps of the row reach the sampler."""
    folder = bundle(tmp_path / "b", "diffusion", ("regress", "sample", "mc"))
    engine = RowEngine(folder, use(mode="sample", steps=2, eta=1.0, sampler="ancestral"))
    assert engine.options.segmenter == "embedded"
    made = engine.process(mr, engine.options, Stopwatch())
    assert made.ct.grid.matches(mr.grid)
    assert made.vertebrae.grid.matches(mr.grid)
    np.testing.assert_allclose(made.ct_iso.grid.spacing, 2.0)
    still = RowEngine(folder, use(mode="sample", steps=2))
    assert not np.array_equal(still.process(mr, still.options, Stopwatch()).ct.data, made.ct.data)


def test_the_segmenter_without_its_mirror_asks_half_as_often(tmp_path, mr, monkeypatch):
    """Same weights, each tile once."""
    seen = []
    plain = Segmentation.predict

    def predict(method, condition):
        seen.append(0 if condition.is_meta else len(condition))
        return plain(method, condition)

    monkeypatch.setattr(Segmentation, "predict", predict)
    folder, asked = bundle(tmp_path / "b", "regression", heads=["ct"]), []
    for mirrored in (True, False):
        engine = RowEngine(folder, replace(use(), mirror_average=mirrored))
        engine.process(mr, engine.options, Stopwatch())
        asked.append(sum(seen))
        seen.clear()
    assert asked[0] == 2 * asked[1] > 0


def test_a_segmenter_of_mr_makes_masks_alone(tmp_path, mr):
    folder = bundle(tmp_path / "b", "segmentation", in_channels=3)
    engine = RowEngine(folder, use())
    assert not engine.makes_ct
    assert engine.options.segmenter == "direct"
    assert not {"ct", "std"} & set(engine.options.outputs)
    made = engine.process(mr, engine.options, Stopwatch())
    assert made.ct is None
    assert made.ct_iso is None
    assert made.subregions.grid.matches(mr.grid)


def test_a_row_keeps_what_it_asks_of_its_draws(tmp_path, mr):
    folder = bundle(tmp_path / "b", "diffusion", ("regress", "sample", "mc"))
    asked = use(mode="mc", samples=3, steps=1, outputs=("std", "interval", "medoid"))
    asked = replace(asked, segmenter=None)
    with pytest.raises(ConfigError, match="3 samples reach a coverage"):
        _ = RowEngine(folder, asked).options
    few = replace(
        asked, inference=asked.inference.model_copy(update={"outputs": ("std", "medoid")})
    )
    engine = RowEngine(folder, few)
    made = engine.process(mr, engine.options, Stopwatch())
    assert set(made.layers) == {"std", "medoid"}
    assert made.layers["medoid"].iso.grid.matches(made.ct_iso.grid)
    assert made.sampling.samples == 3
    assert {"std", "medoid"} <= set(engine.options.outputs)
    assert engine.need(mr.grid, engine.options).temporary_bytes > 0


def test_votes_of_a_row_come_from_its_segmenter(tmp_path, mr, monkeypatch):
    """Each draw is segmented once, as their mean was."""
    seen = []

    def segment(ct, _bundle, **_options):
        labels = np.zeros(ct.grid.shape, np.uint8)
        labels[2:8, 2:8, 2:8] = 22
        seen.append(ct)
        found = Volume(labels, ct.grid.affine, "labels")
        return Found(found, found.with_data(labels * 0), ({"id": 22, "name": "L3"},))

    monkeypatch.setattr("spinect.workflows.compare.engine.segment_ct", segment)
    folder = bundle(tmp_path / "b", "diffusion", ("regress", "sample", "mc"))
    engine = RowEngine(folder, use(mode="mc", samples=2, steps=1, outputs=("votes",)))
    made = engine.process(mr, engine.options, Stopwatch())
    assert len(seen) == 3
    np.testing.assert_array_equal(made.layers["voted"].iso.data, made.vertebrae_iso.data)
    assert (made.rows[0]["confidence"], made.rows[0]["draws_found"]) == (1, 1)


def test_outputs_of_draws_without_draws_are_refused(tmp_path):
    with pytest.raises(ValidationError, match="outputs medoid need mode mc, not sample"):
        Inference(mode="sample", outputs=("medoid",))
    folder = bundle(tmp_path / "b", "segmentation", in_channels=3)
    with pytest.raises(ConfigError, match="bundle x makes no CT, and so no std"):
        RowEngine(folder, use(mode="mc", outputs=("std",)))
    assert Inference(mode="mc", outputs=("std",)).method_fields == {}


@pytest.mark.slow
def test_the_smoke_experiment_runs_from_phantoms_to_tables(tmp_path):
    """And a second start keeps everything."""
    command = ["compare", str(CONFIGS / "graf2023_phantom_smoke.yaml"), "-o", str(tmp_path / "out")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    out = tmp_path / "out"
    for name in ("image_quality.md", "dice.tex", "posterior_dice.md"):
        assert "Phantom data" in (out / "tables" / name).read_text()
    before = {path: path.stat().st_mtime_ns for path in (out / "training").rglob("*")}
    assert CliRunner().invoke(app, command).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "training").rglob("*")} == before
