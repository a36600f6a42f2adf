"""An experiment without any network."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from planted_compare import Oracle, experiment, write_presets

from spinect.workflows.compare import Plan, run_compare


@pytest.fixture
def home(tmp_path):
    (tmp_path / "configs").mkdir()
    return write_presets(tmp_path / "configs")


@pytest.fixture
def compare(home, tmp_path):
    """Run an experiment; returns status by row and seed, why it stopped, and the oracle."""

    def run(oracle=None, out="out", plan=None, **changes):
        oracle = oracle or Oracle()
        made = Plan(experiment(**changes), home, tmp_path / out, **(plan or {}))
        statuses, why = run_compare(made, oracle.tools)
        return {status.name: status for status in statuses}, why, oracle

    return run
