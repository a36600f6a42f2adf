"""From water and fat signal to an acquired MR image: slices, coil, noise, artefacts, windowing.

One recipe serves two uses. `Scan.upsample` True gives what inference sees: acquired at the slice
spacing, then interpolated back onto the input's grid. False gives the acquired slices themselves.
Tensors are (*S) with three axes R, A, S and one voxel spacing per axis.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spinect.phantom.contrast import ContrastName
from spinect.phantom.fields import (
    Kernel,
    along,
    blur_axis,
    interpolation,
    smooth_field,
    smoothing,
)
from spinect.phantom.tissues import Tissue
from spinect.phantom.withheld import WITHHELD

_GRADIENT_ECHO = ("water", "fat", "inphase", "opposed")


@dataclass(frozen=True)
class Saturation:
    """A band across the belly that is dark, to keep its motion out of the spine."""

    depth_mm: float  # from the skin of the back to where the band begins
    edge_mm: float
    factor: float  # what is left of the signal


@dataclass(frozen=True)
class Window:
    """How intensities were stored; fractions of the stored range."""

    floor: float = 0.0  # stored value of zero signal
    low: float = 0.0  # fraction of the top below which signal is cut
    clipped: float = 0.0  # fraction of voxels above the top
    gamma: float = 1.0
    levels: int = 4095  # 255 for 8 bit


@dataclass(frozen=True)
class Scan:
    """One acquisition; lengths in mm. `draw_scan` makes one."""

    slice_axis: int = 0  # 0 sagittal, 1 coronal, 2 axial
    spacing: float = 4.0  # slice centre to slice centre
    thickness: float = 4.0  # full width of the profile
    jitter: float = 0.0  # shift of odd against even slices
    interleave: float = 0.0  # relative gain of odd against even slices
    upsample: bool = True
    kernel: Kernel = "linear"
    resolution: tuple[float, float] = (1.2, 1.2)  # of the two in-plane axes
    ringing: bool = False  # truncated instead of filtered k-space
    fat_shift: float = 1.0  # along the first in-plane axis, or the second
    fat_axis: int = 1  # 0 or 1 of the in-plane axes
    opposed: bool = False
    coil_depth: float = 100.0  # the signal falls by e over this depth from the skin of the back
    coil_floor: float = 0.1  # what is left of it far from the coil
    coil_variation: float = 0.15  # SD of the gain along the spine
    saturation: Saturation | None = None
    snr: float = 30.0  # of the median of what is not air
    ghost: float = 0.0  # strength, along the in-plane axis that is not the frequency axis
    wrap_mm: float = 0.0
    window: Window = Window()
    frames: tuple[tuple[int, int], ...] = ()  # (axis, 0 first or 1 last) of constant planes
    frame_level: float = 1.0  # of the largest stored value


def draw_scan(name: ContrastName, rng: np.random.Generator, spine_mm: float = 85.0) -> Scan:
    """An acquisition with the probabilities of the training recipe.

    Args:
        spine_mm: Depth of the vertebral bodies' centres below the skin of the back: a
            saturation band is placed in front of them.
    """
    look = WITHHELD.get(name)
    gradient = look.gradient_echo if look else name in _GRADIENT_ECHO
    axis = int(rng.choice(3, p=(0.7, 0.15, 0.15)))
    thin = rng.random() < 0.25  # a three-dimensional sequence
    spacing = rng.uniform(0.9, 1.3) if thin else rng.uniform(1.8, 5.0)
    gap = 0.0 if thin else rng.uniform(0, 0.2)
    saturation = None
    if not gradient and rng.random() < 0.4:
        saturation = Saturation(
            depth_mm=spine_mm + rng.uniform(10, 50),
            edge_mm=rng.uniform(3, 10),
            factor=rng.uniform(0.02, 0.2),
        )
    pixel = rng.uniform(0.4, 1.2)
    clean = rng.random() < 0.6  # no artefact beyond noise
    return Scan(
        slice_axis=axis,
        spacing=spacing,
        thickness=spacing * (1 - gap),
        jitter=0.0 if thin or rng.random() < 0.6 else rng.uniform(0, 1.0),
        interleave=0.0 if thin or rng.random() < 0.6 else rng.uniform(0, 0.12),
        kernel=("linear", "cubic", "nearest")[rng.choice(3, p=(0.5, 0.35, 0.15))],
        resolution=(max(0.9, pixel * rng.uniform(1, 1.6)), max(0.9, pixel * rng.uniform(1, 2.0))),
        ringing=rng.random() < 0.2,
        fat_shift=rng.uniform(0.3, 2.5) * pixel * rng.choice((-1, 1)),
        fat_axis=int(rng.integers(2)),
        opposed=name == "opposed",
        coil_depth=rng.uniform(60, 150) if rng.random() < 0.7 else 1000.0,
        coil_floor=rng.uniform(0, 0.25),
        coil_variation=rng.uniform(0, 0.3),
        saturation=saturation,
        snr=math.exp(rng.uniform(math.log(5), math.log(60))),
        ghost=0.0 if clean or rng.random() < 0.5 else rng.uniform(0.01, 0.08),
        wrap_mm=0.0 if clean or rng.random() < 0.7 else rng.uniform(4, 25),
        window=draw_window(rng),
        frames=_draw_frames(rng),
        frame_level=1.0 if rng.random() < 0.7 else 0.0,
    )


def draw_window(rng: np.random.Generator) -> Window:
    """How the image was stored: 8 bit and clipped in half of the cases."""
    plain = rng.random() < 0.35
    return Window(
        floor=0.0 if rng.random() < 0.6 else rng.uniform(0, 0.15),
        low=0.0 if plain or rng.random() < 0.5 else rng.uniform(0, 0.08),
        clipped=0.0005 if plain else rng.uniform(0, 0.06),
        gamma=1.0 if plain else math.exp(rng.uniform(math.log(0.6), math.log(1.6))),
        levels=4095 if plain else 255,
    )


def _draw_frames(rng: np.random.Generator) -> tuple[tuple[int, int], ...]:
    if rng.random() > 0.12:
        return ()
    faces = [(int(a), int(e)) for a in range(3) for e in range(2)]
    return tuple(faces[i] for i in rng.choice(6, rng.integers(1, 4), replace=False))


def back_skin(tissue: Tensor) -> float:
    """Index along A of the skin of the back: median over the columns of the middle third.

    Shapes: tissue (*S) uint8 with axes R, A, S. 0 where there is no body.
    """
    width = tissue.shape[0]
    body = tissue[width // 3 : max(width // 3 + 1, 2 * width // 3), :, ::8] != Tissue.AIR
    first = body.float().argmax(1)[body.any(1)]
    return float(first.float().median()) if len(first) else 0.0


def slice_centres(extent_voxels: int, voxel: float, scan: Scan) -> np.ndarray:
    """Centres of the slices in voxels of the input, centred on it, jitter included."""
    count = max(1, math.floor(extent_voxels * voxel / scan.spacing + 1e-6))
    step = scan.spacing / voxel
    centres = (extent_voxels - 1) / 2 + (np.arange(count) - (count - 1) / 2) * step
    return np.asarray(centres + (np.arange(count) % 2 - 0.5) * scan.jitter / voxel)


def acquire(
    water: Tensor,
    fat: Tensor,
    scan: Scan,
    *,
    skin: float,
    generator: torch.Generator,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
) -> Tensor:
    """Acquire one image of the given signal.

    Args:
        water, fat: (*S) signal with axes R, A, S, from `contrast.mr_signal`.
        skin: Index along the second axis of the skin of the back (may be negative).
        generator: Draws noise and coil; its device is that of the tensors.
        spacing: mm, voxel size of the input along each axis.
    Returns:
        (*S) float32 in stored units 0-1 (`Window`); with `scan.upsample` False the slice axis has
        one sample per slice.
    """
    image = _magnitude(water, fat, scan, spacing)
    sample = list(spacing)  # voxel size of the acquired image
    sample[scan.slice_axis] *= water.shape[scan.slice_axis] / image.shape[scan.slice_axis]
    image *= _gain(image.shape, scan, skin, sample, spacing[1], generator)
    image = _artefacts(image, scan, sample, generator)
    image = store(_rician(image, scan.snr, generator), scan.window)
    if scan.upsample:
        image = upsample(image, water.shape[scan.slice_axis], scan, spacing[scan.slice_axis])
        for axis, end in scan.frames:
            image.narrow(axis, (image.shape[axis] - 1) * end, 1).fill_(scan.frame_level)
    return image


def _magnitude(water: Tensor, fat: Tensor, scan: Scan, spacing: Sequence[float]) -> Tensor:
    """Chemical shift, slices and in-plane resolution: |PSF (water +- shifted fat)|."""
    axis = scan.slice_axis
    plane = [a for a in range(3) if a != axis]
    place = plane[scan.fat_axis]
    moved = shifted(fat, scan.fat_shift / spacing[place], place)
    total = water - moved if scan.opposed else moved.add_(water)
    count = total.shape[axis]
    centres = slice_centres(count, spacing[axis], scan)
    profile: Literal["box", "gaussian"] = "box" if scan.ringing else "gaussian"
    slices = smoothing(centres, count, max(scan.thickness / spacing[axis], 1.0), profile)
    total = along(total, slices.to(total.device), axis)
    for at, resolution in zip(plane, scan.resolution, strict=True):
        width, count = resolution / spacing[at], total.shape[at]
        if scan.ringing:
            psf = smoothing(np.arange(count), count, width, "sinc")
            total = along(total, psf.to(total.device), at)
        else:
            total = blur_axis(total, width / 2.355, at)
    gain = 1 + scan.interleave * (torch.arange(total.shape[axis], device=total.device) % 2 - 0.5)
    return total.abs_().mul_(gain.view([-1 if a == axis else 1 for a in range(3)]))


def shifted(image: Tensor, voxels: float, axis: int) -> Tensor:
    """The image moved by a fraction of voxels along an axis, linear, edges repeated."""
    count = image.shape[axis]
    at = torch.arange(count, device=image.device) - voxels
    low = at.floor()
    part = float(at[0] - low[0])
    first = image.index_select(axis, low.clamp(0, count - 1).long())
    second = image.index_select(axis, (low + 1).clamp(0, count - 1).long())
    return first.mul_(1 - part).add_(second, alpha=part)


def _gain(
    shape: Sequence[int],
    scan: Scan,
    skin: float,
    sample: Sequence[float],
    voxel: float,
    generator: torch.Generator,
) -> Tensor:
    """Receive sensitivity and saturation band, broadcastable to `shape`."""
    device = generator.device
    scale = sample[1] / voxel  # skin is counted in voxels of the input
    depth = (torch.arange(shape[1], device=device) * scale + 0.5 * (scale - 1) - skin) * voxel
    fall = torch.exp(-depth.clamp(min=0) / scan.coil_depth)
    fall = scan.coil_floor + (1 - scan.coil_floor) * fall
    if scan.saturation is not None:
        band = torch.sigmoid((depth - scan.saturation.depth_mm) * 2 / scan.saturation.edge_mm)
        fall = fall * (1 - band * (1 - scan.saturation.factor))
    wave = smooth_field((shape[1], shape[2]), 90.0 / sample[2], generator)[0]
    return (fall[:, None] * torch.exp(scan.coil_variation * wave))[None]


def _artefacts(
    image: Tensor, scan: Scan, sample: Sequence[float], generator: torch.Generator
) -> Tensor:
    """Wrap-around and motion ghosts along the phase-encoding axis."""
    axis = [a for a in range(3) if a != scan.slice_axis][1 - scan.fat_axis]
    count = image.shape[axis]
    if scan.wrap_mm > 0:
        width = max(1, min(round(scan.wrap_mm / sample[axis]), count // 3))
        low, high = (image.narrow(axis, s, width).clone() for s in (0, count - width))
        image.narrow(axis, 0, width).add_(high, alpha=0.5)
        image.narrow(axis, count - width, width).add_(low, alpha=0.5)
    if scan.ghost > 0:
        phase = torch.rand(3, generator=generator, device=generator.device).tolist()
        part = int(count * (0.15 + 0.35 * phase[0]))
        image = image + scan.ghost * (image.roll(part, axis) + phase[1] * image.roll(-part, axis))
    return image


def _rician(image: Tensor, snr: float, generator: torch.Generator) -> Tensor:
    """Magnitude of the signal with complex Gaussian noise; SNR is that of the median signal."""
    thin = image.reshape(-1)[:: max(1, image.numel() // 50_000)]
    body = thin > 0.02 * thin.max()
    typical = thin[body].median() if bool(body.any()) else thin.max()
    noise = torch.randn((2, *image.shape), generator=generator, device=image.device)
    noise *= typical / snr
    return noise[0].add_(image).square_().add_(noise[1].square_()).sqrt_()


def store(image: Tensor, window: Window) -> Tensor:
    """Stored intensities 0-1: cut below and above, gamma, floor, and a number of grey levels."""
    thin = image.reshape(-1)[:: max(1, image.numel() // 50_000)]
    top = thin.sort().values[round((1 - window.clipped) * (thin.numel() - 1))].clamp(min=1e-6)
    image = (image / top - window.low).div_(1 - window.low).clamp_(0, 1)
    if window.gamma != 1:
        image = image.pow_(window.gamma)
    image = image.mul_(1 - window.floor).add_(window.floor)
    return image.mul_(window.levels).round_().div_(window.levels)


def upsample(image: Tensor, count: int, scan: Scan, voxel: float) -> Tensor:
    """Bring acquired slices back onto `count` voxels of size `voxel` along the slice axis."""
    even = slice_centres(count, voxel, replace(scan, jitter=0.0))
    step = scan.spacing / voxel
    matrix = interpolation((np.arange(count) - even[0]) / step, even.size, scan.kernel)
    return along(image, matrix.to(image.device), scan.slice_axis).clamp_(0, 1)
