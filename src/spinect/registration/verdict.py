"""Whether a registration can be used: accept, review or reject, with the reason."""

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from scipy.spatial.transform import Rotation

from spinect.geometry.landmarks import Key, Landmarks
from spinect.geometry.transform import apply
from spinect.registration.points import (
    SAFE_SPREAD_MM,
    Float,
    kabsch,
    level,
    relabelled,
    renamed,
)
from spinect.registration.result import Verdict
from spinect.registration.shift import LARGEST, level_odds

# Assumed limits on the RMS distance of landmarks: two careful markings 2 mm apart per axis and
# scan leave 4.9 mm.
REVIEW_RMS_MM: Final = 6.5
REJECT_RMS_MM: Final = 12.0
REVIEW_LOO_MM: Final = 15.0  # a left-out vertebra half a level away from its prediction
REVIEW_NATURAL_MM: Final = 6.0
REVIEW_SHARE: Final = 0.1  # of the landmarks rejected
FALSE_ALARM: Final = 0.01  # bound on the share of right names that the odds call shifted
SAME_PLACE_MM: Final = 10.0  # of one landmark in two scans of one frame, a person breathing between
HALF_LEVEL_MM: Final = 15.0  # neighbouring lumbar bodies lie 30 to 38 mm apart
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


class Judgement(NamedTuple):
    """A verdict with its reason, and what else a reader must know."""

    verdict: Verdict
    reason: str
    notes: tuple[str, ...] = ()


def judge_levels(verdict: Verdict, reason: str, ct: Landmarks, mr: Landmarks) -> Judgement:
    """The verdict on a fit, with what the landmarks say about the names of its levels.

    Args:
        verdict, reason: Of `judge`.
        ct, mr: The landmarks of the registration in the world of each scan, also those that the
            other scan has not; without those that are bad under any names.
    Returns:
        "reject" where other names are beyond doubt more probable; at least "review" where the
        headers speak for other names and the landmarks do not exclude them.
    """
    odds = level_odds(ct, mr)
    needed = len(odds) / FALSE_ALARM
    best = max(odds, key=lambda s: odds[s], default=0)
    if best and odds[best] > needed:
        as_named, new = (_rms(marks, mr) for marks in (ct, relabelled(ct, best, mr.vertebrae)))
        return Judgement("reject", (
            f"the levels look shifted: the landmarks fit to {new:.1f} mm (RMS) instead of "
            f"{as_named:.1f} mm, and are {_times(odds[best])} times more probable, when the CT's "
            f"names move {_moved(best, ct, mr)}: correct the levels of one scan, or match them by "
            "position"
        ))  # fmt: skip
    hint = _header_hint(ct, mr, {s for s, found in odds.items() if found * needed < 1})
    if hint and verdict == "accept":
        verdict, reason = "review", hint
    elif hint:
        reason = f"{reason}; {hint}"
    if not odds:
        note = "too few landmarks to tell whether the levels are shifted: count them in the picture"
    elif odds[best] * needed < 1:
        return Judgement(verdict, reason)
    else:
        note = (
            f"the landmarks do not exclude that the CT's names should move {_moved(best, ct, mr)} "
            f"(odds {odds[best]:.2g}): count the levels in the picture"
        )
    return Judgement(verdict, reason, (note,))


def _header_hint(ct: Landmarks, mr: Landmarks, excluded: set[int]) -> str:
    """What is odd about where the headers put bones of one name; empty where nothing is."""
    apart = {s: _apart(relabelled(ct, s, mr.vertebrae), mr) for s in range(-LARGEST, LARGEST + 1)}
    best = min((s for s in apart if s not in excluded), key=lambda s: apart[s])
    if best == 0 or not (apart[0] > HALF_LEVEL_MM and apart[best] < SAME_PLACE_MM):
        return ""
    return (
        f"where the headers put the scans, landmarks of one name lie {apart[0]:.0f} mm apart, but "
        f"{apart[best]:.0f} mm when the CT's names move {_moved(best, ct, mr)}: if the scans "
        "share a frame, the levels are shifted"
    )


def _apart(ct: Landmarks, mr: Landmarks) -> float:
    """Median distance of common landmarks before any fit, mm; infinite without any."""
    keys = mr.common(ct)
    away = np.linalg.norm(ct.array(keys) - mr.array(keys), axis=1)
    return float(np.median(away)) if keys else float("inf")


def _rms(ct: Landmarks, mr: Landmarks) -> float:
    """RMS distance that one rigid motion leaves, mm."""
    keys = mr.common(ct)
    x, y = mr.array(keys), ct.array(keys)
    return float(np.sqrt(((y - apply(kabsch(y, x), x)) ** 2).sum(1).mean()))


def _times(odds: float) -> str:
    return f"{odds:.2g}" if odds < 1000 else "over 1000"


def _moved(steps: int, ct: Landmarks, mr: Landmarks) -> str:
    """A renaming in words, with an example."""
    first = ct.vertebrae[0]
    new = renamed((*ct.vertebrae, *mr.vertebrae), steps).get(first)
    example = f", so its {level(first)} is {level(new)}" if new else ""
    return f"{abs(steps)} level(s) towards the {'feet' if steps > 0 else 'head'}{example}"
