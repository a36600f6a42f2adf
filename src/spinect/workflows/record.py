"""run.json: what was done to one file, with what, how long it took, and what was odd."""

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import spinect
from spinect.errors import InputError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

Plane = Literal["sagittal", "coronal", "axial", "isotropic"]
SCHEMA_VERSION: Final = "1.0"
DISCLAIMER: Final = "Not a medical device. Not for diagnosis. Synthetic HU are not densitometry."
MR_DISCLAIMER: Final = (
    "Not a medical device. Not for diagnosis. The synthetic MR is in relative intensity: 0 and "
    "1000 are the 1st and 99th percentile of a scan, no value has a meaning of its own."
)
_LIBRARIES: Final = ("numpy", "scipy", "nibabel", "SimpleITK", "torch")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class InputRecord(_Part):
    """One input file; the name only, because folders often name patients."""

    path: str = Field(description="file name, without folders")
    sha256: str
    shape: tuple[int, int, int] = Field(description="voxels along each array axis")
    spacing: tuple[float, float, float] = Field(description="mm along each array axis")
    orientation: str = Field(description="where the array axes point, such as PIR")
    plane: Plane


class ModelRecord(_Part):
    """One bundle that took part."""

    name: str
    sha256: str


class SamplingRecord(_Part):
    """The draws of mode mc."""

    samples: int = Field(description="draws, K")
    expected_gain_db: float = Field(
        description="10 log10(2 / (1 + 1/K)): PSNR of the mean over that of one calibrated draw"
    )
    interval_ranks: tuple[int, int] | None = Field(default=None, description="i < j, from 1")
    nominal_coverage: float | None = Field(default=None, description="(j - i) / (K + 1)")
    medoid_sample: int | None = Field(default=None, description="its number, from 0")
    medoid_distance_hu: float | None = Field(
        default=None, description="its mean absolute distance to the other draws"
    )


class PlausibilityRecord(_Part):
    """What speaks for or against the masks of a case; null is what could not be measured."""

    vertebrae: int = Field(description="found above the sacrum")
    agreement: float | None = Field(
        default=None, description="Dice of the translator's own masks with the written ones, 0-1"
    )
    mirror: float | None = Field(
        default=None, description="overlap with the prediction on the mirrored image, 0-1"
    )
    gamma: float | None = Field(
        default=None, description="overlap with the prediction at another contrast, 0-1"
    )
    doubt: float | None = Field(
        default=None, description="mean of 1 - p over what looks like vertebra, 0-0.5"
    )
    body_ml_least: float | None = Field(default=None, description="of bodies that no face cuts, mL")
    body_ml_most: float | None = Field(default=None, description="the same")
    step_mm_least: float | None = Field(default=None, description="of neighbouring bodies, mm")
    step_mm_most: float | None = Field(default=None, description="the same")
    canal: float | None = Field(
        default=None, description="share of the way along the bodies with canal beside it, 0-1"
    )
    posterior: float | None = Field(
        default=None, description="volume of posterior elements over that of bodies"
    )
    halved: float | None = Field(
        default=None, description="share of bodies that the left or right face cuts through, 0-1"
    )
    dark: float | None = Field(
        default=None,
        description="voxels of the darkest tenth of the scale over both outer tenths, 0-1; MR only",
    )
    seen: dict[str, float] | None = Field(
        default=None, description="mL of posterior elements found in one tile, by what was turned"
    )
    orientation: Literal["as stored", "head-feet", "front-back", "both", "not determinable"] = (
        Field(default="not determinable", description="what has to be turned, by the image")
    )
    left_right: Literal["not determinable"] = "not determinable"
    implausible: tuple[str, ...] = Field(
        default=(), description="names of the numbers above that lie outside their limits"
    )


class RegionRecord(_Part):
    """The box that was translated where not everything was."""

    asked: Literal["spine"]
    found: bool = Field(description="false: no spine was found, and everything was translated")
    model: str = Field(description="whose mask heads looked for it, tiles side by side")
    margin_mm: tuple[float, float, float] = Field(
        description="around the vertebrae found: right-left, front-back, head-feet"
    )
    share: float = Field(description="of the image's voxels at the model's spacing, 0-1")


class RunRecord(_Part):
    """The sidecar of one case, `STEM_run.json`."""

    schema_version: Literal["1.0"] = SCHEMA_VERSION
    program: Literal["spinect"] = "spinect"
    version: str = spinect.__version__
    commit: str | None = Field(
        default=None, description="git commit of a source checkout, + if changed"
    )
    disclaimer: str = DISCLAIMER
    started: str = Field(description="UTC, ISO 8601")
    inputs: tuple[InputRecord, ...]
    outputs: tuple[str, ...] = Field(description="file names beside this record")
    models: tuple[ModelRecord, ...]
    options: dict[str, Any] = Field(description="every option that decides what comes out")
    options_sha256: str
    seed: int
    device: str
    versions: dict[str, str] = Field(description="python, platform and libraries")
    seconds: dict[str, float] = Field(description="wall seconds per stage")
    peak_bytes: int = Field(description="peak resident memory of the process during this case")
    sampling: SamplingRecord | None = Field(default=None, description="mode mc only")
    region: RegionRecord | None = Field(default=None, description="where not all was asked for")
    vertebrae: tuple[str, ...] = Field(default=(), description="names found, head to feet")
    level_source: str | None = Field(default=None, description="where the level names come from")
    confidence: float | None = Field(default=None, description="mean over vertebrae, 0-1")
    plausibility: PlausibilityRecord | None = Field(
        default=None, description="with masks only; see the page on plausibility"
    )
    warnings: tuple[str, ...] = ()


def read_record(path: Path) -> RunRecord:
    """Load a `run.json`; an InputError says why it cannot be used."""
    try:
        return RunRecord.model_validate_json(path.read_text())
    except (OSError, ValidationError, UnicodeDecodeError) as problem:
        first = str(problem).splitlines()[0]
        raise InputError(f"{path.name} is not a run record of this version: {first}") from None


def schema() -> dict[str, Any]:
    """JSON schema of `RunRecord`."""
    return RunRecord.model_json_schema() | {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "spinect run record",
    }


def export_schema(path: Path) -> None:
    """Write the JSON schema of run.json; the copy in the docs comes from here."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(schema(), indent=2) + "\n")


def now() -> str:
    """This moment, UTC, ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@cache
def versions() -> dict[str, str]:
    """Versions of Python, the platform and the libraries that numbers depend on."""
    found = {"python": platform.python_version(), "platform": platform.platform(terse=True)}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


@cache
def commit() -> str | None:
    """Git commit of the checkout this package runs from, "+" when changed; None if installed."""
    package = Path(spinect.__file__).parent
    git = shutil.which("git")
    if git is None:
        return None

    def ask(*args: str) -> str | None:
        done = subprocess.run(
            [git, "-C", str(package), *args], capture_output=True, text=True, check=False
        )
        return done.stdout.strip() if done.returncode == 0 else None

    top = ask("rev-parse", "--show-toplevel")
    # A virtual environment may lie inside somebody else's repository.
    if top is None or (Path(top) / "src" / "spinect").resolve() != package.resolve():
        return None
    changed = ask("status", "--porcelain", "--untracked-files=no")
    head = ask("rev-parse", "HEAD")
    return f"{head}+" if head and changed else head


def sha256_of(path: Path) -> str:
    """sha256 of an image file; of a header and its raw file together where they are two."""
    digest = hashlib.sha256()
    for part in _files_of(path):
        with part.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def _files_of(path: Path) -> list[Path]:
    if path.suffix.lower() not in (".mhd", ".nhdr"):
        return [path]
    header = path.read_bytes()[: 2**16].decode("latin-1")
    for line in header.splitlines():
        key, _, value = line.replace("=", ":", 1).partition(":")
        if key.strip().lower() in ("elementdatafile", "data file", "datafile"):
            beside = path.parent / value.strip()
            return [path, beside] if beside.is_file() else [path]
    return [path]


class Stopwatch:
    """Wall seconds per named stage, added up when a stage is entered twice.

    Args:
        tell: Called with the name of each stage as it begins.
        share: Called with the share of the stage that is done, 0-1, by stages that know it.
    """

    def __init__(
        self,
        tell: Callable[[str], None] | None = None,
        share: Callable[[float], None] | None = None,
    ) -> None:
        self.seconds: dict[str, float] = {}
        self.share = share
        self._tell = tell

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what happens inside, under `name`."""
        if self._tell is not None:
            self._tell(name)
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = round(self.seconds.get(name, 0.0) + spent, 3)


_STATUS: Final = Path("/proc/self/status")
_CLEAR: Final = Path("/proc/self/clear_refs")


def reset_peak() -> None:
    """Start a new high-water mark of resident memory where the system allows it (Linux)."""
    try:
        _CLEAR.write_text("5")
    except OSError:
        return  # peak_memory then reports the peak since the process began: an upper bound


def peak_memory() -> int:
    """Peak resident memory of this process since `reset_peak`, bytes."""
    if _STATUS.exists():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    if resource is None:
        return 0  # Windows: not known without another library
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
