"""SynthRAD2023 and SynthRAD2025, task 1 (MR to CT).

``Task1/brain/1BA001/{mr,ct,mask}.nii.gz`` (2023) and ``Task1/AB/1ABA005/{mr,ct,mask}.mha`` (2025):
CT and body mask lie on the MR's grid. The case's name holds task, region and centre.
"""

import re
from functools import partial
from pathlib import Path
from typing import Final

from spinect.errors import InputError
from spinect.io import read
from spinect.io.bids import Name
from spinect.workflows.importers.case import Case, Planned, check_same, subject_label

_CASE: Final = re.compile(r"(\d)(B|P|AB|HN|TH)([A-Z])(\w+)")
_REGIONS: Final = {"B": "brain", "P": "pelvis", "AB": "abdomen", "HN": "head and neck",
                   "TH": "thorax"}  # fmt: skip
_ENDS: Final = (".nii.gz", ".mha")


def plan(source: Path, contrast: str) -> list[Planned]:
    """The cases below a folder; cases without an MR are planned too, to be rejected aloud.

    Args:
        contrast: Suffix of the MR, which the collection does not name: T1w, T2w, or mr.
    Raises:
        InputError: Not a folder, or no case in it.
    """
    if not source.is_dir():
        raise InputError(f"{source} is not a folder: unpack the archive first")
    folders = sorted({p.parent for name in ("mr", "ct", "cbct") for end in _ENDS
                      for p in source.rglob(name + end)})  # fmt: skip
    if not folders:
        raise InputError(f"{source} holds no case: they are Task1/REGION/CASE/mr.mha or mr.nii.gz")
    return [_planned(folder, contrast) for folder in folders]


def _planned(folder: Path, contrast: str) -> Planned:
    name = folder.name
    match = _CASE.fullmatch(name)
    row = {"region": _REGIONS[match[2]], "site": match[3]} if match else {}
    stratum = f"{row.get('region', '')} {row.get('site', '')}"
    subject = subject_label(name)
    return Planned(subject, name, name, stratum, partial(build, folder, subject, contrast), row)


def build(folder: Path, subject: str, contrast: str) -> Case:
    """Read one case.

    Raises:
        InputError: No MR (task 2), or no CT (the public validation and test sets).
        GeometryError: CT or mask on another grid than the MR.
    """
    files = {name: _file(folder, name) for name in ("mr", "ct", "mask", "cbct")}
    mr_path, ct_path = files["mr"], files["ct"]
    if mr_path is None:
        why = "a case of task 2 (cone-beam CT)" if files["cbct"] else "there is no mr"
        raise InputError(f"{folder.name}: {why}: only MR to CT is imported")
    if ct_path is None:
        raise InputError(f"{folder.name}: there is no ct, a case of a validation or test set")
    case = Case(subject)
    mr, ct = read(mr_path, "mr"), read(ct_path, "ct")
    check_same(ct.grid, mr.grid, ct_path.name)
    image = Name.make(subject, contrast)
    case.add(image, mr)
    case.add_aligned(image.derived("ct", space=contrast), ct, mr)
    if files["mask"] is None:
        case.notes.append("there is no body mask")
    else:
        body = read(files["mask"], "labels")
        case.add_aligned(image.derived("mask", space=contrast, desc="body"), body, mr)
    return case


def _file(folder: Path, name: str) -> Path | None:
    found = [folder / (name + end) for end in _ENDS if (folder / (name + end)).is_file()]
    if len(found) > 1:
        raise InputError(f"{folder.name}: both {found[0].name} and {found[1].name}: remove one")
    return found[0] if found else None
