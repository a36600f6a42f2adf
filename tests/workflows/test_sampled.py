"""Mode mc from options to files, with a tiny untrained network and masks that are made up."""

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
from spinect.cli.progress import ProgressLine
from spinect.errors import BundleError, ConfigError, ResourceError
from spinect.geometry import Grid, Volume
from spinect.inference import plan as room
from spinect.inference.plan import PREPARE_BYTES, Plan
from spinect.inference.walk import fit
from spinect.io import write_volume
from spinect.methods.diffusion import Diffusion
from spinect.methods.registry import build
from spinect.segmentation import Segmentation
from spinect.workflows import sampled, shipped
from spinect.workflows.case import run_case
from spinect.workflows.engine import Need
from spinect.workflows.facts import facts
from spinect.workflows.options import RunOptions
from spinect.workflows.outputs import read_rows
from spinect.workflows.planning import plan
from spinect.workflows.plausibility import PLAUSIBLE_BYTES

NETWORK = {"channels": [8, 12], "blocks": [1, 1], "decoder_blocks": [1], "head": 8}
COMMAND = "command:program {input} {output}"
EXTRAS = ("interval", "medoid", "votes")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "drawn"
    torch.manual_seed(0)
    about = Preprocessing(spacing_mm=2.0, tile=(8, 16, 16), flip_average=False)
    modes = ("regress", "sample", "mc")
    fields = {"network": NETWORK}
    card = Card(name="drawn", method="diffusion", config=fields, modes=modes, preprocessing=about)
    save_bundle(folder, build("diffusion", fields), card)
    return str(folder)


@pytest.fixture
def scan(tmp_path):
    data = np.random.default_rng(0).uniform(50, 500, (8, 30, 34)).astype(np.float32)
    return write_volume(Volume(data, np.diag([4.0, 1, 1, 1]), "mr"), tmp_path / "in" / "a.nii.gz")


def options(model, *outputs, **more):
    fields = dict(
        model=model, mode="mc", samples=3, steps=1, segmenter=COMMAND, interval=0.5,
        outputs=("ct", "std", "iso", "table", *outputs), precision="fp32", device="cpu",
    )  # fmt: skip
    return RunOptions.checked(**(fields | more))


@pytest.fixture
def masks(monkeypatch):
    """A vertebra in the mean CT; the second draw has none, the third calls it L4."""
    asked = []

    def segment(source, *_args, **_options):
        grid = source.grid
        labels = np.zeros(grid.shape, np.uint8)
        number = [22, 22, 0, 23][len(asked) % 4]
        labels[3:12, 3:12, 3:12] = number
        asked.append(source)
        volume = Volume(labels, grid.affine, "labels")
        row = {"id": 22, "name": "L3", "level_source": "user", "confidence": None}
        return Segmentation(volume, volume.with_data(labels * 0), (row,))

    monkeypatch.setattr(shipped, "segment", segment)
    return asked


def done(scan, out, asked):
    return run_case(plan([scan], out, asked).cases[0], shipped.load_engine(asked))


@pytest.fixture
def told(scan, tmp_path, model, masks, monkeypatch):
    """Everything at once, and what was segmented for it; muscle as dense as that CT."""
    monkeypatch.setattr("spinect.segmentation.spread.MUSCLE_HU", 400.0)
    outcome = done(scan, tmp_path / "out", options(model, *EXTRAS))
    return tmp_path / "out", outcome.record, list(masks)


def load(folder, end):
    return np.asarray(nib.load(folder / f"a{end}.nii.gz").dataobj)


def test_files_hold_what_the_draws_say(told):
    out, record, segmented = told
    draws = np.stack([np.rint(source.data) for source in segmented[1:]])
    iso = "_space-iso_desc-"
    np.testing.assert_array_equal(load(out, f"{iso}lower_ct"), draws.min(0))
    np.testing.assert_array_equal(load(out, f"{iso}upper_ct"), draws.max(0))
    medoid = load(out, f"{iso}medoid_ct")
    np.testing.assert_array_equal(medoid, draws[record.sampling.medoid_sample])
    np.testing.assert_allclose(load(out, f"{iso}std_ct"), draws.std(0, ddof=1), atol=1)
    share = load(out, f"{iso}vertebrae_probseg")
    assert share.dtype == np.float32
    assert share[5, 5, 5] == pytest.approx(2 / 3)
    voted = load(out, f"{iso}voted_dseg")
    np.testing.assert_array_equal(np.unique(voted), [0, 22])  # the name is the mean's
    np.testing.assert_array_equal(voted > 0, share > 0.5)
    given = nib.load(out.parent / "in" / "a.nii.gz")
    for end in ("lower_ct", "upper_ct", "medoid_ct", "std_ct", "vertebrae_probseg", "voted_dseg"):
        made = nib.load(out / f"a_desc-{end}.nii.gz")
        assert made.shape == given.shape
        np.testing.assert_allclose(made.affine, given.affine, atol=1e-5)
    assert "L3" in (out / "a_desc-voted_dseg.tsv").read_text()


def test_sidecars_and_the_record_state_ranks_and_coverage(told):
    out, record, _ = told
    lower = json.loads((out / "a_desc-lower_ct.json").read_text())
    assert lower["statistic"] == "sample 1 of 3 in rising order"
    assert (lower["ranks"], lower["nominal_coverage"], lower["samples"]) == ([1, 3], 0.5, 3)
    upper = json.loads((out / "a_desc-upper_ct.json").read_text())
    assert upper["statistic"] == "sample 3 of 3 in rising order"
    medoid = json.loads((out / "a_desc-medoid_ct.json").read_text())
    assert medoid["sample_index"] == record.sampling.medoid_sample
    drawn = record.sampling
    assert (drawn.samples, drawn.interval_ranks, drawn.nominal_coverage) == (3, (1, 3), 0.5)
    assert drawn.expected_gain_db == pytest.approx(10 * np.log10(2 / (1 + 1 / 3)), abs=1e-3)
    assert all((out / name).exists() for name in record.outputs)
    said = facts(record)
    assert "K = 3 draws" in said["averaging"]
    assert "= 1.76 dB more PSNR than one draw" in said["averaging"]
    assert said["interval"] == "draws 1 and 3 of 3 in rising order, nominal coverage 0.50"


def test_the_table_and_the_warnings_tell_the_doubt(told):
    out, record, _ = told
    (row,) = read_rows(out / "a_vertebrae.tsv")
    mask = load(out, "_space-iso_desc-voted_dseg") == 22
    std = load(out, "_space-iso_desc-std_ct")
    assert row["spread_hu"] == pytest.approx(np.sqrt(np.square(std[mask]).mean()), abs=0.1)
    assert row["confidence"] == row["draws_found"] == pytest.approx(2 / 3, abs=1e-3)
    assert record.confidence == pytest.approx(2 / 3, abs=1e-3)
    contrast = load(out, "_space-iso_desc-synth_ct")[mask].mean() - 400
    assert row["spread_hu"] >= contrast
    (said,) = record.warnings
    assert f"do not trust L3 ({row['spread_hu']:.0f} against {max(contrast, 0):.0f} HU)" in said


def test_what_is_not_asked_for_is_not_made(scan, tmp_path, model, masks):
    outcome = done(scan, tmp_path / "out", options(model, outputs=("ct", "std", "table")))
    assert set(outcome.record.outputs) == {
        f"a{end}"
        for end in ("_desc-synth_ct.nii.gz", "_desc-std_ct.nii.gz", "_desc-std_ct.json",
                    "_vertebrae.tsv", "_run.json")
    } - {"a_run.json"}  # fmt: skip
    assert len(masks) == 1  # the draws were not segmented
    assert outcome.record.sampling.interval_ranks is None
    (row,) = read_rows(tmp_path / "out" / "a_vertebrae.tsv")
    assert row["spread_hu"] > 0
    assert (row["confidence"], row["draws_found"]) == (None, None)


def test_one_call_has_no_sampling(scan, tmp_path, model, masks):
    plain = options(model, mode="regress", steps=None)
    record = done(scan, tmp_path / "out", plain).record
    assert record.sampling is None
    assert not {"averaging", "interval"} & set(facts(record))
    assert "samples" not in record.seconds
    assert not [name for name in record.outputs if "std" in name]
    assert masks


@pytest.mark.parametrize("mode", ["regress", "sample"])
@pytest.mark.parametrize("output", EXTRAS)
def test_outputs_without_spread_are_refused(model, mode, output):
    with pytest.raises(ConfigError, match=f"{output} need --mode mc.*mode {mode} has no spread"):
        options(model, output, mode=mode)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"interval": 0.8}, "3 samples reach a coverage of 0.5 at most"),
        ({"interval": 1.2}, "between 0 and 1"),
        ({"segmenter": "none"}, "votes need masks of every draw"),
        ({"segmenter": "direct"}, "segmenter direct makes none of a CT"),
        ({"kind": "ct"}, "a CT has no spread"),
    ],
)
def test_options_of_draws_that_do_not_fit(model, values, message):
    with pytest.raises(ConfigError, match=message):
        options(model, *EXTRAS, **values)


def test_a_sampler_that_ignores_noise_is_refused(scan, tmp_path, model, masks, monkeypatch):
    monkeypatch.setattr(Diffusion, "sample", lambda _self, _denoise, like, *_: like)
    with pytest.raises(BundleError, match="first two samples are identical"):
        done(scan, tmp_path / "out", options(model, "medoid"))
    assert list((tmp_path / "out").iterdir()) == []
    assert not masks


def test_the_command_line_refuses_too(scan, tmp_path):
    call = ["run", str(scan), "-o", str(tmp_path / "out"), "--outputs", "all,votes"]
    made = CliRunner().invoke(app, call)
    assert made.exit_code == 1
    assert "votes need --mode mc" in made.stderr
    assert "mode regress has no spread" in made.stderr


def test_the_hash_of_older_results_stays(model):
    """The interval is no option of a run that writes none."""
    plain = options(model)
    assert plain.content_hash() == replace_interval(plain, 0.3).content_hash()
    asked = options(model, "interval")
    assert asked.content_hash() != replace_interval(asked, 0.3).content_hash()


def replace_interval(asked, value):
    return asked.model_copy(update={"interval": value})


def test_the_plan_counts_draws_and_votes(model, monkeypatch):
    """2 bytes of each draw and voxel of the tiles, 1 of each voxel where masks are kept."""
    grid = Grid((8, 30, 34), np.diag([4, 1, 1, 1]))
    engine = shipped.load_engine(options(model))
    tiling = fit(grid, engine._translator, engine._compute, 2**40, "mc")[0]
    voxels = math.prod(tiling.padded)
    need = {name: engine.need(grid, options(model, *name)) for name in ((), EXTRAS[:2], EXTRAS)}
    assert need[()].temporary_bytes == 0
    assert need[EXTRAS[:2]].temporary_bytes == 3 * 2 * voxels
    assert need[EXTRAS].temporary_bytes == 3 * 2 * voxels + 3 * 32 * 30 * 34  # a command's: 1 mm
    few = type("Usage", (), {"free": 3 * 2 * voxels - 1})
    monkeypatch.setattr(room.shutil, "disk_usage", lambda _: few)
    engine.need(grid, options(model))
    with pytest.raises(ResourceError, match="temporary files"):
        engine.need(grid, options(model, "medoid"))


def test_what_the_draws_left_is_held_while_masks_are_made(model, monkeypatch):
    """Mean and spread, then both ends, the medoid, and what a vote needs."""
    grid = Grid((8, 30, 34), np.diag([4, 1, 1, 1]))
    engine = shipped.load_engine(options(model))
    engine._segmenter = engine._translator
    monkeypatch.setattr(sampled, "fit", lambda *_: (None, Plan(1, False, 10**12)))
    cases = ((), ("interval",), ("medoid",), ("votes",))
    need = [engine.need(grid, options(model, *names)).memory_bytes for names in cases]
    assert [(n - 10**12) / (16 * 15 * 17) for n in need] == [8, 16, 12, 19]


def test_memory_of_the_check_is_counted(model, monkeypatch):
    """What the draws left, a tile, and the image and its masks at 1 mm."""
    grid = Grid((8, 30, 34), np.diag([4, 1, 1, 1]))
    engine = shipped.load_engine(options(model))
    monkeypatch.setattr(sampled, "fit", lambda *_: (None, Plan(1, False, 1000, 0, 10**6)))
    monkeypatch.setattr(sampled, "resident_bytes", lambda: 10**9)
    checked = engine.need(grid, options(model)).memory_bytes
    left, voxels = 8 * 16 * 15 * 17, 32 * 30 * 34
    assert checked == 10**9 + left + 10**6 + (PREPARE_BYTES + PLAUSIBLE_BYTES) * voxels
    assert engine.need(grid, options(model, segmenter="none")).memory_bytes == 1000


def test_the_line_before_a_run_names_the_disk(scan, tmp_path, model, capsys):
    made = plan([scan], tmp_path / "out", options(model, *EXTRAS))
    line = ProgressLine()
    line.planned(made, Need(2**30, 3 * 2**20))
    said = capsys.readouterr().err
    assert "up to 1.0 GB of memory" in said
    assert "and 3 MB for a while in" in said
    line.planned(made, Need(2**30))
    assert "for a while" not in capsys.readouterr().err


def test_the_disk_of_the_outputs_counts_every_volume(scan, tmp_path, model):
    few, many = (
        plan([scan], tmp_path / "out", options(model, *names)).disk_bytes for names in ((), EXTRAS)
    )
    native, iso = 8 * 30 * 34, 32 * 30 * 34
    each = 2 + 2 + 2 + 4 + 1  # lower, upper, medoid, probability, voted
    assert many - few == each * (native + iso)
