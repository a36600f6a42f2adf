"""`--region spine` from the look for the spine to the files."""

import json
import math

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from spinect.bundle import save_bundle
from spinect.card import Card, Preprocessing
from spinect.cli.main import app
from spinect.errors import ConfigError
from spinect.geometry import Grid
from spinect.geometry.resample import resample
from spinect.methods.registry import build
from spinect.segmentation.region import MARGIN_MM, spine_box
from spinect.workflows.options import RunOptions
from spinect.workflows.record import read_record
from spinect.workflows.region import finder_of
from spinect.workflows.shipped import load_engine

NETWORK = {"channels": [8, 8], "blocks": [1, 1], "decoder_blocks": [1], "head": 8}
VERTEBRAE = (22, 23)  # of the tiny pair; the lowest one counts as not seen


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A regression with mask heads, and a sampler without."""
    made = tmp_path_factory.mktemp("models")
    about = Preprocessing(tile=(16, 16, 16), flip_average=False)
    torch.manual_seed(1)
    for name, method, modes in (
        ("tiny", "regression", ("regress",)),
        ("drawn", "diffusion", ("regress", "sample", "mc")),
    ):
        config = {"network": NETWORK}
        card = Card(name=name, method=method, config=config, modes=modes, preprocessing=about)
        save_bundle(made / name, build(method, config), card)
    return made


@pytest.fixture
def seen(monkeypatch, ideal_heads):
    """The look for the spine sees what is put into this list."""
    numbers = list(VERTEBRAE)
    monkeypatch.setattr(
        "spinect.segmentation.region.predict_masks",
        lambda image, *_args, **_options: ideal_heads(image.grid.canonical(), numbers),
    )
    return numbers


def cli(command, source, out, model, *more):
    arguments = [command, source, "-o", out, "--model", model, "--precision", "fp32", *more]
    done = CliRunner().invoke(app, [str(a) for a in (*arguments, "--device", "cpu")])
    assert done.exit_code == 0, done.output
    return read_record(out / "sub-1_T2w_run.json")


def load(folder, end):
    return np.asarray(nib.load(folder / f"sub-1_T2w{end}.nii.gz").dataobj)


def test_margins_around_the_vertebrae_are_those_stated(tiny_pair, ideal_heads):
    fine = tiny_pair.ct.grid
    grid = fine.crop((-60, -60, -90), np.add(fine.shape, (120, 120, 180)))
    truth = resample(tiny_pair.vertebrae, grid)
    found = spine_box(ideal_heads(grid, (22, 23, 24)))
    bone = grid.world(np.argwhere(truth.data > 0))
    corners = found.corners()
    np.testing.assert_allclose(bone.min(0) - corners.min(0), MARGIN_MM)
    np.testing.assert_allclose(corners.max(0) - bone.max(0), MARGIN_MM)


def test_the_box_ends_with_the_image_and_there_is_none_without_a_spine(tiny_pair, ideal_heads):
    grid = tiny_pair.ct.grid
    assert spine_box(ideal_heads(grid, (22, 23, 24))).shape[2] == grid.shape[2]
    assert spine_box(ideal_heads(grid, ())) is None


@pytest.mark.parametrize(("name", "mode"), [("tiny", "regress"), ("drawn", "mc")])
def test_files_are_those_of_the_whole_image_inside(
    folder, seen, mr_file, tmp_path, monkeypatch, name, mode
):
    """Margins of 4 mm, so that the box is smaller than the tiny image."""
    assert seen
    monkeypatch.setattr("spinect.segmentation.region.MARGIN_MM", (4.0, 4.0, 4.0))
    monkeypatch.setattr("spinect.workflows.shipped.finder_of", lambda _translator: None)
    more = ["--mode", mode, "--samples", "2"]
    more += ["--steps", "1"] if mode == "mc" else []
    outputs = ["--outputs", "ct,std,iso,html"]
    cli("translate", mr_file, tmp_path / "all", folder / name, *more, *outputs)
    out = tmp_path / "spine"
    record = cli("translate", mr_file, out, folder / name, *more, *outputs, "--region", "spine")
    assert all((out / file).exists() for file in record.outputs)
    for space in ("", "_space-iso"):
        mask = load(out, f"{space}_desc-region_mask")
        assert mask.dtype == np.uint8
        assert set(np.unique(mask)) == {0, 1}
        kinds = [("synth", -1000, 1), ("std", 0, 1e-2)]  # whole HU; float32
        for kind, outside, near in kinds[: 1 + (mode == "mc")]:
            got, wanted = (load(f, f"{space}_desc-{kind}_ct") for f in (out, tmp_path / "all"))
            np.testing.assert_allclose(got[mask > 0], wanted[mask > 0], atol=near)
            assert (got[mask == 0] == outside).all()
    assert record.region.found
    assert record.region.share == pytest.approx(mask.mean(), abs=1e-4)
    told = json.loads((out / "sub-1_T2w_desc-region_mask.json").read_text())
    assert told["share"] == record.region.share
    assert told["model"] == name
    assert "only a box around the spine was translated" in (out / "sub-1_T2w.html").read_text()
    assert "region" in record.seconds


def test_the_masks_of_a_region(folder, seen, mr_file, tmp_path):
    """The network's own heads: nothing is segmented outside."""
    assert seen
    record = cli("run", mr_file, tmp_path / "out", folder / "tiny", "--region", "spine",
                 "--segmenter", "direct", "--outputs", "vertebrae,iso")  # fmt: skip
    outside = load(tmp_path / "out", "_space-iso_desc-region_mask") == 0
    assert outside.any()
    assert not load(tmp_path / "out", "_space-iso_desc-vertebrae_dseg")[outside].any()
    assert [model.name for model in record.models] == ["tiny"]  # it found the spine by itself


def test_no_spine_is_said_and_everything_translated(folder, seen, mr_file, tmp_path):
    seen.clear()
    record = cli("translate", mr_file, tmp_path / "out", folder / "tiny", "--region", "spine")
    assert any("saw no vertebra, so everything is translated" in w for w in record.warnings)
    assert (record.region.found, record.region.share) == (False, 1.0)
    assert load(tmp_path / "out", "_desc-region_mask").all()


def test_options_keep_their_hash_and_refuse_what_does_not_fit():
    assert RunOptions().content() == RunOptions(region="all").content()
    assert "region" not in RunOptions().content()
    assert RunOptions(region="spine").content_hash() != RunOptions().content_hash()
    with pytest.raises(ConfigError, match="region spine is of what is translated"):
        RunOptions.checked(kind="ct", region="spine")


def test_who_looks_for_the_spine(folder):
    """The translator itself if it can; the need of memory counts the look."""
    options = RunOptions(model=str(folder / "tiny"), segmenter="none", region="spine")
    engine = load_engine(options)
    grid = Grid((20, 128, 128), np.diag([4, 1, 1, 1]))
    whole = load_engine(options.model_copy(update={"region": "all"}))
    assert engine.need(grid, options).memory_bytes >= whole.need(grid, options).memory_bytes
    drawn = load_engine(options.model_copy(update={"model": str(folder / "drawn")}))
    names = [model.name for model in drawn.models]
    assert names == ["drawn", "mr2ct"]  # it has no mask heads
    assert finder_of(drawn._translator) == "mr2ct"
    assert math.isfinite(drawn.need(grid, options).memory_bytes)
