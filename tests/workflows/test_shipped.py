"""The real engine with a tiny untrained network: everything of a run but the quality."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import spinect
from spinect.bundle import save_bundle
from spinect.card import Card, Preprocessing
from spinect.cli.main import app
from spinect.errors import BundleError, ConfigError, ResourceError
from spinect.evaluation.overlap import dice
from spinect.geometry import Grid
from spinect.geometry.resample import resample
from spinect.io import write_volume
from spinect.methods.registry import build
from spinect.workflows import shipped
from spinect.workflows.options import RunOptions
from spinect.workflows.record import read_record
from spinect.workflows.shipped import load_engine

CONFIG = {"network": {"channels": [8, 8], "blocks": [1, 1], "decoder_blocks": [1], "head": 4}}


def _save(folder, method, heads=None, **card):
    torch.manual_seed(1)
    config = CONFIG | ({"heads": heads} if heads else {})
    tile = Preprocessing(tile=(32, 32, 32), flip_average=False)
    written = Card(name=folder.name, method=method, config=config, preprocessing=tile, **card)
    save_bundle(folder, build(method, config), written)
    return folder


@pytest.fixture(scope="module")
def tiny_bundle(tmp_path_factory):
    return _save(tmp_path_factory.mktemp("models") / "tiny", "regression")


@pytest.fixture
def vertebrae_bundle(tmp_path, monkeypatch):
    """An untrained segmenter under the shipped one's name, found before it."""
    folder = _save(tmp_path / "more" / "vertebrae", "segmentation", inputs="ct", channels="hu")
    monkeypatch.setattr("spinect.card._folders", lambda: [folder])
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
    grids = [Grid((20, n, n), np.diag([4, 1, 1, 1])) for n in (64, 512)]
    need = [engine.need(grid, options).memory_bytes for grid in grids]
    assert 10 * 2**20 < need[0] < need[1] < 6 * 2**30
    with pytest.raises(ResourceError):
        engine.need(Grid((20, 64, 64)), options.model_copy(update={"max_memory": 2**20}))


def test_models_command_shows_and_verifies_a_folder(tiny_bundle):
    assert "# tiny" in cli("models", "show", tiny_bundle).stdout
    assert "as its card says" in cli("models", "verify", tiny_bundle).stdout
    assert cli("models", "show").exit_code == 1


def _whole(folder, mr_file):
    """Every output is there, the native masks lie on the MR's grid, the record is valid."""
    record = read_record(folder / "sub-1_T2w_run.json")
    assert all((folder / name).exists() for name in record.outputs)
    given = nib.load(mr_file)
    for kind in ("vertebrae", "subregions"):
        made = nib.load(folder / f"sub-1_T2w_desc-{kind}_dseg.nii.gz")
        assert made.shape == given.shape
        np.testing.assert_allclose(made.affine, given.affine, atol=1e-5)
        iso = nib.load(folder / f"sub-1_T2w_space-iso_desc-{kind}_dseg.nii.gz")
        np.testing.assert_allclose(iso.header.get_zooms(), 1, atol=1e-6)
    return record


@pytest.mark.parametrize("segmenter", ["direct", "embedded"])
def test_run_with_untrained_masks(tiny_bundle, vertebrae_bundle, mr_file, tmp_path, segmenter):
    assert vertebrae_bundle.exists()
    out = tmp_path / "out"
    done = cli("run", mr_file, "-o", out, "--model", tiny_bundle, "--segmenter", segmenter)
    assert done.exit_code == 0, done.output
    record = _whole(out, mr_file)
    names = ["tiny"] + ["vertebrae"] * (segmenter == "embedded")
    assert [model.name for model in record.models] == names
    assert "segment" in record.seconds


@pytest.mark.parametrize("found", [True, False])
def test_masks_confidence_and_table_reach_the_outputs(
    tiny_bundle, vertebrae_bundle, mr_file, tmp_path, tiny_pair, monkeypatch, found, ideal_heads
):
    """Networks that answer with the truth, or with no vertebra at all."""
    assert vertebrae_bundle.exists()
    monkeypatch.setattr(
        "spinect.segmentation.embedded.predict_masks",
        lambda ct, *_args, **_options: ideal_heads(ct.grid, None if found else ()),
    )
    translated = shipped.translate

    def translate(mr, bundle, **options):
        made = translated(mr, bundle, **options)
        return replace(made, masks=ideal_heads(made.grid, None if found else ()))

    monkeypatch.setattr(shipped, "translate", translate)
    out = tmp_path / "out"
    done = cli("run", mr_file, "-o", out, "--model", tiny_bundle, "--lowest", "L5")
    assert done.exit_code == 0, done.output
    record = _whole(out, mr_file)
    masks = np.asarray(nib.load(out / "sub-1_T2w_desc-vertebrae_dseg.nii.gz").dataobj)
    told = record.plausibility
    assert "plausible" in record.seconds
    assert told.doubt == (0.0 if found else None)
    assert told.agreement == pytest.approx(1, abs=0.01)
    assert set(told.seen) == {"as stored", "head-feet", "front-back", "both"}
    assert told.vertebrae == 3 * found
    if not found:
        assert not masks.any()
        assert (record.vertebrae, record.confidence, record.level_source) == ((), None, None)
        assert "vertebrae" in told.implausible
        assert any("no vertebra was found" in text for text in record.warnings)
        page = (out / "sub-1_T2w.html").read_text()
        assert "no vertebra was found" in page
        assert "left/right not determinable" in page
        return
    assert told.step_mm_least == pytest.approx(34, abs=0.5)
    assert told.canal == 0.0  # these masks have none
    assert "canal" in told.implausible
    assert any("the canal is found along 0% of the column" in text for text in record.warnings)
    assert record.vertebrae == ("L3", "L4", "L5")
    assert record.level_source == "user"
    assert record.confidence == pytest.approx(1, abs=1e-3)  # both paths saw the same
    truth = resample(tiny_pair.vertebrae, nib_grid(mr_file)).data
    for number in (22, 23, 24):
        assert dice(masks == number, truth == number) > 0.9


def nib_grid(path):
    image = nib.load(path)
    return Grid(image.shape, image.affine)


def test_segment_a_ct(vertebrae_bundle, tiny_pair, tmp_path):
    ct = write_volume(tiny_pair.ct, tmp_path / "in.nii.gz")
    done = cli("segment", ct, "-o", tmp_path / "out", "--outputs", "vertebrae,iso,table")
    assert vertebrae_bundle.exists()
    assert done.exit_code == 0, done.output
    record = read_record(tmp_path / "out" / "in_run.json")
    assert [model.name for model in record.models] == ["vertebrae"]
    told = record.plausibility
    assert (told.agreement, told.mirror, told.gamma, told.dark) == (None,) * 4  # of an MR only
    assert told.seen is not None


def test_a_model_without_mask_heads_cannot_segment(tmp_path):
    folder = _save(tmp_path / "bare", "regression", ["ct"])
    with pytest.raises(BundleError, match="no head for classes"):
        load_engine(RunOptions(model=str(folder), segmenter="direct"))


def test_a_segmenter_that_is_not_there_is_named(tiny_bundle, mr_file, tmp_path, monkeypatch):
    monkeypatch.setattr("spinect.card._folders", list)
    done = cli("run", mr_file, "-o", tmp_path / "out", "--model", tiny_bundle)
    assert done.exit_code == 1
    assert "'vertebrae'" in done.stderr


def test_segment_in_python(tiny_bundle, vertebrae_bundle, tiny_pair):
    translation = spinect.translate(tiny_pair.mr, str(tiny_bundle), device="cpu", precision="fp32")
    for how in ("direct", "embedded"):
        masks = spinect.segment(translation, how, model=str(vertebrae_bundle))
        assert masks.vertebrae.grid.matches(translation.grid)
    with pytest.raises(ConfigError, match="translate the MR first"):
        spinect.segment(tiny_pair.mr)
    with pytest.raises(ConfigError, match="'L9' is not a vertebra"):
        spinect.segment(translation, "direct", options=spinect.SegmentOptions(lowest="L9"))


@pytest.fixture
def ct_to_mr(tmp_path):
    """A network that answers with the CT it is given: air is 0, 2000 HU are 1500."""
    config = {"ndim": 3, "in_channels": 1, "bins": 2, "low": -1, "high": 1}
    method = build("lookup", config)
    with torch.no_grad():
        method.network.knots.copy_(torch.tensor([-0.1, 0.1]))  # a tenth: knots move ten times
    card = Card(
        name="ct2t2w", method="lookup", config=config, inputs="ct", makes="T2w",
        channels="hu_range", preprocessing=Preprocessing(tile=(32, 32, 32), flip_average=False),
    )  # fmt: skip
    save_bundle(tmp_path / "ct2t2w", method, card, dtype="float32")
    return tmp_path / "ct2t2w"


@pytest.fixture
def ct_file(tiny_pair, tmp_path):
    return write_volume(tiny_pair.ct, tmp_path / "sub-1_ct.nii.gz")


def test_a_ct_becomes_an_mr(ct_to_mr, ct_file, tiny_pair, tmp_path):
    """Named by the MR's suffix, on the CT's grid, and nothing speaks of HU."""
    out = tmp_path / "out"
    done = cli("run", ct_file, "-o", out, "--model", ct_to_mr, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == [
        "sub-1_ct.html",
        "sub-1_ct_desc-synth_T2w.nii.gz",
        "sub-1_ct_preview.png",
        "sub-1_ct_run.json",
        "sub-1_ct_space-iso_desc-synth_T2w.nii.gz",
    ]
    made = nib.load(out / "sub-1_ct_desc-synth_T2w.nii.gz")
    assert made.get_data_dtype() == np.float32
    np.testing.assert_allclose(made.affine, tiny_pair.ct.affine, atol=1e-5)
    wanted = (tiny_pair.ct.data + 1024) / 3024 * 1500
    np.testing.assert_allclose(made.get_fdata(), wanted, atol=0.1)
    record = read_record(out / "sub-1_ct_run.json")
    assert "relative intensity" in record.disclaimer
    assert (record.options["kind"], record.options["makes"]) == ("ct", "T2w")
    page = (out / "sub-1_ct.html").read_text()
    text = page[page.index("<main>") :]
    assert "synthetic MR" in text
    assert "HU" not in "".join(line for line in text.splitlines() if "base64" not in line)
    again = cli("run", ct_file, "-o", out, "--model", ct_to_mr, "--device", "cpu", "--resume")
    assert again.exit_code == 0
    assert "kept" in again.output


@pytest.mark.usefixtures("vertebrae_bundle")
def test_masks_of_the_ct_where_they_are_asked_for(ct_to_mr, ct_file, tmp_path):
    """The segmenter sees the CT itself, never the MR that is made of it."""
    out = tmp_path / "out"
    arguments = ["run", ct_file, "-o", out, "--model", ct_to_mr, "--device", "cpu"]
    asked = [*arguments, "--segmenter", "embedded", "--outputs", "ct,vertebrae"]
    done = cli(*asked)
    assert done.exit_code == 0, done.output
    masks = nib.load(out / "sub-1_ct_desc-vertebrae_dseg.nii.gz").get_fdata()
    only = ["segment", ct_file, "-o", tmp_path / "seg", "--device", "cpu"]
    plain = cli(*only, "--outputs", "vertebrae")
    assert plain.exit_code == 0, plain.output
    true = nib.load(tmp_path / "seg" / "sub-1_ct_desc-vertebrae_dseg.nii.gz").get_fdata()
    np.testing.assert_array_equal(masks, true)
    done = cli(*arguments, "--segmenter", "direct")
    assert done.exit_code == 1
    assert "its segmenter is none, or embedded" in " ".join(done.output.split())


def test_each_model_takes_its_own_image(ct_to_mr, tiny_bundle, ct_file, mr_file, tmp_path):
    done = cli("run", mr_file, "-o", tmp_path / "a", "--model", ct_to_mr, "--device", "cpu")
    assert done.exit_code == 1
    assert "or give a CT if it is an MR" in " ".join(done.output.split())
    done = cli("translate", ct_file, "-o", tmp_path / "b", "--model", tiny_bundle)
    assert done.exit_code == 1
    assert not list((tmp_path / "b").glob("*.nii.gz"))
    with pytest.raises(BundleError, match="makes T2w of an image of kind ct, these options ask"):
        load_engine(RunOptions(model=str(ct_to_mr)))
    with pytest.raises(BundleError, match="makes ct of an image of kind mr"):
        load_engine(RunOptions(model=str(tiny_bundle), kind="ct", makes="T2w", segmenter="none"))
