"""Whether a displacement field leaves bones rigid and space unfolded."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.errors import LabelError
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.geometry.transform import apply
from spinect.registration.field import Field
from spinect.registration.points import kabsch
from spinect.registration.result import piece_of

JACOBIAN: Final = (0.5, 2.0)  # local volume change beyond which a voxel is not trusted


@dataclass(frozen=True)
class Quality:
    """Attributes:
    rigidity_mm: 95th percentile, over bone voxels, of the distance to the best rigid motion of
        their own vertebra.
    min_jacobian: Smallest local volume change; at or below 0 the field folds.
    outside: Share of the grid's voxels with a Jacobian outside [0.5, 2].
    outside_bone: The same share among bone voxels.
    """

    rigidity_mm: float
    min_jacobian: float
    outside: float
    outside_bone: float


def trusted(jacobian: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Where the local volume change lies within `JACOBIAN`."""
    return np.asarray((jacobian >= JACOBIAN[0]) & (jacobian <= JACOBIAN[1]))


def quality(field: Field, mask: Volume) -> Quality:
    """Judge a field.

    Args:
        mask: Vertebra ids in the MR's world; any grid.
    Raises:
        LabelError: The mask shows no vertebra on the field's grid.
    """
    labels = resample(mask, field.grid).data
    if not labels.any():
        raise LabelError("the mask shows no vertebra on the field's grid: give the MR's own mask")
    table = np.array([piece_of(v) if v else 0 for v in range(int(labels.max()) + 1)])
    labels = table[labels]
    errors = []
    for piece in np.unique(labels[labels > 0]):
        index = np.argwhere(labels == piece)
        points = field.grid.world(index)
        moved = points + field.displacement[tuple(index.T)]
        if len(points) >= 4:
            best = kabsch(moved, points)
            errors.append(np.linalg.norm(moved - apply(best, points), axis=1))
    good = trusted(field.jacobian)
    return Quality(
        rigidity_mm=float(np.percentile(np.concatenate(errors), 95)) if errors else float("nan"),
        min_jacobian=float(field.jacobian.min()),
        outside=float(1 - good.mean()),
        outside_bone=float(1 - good[labels > 0].mean()),
    )
