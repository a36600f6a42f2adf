"""From phantoms to a loop of one round, with the shipped models."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from spinect.cli.main import app
from spinect.phantom.pair import write_dataset

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.usefixtures("pictures")
def test_phantom_check_register_train_loop(tmp_path, monkeypatch):
    """What the documentation says, on one subject with both contrasts."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    write_dataset(data, subjects=1, seed=5, region="lumbar", motion="articulated")
    go = CliRunner()

    def spinect(*words, code=0):
        done = go.invoke(app, [str(word) for word in words])
        assert done.exit_code == code, done.output
        return done.output

    spinect("check", data)
    spinect("register", data, "--points", "2", "--model", "rigid")
    training = yaml.safe_load((ROOT / "configs/fast/loop/training.yaml").read_text())
    training["data"]["folder"] = str(data)
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(training))
    spinect("train", tmp_path / "training.yaml", "--export", tmp_path / "model")
    assert (tmp_path / "model" / "model.safetensors").is_file()

    own = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    config = ROOT / "configs/fast/loop/t1w_from_t2w.yaml"
    sets = ("--set", f"train={tmp_path / 'training.yaml'}", "--set", "rounds=1")
    found = json.loads(spinect("loop", config, "-o", "out", *sets, "--json"))
    print(json.dumps(found["rounds"], indent=1))
    assert [row["trained_on"] for row in found["rounds"]] == [None, "T2w"]
    assert found["rounds"][1]["registered"] == 1
    assert found["ended"] == "every target is accepted"
    assert own == {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.is_file()}
    with (tmp_path / "out" / "cases.tsv").open(newline="") as stream:
        states = {r["series"]: r["state"] for r in csv.DictReader(stream, delimiter="\t")}
    assert states == {"sub-5_T1w": "accepted", "sub-5_T2w": "accepted"}
