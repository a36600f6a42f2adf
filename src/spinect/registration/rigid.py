"""One rigid motion for all landmarks, with single bad points left out."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.errors import ConfigError
from spinect.geometry.landmarks import Key, Landmarks
from spinect.geometry.transform import apply
from spinect.registration.points import (
    LEAST_SPREAD_MM,
    check_mirror,
    check_spread,
    kabsch,
    singular,
    spread,
)
from spinect.registration.result import RigidFit, piece_of, rank

Float = NDArray[np.float64]

OUTLIER_SD: Final = 6.0  # distances of normal noise stay below 5 SD per axis (p = 2e-5)
OUTLIER_MM: Final = 10.0  # nothing nearer is called a bad landmark: bending alone reaches this
MAXWELL_MEDIAN: Final = 1.538  # median length of a 3D normal vector of SD 1
LEAST_NOISE_MM: Final = 1.0  # no landmark difference is believed to be known better (assumed)


def fit_rigid(moving: Landmarks, fixed: Landmarks, *, robust_share: float = 0.2) -> RigidFit:
    """Least-squares rigid map of one image's landmarks onto another's.

    Args:
        moving: Named points, mm, RAS+ world of the moving image.
        fixed: Named points, mm, RAS+ world of the fixed image; only common names count.
        robust_share: At most this share of the landmarks is left out; 0 keeps all.
    Returns:
        The fit; its matrix is moving_from_fixed.
    Raises:
        LandmarkError: Fewer than 3 common names, points on one line, or mirrored sets.
        ConfigError: The share is not in [0, 0.5).

    Source: Umeyama, IEEE TPAMI 13:376 (1991), eq. 40-43, with the scale fixed to 1.
    """
    check_share(robust_share)
    keys = fixed.common(moving)
    x, y = fixed.array(keys), moving.array(keys)
    check_spread(x, "fixed image")
    check_spread(y, "moving image")
    kept = _inliers(y, x, int(robust_share * len(keys)))
    check_mirror(y[kept], x[kept])
    matrix = kabsch(y[kept], x[kept])
    left = np.linalg.norm(y - apply(matrix, x), axis=1)
    free = max(3 * int(kept.sum()) - 6, 1)
    noise = float(np.sqrt((left[kept] ** 2).sum() / free))
    extent = singular(x[kept])
    used = [k for k, keep in zip(keys, kept, strict=True) if keep]
    return RigidFit(
        moving_from_fixed=matrix,
        residual_mm={k: float(r) for k, r in zip(keys, left, strict=True)},
        rejected=tuple(k for k in keys if k not in used),
        loo_mm=_leave_out(used, y[kept], x[kept]),
        noise_mm=noise,
        spread_mm=float(extent[1]),
        axial_error_deg=axial_error(x[kept], noise),
    )


def check_share(robust_share: float) -> None:
    """Raise ConfigError unless the share of landmarks to leave out makes sense."""
    if not 0 <= robust_share < 0.5:
        raise ConfigError(
            f"robust_share is {robust_share}: choose the largest share of landmarks that may be "
            "left out, from 0 to below 0.5"
        )


def axial_error(points: Float, noise_mm: float) -> float:
    """Expected SD of the rotation about the points' long axis, degrees.

    Args:
        points: (N, 3) fixed points, mm.
        noise_mm: SD per axis of a landmark difference; `LEAST_NOISE_MM` where it is smaller.
    """
    _, second, third = singular(points)
    lever = np.sqrt(len(points) * (second**2 + third**2))
    # Beyond a quarter turn the linear formula says no more than "unknown".
    return float(min(np.rad2deg(max(noise_mm, LEAST_NOISE_MM) / lever), 90.0))


def _inliers(moving: Float, fixed: Float, budget: int) -> NDArray[np.bool_]:
    """(N,) which landmarks stay: the worst one goes, at most `budget` times."""
    kept = np.ones(len(fixed), bool)
    for _ in range(budget):
        apart = np.full(len(fixed), -1.0)
        for one in np.flatnonzero(kept):
            others = kept.copy()
            others[one] = False
            if others.sum() >= 3 and spread(fixed[others]) >= LEAST_SPREAD_MM:
                guess = apply(kabsch(moving[others], fixed[others]), fixed[one])
                apart[one] = np.linalg.norm(moving[one] - guess)
        known = apart[apart >= 0]
        if not known.size:
            break
        scale = float(np.median(known)) / MAXWELL_MEDIAN
        if apart.max() <= max(OUTLIER_SD * scale, OUTLIER_MM):
            break
        kept[int(apart.argmax())] = False
    return kept


def _leave_out(keys: list[Key], moving: Float, fixed: Float) -> dict[int, float]:
    """Mean distance at each vertebra's landmarks under the fit of the others."""
    pieces = np.array([piece_of(v) for v, _ in keys])
    found = {}
    for piece in sorted(set(pieces.tolist()), key=rank):
        out = pieces == piece
        rest = fixed[~out]
        if len(rest) >= 3 and spread(rest) >= LEAST_SPREAD_MM:
            guess = apply(kabsch(moving[~out], rest), fixed[out])
            found[piece] = float(np.linalg.norm(moving[out] - guess, axis=1).mean())
    return found
