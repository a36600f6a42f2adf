"""`spinect evaluate`: exit codes, what it prints, where it writes."""

import importlib.util
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spinect.cli.main import app

spec = importlib.util.spec_from_file_location(
    "tiny_evaluation", Path(__file__).parents[1] / "workflows" / "evaluate" / "conftest.py"
)
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


@pytest.fixture
def case(tmp_path):
    """A dataset of two patients and a method with both results."""
    dataset = tiny.write_dataset(tmp_path / "set", seeds=(1_000_000, 1_000_001))
    return dataset, tiny.write_results(tmp_path / "mine", dataset, (1_000_000, 1_000_001))


def call(*arguments):
    fast = ("--renderer", "none", "--protocol", "synthrad")
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments), *fast])


def test_all_scored_is_0_and_the_report_is_named(case, tmp_path):
    done = call(*case)
    assert done.exit_code == 0, done.output
    out = tmp_path / "mine-evaluation"
    assert (out / "report.html").is_file()
    assert str(out / "report.html") in done.stdout
    assert "Phantom data" in done.stdout
    assert "Not for diagnosis" in done.stdout
    assert "[1/2] mine sub-1000000_T2w done" in done.stderr


def test_a_missing_result_is_0_and_counted(case, tmp_path):
    for path in case[1].glob("sub-1000001*"):
        path.unlink()
    done = call(*case, "-o", tmp_path / "out", "--json")
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert told["methods"]["mine"] == {
        "done": 1, "kept": 0, "missing": 1, "failed": 0, "models": {"f" * 64: "fake"}
    }  # fmt: skip


def test_some_failed_is_3_and_all_failed_is_1(case, tmp_path):
    bad = case[1] / "sub-1000001_T2w_space-iso_desc-synth_ct.nii.gz"
    bad.write_bytes(b"nothing")
    done = call(*case, "-o", tmp_path / "out")
    assert done.exit_code == 3
    assert "sub-1000001_T2w failed:" in done.stderr
    (case[1] / "sub-1000000_T2w_space-iso_desc-synth_ct.nii.gz").unlink()
    done = call(*case, "-o", tmp_path / "out", "--overwrite")
    assert done.exit_code == 1
    assert (tmp_path / "out/report.html").is_file()  # the report says why


def test_errors_are_one_line_and_1(case, tmp_path):
    for arguments, text in (
        ((case[0], tmp_path / "nowhere"), "is not a folder"),
        ((tmp_path, case[1]), "holds no sub-* folder"),
        ((*case, "--reference", "other"), "is not among the methods mine"),
        ((*case, "--judge", "nobody"), "no model 'nobody'"),
        ((*case, "--resume", "--overwrite"), "contradict"),
        ((*case, "--contrast", "T1w"), "no series with a truth"),
    ):
        done = call(*arguments)
        assert done.exit_code == 1
        assert text in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "mine-evaluation").exists()


def test_wrong_usage_is_2(case):
    assert call(case[0]).exit_code == 2
    assert CliRunner().invoke(app, ["evaluate", *map(str, case), "--protocol", "x"]).exit_code == 2
