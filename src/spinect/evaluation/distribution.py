"""Distances that ask for no registered voxels: of the HU histograms and of the power spectra."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from spinect.errors import ImageError
from spinect.evaluation.similarity import Image
from spinect.evaluation.surface import Mask, Spacing

FLOOR_HU: Final = 1.0  # SD of the white noise added to both spectra: the step in which CT is stored
_TIE: Final = 1e-6  # a frequency halfway between two shells belongs to the lower, however it rounds


def histogram(prediction: Image, truth: Image, mask: Mask | None = None) -> float:
    """Wasserstein-1 distance between the distributions of values in the mask, HU.

    Both have equally many values, so that it is exactly the mean absolute difference of the sorted
    values: how far HU must be moved on average, wherever they lie.

    Raises:
        ImageError: The mask is empty.
    """
    one, other = (np.ravel(a if mask is None else a[mask]) for a in (prediction, truth))
    if not one.size:
        raise ImageError("the mask of the histogram distance is empty: nothing to compare")
    gap = np.subtract(np.sort(one), np.sort(other), dtype=np.float64)
    return float(np.abs(gap, out=gap).mean())


def spectrum(
    prediction: Image, truth: Image, mask: Mask, spacing: Spacing, valid: Mask | None = None
) -> float:
    """RMS difference of the radially averaged power spectra in the bounding box of the mask, dB.

    All valid voxels of the box count, those outside the mask too: a spectrum inside the outline of
    a bone would mostly show the outline. Each image loses its own mean (what is not valid becomes
    0), is multiplied by a Hann window along
    every axis (zero just beyond the box) and Fourier-transformed. |F|^2 is averaged in shells of
    |frequency|, cycles/mm: shell k holds the frequencies nearest to k / L, where L is the longest
    side of the box, from k = 1 to the highest frequency of the finest axis, 1 / (2 spacing). The
    difference of 10 log10(power) is squared and averaged over shells that hold a frequency. White
    noise of 1 HU is added to both powers, which keeps a constant image finite.

    Args:
        prediction, truth: One shape, HU.
        mask: Its bounding box is compared.
        valid: Where both are known; None means everywhere.
        spacing: mm per voxel along each axis.
    Returns:
        NaN where the box has one voxel only, or none that is valid.
    Raises:
        ImageError: The mask is empty.
    """
    if not mask.any():
        raise ImageError("the mask of the spectrum is empty: nothing to compare")
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    shape = truth[box].shape
    step = np.broadcast_to(np.asarray(spacing, np.float64), len(shape))
    shell, count = _shells(shape, step)
    known = np.ones(shape, bool) if valid is None else valid[box]
    if not count[1:].any() or not known.any():
        return math.nan
    window = np.ones(shape, np.float32)
    for axis, size in enumerate(shape):
        taper = np.hanning(size + 2)[1:-1].astype(np.float32)
        window *= taper.reshape([-1 if a == axis else 1 for a in range(len(shape))])
    floor = FLOOR_HU**2 * float(np.square(window).sum(dtype=np.float64))
    level = []
    for image in (prediction, truth):
        inside = image[box].astype(np.promote_types(image.dtype, np.float32))
        inside -= inside[known].mean(dtype=np.float64)
        inside *= window
        inside[~known] = 0
        power = _power(inside)
        total = np.bincount(shell.ravel(), power.ravel(), minlength=count.size)
        level.append(10 * np.log10(total[1:] / np.maximum(count[1:], 1) + floor))
    gap = (level[0] - level[1])[count[1:] > 0]
    return float(np.sqrt(np.mean(gap**2)))


def _power(image: Image) -> NDArray[np.floating]:
    """|F|^2 of the half space that a real image needs, weighted for the half that is left out."""
    transform = fft.rfftn(image, overwrite_x=True)
    power = np.asarray(transform.real**2 + transform.imag**2)
    power *= _twice(image.shape[-1]).astype(power.dtype)
    return power


def _twice(size: int) -> NDArray[np.float64]:
    """How often each frequency of the last axis stands for itself and its mirror image."""
    weight = np.full(size // 2 + 1, 2.0)
    weight[0] = 1
    if size % 2 == 0:
        weight[-1] = 1
    return weight


def _shells(
    shape: tuple[int, ...], spacing: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Shell of each frequency of the half space, and the frequencies in each shell.

    Shell 0 also takes what is left out: the mean and the corners beyond the finest axis' reach.
    """
    axes = [fft.fftfreq(n, d) for n, d in zip(shape[:-1], spacing[:-1], strict=True)]
    axes.append(fft.rfftfreq(shape[-1], spacing[-1]))
    length = float((np.array(shape) * spacing).max())
    square = np.zeros([a.size for a in axes])
    for axis, values in enumerate(axes):
        turned = values.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        square += (turned * length) ** 2
    last = int(length / (2 * float(spacing.min())) + _TIE)
    shell = np.rint(np.sqrt(square, out=square) - _TIE).astype(np.intp)
    shell[shell > last] = 0
    weight = np.broadcast_to(_twice(shape[-1]), shell.shape)
    count = np.bincount(shell.ravel(), weight.ravel(), minlength=last + 1)
    return shell, np.asarray(count, np.float64)
