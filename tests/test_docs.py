"""What the documentation shows is what the program does."""

import doctest
import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

import spinect
from spinect.cli.main import app
from spinect.io import read

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(page, language):
    return [m[2] for m in FENCE.finditer(page.read_text(encoding="utf-8")) if m[1] == language]


def commands():
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.replace("\\\n", " ").splitlines():
                if line.startswith("spinect "):
                    yield pytest.param(line, id=f"{page.stem}: {line[:60]}")


@pytest.mark.parametrize("line", list(commands()))
def test_every_command_shown_is_understood(line):
    words = shlex.split(line, comments=True)[1:]
    program = get_command(app)
    context = program.make_context("spinect", words)
    name, command, rest = program.resolve_command(
        context, [*context._protected_args, *context.args]
    )
    command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.stem)
def test_every_name_shown_exists(page):
    """Imports of Python blocks work; the slow tests run the blocks."""
    for block in blocks(page, "python"):
        imports = [
            x for x in block.splitlines() if x.startswith(("from spinect", "import spinect"))
        ]
        exec("\n".join(imports), {})


@pytest.fixture
def beside_an_mr(tmp_path, monkeypatch, mr_file):
    mr_file.rename(tmp_path / "sub-1_T2w.nii.gz")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_five_lines_of_the_package(beside_an_mr):
    done = doctest.testmod(spinect, optionflags=doctest.ELLIPSIS)
    assert done.attempted >= 5
    assert done.failed == 0
    ct = read(beside_an_mr / "sub-1_ct.nii.gz", "ct")
    assert ct.grid.matches(read(beside_an_mr / "sub-1_T2w.nii.gz", "mr").grid)


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p, "python")], ids=lambda p: p.stem)
def test_python_blocks_run(page, beside_an_mr):
    names = {}
    for block in blocks(page, "python"):
        exec(block, names)
    assert any(beside_an_mr.iterdir())
