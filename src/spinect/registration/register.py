"""From the landmarks of a CT and an MR to a judged registration."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.errors import ConfigError
from spinect.geometry import Grid
from spinect.geometry.landmarks import Landmarks
from spinect.registration import points as sets
from spinect.registration.polyrigid import fit_polyrigid
from spinect.registration.result import Model, Points, PolyrigidFit, Registration, RigidFit
from spinect.registration.rigid import fit_rigid
from spinect.registration.verdict import judge, judge_levels

Float = NDArray[np.float64]
BAD_CLICK_MM: Final = 20.0  # a shift by one level leaves lumbar landmarks nearer than this


def register(
    ct: Landmarks,
    mr: Landmarks,
    points: Points = "2",
    model: Model = "rigid",
    robust_share: float = 0.2,
) -> Registration:
    """Align a CT with an MR by the landmarks that both have.

    Args:
        ct, mr: Named points, mm, RAS+ world of each scan.
        points: "1" body centres, "2" bodies and spinous processes, "all".
        model: "rigid", or "polyrigid" with one rigid motion per vertebra.
        robust_share: At most this share of the landmarks is left out.
    Raises:
        LandmarkError: Too few common landmarks, on one line, or mirrored.
        ConfigError: Unknown points, model or share.
    """
    if points not in ("1", "2", "all") or model not in ("rigid", "polyrigid"):
        raise ConfigError(
            f"no registration with points {points!r} and model {model!r}: points are 1, 2 or all "
            "(0 is align_centres), the model rigid or polyrigid"
        )
    moving, fixed = sets.choose(ct, mr, points)
    fit: RigidFit | PolyrigidFit
    if model == "rigid":
        fit = rigid = fit_rigid(moving, fixed, robust_share=robust_share)
    else:
        fit = fit_polyrigid(moving, fixed, robust_share=robust_share)
        rigid = fit.rigid
    used = sets.without(moving, fit.rejected), sets.without(fixed, fit.rejected)
    natural = sets.natural_error(*used)
    fitted = judge(
        fit.moving_from_fixed,
        fit.residual_mm,
        fit.rejected,
        fit.loo_mm,
        natural,
        (rigid.spread_mm, rigid.axial_error_deg),
    )
    parts = {part for _, part in moving}
    # what wrong names push aside must stay: it is the evidence against them
    bad = [k for k in fit.rejected if fit.residual_mm[k] > BAD_CLICK_MM]
    marks = (sets.without(scan.of(parts), bad) for scan in (ct, mr))
    found = judge_levels(*fitted, *marks)
    return Registration(
        ct_from_mr=fit.moving_from_fixed,
        vertebrae=fit.vertebrae if isinstance(fit, PolyrigidFit) else {},
        anchors=Landmarks({k: p for k, p in fixed.points.items() if k not in fit.rejected}),
        residual_mm=fit.residual_mm,
        rejected=fit.rejected,
        loo_mm=fit.loo_mm,
        natural_mm=natural,
        natural_all_mm=sets.natural_error(moving, fixed),
        spread_mm=rigid.spread_mm,
        axial_error_deg=rigid.axial_error_deg,
        verdict=found.verdict,
        reason=found.reason,
        notes=(*_notes(fit, ct, mr), *found.notes),
    )


def align_centres(ct: Grid, mr: Grid, same_frame: bool) -> Float:
    """ct_from_mr (4, 4) of unregistered scans: the headers, or the image centres put together.

    Args:
        same_frame: The scans share one coordinate frame, so their headers align them already.
    """
    matrix = np.eye(4)
    if not same_frame:
        middle, other = (g.world((np.array(g.shape) - 1) / 2) for g in (mr, ct))
        matrix[:3, 3] = other - middle
    return matrix


def _notes(fit: RigidFit | PolyrigidFit, ct: Landmarks, mr: Landmarks) -> tuple[str, ...]:
    notes = []
    for scan, marks, other in (("MR", mr, ct), ("CT", ct, mr)):
        alone = [v for v in marks.vertebrae if v not in other.vertebrae]
        if alone:
            notes.append(f"only the {scan} has landmarks of {sets.levels(alone)}")
    if fit.rejected:
        names = (f"{sets.name(k)} ({fit.residual_mm[k]:.1f} mm)" for k in fit.rejected)
        notes.append(f"rejected as outliers: {', '.join(names)}")
    if not isinstance(fit, PolyrigidFit):
        return tuple(notes)
    if fit.motion_deg == 0:
        notes.append(
            "motion between vertebrae is below the noise of the landmarks: all move rigidly"
        )
        return tuple(notes)
    notes.append(
        f"vertebrae move against each other by {fit.motion_deg:.1f} degrees per axis (SD), "
        f"landmarks are uncertain by {fit.noise_mm:.1f} mm per axis (SD, both scans)"
    )
    if fit.borrowed:
        notes.append(
            f"the points of {sets.levels(fit.borrowed)} leave a rotation open, which is taken from "
            "the neighbours"
        )
    return tuple(notes)
