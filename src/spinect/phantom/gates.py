"""Measures of a vertebra's shape that need only its mask, for phantoms and real label maps alike.

The bounds come from the real masks that `benchmarks/phantom_gates.py` measures beside the phantom.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter1d

from spinect.geometry import Grid


class VertebraMeasures(NamedTuple):
    """Size and slenderness of one vertebra.

    Attributes:
        volume_ml: Whole vertebra.
        width_mm, depth_mm: Left-right and front-back extent of its bounding box.
        posterior_share: Part of the volume behind the narrowest coronal section (the pedicles).
        depth_below_surface_mm: Median distance of those voxels' centres to the surface.
    """

    volume_ml: float
    width_mm: float
    depth_mm: float
    posterior_share: float
    depth_below_surface_mm: float


# Field -> (vertebrae it holds for, lowest, highest).
GATES: Final[dict[str, tuple[range, float, float]]] = {
    "volume_ml": (range(19, 25), 36.0, 78.0),
    "width_mm": (range(22, 23), 80.0, 96.0),
    "depth_mm": (range(22, 23), 81.0, 95.0),
    "posterior_share": (range(19, 25), 0.28, 0.40),
    "depth_below_surface_mm": (range(19, 25), 1.2, 1.8),
}
SPACING_GATE_MM: Final = (30.0, 41.0)  # between neighbouring lumbar body centres


def measure(mask: NDArray[np.bool_], grid: Grid) -> VertebraMeasures:
    """Measure one vertebra.

    Args:
        mask: Its voxels; the grid's axes run R, A, S.
        grid: About 1 mm isotropic, so that depths below the surface compare.
    """
    box = find_objects(mask.astype(np.uint8))[0]
    own = np.pad(mask[box], 1)
    voxel = float(np.prod(grid.spacing))
    area = gaussian_filter1d(own.sum((0, 2)).astype(float), 1.5 / grid.spacing[1])
    n = len(area)
    window = slice(int(0.42 * n), int(0.70 * n))  # where the pedicles lie
    neck = window.start + int(np.argmin(area[window]))
    behind = own.copy()
    behind[:, neck:] = False
    depth = distance_transform_edt(own, sampling=grid.spacing)
    extent = (np.array(own.shape) - 2) * grid.spacing
    return VertebraMeasures(
        volume_ml=float(own.sum()) * voxel / 1000,
        width_mm=float(extent[0]),
        depth_mm=float(extent[1]),
        posterior_share=float(behind.sum() / own.sum()),
        depth_below_surface_mm=float(np.median(depth[behind]) - 0.5 * grid.spacing.min())
        if behind.any()
        else 0.0,
    )


def cut(mask: NDArray[np.bool_]) -> bool:
    """Whether the mask touches a face of its volume."""
    return any(bool(np.take(mask, end, axis).any()) for axis in range(3) for end in (0, -1))
