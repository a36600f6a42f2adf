"""What training does when something goes wrong, and that two runs are one."""

import weakref

import pytest
import torch
from torch import nn

from spinect.errors import ConfigError, TrainingError
from spinect.training import train
from spinect.training.config import parse_config
from spinect.training.folder import RunFolder
from spinect.training.memory import split


class Greedy(nn.Module):
    """One weight per part; more than `most` patches at once are too many from some update on."""

    ndim, modes, heads, in_channels, divisor = 3, ("regress",), ("ct",), 1, 1
    parts = ("critic", "generator")

    def __init__(self, most, updates=0, text=None):
        super().__init__()
        self.critic, self.generator = (nn.Conv3d(1, 1, 1, bias=False) for _ in range(2))
        for layer in (self.critic, self.generator):
            nn.init.constant_(layer.weight, 0.1)
        self.most, self.left, self.text = most, updates, text
        self.tried, self.kept = [], lambda: None

    def losses(self, batch):
        patches = len(batch.condition)
        assert self.kept() is None  # of the pass that failed
        self.tried.append(patches)
        yield "critic", (self.critic(batch.condition) - batch.target).square().mean()
        self.left -= 1
        if patches > self.most and self.left < 0:
            activation = self.generator(batch.condition)
            self.kept = weakref.ref(activation)
            if self.text is None:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
            raise RuntimeError(self.text)
        yield "generator", (self.generator(batch.condition) - batch.target).square().mean()


def greedy(monkeypatch, *args, **options):
    method = Greedy(*args, **options)
    monkeypatch.setattr("spinect.training.run.make_method", lambda _config: method)
    return method


def sized(raw, scans, patches, **trainer):
    data = raw["data"] | {"scans": scans, "patches_per_scan": patches}
    return parse_config(raw | {"data": data, "trainer": raw["trainer"] | trainer})


@pytest.mark.parametrize(
    ("most", "size", "scans", "told"),
    [
        (4, 12, 3, "3 fit: set data.scans 3, data.patches_per_scan 1 and trainer.accumulate 8"),
        (3, 8, 2, "2 fit: set data.scans 2, data.patches_per_scan 1 and trainer.accumulate 8"),
        (1, 8, 2, "1 fit: set data.scans 1, data.patches_per_scan 1 and trainer.accumulate 16"),
        (0, 8, 2, "Not even patches one by one fit: set a smaller data.patch"),
        (0, 1, 1, "Not even patches one by one fit"),
    ],
)
def test_too_little_memory_names_the_batch_that_fits(
    tmp_path, stream, raw, monkeypatch, most, size, scans, told
):
    """Found by halving, with all parts; the last checkpoint stands."""
    stream(size=size)
    method = greedy(monkeypatch, most, updates=6)  # two micro-batches each: three updates
    with pytest.raises(TrainingError, match=told) as error:
        train(sized(raw, scans, size // scans, accumulate=2), tmp_path / "run")
    assert f"update 3: out of memory with {size} patches of 12 x 12 x 12 in" in str(error.value)
    assert "torch: CUDA out of memory. Tried to allocate 2.00 GiB" in str(error.value)
    state = RunFolder(tmp_path / "run").load()
    assert state["updates"] == 3
    assert all(torch.isfinite(w).all() for w in state["method"].values())
    assert set(method.tried) <= {size, size // 2, size // 4, 1}


def test_an_update_of_the_size_that_is_named_goes_through(tmp_path, stream, raw, monkeypatch):
    """What the message says is true, and goes on from the checkpoint."""
    stream(size=8)
    greedy(monkeypatch, 3, updates=3)
    with pytest.raises(TrainingError, match=r"2 fit: .*accumulate 4"):
        train(sized(raw, 2, 4), tmp_path / "run")
    stream(size=2)
    greedy(monkeypatch, 3)
    with pytest.warns(UserWarning, match="goes on from update 3 with other"):
        train(sized(raw, 2, 1, accumulate=4), tmp_path / "run")
    assert RunFolder(tmp_path / "run").load()["updates"] == 6


def test_the_processor_has_no_error_of_its_own(tmp_path, stream, raw, monkeypatch):
    """Its allocator raises a RuntimeError; any other RuntimeError passes as it is."""
    stream(size=2)
    greedy(monkeypatch, 1, text="[enforce fail] DefaultCPUAllocator: can't allocate memory")
    with pytest.raises(TrainingError, match="1 fit"):
        train(sized(raw, 2, 1), tmp_path / "run")
    greedy(monkeypatch, 1, text="mat1 and mat2 shapes cannot be multiplied")
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        train(sized(raw, 2, 1), tmp_path / "other")


def test_a_batch_is_cut_without_loss(stream):
    batch = stream(size=5)[0]
    pieces = list(split(batch, 2))
    assert [len(piece.condition) for piece in pieces] == [2, 2, 1]
    assert torch.equal(torch.cat([piece.target for piece in pieces]), batch.target)
    assert all(piece.classes is None for piece in pieces)


def test_a_batch_that_is_not_finite_is_named_as_such(tmp_path, stream, raw):
    """It is not the learning rate; what no vertebra has may be NaN."""
    source = stream(size=2)
    plain = source.__class__

    class Broken(plain):
        def __getitem__(self, index):
            batch = plain.__getitem__(self, index)
            if index == 3:
                batch.target[1, 0, :2, 0, 0] = float("nan")
            return batch

    source.__class__ = Broken
    told = r"update 3: the batch itself is not finite: 2 of 3456 values of target in micro-batch 0"
    with pytest.raises(TrainingError, match=told):
        train(parse_config(raw), tmp_path / "run")
    assert RunFolder(tmp_path / "run").load()["updates"] == 3


class Watched(nn.Module):
    """Notes how torch is set while it trains; may use an operation without a fixed result."""

    ndim, modes, heads, in_channels, divisor = 3, ("regress",), ("ct",), 1, 1
    parts = ("net",)

    def __init__(self, wild=False):
        super().__init__()
        self.net = nn.Conv3d(1, 1, 3, padding=1)
        self.wild, self.seen = wild, set()

    def losses(self, batch):
        backend = torch.backends.cudnn
        self.seen.add((
            torch.are_deterministic_algorithms_enabled(), backend.deterministic, backend.benchmark
        ))  # fmt: skip
        if self.wild:
            torch.zeros(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))
        yield "net", (self.net(batch.condition) - batch.target).square().mean()


@pytest.mark.parametrize("wanted", [True, False])
def test_deterministic_is_set_while_training_and_then_put_back(
    tmp_path, stream, raw, monkeypatch, wanted
):
    stream()
    config = parse_config(raw | {"trainer": raw["trainer"] | {"deterministic": wanted}})
    method = Watched()
    monkeypatch.setattr("spinect.training.run.make_method", lambda _config: method)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    train(config, tmp_path / "run")
    assert method.seen == {(True, True, False) if wanted else (False, False, True)}
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.benchmark
    method.wild = True
    fresh = tmp_path / "wild"
    if not wanted:
        assert train(config, fresh) == fresh
        return
    with pytest.raises(ConfigError, match=r"trainer.deterministic: put_ .* set it to false"):
        train(config, fresh)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("name", ["regression", "diffusion"])
def test_two_deterministic_runs_are_one(tmp_path, stream, raw, name):
    """Weights, averages and moments of both, bit by bit; a draw of the global generator between."""
    raw["method"] = {k: v for k, v in raw["method"].items() if k != "heads"} | {"name": name}
    raw["trainer"] |= {"deterministic": True, "accumulate": 2, "precision": "bf16"}
    found = []
    for run in ("one", "two"):
        stream(size=2)
        torch.rand(7)
        state = RunFolder(train(parse_config(raw), tmp_path / run)).load()
        found.append({f"{part}.{k}": v for part in ("method",) for k, v in state[part].items()}
                     | {f"ema.{k}": v for k, v in state["ema"]["average"].items()})  # fmt: skip
    assert len(found[0]) > 10
    assert all(torch.equal(value, found[1][key]) for key, value in found[0].items())
