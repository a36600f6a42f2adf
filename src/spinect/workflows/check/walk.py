"""Through a dataset, one patient at a time."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from spinect.errors import InputError
from spinect.geometry import Volume
from spinect.io.bids import Item, Patient, find_patients
from spinect.io.participants import read_scans
from spinect.workflows.check import contents, files, grids, leakage, orientation
from spinect.workflows.check.findings import Finding, Report
from spinect.workflows.check.loading import Opened, open_item

_RANK: Final = {"error": 0, "warning": 1, "note": 2}


def check(folder: Path, progress: Callable[[str], None] | None = None) -> Report:
    """Look for everything in `CODES`; nothing is changed.

    Args:
        folder: Dataset folder.
        progress: Called with each patient's name before it is read.
    Raises:
        InputError: Not a folder, or one without patients.
    """
    folder = Path(folder)
    patients = find_patients(folder)
    rows, found = files.listed(folder)
    found += files.check_rows(folder, rows, patients)
    prints: list[leakage.Print] = []
    for patient in patients:
        if progress is not None:
            progress(patient.name)
        found += files.check_patient(folder, patient)
        found += _patient(folder, patient, prints)
    found += leakage.check_duplicates(prints, rows)
    try:
        scans = read_scans(folder, [patient.name for patient in patients])
    except InputError as error:
        scans = {}
        found.append(Finding("participants", "*_scans.tsv", str(error), "correct the table"))
    found += leakage.check_sides(rows, scans)
    found.sort(key=lambda f: (_RANK[f.severity], f.file, f.code))
    return Report(len(patients), sum(len(p.items) for p in patients), tuple(found))


def _patient(folder: Path, patient: Patient, prints: list[leakage.Print]) -> Iterator[Finding]:
    """Everything about one patient that needs its voxels."""
    opened = {item.path: open_item(folder, item) for item in patient.items}
    for item in patient.items:
        one = opened[item.path]
        yield from grids.check_header(one)
        yield from contents.check_mask(one) if item.is_mask else contents.check_image(one)
        reference = patient.reference(item)
        if item.is_mask or item.name.get("space") not in (None, "iso"):
            beside = opened[reference.path] if reference else None
            yield from grids.check_grid(patient, one, beside)
        if item.place != "truth" and not item.is_mask:
            mark = leakage.fingerprint(patient.name, one)
            prints += [mark] if mark else []
    named = [i for i in patient.items if i.name.get("desc") == "vertebrae" and i.is_mask]
    for item in named:
        yield from _anatomy(patient, item, opened)
    if not named:
        yield Finding(
            "not-determinable",
            patient.name,
            "head/feet, front/back and left/right are not determinable: there is no vertebra mask",
            "segment the scans (spinect segment), or look at the images",
        )


def _anatomy(patient: Patient, item: Item, opened: dict[Path, Opened]) -> Iterator[Finding]:
    """What a vertebra mask tells of its header, and of the CT below it."""
    one = opened[item.path]
    vertebrae = _labels(one)
    if vertebrae is None or not vertebrae.data.any():
        return
    parts = item.path.with_name(item.path.name.replace("desc-vertebrae", "desc-subregions"))
    subregions = _labels(opened[parts]) if parts in opened else None
    centres, found = orientation.determine(one.file, vertebrae, subregions)
    yield from found
    yield from grids.check_size(one.file, centres)
    for ct in _cts(patient, item):
        below = opened[ct.path]
        fits = below.data is not None and below.grid and below.grid.matches(vertebrae.grid)
        if fits and below.data is not None:
            on = Volume(below.data, vertebrae.affine, "ct")
            yield from contents.check_on_bone(one.file, vertebrae, on)


def _cts(patient: Patient, mask: Item) -> list[Item]:
    """CTs on a mask's grid: beside it, of the same series and space."""
    return [
        item
        for item in patient.items
        if item.name.suffix == "ct"
        and item.path.parent == mask.path.parent
        and item.name.series == mask.name.series
        and item.name.get("space") == mask.name.get("space")
    ]


def _labels(one: Opened) -> Volume | None:
    """A label map that can be used as one."""
    if one.data is None or one.grid is None or not contents.is_label_map(one.data):
        return None
    return Volume(one.data.astype("uint16"), one.grid.affine, "labels")
