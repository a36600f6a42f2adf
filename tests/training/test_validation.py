"""Validation on whole volumes: its figures, what it chooses, and that training never feels it."""

import csv
import random
import signal

import numpy as np
import pytest
import torch
import yaml
from scipy import ndimage
from torch import nn
from typer.testing import CliRunner

from spinect.bundle import load_bundle
from spinect.cli.main import app
from spinect.errors import ConfigError, TrainingError
from spinect.geometry.resample import resample
from spinect.inference import predict_masks, translate
from spinect.io import read, write_table, write_volume
from spinect.training import check_checkpoint, export, train
from spinect.training.aside import averaged, random_kept
from spinect.training.config import dump_config, load_config, parse_config
from spinect.training.folder import RunFolder
from spinect.training.metric import Metric
from spinect.training.optim import Ema
from spinect.training.validate import Measured

SEEDS = {"sub-1": "n/a", "sub-2": "n/a", "sub-3": "2000003"}


@pytest.fixture(scope="session")
def folder(tiny_pair, tmp_path_factory):
    """A dataset of three patients: the tiny pair, each time another bit brighter."""
    root = tmp_path_factory.mktemp("validation")
    for number, name in enumerate(SEEDS):
        mr = tiny_pair.mr.with_data(tiny_pair.mr.data * (1 + 0.1 * number))
        write_volume(mr, root / name / "anat" / f"{name}_T2w.nii.gz")
        stem = root / "derivatives" / "truth" / name / f"{name}_space-iso"
        ends = {"ct": "_ct", "vertebrae": "_desc-vertebrae_dseg"}
        for part, end in ends.items():
            write_volume(getattr(tiny_pair, part), stem.with_name(f"{stem.name}{end}.nii.gz"))
    participants(root)
    return root


def participants(root, **splits):
    sides = {"sub-1": "train", "sub-2": "validation", "sub-3": "validation"}
    sides |= {name.replace("_", "-"): split for name, split in splits.items()}
    rows = [{"participant_id": n, "split": s, "seed": SEEDS[n]} for n, s in sides.items()]
    write_table(rows, root / "participants.tsv")


def measured(raw, folder, export=None, trainer=None, **validation):
    """The tiny config with a validation on `folder`."""
    settings = {"channels": "max", "dtype": "float32"}
    settings |= {"preprocessing": {"tile": [24, 48, 64], "flip_average": False}}
    validation = {"folder": folder and str(folder), "every": 2} | validation
    return parse_config(
        raw
        | {"export": settings | (export or {}), "validation": validation}
        | {"trainer": raw["trainer"] | (trainer or {})}
    )


def rows_of(run):
    with (run / "validation.csv").open() as file:
        return list(csv.DictReader(file))


def tensors(state):
    for value in state.values():
        if isinstance(value, dict):
            yield from tensors(value)
        elif isinstance(value, torch.Tensor):
            yield value


def assert_equal_runs(first, second):
    """The same weights, averages and optimiser states, bit by bit."""
    pairs = list(zip(*(tensors(RunFolder(run).load()) for run in (first, second)), strict=True))
    assert len(pairs) > 10
    assert all(torch.equal(a, b) for a, b in pairs)


NETWORK = {"channels": [4, 6], "blocks": [1, 1], "decoder_blocks": [1], "head": 4}


@pytest.mark.parametrize("mode", ["regress", "sample"])
def test_figures_are_those_of_the_exported_bundle(tmp_path, stream, raw, folder, mode):
    """Translated by the driver of inference, on the truth's grid, within 10 mm of bone."""
    stream()
    steps = None if mode == "regress" else 2
    if mode == "sample":
        raw["method"] = {"name": "diffusion", "in_channels": 1, "network": NETWORK}
    config = measured(raw, folder, {"modes": [mode]}, {"max_steps": 2, "ema": 0.5},
                      subjects=1, steps=steps)  # fmt: skip
    run = train(config, tmp_path / "run")
    export(run, tmp_path / "bundle")
    one, mean = rows_of(run)
    assert (one["update"], one["subject"], one["series"]) == ("2", "sub-2", "sub-2_T2w")
    assert (mean["subject"], mean["mae_near_bone"]) == ("mean", one["mae_near_bone"])
    truth = folder / "derivatives/truth/sub-2"
    ct = read(truth / "sub-2_space-iso_ct.nii.gz", "ct")
    bone = read(truth / "sub-2_space-iso_desc-vertebrae_dseg.nii.gz", "labels").data > 0
    mr = read(folder / "sub-2/anat/sub-2_T2w.nii.gz", "mr")
    bundle = load_bundle(tmp_path / "bundle")
    made = translate(mr, bundle, mode=mode, steps=steps, seed=config.seed, device="cpu")
    error = resample(made.ct, ct.grid).data.astype(float) - ct.data
    near = ndimage.distance_transform_edt(~bone) <= 10
    assert float(one["mae_near_bone"]) == pytest.approx(np.abs(error[near]).mean(), rel=1e-4)
    assert float(one["bias_near_bone"]) == pytest.approx(error[near].mean(), rel=1e-4)


class Masks(torch.utils.data.Dataset):
    """CT patches whose bright voxels are bodies of vertebrae."""

    def __getitem__(self, index):
        from spinect.protocols import Batch

        image = torch.randn(1, 1, 12, 12, 12, generator=torch.Generator().manual_seed(index))
        bone = image > 0.5
        return Batch(
            condition=image,
            inside=torch.ones_like(image),
            classes=(2 * bone[:, 0]).to(torch.uint8),
            centre=bone.float(),
            offset=torch.where(bone, 0.0, torch.nan).expand(-1, 3, -1, -1, -1).clone(),
        )


def test_a_segmenter_is_measured_by_its_dice(tmp_path, raw, folder, monkeypatch):
    monkeypatch.setattr("spinect.training.run.make_stream", lambda _config: Masks())
    raw["method"] = {"name": "segmentation", "in_channels": 1, "network": NETWORK}
    raw["data"]["task"] = "segment"
    about = {"channels": "hu", "inputs": "ct"}
    with pytest.raises(ConfigError, match=r"mae_near_bone needs the head ct, .* dice_volume"):
        train(measured(raw, folder, about), tmp_path / "run")
    config = measured(
        raw, folder, about, {"max_steps": 30, "lr": 0.02, "ema": 0.5},
        every=30, metric="dice_volume", subjects=1,
    )  # fmt: skip
    run = train(config, tmp_path / "run")
    found = float(rows_of(run)[0]["dice_volume"])
    assert 0.01 < found < 0.99
    export(run, tmp_path / "bundle")
    truth = folder / "derivatives/truth/sub-2/sub-2_space-iso"
    ct = read(truth.with_name(truth.name + "_ct.nii.gz"), "ct")
    true = read(truth.with_name(truth.name + "_desc-vertebrae_dseg.nii.gz"), "labels").data > 0
    masks = predict_masks(ct, load_bundle(tmp_path / "bundle"), device="cpu")
    mine = (masks.classes >= 2) & (masks.classes <= 7)
    assert masks.grid.matches(ct.grid)
    assert found == pytest.approx(2 * (mine & true).sum() / (mine.sum() + true.sum()), rel=1e-4)


@pytest.mark.parametrize("channels_last", [True, False])
def test_training_never_feels_it(tmp_path, stream, raw, folder, channels_last):
    """With and without validation, killed and resumed: the same weights, bit by bit."""
    trainer = {"channels_last": channels_last}
    stream()
    train(parse_config(raw | {"trainer": raw["trainer"] | trainer}), tmp_path / "without")
    config = measured(raw, folder, None, trainer, subjects=1)
    stream(fails_at=3)
    with pytest.raises(RuntimeError, match="killed"):
        train(config, tmp_path / "with")
    stream()
    train(config, tmp_path / "with")
    assert_equal_runs(tmp_path / "without", tmp_path / "with")
    updates = [row["update"] for row in rows_of(tmp_path / "with")]
    assert updates == ["2", "2", "4", "4", "6", "6"]


def test_what_is_done_aside_leaves_no_trace():
    module = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.Conv3d(4, 2, 3))
    ema, average = Ema(module, 0.5), module[0].weight.detach().clone()
    with torch.no_grad():
        module[0].weight.add_(1)
    module[1].eval()  # a frozen part of a module in training
    before = {k: v.clone() for k, v in module.state_dict().items()}
    layouts = [p.stride() for p in module.parameters()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    with averaged(module, ema), random_kept(torch.device("cpu")):
        assert torch.equal(module[0].weight, average)
        assert not any(part.training for part in module.modules())
        module.to(memory_format=torch.channels_last_3d)
        assert [p.stride() for p in module.parameters()] != layouts
        random.random(), np.random.rand(), torch.rand(1)  # noqa: NPY002
    drawn = (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002
    random.seed(1), np.random.seed(1), torch.manual_seed(1)  # noqa: NPY002
    assert drawn == (random.random(), np.random.rand(), torch.rand(1).item())  # noqa: NPY002
    assert [p.stride() for p in module.parameters()] == layouts
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert [part.training for part in module] == [True, False, True]


def scripted(monkeypatch, values, aside=lambda: None):
    """Let every validation find the next of some values of its metric, of one series."""
    left = iter(values)

    def measure(plan, adapter, stop):
        del adapter, stop
        aside()
        figures = dict.fromkeys(plan.columns, 0.0) | {plan.metric.name: next(left)}
        return [Measured("sub-2", "sub-2_T2w", figures)]

    monkeypatch.setattr("spinect.training.record.measure", measure)


def test_the_best_checkpoint_is_kept_and_exported(tmp_path, stream, raw, folder, monkeypatch):
    config = measured(raw, folder)
    with pytest.raises(ConfigError, match="tiny has no validation"):
        check_checkpoint(parse_config(raw), "best")
    check_checkpoint(config, "best")
    stream(fails_at=5)
    scripted(monkeypatch, [50.25, 40.5])
    with pytest.raises(RuntimeError, match="killed"):
        train(config, tmp_path / "run")
    assert RunFolder(tmp_path / "run").load_best()["updates"] == 4
    stream()
    scripted(monkeypatch, [41.0])
    run = train(config, tmp_path / "run")
    best, last = export(run, tmp_path / "b", checkpoint="best"), export(run, tmp_path / "l")
    assert (best.training.steps, best.training.checkpoint) == (4, "best")
    assert best.training.validation["value"] == 40.5
    assert (last.training.steps, last.training.checkpoint, last.training.validation) == \
        (6, "last", {})  # fmt: skip
    text = (tmp_path / "b" / "README.md").read_text()
    assert "the best by mae_near_bone 40.5 HU, after update 4; chosen on 2 series of 2" in text
    assert "the last, after update 6" in (tmp_path / "l" / "README.md").read_text()
    assert "sub-2" not in (tmp_path / "b" / "bundle.yaml").read_text()
    stored = load_bundle(tmp_path / "b").method.state_dict()
    average = RunFolder(run).load_best()["ema"]["average"]
    assert all(torch.equal(stored[key], value) for key, value in average.items())


def test_a_best_one_by_another_measure_is_set_aside(tmp_path, stream, raw, folder, monkeypatch):
    stream()
    scripted(monkeypatch, [50.0])
    train(measured(raw, folder, None, {"max_steps": 2}), tmp_path / "run")
    scripted(monkeypatch, [20.0, 10.0])
    with pytest.warns(UserWarning, match="goes on from update 2 with other"):
        run = train(measured(raw, folder, metric="psnr_patient"), tmp_path / "run")
    assert RunFolder(run).load_best()["updates"] == 4  # 20 dB beats 10 dB and 50 HU is no measure
    assert (run / "checkpoints" / "best.until-0000002.ckpt").is_file()


def test_the_best_of_a_run_without_validation_is_refused(tmp_path, stream, raw):
    stream()
    run = train(parse_config(raw | {"trainer": raw["trainer"] | {"max_steps": 1}}), tmp_path / "r")
    with pytest.raises(TrainingError, match="holds no best checkpoint"):
        export(run, tmp_path / "bundle", checkpoint="best")


def test_a_metric_that_is_nowhere_defined_stops(tmp_path, stream, raw, folder, monkeypatch):
    stream()
    scripted(monkeypatch, [float("nan")])
    with pytest.raises(TrainingError, match="vifp_bone is defined on none of 1"):
        train(measured(raw, folder, metric="vifp_bone"), tmp_path / "run")


def test_its_time_counts_nowhere(tmp_path, stream, raw, folder, monkeypatch):
    """A clock that moves by hand: 3 s for a batch, 1 s for an update, 1000 s for a validation."""
    now = [0.0]

    def passes(seconds):
        now[0] += seconds

    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    source = stream()
    plain = source.__class__

    class Slow(plain):
        def __getitem__(self, index):
            passes(3.0)
            return plain.__getitem__(self, index)

    source.__class__ = Slow
    step = Ema.update
    monkeypatch.setattr(Ema, "update", lambda *args: (passes(1.0), step(*args)))
    scripted(monkeypatch, [3.0, 2.0, 1.0], lambda: passes(1000.0))
    run = train(measured(raw, folder, None, {"max_steps": 12, "log_every": 4}, every=4),
                tmp_path / "run")  # fmt: skip
    with (run / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["seconds_per_update"]) for row in rows] == [4.0, 4.0, 4.0]
    assert [float(row["share_waiting"]) for row in rows] == [0.75, 0.75, 0.75]
    assert [float(row["share_overhead"]) for row in rows] == [0.0, 0.0, 0.0]
    left = [float(row["minutes_left"]) for row in rows]
    assert left == pytest.approx([32 / 60, 16 / 60, 0], abs=1e-4)
    state = RunFolder(run).load()
    assert state["minutes"] == pytest.approx(12 * 4 / 60)
    # By the clock: after 5 s of training, that is two updates, whatever a validation took.
    source.__class__ = Slow
    scripted(monkeypatch, [3.0, 2.0, 1.0], lambda: passes(1000.0))
    run = train(measured(raw, folder, every=None, minutes=5 / 60), tmp_path / "clock")
    assert [r["update"] for r in rows_of(run) if r["subject"] == "mean"] == ["2", "4", "6"]


def test_a_signal_breaks_it_off_and_the_checkpoint_stands(
    tmp_path, stream, raw, folder, monkeypatch
):
    def interrupted(*_, progress, **__):
        signal.raise_signal(signal.SIGINT)
        progress(0.5)
        pytest.fail("a volume went on after Ctrl-C")

    stream()
    train(parse_config(raw), tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("spinect.training.validate.translate", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(measured(raw, folder, subjects=1), tmp_path / "run")
    assert RunFolder(tmp_path / "run").load()["updates"] == 2
    assert not (tmp_path / "run" / "validation.csv").exists()
    train(measured(raw, folder, subjects=1), tmp_path / "run")
    assert_equal_runs(tmp_path / "whole", tmp_path / "run")


def test_nobody_is_trained_on_and_measured(tmp_path, stream, raw, folder, tiny_pair):
    """The split itself, a phantom's seed, an image under another name."""
    stream()
    copy = tmp_path / "copy"
    write_volume(tiny_pair.mr, copy / "sub-3" / "anat" / "sub-3_T2w.nii.gz")
    data = {"source": "dataset", "folder": str(folder), "workers": 0, "patch": [12] * 3}
    raw["data"] = data | {"intensity": "max"}
    cases = [
        (measured(raw, folder, split="train"), "'train' is the one that is trained on: sub-1"),
        (measured(raw, copy), "same image, and the second one is trained on"),
    ]
    participants(copy, sub_1="test", sub_2="test")
    for config, told in cases:
        with pytest.raises(ConfigError, match=told):
            train(config, tmp_path / "run")
    raw["data"] = raw["data"] | {"split": "validation"}
    with pytest.raises(ConfigError, match="sub-3 is the phantom of seed 2000003, as is sub-3 in"):
        train(measured(raw, copy), tmp_path / "run")
    raw["data"] = {"source": "phantom", "subjects": 1, "patch": [12] * 3}
    write_table([{"participant_id": "sub-3", "split": "validation", "seed": "17"}],
                copy / "participants.tsv")  # fmt: skip
    with pytest.raises(ConfigError, match="sub-3 has seed 17: phantoms below 1000000 are for"):
        train(measured(raw, copy), tmp_path / "run")
    with pytest.raises(ConfigError, match=r"validation.folder is missing: .* source phantom"):
        train(measured(raw, None), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"mode": "sample"}, "validation.mode sample: export.modes are regress"),
        ({"steps": 3}, "validation.steps belong to the modes sample and mc"),
        ({"split": "other"}, "no participant of split 'other'; it has train, validation"),
        ({"metric": "mae"}, "metric 'mae' is not one of mae, mse"),
        ({"metric": "ms_ssim_bone"}, "ms_ssim: _patient, _valid"),
        ({"metric": "dice_volume"}, "dice_volume needs all of the heads classes, centre, offset"),
        ({"every": None}, "give every"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(
    tmp_path, stream, raw, folder, change, told
):
    stream()
    with pytest.raises(ConfigError, match=told):
        train(measured(raw, folder, **change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_other_channels_than_the_network_takes_are_refused(tmp_path, stream, raw, folder):
    stream()
    with pytest.raises(ConfigError, match=r"export.channels robust3 is 3 channels, .* takes 1"):
        train(measured(raw, folder, {"channels": "robust3"}), tmp_path / "run")


@pytest.mark.parametrize(
    ("name", "worse", "good"),
    [
        ("mae_near_bone", 50, 40),
        ("psnr_patient", 20, 21),
        ("bias_bone", -9, 4),
        ("bias_bone", 9, -4),
        ("dice_volume", 0.8, 0.9),
        ("ms_ssim_valid", 0.8, 0.9),
    ],
)
def test_the_direction_is_that_of_the_measure(name, worse, good):
    metric = Metric.parse(name)
    assert metric.name == name
    assert metric.better(good, worse)
    assert not metric.better(worse, good)
    assert not metric.better(good, good)
    assert metric.better(worse, None)
    assert not metric.better(float("nan"), None)


def test_a_validation_reads_back_equal(raw, folder, tmp_path):
    config = measured(raw, folder, subjects=3, mode="regress")
    path = tmp_path / "run.yaml"
    path.write_text(dump_config(config))
    assert load_config(path) == config
    assert yaml.safe_load(path.read_text())["validation"]["subjects"] == 3


def test_the_command_exports_the_best(tmp_path, stream, raw, folder, monkeypatch):
    stream()
    scripted(monkeypatch, [3.0, 1.0, 2.0])
    path, bundle = tmp_path / "run.yaml", tmp_path / "bundle"
    asked = ["train", str(path), "--run", str(tmp_path / "run"), "--export", str(bundle)]
    path.write_text(yaml.safe_dump(raw))
    refused = CliRunner().invoke(app, [*asked, "--checkpoint", "best"])
    assert refused.exit_code == 1
    assert not (tmp_path / "run").exists()  # before hours of training
    path.write_text(dump_config(measured(raw, folder)))
    assert CliRunner().invoke(app, [*asked, "--checkpoint", "best"]).exit_code == 0
    assert load_bundle(bundle).card.training.steps == 4
