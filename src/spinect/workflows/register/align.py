"""From a pair's landmarks to its registration, and the last word on its verdict."""

from dataclasses import replace
from typing import Final

import numpy as np

from spinect.errors import LandmarkError
from spinect.geometry import Grid
from spinect.geometry.landmarks import Landmarks
from spinect.geometry.transform import apply
from spinect.registration import Quality, Registration, align_centres, register
from spinect.workflows.register.loading import Inputs
from spinect.workflows.register.options import RegisterOptions

NAN: Final = float("nan")
RIGIDITY_MM: Final = 0.5  # bone that bends more than this is no longer bone
LEAST_COVER: Final = 0.05  # of the MR; less is not worth a pair
WHOLE_COVER: Final = 0.999  # said as "all of it"


def align(inputs: Inputs, options: RegisterOptions) -> Registration:
    """The registration that the options ask for.

    Raises:
        LandmarkError: As `registration.register`.
    """
    if options.points == "0":
        return unregistered(inputs, options.frame == "header")
    if inputs.ct_points is None or inputs.mr_points is None:
        raise LandmarkError("both scans need landmarks, or register with 0 points")
    return register(
        inputs.ct_points, inputs.mr_points, options.points, options.motion, options.robust_share
    )


def unregistered(inputs: Inputs, same_frame: bool) -> Registration:
    """The CT where its header, or the middle of its image, puts it; always for review.

    Landmarks, where both scans have them, only say how far off that is.
    """
    matrix = align_centres(inputs.ct.grid, inputs.mr.grid, same_frame)
    ct, mr = inputs.ct_points, inputs.mr_points
    keys = mr.common(ct) if ct is not None and mr is not None else ()
    apart: dict[tuple[int, int], float] = {}
    if ct is not None and mr is not None:
        apart = {k: float(np.linalg.norm(ct[k] - apply(matrix, mr[k]))) for k in keys}
    how = "where the headers put them" if same_frame else "with the image centres put together"
    return Registration(
        ct_from_mr=matrix,
        vertebrae={},
        anchors=Landmarks({k: mr[k] for k in keys} if mr is not None else {}),
        residual_mm=apart,
        rejected=(),
        loo_mm={},
        natural_mm=NAN,
        natural_all_mm=NAN,
        spread_mm=NAN,
        axial_error_deg=NAN,
        verdict="review",
        reason=f"not registered: the scans lie {how}",
        notes=(),
    )


def judged(
    registration: Registration, quality: Quality | None, cover: float, mr: Grid
) -> Registration:
    """The registration with what the finished images say about it.

    Args:
        quality: Of the field over bone; None for a rigid motion, or without a mask.
        cover: Share of the MR's voxels that the CT reaches.
    """
    notes, doubts = list(registration.notes), []
    if cover < WHOLE_COVER:
        notes.append(
            f"the CT covers {cover:.0%} of the MR ({mr}); beyond it there are -1000 HU, not valid"
        )
    if registration.vertebrae and quality is None:
        notes.append("no vertebra mask of either scan: how rigid bone stayed is not measured")
    if quality is not None and quality.rigidity_mm > RIGIDITY_MM:
        doubts.append(
            f"bone bends by {quality.rigidity_mm:.2f} mm (95 %), more than {RIGIDITY_MM:g} mm"
        )
    if quality is not None and quality.min_jacobian <= 0:
        doubts.append(f"the motion folds space (least Jacobian {quality.min_jacobian:.2f})")
    verdict, reason = registration.verdict, registration.reason
    if cover < LEAST_COVER:
        verdict = "reject"
        reason = (
            f"the CT covers {cover:.1%} of the MR: are they of one patient and one region, and do "
            "their headers share a frame?"
        )
    elif doubts and verdict == "accept":
        verdict, reason = "review", "; ".join(doubts)
    elif doubts:
        reason = "; ".join([reason, *doubts])
    return replace(registration, verdict=verdict, reason=reason, notes=tuple(notes))
