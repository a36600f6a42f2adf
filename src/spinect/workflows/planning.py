"""What a run will do, decided before anything runs: cases, names, clashes, place on the disk."""

import csv
import os
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import nibabel as nib
import numpy as np
import SimpleITK

from spinect.errors import ConfigError, OutputError, ResourceError, SpinectError
from spinect.geometry import Grid
from spinect.workflows import names
from spinect.workflows.options import RunOptions, human_size, listed

COHORT: Final = "cohort.tsv"
_COLUMNS: Final = ("mr", "volume", "lowest", "highest")  # of a --list file
_UNREADABLE: Final = (
    OSError,
    ValueError,
    RuntimeError,
    EOFError,
    SpinectError,
    nib.filebasedimages.ImageFileError,
)
_PICTURES: Final = 3 * 2**20  # preview and page, bytes


@dataclass(frozen=True)
class Case:
    """One input and where its outputs go."""

    source: Path
    folder: Path
    stem: str
    options: RunOptions
    grid: Grid | None = None  # shape and spacing of the input, where the header can be read

    def output(self, end: str) -> Path:
        """The output file that ends in `end`, such as "_run.json"."""
        return self.folder / (self.stem + end)

    @property
    def record(self) -> Path:
        """run.json, written last: where it stands, the case is complete."""
        return self.output(names.RECORD)

    @property
    def outputs(self) -> list[Path]:
        """Every file that this case will write."""
        return [self.output(end) for end in names.output_ends(self.options)]


@dataclass(frozen=True)
class Plan:
    """Cases in order, and what they need in all."""

    cases: tuple[Case, ...]
    out: Path
    disk_bytes: int
    free_bytes: int
    cohort: Path | None = None  # table of several cases


def plan(
    inputs: Sequence[Path],
    out: Path,
    options: RunOptions,
    *,
    table: Path | None = None,
    root: Path | None = None,
    shard: tuple[int, int] | None = None,
) -> Plan:
    """Decide every output name and check that the run can begin.

    Args:
        inputs: MR files. table: TSV with a column "mr" (and "volume", "lowest", "highest").
        out: Folder of the outputs; made when absent.
        root: Mirror the tree below this folder instead of putting all outputs into `out`.
        shard: (i, n), 1 <= i <= n: every n-th case, beginning with the i-th.
    Raises:
        ConfigError: Nothing to do, or a list or shard that does not fit.
        OutputError: Two inputs with one output name, existing outputs, an unwritable folder.
        ResourceError: Less room on the disk than the outputs need.
    """
    wanted = [(Path(source), options) for source in inputs]
    if table is not None:
        wanted += _listed_cases(table, options)
    if not wanted:
        raise ConfigError("no MR is named: give files, or a table with --list FILE.tsv")
    cases = [_case(source, out, root, asked) for source, asked in wanted]
    _refuse_clashes(cases)
    several = len(cases) > 1
    mine = _share(cases, shard)
    _refuse_existing(mine, options)
    _check_writable(out)
    need, free = sum(map(_disk_need, mine)), shutil.disk_usage(out).free
    if need > free:
        raise ResourceError(
            f"the outputs need about {human_size(need)} and {out} has {human_size(free)} free: "
            "choose another --out, or fewer --outputs"
        )
    name = COHORT if shard is None else f"cohort_shard-{shard[0]}of{shard[1]}.tsv"
    return Plan(tuple(mine), out, need, free, out / name if several else None)


def parse_shard(text: str) -> tuple[int, int]:
    """ "2/8" -> (2, 8): the second of eight parts."""
    first, _, count = text.partition("/")
    if not (first.isdigit() and count.isdigit() and 1 <= int(first) <= int(count)):
        raise ConfigError(f"shard {text!r} is not i/n with 1 <= i <= n, such as 2/8")
    return int(first), int(count)


def _listed_cases(table: Path, options: RunOptions) -> list[tuple[Path, RunOptions]]:
    try:
        with table.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
            names = rows[0].keys() if rows else ()
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise ConfigError(f"the list {table} cannot be read: {problem}") from None
    if "mr" not in names or not set(names) <= set(_COLUMNS):
        raise ConfigError(
            f"the list {table} has the columns {list(names)}: it needs a tab-separated column "
            f"mr, and may have {', '.join(_COLUMNS[1:])}"
        )
    found = []
    for number, row in enumerate(rows, start=2):
        own = {key: row[key] for key in _COLUMNS[1:] if row.get(key)}
        if not row["mr"]:
            raise ConfigError(f"the list {table} names no MR in line {number}")
        try:
            asked = RunOptions.checked(**(options.model_dump() | own))
        except ConfigError as problem:
            raise ConfigError(f"the list {table}, line {number}: {problem}") from None
        found.append((table.parent / row["mr"], asked))
    return found


def _case(source: Path, out: Path, root: Path | None, options: RunOptions) -> Case:
    folder = out
    if root is not None:
        try:
            folder = out / source.resolve().parent.relative_to(root.resolve())
        except ValueError:
            raise ConfigError(
                f"{source} does not lie below --root {root}: its place under the output folder "
                "is not defined"
            ) from None
    return Case(source, folder, names.stem_of(source), options, peek(source))


def _share(cases: list[Case], shard: tuple[int, int] | None) -> list[Case]:
    if shard is None:
        return cases
    first, count = shard
    if first > len(cases):
        raise ConfigError(
            f"shard {first}/{count} of {len(cases)} cases is empty: use at most {len(cases)} shards"
        )
    return cases[first - 1 :: count]


def _refuse_clashes(cases: Iterable[Case]) -> None:
    """Two inputs must not write one file, and no output may replace an input."""
    owner: dict[str, Case] = {}
    sources = {_key(case.source): case.source for case in cases}
    for case in cases:
        for path in case.outputs:
            other = owner.setdefault(_key(path), case)
            if other is not case:
                raise OutputError(
                    f"{other.source} and {case.source} would both write {path.name} into "
                    f"{case.folder}: rename one, or mirror the input tree with --root"
                )
            if _key(path) in sources:
                raise OutputError(
                    f"the output {path.name} of {case.source} would replace the input "
                    f"{sources[_key(path)]}: choose another --out"
                )


def _key(path: Path) -> str:
    return os.path.normcase(path.resolve())


def _refuse_existing(cases: Iterable[Case], options: RunOptions) -> None:
    if options.overwrite or options.resume:
        return
    standing = [path for case in cases for path in case.outputs if path.exists()]
    if standing:
        raise OutputError(
            f"{len(standing)} outputs exist already ({listed(standing, 2)}): --resume keeps what "
            "is up to date, --overwrite makes all anew, or choose another --out"
        )


def _check_writable(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as problem:
        raise OutputError(
            f"{out} cannot be written: {problem.strerror}; choose another --out"
        ) from None


def _disk_need(case: Case) -> int:
    """Upper estimate of the outputs, bytes: as if nothing compressed, so on the safe side."""
    if case.grid is None:
        return 0  # cannot be read: the case fails on its own, later and with its reason
    voxels, iso = float(np.prod(case.grid.shape)), float(case.grid.extent.prod())
    need = 0.0
    for end in names.output_ends(case.options):
        size = 2 if end.endswith("ct.nii.gz") else 1 if end.endswith(".nii.gz") else 0
        if end.endswith(f"_{case.options.makes}.nii.gz") and case.options.makes != "ct":
            size = 4  # an MR is stored as float32
        need += size * (iso if end.startswith(names.ISO) else voxels)
    return round(need) + _PICTURES


def peek(source: Path) -> Grid | None:
    """Shape and spacing from the header alone; None where `io.read` will have to say why not."""
    try:
        if source.name.lower().endswith((".nii", ".nii.gz")):
            image = cast(nib.nifti1.Nifti1Image, nib.load(source))
            shape, spacing = image.shape, image.header.get_zooms()
        else:
            reader = SimpleITK.ImageFileReader()
            reader.SetFileName(str(source))
            reader.ReadImageInformation()
            shape, spacing = reader.GetSize(), reader.GetSpacing()
        size = [*map(int, shape), 1, 1, 1][:3]
        return Grid((size[0], size[1], size[2]), np.diag([*spacing[:3], 1.0]))
    except (
        OSError,
        ValueError,
        RuntimeError,
        EOFError,
        SpinectError,
        nib.filebasedimages.ImageFileError,
    ):
        return None
