"""Training runs: resumed runs, accumulation, methods of two parts, what a folder holds."""

import csv
import itertools
import pickle
import signal

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from spinect.bundle import load_bundle
from spinect.errors import ConfigError, OutputError, SpinectWarning, TrainingError
from spinect.training import export, train
from spinect.training.config import parse_config
from spinect.training.folder import RunFolder
from spinect.training.run import make_method


def checkpoint(folder):
    return RunFolder(folder).load()


def changed(raw, **trainer):
    return parse_config(raw | {"trainer": raw["trainer"] | trainer})


def flat(state):
    """All tensors of a nested state by dotted name."""
    found = {}
    for key, value in state.items():
        if isinstance(value, dict):
            found |= {f"{key}.{k}": v for k, v in flat(value).items()}
        elif isinstance(value, torch.Tensor):
            found[str(key)] = value
    return found


def assert_equal_bitwise(first, second):
    first, second = flat(first), flat(second)
    assert first.keys() == second.keys()
    assert len(first) > 10
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path, stream, config):
    stream()
    train(config, tmp_path / "whole")
    stream(fails_at=4)
    with pytest.raises(RuntimeError, match="killed"):
        train(config, tmp_path / "broken")
    assert checkpoint(tmp_path / "broken")["updates"] == 4
    stream()
    train(config, tmp_path / "broken")
    assert_equal_bitwise(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "broken"))


def test_a_resumed_run_keeps_its_curves(tmp_path, stream, config):
    """TensorBoard drops what comes after the checkpoint, and nothing before it."""
    stream(fails_at=5)
    with pytest.raises(RuntimeError, match="killed"):
        train(config, tmp_path / "run")
    stream()
    train(config, tmp_path / "run")
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [point.step for point in events.Scalars("network_loss")] == [2, 4, 6]


def test_noise_is_a_function_of_the_sample(tmp_path, stream, raw, monkeypatch):
    """A method that draws in its losses resumes bitwise, too."""
    stream()
    monkeypatch.setattr("spinect.training.run.make_method", lambda _config: Noisy())
    config = changed(raw)
    train(config, tmp_path / "whole")
    stream(fails_at=3)
    with pytest.raises(RuntimeError, match="killed"):
        train(config, tmp_path / "broken")
    stream()
    torch.manual_seed(99)
    train(config, tmp_path / "broken")
    first, second = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "broken")
    assert torch.equal(first["method"]["net.weight"], second["method"]["net.weight"])


def test_accumulation_equals_a_batch_of_that_size(tmp_path, stream, raw):
    stream(size=1)
    train(changed(raw, max_steps=3, accumulate=4), tmp_path / "four")
    stream(size=4)
    train(changed(raw, max_steps=3), tmp_path / "one")
    four, one = checkpoint(tmp_path / "four")["method"], checkpoint(tmp_path / "one")["method"]
    for key, value in one.items():
        torch.testing.assert_close(four[key], value, rtol=1e-4, atol=1e-5)


class Linear(nn.Module):
    """What a method needs to be trained, around one layer per part."""

    ndim, modes, heads, in_channels, divisor = 3, ("regress",), ("ct",), 1, 1


class Noisy(Linear):
    parts = ("net",)

    def __init__(self):
        super().__init__()
        self.net = nn.Conv3d(1, 1, 1, bias=False)
        nn.init.constant_(self.net.weight, 0.1)
        self.extra = nn.ModuleList()  # no part, no parameters

    def losses(self, batch):
        noise = torch.randn_like(batch.condition)
        yield "net", (self.net(batch.condition + noise) - batch.target).square().mean()


class TwoParts(Linear):
    """The second loss reads the first part after its step, as a GAN's generator does."""

    parts = ("critic", "generator")

    def __init__(self):
        super().__init__()
        self.critic, self.generator = (nn.Conv3d(1, 1, 1, bias=False) for _ in range(2))
        for layer in (self.critic, self.generator):
            nn.init.constant_(layer.weight, 1.0)
        self.seen = []

    def losses(self, batch):
        yield "critic", self.critic(torch.ones_like(batch.condition)).mean()
        self.seen.append((self.critic.weight.item(), self.generator.weight.item()))
        scale = self.critic.weight.sum()
        yield "generator", scale * self.generator(torch.ones_like(batch.condition)).mean()


def test_parts_step_in_the_order_yielded(tmp_path, stream, raw, monkeypatch):
    stream()
    method = TwoParts()
    monkeypatch.setattr("spinect.training.run.make_method", lambda _config: method)
    rates = {"lr": 0.1, "part_lr": {"generator": 0.01}, "warmup": 0, "schedule": "constant"}
    train(changed(raw, max_steps=1, accumulate=2, weight_decay=0, **rates), tmp_path / "run")
    # Adam's first step is the rate itself. Both micro-batches see the critic after its step, and
    # the critic's gradient from the generator's loss moves nothing.
    assert method.seen == [(pytest.approx(0.9), 1.0)] * 2
    assert method.critic.weight.item() == pytest.approx(0.9)
    assert method.generator.weight.item() == pytest.approx(0.99)


def test_a_parameter_in_no_part_is_refused(tmp_path, stream, raw, monkeypatch):
    stream()
    method = Noisy()
    method.extra.append(nn.Linear(2, 2))
    monkeypatch.setattr("spinect.training.run.make_method", lambda _config: method)
    with pytest.raises(ConfigError, match=r"extra.0.weight and 1 more .* in no part"):
        train(changed(raw), tmp_path / "run")


def test_a_loss_that_is_not_finite_stops_and_keeps_the_checkpoint(
    tmp_path, stream, raw, monkeypatch
):
    class Diverges(Noisy):
        calls = 0

        def losses(self, batch):
            self.calls += 1
            for part, loss in super().losses(batch):
                yield part, loss * (float("nan") if self.calls == 3 else 1)

    stream()
    monkeypatch.setattr("spinect.training.run.make_method", lambda _config: Diverges())
    with pytest.raises(TrainingError, match="update 2: the loss of net is nan"):
        train(changed(raw), tmp_path / "run")
    kept = checkpoint(tmp_path / "run")
    assert kept["updates"] == 2
    assert torch.isfinite(kept["method"]["net.weight"]).all()


def test_the_run_folder_describes_itself_and_the_bundle_holds_the_average(tmp_path, stream, raw):
    stream()
    (tmp_path / "pool" / "map.bin").write_bytes(b"1234")
    config = changed(raw, precision="bf16", preview_every=6, ema=0.5)
    run = train(config, tmp_path / "run")
    names = {p.name for p in run.iterdir()}
    assert {"config.yaml", "environment.json", "data.json", "log.csv", "checkpoints"} <= names
    with (run / "log.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["update"] for row in rows] == ["2", "4", "6"]
    assert float(rows[0]["network_loss"]) > 0
    assert (run / "previews" / "update-0000006.png").read_bytes()[:4] == b"\x89PNG"
    card = export(run, tmp_path / "bundle", metrics={"mae": 1.5})
    assert (card.training.steps, card.training.patches, card.metrics) == (6, 6, {"mae": 1.5})
    assert card.training.data["pool"]["files"] == 1
    assert str(tmp_path) not in (tmp_path / "bundle" / "bundle.yaml").read_text()
    stored = load_bundle(tmp_path / "bundle").method.state_dict()
    average = checkpoint(run)["ema"]["average"]
    for key, value in average.items():
        kept = value.half().float() if value.ndim > 1 else value
        assert torch.equal(stored[key], kept), key


def test_patches_that_bf16_gets_wrong_are_refused(tmp_path, stream, raw):
    """Two cells along the first axis: the CPU's gradients are not to be trusted there."""
    stream()
    thin = parse_config(raw | {"data": raw["data"] | {"patch": [8, 12, 12]}})
    train(thin, tmp_path / "fp32")
    config = thin.model_copy(
        update={"trainer": thin.trainer.model_copy(update={"precision": "bf16"})}
    )
    with pytest.raises(ConfigError, match="at least 12 voxels, or trainer"):
        train(config, tmp_path / "bf16")
    assert not (tmp_path / "bf16").exists()


def test_workers_give_the_same_run(tmp_path, stream, raw):
    stream()
    train(changed(raw), tmp_path / "none")
    with_worker = parse_config(raw | {"data": raw["data"] | {"workers": 1}})
    train(with_worker, tmp_path / "one")
    assert_equal_bitwise(checkpoint(tmp_path / "none"), checkpoint(tmp_path / "one"))


def test_a_folder_of_another_network_is_refused_and_other_changes_are_told(tmp_path, stream, raw):
    stream()
    run = train(changed(raw, max_steps=2), tmp_path / "run")
    with pytest.raises(TrainingError, match="run with seed 3, this one has 4"):
        train(parse_config(raw | {"seed": 4}), run)
    with pytest.warns(SpinectWarning, match=r"from update 2 with other trainer.max_steps"):
        train(changed(raw, max_steps=3), run)
    assert checkpoint(run)["updates"] == 3
    assert (run / "config.until-0000002.yaml").is_file()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="neither empty nor a run folder"):
        train(changed(raw), tmp_path / "other")


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path, stream, raw):
    stream()
    folder = RunFolder(train(changed(raw), tmp_path / "run"))
    whole = folder.last.read_bytes()
    folder.last.write_bytes(whole[: len(whole) // 2])
    with pytest.warns(SpinectWarning, match=r"last.ckpt: not readable"):
        state = folder.load()
    assert state["updates"] == 5


def test_checkpoints_with_code_in_them_are_not_run(tmp_path):
    folder = RunFolder(tmp_path)
    folder.last.parent.mkdir()

    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was executed",))

    folder.last.write_bytes(pickle.dumps(Bomb(), protocol=2))
    with (
        pytest.warns(SpinectWarning, match="not readable"),
        pytest.raises(TrainingError, match="no checkpoint can be read"),
    ):
        folder.load()


def test_training_lowers_the_loss_and_starts_from_a_bundle(tmp_path, stream, raw):
    stream(size=4)
    config = changed(raw, max_steps=60, warmup=5, lr=1e-2, ema=0.5, checkpoint_minutes=5)
    run = train(config, tmp_path / "run")
    with (run / "log.csv").open() as file:
        losses = [float(row["network_loss"]) for row in csv.DictReader(file)]
    assert losses[-1] < 0.5 * losses[0]
    export(run, tmp_path / "bundle")
    warm = make_method(parse_config(raw | {"start_from": str(tmp_path / "bundle")}))
    stored = load_bundle(tmp_path / "bundle").method
    for one, other in zip(warm.parameters(), stored.parameters(), strict=True):
        assert torch.equal(one, other)


def test_starting_partly_takes_what_fits_and_refuses_a_stranger(tmp_path, stream, raw):
    stream(size=4)
    export(train(changed(raw, max_steps=1), tmp_path / "run"), tmp_path / "bundle")
    stored = load_bundle(tmp_path / "bundle").method.state_dict()
    other = raw | {"start_from": str(tmp_path / "bundle")}
    other["method"] = raw["method"] | {"in_channels": 2}
    with pytest.raises(ConfigError, match="another network"):
        make_method(parse_config(other))
    warm = make_method(parse_config(other | {"start_partly": True})).state_dict()
    cold = make_method(parse_config(other | {"start_from": None})).state_dict()
    shapes = {key: stored[key].shape == value.shape for key, value in warm.items()}
    assert any(shapes.values())
    assert not all(shapes.values())
    for key, fits in shapes.items():
        assert torch.equal(warm[key], (stored if fits else cold)[key])
    network = {"channels": [2, 3], "blocks": [0, 0], "decoder_blocks": [0], "head": 3}
    other["method"] = other["method"] | {"heads": ["classes"], "network": network}
    with pytest.raises(ConfigError, match="not one tensor fits"):
        make_method(parse_config(other | {"start_partly": True}))


def raising(source, signals):
    """Let a stream raise signals while some items are read: index -> signals."""
    plain = source.__class__

    class Raising(plain):
        def __getitem__(self, index):
            for number in signals.get(index, ()):
                signal.raise_signal(number)
            return plain.__getitem__(self, index)

    source.__class__ = Raising


@pytest.mark.parametrize(
    ("sent", "ends"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_finishes_the_update_and_leaves_a_checkpoint(tmp_path, stream, raw, sent, ends):
    stream()
    config = changed(raw, checkpoint_minutes=60)
    train(config, tmp_path / "whole")
    raising(stream(), {3: [sent]})
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.raises(ends) as end:
        train(config, tmp_path / "run")
    if ends is SystemExit:
        assert end.value.code == 143
    assert checkpoint(tmp_path / "run")["updates"] == 4
    assert {number: signal.getsignal(number) for number in before} == before
    stream()
    train(config, tmp_path / "run")
    assert_equal_bitwise(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "run"))


def test_a_second_ctrl_c_ends_at_once_and_a_second_sigterm_does_not(tmp_path, stream, raw):
    """`timeout` sends SIGTERM to the process and to its group; both must not cost the update."""
    config = changed(raw, checkpoint_minutes=60)
    for sent, code, kept in ((signal.SIGTERM, 143, True), (signal.SIGINT, 130, False)):
        raising(stream(), {3: [sent, sent]})
        with pytest.raises(SystemExit) as end:
            train(config, tmp_path / str(code))
        assert end.value.code == code
        assert (checkpoint(tmp_path / str(code)) is not None) is kept


def test_batch_norm_is_fixed_for_the_last_part_and_resumes_bitwise(tmp_path, stream, raw):
    network = raw["method"]["network"] | {"norm": "batch"}
    raw["method"] = raw["method"] | {"network": network}
    config = changed(raw, max_steps=6, freeze_norm=0.5)

    def statistics(run):
        state = checkpoint(run)["method"]
        return {k: v for k, v in state.items() if "running" in k}

    stream(size=2)
    train(config, tmp_path / "whole")
    found = {}
    for stop in (1, 3):
        stream(size=2, fails_at=stop)
        with pytest.raises(RuntimeError, match="killed"):
            train(config, tmp_path / "broken")
        found[stop] = statistics(tmp_path / "broken")
    stream(size=2)
    train(config, tmp_path / "broken")
    last = statistics(tmp_path / "broken")
    assert len(last) > 0
    assert all(torch.equal(found[3][k], v) for k, v in last.items())
    assert not any(torch.equal(found[1][k], v) for k, v in last.items())
    assert_equal_bitwise(checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "broken"))


def test_minutes_may_be_those_of_the_processor(raw, stream, tmp_path, monkeypatch):
    """Each look at the processor's clock finds it a second further; the wall does not count."""
    stream()
    seconds = itertools.count()
    monkeypatch.setattr("spinect.training.adapter.time.process_time", lambda: float(next(seconds)))
    raw["trainer"] |= {"max_steps": None, "max_minutes": 0.1, "clock": "cpu",
                       "schedule": "cosine-clock"}  # fmt: skip
    train(parse_config(raw), tmp_path / "run")
    state = RunFolder(tmp_path / "run").load()
    assert state["updates"] == 6  # one look each, after one at the start: 6 s are 0.1 min
    assert state["minutes"] == pytest.approx(0.1)
