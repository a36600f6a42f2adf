"""What is scored: the files that `spinect run` wrote, of one method or of several."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from spinect.errors import InputError
from spinect.workflows import names as n
from spinect.workflows.record import RunRecord, read_record

COHORT: Final = "cohort.tsv"
_ENDS: Final = {
    "ct": n.CT,
    "ct_iso": n.ISO + n.CT,
    "vertebrae": n.VERTEBRAE + ".nii.gz",
    "vertebrae_iso": n.ISO + n.VERTEBRAE + ".nii.gz",
    "subregions": n.SUBREGIONS + ".nii.gz",
    "subregions_iso": n.ISO + n.SUBREGIONS + ".nii.gz",
    "run": n.RECORD,
}
# Longest first: the end of the 1 mm twin also ends with that of the native file.
_BY_LENGTH: Final = sorted(_ENDS.items(), key=lambda pair: -len(pair[1]))


@dataclass(frozen=True)
class Made:
    """The files of one case of one method; None where there is no such file.

    Attributes:
        ct, vertebrae, subregions: On the MR's grid. The twins end in `_iso`: 1 mm.
        run: The record of the run.
    """

    ct: Path | None = None
    ct_iso: Path | None = None
    vertebrae: Path | None = None
    vertebrae_iso: Path | None = None
    subregions: Path | None = None
    subregions_iso: Path | None = None
    run: Path | None = None

    @property
    def images(self) -> dict[str, Path]:
        """Field -> file, of the volumes that exist."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "run"}
        return {name: path for name, path in own.items() if path is not None}

    @property
    def masks(self) -> bool:
        """Whether there is a segmentation."""
        return self.vertebrae is not None

    def record(self) -> RunRecord | None:
        """The record, None where there is none; an InputError for a foreign one."""
        return None if self.run is None else read_record(self.run)


@dataclass(frozen=True)
class Method:
    """The results of one method: stem of the MR's file name -> files."""

    name: str
    made: Mapping[str, Made]

    @property
    def kinds(self) -> frozenset[str]:
        """Fields of `Made` that at least one case has: what every case must have."""
        return frozenset(key for one in self.made.values() for key in one.images)

    @property
    def models(self) -> dict[str, str]:
        """sha256 -> name of the bundles that the readable records name."""
        found: dict[str, str] = {}
        for made in self.made.values():
            with suppress(InputError):  # a foreign record refuses its case, see `guards`
                record = made.record()
                found |= {model.sha256: model.name for model in record.models} if record else {}
        return found


def find_methods(results: Path) -> dict[str, Method]:
    """The methods of a results folder, sorted by name.

    A folder that holds results itself, a `cohort.tsv`, or a mirrored dataset (``sub-*``) is one
    method, named like the folder; otherwise every subfolder with results is one.

    Raises:
        InputError: No folder, no result in it, or two results of one name in one method.
    """
    if not results.is_dir():
        raise InputError(f"{results} is not a folder: give what spinect run wrote with -o")
    folders = sorted(p for p in results.iterdir() if p.is_dir() and not p.name.startswith("."))
    single = (
        (results / COHORT).is_file()
        or any(_part(path) for path in results.iterdir())
        or any(path.name.startswith("sub-") for path in folders)
    )
    roots = [results.resolve()] if single else folders
    methods = {root.name: Method(root.name, _collect(root)) for root in roots}
    methods = {name: method for name, method in methods.items() if method.made}
    if not methods:
        raise InputError(
            f"{results} holds no result (NAME{n.CT} or NAME{n.VERTEBRAE}.nii.gz): "
            "give what spinect run wrote with -o, or a folder of such folders"
        )
    return methods


def _collect(root: Path) -> dict[str, Made]:
    """Stem -> files, of everything below a folder."""
    found: dict[str, dict[str, Path]] = defaultdict(dict)
    for path in sorted(_files(root)):
        if (part := _part(path)) is None:
            continue
        stem, key = part
        if key in found[stem]:
            raise InputError(
                f"{path} and {found[stem][key]} are both the {key} of {stem}: remove one of them"
            )
        found[stem][key] = path
    return {stem: Made(**files) for stem, files in found.items() if files.keys() - {"run"}}


def _files(root: Path) -> Iterator[Path]:
    """All files below a folder but those in hidden folders, which are half-written."""
    for path in root.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _files(path)
        else:
            yield path


def _part(path: Path) -> tuple[str, str] | None:
    """(stem, field of `Made`) of a result file; None for any other file."""
    for key, end in _BY_LENGTH:
        if path.name.endswith(end) and not path.name.startswith("."):
            return path.name.removesuffix(end), key
    return None
