"""The dataset folder: names of its files, and the patients in it.

::

    participants.tsv                                    participant_id, split; patient_id, sex, ...
    sub-X/[ses-Y/]anat/sub-X[_ses-Y][_acq-A][_run-N]_T2w.nii.gz
    sub-X/[ses-Y/]ct/sub-X[_ses-Y][_acq-A][_run-N]_ct.nii.gz        and _desc-vertebrae_dseg beside
    derivatives/truth/sub-X/sub-X[...]_space-T2w_{ct,desc-vertebrae_dseg}.nii.gz  on the MR's grid
    derivatives/truth/sub-X/sub-X[...]_space-iso_*      in the MR's world, on a grid of its own

Two series of one patient differ in `acq` or `run`, so they never share a name.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from spinect.errors import InputError

ORDER: Final = ("sub", "ses", "acq", "ce", "rec", "run", "echo",
                "from", "to", "space", "res", "label", "desc")  # fmt: skip
IMAGES: Final = (".nii.gz", ".nii", ".mha", ".nrrd")
MASKS: Final = ("dseg", "mask")
_DERIVED: Final = ("space", "res", "label", "desc")
_PART: Final = re.compile(r"([a-z]+)-([A-Za-z0-9]+)")
_FOLDERS: Final = ("anat", "ct")

Place = Literal["anat", "ct", "truth"]


@dataclass(frozen=True)
class Name:
    """What a file's name says.

    Attributes:
        entities: (key, value) pairs in the order of `ORDER`, "sub" first.
        suffix: The last word: T2w, ct, dseg, mask.
    """

    entities: tuple[tuple[str, str], ...]
    suffix: str

    @classmethod
    def make(cls, subject: str, suffix: str, **entities: str | int | None) -> "Name":
        """A name from its parts, such as ``Name.make("12", "T2w", acq="sag", run=2)``.

        Raises:
            InputError: An unknown entity, or a value that is not made of letters and digits.
        """
        held = {"sub": subject} | {k: str(v) for k, v in entities.items() if v is not None}
        for key, value in held.items():
            if key not in ORDER or not re.fullmatch("[A-Za-z0-9]+", value):
                raise InputError(
                    f"{key}-{value} cannot stand in a file name: entities are "
                    f"{', '.join(ORDER)}, their values letters and digits"
                )
        if not re.fullmatch("[A-Za-z0-9]+", suffix):
            raise InputError(f"suffix {suffix!r} cannot end a name: use letters and digits")
        return cls(tuple((key, held[key]) for key in ORDER if key in held), suffix)

    def get(self, key: str) -> str | None:
        """The value of an entity, None where the name has none."""
        return dict(self.entities).get(key)

    @property
    def stem(self) -> str:
        """The file name without its extension."""
        return "_".join([*(f"{key}-{value}" for key, value in self.entities), self.suffix])

    @property
    def series(self) -> tuple[tuple[str, str], ...]:
        """Entities that tell series apart; run-1 and run-01 are the same."""
        plain = [(k, v) for k, v in self.entities if k not in _DERIVED]
        return tuple((k, str(int(v)) if k == "run" and v.isdigit() else v) for k, v in plain)

    def derived(self, suffix: str, **entities: str) -> "Name":
        """The name of what is made from this image: same series, other suffix."""
        held = {k: v for k, v in self.entities if k not in ("sub", *_DERIVED)}
        return Name.make(self.entities[0][1], suffix, **(held | entities))


@dataclass(frozen=True)
class Item:
    """One image file of a dataset."""

    path: Path
    name: Name
    place: Place

    @property
    def is_mask(self) -> bool:
        """Whether it is a label map or a mask."""
        return self.name.suffix in MASKS

    @property
    def kind(self) -> Literal["mr", "ct", "labels"]:
        """What the voxels stand for."""
        return "labels" if self.is_mask else "ct" if self.name.suffix == "ct" else "mr"


@dataclass(frozen=True)
class Patient:
    """The files of one ``sub-X``.

    Attributes:
        items: Image files whose names are understood.
        strays: Image files whose names are not, with the reason.
    """

    name: str
    items: tuple[Item, ...]
    strays: tuple[tuple[Path, str], ...] = ()

    def images(self, place: Place) -> tuple[Item, ...]:
        """What is not a mask in one of the places."""
        return tuple(i for i in self.items if i.place == place and not i.is_mask)

    def reference(self, item: Item) -> Item | None:
        """The image on whose grid an item must lie; None where the names point to no single one.

        `space-T2w` points to the T2w of the same series, `space-iso` to the iso CT beside it,
        no space to the only image of the same series in the same folder.
        """
        space = item.name.get("space")
        found = [
            other
            for other in self.items
            if not other.is_mask
            and other.name.series == item.name.series
            and other.path != item.path
            and (
                (other.path.parent == item.path.parent and other.name.get("space") == space)
                if space in (None, "iso")
                else (other.place == "anat" and other.name.suffix == space)
            )
        ]
        return found[0] if len(found) == 1 else None


def parse_name(file: str) -> Name:
    """Read a file's name.

    Raises:
        InputError: It is not ``sub-X[_key-value...]_suffix.nii.gz``.
    """
    stem = next((file[: -len(end)] for end in IMAGES if file.lower().endswith(end)), file)
    *parts, suffix = stem.split("_")
    pairs = [_PART.fullmatch(part) for part in parts]
    if not parts or not all(pairs):
        bad = next((p for p, hit in zip(parts, pairs, strict=True) if hit is None), stem)
        raise InputError(f"{file}: {bad!r} is not key-value: names are sub-X[_run-N]_T2w.nii.gz")
    held = [(hit[1], hit[2]) for hit in pairs if hit is not None]
    keys = [key for key, _ in held]
    if keys[0] != "sub" or len(set(keys)) < len(keys):
        raise InputError(f"{file}: a name starts with sub-X and has each entity once, not {keys}")
    rest = {key: value for key, value in held if key != "sub"}
    return Name.make(held[0][1], suffix, **rest)


def number_runs(names: Iterable[Name]) -> list[Name]:
    """The same names, told apart: those that are equal get run-1, run-2, ... in their order."""
    wanted = list(names)
    count, seen = Counter(wanted), Counter[Name]()
    told = []
    for name in wanted:
        seen[name] += 1
        if count[name] == 1:
            told.append(name)
            continue
        held = dict(name.entities) | {"run": str(seen[name])}
        told.append(replace(name, entities=tuple((k, held[k]) for k in ORDER if k in held)))
    return told


def find_patients(folder: Path) -> tuple[Patient, ...]:
    """The patients of a dataset folder, sorted by name.

    Raises:
        InputError: There is no such folder, or it holds no ``sub-*``.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder: give a dataset folder")
    truth = folder / "derivatives" / "truth"
    names = sorted({p.name for p in (*folder.glob("sub-*"), *truth.glob("sub-*")) if p.is_dir()})
    if not names:
        raise InputError(f"{folder} holds no sub-* folder: give a dataset folder, or import one")
    return tuple(_patient(folder, name) for name in names)


def _patient(folder: Path, name: str) -> Patient:
    places: list[tuple[Place, Path]] = []
    for base in (folder / name, *sorted((folder / name).glob("ses-*"))):
        places += [("anat", base / "anat"), ("ct", base / "ct")]
    places.append(("truth", folder / "derivatives" / "truth" / name))
    items, strays = [], []
    for place, parent in places:
        for path in sorted(parent.glob("**/*" if place == "truth" else "*")):
            if not path.name.lower().endswith(IMAGES) or path.name.startswith("."):
                continue
            try:
                parsed = parse_name(path.name)
            except InputError as error:
                strays.append((path, str(error)))
                continue
            items.append(Item(path, parsed, place))
    return Patient(name, tuple(items), tuple(strays))
