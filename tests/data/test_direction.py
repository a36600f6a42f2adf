"""From CT to MR: what goes in, what is learnt, and in which unit."""

import numpy as np
import pytest
import torch
import yaml

from spinect.data.dataset import DatasetPatches
from spinect.data.intensity import (
    MR_RANGE,
    HuRange,
    mr_channels,
    relative_of_robust,
    relative_of_unit,
    unit_of_robust,
)
from spinect.data.options import DatasetOptions
from spinect.data.stream import PatchStream, Shown
from spinect.errors import ConfigError
from spinect.geometry import Volume
from spinect.io import write_table, write_volume
from spinect.methods.registry import build
from spinect.training.bundling import make_card
from spinect.training.config import dump_config, parse_config
from spinect.training.loader import make_stream

PATCH = (12, 24, 32)


def test_relative_intensity_and_back():
    """The 1st percentile is 0 and the 99th 1000; [-1, 1] is 0 to 1500."""
    generator = torch.Generator().manual_seed(0)
    mr = torch.rand((1, 1, 60, 50, 40), generator=generator) * 300 + 70
    channel = mr_channels(mr, torch.ones_like(mr))[:, :1]
    unit = unit_of_robust(channel)
    assert float(unit.min()) == -1
    assert float(unit.max()) <= 1
    relative = relative_of_unit(unit)
    torch.testing.assert_close(relative, relative_of_robust(channel), atol=1e-3, rtol=0)
    low, high = np.percentile(mr.numpy(), (1, 99))
    inner = (mr > low) & (mr < high)
    wanted = (mr - float(low)) / float(high - low) * 1000
    torch.testing.assert_close(relative[inner], wanted[inner], atol=3.0, rtol=0)
    assert relative_of_unit(torch.tensor([-1.0, 1.0])).tolist() == list(MR_RANGE)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two patients of noise in both images."""
    root, rows = tmp_path_factory.mktemp("set"), []
    shape, affine = (20, 36, 40), np.eye(4)
    for number in (1, 2):
        rng, name = np.random.default_rng(number), f"sub-{number}"
        vertebrae = np.zeros(shape, np.uint8)
        vertebrae[5:15, 10:28, 6:34] = 22
        truth = root / "derivatives" / "truth" / name / f"{name}_space-T2w"
        mr = rng.uniform(100, 500, shape).astype(np.float32)
        ct = np.round(rng.uniform(-1000, 1500, shape)).astype(np.float32)
        write_volume(Volume(mr, affine, "mr"), root / name / "anat" / f"{name}_T2w.nii.gz")
        write_volume(Volume(ct, affine, "ct"), truth.with_name(f"{truth.name}_ct.nii.gz"))
        path = truth.with_name(f"{truth.name}_desc-vertebrae_dseg.nii.gz")
        write_volume(Volume(vertebrae, affine, "labels"), path)
        rows.append({"participant_id": name, "split": "train"})
    write_table(rows, root / "participants.tsv")
    return root


@pytest.mark.parametrize("patch", [PATCH, (1, 24, 32)])
def test_both_directions_show_the_same_pair(dataset, patch):
    """The draws are the same, so what is learnt in one direction is shown in the other."""
    there, back = (
        DatasetPatches(dataset, DatasetOptions(patch=patch, direction=direction), 1, 9)[2]
        for direction in ("mr_to_ct", "ct_to_mr")
    )
    torch.testing.assert_close(back.condition, there.target)
    hu = HuRange().to_hu(back.condition)
    assert float(hu.min()) < -500
    assert float(hu.max()) > 500
    torch.testing.assert_close(
        relative_of_unit(back.target), there.condition[:, :1] * 1000, atol=1e-3, rtol=0
    )
    assert torch.equal(there.inside, back.inside)
    outside = there.condition[:, 2:3] == 0
    if outside.any():
        assert float(back.target[outside].max()) == -1


def test_neighbours_of_a_ct(dataset):
    options = {"patch": (1, 24, 32), "raster": "slices", "rotate_deg": 0, "scale": 0}
    options |= {"elastic_mm": 0, "direction": "ct_to_mr", "place": "anywhere", "flip": False}
    stream = DatasetPatches(dataset, DatasetOptions(neighbours=1, **options), 1, 9)
    batch = stream[0]
    assert batch.condition.shape == (2, 3, 1, 24, 32)
    hu = HuRange().to_hu(batch.condition[0, :, 0])
    patients = [case.arrays["hu"] for case in stream.cases]
    own = min(patients, key=lambda volume: _place(hu[0], volume))
    slots = [_place(one, own)[1] for one in hu]
    assert slots[1:] == [max(slots[0] - 1, 0), min(slots[0] + 1, 19)]


def _place(image, volume):
    """(difference, slice) of the whole-slice crop that an image is closest to."""
    best = (np.inf, -1)
    for slot, plane in enumerate(np.asarray(volume, np.float32)):
        windows = np.lib.stride_tricks.sliding_window_view(plane, image.shape)
        gap = float(np.abs(windows - image.numpy()).mean((-2, -1)).min())
        best = min(best, (gap, slot))
    return best


def test_phantoms_in_both_directions(pool):
    """The MR is drawn first: it is the same; the CT that goes in is one that a scanner read."""
    there, back = (
        PatchStream({pool: 1.0}, 2, (16, 40, 40), 1, shown=Shown(direction, "T1w"))[0]
        for direction in ("mr_to_ct", "ct_to_mr")
    )
    torch.testing.assert_close(
        relative_of_unit(back.target), there.condition[:, :1] * 1000, atol=1e-3, rtol=0
    )
    seen, true = HuRange().to_hu(back.condition), HuRange().to_hu(there.target)
    noise = (seen - true)[there.inside > 0]
    assert 10 < float(noise.std()) < 60  # a CT's, 15 to 40 HU
    assert abs(float(noise.mean())) < 5
    assert torch.equal(there.classes, back.classes)


def config(folder, method=None, **data):
    return parse_config({
        "name": "tiny",
        "method": {"name": "regression", "ndim": 3, "heads": ["ct"], "in_channels": 1,
                   **(method or {})},
        "data": {"source": "dataset", "folder": str(folder), "patch": PATCH, "workers": 0,
                 "direction": "ct_to_mr", **data},
        "trainer": {"max_steps": 3},
    })  # fmt: skip


def test_one_field_tells_the_bundle(dataset):
    made = config(dataset)
    card = make_card(made)
    assert (card.inputs, card.makes, card.image_kind, card.channels) == (
        "ct", "T2w", "mr", "hu_range",
    )  # fmt: skip
    assert make_card(config(dataset, direction="mr_to_ct", paired=False)).image_kind == "ct"
    assert parse_config(yaml.safe_load(dump_config(made))) == made


def test_unpaired_halves_change_sides(dataset):
    stream = make_stream(config(dataset, paired=False))
    assert [case.name for case in stream.shown.cases] == ["sub-2_T2w"]  # seen by CT alone
    assert [case.name for case in stream.taught.cases] == ["sub-1_T2w"]
    batch = stream[0]
    assert torch.equal(batch.condition, stream.shown[0].condition)
    assert torch.equal(batch.target, stream.taught[0].target)


SMALL = {
    "cut": {"generator": {"kind": "resnet", "width": 8, "halvings": 1, "blocks": 2,
                          "filtered": False},
            "critic": {"width": 8, "halvings": 1, "wide": False},
            "taps": (0, 4, 8), "features": 16, "patches": 16},
    "syndiff": {"generator": {"width": 8, "multiples": (1, 1), "blocks": 1, "attention": 1,
                              "mapped": 16},
                "translator": {"width": 4, "blocks": 1},
                "noise_critic": {"width": 4, "halvings": 3},
                "patch_critic": {"width": 4, "halvings": 1}},
}  # fmt: skip


@pytest.mark.parametrize("direction", ["mr_to_ct", "ct_to_mr"])
@pytest.mark.parametrize("name", list(SMALL))
def test_methods_of_unpaired_data_take_both_directions_and_neighbours(dataset, name, direction):
    """A CT on [-1, 1] is what SynDiff expects; an MR in robust channels is told by `mr_range`."""
    count = 9 if direction == "mr_to_ct" else 3
    fields = {"ndim": 2, "in_channels": count}
    if name == "syndiff" and direction == "mr_to_ct":
        fields["mr_range"] = (0.0, 1.5)
    made = config(
        dataset, {"ndim": 2, "in_channels": count}, paired=False, neighbours=1, patch=[32, 32],
        direction=direction,
    )  # fmt: skip
    batch = make_stream(made)[0]
    assert batch.condition.shape == (2, count, 32, 32)
    assert batch.target.shape == batch.target_inside.shape == (2, 1, 32, 32)
    torch.manual_seed(0)
    method = build(name, SMALL[name] | fields)
    for part, loss in method.losses(batch):
        assert torch.isfinite(loss), part


@pytest.mark.parametrize(("flat", "channels"), [(True, "hu_range"), (False, "hu_range_ramps")])
def test_the_preset_leaves_out_what_changes_an_mr(dataset, flat, channels):
    patch = [32, 32] if flat else PATCH
    made = config(dataset, {"ndim": 2 if flat else 3}, preset="graf2023", patch=patch)
    assert (made.data.intensity, made.data.jitter, made.data.dropout) == ("robust", 0, 0)
    assert made.export.channels == channels
    batch = make_stream(made)[0]
    assert batch.condition.shape[1] == (1 if flat else 4)
    assert float(batch.condition.abs().max()) <= 1


@pytest.mark.parametrize(("data", "text"), [
    ({"jitter": 0.2}, "jitter 0.2 and dropout 0 change the MR that goes in"),
    ({"intensity": "max"}, "set intensity to robust"),
    ({"task": "segment"}, "task segment masks"),
    ({"source": "phantom", "subjects": 2}, "set contrast to T1w or T2w"),
], ids=["jitter", "max", "segment", "phantom"])  # fmt: skip
def test_what_does_not_fit_is_refused(dataset, data, text):
    if "source" in data:
        raw = config(dataset).model_dump()
        raw["data"] = {"patch": PATCH, "direction": "ct_to_mr", **data}
        with pytest.raises(ConfigError, match=text):
            parse_config(raw)
        return
    with pytest.raises(ConfigError, match=text):
        config(dataset, **data)


def test_the_bundle_must_say_the_same(dataset):
    raw = config(dataset).model_dump()
    raw["export"]["inputs"] = "mr"
    with pytest.raises(ConfigError, match=r"direction ct_to_mr takes ct in, .* would say mr"):
        parse_config(raw)
