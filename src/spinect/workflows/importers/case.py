"""One patient on the way into a dataset folder: what is written, under which names."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.errors import GeometryError, InputError
from spinect.geometry import Grid, Volume
from spinect.geometry.landmarks import Landmarks
from spinect.io import write_dseg_table, write_poi, write_table, write_volume
from spinect.io.bids import Name
from spinect.workflows.check.contents import PADDING_HU, PADDING_SHARE, border_value

SAME_MM: Final = 0.1  # grids of one patient whose corners are closer are the same, but for rounding
END: Final = ".nii.gz"


@dataclass
class Case:
    """A patient as it will stand in the dataset.

    Attributes:
        subject: The X of sub-X.
        files: Path below the dataset folder -> volume, landmarks or rows of a table.
        notes: What was mended or passed over.
    """

    subject: str
    files: dict[Path, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, name: Name, volume: Volume) -> None:
        """An image or mask of a scan, in `anat`, `ct`, or beside its image in either."""
        session = name.get("ses")
        base = Path(f"sub-{self.subject}", *([f"ses-{session}"] if session else []))
        place = "anat" if volume.kind == "mr" or name.get("space") else "ct"
        self._put(base / place / (name.stem + END), volume)

    def add_points(self, name: Name, points: Landmarks) -> None:
        """Landmarks of an image, beside it."""
        session = name.get("ses")
        base = Path(f"sub-{self.subject}", *([f"ses-{session}"] if session else []))
        place = "ct" if name.suffix == "ct" else "anat"
        self._put(base / place / f"{name.stem}_poi.json", points)

    def add_aligned(self, name: Name, volume: Volume, like: Volume) -> None:
        """What lies on the grid of an MR: CT, masks. It goes to `derivatives/truth`.

        Raises:
            GeometryError: It does not lie there.
        """
        check_same(volume.grid, like.grid, name.stem)
        exact = Volume(volume.data, like.affine, volume.kind)
        self._put(Path("derivatives", "truth", f"sub-{self.subject}", name.stem + END), exact)

    def add_region(self, name: Name, mask: Volume) -> None:
        """A mask of something that is not a vertebra."""
        folder = Path("derivatives", "structures", f"sub-{self.subject}")
        self._put(folder / (name.stem + END), mask)

    def add_table(self, path: Path, rows: list[dict[str, Any]]) -> None:
        """A table below the dataset folder."""
        self._put(path, rows)

    def _put(self, path: Path, what: Any) -> None:
        if path in self.files:
            raise InputError(f"sub-{self.subject}: two files would be called {path.name}")
        self.files[path] = what

    def write(self, folder: Path) -> None:
        """Write everything below `folder`."""
        for path, what in self.files.items():
            target = folder / path
            if isinstance(what, Volume):
                write_volume(what, target)
                if path.name.endswith(f"dseg{END}"):
                    table = target.with_name(path.name.removesuffix(END) + ".tsv")
                    write_dseg_table(table, np.unique(what.data))
            elif isinstance(what, Landmarks):
                write_poi(what, target)
            else:
                write_table(what, target)


@dataclass(frozen=True)
class Planned:
    """A patient that was found in the source and not read yet.

    Attributes:
        subject: The X of sub-X.
        source: What the source calls it; for messages and participants.tsv.
        person: Who it is; participants of one person stay together in the split.
        stratum: Site or region that should be on every side of the split.
        row: Further columns of participants.tsv; a `split` there stands.
        build: Reads it.
    """

    subject: str
    source: str
    person: str
    stratum: str
    build: Callable[[], Case]
    row: Mapping[str, str] = field(default_factory=dict)


def subject_label(source: str) -> str:
    """The X of sub-X for a foreign name: its letters and digits.

    Raises:
        InputError: It has none.
    """
    label = re.sub("[^A-Za-z0-9]", "", source.removeprefix("sub-"))
    if not label:
        raise InputError(f"{source!r} has no letter or digit to name a patient by: rename it")
    return label


def check_same(grid: Grid, like: Grid, what: str) -> None:
    """Refuse what does not lie on the MR's grid.

    Raises:
        GeometryError: Shapes differ, or corners are further apart than `SAME_MM`.
    """
    gap = grid.gap(like)
    if gap > SAME_MM:
        apart = "other sizes" if np.isinf(gap) else f"corners {gap:.2f} mm apart"
        raise GeometryError(
            f"{what} lies on {grid}, its MR on {like}; {apart}: they are not aligned voxel by "
            "voxel; import them as unaligned and register"
        )


def air_outside(ct: Volume) -> tuple[Volume, NDArray[np.bool_] | None]:
    """A CT whose border was filled with water (0 or -1 HU), filled with air instead.

    Registration programs fill what the moving CT did not cover with a default that is often -1.
    Returns:
        The CT, and True where it was scanned; None when nothing had to be changed.
    """
    value, share = border_value(ct.data)
    if share < PADDING_SHARE or abs(value) > PADDING_HU:
        return ct, None
    pieces, _ = ndimage.label(ct.data == value)
    slices = np.moveaxis(pieces, int(np.argmin(pieces.shape)), 0)
    sides = (slices[:, 0], slices[:, -1], slices[:, :, 0], slices[:, :, -1])
    outer = np.unique(np.concatenate([s.ravel() for s in sides]))
    filled = np.isin(pieces, outer[outer > 0])
    return ct.with_data(np.where(filled, np.float32(ct.rules.outside), ct.data)), ~filled
