"""Registration errors at points, and whether two labelled scans name their levels alike."""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from spinect.anatomy import POSTERIOR, SACRUM, VERTEBRAE
from spinect.errors import GeometryError, LandmarkError
from spinect.evaluation.measures import Value
from spinect.geometry import Volume
from spinect.geometry.landmarks import BODY_CENTRE, Landmarks
from spinect.geometry.transform import apply

Float = NDArray[np.float64]
Motion = Callable[[int], Float]  # vertebra id -> (4, 4), mm -> mm, RAS+

SAME_MM: Final = 20.0  # bodies farther apart are not the same; neighbours in the neck are closer


def target_errors(
    points: Float, vertebrae: NDArray[np.integer], truth: Motion, estimate: Motion
) -> Float:
    """(N,) distance between where each point goes and where it belongs, mm.

    Args:
        points: (N, 3) mm, RAS+ world of the fixed image.
        vertebrae: (N,) the vertebra that each point belongs to.
        truth, estimate: moving_from_fixed of a vertebra; a rigid estimate ignores its argument.
    """
    errors = np.empty(len(points))
    for vertebra in np.unique(vertebrae).tolist():
        own = vertebrae == vertebra
        apart = apply(estimate(vertebra), points[own]) - apply(truth(vertebra), points[own])
        errors[own] = np.linalg.norm(apart, axis=1)
    return errors


def landmark_errors(points: Landmarks, truth: Motion, estimate: Motion) -> list[Value]:
    """Target registration error of landmarks that the estimate was not fitted to.

    Returns:
        "landmarks", item "": tre (mean), tre_p95, tre_max, mm.
    Raises:
        LandmarkError: There is no landmark.
    """
    if not len(points):
        raise LandmarkError("the registration error needs at least one landmark: there is none")
    vertebrae = np.array([vertebra for vertebra, _ in points])
    return _summary("landmarks", target_errors(points.array(), vertebrae, truth, estimate))


def bone_errors(
    vertebrae: Volume, subregions: Volume, truth: Motion, estimate: Motion
) -> list[Value]:
    """Target registration error over all voxels of bone.

    Args:
        vertebrae, subregions: Labels of the fixed image on one grid.
    Returns:
        tre (mean over voxels), tre_p95, tre_max, mm, of "bone" (every vertebra, the sacrum
        included) and of "posterior" (41-48 outside the sacrum); not numbers where there is none.
    Raises:
        GeometryError: The two volumes do not lie on one grid.
    """
    if not vertebrae.grid.matches(subregions.grid):
        raise GeometryError(
            f"vertebrae and subregions lie on different grids: {vertebrae.grid} against "
            f"{subregions.grid}. Bring one onto the other first: resample(subregions, grid)"
        )
    where = np.nonzero(vertebrae.data)
    own = vertebrae.data[where]
    errors = target_errors(vertebrae.grid.world(np.stack(where, -1)), own, truth, estimate)
    behind = np.isin(subregions.data[where], POSTERIOR) & ~np.isin(own, list(SACRUM))
    return _summary("bone", errors) + _summary("posterior", errors[behind])


def _summary(region: str, errors: Float) -> list[Value]:
    names = ("tre", "tre_p95", "tre_max")
    if not errors.size:
        return [Value(region, "", name, float("nan"), "no point of it") for name in names]
    numbers = errors.mean(), np.percentile(errors, 95), errors.max()
    return [Value(region, "", n, float(x)) for n, x in zip(names, numbers, strict=True)]


def level_agreement(estimate: Landmarks, truth: Landmarks) -> list[Value]:
    """Share of the bodies that two labelled sets have in common which bear the same name.

    Bodies (subregion 50) are paired one-to-one so that the sum of their distances is smallest, any
    distance above 20 mm counting as 20 mm; pairs within 20 mm are the common bodies. Not as many
    pairs as possible: in the neck that would pair neighbours. Sacral bodies count.

    Args:
        estimate, truth: mm, RAS+, in one world: move one set first where there are two.
    Returns:
        level_agreement of "vertebral_body", item ""; the note names those that differ. Not a
        number without a common body.
    """
    mine, true = estimate.of([BODY_CENTRE]), truth.of([BODY_CENTRE])
    apart = np.linalg.norm(mine.array()[:, None] - true.array()[None], axis=-1)
    rows, columns = linear_sum_assignment(np.minimum(apart, SAME_MM))
    pairs = [
        (mine.vertebrae[r], true.vertebrae[c])
        for r, c in zip(rows, columns, strict=True)
        if apart[r, c] <= SAME_MM
    ]
    if not pairs:
        note = f"no two of {len(mine)} and {len(true)} bodies lie within {SAME_MM:g} mm"
        return [Value("vertebral_body", "", "level_agreement", float("nan"), note)]
    wrong = [f"{VERTEBRAE[t]} is called {VERTEBRAE[m]}" for m, t in pairs if m != t]
    share = 1 - len(wrong) / len(pairs)
    return [Value("vertebral_body", "", "level_agreement", share, ", ".join(wrong))]
