"""The demo on a tiny subject that stands in for the phantom."""

import numpy as np
import pytest

from spinect.errors import ConfigError, OutputError
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.io import write_dseg_table, write_table, write_volume
from spinect.workflows.demo import demo

SEED = 1_000_000


@pytest.fixture
def stand_in(tiny_pair, engine, monkeypatch):
    """`write_dataset` writes the tiny pair in the layout of a phantom dataset."""

    def write_dataset(folder, subjects, seed, region, contrasts, motion):
        assert (subjects, region, contrasts, motion) == (1, "lumbar", ("T2w",), "none")
        name = f"sub-{seed}"
        truth = folder / "derivatives" / "truth" / name
        write_volume(tiny_pair.mr, folder / name / "anat" / f"{name}_T2w.nii.gz")
        for kind in ("vertebrae", "subregions"):
            mask = getattr(tiny_pair, kind)
            write_volume(mask, truth / f"{name}_space-iso_desc-{kind}_dseg.nii.gz")
            native = resample(mask, tiny_pair.mr.grid)
            write_volume(native, truth / f"{name}_space-T2w_desc-{kind}_dseg.nii.gz")
            write_dseg_table(truth / f"{name}_space-T2w_desc-{kind}_dseg.tsv", [])
        write_volume(tiny_pair.ct, truth / f"{name}_space-iso_ct.nii.gz")
        tissue = Volume(
            (tiny_pair.ct.data > 100).astype(np.uint8) + 1, tiny_pair.ct.affine, "labels"
        )
        write_volume(tissue, truth / f"{name}_space-iso_desc-tissue_dseg.nii.gz")
        write_table([{"participant_id": name, "seed": seed}], folder / "participants.tsv")

    monkeypatch.setattr("spinect.workflows.demo.write_dataset", write_dataset)
    monkeypatch.setattr("spinect.workflows.run.load_engine", lambda _options: engine)


@pytest.mark.usefixtures("stand_in")
def test_demo_compares_with_the_truth(tmp_path):
    done = demo(tmp_path / "demo", seed=SEED)
    values = {row.name: row.value for row in done.comparison}
    assert float(values["vertebra Dice"]) > 0.95  # the engine answers with the truth
    assert values["levels"] == "3 of 3"
    assert values["MAE near bone"].endswith(" HU")
    page = done.page.read_text()
    assert "Against the truth of this phantom" in page
    assert "errs by" in page
    assert "vertebra Dice" in page
    assert done.preview.exists()


@pytest.mark.usefixtures("stand_in")
def test_demo_replaces_only_a_demo(tmp_path):
    out = tmp_path / "demo"
    demo(out, seed=SEED)
    with pytest.raises(OutputError, match="--overwrite"):
        demo(out, seed=SEED)
    demo(out, seed=SEED, overwrite=True)
    (out / "phantom" / "participants.tsv").unlink()
    with pytest.raises(OutputError, match="not a phantom"):
        demo(out, seed=SEED, overwrite=True)


def test_demo_refuses_seeds_that_training_saw(tmp_path):
    with pytest.raises(ConfigError, match="not a test seed"):
        demo(tmp_path, seed=5)
