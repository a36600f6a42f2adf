"""Every preset at full width, as written but for two updates: does it start where it should?"""

import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from spinect.geometry import Volume
from spinect.io import write_table, write_volume

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = [
    *sorted((CONFIGS / "graf2023").glob("*.yaml")),
    *(CONFIGS / "lyu2022" / f"{name}.yaml" for name in ("cnn", "gan", "ddpm", "score_ve")),
    CONFIGS / "modern" / "pix2pix_original_2d.yaml",
    CONFIGS / "modern" / "cut_original_2d.yaml",
]
# Peak of two updates on two cores, GiB, measured; a machine with less leaves the row out, by name.
PEAK = {
    "cnn": 1.4,
    "cut_original_2d": 3.1,
    "cut_resnet_2d": 4.0,
    "cut_saunet_2d": 12.3,
    "ddim_image_2d": 14.3,
    "ddim_image_3d": 14.3,
    "ddim_noise_2d": 14.4,
    "ddim_noise_3d": 14.3,
    "ddpm": 2.1,
    "gan": 2.5,
    "pix2pix_3d": 7.9,
    "pix2pix_original_2d": 1.9,
    "pix2pix_saunet_2d": 4.4,
    "pix2pix_unet_2d": 9.9,
    "score_ve": 2.1,
    "syndiff_2d": 8.6,
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Two patients of noise with a block of bone; 1 mm in plane, 4 mm slices."""
    root = tmp_path_factory.mktemp("set")
    shape, affine = (10, 140, 150), np.diag([4.0, 1, 1, 1])
    for number in (1, 2):
        rng = np.random.default_rng(number)
        name = f"sub-{number}"
        vertebrae = np.zeros(shape, np.uint8)
        vertebrae[2:8, 50:90, 40:110] = 22
        truth = root / "derivatives" / "truth" / name / f"{name}_space-T2w"
        mr = rng.uniform(100, 500, shape).astype(np.float32)
        ct = np.where(vertebrae > 0, 600, -100).astype(np.float32)
        write_volume(Volume(mr, affine, "mr"), root / name / "anat" / f"{name}_T2w.nii.gz")
        write_volume(Volume(ct, affine, "ct"), Path(f"{truth}_ct.nii.gz"))
        write_volume(
            Volume(vertebrae, affine, "labels"), Path(f"{truth}_desc-vertebrae_dseg.nii.gz")
        )
    rows = [{"participant_id": f"sub-{number}", "split": "train"} for number in (1, 2)]
    write_table(rows, root / "participants.tsv")
    return root


def available_gib():
    """Memory that is free now."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) / 2**20
    raise AssertionError("no MemAvailable")


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_it_starts(preset, dataset, tmp_path):
    """A process of its own, so that its memory is its own."""
    need = PEAK[preset.stem]
    if sys.platform == "linux" and available_gib() < need + 1:
        pytest.skip(f"{preset.stem} needs {need} GiB, {available_gib():.1f} GiB are free")
    command = [
        *(sys.executable, "-m", "spinect", "train", str(preset), "--run", str(tmp_path / "run")),
        *("--set", "trainer.max_steps=2", "--set", "data.workers=0"),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "SPINECT_DATASET": str(dataset)},
        capture_output=True,
        text=True,
        check=False,
    )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{preset.stem}: largest peak of a child so far {peak:.1f} GiB")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()
