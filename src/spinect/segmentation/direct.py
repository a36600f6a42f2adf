"""Mask heads -> instances -> levels -> vertebra and subregion ids -> table, on the heads' grid."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from spinect.anatomy import SACRUM, VERTEBRAE
from spinect.evaluation.overlap import dice, match
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.inference import MaskHeads
from spinect.segmentation.instances import find_instances
from spinect.segmentation.levels import assign_levels
from spinect.segmentation.result import Instances, Level, Segmentation
from spinect.segmentation.sides import Float, midplanes
from spinect.segmentation.subregions import SacralAxis, sacral_axis, sacrum_ids, subregion_map
from spinect.segmentation.table import vertebra_rows

POOR_AGREEMENT: Final = 0.5  # Dice; at or below it the evaluation counts a vertebra as missed


def segment_heads(
    masks: MaskHeads,
    ct: Volume | None,
    *,
    lowest: int | None = None,
    highest: int | None = None,
    single_sacrum: bool = False,
) -> Segmentation:
    """Named vertebrae and their subregions out of what a network says about each voxel.

    Args:
        masks: On an isotropic grid with axes near R, A, S.
        ct: HU of the same body on any grid, for the table's mean HU; None leaves that column out.
        lowest: Vertebra id of the lowest vertebra in the image, if it is known.
        highest: Vertebra id of the highest one.
        single_sacrum: Every sacral voxel becomes 26 instead of S1-S5 and coccyx.
    Returns:
        Label maps on `masks.grid`; empty maps and no rows where there is no vertebra.
    """
    found = _named(masks, lowest, highest, single_sacrum)
    parts = found.vertebrae.with_data(
        subregion_map(masks, found.instances, found.planes, found.axis)
    )
    there = None if ct is None else resample(ct, masks.grid)
    rows = vertebra_rows(found.vertebrae, parts, found.levels, there, masks.inside, None)
    return Segmentation(found.vertebrae, parts, rows, found.warnings)


def name_vertebrae(
    masks: MaskHeads,
    *,
    lowest: int | None = None,
    highest: int | None = None,
    single_sacrum: bool = False,
) -> Volume:
    """Only the vertebra ids of `segment_heads`, which need no subregions and no table."""
    return _named(masks, lowest, highest, single_sacrum).vertebrae


@dataclass(frozen=True, eq=False)
class _Named:
    """Vertebra ids, and what was found on the way to them."""

    vertebrae: Volume
    instances: Instances
    planes: Float
    axis: SacralAxis | None
    levels: Mapping[int, Level]
    warnings: tuple[str, ...]


def _named(masks: MaskHeads, lowest: int | None, highest: int | None, single: bool) -> _Named:
    instances = find_instances(masks)
    spacing_mm = float(np.mean(masks.grid.spacing))
    levels, said = assign_levels(instances, spacing_mm, lowest, highest)
    vertebra_of = np.zeros(256, np.uint8)
    vertebra_of[1 : len(levels) + 1] = [level.vertebra for level in levels]
    vertebrae = vertebra_of[instances.labels]
    planes = midplanes(masks, instances)
    axis = sacral_axis(masks, instances, planes)
    sacral = sacrum_ids(instances, axis, single)
    vertebrae = np.where(vertebrae > 0, vertebrae, sacral)
    named = {level.vertebra: level for level in levels}
    # The sacrum is a class of its own: it is recognised, not counted from somewhere else.
    for number in np.unique(sacral[sacral > 0]).tolist():
        named.setdefault(number, Level(number, 1.0, "sacrum"))
    told = tuple(dict.fromkeys((*instances.warnings, *said)))
    names = Volume(vertebrae, masks.grid.affine, "labels")
    return _Named(names, instances, planes, axis, named, told)


def agreement(a: Volume, b: Volume) -> dict[int, float]:
    """How far two label maps of vertebrae of one body agree, one by one, whatever their names.

    Returns:
        Vertebra id in `a` -> Dice, 0-1, with the instance of `b` that is matched one-to-one by
        overlap; 0 where there is none.
    """
    mine = a.data
    other = resample(b, a.grid).data
    partner = match(other, mine)
    return {
        number: dice(other == partner[number], mine == number) if number in partner else 0.0
        for number in np.unique(mine[mine > 0]).tolist()
    }


def with_confidence(segmentation: Segmentation, confidence: Mapping[int, float]) -> Segmentation:
    """The same masks, the table's column `confidence` filled; ids without a value get none.

    A warning names the vertebrae outside the sacrum whose value is below `POOR_AGREEMENT`.
    """
    ids = [int(str(row["id"])) for row in segmentation.rows]
    rows = tuple(
        {**row, "confidence": confidence.get(number)}
        for number, row in zip(ids, segmentation.rows, strict=True)
    )
    poor = [
        VERTEBRAE[number]
        for number in ids
        if number not in SACRUM and confidence.get(number, 1.0) < POOR_AGREEMENT
    ]
    said = segmentation.warnings
    if poor:
        said += (
            f"the two ways to the masks agree by a Dice below {POOR_AGREEMENT:g} on "
            f"{', '.join(poor)}: look at the picture before using them",
        )
    return replace(segmentation, rows=rows, warnings=said)
