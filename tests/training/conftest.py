"""A stream of tiny seeded patches, so that training is tested without any image."""

import pytest
import torch
from torch.utils.data import Dataset

from spinect.protocols import Batch
from spinect.training.config import parse_config

PATCH = 12  # three cells of the tiny network: bf16 refuses less


class NoiseStream(Dataset):
    """Item i depends on i alone; the CT is a function of the condition, so it can be learnt."""

    def __init__(self, size=1, fails_at=None):
        self.size, self.fails_at = size, fails_at

    def __len__(self):
        return 10_000

    def __getitem__(self, index):
        if index == self.fails_at:
            raise RuntimeError("killed")
        parts = [self._one(index * self.size + i) for i in range(self.size)]
        return Batch(**{k: torch.cat([p[k] for p in parts]) for k in parts[0]})

    def _one(self, number):
        generator = torch.Generator().manual_seed(number)
        condition = torch.randn((1, 1, PATCH, PATCH, PATCH), generator=generator)
        return {
            "condition": condition,
            "inside": torch.ones_like(condition),
            "target": (0.5 * condition).clamp(-1, 1),
        }


@pytest.fixture
def stream(monkeypatch):
    """Give `train` this stream; returns how."""

    def use(**options):
        made = NoiseStream(**options)
        monkeypatch.setattr("spinect.training.run.make_stream", lambda _config: made)
        return made

    return use


@pytest.fixture
def raw(tmp_path):
    """A config of a tiny network, as plain values."""
    (tmp_path / "pool").mkdir()
    network = {"channels": [4, 6], "blocks": [1, 1], "decoder_blocks": [1], "head": 4}
    return {
        "name": "tiny",
        "seed": 3,
        "method": {"name": "regression", "in_channels": 1, "heads": ["ct"], "network": network},
        "data": {
            "source": "pool",
            "pools": {str(tmp_path / "pool"): 1.0},
            "patch": [PATCH] * 3,
            "patches_per_scan": 1,
            "workers": 0,
        },
        "trainer": {
            "max_steps": 6,
            "warmup": 2,
            "precision": "fp32",
            "checkpoint_minutes": 0,
            "log_every": 2,
            "preview_every": 0,
            "accelerator": "cpu",
        },
    }


@pytest.fixture
def config(raw):
    return parse_config(raw)
