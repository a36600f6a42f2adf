"""Rigid maps between worlds, 4x4, mm, RAS+.

A map is named for both ends: `ct_from_mr` takes points of the MR's world into the CT's. Read from
the right, `ct_from_atlas = ct_from_mr @ mr_from_atlas` checks itself.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.transform import Rotation

from spinect.errors import GeometryError

Float = NDArray[np.float64]
RIGID_TOLERANCE = 1e-6  # deviation of R^T R from the identity


def rigid(rotation: ArrayLike, translation: ArrayLike = 0.0, centre: ArrayLike = 0.0) -> Float:
    """A rotation about a point, then a translation.

    Args:
        rotation: (3,) rotation vector: axis times angle in radians, right-handed.
        translation: (3,) or one number, mm.
        centre: (3,) or one number, the point that the rotation leaves in place, mm.
    Returns:
        (4, 4) x -> R (x - centre) + centre + translation.
    """
    turn = Rotation.from_rotvec(np.asarray(rotation, float)).as_matrix()
    middle = np.broadcast_to(np.asarray(centre, float), 3)
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = middle - turn @ middle + np.asarray(translation, float)
    return matrix


def invert(b_from_a: Float) -> Float:
    """a_from_b of a rigid map, (4, 4); exact to rounding, by the transpose.

    Raises:
        GeometryError: The map is not rigid: it scales, shears or mirrors.
    """
    matrix = np.asarray(b_from_a, float)
    turn = matrix[:3, :3]
    off = float(np.abs(turn.T @ turn - np.eye(3)).max())
    if off > RIGID_TOLERANCE or np.linalg.det(turn) < 0:
        raise GeometryError(
            f"the map is not rigid: its axes are off by {off:.2g} and its determinant is "
            f"{np.linalg.det(turn):.4g}, not 1: use numpy.linalg.inv for affine maps"
        )
    inverse = np.eye(4)
    inverse[:3, :3] = turn.T
    inverse[:3, 3] = -turn.T @ matrix[:3, 3]
    return inverse


def compose(*maps: Float) -> Float:
    """The product of maps, the right-most applied first: compose(c_from_b, b_from_a) = c_from_a."""
    product = np.eye(4)
    for matrix in maps:
        product = product @ matrix
    return product


def apply(b_from_a: Float, points: ArrayLike) -> Float:
    """Points (..., 3) of world a in world b, mm."""
    matrix = np.asarray(b_from_a, float)
    return np.asarray(np.asarray(points, float) @ matrix[:3, :3].T + matrix[:3, 3])
