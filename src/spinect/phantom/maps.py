"""What a subject is made of, voxel by voxel: the hand-over from anatomy to contrast.

A map comes from the articulated phantom, from a real vertebra label map set in phantom tissue, or
from a real CT whose tissues were classed; contrast and scanner do not care which.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spinect.geometry import Grid

DISTANCE_STEP_MM = 0.1  # unit of TissueMap.bone_distance
_ARRAYS = ("tissue", "vertebrae", "subregions", "bone_distance", "hu", "known")


@dataclass(frozen=True)
class Subject:
    """What belongs to the person, not to a voxel.

    Attributes:
        seed: Seed of the subject; -1 for a real one.
        age: Years. sex: "F" or "M".
        marrow_fat: Fat fraction of the marrow, 0-1, of the whole spine.
        trabecular_hu: Mean HU of trabecular bone of the whole spine.
        centres: Vertebra id -> centre of its body, mm, RAS+ world of the map's grid.
        source: "phantom", "shape:NAME" or "ct:NAME".
        part: Of the body that the map shows: "spine" or "pelvis".
    """

    seed: int
    age: float
    sex: str
    marrow_fat: float
    trabecular_hu: float
    centres: dict[int, tuple[float, float, float]] = field(default_factory=dict)
    source: str = "phantom"
    part: str = "spine"


@dataclass(frozen=True, eq=False)
class TissueMap:
    """Tissue, labels and bone surface on one grid whose axes run R, A, S.

    Attributes:
        grid: Where the voxels lie.
        tissue: uint8, `tissues.Tissue`.
        vertebrae: uint8, vertebra ids of definitions (0 background).
        subregions: uint8, subregion ids (41-50, 60, 61, 100; 0 background or not known).
        bone_distance: int8, signed distance to the outer surface of any bone in steps of
            DISTANCE_STEP_MM, negative inside, clipped to +-12.7 mm.
        subject: The person.
        hu: int16, the real CT where there is one; None where HU follows from the tissues.
        known: uint8, 1 where labels (and HU) may be trained on; None means everywhere.
    """

    grid: Grid
    tissue: NDArray[np.uint8]
    vertebrae: NDArray[np.uint8]
    subregions: NDArray[np.uint8]
    bone_distance: NDArray[np.int8]
    subject: Subject
    hu: NDArray[np.int16] | None = None
    known: NDArray[np.uint8] | None = None

    def save(self, folder: Path) -> None:
        """Write uncompressed arrays that `load` maps into memory; `folder` is made."""
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            if (array := getattr(self, name)) is not None:
                np.save(folder / f"{name}.npy", array)
        meta = {"affine": self.grid.affine.tolist(), "subject": asdict(self.subject)}
        (folder / "map.json").write_text(json.dumps(meta))  # last: marks the folder complete

    @classmethod
    def load(cls, folder: Path) -> "TissueMap":
        """Read a saved map; the arrays stay on disk until they are sliced."""
        meta: dict[str, Any] = json.loads((folder / "map.json").read_text())
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r")
            for name in _ARRAYS
            if (folder / f"{name}.npy").exists()
        }
        subject = meta["subject"]
        subject["centres"] = {int(k): tuple(v) for k, v in subject["centres"].items()}
        grid = Grid(arrays["tissue"].shape, np.array(meta["affine"]))
        return cls(grid=grid, subject=Subject(**subject), **arrays)
