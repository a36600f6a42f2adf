"""Runs of a method of two networks with a memory of its own: resumed exactly, exported without."""

import pytest
import torch

from spinect.bundle import load_bundle
from spinect.training import export, train
from spinect.training.config import parse_config
from spinect.training.folder import RunFolder

METHOD = {
    "name": "pix2pix",
    "ndim": 3,
    "in_channels": 1,
    "generator": {"kind": "skip_unet", "width": 4, "depth": 2},
    "critic": {"width": 4, "halvings": 1, "wide": False},
    "pool": 3,
}


def test_a_resumed_run_has_the_pool_and_the_weights_of_an_uninterrupted_one(tmp_path, stream, raw):
    """Killed when the pool is full and exchanges; bitwise, moving average and all."""
    config = parse_config(raw | {"method": METHOD})
    stream(size=2)
    train(config, tmp_path / "whole")
    stream(size=2, fails_at=4)
    with pytest.raises(RuntimeError, match="killed"):
        train(config, tmp_path / "broken")
    stream(size=2)
    train(config, tmp_path / "broken")
    whole, broken = (RunFolder(tmp_path / name).load() for name in ("whole", "broken"))
    assert whole["updates"] == broken["updates"] > 4
    pools = [state["method"]["pool._extra_state"] for state in (whole, broken)]
    assert len(pools[0]) == 3
    assert torch.equal(*pools)
    for first, second in (
        (whole["method"], broken["method"]),
        (whole["ema"]["average"], broken["ema"]["average"]),
    ):
        assert first.keys() == second.keys()
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_bundle_is_free_of_the_pool(tmp_path, stream, raw):
    """It loads, and answers."""
    stream(size=2)
    train(parse_config(raw | {"method": METHOD}), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "bundle")
    method = load_bundle(tmp_path / "bundle").method
    assert method.predict(torch.zeros(1, 1, 8, 8, 8)).shape == (1, 1, 8, 8, 8)
