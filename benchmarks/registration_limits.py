"""What a registration must keep: space unfolded, bone rigid, and exact landmarks exact.

Part of `registration.py`, which runs it on all subjects.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from common import table
from registration_cases import Case, Float, errors, make_case, motions, scans
from spinect.geometry import Volume
from spinect.geometry.landmarks import Landmarks
from spinect.registration import displacement, quality, register
from spinect.registration.points import LEAST_SPREAD_MM, spread
from spinect.registration.result import Points, piece_of

FIELD_DEGREES: Final = (2.0, 4.0)
EXACT_DEGREES: Final = 4.0
LEVELS: Final[tuple[Points, ...]] = ("2", "all")
AROUND_MM: Final = 15.0  # of the bone: farther away every field is smooth
RIGIDITY_MM: Final = 0.5
EXACT_MM: Final = 0.2
RIGID_MM: Final = 1e-6
Key = tuple[float, str]  # degrees, method


def fields(job: tuple[int, float, int]) -> dict[Key, Float]:
    """(degrees, method) -> least Jacobian, bone's 95 % mm, % outside [0.5, 2]: box, bone; folds.

    Args:
        job: Seed of the subject, noise in mm, seed of the motion.
    """
    seed, noise, motion = job
    case = make_case(seed, spacing=1.0)
    mask = near_bone(case.mask)
    found = {}
    for degrees in FIELD_DEGREES:
        ct, mr = scans(case, motions(case, degrees, motion), noise, motion)
        for points in LEVELS:
            result = register(ct, mr, points, "polyrigid")
            field = displacement(result, mask.grid, mask)
            q = quality(field, mask)
            folds = float((field.jacobian <= 0).sum())
            shares = [100 * q.outside, 100 * q.outside_bone]
            values = [q.min_jacobian, q.rigidity_mm, *shares, folds]
            found[degrees, f"polyrigid-{points}"] = np.array(values)
    return found


def near_bone(mask: Volume) -> Volume:
    """The part of a mask within `AROUND_MM` of bone."""
    (box,) = ndimage.find_objects((mask.data > 0).astype(np.uint8))
    margin = np.ceil(AROUND_MM / mask.grid.spacing).astype(int)
    low = np.maximum([b.start for b in box] - margin, 0)
    high = np.minimum([b.stop for b in box] + margin, mask.data.shape)
    data = mask.data[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return Volume(np.ascontiguousarray(data), mask.grid.crop(low, data.shape).affine, "labels")


def fields_text(subjects: list[dict[Key, Float]]) -> str:
    """Worst and mean of all subjects beside what was asked."""
    header = ["fields", "least Jacobian", "asked", "folded voxels", "rigidity 95 % mm, worst",
              "mean", "asked", "% outside [0.5, 2], worst", "mean", "in bone, worst",
              "mean"]  # fmt: skip
    rows: list[list[object]] = []
    for degrees, name in subjects[0]:
        least, bend, outside, bone, folds = np.array([s[degrees, name] for s in subjects]).T
        rows.append([
            f"{name}, {degrees:g} degrees", float(least.min()), "> 0", int(folds.sum()),
            float(bend.max()), float(bend.mean()), f"<= {RIGIDITY_MM:g}", float(outside.max()),
            float(outside.mean()), float(bone.max()), float(bone.mean()),
        ])  # fmt: skip
    return table(header, rows)


def exact(case: Case, seeds: tuple[int, ...]) -> dict[str, NDArray[np.float64]]:
    """Method -> (motions, 4) errors with exact landmarks, mm.

    Columns: max and 95 % over all bone; max over bone whose own landmarks determine its motion,
    and its share in %.
    """
    found: dict[str, list[list[float]]] = {}
    for degrees in (0.0, EXACT_DEGREES):
        for seed in seeds:
            truth = motions(case, degrees, seed)
            ct, mr = scans(case, truth, 0.0, seed)
            for points in LEVELS:
                models = ("polyrigid",) if degrees else ("rigid", "polyrigid")
                for model in models:
                    result = register(ct, mr, points, model)
                    away = errors(case, truth, result.of)
                    marks = Landmarks({k: mr[k] for k in result.residual_mm})
                    known = determined(case, marks) if degrees else np.ones(len(away), bool)
                    sure = away[known].max() if known.any() else np.nan
                    row = [away.max(), np.percentile(away, 95), sure, 100 * known.mean()]
                    name = f"{model}-{points}, {degrees:g} degrees"
                    found.setdefault(name, []).append([float(v) for v in row])
    return {name: np.array(rows) for name, rows in found.items()}


def determined(case: Case, mr: Landmarks) -> NDArray[np.bool_]:
    """Bone voxels of pieces with three of these landmarks or more, not on one line."""
    enough = []
    for vertebra in np.unique(case.vertebra):
        own = [k for k in mr if piece_of(k[0]) == piece_of(int(vertebra))]
        if len(own) >= 3 and spread(mr.array(own)) >= LEAST_SPREAD_MM:
            enough.append(vertebra)
    return np.isin(case.vertebra, enough)


def exact_text(subjects: list[dict[str, NDArray[np.float64]]]) -> str:
    """Worst of all subjects and motions beside what was asked."""
    header = ["exact landmarks", "max over bone, mm", "95 %", "max where determined",
              "least % determined", "asked of that max"]  # fmt: skip
    rows: list[list[object]] = []
    for name in subjects[0]:
        top, most, known, share = np.concatenate([s[name] for s in subjects]).T
        asked = f"<= {RIGID_MM:g}" if "0 degrees" in name else f"<= {EXACT_MM:g}"
        if name.startswith("polyrigid-2") and "0 degrees" not in name:
            asked = "none"
        values = [f"{v:.2g}" for v in (top.max(), most.max(), np.fmax.reduce(known))]
        rows.append([name, *values, float(share.min()), asked])
    return table(header, rows)
