"""A random field of view of a tissue map as tensors: what one simulated scan covers."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from spinect.phantom.anatomy import PELVIS
from spinect.phantom.contrast import thick_shell
from spinect.phantom.fields import blur
from spinect.phantom.maps import DISTANCE_STEP_MM, Subject, TissueMap

MAX_VOXELS = 3_600_000  # of one scan, such as 64 x 230 x 245


@dataclass(frozen=True, eq=False)
class Scene:
    """A tissue map, or a part of it, as tensors (*S) with axes R, A, S at 1 mm.

    Attributes:
        tissue, vertebrae, subregions: uint8, as in `TissueMap`.
        distance: float32, signed bone distance in mm.
        known: bool, where labels and HU may be trained on.
        hu: float32, the real CT, or None.
        centres: Vertebra id -> centre of its body in voxels of this scene.
        subject: The person.
    """

    tissue: Tensor
    vertebrae: Tensor
    subregions: Tensor
    distance: Tensor
    known: Tensor
    hu: Tensor | None
    centres: dict[int, tuple[float, float, float]]
    subject: Subject

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along R, A, S."""
        first, second, third = self.tissue.shape
        return first, second, third

    @property
    def thick(self) -> Tensor:
        """(*S) bool, where the cortical shell is thick: posterior elements, sacrum, other bone."""
        return thick_shell(self.tissue, self.subregions)

    def crop(self, start: tuple[int, int, int], shape: tuple[int, int, int]) -> "Scene":
        """The part of `shape` voxels that begins at `start` and lies inside."""
        box = tuple(slice(a, a + n) for a, n in zip(start, shape, strict=True))
        centres = {
            v: (c[0] - start[0], c[1] - start[1], c[2] - start[2]) for v, c in self.centres.items()
        }
        return replace(
            self,
            tissue=self.tissue[box],
            vertebrae=self.vertebrae[box],
            subregions=self.subregions[box],
            distance=self.distance[box],
            known=self.known[box],
            hu=None if self.hu is None else self.hu[box],
            centres=centres,
        )

    def mirrored(self) -> "Scene":
        """Left and right exchanged; the classes of the networks have no sides."""
        last = self.shape[0] - 1
        flip = {
            k: getattr(self, k).flip(0)
            for k in ("tissue", "vertebrae", "subregions", "distance", "known")
        }
        centres = {v: (last - c[0], c[1], c[2]) for v, c in self.centres.items()}
        hu = None if self.hu is None else self.hu.flip(0)
        return replace(self, **flip, hu=hu, centres=centres)


@dataclass(frozen=True)
class FieldOfView:
    """Box of a scan in a map: output voxel o lies at map voxel `centre + matrix (o - middle)`."""

    shape: tuple[int, int, int]
    centre: tuple[float, float, float]
    matrix: np.ndarray  # (3, 3); the identity means a plain crop
    mirror: bool


def draw_field_of_view(tissue_map: TissueMap, rng: np.random.Generator) -> FieldOfView:
    """Where a scan of this subject lies.

    Left-right 12-140 mm, under 30 mm in 30 %; the other edges cut in 30 %; half of the scans are
    turned by a few degrees (12 at most) and stretched by up to 8 %. Of a pelvis it is the whole
    width and depth, and as many slices as MAX_VOXELS allow.
    """
    size = np.array(tissue_map.grid.shape)
    pelvis = tissue_map.subject.part == PELVIS
    width = rng.uniform(12, 30) if rng.random() < 0.3 else rng.uniform(30, 140)
    depth, height = size[1], min(size[2], rng.uniform(150, 320))
    if rng.random() < 0.3:
        depth = min(depth, rng.uniform(90, 200))
    if rng.random() < 0.3:
        height = min(height, rng.uniform(80, 200))
    excess = width * depth * height / MAX_VOXELS
    if excess > 1:  # the largest scans lose height first, then depth
        shorter = max(height / excess, min(height, 120))
        depth *= min(1.0, height / excess / shorter)
        height = shorter
    if pelvis:
        width, depth = size[0], size[1]
        height = max(1, MAX_VOXELS // (width * depth))
    shape = np.minimum(np.array([width, depth, height]).astype(int), size)
    spine = np.array(list(tissue_map.subject.centres.values()))
    anchor = tissue_map.grid.index(spine[rng.integers(len(spine))])
    centre = anchor + rng.uniform(-0.4, 0.4, 3) * shape
    centre[0] = anchor[0] + rng.normal(0, 8)
    if pelvis:
        centre = rng.uniform(0, size)
    half = (shape - 1) / 2
    centre = np.clip(np.rint(centre - half) + half, half, size - 1 - half)
    matrix = np.eye(3)
    if rng.random() < 0.5:
        matrix = _rotation(np.radians(np.clip(rng.normal(0, 4, 3), -12, 12)))
        matrix = matrix * rng.uniform(0.94, 1.06) * rng.uniform(0.98, 1.02, 3)
    return FieldOfView(
        shape=(int(shape[0]), int(shape[1]), int(shape[2])),
        centre=(float(centre[0]), float(centre[1]), float(centre[2])),
        matrix=matrix,
        mirror=bool(rng.random() < 0.5),
    )


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Rotation matrix of three successive turns about the axes, radians."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = (a for a in range(3) if a != axis)
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def view(tissue_map: TissueMap, field: FieldOfView) -> Scene:
    """The part of a map that a field of view covers; beyond the map lies unknown air."""
    half = (np.array(field.shape) - 1) / 2
    corner = np.array(field.centre) - field.matrix @ half  # of output voxel 0, in map voxels
    reach = np.abs(field.matrix) @ half + 1
    size = np.array(tissue_map.grid.shape)
    low = np.clip(np.floor(np.array(field.centre) - reach), 0, size - 1).astype(int)
    high = np.clip(np.ceil(np.array(field.centre) + reach) + 1, low + 1, size).astype(int)
    plain = np.array_equal(field.matrix, np.eye(3))
    if plain:
        low, high = np.rint(corner).astype(int), np.rint(corner).astype(int) + field.shape
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    names = ("tissue", "vertebrae", "subregions", "bone_distance", "known", "hu")
    held = {k: getattr(tissue_map, k) for k in names}
    parts = {k: torch.from_numpy(np.array(v[box])) for k, v in held.items() if v is not None}
    if not plain:
        index, valid = _indices(field, corner - low, high - low)
        parts = _turned(parts, index, valid)
    distance = parts["bone_distance"].float().mul_(DISTANCE_STEP_MM)
    if not plain:  # a nearest pick leaves steps in the distance
        distance = blur(distance[None], 0.5)[0]
    known = torch.ones(field.shape, dtype=torch.uint8) if plain else valid
    inverse = np.linalg.inv(field.matrix)
    centres = {
        v: inverse @ (tissue_map.grid.index(c) - corner)
        for v, c in tissue_map.subject.centres.items()
    }
    scene = Scene(
        tissue=parts["tissue"],
        vertebrae=parts["vertebrae"],
        subregions=parts["subregions"],
        distance=distance,
        known=parts.get("known", known) > 0,
        hu=parts["hu"].float() if "hu" in parts else None,
        centres={v: (float(c[0]), float(c[1]), float(c[2])) for v, c in centres.items()},
        subject=tissue_map.subject,
    )
    return scene.mirrored() if field.mirror else scene


def _turned(parts: dict[str, Tensor], index: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """Every array read at `index`; beyond the map lies unknown air.

    The four byte arrays travel in one int32, so that turning them is a single gather.
    """
    packed = parts["bone_distance"].int()
    for name in ("subregions", "vertebrae", "tissue"):
        packed = packed.mul_(256).add_(parts[name])
    packed = torch.where(valid, packed.view(-1)[index], 0x7F000000)
    turned = {"bone_distance": (packed >> 24).to(torch.int8)}
    for name, bits in (("tissue", 0), ("vertebrae", 8), ("subregions", 16)):
        turned[name] = (packed >> bits).bitwise_and_(0xFF).byte()
    for name, outside in (("known", 0), ("hu", -1000)):
        if name in parts:
            turned[name] = torch.where(valid, parts[name].view(-1)[index], outside)
    return turned


def _indices(field: FieldOfView, corner: np.ndarray, size: np.ndarray) -> tuple[Tensor, Tensor]:
    """Flat index of the nearest packed voxel, and whether there is one, for each output voxel."""
    matrix = torch.from_numpy(field.matrix.astype(np.float32))
    steps = [torch.arange(n, dtype=torch.float32) for n in field.shape]
    index = torch.zeros(field.shape, dtype=torch.int32)
    valid = torch.ones(field.shape, dtype=torch.bool)
    for axis in range(3):
        row = matrix[axis]
        at = (row[0] * steps[0] + float(corner[axis]))[:, None] + (row[1] * steps[1])[None]
        nearest = (at[..., None] + (row[2] * steps[2] + 0.5)).floor_().int()
        last = int(size[axis]) - 1
        if float(nearest.min()) < 0 or float(nearest.max()) > last:
            valid &= (nearest >= 0) & (nearest <= last)
            nearest.clamp_(0, last)
        index = index.mul_(last + 1).add_(nearest)
    return index, valid
