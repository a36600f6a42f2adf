"""The wheel works where nothing else is: empty environment, no network."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Any look-up or connection ends the process: a program that tries one is found out.
NO_NETWORK = """
import os, sys
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        os.write(2, b"NETWORK USED: " + repr((event, args)).encode())
        os._exit(99)
sys.addaudithook(refuse)
"""


@pytest.mark.slow
def test_installed_from_the_wheel_it_runs_without_a_network(tmp_path, mr_file):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path)]
    subprocess.run([*pip, *build, str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("spinect-*.whl")
    inside = zipfile.ZipFile(wheel).namelist()
    for bundle in ("mr2ct", "vertebrae"):
        assert f"spinect/weights/{bundle}/model.safetensors" in inside
    assert not [name for name in inside if name.startswith(("tests/", "docs/", "benchmarks/"))]

    home = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    programs, site = (
        Path(sysconfig.get_path(kind, "venv", {"base": str(home)}))
        for kind in ("scripts", "purelib")
    )
    install = ["--python", str(home), "install", "--no-index", "--no-deps", str(wheel)]
    subprocess.run([*pip, *install], check=True)
    # The dependencies by path alone: an editable install beside them stays out of sight.
    (site / "no_network.py").write_text(NO_NETWORK)
    (site / "tests.pth").write_text(sysconfig.get_path("purelib") + "\nimport no_network\n")

    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "SPINECT"))}
    where = subprocess.run(
        [str(programs / "python"), "-c", "import spinect, no_network; print(spinect.__file__)"],
        env=clean, cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(home))
    out = tmp_path / "out"
    done = subprocess.run(
        [str(programs / "spinect"), "run", str(mr_file), "-o", str(out)],
        env=clean, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "NETWORK" not in done.stderr
    made = {path.name for path in out.iterdir()}
    assert {"sub-1_T2w.html", "sub-1_T2w_desc-vertebrae_dseg.nii.gz"} <= made


def test_the_guard_of_the_wheel_test_bites(tmp_path):
    script = NO_NETWORK + "import socket\nsocket.create_connection(('localhost', 9))\n"
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True)
    assert done.returncode == 99
