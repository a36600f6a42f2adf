"""Mask heads -> instances -> levels -> vertebra and subregion ids -> table, on the heads' grid."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from spinect.anatomy import SACRUM, VERTEBRAE
from spinect.evaluation.overlap import dice, match
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.inference import MaskHeads
from spinect.segmentation.instances import find_instances
from spinect.segmentation.levels import assign_levels
from spinect.segmentation.result import Level, Segmentation
from spinect.segmentation.subregions import sacrum_ids, subregion_map
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
    instances = find_instances(masks)
    spacing_mm = float(np.mean(masks.grid.spacing))
    levels, said = assign_levels(instances, spacing_mm, lowest, highest)
    vertebra_of = np.zeros(256, np.uint8)
    vertebra_of[1 : len(levels) + 1] = [level.vertebra for level in levels]
    vertebrae = vertebra_of[instances.labels]
    sacral = sacrum_ids(masks, instances, single_sacrum)
    vertebrae = np.where(vertebrae > 0, vertebrae, sacral)
    named = {level.vertebra: level for level in levels}
    # The sacrum is a class of its own: it is recognised, not counted from somewhere else.
    for number in np.unique(sacral[sacral > 0]).tolist():
        named.setdefault(number, Level(number, 1.0, "sacrum"))
    affine = masks.grid.affine
    names = Volume(vertebrae, affine, "labels")
    parts = Volume(subregion_map(masks, instances), affine, "labels")
    there = None if ct is None else resample(ct, masks.grid)
    rows = vertebra_rows(names, parts, named, there, masks.inside, None)
    return Segmentation(names, parts, rows, tuple(dict.fromkeys((*instances.warnings, *said))))


def agreement(a: Segmentation, b: Segmentation) -> dict[int, float]:
    """How far two segmentations of one body agree, vertebra by vertebra, whatever their names.

    Returns:
        Vertebra id in `a` -> Dice, 0-1, with the instance of `b` that is matched one-to-one by
        overlap; 0 where there is none.
    """
    mine = a.vertebrae.data
    other = resample(b.vertebrae, a.vertebrae.grid).data
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
