"""The project's own image protocol: errors inside stated regions, every range written down."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.errors import GeometryError, ImageError
from spinect.evaluation import distribution, image
from spinect.evaluation.fidelity import region_vifp
from spinect.evaluation.measures import Value
from spinect.evaluation.overlap import dice
from spinect.evaluation.protocols.pair import EMPTY, check_mask, check_pair, tidy
from spinect.evaluation.regions import SOFT_HU
from spinect.evaluation.similarity import Image, masked_mean, ms_ssim, similarity_maps
from spinect.evaluation.surface import Mask
from spinect.geometry import Volume
from spinect.geometry.volume import Kind

Limits = tuple[float, float]
HU: Final[Limits] = (-1024.0, 2000.0)  # what the shipped models can express
RANGE: Final = HU[1] - HU[0]  # 3024 HU, the stated range of PSNR
WHOLE: Final = ("patient", "valid")  # regions large enough for five scales
_THIN: Final = "an axis has fewer than 6 voxels"
_SMALL: Final = "five scales do not fit the image, or the region is lost at a coarse one"
_BARE: Final = "sagittal slices below 41 pixels, or no information in the truth of the region"
_NO_BONE: Final = "nothing lies above 200 HU"
_POINT: Final = "the box of the region is a single voxel"


def strict_image(
    prediction: Volume,
    truth: Volume,
    regions: Mapping[str, Mask],
    tissue: Volume | None = None,
    workers: int = 2,
    limits: Limits = HU,
) -> list[Value]:
    """Every image metric in every region of one case.

    HU errors (mae, mse, bias, histogram, oracle_floor), the spectrum and the Dice of what lies
    above 200 HU (bone_dice) take both volumes as they are, unclipped; PSNR has the range 3024 HU.
    For the similarities, both are mapped to [0, 1] by (HU + 1024) / 3024, clipped, and set to 0
    outside the region "valid" if there is one, so that nothing unknown enters a window. SSIM (3D,
    its window in voxels) and VIFp (sagittal slices, the information of all slices added up) are
    averaged over the region; MS-SSIM and bone_dice exist for "patient" and "valid" only. Other
    `limits` take the place of -1024 and 2000 HU, and there is no bone_dice of MRs.

    Args:
        prediction, truth: Two CTs on one grid, or two MRs in the unit of `limits`.
        regions: Name -> boolean mask on that grid, as from `regions_of`; each is cut to "valid".
        tissue: Tissue ids on that grid, where they are known: adds the oracle floor.
        workers: Threads.
        limits: The values that 0 and 1 of the similarities stand for, and whose distance is the
            range of PSNR. Those of an MR must be given; "HU" then reads as its unit.
    Returns:
        Values with item "". NaN with a note for an empty region and for what the size forbids.
    Raises:
        GeometryError: The volumes or masks lie on different grids.
        ImageError: A volume is not finite, or not of the truth's kind; limits do not belong to
            that kind; a mask is not boolean.
    """
    kind: Kind = "mr" if truth.kind == "mr" else "ct"
    check_pair(prediction, truth, kind)
    if (limits == HU) != (kind == "ct"):
        raise ImageError(
            f"the range from {limits[0]:g} to {limits[1]:g} does not belong to volumes of kind "
            f"{kind}: a CT has {HU[0]:g} to {HU[1]:g} HU, an MR needs its own"
        )
    for name, mask in regions.items():
        check_mask(name, mask, truth)
    if tissue is not None and not tissue.grid.matches(truth.grid):
        raise GeometryError(f"the tissue map has {tissue.grid}, the truth {truth.grid}")
    if "valid" in regions:
        regions = {name: mask & regions["valid"] for name, mask in regions.items()}
    seen = _similarities(prediction, truth, regions, workers, limits)

    def score(name: str) -> list[Value]:
        return _errors(prediction, truth, name, regions, tissue, limits) + seen[name]

    with ThreadPoolExecutor(workers) as pool:
        return [value for values in pool.map(score, regions) for value in values]


def _errors(
    prediction: Volume,
    truth: Volume,
    region: str,
    regions: Mapping[str, Mask],
    tissue: Volume | None,
    limits: Limits,
) -> list[Value]:
    """The metrics in the volumes' unit and in dB of one region."""
    mask, valid = regions[region], regions.get("valid")
    names = ["mae", "mse", "bias", "psnr", "histogram", "spectrum"]
    bony = region in WHOLE and limits == HU
    names += ["bone_dice"] if bony else []
    names += [] if tissue is None else ["oracle_floor"]
    if not mask.any():
        return [Value(region, "", name, float("nan"), EMPTY) for name in names]
    p, t = prediction.data[mask], truth.data[mask]
    found = [
        image.mae(p, t),
        image.mse(p, t),
        image.bias(p, t),
        image.psnr(p, t, None, limits[1] - limits[0]),
        distribution.histogram(p, t),
        distribution.spectrum(prediction.data, truth.data, mask, truth.grid.spacing, valid),
    ]
    if bony:
        found.append(dice(p > SOFT_HU[1], t > SOFT_HU[1]))
    if tissue is not None:
        found.append(image.oracle_floor(tissue.data[mask], t, np.ones(t.shape, bool)))
    why = {"bone_dice": _NO_BONE}
    return [
        tidy(region, name, v, why.get(name, _POINT)) for name, v in zip(names, found, strict=True)
    ]


def _similarities(
    prediction: Volume,
    truth: Volume,
    regions: Mapping[str, Mask],
    workers: int,
    limits: Limits,
) -> dict[str, list[Value]]:
    """SSIM, MS-SSIM and VIFp of all regions, from maps that are made once."""
    x, y = (unit(volume.data, regions.get("valid"), limits) for volume in (prediction, truth))
    maps = similarity_maps(x, y, 1.0, workers)
    whole = [name for name in WHOLE if name in regions]
    several = ms_ssim(x, y, [regions[name] for name in whole], 1.0, maps, workers)
    sagittal = next(axis for axis, letter in enumerate(truth.grid.axes) if letter in "LR")
    x, y = (np.moveaxis(a, sagittal, 0) for a in (x, y))
    masks = [np.moveaxis(mask, sagittal, 0) for mask in regions.values()]
    fidelity = region_vifp(x, y, masks, 1.0, workers)
    found: dict[str, list[Value]] = {}
    for (name, mask), vifp in zip(regions.items(), fidelity, strict=True):
        empty = not mask.any()
        single = masked_mean(maps.ssim, mask) if maps else float("nan")
        found[name] = [
            tidy(name, "ssim", single, EMPTY if empty else _THIN),
            tidy(name, "vifp", vifp, EMPTY if empty else _BARE),
        ]
        if name in whole:
            value = several[whole.index(name)]
            found[name].append(tidy(name, "ms_ssim", value, EMPTY if empty else _SMALL))
    return found


def unit(values: NDArray[np.floating], valid: Mask | None, limits: Limits = HU) -> Image:
    """The limits -> [0, 1] as float32, beyond is clipped; 0 where not valid."""
    scaled = values.astype(np.float32) - np.float32(limits[0])
    scaled /= np.float32(limits[1] - limits[0])
    np.clip(scaled, 0, 1, out=scaled)
    if valid is not None:
        scaled[~valid] = 0
    return scaled
