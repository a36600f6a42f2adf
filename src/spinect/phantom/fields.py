"""Separable linear operators and smooth random fields: the arithmetic of contrast and scanner.

An operator that acts along one axis is a small matrix: slice profiles, point spread functions,
shifts and interpolation are all written down as one, and cost one matrix product.
"""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

Kernel = Literal["nearest", "linear", "cubic"]
_SINC_LOBES = 12.0  # the ringing kernel is cut after this many zero crossings


def along(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Apply `matrix` (m, n) along one axis of `x`, whose length there is n; it becomes m."""
    axis = axis % x.ndim
    shape = x.shape
    if axis == x.ndim - 1:
        return x @ matrix.T
    before, after = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    out = torch.matmul(matrix, x.reshape(before, shape[axis], after))
    return out.reshape(*shape[:axis], matrix.shape[0], *shape[axis + 1 :])


def interpolation(positions: ArrayLike, count: int, kernel: Kernel = "linear") -> Tensor:
    """Matrix (m, count) that reads `count` samples at fractional `positions` (m,).

    Beyond the ends the outermost sample is repeated. "cubic" is the Catmull-Rom spline
    (Keys, IEEE TASSP 29:1153, 1981, a = -1/2).
    """
    at = np.clip(np.asarray(positions, np.float64), 0, count - 1)
    matrix = np.zeros((at.size, count), np.float32)
    rows = np.arange(at.size)
    reach = {"nearest": (0, 1), "linear": (0, 2), "cubic": (-1, 3)}[kernel]
    base = np.floor(at + 0.5 if kernel == "nearest" else at).astype(int)
    for step in range(*reach):
        distance = np.abs(at - (base + step))
        if kernel == "nearest":
            weight = np.ones_like(distance)
        elif kernel == "linear":
            weight = 1 - distance
        else:
            near = 1.5 * distance**3 - 2.5 * distance**2 + 1
            far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
            weight = np.where(distance < 1, near, far)
        np.add.at(matrix, (rows, np.clip(base + step, 0, count - 1)), weight.astype(np.float32))
    return torch.from_numpy(matrix)


def smoothing(
    centres: ArrayLike, count: int, fwhm: float, shape: Literal["gaussian", "box", "sinc"]
) -> Tensor:
    """Matrix (m, count) that averages `count` samples around `centres` (m,), rows of sum one.

    Args:
        centres: Fractional sample positions.
        fwhm: Width in samples; for "sinc" the width of an acquired pixel (its ringing).
    """
    far = np.arange(count, dtype=np.float64)[None] - np.asarray(centres, np.float64)[:, None]
    if shape == "gaussian":
        weight = np.exp(-4 * math.log(2) * (far / fwhm) ** 2)
    elif shape == "box":  # a sample counts by the part of its own width that is covered
        weight = np.clip((fwhm + 1) / 2 - np.abs(far), 0, min(1.0, fwhm))
    else:
        weight = np.sinc(far / fwhm) * (np.abs(far) < _SINC_LOBES * fwhm)
    total = weight.sum(1, keepdims=True)
    lost = np.abs(total) < 1e-12  # a centre far outside: take the nearest sample
    nearest = np.argmin(np.abs(far), axis=1)
    fallback = np.arange(count)[None] == nearest[:, None]
    weight = np.where(lost, fallback, weight)
    return torch.from_numpy((weight / np.where(lost, 1.0, total)).astype(np.float32))


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur along all spatial axes of (B, *S); `sigma` in voxels, edges repeated."""
    for axis in range(1, image.ndim):
        image = blur_axis(image, sigma, axis)
    return image


def blur_axis(image: Tensor, sigma: float, axis: int) -> Tensor:
    """Gaussian blur along one axis of any tensor; `sigma` in voxels, edges repeated."""
    count = image.shape[axis]
    reach = min(max(1, math.ceil(2.5 * sigma)), count - 1)
    taps = [math.exp(-0.5 * (k / sigma) ** 2) for k in range(reach + 1)]
    total = taps[0] + 2 * sum(taps[1:])
    first, last = image.narrow(axis, 0, 1), image.narrow(axis, count - 1, 1)
    out = image * (taps[0] / total)
    for step in range(1, reach + 1):
        weight, rest = taps[step] / total, count - step
        out.narrow(axis, step, rest).add_(image.narrow(axis, 0, rest), alpha=weight)
        out.narrow(axis, 0, rest).add_(image.narrow(axis, step, rest), alpha=weight)
        out.narrow(axis, 0, step).add_(first, alpha=weight)
        out.narrow(axis, rest, step).add_(last, alpha=weight)
    return out


def smooth_field(
    shape: Sequence[int], length: float, generator: torch.Generator, batch: int = 1
) -> Tensor:
    """Random field (batch, *shape) of zero mean, unit variance, correlated over `length` samples.

    Made on a coarse lattice and interpolated, so that a long correlation length costs little.
    """
    device = generator.device
    step = max(length, 1.0)
    counts = [max(2, math.ceil(n / step) + 1) for n in shape]
    field = torch.randn((batch, *counts), generator=generator, device=device)
    # The smallest growth last: the final product, on the full size, has the shortest rows.
    for axis in sorted(range(len(shape)), key=lambda a: -counts[a]):
        matrix = interpolation(np.arange(shape[axis]) / step, counts[axis])
        # Between two lattice points linear interpolation loses variance: restore it.
        matrix = matrix / matrix.square().sum(1, keepdim=True).sqrt()
        field = along(field, matrix.to(device), axis + 1)
    return field
