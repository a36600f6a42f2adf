"""The whole of a run, with an engine that needs no network."""

import csv
import json
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from spinect.errors import ImageError, OutputError, ResourceError, SpinectWarning
from spinect.workflows.case import run_case
from spinect.workflows.options import RunOptions
from spinect.workflows.planning import plan
from spinect.workflows.record import ModelRecord, read_record
from spinect.workflows.run import run_many

ALL = RunOptions()
FAST = RunOptions(outputs=("ct", "table"))  # pictures take most of the time of a tiny case
ENDS = [
    "_desc-synth_ct.nii.gz",
    "_space-iso_desc-synth_ct.nii.gz",
    "_desc-vertebrae_dseg.nii.gz",
    "_desc-vertebrae_dseg.tsv",
    "_space-iso_desc-vertebrae_dseg.nii.gz",
    "_space-iso_desc-vertebrae_dseg.tsv",
    "_desc-subregions_dseg.nii.gz",
    "_desc-subregions_dseg.tsv",
    "_space-iso_desc-subregions_dseg.nii.gz",
    "_space-iso_desc-subregions_dseg.tsv",
    "_vertebrae.tsv",
    "_preview.png",
    ".html",
    "_run.json",
]


def one(source, out, engine, options=FAST):
    return run_case(plan([source], out, options).cases[0], engine)


def names(folder):
    return sorted(path.name for path in folder.rglob("*"))


def test_writes_every_output_on_the_right_grid(mr_file, tmp_path, engine):
    out = tmp_path / "out"
    outcome = one(mr_file, out, engine, ALL)
    assert outcome.status == "done"
    assert names(out) == sorted("sub-1_T2w" + end for end in ENDS)
    given = nib.load(mr_file)
    for end in ENDS:
        if not end.endswith(".nii.gz"):
            continue
        image = nib.load(out / ("sub-1_T2w" + end))
        assert image.get_data_dtype() == (np.int16 if "ct" in end else np.uint8)
        if "space-iso" in end:
            np.testing.assert_allclose(image.header.get_zooms(), 1, atol=1e-6)
            assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        else:
            assert image.shape == given.shape
            np.testing.assert_allclose(image.affine, given.affine, atol=1e-5)
    ct = nib.load(out / "sub-1_T2w_desc-synth_ct.nii.gz").get_fdata()
    assert ct.min() == -1000
    masks = nib.load(out / "sub-1_T2w_desc-vertebrae_dseg.nii.gz").get_fdata()
    assert set(np.unique(masks)) == {0, 22, 23, 24}


def test_record_tells_what_was_done_without_the_folder(mr_file, tmp_path, engine):
    out = tmp_path / "out"
    one(mr_file, out, engine, ALL)
    record = read_record(out / "sub-1_T2w_run.json")
    assert record.inputs[0].path == "sub-1_T2w.nii.gz"
    assert record.inputs[0].plane == "sagittal"
    assert record.inputs[0].orientation == "PIR"
    assert record.outputs == tuple("sub-1_T2w" + end for end in ENDS[:-1])
    assert set(record.seconds) == {"read", "translate", "segment", "write", "report"}
    assert record.peak_bytes > 10 * 2**20
    assert record.warnings == ("L3: the level is a guess",)
    assert record.confidence == pytest.approx(0.8)
    assert record.level_source == "guess"
    assert str(tmp_path) not in (out / "sub-1_T2w_run.json").read_text()
    assert str(tmp_path) not in (out / "sub-1_T2w.html").read_text()


def test_warnings_are_recorded_and_not_lost(mr_file, tmp_path, engine, monkeypatch):
    original = engine.process

    def warn(*args):
        warnings.warn("the header was mended", SpinectWarning, stacklevel=2)
        return original(*args)

    monkeypatch.setattr(engine, "process", warn)
    outcome = one(mr_file, tmp_path / "out", engine, RunOptions(outputs=("html",)))
    assert outcome.record.warnings == ("the header was mended", "L3: the level is a guess")
    assert "the header was mended" in (tmp_path / "out" / "sub-1_T2w.html").read_text()


def test_outputs_can_be_chosen(mr_file, tmp_path, engine):
    out = tmp_path / "out"
    one(mr_file, out, engine, RunOptions(outputs=("ct", "table")))
    expected = ["_desc-synth_ct.nii.gz", "_run.json", "_vertebrae.tsv"]
    assert names(out) == ["sub-1_T2w" + end for end in expected]


def test_without_segmenter_there_are_no_masks(mr_file, tmp_path, engine):
    out = tmp_path / "out"
    one(mr_file, out, engine, RunOptions(segmenter="none", mode="mc"))
    assert not [name for name in names(out) if "dseg" in name or "vertebrae" in name]
    assert "sub-1_T2w_desc-std_ct.nii.gz" in names(out)


def test_overwriting_takes_away_what_the_old_options_made(mr_file, tmp_path, engine):
    out = tmp_path / "out"
    one(mr_file, out, engine, RunOptions(mode="mc", outputs=("ct", "std", "vertebrae")))
    one(mr_file, out, engine, RunOptions(outputs=("ct",), overwrite=True))
    assert names(out) == ["sub-1_T2w_desc-synth_ct.nii.gz", "sub-1_T2w_run.json"]


@pytest.mark.parametrize("where", ["write_volume", "write_html", "write_json"])
def test_a_failing_writer_leaves_nothing(mr_file, tmp_path, engine, monkeypatch, where):
    def fail(*_args, **_keywords):
        raise OutputError("the disk is full")

    monkeypatch.setattr(f"spinect.workflows.outputs.{where}", fail)
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="full"):
        one(mr_file, out, engine, ALL)
    assert names(out) == []


def test_a_failing_case_keeps_the_former_outputs(mr_file, tmp_path, engine, monkeypatch):
    out = tmp_path / "out"
    one(mr_file, out, engine)
    before = {path: path.read_bytes() for path in out.iterdir()}

    def fail(*_args):
        raise ImageError("nothing to see")

    monkeypatch.setattr(engine, "process", fail)
    with pytest.raises(ImageError):
        one(mr_file, out, engine, FAST.model_copy(update={"overwrite": True}))
    assert {path: path.read_bytes() for path in out.iterdir()} == before


KILLED = """
import importlib.util, sys
from pathlib import Path
def load(path):
    spec = importlib.util.spec_from_file_location("m" + Path(path).parent.name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
root, source, out = sys.argv[1:]
from spinect.workflows.case import run_case
from spinect.workflows.options import RunOptions
from spinect.workflows.planning import plan
shared = load(root + "/conftest.py")
engine = shared.FakeEngine(shared.make_tiny_pair())
import spinect.workflows.case as case
def hang(*args):
    print("written", flush=True)
    import time
    time.sleep(60)
case.write_report = hang
run_case(plan([Path(source)], Path(out), RunOptions()).cases[0], engine)
"""


def test_a_killed_run_leaves_no_output_and_the_next_one_cleans_up(mr_file, tmp_path, engine):
    out, root = tmp_path / "out", Path(__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, root, mr_file, out], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "written\n"
        process.kill()
    assert (out / ".sub-1_T2w.part").is_dir()
    assert not list(out.glob("[!.]*"))
    assert one(mr_file, out, engine).status == "done"
    assert not list(out.glob(".*"))


def test_resume_keeps_only_what_is_up_to_date(mr_file, tmp_path, engine):
    out = tmp_path / "out"

    def again(**changes):
        asked = {"outputs": ("ct", "table"), "resume": True} | changes
        return one(mr_file, out, engine, RunOptions(**asked)).status

    assert [again(), again(), again(device="cpu", max_memory=2**30)] == ["done", "kept", "kept"]
    assert [again(seed=1), again(seed=1)] == ["done", "kept"]  # options
    engine.models = (ModelRecord(name="fake", sha256="1" * 64),)
    assert [again(seed=1), again(seed=1)] == ["done", "kept"]  # model
    (out / "sub-1_T2w_vertebrae.tsv").unlink()
    assert [again(seed=1), again(seed=1)] == ["done", "kept"]  # an output is gone
    (out / "sub-1_T2w_run.json").write_text("{}")
    assert [again(seed=1), again(seed=1)] == ["done", "kept"]  # damaged record
    image = nib.load(mr_file)
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32) * 2, image.affine), mr_file)
    assert [again(seed=1), again(seed=1)] == ["done", "kept"]  # input


def test_timeout_stops_a_case(mr_file, tmp_path, engine):
    engine.wait_s = 20
    start = time.perf_counter()
    with pytest.raises(ResourceError, match="timeout of 1 s"):
        one(mr_file, tmp_path / "out", engine, RunOptions(timeout=1))
    assert time.perf_counter() - start < 10
    assert names(tmp_path / "out") == []


@pytest.fixture
def cohort(mr_file):
    folder = mr_file.parent
    for name in ("b", "c"):
        shutil.copy(mr_file, folder / f"{name}.nii.gz")
    (folder / "bad.nii.gz").write_bytes(b"no image")
    return [folder / f"{name}.nii.gz" for name in ("b", "bad", "c", "missing")]


def read_cohort(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_what_fails_does_not_stop_the_others(cohort, tmp_path, engine):
    out = tmp_path / "out"
    summary = run_many(plan(cohort, out, FAST), engine)
    assert [o.status for o in summary.outcomes] == ["done", "failed", "done", "failed"]
    assert summary.exit_code == 3
    rows = read_cohort(out / "cohort.tsv")
    assert [row["status"] for row in rows] == ["done", "failed", "done", "failed"]
    assert "bad.nii.gz" in rows[1]["error"]
    assert "missing.nii.gz" in rows[3]["error"]
    assert rows[0]["level_source"] == "guess"
    assert not [name for name in names(out) if name.startswith(("bad", "missing", "."))]
    json.dumps(summary.as_json())


def test_a_bug_in_one_case_does_not_stop_the_others(cohort, tmp_path, engine, monkeypatch):
    original = engine.process

    def once(*args):
        if engine.calls == 0:
            engine.calls = 1
            raise ZeroDivisionError("division by zero")
        return original(*args)

    monkeypatch.setattr(engine, "process", once)
    summary = run_many(plan([cohort[0], cohort[2]], tmp_path / "out", FAST), engine)
    assert summary.exit_code == 3
    assert summary.outcomes[0].error.startswith("b.nii.gz: unexpected ZeroDivisionError")


def test_exit_code_is_one_when_all_fail(cohort, tmp_path, engine):
    summary = run_many(plan([cohort[1], cohort[3]], tmp_path / "out", FAST), engine)
    assert summary.exit_code == 1


def test_interrupt_leaves_the_table_of_what_was_done(cohort, tmp_path, engine, monkeypatch):
    original, out = engine.process, tmp_path / "out"

    def stop_at_second(*args):
        if engine.calls == 1:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(engine, "process", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        run_many(plan([cohort[0], cohort[2]], out, FAST), engine)
    assert [row["status"] for row in read_cohort(out / "cohort.tsv")] == ["done"]
    assert not [name for name in names(out) if name.startswith(("c_", "c.", "."))]


def test_a_second_run_keeps_the_rows_of_the_first(cohort, tmp_path, engine):
    out = tmp_path / "out"
    run_many(plan([cohort[0], cohort[1]], out, FAST), engine)
    run_many(plan([cohort[1], cohort[2]], out, FAST), engine)
    assert [Path(row["input"]).name for row in read_cohort(out / "cohort.tsv")] == [
        "b.nii.gz",
        "bad.nii.gz",
        "c.nii.gz",
    ]


def test_remaining_time_follows_the_pace(cohort, tmp_path, engine):
    told = []

    class Ear:
        def planned(self, *_args): ...
        def begin(self, case): ...
        def stage(self, name): ...
        def share(self, share): ...
        def end(self, outcome, _done, remaining_s):
            told.append((outcome.status, outcome.seconds, remaining_s))

    engine.wait_s = 0.1
    run_many(plan([cohort[1], cohort[0], cohort[2]], tmp_path / "out", FAST), engine, Ear())
    assert told[0][2] is None  # nothing was computed yet: nothing is promised
    assert told[1][2] == pytest.approx(told[1][1])  # one equal case is left
    assert told[2][2] == 0.0
