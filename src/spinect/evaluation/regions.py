"""Where images are compared: masks made from the truth alone, the same for every method."""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from spinect.errors import GeometryError, ImageError
from spinect.evaluation.image import near_bone
from spinect.evaluation.surface import Mask
from spinect.geometry import Volume

BODY_HU: Final = -300.0  # above: body, not air
SOFT_HU: Final = (-200.0, 200.0)  # fat to contrast-free organs and discs
TISSUES: Final = ("air", "soft", "bone")  # by HU alone, see `tissue_masks`

REGIONS: Final = ("patient", "near_bone", "bone", "soft_tissue", "valid")


def regions_of(truth: Volume, vertebrae: Volume, valid: Mask | None = None) -> dict[str, Mask]:
    """The five regions of `strict_image`, all inside the validity mask.

    - patient: the largest connected piece (faces touch) above -300 HU, with the holes of every
      axial slice filled; gas inside counts, the table and the air around do not. A cavity that is
      open to the border of its axial slice stays outside.
    - near_bone: within 10 mm (Euclidean) of a labelled vertebra or the sacrum, these included.
    - bone: labelled vertebrae and sacrum. Other bones (ribs, pelvis) have no labels.
    - soft_tissue: patient, not bone, with a true value from -200 to 200 HU.
    - valid: where the truth is known at all.

    Args:
        truth: The true CT.
        vertebrae: True vertebra ids on its grid; 0 is background.
        valid: Where the truth is known; None means everywhere.
    Raises:
        GeometryError: Grids or shapes differ.
        ImageError: `truth` is not a CT.
    """
    if truth.kind != "ct":
        raise ImageError(f"regions are made from a true CT, not from a volume of kind {truth.kind}")
    if not truth.grid.matches(vertebrae.grid):
        raise GeometryError(
            f"regions need one grid: the CT has {truth.grid}, the vertebrae {vertebrae.grid}. "
            "Resample the labels onto the grid of the CT first"
        )
    if valid is not None and valid.shape != truth.data.shape:
        raise GeometryError(
            f"the validity mask has shape {valid.shape}, the CT {truth.data.shape}: "
            "make it on the grid of the CT"
        )
    known = np.ones(truth.data.shape, bool) if valid is None else valid.astype(bool)
    bone = vertebrae.data > 0
    patient = _patient(truth, known)
    soft = patient & ~bone & (truth.data >= SOFT_HU[0]) & (truth.data <= SOFT_HU[1])
    near = near_bone(bone, truth.grid.spacing)
    masks = (patient, near & known, bone & known, soft, known)
    return dict(zip(REGIONS, masks, strict=True))


def tissue_masks(hu: NDArray[np.floating], mask: Mask | None = None) -> dict[str, Mask]:
    """Every voxel of the mask in one class by its HU: air <= -300 < soft <= 200 < bone.

    "soft" holds fat, muscle, organs and discs. Classes of the true HU know the answer: even a
    perfect posterior is not calibrated within them, only over all of them together
    (docs/evaluation.md). Classes of the mean of the samples are free of that.

    Args:
        hu: The true or the synthetic CT, any shape.
        mask: None for all voxels.
    """
    known = np.ones(hu.shape, bool) if mask is None else mask
    body, bone = hu > BODY_HU, hu > SOFT_HU[1]
    return dict(zip(TISSUES, (known & ~body, known & body & ~bone, known & bone), strict=True))


def _patient(truth: Volume, known: Mask) -> Mask:
    """Largest piece above the threshold, holes of axial slices filled, inside the known part."""
    pieces, count = ndimage.label((truth.data > BODY_HU) & known)
    if not count:
        return np.zeros(known.shape, bool)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    body = pieces == sizes.argmax()
    axial = next(axis for axis, letter in enumerate(truth.grid.axes) if letter in "IS")
    for cut in np.moveaxis(body, axial, 0):  # views: what is filled here is filled in `body`
        cut[...] = ndimage.binary_fill_holes(cut)
    return np.asarray(body & known)
