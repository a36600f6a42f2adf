"""Several processes train what one does with as many patches: CPU, gloo."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from spinect.io import write_table, write_volume
from spinect.methods.gan import critic_loss, frozen, score_loss
from spinect.training.folder import RunFolder

SCRIPT = """
import os, sys
from pathlib import Path
import torch
import streams, methods
import spinect.training.run as run
from spinect.training.config import load_config

run.make_stream = lambda config: streams.NoiseStream()
if sys.argv[3] == "gan":
    run.make_method = lambda config: methods.Gan()
fit = run._fit
def spy(trainer, adapter, loader):
    fit(trainer, adapter, loader)
    rank = os.environ.get("LOCAL_RANK", "0")
    torch.save(adapter.state(), Path(sys.argv[2]).with_suffix(f".rank{rank}"))
run._fit = spy
run.train(load_config(Path(sys.argv[1])), Path(sys.argv[2]))
"""


class Gan(nn.Module):
    """Two networks as an adversarial method has them, and a third that learns from neither."""

    ndim, modes, heads, in_channels, divisor = 3, ("regress",), ("ct",), 1, 1
    parts = ("critic", "generator", "idle")

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(5)
        self.critic = nn.Sequential(nn.Conv3d(2, 4, 3), nn.SiLU(), nn.Conv3d(4, 1, 3))
        self.generator = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.SiLU(),
                                       nn.Conv3d(4, 1, 3, padding=1))  # fmt: skip
        self.idle = nn.Conv3d(1, 1, 1)
        for weight in self.parameters():
            nn.init.normal_(weight, 0, 0.2, generator=generator)

    def losses(self, batch):
        fake = self.generator(batch.condition)
        real = torch.cat([batch.condition, batch.target], 1)
        made = torch.cat([batch.condition, fake], 1)
        yield "critic", critic_loss(self.critic(real), self.critic(made.detach()), "lsgan")
        with frozen(self.critic):
            fooled = score_loss(self.critic(made), True, "lsgan")
        yield "generator", fooled + (fake - batch.target).abs().mean()
        yield "idle", self.idle(fake.detach()).square().mean()


def run_with(tmp_path, raw, devices, kind):
    """The final state of every process."""
    accumulate = 4 // devices
    trainer = raw["trainer"] | {"max_steps": 3, "accumulate": accumulate, "devices": devices}
    trainer |= {"strategy": "ddp"} if devices > 1 else {}
    here = Path(__file__)
    (tmp_path / "streams.py").write_text(here.with_name("conftest.py").read_text())
    (tmp_path / "methods.py").write_text(here.read_text())
    (tmp_path / "go.py").write_text(SCRIPT)
    config, out = tmp_path / f"{devices}.yaml", tmp_path / f"run{devices}"
    config.write_text(yaml.safe_dump(raw | {"trainer": trainer}))
    subprocess.run([sys.executable, tmp_path / "go.py", config, out, kind], check=True,
                   timeout=300)  # fmt: skip
    states = [torch.load(out.with_suffix(f".rank{r}"), weights_only=True) for r in range(devices)]
    kept = RunFolder(out).load()
    assert all(torch.equal(states[0]["method"][k], v) for k, v in kept["method"].items())
    return states


def assert_processes_agree(tmp_path, raw, kind):
    (alone,) = run_with(tmp_path, raw, 1, kind)
    first, second = run_with(tmp_path, raw, 2, kind)
    for group in (lambda s: s["method"], lambda s: s["ema"]["average"]):
        for key, value in group(alone).items():
            assert torch.equal(group(first)[key], group(second)[key]), key
            torch.testing.assert_close(group(first)[key], value, rtol=1e-4, atol=1e-5)
    return alone


@pytest.mark.slow
def test_two_processes_equal_one_of_twice_the_batch(tmp_path, raw, tiny_pair):
    """A method of one part; they also share the volumes of a validation."""
    folder = tmp_path / "set"
    rows = []
    for number in range(3):
        name = f"sub-{number}"
        write_volume(tiny_pair.mr, folder / name / "anat" / f"{name}_T2w.nii.gz")
        stem = folder / "derivatives" / "truth" / name / f"{name}_space-iso"
        write_volume(tiny_pair.ct, stem.with_name(stem.name + "_ct.nii.gz"))
        write_volume(tiny_pair.vertebrae, stem.with_name(stem.name + "_desc-vertebrae_dseg.nii.gz"))
        rows.append({"participant_id": name, "split": "validation"})
    write_table(rows, folder / "participants.tsv")
    raw["export"] = {
        "channels": "max",
        "preprocessing": {"tile": [24, 48, 64], "flip_average": False},
    }
    raw["validation"] = {"folder": str(folder), "every": 2}
    assert_processes_agree(tmp_path, raw, "one part")
    tables = []
    for devices in (1, 2):
        with (tmp_path / f"run{devices}" / "validation.csv").open() as file:
            tables.append(list(csv.DictReader(file)))
    assert [row["subject"] for row in tables[0]] == ["sub-0", "sub-1", "sub-2", "mean"] * 2
    for one, other in zip(*tables, strict=True):
        assert one["series"] == other["series"]
        assert float(one["mae_near_bone"]) == pytest.approx(float(other["mae_near_bone"]), rel=1e-3)


@pytest.mark.slow
def test_two_processes_train_the_parts_of_a_gan_alike(tmp_path, raw):
    """Parts that a loss leaves out or holds still; every part has moved."""
    raw["trainer"] |= {"warmup": 0}
    trained = assert_processes_agree(tmp_path, raw, "gan")
    for key, value in Gan().state_dict().items():
        assert not torch.equal(trained["method"][key], value), key
