"""What the benchmark scripts share: the machine in words, tables, and where results go."""

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

import spinect

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Processor, cores, memory and the versions that matter, in one line."""
    import torch  # late: scripts that only read results need no torch

    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = info.read_text().splitlines()
        cpu = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), cpu)
        if any(x.startswith("flags") and " amx_bf16" in x for x in lines):
            cpu += " with AMX bf16"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()}, "
        f"torch {torch.__version__}, spinect {spinect.__version__} ({commit()})"
    )


def commit() -> str:
    """Short hash of the checkout, with "+" when it has changes; "no checkout" otherwise."""
    root = Path(__file__).parents[1]
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True
    )
    if head.returncode:
        return "no checkout"
    changed = subprocess.run(
        ["git", "status", "--porcelain", "src"], cwd=root, capture_output=True, text=True
    )
    return head.stdout.strip() + ("+" if changed.stdout.strip() else "")


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; floats with three digits, NaN as n/a."""

    def cell(value: object) -> str:
        if isinstance(value, float):
            return "n/a" if np.isnan(value) else f"{value:.3f}"
        return str(value)

    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell(v) for v in row) + " |" for row in rows]
    return "\n".join(lines)


def publish(name: str, title: str, body: str, *, keep: bool = True) -> None:
    """Print a result and keep it under results/NAME.md with command, date and machine."""
    command = " ".join([Path(sys.argv[0]).name, *(Path(a).name for a in sys.argv[1:])])
    day = datetime.now(UTC).date().isoformat()
    text = f"# {title}\n\n`benchmarks/{command}`, {day}\n\n{machine()}\n\n{body}\n"
    print(text)
    if keep:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text)


def peak_memory() -> int:
    """Most resident bytes of this process so far, without those of the one that started it."""
    status = Path("/proc/self/status")
    if status.exists():  # there getrusage also counts what the parent held
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def run_spinect(files: Sequence[Path], out: Path, *options: str) -> None:
    """The main job, as a user calls it; finished cases are skipped."""
    command = [sys.executable, "-m", "spinect", "run", *map(str, files), "-o", str(out), "--resume"]
    done = subprocess.run([*command, *options], check=False)
    if done.returncode not in (0, 3):
        raise SystemExit(f"spinect run ended with exit code {done.returncode}")
