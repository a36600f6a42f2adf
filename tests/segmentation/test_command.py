"""Foreign segmenters: a small program of the test's own plays each of them."""

import sys
import time

import numpy as np
import pytest

from spinect.anatomy import VERTEBRA_IDS
from spinect.errors import ConfigError, ExternalToolError, ImageError, LabelError
from spinect.segmentation.command import segment_command
from spinect.segmentation.schemes import to_vertebra_ids

TOOL = """
import subprocess, sys, time
how, source, answer = sys.argv[1:]
if how == "fail":
    print("loading", file=sys.stderr)
    print("no licence found", file=sys.stderr)
    sys.exit(7)
if how == "sleep":
    time.sleep(60)
if how == "silent":
    sys.exit(0)
import nibabel as nib
import numpy as np
ct = nib.load(source)
hu = np.asarray(ct.dataobj)
labels = np.zeros(hu.shape, np.uint8)
z = np.arange(hu.shape[2])
for label, (low, high) in {27: (8, 32), 28: (42, 66), 29: (76, 100)}.items():
    labels[(hu > 150) & (z >= low) & (z < high)] = label
labels[:4, :4, :4] = 200 if how == "unknown" else 5
affine = ct.affine.copy()
if how == "moved":
    affine[0, 3] += 5
nib.save(nib.Nifti1Image(labels, affine), answer)
"""


@pytest.fixture
def tool(tmp_path):
    program = tmp_path / "my tool.py"
    program.write_text(TOOL)
    return lambda how: f'"{sys.executable}" "{program}" {how} {{input}} {{output}}'


def test_names_are_those_of_the_program(tiny_pair, tool):
    found = segment_command(tiny_pair.ct, tool("good"), "totalsegmentator", timeout=60)
    assert found.vertebrae.grid.matches(tiny_pair.ct.grid)
    assert set(np.unique(found.vertebrae.data)) == {0, 22, 23, 24}
    assert not found.subregions.data.any()
    assert [row["name"] for row in found.rows] == ["L3", "L4", "L5"]
    assert {(row["level_source"], row["level_p"]) for row in found.rows} == {("user", None)}
    assert "subregion mask is empty" in found.warnings[0]


def test_levels_of_the_user_win(tiny_pair, tool):
    found = segment_command(tiny_pair.ct, tool("good"), "totalsegmentator", lowest=19)
    assert [row["name"] for row in found.rows] == ["T10", "T11", "T12"]
    assert found.rows[0]["level_p"] is not None


@pytest.mark.parametrize(
    ("how", "text"),
    [
        ("fail", "exit code 7: no licence found"),
        ("silent", "wrote no {output}"),
        ("moved", "another grid"),
        ("unknown", "labels 200 do not belong to scheme totalsegmentator"),
    ],
)
def test_a_bad_answer_is_one_line(tiny_pair, tool, how, text):
    with pytest.raises(ExternalToolError) as caught:
        segment_command(tiny_pair.ct, tool(how), "totalsegmentator", timeout=60)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_slow_program_is_stopped(tiny_pair, tool):
    start = time.perf_counter()
    with pytest.raises(ExternalToolError, match=r"within 0\.5 s"):
        segment_command(tiny_pair.ct, tool("sleep"), "verse", timeout=0.5)
    assert time.perf_counter() - start < 20


def test_what_cannot_begin(tiny_pair):
    ct = tiny_pair.ct
    with pytest.raises(ConfigError, match=r"\{output\}"):
        segment_command(ct, "prog {input}", "verse")
    with pytest.raises(ConfigError, match="quot"):
        segment_command(ct, 'prog "{input} {output}', "verse")
    with pytest.raises(ConfigError, match="scheme 'mine'"):
        segment_command(ct, "prog {input} {output}", "mine")
    with pytest.raises(ExternalToolError, match="cannot be started"):
        segment_command(ct, "no-such-program {input} {output}", "verse")
    with pytest.raises(ExternalToolError, match="cannot be started"):  # quotes around everything
        segment_command(ct, '"no-such-program {input} {output}"', "verse")
    unit = ct.with_data(ct.data / 1000)
    with pytest.raises(ImageError, match="not in HU"):
        segment_command(unit, "no-such-program {input} {output}", "verse")


@pytest.mark.parametrize(
    ("scheme", "label", "name"),
    [
        ("totalsegmentator", 25, "S1"),
        ("totalsegmentator", 26, "S1"),
        ("totalsegmentator", 27, "L5"),
        ("totalsegmentator", 31, "L1"),
        ("totalsegmentator", 32, "T12"),
        ("totalsegmentator", 43, "T1"),
        ("totalsegmentator", 44, "C7"),
        ("totalsegmentator", 50, "C1"),
        ("verse", 28, "T13"),
        ("verse", 25, "L6"),
        ("verse", 26, "S1"),
        ("spineps", 29, "S2"),
    ],
)
def test_schemes(scheme, label, name):
    assert to_vertebra_ids(np.array([[label, 0]]), scheme).tolist() == [[VERTEBRA_IDS[name], 0]]


def test_known_labels_that_are_no_vertebra_and_unknown_ones():
    assert to_vertebra_ids(np.array([1, 24, 51, 117]), "totalsegmentator").tolist() == [0] * 4
    assert to_vertebra_ids(np.array([124, 224, 24]), "spineps").tolist() == [0, 0, 24]
    with pytest.raises(LabelError, match="labels 29, 118"):
        to_vertebra_ids(np.array([24, 118, 29]), "verse")
