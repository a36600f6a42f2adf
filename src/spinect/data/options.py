"""What is taken from a dataset folder, and how it is varied."""

from dataclasses import dataclass, field
from typing import Literal

from spinect.card import Axes, Raster
from spinect.data.elastic import Elastic
from spinect.data.intensity import HuRange
from spinect.data.series import Pose
from spinect.data.stream import Direction, Task, Triple
from spinect.data.warp import Border
from spinect.errors import ConfigError
from spinect.io.participants import SPLITS
from spinect.protocols import Intensity

Plane = Literal["sagittal", "axial"]


@dataclass(frozen=True)
class DatasetOptions:
    """Options of `DatasetPatches`.

    Attributes:
        contrast: Suffix of the MR. split: Value of the column in participants.tsv.
        pose: "registered" reads derivatives/registered, "truth" derivatives/truth, "auto" the
            registered one where it is there.
        task: "translate" gives one image and shows the other; "segment" gives CT channels.
        direction: "mr_to_ct" shows the MR and teaches the CT, "ct_to_mr" the other way round.
        neighbours: Slices to each side whose channels are shown beside a slice's own.
        patch: Voxels along R, A, S; 1 along R means sagittal slices. With axial slices along
            S, R, A.
        plane: Of slices.
        scans: Patients of an item. patches_per_scan: Patches of each of them.
        raster, spacing_mm, intensity: Working grid and scale of the MR, see `Working`.
        place: "bone": 4 of 5 patches are centred near bone. "anywhere": patches lie anywhere, and
            slices are read whole before they are cropped.
        min_pixels: Of vertebrae; slices that show less are not used. 0: all slices are.
        copies: Deformed copies of each series and, as the last one, the series itself.
        elastic: How copies are deformed.
        rotate_deg: SD of the turn about each axis. scale: SD of the log of each axis's zoom.
        elastic_mm: SD of a smooth displacement along each axis that is new in every patch.
            On the raster "slices" nothing turns, zooms or bends patches anew: voxels are no cubes.
        flip: Mirror left and right in half of the patches.
        mirror: Share of the patches mirrored front to back, and head to feet; one axis at most.
        border: What pads a volume smaller than the patch: nothing, or its mirror image.
        interpolation: Of MR and CT.
        jitter: Of the MR's brightness and contrast. dropout: Share of patches whose MR is grey.
        ramps: Three further channels, the position in the whole volume.
        augment: Whether copies, turns, mirrors, jitter and dropout are on and crops are random;
            "auto": not in the splits validation and test.
        hu_range: What [-1, 1] of the CT stands for, where it is taught or shows an MR's anatomy.
        cache: Keep the series on their working grid in the dataset folder.
    Raises:
        ConfigError: Options that contradict each other.
    """

    contrast: str = "T2w"
    split: str = "train"
    pose: Pose = "auto"
    task: Task = "translate"
    direction: Direction = "mr_to_ct"
    neighbours: int = 0
    patch: Triple = (96, 96, 96)
    plane: Plane = "sagittal"
    scans: int = 1
    patches_per_scan: int = 2
    raster: Raster = "iso"
    spacing_mm: float = 1.0
    intensity: Intensity = "robust"
    place: Literal["bone", "anywhere"] = "bone"
    min_pixels: int = 0
    copies: int = 1
    elastic: Elastic = field(default_factory=Elastic)
    rotate_deg: float = 10.0
    scale: float = 0.08
    elastic_mm: float = 2.0
    flip: bool = True
    mirror: tuple[float, float] = (0.0, 0.0)
    border: Border = "outside"
    interpolation: Literal["linear", "cubic"] = "linear"
    jitter: float = 0.0
    dropout: float = 0.0
    ramps: bool = False
    augment: Literal["auto", "on", "off"] = "auto"
    hu_range: HuRange = field(default_factory=HuRange)
    cache: bool = True

    def __post_init__(self) -> None:
        flat = self.patch[0] == 1
        moved = max(self.rotate_deg, self.scale, self.elastic_mm) > 0
        if self.raster == "slices" and not flat:
            raise ConfigError(f"raster slices is for 2D, the patch is {_text(self.patch)}")
        if self.plane == "axial" and not flat:
            raise ConfigError(f"plane axial is for 2D, the patch is {_text(self.patch)}")
        if self.plane == "axial" and self.task == "segment":
            raise ConfigError("task segment makes masks of sagittal slices: leave plane out")
        if self.min_pixels and not flat:
            raise ConfigError(f"min_pixels is for 2D, the patch is {_text(self.patch)}")
        if moved and (self.copies > 1 or self.place == "anywhere"):
            raise ConfigError(
                f"copies {self.copies} and place {self.place} need patches that are not warped "
                "anew: set rotate_deg, scale and elastic_mm to 0, or copies to 1 and place to bone"
            )
        if moved and self.raster == "slices":
            raise ConfigError(
                "raster slices has voxels that are no cubes, which no patch can be turned in: set "
                "rotate_deg, scale and elastic_mm to 0, or raster to iso"
            )
        if self.ramps and self.task == "segment":
            raise ConfigError("ramps go with task translate: a segmenter sees the CT alone")
        if self.neighbours and not flat:
            raise ConfigError(
                f"neighbours {self.neighbours} are slices beside a slice, the patch is "
                f"{_text(self.patch)}: set neighbours to 0, or take a patch of two numbers"
            )
        if self.neighbours and self.dropout > 0:
            raise ConfigError(
                f"dropout {self.dropout:g} is for guidance, which knows one slice alone, not "
                f"{self.neighbours} neighbours: set dropout or neighbours to 0"
            )
        if self.direction == "ct_to_mr":
            self._refuse_of_mr()
        if sum(self.mirrored) > 1:
            raise ConfigError(
                f"one axis at most is mirrored: the shares {_text(self.mirrored)} along "
                f"{', '.join(self.axes)} exceed 1"
            )

    def _refuse_of_mr(self) -> None:
        """What belongs to an MR that goes in."""
        if self.task == "segment":
            raise ConfigError("direction ct_to_mr makes an MR, task segment masks: leave one out")
        if self.intensity != "robust":
            raise ConfigError(
                f"direction ct_to_mr teaches an MR in relative intensity, which is the scaling "
                f"robust, not {self.intensity}: set intensity to robust"
            )
        if max(self.jitter, self.dropout) > 0:
            raise ConfigError(
                f"jitter {self.jitter:g} and dropout {self.dropout:g} change the MR that goes in, "
                "and with direction ct_to_mr the CT goes in: set both to 0"
            )

    @property
    def axes(self) -> Axes:
        """Of the patch: its slices lie across the first one."""
        return "SRA" if self.plane == "axial" else "RAS"

    @property
    def mirrored(self) -> tuple[float, float, float]:
        """Share of the patches mirrored along each axis of the patch."""
        along = dict(zip("RAS", (0.5 * self.flip, *self.mirror), strict=True))
        first, second, third = (along[axis] for axis in self.axes)
        return first, second, third

    @property
    def needs_masks(self) -> bool:
        """Whether nothing can be taken from a patient without vertebrae."""
        return self.task == "segment" or self.place == "bone" or self.min_pixels > 0

    @property
    def whole_slices(self) -> bool:
        """Whether slices are read whole and then cropped."""
        return self.place == "anywhere" and self.patch[0] == 1

    @property
    def augmented(self) -> bool:
        """Whether anything is varied."""
        if self.augment == "auto":
            return self.split not in SPLITS[1:]
        return self.augment == "on"


def _text(values: tuple[float, ...]) -> str:
    return " x ".join(f"{v:g}" for v in values)
