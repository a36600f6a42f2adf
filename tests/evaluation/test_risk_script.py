"""benchmarks/risk_coverage.py on constructed masks and tables."""

import numpy as np
import pytest
from PIL import Image

from spinect.errors import ConfigError
from spinect.geometry import Volume
from spinect.io import write_table, write_volume

ROWS = (  # of the vertebrae found: S1, L5, L4
    {"id": 26, "confidence": 0.2, "spread_hu": 300},
    {"id": 24, "confidence": 0.6, "spread_hu": 150.0},
    {"id": 23, "confidence": 0.9, "spread_hu": 90.0},
)


@pytest.fixture(scope="module")
def script(benchmark_script):
    return benchmark_script("risk_coverage")


def boxes(**places):
    """Boxes of 10 voxels along z, labelled by the number in their name."""
    data = np.zeros((6, 6, 60), np.uint8)
    for name, start in places.items():
        data[1:5, 1:5, start : start + 10] = int(name[1:])
    return Volume(data, np.eye(4), "labels")


TRUTH = boxes(v1=0, v2=14, v3=28, v4=42)  # S1, L5, L4, and L3, which is not found
FOUND = boxes(v26=0, v24=16, v23=28)
BODIES = FOUND.with_data(np.where(FOUND.data > 0, 50, 0).astype(np.uint8))


def test_bodies_are_matched_and_s1_is_left_out(script):
    l5, l4, l3 = script.bodies("VB1_1", TRUTH, FOUND, BODIES, ROWS)
    assert (l5.dice, l5.confidence, l5.spread_hu) == (pytest.approx(0.8), 0.6, 150)
    assert (l4.dice, l4.confidence, l4.found) == (1, 0.9, True)
    assert (l3.dice, l3.found) == (0, False)
    assert len(script.bodies("VB2_1", TRUTH, FOUND, BODIES, ROWS)) == 4  # 1 is a vertebra there


def test_arches_do_not_count(script):
    parts = BODIES.data.copy()
    parts[:, 3:][FOUND.data[:, 3:] > 0] = 42
    found = script.bodies("VB1_1", TRUTH, FOUND, BODIES.with_data(parts), ROWS)
    assert found[1].dice == pytest.approx(2 * 2 / (2 + 4))


@pytest.fixture
def folders(tmp_path):
    for scan in ("VB2_1", "VB3_1"):
        write_volume(TRUTH, tmp_path / "truth" / f"{scan}_gt.nii.gz")
        stem = str(tmp_path / "out" / f"{scan}_mr")
        write_volume(FOUND, f"{stem}_desc-vertebrae_dseg.nii.gz")
        write_volume(BODIES, f"{stem}_desc-subregions_dseg.nii.gz")
        write_table([*ROWS], f"{stem}_vertebrae.tsv")
    write_volume(TRUTH, tmp_path / "truth" / "spider_1_gt.nii.gz")
    return tmp_path / "out", tmp_path / "truth"


def test_a_folder_becomes_a_table_and_a_picture(script, folders, tmp_path):
    found = script.read_folder(*folders)
    lines = script.summary(found).splitlines()
    cells = [cell.strip() for cell in lines[2].split("|")[1:-1]]
    assert cells[:5] == ["VB2", "1 - confidence", "1", "2", "2"]  # S1 and L3 have no partner
    assert float(cells[5]) == -1  # the surer, the better
    assert [float(c) for c in cells[6:10]] == pytest.approx([0, 0.1, 0.1, 0.1])
    assert [line.split("|")[1].strip() for line in lines[2:]] == 2 * ["VB2"] + 2 * ["VB3"] + 2 * [
        "all"
    ]
    script.draw(found, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as image:
        assert image.size[0] > 500


def test_what_cannot_be_read_is_said(script, folders, tmp_path):
    with pytest.raises(ConfigError, match="holds no table of a labelled scan"):
        script.read_folder(tmp_path / "elsewhere", folders[1])
    with pytest.raises(ConfigError, match="with --mode mc"):
        script.summary([script.Body("VB1_1", 0.5), script.Body("VB1_1", 0.6)])
