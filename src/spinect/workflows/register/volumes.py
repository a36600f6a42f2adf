"""The CT and its masks in the MR's space: on the MR's own grid, and at 1 mm in its axes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.geometry import Grid, Volume, resample
from spinect.geometry.transform import apply, invert
from spinect.registration import Field, Registration, displacement, warp
from spinect.registration.warp import Order
from spinect.workflows.register.loading import Inputs

MARGIN_MM: Final = 20.0  # kept of the CT around what the MR reaches
BOX_MM: Final = 3.0  # around a vertebra when it is carried over


@dataclass(frozen=True, eq=False)
class Registered:
    """What one grid of the MR gets.

    Attributes:
        ct: HU; -1000 beyond the CT.
        valid: Labels: 1 where the CT is known and space is not torn.
        vertebrae, subregions: Masks of the CT; None where it has none.
        inside: Share of voxels that the CT reaches and `valid` holds.
    """

    ct: Volume
    valid: Volume
    vertebrae: Volume | None
    subregions: Volume | None

    @property
    def inside(self) -> float:
        """Share of the valid voxels."""
        return float(self.valid.data.mean())


def iso_grid(mr: Grid) -> Grid:
    """1 mm over the MR's box, axes permuted and flipped to be closest to R, A, S."""
    return mr.canonical().with_spacing(1.0)


def bring(
    inputs: Inputs, grid: Grid, registration: Registration, field: Field | None, order: Order
) -> Registered:
    """The CT and its masks on a grid of the MR's world.

    Args:
        field: On `grid`; needed for a polyrigid registration.
    """
    ct, valid = _image(inputs.ct, grid, registration, field, order)
    masks = [
        None if mask is None else warp(mask, grid, registration, field)[0]
        for mask in (inputs.ct_vertebrae, inputs.ct_subregions)
    ]
    return Registered(ct, valid, masks[0], masks[1])


def bring_native(
    inputs: Inputs,
    grid: Grid,
    registration: Registration,
    fine: tuple[Registered, Field],
    order: Order,
) -> Registered:
    """The same on the MR's own grid, from the motion at 1 mm.

    The CT is interpolated once, from its own voxels. Masks are the area average of those at 1 mm.

    Args:
        fine: What `bring` made at 1 mm, and its field.
    """
    done, field = fine
    ct, valid = _image(inputs.ct, grid, registration, on_grid(field, grid), order)
    masks = [None if m is None else resample(m, grid) for m in (done.vertebrae, done.subregions)]
    return Registered(ct, valid, masks[0], masks[1])


def _image(
    ct: Volume, grid: Grid, registration: Registration, field: Field | None, order: Order
) -> tuple[Volume, Volume]:
    image, valid = warp(ct, grid, registration, field, order)
    return image, Volume(valid.astype(np.uint8), grid.affine, "labels")


def on_grid(field: Field, grid: Grid) -> Field:
    """A field on another grid of about the same box; where motion is rigid nothing is lost."""
    affine = field.grid.affine
    parts = (*np.moveaxis(field.displacement, -1, 0), field.jacobian)
    *moved, jacobian = (resample(Volume(part, affine, "mr"), grid).data for part in parts)
    return Field(grid, np.stack(moved, -1), jacobian)


def field_on(grid: Grid, registration: Registration, bone: Volume | None) -> Field | None:
    """The displacement field of a polyrigid registration; None for a rigid one."""
    return displacement(registration, grid, bone) if registration.vertebrae else None


def bone_mask(inputs: Inputs, registration: Registration, grid: Grid) -> Volume | None:
    """Vertebra ids in the MR's world: the MR's own, else the CT's, each moved by its own motion.

    None where neither scan has a mask.
    """
    if inputs.mr_vertebrae is not None or inputs.ct_vertebrae is None:
        return inputs.mr_vertebrae
    moving = inputs.ct_vertebrae
    out = np.zeros(grid.shape, moving.data.dtype)
    for vertebra, part in _vertebrae(moving):
        ct_from_mr = registration.of(vertebra)
        box = _reach(part.grid, grid, invert(ct_from_mr), BOX_MM)
        if box is None:
            continue
        start = [s.start for s in box]
        sub = grid.crop(start, [s.stop - s.start for s in box])
        moved = resample(part, sub, ct_from_mr).data
        free = out[box] == 0
        out[box][free] = moved[free]
    return Volume(out, grid.affine, "labels")


def _vertebrae(mask: Volume) -> Iterator[tuple[int, Volume]]:
    """Each vertebra alone, in its own box."""
    for vertebra in np.unique(mask.data[mask.data > 0]):
        found = np.argwhere(mask.data == vertebra)
        low, high = found.min(0), found.max(0) + 1
        box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        own = np.where(mask.data[box] == vertebra, mask.data[box], 0)
        yield int(vertebra), Volume(own, mask.grid.crop(low, high - low).affine, "labels")


def cropped(volume: Volume, mr: Grid, registration: Registration) -> Volume:
    """The part of the CT, or of a mask of it, that an MR can meet; saves time and memory."""
    boxes = [
        box
        for motion in (registration.ct_from_mr, *registration.vertebrae.values())
        if (box := _reach(mr, volume.grid, motion, MARGIN_MM)) is not None
    ]
    if not boxes:
        return volume
    box = tuple(
        slice(min(b[a].start for b in boxes), max(b[a].stop for b in boxes)) for a in range(3)
    )
    start = [s.start for s in box]
    data = np.ascontiguousarray(volume.data[box])
    return Volume(data, volume.grid.crop(start, data.shape).affine, volume.kind)


def _reach(
    source: Grid, target: Grid, target_from_source: NDArray[np.float64], margin_mm: float
) -> tuple[slice, ...] | None:
    """Box of the target's voxels around a moved source, cut to the target; None if apart."""
    ends = [[-0.5, n - 0.5] for n in source.shape]
    corners = source.world(np.stack(np.meshgrid(*ends, indexing="ij"), -1).reshape(8, 3))
    index = target.index(apply(target_from_source, corners))
    more = margin_mm / target.spacing
    low = np.maximum(np.floor(index.min(0) - more), 0).astype(int)
    high = np.minimum(np.ceil(index.max(0) + more) + 1, target.shape).astype(int)
    if (high <= low).any():
        return None
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
