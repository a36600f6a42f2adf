"""The loop's logic, driven by oracles with planted failures."""

import csv
import json
import re

import numpy as np
import pytest
from conftest import EMPTY, FAR, GOOD, LOST, SHIFTED, WRONG

from spinect.errors import ConfigError
from spinect.io import read_poi
from spinect.workflows.loop import parse_loop, run_loop

TICK = {"clock": lambda: 0.0}
# What tells one registration's time from another's.
TIMED = re.compile(r'"(started|commit)": [^\n]*|"seconds": \{[^}]*\}|"peak_bytes": \d+')


def rows(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


@pytest.fixture
def ended(config, oracle, tmp_path):
    return run_loop(config, tmp_path / "out", oracle.models, **TICK)


def test_rounds_and_reasons(ended, oracle, tmp_path):
    """Everything planted is found, said, and tried again; what can be gained is gained."""
    out = tmp_path / "out"
    series = {row["participant_id"]: row for row in rows(out / "cases.tsv")
              if row["contrast"] == "T1w"}  # fmt: skip
    print((out / "rounds.tsv").read_text(), (out / "cases.tsv").read_text())
    assert {k: (r["state"], r["round"]) for k, r in series.items()} == {
        GOOD: ("accepted", "1"),
        SHIFTED: ("accepted", "1"),
        WRONG: ("failed", "3"),
        EMPTY: ("accepted", "2"),
        FAR: ("failed", "3"),
        LOST: ("failed", "3"),
    }
