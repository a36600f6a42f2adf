"""Imports run one way: every import is read, and an arrow that runs up fails."""

import ast
from pathlib import Path

import pytest

import spinect

ROOT = Path(spinect.__file__).parent

# From the bottom up; a module imports from its own row or from rows below it, but members of one
# row that are named apart do not import each other.
ROWS = [
    {"errors", "weights"},
    {"anatomy", "protocols"},
    {"nets", "diffusion", "geometry"},
    {"methods"},
    {"io", "registration", "evaluation"},
    {"phantom"},
    {"card"},
    {"bundle", "data"},
    {"inference"},
    {"segmentation"},
    {"training"},
    {"report"},
    {"workflows"},
    {"cohort"},
    {"viewer"},
    {"cli"},
]
LEVEL = {name: level for level, row in enumerate(ROWS) for name in row}
FORBIDDEN = {
    ("geometry", "torch"),
    ("geometry", "spinect.nets"),
    ("nets", "spinect.geometry"),
    ("diffusion", "spinect.geometry"),
    ("evaluation", "spinect.methods"),
    ("evaluation", "torch"),
    ("io", "torch"),
    ("nets", "spinect.diffusion"),
}
SOURCES = sorted(p for p in ROOT.rglob("*.py") if p.parent != ROOT or p.stem != "__init__")


def imports(path):
    """(module, line, inside a function?) of each import in a file."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    inner = {id(n) for f in ast.walk(tree) if id(f) in top for n in ast.walk(f)}
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import in line {node.lineno}"
            names = [node.module or ""]
        for name in names:
            yield name, node.lineno, id(node) in inner


def part(path):
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_down(path):
    own = part(path)
    if own == "__main__":
        return
    assert own in LEVEL, f"{own} has no place in ROWS"
    for name, line, _ in imports(path):
        for who, what in FORBIDDEN:
            bad = who == own and (name == what or name.startswith(what + "."))
            assert not bad, f"{path}:{line}: {own} must not import {name}"
        if name.startswith("spinect."):
            other = name.split(".")[1]
            ok = other == own or LEVEL[other] < LEVEL[own]
            assert ok, f"{path}:{line}: {own} imports {other}, which is not below it"


LATE = {"cli", "viewer"}  # start-up time
OPTIONAL = {"lightning", "tensorboard", "pyvista", "pydicom", "torch", "matplotlib", "pyarrow"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_late_import_hides_a_circle(path):
    if part(path) in LATE | {"__main__"}:
        return
    for name, line, inside in imports(path):
        assert not (inside and name.startswith("spinect")), f"{path}:{line}: late import of {name}"
        if inside:
            assert name.split(".")[0] in OPTIONAL, f"{path}:{line}: late import of {name}"


def test_the_check_sees_a_planted_arrow(tmp_path):
    planted = tmp_path / "x.py"
    planted.write_text("def f():\n    from spinect.cli import main\n    return main\n")
    assert list(imports(planted)) == [("spinect.cli", 2, True)]
