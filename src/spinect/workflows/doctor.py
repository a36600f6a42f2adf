"""What this installation is, and whether it can work: `spinect info` and `spinect doctor`."""

import ctypes.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

import torch

import spinect
from spinect.card import list_bundles, verify
from spinect.errors import BundleError
from spinect.inference.compute import Compute
from spinect.methods.registry import describe
from spinect.workflows.options import human_size
from spinect.workflows.record import commit, versions

SHIPPED: Final = ("mr2ct", "vertebrae")
_LEAST_MEMORY: Final = 4 * 2**30
_LEAST_DISK: Final = 2 * 2**30
_EXTRAS: Final = {"train": ("lightning", "tensorboard"), "render": ("pyvista",),
                  "dicom": ("pydicom",), "stats": ("pyarrow",)}  # fmt: skip


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; `mend` says what to do where it is not "ok"."""

    name: str
    state: Literal["ok", "note", "problem"]
    found: str
    mend: str = ""


def info() -> dict[str, Any]:
    """Versions, device, memory, models and methods, JSON-ready; names no user and no folder."""
    compute = Compute.choose()
    return {
        "spinect": spinect.__version__,
        "commit": commit(),
        "versions": versions(),
        "device": str(compute.device),
        "precision": "bf16" if compute.dtype is torch.bfloat16 else "fp32",
        "threads": torch.get_num_threads(),
        "memory_bytes": total_memory(),
        "models": [
            {"name": card.name, "sha256": card.sha256, "modes": list(card.modes),
             "licence": card.licence, "summary": card.summary}
            for card in list_bundles()
        ],
        "methods": [row["name"] for row in describe()],
    }  # fmt: skip


def doctor() -> list[Check]:
    """Look at everything that a run needs; nothing is changed."""
    return [
        _python(),
        _torch(),
        _device(),
        _memory(),
        _disk(Path.cwd(), "disk, here"),
        _disk(Path(tempfile.gettempdir()), "disk, temporary files"),
        *_weights(),
        _gl(),
        *_extras(),
    ]


def _python() -> Check:
    return Check("python", "ok", ".".join(map(str, sys.version_info[:3])))


def _torch() -> Check:
    found = f"{torch.__version__}, {torch.get_num_threads()} threads"
    waits = os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive"
    if waits or (os.cpu_count() or 1) > 4:
        return Check("torch", "ok", found)
    return Check(
        "torch", "note", found, "on few cores, OMP_WAIT_POLICY=passive keeps waiting threads quiet"
    )


def _device() -> Check:
    compute = Compute.choose()
    precision = "bf16" if compute.dtype is torch.bfloat16 else "fp32"
    if compute.device.type == "cuda":
        return Check("device", "ok", f"{torch.cuda.get_device_name()}, {precision}")
    if compute.device.type == "cpu":
        mend = "minutes per case; a CUDA or MPS device is faster, --device chooses it"
        return Check("device", "note", f"cpu, {os.cpu_count()} cores, {precision}", mend)
    return Check("device", "ok", f"{compute.device}, {precision}")


def _memory() -> Check:
    total, free = total_memory(), free_memory()
    if total == 0:
        return Check("memory", "note", "not known on this system", "4 GB free are needed")
    found = f"{human_size(total)}, {human_size(free)} free"
    if free >= _LEAST_MEMORY:
        return Check("memory", "ok", found)
    return Check(
        "memory", "problem", found,
        f"close other programs, or set --max-memory below {human_size(free)}",
    )  # fmt: skip


def _disk(folder: Path, name: str) -> Check:
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        mend = "choose another folder (TMPDIR for temporary files)"
        return Check(name, "problem", "not writable", mend)
    if free < _LEAST_DISK:
        return Check(name, "problem", f"{human_size(free)} free", "2 GB free are needed: make room")
    return Check(name, "ok", f"{human_size(free)} free")


def _weights() -> Iterator[Check]:
    try:
        cards = {card.name: card for card in list_bundles()}
    except BundleError as problem:
        yield Check("weights", "problem", str(problem), "correct SPINECT_MODELS or the card")
        return
    for name in (*SHIPPED, *sorted(cards.keys() - set(SHIPPED))):
        if name not in cards:
            mend = "reinstall spinect: its package holds this model"
            yield Check(f"model {name}", "problem", "missing", mend)
            continue
        try:
            yield Check(f"model {name}", "ok", f"sha256 {verify(name)[:12]} as its card says")
        except BundleError as problem:
            yield Check(f"model {name}", "problem", str(problem), "reinstall spinect")


def _gl() -> Check:
    library = ctypes.util.find_library("GL") or ctypes.util.find_library("OpenGL")
    if library:
        return Check("GL", "ok", library)
    mend = "only 3D rendering needs it: install libgl1 (Debian, Ubuntu) or mesa-libGL (Fedora)"
    return Check("GL", "note", "no OpenGL library", mend)


def _extras() -> Iterator[Check]:
    for extra, packages in _EXTRAS.items():
        found, missing = [], []
        for package in packages:
            try:
                found.append(f"{package} {version(package)}")
            except PackageNotFoundError:
                missing.append(package)
        if missing:
            mend = f"pip install 'spinect[{extra}]' if you need it"
            yield Check(f"extra {extra}", "note", f"without {', '.join(missing)}", mend)
        else:
            yield Check(f"extra {extra}", "ok", ", ".join(found))


def total_memory() -> int:
    """Memory of the machine, bytes; 0 where it is not known."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def free_memory() -> int:
    """Memory that new work can take, bytes: MemAvailable on Linux, all of it elsewhere."""
    table = Path("/proc/meminfo")
    if table.exists():
        for line in table.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return total_memory()
