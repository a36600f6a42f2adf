"""One case: every protocol that was asked for, in the spaces where it is defined."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from spinect.errors import InputError
from spinect.evaluation.measures import Value
from spinect.evaluation.protocols.graf2023_image import graf2023_image
from spinect.evaluation.protocols.graf2023_segmentation import graf2023_segmentation
from spinect.evaluation.protocols.strict_image import strict_image
from spinect.evaluation.protocols.strict_segmentation import ceiling, strict_segmentation
from spinect.evaluation.protocols.synthrad import synthrad
from spinect.evaluation.tables import Tidy, tidy
from spinect.geometry.resample import resample
from spinect.io import read
from spinect.workflows.evaluate.loading import Masks, Truth, on_own_grid, read_masks
from spinect.workflows.evaluate.options import Protocol
from spinect.workflows.evaluate.results import Made

CEILING: Final = "ceiling"  # the method of what the truth itself scores after a change of grid
Scored = tuple[Protocol, str, list[Value]]  # protocol, space, values


def score_made(
    truth: Truth, made: Made | None, protocols: tuple[Protocol, ...], threads: int
) -> Iterator[Scored]:
    """All values of one result.

    HU at 1 mm: the result's 1 mm CT, resampled onto the grid of the 1 mm truth; "graf2023" takes
    the CT on the MR's grid, resampled to 1 x 1 mm in the sagittal plane. Masks: those on the MR's
    own grid against the native truth, the 1 mm ones against the 1 mm truth.

    Args:
        made: None: there is no result, which scores as empty masks and has no HU.
        threads: Of the image protocols.
    Raises:
        SpinectError: A file that is missing, cannot be read, or lies on a wrong grid.
    """
    if made is not None and made.images.keys() & {"ct", "ct_iso"}:
        yield from _images(truth, made, protocols, threads)
    if made is None or made.masks:
        for space, true in _true_masks(truth):
            mine = empty(true) if made is None else _predicted(truth, made, space, true)
            yield from _masks(space, mine, true, protocols)


def score_judged(
    truth: Truth, found: Masks, judge: str, protocols: tuple[Protocol, ...]
) -> Iterator[Scored]:
    """The masks that the judge made of a synthetic CT; regions become "REGION@JUDGE".

    Args:
        found: Vertebrae and subregions on the judge's 1 mm grid; the native ones are made of them.
    """
    for space, true in _true_masks(truth):
        mine = (resample(found[0], true[0].grid), resample(found[1], true[0].grid))
        for protocol, where, values in _masks(space, mine, true, protocols):
            yield protocol, where, [renamed(value, judge) for value in values]


def score_ceiling(truth: Truth) -> Iterator[Scored]:
    """What the truth itself scores: the 1 mm one on the MR's grid, the native one at 1 mm."""
    if truth.series.native.masks and truth.series.iso.masks:
        native, iso = truth.native_masks, truth.masks
        yield "strict", "native", ceiling(*iso, *native)
        yield "strict", "iso", ceiling(*native, *iso)


def rows_of(scored: Iterator[Scored], truth: Truth, method: str) -> list[Tidy]:
    """Tidy rows of one case."""
    series = truth.series
    return [
        row
        for protocol, space, values in scored
        for row in tidy(
            [replace(value, value=float(value.value)) for value in values],  # counts are int
            method=method,
            protocol=protocol,
            space=space,
            patient=series.patient,
            case=series.name,
        )
    ]


def renamed(value: Value, judge: str) -> Value:
    """The same value of a region that the judge segmented."""
    return replace(value, region=f"{value.region}@{judge}")


def empty(like: Masks) -> Masks:
    """Masks without a voxel on the same grid."""
    return like[0].with_data(np.zeros_like(like[0].data)), like[1].with_data(
        np.zeros_like(like[1].data)
    )


def _true_masks(truth: Truth) -> Iterator[tuple[str, Masks]]:
    if truth.series.native.masks:
        yield "native", truth.native_masks
    if truth.series.iso.masks:
        yield "iso", truth.masks


def _images(
    truth: Truth, made: Made, protocols: tuple[Protocol, ...], threads: int
) -> Iterator[Scored]:
    if truth.series.iso.ct is not None and {"strict", "synthrad"} & set(protocols):
        path = _file(made.ct_iso, truth, "1 mm CT")
        mine = resample(read(path, "ct", trusted=True), truth.ct.grid)
        if "strict" in protocols:
            found = strict_image(mine, truth.ct, truth.regions, truth.tissue, threads)
            yield "strict", "iso", found
        if "synthrad" in protocols:
            body = truth.regions["patient"]
            yield "synthrad", "iso", synthrad(mine, truth.ct, body, workers=threads)
    if "graf2023" in protocols and truth.series.native.ct and truth.series.native.masks:
        path = _file(made.ct, truth, "CT on the MR's grid")
        native = on_own_grid(
            read(path, "ct", trusted=True), path, truth.native_ct.grid, truth.series.mr
        )
        flat = resample(native, truth.flat_grid)
        yield "graf2023", "native", graf2023_image(flat, *truth.flat, threads)


def _masks(
    space: str, mine: Masks, true: Masks, protocols: tuple[Protocol, ...]
) -> Iterator[Scored]:
    if "strict" in protocols:
        yield "strict", space, strict_segmentation(*mine, *true)
    if "graf2023" in protocols and space == "native":
        yield "graf2023", space, graf2023_segmentation(*mine, *true)


def _predicted(truth: Truth, made: Made, space: str, true: Masks) -> Masks:
    """The result's masks of one space, on the grid of the truth."""
    if space == "native":
        first = _file(made.vertebrae, truth, "vertebrae on the MR's grid")
        second = _file(made.subregions, truth, "subregions on the MR's grid")
        masks = read_masks(first, second)
        for mask, path in zip(masks, (first, second), strict=True):
            on_own_grid(mask, path, true[0].grid, truth.series.mr)
        return masks
    first = _file(made.vertebrae_iso, truth, "1 mm vertebrae")
    second = _file(made.subregions_iso, truth, "1 mm subregions")
    masks = read_masks(first, second)
    return resample(masks[0], true[0].grid), resample(masks[1], true[0].grid)


def _file(path: Path | None, truth: Truth, what: str) -> Path:
    if path is None:
        raise InputError(
            f"{truth.series.name}: the result has no {what}, which is needed: "
            "run it again with --outputs all"
        )
    return path
