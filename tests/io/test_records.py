"""Whole or not at all."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from spinect.anatomy import COLOURS, SUBREGIONS, VERTEBRAE
from spinect.errors import ImageError, LabelError, OutputError
from spinect.geometry import Volume
from spinect.io import (
    atomic,
    write_dseg_table,
    write_json,
    write_table,
    write_text,
    write_volume,
)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_success_replaces_the_old_file(tmp_path):
    path = tmp_path / "deep" / "er" / "a.txt"
    write_text("old", path)
    with atomic(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.parent == path.parent
        assert part.suffix == path.suffix
    assert path.read_text() == "new"
    assert names(path.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OutputError])
def test_a_failure_leaves_nothing_new(tmp_path, error):
    path = write_text("old", tmp_path / "a.txt")

    def fail():
        with atomic(path) as part:
            part.write_text("half")
            raise error("stop")

    with pytest.raises(error, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_failing_volume_leaves_nothing(tmp_path):
    data = np.zeros((4, 4, 4), np.float32)
    data[3, 3, 3] = np.nan
    with pytest.raises(ImageError, match="not finite"):
        write_volume(Volume(data, np.eye(4), "ct"), tmp_path / "ct.nii.gz")
    assert names(tmp_path) == []


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_writer_leaves_no_half_file(tmp_path, stop):
    code = f"""
        import time
        from pathlib import Path
        from spinect.io.records import atomic
        with atomic({str(tmp_path / "a.nii.gz")!r}) as part:
            part.write_bytes(b"half")
            Path({str(tmp_path / "started")!r}).touch()
            time.sleep(60)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stderr=subprocess.DEVNULL
    )
    for _ in range(600):
        if (tmp_path / "started").exists():
            break
        time.sleep(0.05)
    child.send_signal(stop)
    try:
        assert child.wait(30) != 0
    finally:
        child.kill()
    assert not (tmp_path / "a.nii.gz").exists()
    if stop == signal.SIGINT:
        assert names(tmp_path) == ["started"]


def test_a_full_disk_is_said_with_path_and_need(tmp_path):
    with (
        pytest.raises(
            OutputError, match=r"ct\.nii: cannot be written, the disk is full \(.*MB needed\)"
        ),
        atomic(tmp_path / "ct.nii", need=10**18),
    ):
        pytest.fail("it should not start")
    assert names(tmp_path) == []


def test_a_disk_that_fills_up_while_writing(tmp_path):
    def fill():
        with atomic(tmp_path / "a.txt") as part:
            part.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        OutputError, match=r"a\.txt: cannot be written, the disk is full.*free some"
    ):
        fill()
    assert names(tmp_path) == []


def test_unwritable_places(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="a part of the path is a file"):
        write_text("x", tmp_path / "file" / "a.txt")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OutputError, match="a folder of that name"):
        write_text("x", tmp_path / "folder")


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission"):
        write_text("x", tmp_path / "a.txt")


def test_unknown_suffix(tmp_path):
    volume = Volume(np.zeros((2, 2, 2), np.float32), np.eye(4), "ct")
    with pytest.raises(OutputError, match=r"a\.img: unknown image format: use the suffix"):
        write_volume(volume, tmp_path / "a.img")


@pytest.mark.parametrize("data", [np.full((2, 2, 2), 0.5), np.full((2, 2, 2), -1)])
def test_labels_to_write_must_be_ids(tmp_path, data):
    with pytest.raises(LabelError, match="integers from 0 to 65535"):
        write_volume(Volume(data, np.eye(4), "labels"), tmp_path / "l.nii.gz")


def test_json_of_numpy_values(tmp_path):
    data = {
        "n": np.int64(3),
        "x": np.float32(0.5),
        "nan": float("nan"),
        "a": np.eye(2),
        4: (1, "ü"),
    }
    path = write_json(data, tmp_path / "a.json")
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "n": 3, "x": 0.5, "nan": None, "a": [[1.0, 0.0], [0.0, 1.0]], "4": [1, "ü"],
    }  # fmt: skip


def test_tables(tmp_path):
    rows = [{"id": 20, "name": "L1", "p": 0.123456789}, {"id": 21, "note": "a\tb", "p": np.nan}]
    path = write_table(rows, tmp_path / "t.tsv")
    assert path.read_text() == "id\tname\tp\tnote\n20\tL1\t0.123457\tn/a\n21\tn/a\tn/a\ta b\n"
    assert write_table([], path, columns=("id", "name")).read_text() == "id\tname\n"


def test_dseg_tables(tmp_path):
    path = write_dseg_table(tmp_path / "v_dseg.tsv", [0, 20, np.uint8(26), 50])
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    assert lines[0] == ["index", "name", "color"]
    assert [line[:2] for line in lines[1:]] == [
        ["20", "L1"],
        ["26", "S1"],
        ["50", "vertebral body"],
    ]
    assert lines[1][2] == "#{:02x}{:02x}{:02x}".format(*COLOURS[20])
    with pytest.raises(LabelError, match="200"):
        write_dseg_table(path, [200])


def test_every_id_has_a_colour_of_its_own():
    assert set(COLOURS) == set(VERTEBRAE) | set(SUBREGIONS)
    assert len(set(COLOURS.values())) == len(COLOURS)
