"""Bundles: round trip, damage, names, and no code in weights."""

import hashlib
import os
import subprocess
import sys

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from spinect.bundle import load_bundle, save_bundle
from spinect.card import CARD, TENSORS, Card, find_bundle, list_bundles, read_card, verify
from spinect.errors import BundleError, OutputError
from spinect.methods.registry import build

CONFIG = {
    "in_channels": 1,
    "heads": ["ct"],
    "network": {"channels": [4, 6], "blocks": [1, 1], "decoder_blocks": [1], "head": 4},
}


@pytest.fixture
def method():
    torch.manual_seed(0)
    made = build("regression", CONFIG)
    with torch.no_grad():
        for value in made.parameters():
            value.add_(0.1 * torch.randn_like(value))
    return made


@pytest.fixture
def card():
    return Card(name="tiny", method="regression", config=CONFIG, limits=("it is tiny",))


@pytest.fixture
def folder(tmp_path, method, card):
    save_bundle(tmp_path / "models" / "tiny", method, card, dtype="float32")
    return tmp_path / "models" / "tiny"


def reseal(folder):
    """Make the card's hash that of the tensors, as somebody who swaps files would."""
    raw = yaml.safe_load((folder / CARD).read_text())
    raw["sha256"] = hashlib.sha256((folder / TENSORS).read_bytes()).hexdigest()
    (folder / CARD).write_text(yaml.safe_dump(raw))


def test_round_trip_is_bitwise_and_leaves_the_random_state_alone(folder, method):
    state = torch.random.get_rng_state()
    loaded = load_bundle(folder)
    assert torch.equal(torch.random.get_rng_state(), state)
    for key, value in method.state_dict().items():
        assert torch.equal(loaded.method.state_dict()[key], value), key
    image = torch.randn(1, 1, 8, 8, 8)
    with torch.no_grad():
        assert torch.equal(loaded.method.predict(image), method.predict(image))
    assert not loaded.method.training
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", CARD, TENSORS]


def test_half_precision_is_stored_and_widened(folder, method, card):
    written = save_bundle(folder, method, card)
    assert written.dtype == "float16"
    stored, loaded = load_file(folder / TENSORS), load_bundle(folder).method.state_dict()
    for key, value in method.state_dict().items():
        flat = value.ndim <= 1  # vectors, such as biases, keep their precision
        assert stored[key].dtype == (torch.float32 if flat else torch.float16)
        assert torch.equal(loaded[key], value if flat else value.half().float())


def test_what_half_precision_cannot_hold_is_refused(tmp_path, method, card):
    with torch.no_grad():
        next(method.parameters()).fill_(1e5)
    with pytest.raises(BundleError, match=r"not finite as torch.float16: try float32"):
        save_bundle(tmp_path / "big", method, card)
    assert not (tmp_path / "big").exists()


def test_the_card_reads_back_equal_and_the_readme_says_it(folder, card):
    read = read_card(folder)
    assert read.model_dump(exclude={"sha256", "dtype"}) == card.model_dump(
        exclude={"sha256", "dtype"}
    )
    text = (folder / "README.md").read_text()
    assert read.sha256 in text
    assert "- it is tiny" in text


def test_a_changed_byte_is_found_and_both_hashes_named(folder):
    path = folder / TENSORS
    good = hashlib.sha256(path.read_bytes()).hexdigest()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    bad = hashlib.sha256(data).hexdigest()
    for refuse in (load_bundle, verify):
        with pytest.raises(BundleError, match=f"(?s){bad}.*{good}"):
            refuse(folder)


@pytest.mark.parametrize("what", ["missing", "unknown", "of another shape"])
def test_wrong_tensors_are_named(folder, what):
    tensors = load_file(folder / TENSORS)
    key = sorted(tensors)[0]
    if what == "missing":
        del tensors[key]
    elif what == "unknown":
        key = "intruder"
        tensors[key] = torch.zeros(2)
    else:
        tensors[key] = torch.zeros(tensors[key].shape[0] + 1, *tensors[key].shape[1:])
    save_file(tensors, folder / TENSORS)
    reseal(folder)
    with pytest.raises(BundleError, match=f"tensors {what} for method regression: {key}"):
        load_bundle(folder)


def test_a_pickle_in_place_of_tensors_is_not_read(folder):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was executed",))

    torch.save({"x": Bomb()}, folder / TENSORS)
    reseal(folder)
    with pytest.raises(BundleError, match="not a safetensors file"):
        load_bundle(folder)


def test_names_are_looked_up_below_the_search_variable(folder, monkeypatch):
    with pytest.raises(BundleError, match="no model 'tiny'; known models: "):
        load_bundle("tiny")
    monkeypatch.setenv("SPINECT_MODELS", str(folder.parent))
    assert find_bundle("tiny") == folder
    assert "tiny" in [card.name for card in list_bundles()]
    with pytest.raises(BundleError, match=r"known models: .*tiny"):
        load_bundle("tinny")
    monkeypatch.setenv("SPINECT_MODELS", os.pathsep.join([str(folder.parent)] * 2))
    with pytest.raises(BundleError, match="'tiny' exists 2 times"):
        load_bundle("tiny")
    monkeypatch.setenv("SPINECT_MODELS", str(folder.parent / "nowhere"))
    with pytest.raises(BundleError, match="nowhere, which is not a folder"):
        list_bundles()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"colour": "red"}, "colour: extra inputs"),
        ({"version": 2}, "version: input should be 1"),
        ({"preprocessing": {"tile": [96, 96]}}, "preprocessing.tile"),
    ],
)
def test_a_broken_card_names_file_and_field(folder, change, told):
    raw = yaml.safe_load((folder / CARD).read_text()) | change
    (folder / CARD).write_text(yaml.safe_dump(raw))
    with pytest.raises(BundleError, match=f"bundle.yaml: {told}"):
        read_card(folder)


def test_a_bundle_replaces_a_bundle_and_nothing_else(folder, method, card):
    save_bundle(folder, method, card)
    assert verify(folder) == read_card(folder).sha256
    (folder.parent / "thesis").mkdir()
    with pytest.raises(OutputError, match="is not a bundle"):
        save_bundle(folder.parent / "thesis", method, card)
    assert [p.name for p in folder.parent.iterdir() if "partial" in p.name] == []


def test_cards_are_listed_without_torch(folder):
    code = "import sys, spinect.card as b; b.list_bundles(); print('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"SPINECT_MODELS": str(folder.parent)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout.strip() == "False"
