"""Files and names: who is listed, what is there, what is missing, which names collide."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from spinect.errors import InputError
from spinect.io.bids import IMAGES, Item, Patient
from spinect.io.participants import SPLITS, Row, read_rows
from spinect.workflows.check.findings import Finding

# Images of other programs, and headers whose voxels lie in a second file.
_UNREAD: Final = (".mhd", ".nhdr", ".hdr", ".mgz", ".mgh", ".dcm", ".ima")


def listed(folder: Path) -> tuple[list[dict[str, str]], list[Finding]]:
    """The rows of participants.tsv, and the finding that there are none."""
    try:
        return read_rows(folder / "participants.tsv", ("participant_id", "split")), []
    except (InputError, UnicodeDecodeError) as error:
        todo = "write a tab-separated table with one row for each patient"
        return [], [Finding("participants", "participants.tsv", str(error), todo)]


def check_rows(folder: Path, rows: Sequence[Row], patients: Sequence[Patient]) -> Iterator[Finding]:
    """participants.tsv against the folders."""
    table = "participants.tsv"
    names = [row["participant_id"] for row in rows]
    found = {patient.name for patient in patients}
    for name, times in Counter(names).items():
        if times > 1:
            yield Finding("participant-twice", table, f"{name} is listed {times} times", "keep one")
    for row in rows:
        name, split = row["participant_id"], row["split"]
        if name not in found:
            yield Finding(
                "participant-folder",
                table,
                f"{name} is listed, but there is no folder {folder.name}/{name}",
                "remove the row, or copy the patient's files",
            )
        if not split:
            todo = f"give it one of {', '.join(SPLITS)}"
            yield Finding("split-missing", table, f"{name} has no split", todo)
        elif split not in SPLITS:
            yield Finding(
                "split-unknown",
                table,
                f"{name} has split {split!r}",
                f"use one of {', '.join(SPLITS)}",
            )
    for name in sorted(found - set(names)) if rows else ():
        todo = "add a row with its split, or move the folder away"
        yield Finding("participant-unlisted", name, f"{name} is not in participants.tsv", todo)


def check_patient(folder: Path, patient: Patient) -> Iterator[Finding]:
    """Names, pairs and masks of one patient; no voxel is read."""
    for path, why in patient.strays:
        yield Finding("name", _at(folder, path), why, "rename it, or move it away")
    yield from _unread(folder, patient)
    for item in patient.items:
        own = f"sub-{item.name.get('sub')}"
        if own != patient.name:
            yield Finding(
                "name-other-subject",
                _at(folder, item.path),
                f"a file of {own} in the folder of {patient.name}",
                "move it to its own patient, or rename it if it is this one's",
            )
    yield from _clashes(folder, patient)
    yield from _pairs(patient)
    for item in patient.images("ct"):
        if not any(_is_vertebrae(m) and patient.reference(m) == item for m in patient.items):
            yield Finding(
                "masks-missing",
                _at(folder, item.path),
                f"there is no {item.name.derived('dseg', desc='vertebrae').stem} beside the CT",
                "segment it (spinect segment), or copy the mask; landmarks may serve instead",
            )
    for item in patient.items:
        needs = item.is_mask or item.name.get("space") not in (None, "iso")
        if needs and patient.reference(item) is None:
            yield Finding(
                "reference-missing",
                _at(folder, item.path),
                "its name points to no single image: "
                f"space {item.name.get('space') or 'none'}, series "
                f"{'_'.join('-'.join(pair) for pair in item.name.series)}",
                "name it after its image: same ses, acq and run; in anat with space-T2w",
            )


def _unread(folder: Path, patient: Patient) -> Iterator[Finding]:
    for base in (folder / patient.name, folder / "derivatives" / "truth" / patient.name):
        for path in sorted(base.rglob("*")):
            if path.name.lower().endswith(_UNREAD):
                yield Finding(
                    "format",
                    _at(folder, path),
                    f"{path.suffix} is not read: an image of a dataset is one file, "
                    f"{', '.join(IMAGES)}",
                    "convert it to .nii.gz, or move it away",
                )


def _is_vertebrae(item: Item) -> bool:
    return item.name.suffix == "dseg" and item.name.get("desc") == "vertebrae"


def _clashes(folder: Path, patient: Patient) -> Iterator[Finding]:
    """sub-1_T2w.nii beside sub-1_T2w.nii.gz, run-1 beside run-01."""
    same = defaultdict(list)
    for item in patient.items:
        derived = tuple(pair for pair in item.name.entities if pair not in item.name.series)
        rest = tuple(pair for pair in derived if pair[0] != "run")
        same[item.place, item.name.series, rest, item.name.suffix].append(item.path)
    for paths in same.values():
        if len(paths) > 1:
            others = ", ".join(path.name for path in paths[1:])
            yield Finding(
                "name-clash",
                _at(folder, paths[0]),
                f"{paths[0].name} and {others} stand for the same image",
                "remove one, or tell them apart with acq-A or run-N",
            )


def _pairs(patient: Patient) -> Iterator[Finding]:
    cts = [*patient.images("ct"), *(i for i in patient.images("truth") if i.name.suffix == "ct")]
    if not patient.images("anat"):
        todo = f"put it at {patient.name}/anat/{patient.name}_T2w.nii.gz"
        yield Finding("mr-missing", patient.name, "there is no MR in anat", todo)
    if not cts:
        yield Finding(
            "ct-missing",
            patient.name,
            "there is no CT in ct, and none in derivatives/truth",
            f"put it at {patient.name}/ct/{patient.name}_ct.nii.gz",
        )


def _at(folder: Path, path: Path) -> str:
    return str(path.relative_to(folder))
