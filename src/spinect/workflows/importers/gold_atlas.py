"""Gold Atlas male pelvis: 19 patients of three sites, one zip or flat DICOM folder each.

Layout as described by its users: about eight series per patient in one flat folder: the original
CT, the CT deformed onto the T2 ("CTtoMR" in its description, on the T2's grid), T2, T1, a
registration and two or three RTSTRUCTs whose contours live in the MR's frame. Traps: the CT of
site 2 is numbered against the MR's order (series are sorted by position), and the deformed CT may
be filled with -1 HU outside. Cite Nyholm et al. 2018, doi 10.1002/mp.12748.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from spinect.errors import GeometryError, InputError
from spinect.geometry import Volume
from spinect.io.archives import is_archive, unpacked
from spinect.io.bids import Name, number_runs
from spinect.io.dicom import Series, find_series, read_headers, read_series
from spinect.io.rtstruct import Structures, is_structures, rasterise, read_structures
from spinect.workflows.importers.case import SAME_MM, Case, Planned, air_outside

_PATIENT: Final = re.compile(r"([123])_(\d{2})_P")
_DOUBTED: Final = {"2_10_P": "left out by a published preprocessing, without a reason"}


def plan(source: Path, near: Path) -> list[Planned]:
    """The patients in a folder of zips or folders, or in one of them.

    Args:
        near: Folder on a disk with space, where zips are unpacked while they are read.

    Raises:
        InputError: Nothing is called like a patient (1_01_P), or a patient is there twice.
    """
    own = _PATIENT.search(source.name)
    entries = [source] if own else sorted(source.iterdir()) if source.is_dir() else []
    found: dict[str, Path] = {}
    for entry in entries:
        match = _PATIENT.search(entry.name)
        if match is None or not (entry.is_dir() or is_archive(entry)):
            continue
        if match[0] in found:
            raise InputError(
                f"{match[0]} is there twice, {found[match[0]].name} and {entry.name}: remove one"
            )
        found[match[0]] = entry
    if not found:
        raise InputError(f"{source} holds no patient: they are called 1_01_P or 1_01_P.zip")
    return [_planned(name, entry, near) for name, entry in found.items()]


def _planned(name: str, entry: Path, near: Path) -> Planned:
    match = _PATIENT.fullmatch(name)
    assert match is not None
    subject = f"{match[1]}x{match[2]}"
    row = {"site": match[1], "sex": "M", "note": _DOUBTED.get(name, "")}
    read = partial(build, entry, subject, near)
    return Planned(subject, name, name, f"site {match[1]}", read, row)


def build(entry: Path, subject: str, near: Path) -> Case:
    """Read one patient.

    Raises:
        InputError: Series that are missing or cannot be told apart, a bad archive.
        GeometryError: The deformed CT does not lie on the grid of a T2.
    """
    with unpacked(entry, near) as folder:
        return _build(folder, subject)


def _build(folder: Path, subject: str) -> Case:
    headers = read_headers(folder)
    series = find_series(headers)
    deformed, t2 = _pair(series)
    case = Case(subject)
    mr = [s for s in series if s.modality == "MR"]
    mr.sort(key=lambda s: s is not t2)  # the T2 with the deformed CT on its grid comes first
    names = number_runs(Name.make(subject, _contrast(s)) for s in mr)
    for name, one in zip(names, mr, strict=True):
        case.add(name, read_series(one))
    for one in (s for s in series if s.modality == "CT" and s is not deformed):
        case.add(Name.make(subject, "ct"), read_series(one))
    image = names[0]
    like = Volume(case.files[next(iter(case.files))].data, t2.grid.affine, "mr")
    ct, valid = air_outside(read_series(deformed))
    case.add_aligned(image.derived("ct", space="T2w"), ct, like)
    if valid is not None:
        mask = Volume(valid.astype("uint8"), ct.affine, "labels")
        case.add_aligned(image.derived("mask", space="T2w", desc="valid"), mask, like)
        case.notes.append(
            f"the deformed CT was filled with water outside ({1 - valid.mean():.0%} of its "
            "voxels): set to -1000 HU, desc-valid says where it was scanned"
        )
    _structures(case, image, t2, headers)
    return case


def _contrast(series: Series) -> str:
    text = series.description.lower()
    for word in ("t2", "t1"):
        if word in text:
            return f"{word.upper()}w"
    raise InputError(f"{series}: neither T1 nor T2 in its description: rename or remove it")


def _pair(series: Sequence[Series]) -> tuple[Series, Series]:
    """The deformed CT and the T2 on whose grid it lies."""
    shown = "; ".join(map(str, series)) or "none"
    deformed = [s for s in series if s.modality == "CT" and "cttomr" in s.description.lower()]
    if len(deformed) != 1:
        raise InputError(
            f"{len(deformed)} deformed CTs (CTtoMR in the description), one is needed: {shown}"
        )
    t2 = [s for s in series if s.modality == "MR" and "t2" in s.description.lower()]
    on = [s for s in t2 if s.grid.gap(deformed[0].grid) <= SAME_MM]
    if not t2:
        raise InputError(f"no T2 among the series: {shown}")
    if len(on) != 1:
        raise GeometryError(f"{len(on)} T2 series on the grid of {deformed[0]}, not one: {shown}")
    if on[0].frame != deformed[0].frame:
        raise GeometryError(
            f"T2 and deformed CT have different frames of reference, {on[0].frame} and "
            f"{deformed[0].frame}: they are not in one world"
        )
    return deformed[0], on[0]


def _structures(case: Case, image: Name, t2: Series, headers: list[tuple[Path, Any]]) -> None:
    """Every region of every RTSTRUCT as a mask on the T2's grid, and a table of them."""
    rows: list[dict[str, Any]] = []
    taken: dict[str, int] = {}
    for path, header in headers:
        if not is_structures(header):
            continue
        held = read_structures(path)
        if t2.frame not in held.frames:
            case.notes.append(f"structures {held.label!r} are not in the MR's frame: left out")
            continue
        if held.passed_over:
            case.notes.append(f"no closed contour of {', '.join(held.passed_over)}")
        for region in held.regions:
            try:
                mask = Volume(_mask(held, region, t2), t2.grid.affine, "labels")
            except GeometryError as error:
                case.notes.append(f"{held.label}/{region} left out: {error}")
                continue
            label = re.sub("[^A-Za-z0-9]", "", region) or "region"
            taken[label] = taken.get(label, 0) + 1
            if taken[label] > 1:
                label += f"x{taken[label]}"
            name = image.derived("mask", space="T2w", label=label)
            case.add_region(name, mask)
            rows.append({"file": f"{name.stem}.nii.gz", "region": region, "observer": held.label,
                         "voxels": int(mask.data.sum())})  # fmt: skip
    if rows:
        folder = Path("derivatives", "structures", f"sub-{case.subject}")
        case.add_table(folder / f"sub-{case.subject}_structures.tsv", rows)


def _mask(held: Structures, region: str, t2: Series) -> Any:
    return rasterise(held.regions[region], t2.grid, region).astype("uint8")
