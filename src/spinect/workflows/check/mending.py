"""The mends that are safe: headers and tables, never voxels; the old file is kept.

Before anything is changed, the file is copied to ``derivatives/check/backup/`` under its own path
(with .1, .2 ... when that is taken); ``derivatives/check/fixes.tsv`` says what was done to which.
"""

import gzip
import hashlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np

from spinect.errors import OutputError, SpinectError
from spinect.geometry import Grid
from spinect.io import atomic, read, write_dseg_table, write_table
from spinect.io.headers import CONFLICT_MM
from spinect.io.participants import read_rows
from spinect.workflows.check.findings import Finding, Report
from spinect.workflows.check.grids import UNIT_MM

_OWN: Final = Path("derivatives") / "check"
_COLUMNS: Final = ("file", "mend", "backup", "sha256_before", "sha256_after")
_DOUBTED: Final = {"head-feet", "front-back", "left-right", "size"}
_MM: Final = 2  # NIfTI's code of the unit


@dataclass(frozen=True)
class Fixed:
    """What was done about one finding; `problem` says why nothing was."""

    finding: Finding
    file: str
    backup: str = ""
    problem: str = ""

    def as_json(self) -> dict[str, Any]:
        """Machine-readable."""
        return {
            "file": self.file,
            "code": self.finding.code,
            "mend": self.finding.mend,
            "backup": self.backup,
            "problem": self.problem,
        }


def fix(folder: Path, report: Report) -> list[Fixed]:
    """Mend what is safe to mend, each file whole or not at all.

    A qform is not made to follow an sform that the anatomy contradicts. A mend that fails
    leaves its file as it was, and the others go on.
    """
    doubted = {_patient_of(f.file) for f in report.findings if f.code in _DOUBTED}
    done = []
    for finding in report.findings:
        if finding.mend is None:
            continue
        try:
            done.append(_fix(folder, finding, doubted))
        except (SpinectError, OSError, ValueError) as error:
            why = " ".join(str(error).split())
            done.append(Fixed(finding, finding.file, problem=why))
    return done


def _fix(folder: Path, finding: Finding, doubted: Iterable[str]) -> Fixed:
    path = folder / finding.file
    if finding.mend == "dseg-table":
        stem = path.name.removesuffix(".gz").rpartition(".")[0]
        table = path.with_name(stem + ".tsv")
        ids = np.unique(read(path, "labels").data)
        return _record(folder, finding, table, lambda part: write_dseg_table(part, ids))
    if finding.mend == "qform-from-sform" and _patient_of(finding.file) in doubted:
        raise OutputError(
            "the masks contradict a header of this patient: decide by hand which of sform and "
            "qform is right"
        )
    content = _mended(path, finding)
    return _record(folder, finding, path, lambda part: part.write_bytes(content))


def _record(folder: Path, finding: Finding, path: Path, write: Any) -> Fixed:
    """Back up, write anew, note both."""
    kept = before = ""
    if path.exists():
        backup = _free(folder / _OWN / "backup" / path.relative_to(folder))
        with atomic(backup, path.stat().st_size) as part:
            shutil.copy2(path, part)
        before, kept = _sha256(path), str(backup.relative_to(folder))
        if _sha256(backup) != before:
            raise OutputError(f"{backup}: the copy differs from {path}: nothing was changed")
    with atomic(path) as part:
        write(part)
    file = str(path.relative_to(folder))
    log = folder / _OWN / "fixes.tsv"
    rows = read_rows(log, _COLUMNS) if log.exists() else []
    row = dict(zip(_COLUMNS, (file, finding.mend, kept, before, _sha256(path)), strict=True))
    write_table([*rows, row], log, _COLUMNS)
    return Fixed(finding, file, kept)


def _mended(path: Path, finding: Finding) -> bytes:
    """A NIfTI file with another header; extensions and voxels stay byte for byte."""
    stored = path.read_bytes()
    zipped = stored[:2] == b"\x1f\x8b"
    content = gzip.decompress(stored) if zipped else stored
    kind: Any = next(
        k for k in (nib.Nifti1Header, nib.Nifti2Header) if k.may_contain_header(content[:540])
    )
    header = kind.from_fileobj(BytesIO(content), check=False)
    if finding.mend == "qform-from-sform":
        _follow_sform(header)
    else:
        code = int(header["xyzt_units"])
        if finding.mend == "affine-to-mm":
            _scale(header, UNIT_MM[code & 7][1])
        header["xyzt_units"] = (code & ~7) | _MM
    mended = bytes(header.binaryblock) + content[kind.sizeof_hdr :]
    return gzip.compress(mended, 1, mtime=0) if zipped else mended


def _scale(header: Any, factor: float) -> None:
    """Lengths of a header in another unit."""
    header["pixdim"][1:4] *= factor
    for field in ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):
        header[field] = header[field] * factor


def _follow_sform(header: Any) -> None:
    sform, code = header.get_sform(), int(header["qform_code"])
    header.set_qform(sform, code)
    size = tuple(int(n) for n in header.get_data_shape()[:3])
    shape = (size[0], size[1], size[2])
    if (gap := Grid(shape, sform).gap(Grid(shape, header.get_qform()))) > CONFLICT_MM:
        raise OutputError(
            f"the sform is sheared, a qform comes no closer than {gap:.2f} mm: resample the image"
        )


def _free(path: Path) -> Path:
    """The path, or the first of path.1, path.2 ... that is not taken."""
    number, found = 0, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}.{number}")
    return found


def _patient_of(file: str) -> str:
    return next((part for part in Path(file).parts if part.startswith("sub-")), "")


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
