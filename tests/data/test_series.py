"""What training reads of a registered dataset: the split, the verdicts, the validity mask."""

import numpy as np
import pytest
import torch

from spinect.data.dataset import DatasetPatches
from spinect.data.options import DatasetOptions
from spinect.data.prepared import prepare_series
from spinect.data.series import find_series, patients, registered_series
from spinect.errors import InputError
from spinect.geometry import Volume
from spinect.io import write_table, write_volume
from spinect.io.bids import IMAGES

STILL = {"rotate_deg": 0.0, "scale": 0.0, "elastic_mm": 0.0, "flip": False}
CASES = {  # stem -> participant, contrast, status, verdict
    "sub-1_acq-sag_run-1_space-T2w": ("sub-1", "T2w", "done", "accept"),
    "sub-1_acq-sag_run-2_space-T2w": ("sub-1", "T2w", "kept", "review"),
    "sub-1_space-T1w": ("sub-1", "T1w", "done", "accept"),
    "sub-2_space-T2w": ("sub-2", "T2w", "done", "reject"),
    "sub-3_space-T2w": ("sub-3", "T2w", "done", "accept"),
    "sub-4_space-T2w": ("sub-4", "T2w", "failed", ""),
}
SPLITS = {"sub-1": "train", "sub-2": "train", "sub-3": "test", "sub-4": "train"}


@pytest.fixture(scope="module")
def dataset(tiny_pair, tmp_path_factory):
    """Registered pairs whose CT does not reach the lower 40 mm, and no truth but sub-1's."""
    root = tmp_path_factory.mktemp("set")
    base = root / "derivatives" / "registered"
    ct, valid = tiny_pair.ct.data.copy(), np.ones(tiny_pair.ct.data.shape, np.uint8)
    ct[:, :, :40], valid[:, :, :40] = -1000, 0
    affine = tiny_pair.ct.affine
    rows = []
    for stem, (name, contrast, status, verdict) in CASES.items():
        mr = stem.replace("_space-", "_") + ".nii.gz"
        write_volume(tiny_pair.mr, root / name / "anat" / mr)
        parts = {
            "ct": Volume(ct, affine, "ct"),
            "desc-vertebrae_dseg": tiny_pair.vertebrae,
            "desc-subregions_dseg": tiny_pair.subregions,
            "desc-valid_mask": Volume(valid, affine, "labels"),
        }
        for end, volume in parts.items():
            write_volume(volume, base / name / f"{stem}_res-iso_{end}.nii.gz")
        row = {"participant_id": name, "mr": f"{name}/anat/{mr}", "outputs": f"{name}/{stem}"}
        rows.append(row | {"status": status, "verdict": verdict or None})
        assert contrast in stem
    write_table(rows, base / "registration.tsv")
    people = [{"participant_id": name, "split": split} for name, split in SPLITS.items()]
    write_table(people, root / "participants.tsv")
    return root


def test_split_contrast_and_verdict_decide(dataset):
    names = patients(dataset, "train")
    assert names == ["sub-1", "sub-2", "sub-4"]
    found = find_series(dataset, names, "T2w", "auto")
    assert [s.name for s in found] == [
        "sub-1_acq-sag_run-1_space-T2w_registered",
        "sub-1_acq-sag_run-2_space-T2w_registered",
    ]
    assert len(registered_series(dataset, names, "T1w")) == 1
    assert len(registered_series(dataset, ["sub-3"], "T2w")) == 1
    with pytest.raises(InputError, match=r"sub-2_T2w.nii.gz \(reject\)"):
        registered_series(dataset, ["sub-2"], "T2w")


def test_truth_is_read_only_when_asked(dataset):
    with pytest.raises(InputError, match="is missing"):
        find_series(dataset, ["sub-3"], "T2w", "truth")
    assert find_series(dataset, ["sub-3"], "T2w", "auto")[0].parts["ct"].parts[-3] == "registered"


def test_losses_leave_out_what_the_ct_does_not_reach(dataset):
    """Outside the validity mask nothing counts; the network still sees the MR there."""
    options = DatasetOptions(patch=(48, 64, 96), patches_per_scan=1, **STILL)
    stream = DatasetPatches(dataset, options, seed=3, length=20)
    unseen = 0
    for number in range(6):
        batch = stream[number]
        hu = options.hu_range.to_hu(batch.target)
        beyond = (hu < -990) & (batch.condition[:, 2:3] > 0) & (batch.condition[:, :1] > 0.2)
        unseen += int(beyond.sum())  # MR tissue where the CT has none
        assert float(batch.inside[beyond].sum()) < 0.05 * max(int(beyond.sum()), 1)
        assert float(batch.inside.max()) == 1
    assert unseen > 1000


def test_both_poses_are_prepared_apart(dataset):
    series = find_series(dataset, ["sub-1"], "T2w", "registered")[0]
    made = prepare_series(dataset, series)
    valid = np.load(made / "valid.npy")
    assert 0 < valid.mean() < 1
    assert torch.from_numpy(valid).dtype == torch.uint8


@pytest.fixture
def formats(tiny_pair, tmp_path):
    """Write sub-1 with every image in one format, registered and in the true pose.

    The affine is made of quarters: NIfTI stores it with 32 bits, the others as text.
    """
    mr = Volume(tiny_pair.mr.data, np.round(tiny_pair.mr.affine * 4) / 4, "mr")

    def write(end, folder):
        root = tmp_path / folder
        registered = root / "derivatives" / "registered"
        truth = root / "derivatives" / "truth" / "sub-1" / "sub-1_space-iso"
        write_volume(mr, root / "sub-1" / "anat" / f"sub-1_T2w{end}")
        volumes = {"ct": tiny_pair.ct, "desc-vertebrae_dseg": tiny_pair.vertebrae}
        for name, volume in volumes.items():
            stem = registered / "sub-1" / "sub-1_space-T2w_res-iso"
            for path in (stem, truth):
                write_volume(volume, path.with_name(f"{path.name}_{name}{end}"))
        row = {"participant_id": "sub-1", "mr": f"sub-1/anat/sub-1_T2w{end}"}
        row |= {"outputs": "sub-1/sub-1_space-T2w", "status": "done", "verdict": "accept"}
        nothing = row | {"mr": "sub-2", "participant_id": "sub-2", "status": "failed"}
        write_table([row, nothing], registered / "registration.tsv")
        return root

    return write


@pytest.mark.parametrize("end", [".nii", ".mha", ".nrrd"])
@pytest.mark.parametrize("pose", ["registered", "truth"])
def test_every_format_of_a_dataset_gives_the_same_arrays(formats, end, pose):
    arrays = []
    for folder, form in (("usual", ".nii.gz"), ("other", end)):
        root = formats(form, folder)
        (series,) = find_series(root, ["sub-1", "sub-2"][: 1 + (pose == "registered")], "T2w", pose)
        made = prepare_series(root, series)
        arrays.append({path.name: np.load(path) for path in sorted(made.glob("*.npy"))})
    assert arrays[0].keys() == arrays[1].keys()
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name])
    assert end in IMAGES


@pytest.mark.parametrize(
    ("pose", "twice"), [("registered", "ct"), ("truth", "ct"), ("truth", "mr")]
)
def test_an_image_in_two_formats_is_not_chosen_from(formats, pose, twice):
    root = formats(".nii.gz", "set")
    formats(".mha", "spare")
    spare = {path.relative_to(root.parent / "spare"): path
             for path in (root.parent / "spare").rglob("*.mha")}  # fmt: skip
    for name, path in spare.items():
        if ("anat" in name.parts) == (twice == "mr") and "vertebrae" not in name.name:
            path.rename(root / name)
    with pytest.raises(InputError, match=r"stand for the same .*: remove one"):
        find_series(root, ["sub-1"], "T2w", pose)
