"""The segmenter that scores all comparisons: what makes it fit to judge."""

from pathlib import Path

import pytest
import yaml

from spinect.bundle import load_bundle
from spinect.card import verify

ROOT = Path(__file__).parents[1]
JUDGE = ROOT / "benchmarks" / "judge"


@pytest.fixture(scope="module")
def judge():
    return load_bundle(JUDGE)


def test_it_is_whole_and_small():
    size = sum(path.stat().st_size for path in JUDGE.iterdir())
    assert size <= 8e6
    assert verify(JUDGE) == load_bundle(JUDGE).card.sha256


def test_it_is_another_network_of_another_seed(judge):
    shipped = load_bundle("vertebrae")
    assert judge.card.training.seed != shipped.card.training.seed
    assert judge.card.config["network"]["channels"] != shipped.card.config["network"]["channels"]
    assert judge.card.sha256 != shipped.card.sha256


def test_it_saw_true_ct_only(judge):
    """Phantom and real CT; the third pool holds CTs simulated around real shapes."""
    config = yaml.safe_load((ROOT / "configs" / "modern" / "judge.yaml").read_text())
    assert config["data"]["task"] == "segment"
    assert set(config["data"]["pools"]) == {"runs/pool/phantoms", "runs/pool/ct"}
    assert set(judge.card.training.data) == {"phantoms", "ct"}
    assert judge.card.inputs == "ct"


def test_no_loss_names_it():
    """No training config takes it as a start or as a loss."""
    for path in (ROOT / "configs").rglob("*.yaml"):
        text = path.read_text()
        config = yaml.safe_load(text)
        if "rows" in config or path.name == "judge.yaml":
            continue
        assert "judge" not in text, f"{path.name} names the judge"
