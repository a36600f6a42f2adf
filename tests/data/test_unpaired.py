"""Unpaired batches: no patient gives both an MR and a CT."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spinect.data.stream import PatchStream
from spinect.data.unpaired import UnpairedBatches, half_of
from spinect.errors import ConfigError
from spinect.geometry import Volume
from spinect.io import write_table, write_volume
from spinect.phantom.anatomy import field_of_view_grid, make_subject, rasterise
from spinect.training.config import parse_config
from spinect.training.loader import make_stream

PATCH = (16, 24, 24)


def both(groups):
    return [half_of(groups, half) for half in ("mr", "ct")]


def test_halves_share_nobody_and_differ_by_one_in_each_group():
    groups = [[f"a{i}" for i in range(7)], ["b0"], ["c0", "c1", "c2", "c3"], ["d0"]]
    mr, ct = both(groups)
    assert not mr & ct
    assert mr | ct == {name for group in groups for name in group}
    for group in groups:
        assert abs(len(mr & set(group)) - len(ct & set(group))) <= 1, group
    assert abs(len(mr) - len(ct)) <= 1  # what a group has too many of, the next ones make up for


def test_halves_depend_on_the_names_alone():
    assert both([["x", "z", "y", "x"]]) == both([["z", "y", "x"]]) == [{"x", "z"}, {"y"}]
    # A person in two groups is on one side; y is already there, so u must stand against it.
    assert both([["x", "y"], ["y", "u"]]) == [{"x", "u"}, {"y"}]


@pytest.mark.parametrize("groups", [[], [[]], [["a", "a"]], [["a"], ["a"]]])
def test_one_person_cannot_be_halved(groups):
    with pytest.raises(ConfigError, match=r"of another, found [01]: add patients, or set data"):
        half_of(groups, "ct")


@pytest.fixture(scope="module")
def pools(tmp_path_factory):
    """A pool of four phantoms, two of them the same, and one of two variations of one real CT."""
    anatomy = make_subject(11)
    grid = field_of_view_grid(anatomy)
    middle = np.rint(grid.index(anatomy.subject.centres[22])).astype(int)
    made = rasterise(anatomy, grid.crop(middle - [35, 50, 30], (70, 90, 60)))
    root = tmp_path_factory.mktemp("pools")
    for folder, seed, source in (
        ("phantoms/sub-1", 1, "phantom"),
        ("phantoms/sub-2", 2, "phantom"),
        ("phantoms/sub-3", 3, "phantom"),
        ("phantoms/again", 1, "phantom"),
        ("ct/verse-0", -1, "ct:verse-0"),
        ("ct/verse-1", -1, "ct:verse-1"),
    ):
        replace(made, subject=replace(made.subject, seed=seed, source=source)).save(root / folder)
    return {root / "phantoms": 0.6, root / "ct": 0.4}


def test_a_stream_of_one_half_draws_its_own_people_alone(pools):
    mr, ct = (PatchStream(pools, 0, PATCH, half=half) for half in ("mr", "ct"))
    names = [[sorted(path.name for path in pool) for pool in one.pools] for one in (mr, ct)]
    assert names[0] == [["again", "sub-1", "sub-3"], []]
    assert names[1] == [["sub-2"], ["verse-0", "verse-1"]]
    assert mr.weights.tolist() == [1, 0]
    assert ct.weights.tolist() == pytest.approx([0.6, 0.4])
    with pytest.raises(ConfigError, match="found 1"):
        PatchStream({folder: 1.0 for folder in pools if folder.name == "ct"}, 0, PATCH, half="mr")


def phantom_config(pools, **data):
    return parse_config({
        "name": "tiny",
        "method": {"name": "regression", "ndim": len(data.get("patch", PATCH))},
        "data": {"source": "pool", "pools": {str(k): v for k, v in pools.items()},
                 "patch": PATCH, "paired": False, "workers": 0, **data},
        "trainer": {"max_steps": 3},
    })  # fmt: skip


def test_an_unpaired_batch_knows_condition_and_target_alone(pools):
    stream = make_stream(phantom_config(pools))
    assert isinstance(stream, UnpairedBatches)
    assert len(stream) == 3
    assert stream.shown.seed != stream.taught.seed  # or the same draws would always meet
    batch, mr, ct = stream[1], stream.shown[1], stream.taught[1]
    wanted = {
        "condition": mr.condition,
        "inside": mr.inside,
        "target": ct.target,
        "target_inside": ct.inside,
    }
    held = {key: value for key, value in vars(batch).items() if value is not None}
    assert held.keys() == wanted.keys()
    for key, value in wanted.items():
        assert torch.equal(held[key], value), key
    again = make_stream(phantom_config(pools))[1]
    assert all(torch.equal(value, vars(again)[key]) for key, value in held.items())


def test_sagittal_slices_keep_where_the_ct_is_known(pools):
    batch = make_stream(phantom_config(pools, patch=PATCH[1:]))[0]
    assert batch.condition.shape == (2, 3, *PATCH[1:])
    for image in (batch.inside, batch.target, batch.target_inside):
        assert image.shape == (2, 1, *PATCH[1:])


def test_paired_streams_are_as_before(pools):
    batch = make_stream(phantom_config(pools, paired=True))[0]
    assert batch.target_inside is None
    assert batch.classes is not None


def test_masks_cannot_be_unpaired(pools):
    with pytest.raises(ConfigError, match=r"data: task segment learns .* set paired to true"):
        phantom_config(pools, task="segment")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Four participants, three people; the bone of number n has 100 n HU."""
    root, rows = tmp_path_factory.mktemp("set"), []
    shape, affine = (24, 40, 40), np.eye(4)
    rng = np.random.default_rng(0)
    labels = np.zeros(shape, np.uint8)
    labels[6:18, 10:30, 5:35] = 22
    for number, person in enumerate(("b", "a", "b", ""), start=1):
        name = f"sub-{number}"
        truth = root / "derivatives" / "truth" / name
        mr = rng.uniform(100, 500, shape).astype(np.float32)
        ct = np.where(labels > 0, 100.0 * number, 0).astype(np.float32)
        ct[:, :3] = -1000  # or nobody would believe that these are HU
        write_volume(Volume(mr, affine, "mr"), root / name / "anat" / f"{name}_T2w.nii.gz")
        write_volume(Volume(ct, affine, "ct"), truth / f"{name}_space-T2w_ct.nii.gz")
        path = truth / f"{name}_space-T2w_desc-vertebrae_dseg.nii.gz"
        write_volume(Volume(labels, affine, "labels"), path)
        rows.append({"participant_id": name, "patient_id": person, "split": "train"})
    write_table(rows, root / "participants.tsv")
    return root


def test_the_people_of_a_dataset_are_halved(dataset):
    """Participants 1 and 3 are one person, so they are on one side."""
    config = phantom_config({})
    data = {"source": "dataset", "folder": str(dataset), "patch": PATCH, "paired": False}
    still = {"rotate_deg": 0, "scale": 0, "elastic_mm": 0, "workers": 0}
    config = parse_config(config.model_dump() | {"data": data | still})
    stream = make_stream(config)
    assert [case.name for case in stream.shown.cases] == ["sub-2_T2w", "sub-4_T2w"]
    assert [case.name for case in stream.taught.cases] == ["sub-1_T2w", "sub-3_T2w"]
    hu = stream.taught.options.hu_range.to_hu(torch.cat([stream[i].target for i in range(3)]))
    bone = set(hu[hu > 50].round().int().tolist())
    assert bone
    assert bone <= {100, 300}
