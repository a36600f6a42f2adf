"""What the tests of the loop share."""

import sys
from pathlib import Path

import pytest

from spinect.workflows.loop import parse_loop

sys.path.insert(0, str(Path(__file__).parent))

from planted import Oracle, write_study


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    root = tmp_path_factory.mktemp("study") / "set"
    write_study(root)
    return root


@pytest.fixture
def oracle(study):
    return Oracle(study)


@pytest.fixture
def pictures():
    """Ask for it to have pictures drawn."""


@pytest.fixture(autouse=True)
def no_pictures(request, monkeypatch):
    """Pictures take most of the time of a tiny pair."""
    if "pictures" in request.fixturenames:
        return
    monkeypatch.setattr(
        "spinect.workflows.register.pair.write_registration", lambda _a, path, _t: path.touch()
    )


@pytest.fixture
def raw(study, tmp_path):
    """A loop's config as plain values; its training config is read and never run."""
    training = tmp_path / "train.yaml"
    training.write_text(
        "name: tiny\nmethod: {name: regression}\n"
        "data: {source: dataset, folder: replaced}\ntrainer: {max_steps: 1, warmup: 0}\n"
    )
    return {
        "dataset": str(study),
        "train": str(training),
        "least_pairs": 2,
        "rounds": 4,
        "register": {"points": "2", "model": "rigid"},
    }


@pytest.fixture
def config(raw):
    return parse_loop(raw)
