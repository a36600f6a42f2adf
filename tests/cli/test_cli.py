"""The program itself: start-up, defaults, machine-readable output, what each command prints."""

import inspect
import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spinect import __version__
from spinect.cli import run as jobs
from spinect.cli.main import app
from spinect.errors import BundleError
from spinect.workflows.options import RunOptions, parse_outputs, parse_size

HEAVY = {"torch", "scipy", "nibabel", "SimpleITK", "numpy", "matplotlib", "pydantic", "jinja2"}


@pytest.fixture
def cli(engine, monkeypatch):
    monkeypatch.setattr("spinect.workflows.run.load_engine", lambda _options: engine)

    def call(*arguments):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    return call


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys, atexit\n"
        f"atexit.register(lambda: print('HEAVY', sorted({HEAVY!r} & set(sys.modules))))\n"
        "sys.argv = ['spinect', '--help']\n"
        "from spinect.cli.main import main\n"
        "main()\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0
    assert "HEAVY []" in done.stdout
    assert "translate" in done.stdout
    # Time of the processor: the wall clock of a busy machine says nothing about the program.
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent < 0.5


def test_package_import_is_light_and_names_resolve():
    code = (
        "import sys, spinect\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
        "from spinect import read, Volume\n"
        "assert 'torch' not in sys.modules\n"
        "for name in spinect.__all__: getattr(spinect, name)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_public_name():
    import spinect

    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = spinect.nonsense


@pytest.mark.parametrize("command", [jobs.run, jobs.translate, jobs.segment])
def test_defaults_are_those_of_the_library(command):
    own = {"context", "out", "mr", "ct", "list_file", "root", "shard", "json"}
    reference = RunOptions()
    for name, parameter in inspect.signature(command).parameters.items():
        if name in own or (name == "outputs" and command is not jobs.run):
            continue
        value = parameter.default
        if name == "outputs":
            value = parse_outputs(value)
        if name == "max_memory":
            value = parse_size(value)
        assert value == getattr(reference, name), name


def test_run_writes_and_says_where_to_look(cli, mr_file, tmp_path):
    done = cli("run", mr_file, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "Not for diagnosis" in done.stdout
    assert "L3-L4 (2)" in done.stdout
    assert "L3: the level is a guess" in done.stderr
    assert "of memory" in done.stderr
    assert (tmp_path / "out" / "sub-1_T2w.html").exists()


def test_json_is_all_that_stands_on_stdout(cli, mr_file, tmp_path):
    done = cli("run", mr_file, "-o", tmp_path / "out", "--json", "--outputs", "ct")
    answer = json.loads(done.stdout)
    assert answer["exit_code"] == 0
    assert answer["cases"][0]["record"]["inputs"][0]["path"] == "sub-1_T2w.nii.gz"


def test_translate_makes_no_masks(cli, mr_file, tmp_path):
    out = tmp_path / "out"
    assert cli("translate", mr_file, "-o", out).exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "sub-1_T2w_desc-synth_ct.nii.gz",
        "sub-1_T2w_preview.png",
        "sub-1_T2w_run.json",
        "sub-1_T2w_space-iso_desc-synth_ct.nii.gz",
    ]


def test_segment_takes_a_ct(cli, tiny_pair, tmp_path):
    from spinect.io import write_volume

    ct = write_volume(tiny_pair.ct, tmp_path / "scan_ct.nii.gz")
    out = tmp_path / "out"
    done = cli("segment", ct, "-o", out, "--outputs", "vertebrae,table,preview")
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in out.iterdir()) == [
        "scan_ct_desc-vertebrae_dseg.nii.gz",
        "scan_ct_desc-vertebrae_dseg.tsv",
        "scan_ct_preview.png",
        "scan_ct_run.json",
        "scan_ct_vertebrae.tsv",
    ]


@pytest.mark.parametrize(
    "arguments",
    [["run"], ["run", "a.nii"], ["run", "-o", "x", "--mode", "best"], ["sing"], ["run", "--speed"]],
)
def test_wrong_usage_is_exit_code_two(cli, arguments):
    assert cli(*arguments).exit_code == 2


def test_version(cli):
    assert cli("--version").stdout == f"spinect {__version__}\n"


def test_methods_as_json(cli):
    rows = json.loads(cli("methods", "--json").stdout)
    assert {"regression", "segmentation"} <= {row["name"] for row in rows}
    assert "regression" in cli("methods").stdout


def test_info_names_no_folder(cli):
    done = cli("info", "--json")
    facts = json.loads(done.stdout)
    assert facts["spinect"] == __version__
    assert facts["memory_bytes"] > 2**30
    assert str(Path.home()) not in done.stdout
    assert "torch" in cli("info").stdout


def test_doctor_finds_a_missing_model(cli, monkeypatch):
    monkeypatch.setattr("spinect.workflows.doctor.list_bundles", list)
    done = cli("doctor")
    assert done.exit_code == 1
    assert "model mr2ct" in done.stdout
    assert "-> reinstall spinect" in done.stdout
    checks = json.loads(cli("doctor", "--json").stdout)
    assert {"torch", "device", "memory", "GL", "model vertebrae"} <= {c["name"] for c in checks}
    assert all(check["mend"] for check in checks if check["state"] != "ok")


def test_cite(cli):
    assert "10.1186/s41747-023-00385-2" in cli("cite").stdout
    assert cli("cite", "--bibtex").stdout.count("@") == 3


def test_unknown_model_is_an_error_before_anything_runs(mr_file, tmp_path, monkeypatch):
    def fail(_options):
        raise BundleError("no model 'x'; known models: mr2ct")

    monkeypatch.setattr("spinect.workflows.run.load_engine", fail)
    done = CliRunner().invoke(app, ["run", str(mr_file), "-o", str(tmp_path / "out")])
    assert done.exit_code == 1
    assert done.stderr == "error: no model 'x'; known models: mr2ct\n"


def test_an_unforeseen_error_is_one_line(cli, mr_file, tmp_path, monkeypatch):
    def fail(*_arguments, **_options):
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr("spinect.workflows.run.plan", fail)
    done = cli("run", mr_file, "-o", tmp_path / "out")
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert "unexpected ZeroDivisionError: division by zero" in done.stderr


def test_interrupt_is_exit_code_130(cli, engine, mr_file, tmp_path, monkeypatch):
    def stop(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(engine, "process", stop)
    done = cli("run", mr_file, "-o", tmp_path / "out")
    assert done.exit_code == 130
    assert list((tmp_path / "out").iterdir()) == []
    assert "Traceback" not in done.output


SLOW = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("shared", sys.argv.pop(1))
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)
import spinect.workflows.run as run
engine = shared.FakeEngine(shared.make_tiny_pair(), wait_s=60)
original = engine.process
def process(*arguments):
    print("begun", flush=True)
    return original(*arguments)
engine.process = process
run.load_engine = lambda options: engine
from spinect.cli.main import main
main()
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_leave_nothing_half_written(mr_file, tmp_path, sent, code, request):
    shared = request.config.rootpath / "tests" / "conftest.py"
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", SLOW, shared, "run", mr_file, "-o", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(sent)
        assert process.wait(20) == code
        assert "Traceback" not in process.stderr.read()
    assert list(out.iterdir()) == []
