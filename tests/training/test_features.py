"""The frozen network of a feature loss: what it sees, and that no run owns it."""

import csv

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from spinect.bundle import load_bundle, save_bundle
from spinect.card import TENSORS, Card, read_card, verify
from spinect.data.intensity import HuRange
from spinect.errors import BundleError, ConfigError, TrainingError
from spinect.methods.registry import build
from spinect.training import export, train
from spinect.training.config import parse_config
from spinect.training.features import FrozenFeatures, give_features
from spinect.training.folder import RunFolder
from spinect.training.run import make_method

NETWORK = {"channels": [4, 6], "blocks": [1, 1], "decoder_blocks": [1], "head": 4, "norm": "batch"}


def segmenter(folder, name="eyes", *, method="segmentation", fields=None, seed=1, **card):
    """A bundle of random weights and statistics."""
    torch.manual_seed(seed)
    made = build(method, {"network": NETWORK} | (fields or {}))
    with torch.no_grad():
        for value in made.state_dict().values():
            if value.is_floating_point():
                value.add_(0.2 * torch.rand_like(value))
    about = {"inputs": "ct", "channels": "hu"} | card
    config = {"network": NETWORK} | (fields or {})
    written = Card(name=name, method=method, config=config, **about)
    save_bundle(folder / name, made, written, dtype="float32")
    return str(folder / name)


def with_features(raw, bundle, **more):
    method = raw["method"] | {"weights": {"features": 0.5}}
    return raw | {"method": method, "features": {"bundle": bundle, **more}}


def features_of(raw):
    config = parse_config(raw)
    method = make_method(config)
    return give_features(method, config), method


@pytest.fixture
def eyes(tmp_path):
    return segmenter(tmp_path / "bundles")


def test_the_network_sees_hu_as_a_segmenter_does():
    """Level 0 of a network without blocks is one convolution of (HU + 250) / 500, air at 0."""
    torch.manual_seed(0)
    plain = {"channels": [3, 4], "blocks": [0, 0], "decoder_blocks": [0], "stem": 1, "head": 4}
    method = build("segmentation", {"network": plain})
    frozen = FrozenFeatures(method, HuRange(low=-1000, high=1000), (0, 1))
    hu = torch.tensor([-1000.0, -300, -250, 0, 250, 1000, 1200, 1400]).view(1, 1, 2, 2, 2)
    ct = (hu / 1000).requires_grad_()
    fine, coarse = frozen(ct)
    seen = torch.tensor([0.0, 0, 0, 0.5, 1, 2.5, 2.9, 3]).view(1, 1, 2, 2, 2)
    entry, down = method.network.entry, method.network.down[0]
    torch.testing.assert_close(fine, F.conv3d(seen, entry.weight, entry.bias, padding=1))
    torch.testing.assert_close(coarse, F.conv3d(fine, down.weight, down.bias, stride=2))
    coarse.sum().backward()
    within = (hu > -250) & (hu < 1250)
    assert (ct.grad[within].abs() > 0).all()
    assert (ct.grad[(hu < -250) | (hu > 1250)] == 0).all()
    assert all(p.grad is None for p in method.parameters())


def test_taps_are_levels_of_the_encoder(raw, eyes):
    image = torch.rand(1, 1, 8, 8, 8) * 0.5
    facts, method = features_of(with_features(raw, eyes))
    assert facts.taps == (0, 1)
    assert [tuple(each.shape) for each in method.features(image)] == [
        (1, 4, 4, 4, 4),
        (1, 6, 2, 2, 2),
    ]
    facts, method = features_of(with_features(raw, eyes, taps=[1]))
    assert facts.taps == (1,)
    assert [each.shape[1] for each in method.features(image)] == [6]


def test_it_is_frozen_and_follows_its_image(raw, eyes):
    _, method = features_of(with_features(raw, eyes))
    method.train()
    module = method.features.encoder
    assert not module.training
    assert not any(p.requires_grad for p in module.parameters())
    before = {k: v.clone() for k, v in module.state_dict().items()}
    method.features(torch.rand(2, 1, 8, 8, 8))
    assert all(torch.equal(before[k], v) for k, v in module.state_dict().items())
    assert method.features(torch.empty(1, 1, 8, 8, 8, device="meta"))[0].device.type == "meta"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_run_learns_from_it_and_owns_nothing_of_it(tmp_path, stream, raw, eyes, precision):
    stream()
    asked = with_features(raw, eyes)
    asked["trainer"] = raw["trainer"] | {"precision": precision}
    run = train(parse_config(asked), tmp_path / "run")
    with (run / "log.csv").open() as file:
        last = list(csv.DictReader(file))[-1]["terms"]
    assert float(last.partition("features=")[2].split()[0]) > 0
    state, own = RunFolder(run).load(), make_method(parse_config(raw)).state_dict()
    assert state["method"].keys() == own.keys()
    assert state["ema"]["average"].keys() <= own.keys()
    stream()
    alone = RunFolder(train(parse_config(raw), tmp_path / "alone")).load()
    assert any(not torch.equal(alone["method"][k], v) for k, v in state["method"].items())
    card = export(run, tmp_path / "bundle")
    assert load_file(tmp_path / "bundle" / TENSORS).keys() == own.keys()
    assert card.training.features.name == "eyes"
    assert card.training.features.sha256 == verify(eyes)
    assert card.training.features.taps == (0, 1)
    assert read_card(tmp_path / "bundle") == card
    assert f"frozen `eyes`, encoder levels 0, 1, sha256 `{verify(eyes)}`" in (
        tmp_path / "bundle" / "README.md"
    ).read_text(encoding="utf-8")
    image = torch.rand(1, 1, 8, 8, 8)
    assert load_bundle(tmp_path / "bundle").method.predict(image).shape == image.shape


def test_a_killed_and_resumed_run_equals_an_uninterrupted_one(tmp_path, stream, raw, eyes):
    config = parse_config(with_features(raw, eyes))
    stream()
    whole = RunFolder(train(config, tmp_path / "whole")).load()
    stream(fails_at=4)
    with pytest.raises(RuntimeError, match="killed"):
        train(config, tmp_path / "broken")
    stream()
    broken = RunFolder(train(config, tmp_path / "broken")).load()
    for key, value in whole["method"].items():
        assert torch.equal(value, broken["method"][key]), key


def test_a_run_does_not_go_on_with_another_network(tmp_path, stream, raw, eyes):
    stream()
    asked = with_features(raw, eyes)
    short = asked | {"trainer": raw["trainer"] | {"max_steps": 2}}
    train(parse_config(short), tmp_path / "run")
    segmenter(tmp_path / "bundles", seed=2)
    with (
        pytest.warns(UserWarning, match="max_steps"),
        pytest.raises(TrainingError, match="began with the features of eyes"),
    ):
        train(parse_config(asked), tmp_path / "run")


def test_weight_and_network_go_together(raw, eyes):
    method = raw["method"]
    with pytest.raises(ConfigError, match="no network is named that has features"):
        features_of(raw | {"method": method | {"weights": {"features": 1.0}}})
    with pytest.raises(ConfigError, match="this method gives features no weight"):
        features_of(raw | {"features": {"bundle": eyes}})
    lookup = {"name": "lookup", "in_channels": 1}
    with pytest.raises(ConfigError, match="this method gives features no weight"):
        features_of(raw | {"method": lookup, "features": {"bundle": eyes}})
    with pytest.raises(BundleError, match="no bundle folder"):
        features_of(with_features(raw, eyes + "s"))
    assert features_of(raw)[0] is None


REFUSED = {
    "the judge": ({"name": "judge"}, "it scores comparisons.* cannot be judged by it"),
    "a translator": (
        {"method": "regression", "inputs": "mr", "channels": "robust3"},
        "takes mr with the channels robust3, not a CT",
    ),
    "no segmenter": ({"fields": {"heads": ["ct"]}}, "the method segmentation segments nothing"),
    "a table": ({"method": "lookup"}, "the method lookup segments nothing"),
    "another spacing": (
        {"preprocessing": {"spacing_mm": 2.0}},
        "raster iso of 2 mm, this training on iso of 1 mm",
    ),
    "another raster": (
        {"preprocessing": {"raster": "slices"}},
        "raster slices of 1 mm, this training on iso of 1 mm",
    ),
    "two dimensions": ({"fields": {"ndim": 2}}, "in 2 dimensions, this method in 3"),
    "large cells": (
        {"fields": {"network": NETWORK | {"stem": 4}}},
        "takes multiples of 8 voxels, the patch is 12 x 12 x 12",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_networks_that_must_not_or_cannot_look_are_refused(tmp_path, raw, case):
    made, text = REFUSED[case]
    if made.get("method") == "lookup":
        save_bundle(
            tmp_path / "eyes",
            build("lookup", {}),
            Card(name="eyes", method="lookup", inputs="ct", channels="hu"),
        )
        bundle = str(tmp_path / "eyes")
    else:
        bundle = segmenter(tmp_path, **made)
    with pytest.raises(ConfigError, match=text):
        features_of(with_features(raw, bundle))


@pytest.mark.parametrize("taps", [[], [2], [0, 5]])
def test_taps_that_are_not_there_are_refused(raw, eyes, taps):
    with pytest.raises(ConfigError, match="has the levels 0 to 1: take some of them"):
        features_of(with_features(raw, eyes, taps=taps))


def test_segmenting_has_no_ct_to_compare(raw, eyes):
    asked = with_features(raw, eyes)
    with pytest.raises(ConfigError, match="with task segment there is no CT to be made"):
        features_of(asked | {"data": raw["data"] | {"task": "segment"}})
