"""Rigid motions as vectors and back: the logarithm and exponential of SE(3).

A twist is (rotation vector in radians, translation part in mm): the motion exp(twist) is reached
at time 1 by the constant screw motion x' = w x x + v.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Float = NDArray[np.float64]
SMALL: float = 1e-4  # rad; below it the series is exact to rounding


def cross(vector: Float) -> Float:
    """(3, 3) matrix of the cross product with a vector from the left."""
    x, y, z = vector
    return np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])


def log_motion(matrix: Float) -> Float:
    """(6,) twist of a rigid map (4, 4); its rotation must stay below half a turn."""
    turn = Rotation.from_matrix(matrix[:3, :3]).as_rotvec()
    angle, w = float(np.linalg.norm(turn)), cross(turn)
    # 1/a^2 - cot(a/2) / (2a), which tends to 1/12
    factor = 1 / 12 + angle**2 / 720
    if angle > SMALL:
        factor = 1 / angle**2 - 1 / (2 * angle * np.tan(angle / 2))
    shift = (np.eye(3) - w / 2 + factor * (w @ w)) @ matrix[:3, 3]
    return np.concatenate([turn, shift])


def move(twists: NDArray[Any], points: NDArray[Any]) -> NDArray[Any]:
    """Points moved by exp of their own twist, in the points' precision.

    Args:
        twists: (..., 6), rotation vector then translation part.
        points: (..., 3) mm.
    """
    w, v = twists[..., :3], twists[..., 3:]
    square = (w**2).sum(-1, keepdims=True)
    angle = np.sqrt(square)
    tiny = angle < SMALL
    safe, safe2 = np.where(tiny, 1, angle), np.where(tiny, 1, square)
    first = np.where(tiny, 1 - square / 6, np.sin(angle) / safe)
    half = np.sin(angle / 2)
    second = np.where(tiny, 0.5 - square / 24, 2 * half * half / safe2)
    third = np.where(tiny, 1 / 6 - square / 120, (1 - first) / safe2)
    # With u = w x p + v: exp(twist) p = p + u + (1-cos)/a^2 w x u + (a-sin)/a^3 w x (w x u)
    u = np.cross(w, points) + v
    wu = np.cross(w, u)
    return np.asarray(points + u + second * wu + third * np.cross(w, wu))


def exp_motion(twist: Float) -> Float:
    """(4, 4) rigid map of a twist (6,)."""
    matrix = np.eye(4)
    matrix[:3, 3] = move(twist, np.zeros(3))
    matrix[:3, :3] = Rotation.from_rotvec(twist[:3]).as_matrix()
    return matrix
