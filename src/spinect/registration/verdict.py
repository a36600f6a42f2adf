"""Whether a registration can be used: accept, review or reject, with the reason."""

from collections.abc import Mapping
from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from spinect.geometry.landmarks import Key
from spinect.registration.points import SAFE_SPREAD_MM, Float, level
from spinect.registration.result import Verdict

# Assumed limits on the RMS distance of landmarks: two careful markings 2 mm apart per axis and
# scan leave 4.9 mm.
REVIEW_RMS_MM: Final = 6.5
REJECT_RMS_MM: Final = 12.0
REVIEW_LOO_MM: Final = 15.0  # a left-out vertebra half a level away from its prediction
REVIEW_NATURAL_MM: Final = 6.0
REVIEW_SHARE: Final = 0.1  # of the landmarks rejected
REVIEW_TURN_DEG: Final = 45.0  # no two scans of a lying person differ by more


def judge(
    matrix: Float,
    residual_mm: Mapping[Key, float],
    rejected: tuple[Key, ...],
    loo_mm: Mapping[int, float],
    natural_mm: float,
    axial: tuple[float, float],
) -> tuple[Verdict, str]:
    """The verdict on a registration whose levels are right.

    Args:
        axial: (spread in mm, expected axial rotation error in degrees).
    Returns:
        Verdict and reason; the reason names every limit that was passed.
    """
    used = [r for k, r in residual_mm.items() if k not in rejected]
    rms = float(np.sqrt(np.mean(np.square(used))))
    if rms > REJECT_RMS_MM:
        return "reject", (
            f"the landmarks stay {rms:.1f} mm apart (RMS), more than {REJECT_RMS_MM:g} mm: "
            "check the patient, the levels and the points"
        )
    found = []
    spread, degrees = axial
    if spread < SAFE_SPREAD_MM:
        found.append(
            f"the points lie within {spread:.1f} mm of one line, so the rotation about it is "
            f"uncertain by {degrees:.1f} degrees (SD): add a second point per vertebra"
        )
    if rms > REVIEW_RMS_MM:
        found.append(f"the landmarks stay {rms:.1f} mm apart (RMS)")
    if natural_mm > REVIEW_NATURAL_MM:
        found.append(f"distances between neighbours differ by {natural_mm:.1f} mm between scans")
    if len(rejected) > REVIEW_SHARE * len(residual_mm):
        found.append(f"{len(rejected)} of {len(residual_mm)} landmarks were rejected")
    far = {v: e for v, e in loo_mm.items() if e > REVIEW_LOO_MM}
    if far:
        worst = max(far, key=lambda v: far[v])
        found.append(f"{level(worst)} lies {far[worst]:.1f} mm from where the others predict it")
    turn = float(np.rad2deg(Rotation.from_matrix(matrix[:3, :3]).magnitude()))
    if turn > REVIEW_TURN_DEG:
        found.append(f"the scans are turned by {turn:.0f} degrees against each other")
    if found:
        return "review", "; ".join(found)
    return "accept", f"the landmarks agree to {rms:.1f} mm (RMS)"
