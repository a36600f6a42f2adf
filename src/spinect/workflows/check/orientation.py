"""Does the header's world agree with the anatomy in the masks? Only what the masks prove.

Head and feet: the order of vertebra centres. Front and back: bodies lie in front of spinous
processes. Left and right: only sided landmarks tell (43/44, 45/46, 47/48); everything else in a
spine is symmetric, and a mirrored image looks right.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import BODY, ORDER, SACRUM, VERTEBRAE
from spinect.errors import SpinectError
from spinect.geometry import Volume
from spinect.geometry.landmarks import WHOLE, Landmarks, centres_of_mass
from spinect.workflows.check.findings import Finding

Float = NDArray[np.float64]

SIDES: Final = ((43, 44), (45, 46), (47, 48))  # left, right
SPINOUS: Final = 42
ARCUS: Final = 41
CONVERT: Final = "convert the series again from DICOM, or correct the header"
_ALONG: Final = 0.5  # cosine: a direction within 60 degrees of an axis runs along it
_BACK_MM: Final = 1.0  # a step of this much against the order is no rounding


def centres_of(vertebrae: Volume, subregions: Volume | None) -> tuple[Landmarks, Landmarks]:
    """One centre per presacral vertebra, its body's where there is one; and those of all parts.

    Raises:
        LandmarkError, GeometryError: As `centres_of_mass`.
    """
    presacral = np.isin(vertebrae.data, [v for v in ORDER if v not in SACRUM])
    own = vertebrae.with_data(np.where(presacral, vertebrae.data, 0))
    whole = centres_of_mass(own)
    if subregions is None:
        return whole, Landmarks({})
    merged = np.where(np.isin(subregions.data, BODY), BODY[-1], subregions.data)
    parts = centres_of_mass(own, subregions.with_data(merged))
    bodies = parts.of([BODY[-1]])
    chosen = {
        (v, WHOLE): bodies[v, BODY[-1]] if (v, BODY[-1]) in bodies else whole[v, WHOLE]
        for v in whole.vertebrae
    }
    return Landmarks(chosen), parts


def check_orientation(file: str, centres: Landmarks, parts: Landmarks) -> Iterator[Finding]:
    """What contradicts the header, and what cannot be known from these masks."""
    unknown = []
    if len(centres) < 2:
        unknown.append("head/feet (fewer than two vertebrae)")
    else:
        yield from _along_the_spine(file, centres)
    forward = _arrows(parts, SPINOUS) or _arrows(parts, ARCUS)
    if not forward:
        unknown.append("front/back (no body with a spinous process or arcus)")
    else:
        yield from _front_back(file, forward)
    sided = [parts[v, r] - parts[v, s] for s, r in SIDES for v in parts.vertebrae
             if (v, s) in parts and (v, r) in parts]  # fmt: skip
    if not sided:
        unknown.append("left/right (no sided landmarks 43-48)")
    else:
        yield from _left_right(file, sided)
    if unknown:
        yield Finding(
            "not-determinable",
            file,
            f"not determinable: {'; '.join(unknown)}",
            "nothing, or look at the image",
        )


def _along_the_spine(file: str, centres: Landmarks) -> Iterator[Finding]:
    points = centres.array()
    axis = np.linalg.svd(points - points.mean(0))[2][0]
    axis = axis * (np.sign((points[-1] - points[0]) @ axis) or 1.0)  # head to feet, by the names
    steps = np.diff(points @ axis)
    names = [VERTEBRAE[v] for v in centres.vertebrae]
    wrong = [f"{names[i]}-{names[i + 1]}" for i in np.flatnonzero(steps < -_BACK_MM)]
    if wrong:
        yield Finding(
            "level-order",
            file,
            f"not in their order along the spine: {', '.join(wrong)}",
            "correct the vertebra ids; they count from head to feet",
        )
    down = float(-axis[2])
    if down < _ALONG:
        ends = f"{names[0]} at z {points[0, 2]:.0f} mm, {names[-1]} at {points[-1, 2]:.0f} mm"
        where = "feet to head" if down < -_ALONG else f"along {_axis(axis)}"
        yield Finding(
            "head-feet",
            file,
            f"the vertebrae run {where} by the header ({ends})",
            f"{CONVERT} of image and mask; if the image is right, the vertebra ids are reversed",
        )


def _arrows(parts: Landmarks, behind: int) -> list[Float]:
    """From what lies behind to the body, mm, for each vertebra that has both."""
    body = BODY[-1]
    return [
        parts[v, body] - parts[v, behind]
        for v in parts.vertebrae
        if (v, body) in parts and (v, behind) in parts
    ]


def _front_back(file: str, forward: list[Float]) -> Iterator[Finding]:
    mean = np.mean(forward, axis=0)
    flat = mean * (1, 1, 0)  # spinous processes hang down, which is not forward
    share = float(flat[1] / max(np.linalg.norm(flat), 1e-9))
    if share < _ALONG:
        where = "behind" if share < -_ALONG else f"along {_axis(flat)} from"
        yield Finding(
            "front-back",
            file,
            f"the bodies lie {where} the spinous processes by the header "
            f"({mean[1]:+.0f} mm forward, {mean[0]:+.0f} mm to the right, mean of {len(forward)})",
            f"{CONVERT} of image and mask",
        )


def _left_right(file: str, sided: list[Float]) -> Iterator[Finding]:
    across = np.array(sided)[:, 0]
    if across.mean() > 0:
        return
    yield Finding(
        "left-right",
        file,
        f"what is labelled right lies {-across.mean():.0f} mm to the left by the header "
        f"({int((across < 0).sum())} of {len(across)} pairs)",
        "the image is mirrored, or the sides of the labels are swapped: compare with the DICOM",
    )


def _axis(direction: Float) -> str:
    return ("left-right", "front-back", "head-feet")[int(np.argmax(np.abs(direction)))]


def determine(
    file: str, vertebrae: Volume, subregions: Volume | None
) -> tuple[Landmarks, list[Finding]]:
    """Centres of the vertebrae and the findings of a pair of masks; unusable masks give none."""
    usable = subregions is not None and subregions.grid.matches(vertebrae.grid)
    try:
        centres, parts = centres_of(vertebrae, subregions if usable else None)
    except SpinectError:  # said by the checks of contents and grids
        return Landmarks({}), []
    return centres, list(check_orientation(file, centres, parts))
