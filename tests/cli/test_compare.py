"""`spinect compare`: what is printed, and the exit codes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spinect.cli.main import app
from spinect.workflows import compare
from spinect.workflows.compare import load_experiment
from spinect.workflows.compare.status import Status

SMOKE = Path(__file__).parents[2] / "configs" / "experiments" / "graf2023_phantom_smoke.yaml"


def run(*words):
    return CliRunner().invoke(app, ["compare", str(SMOKE), *map(str, words)])


@pytest.fixture
def ended(monkeypatch):
    """Let every start end with these states of the rows."""

    def use(*states, why=""):
        rows = load_experiment(SMOKE).rows
        made = [
            Status(row, 0, row.name, state, reason="train: planted" if state == "failed" else "")
            for row, state in zip(rows, states, strict=False)
        ]
        monkeypatch.setattr(compare, "run_compare", lambda *_, **__: (made, why))

    return use


def test_a_dry_run_writes_nothing(tmp_path):
    done = run("--dry-run", "-o", tmp_path / "out")
    assert done.exit_code == 0
    assert "4 trainings of 0.2 cpu minutes" in done.stdout
    assert not (tmp_path / "out").exists()


def test_errors_of_the_experiment_are_one_line(tmp_path):
    done = run("--dry-run", "--only", "nobody")
    assert done.exit_code == 1
    assert "no row 'nobody'" in done.stderr
    done = run("--set", "budget.minutes=-1")
    assert done.exit_code == 1
    assert "budget.minutes" in done.stderr
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "none.yaml")])
    assert done.exit_code == 1
    assert "cannot be read" in done.stderr
    assert run("--until", "dinner").exit_code == 2


@pytest.mark.parametrize(
    ("states", "why", "code"),
    [
        (("evaluated", "evaluated"), "", 0),
        (("evaluated", "failed"), "", 3),
        (("trained", "waiting"), "the 5 minutes of this start are over", 3),
    ],
)
def test_exit_codes(ended, tmp_path, states, why, code):
    ended(*states, why=why)
    done = run("-o", tmp_path / "out")
    assert done.exit_code == code
    assert why in " ".join(done.stdout.split())
    assert ("planted" in done.stdout) == ("failed" in states)
    told = json.loads(run("-o", tmp_path / "out", "--json").stdout)
    assert told["exit_code"] == code
    assert [row["state"] for row in told["rows"]] == list(states)
