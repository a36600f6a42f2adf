"""Leakage: one image or one person where training and testing both see it."""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from spinect.geometry import Volume
from spinect.io.participants import Row, two_sides
from spinect.workflows.check.findings import Finding
from spinect.workflows.check.loading import Opened

FIRST_TEST_SEED: Final = 1_000_000


@dataclass(frozen=True)
class Print:
    """The fingerprint of an image: equal voxels have equal prints, however they are stored.

    Attributes:
        voxels: sha256 of the values along R, A, S as float32.
        place: The grid along R, A, S, to 0.001.
    """

    patient: str
    file: str
    voxels: str
    place: tuple[float, ...]


def fingerprint(patient: str, opened: Opened) -> Print | None:
    """Of an image that can be read."""
    if opened.data is None or opened.grid is None:
        return None
    plain = Volume(opened.data, opened.grid.affine, opened.item.kind).canonical()
    values = np.ascontiguousarray(plain.data, np.float32)
    digest = hashlib.sha256(f"{values.shape}".encode())
    digest.update(values.data)
    place = tuple(np.round(plain.affine.ravel(), 3).tolist())
    return Print(patient, opened.file, digest.hexdigest(), place)


def check_duplicates(prints: Sequence[Print], rows: Sequence[Row]) -> Iterator[Finding]:
    """Images that are there twice: in one patient, in two, or on two sides of the split."""
    split = {row["participant_id"]: row["split"] for row in rows}
    person = {row["participant_id"]: row.get("patient_id") or row["participant_id"] for row in rows}
    same: dict[str, list[Print]] = defaultdict(list)
    for one in prints:
        same[one.voxels].append(one)
    for group in same.values():
        first = group[0]
        for other in group[1:]:
            where = "same header" if other.place == first.place else "another header"
            text = f"the same voxels as {first.file} ({where})"
            if other.patient == first.patient:
                todo = "remove one, or put the image there that the name says"
                yield Finding("duplicate", other.file, text, todo)
                continue
            sides = sorted({split.get(p.patient, "") for p in (first, other)} - {""})
            if len(sides) > 1:
                todo = "give both patients one split, or remove one"
                yield Finding("leak", other.file, f"{text}, on the sides {', '.join(sides)}", todo)
            elif person.get(first.patient) != person.get(other.patient):
                todo = (
                    "one person is there twice: give both the same patient_id in "
                    "participants.tsv, or put the right image there"
                )
                yield Finding("two-patients", other.file, text, todo)


def check_sides(rows: Sequence[Row], scans: Mapping[str, Sequence[Row]]) -> Iterator[Finding]:
    """Persons on two sides of the split, and phantoms whose seed belongs to another side."""
    for cut in two_sides(rows, scans):
        todo = "give all series of the person one split"
        yield Finding("leak", "participants.tsv", str(cut), todo)
    for row in rows:
        seed, split = row.get("seed", ""), row["split"]
        if not seed.isdigit():
            continue
        testing = int(seed) >= FIRST_TEST_SEED
        if (split == "train" and testing) or (split == "test" and not testing):
            yield Finding(
                "seed-split",
                "participants.tsv",
                f"{row['participant_id']} has seed {seed} and split {split}",
                f"seeds below {FIRST_TEST_SEED} are for training, from there on for testing and "
                "validation: correct the split",
            )
