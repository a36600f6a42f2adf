"""Every intensity scaling between volumes and networks, each with its inverse where it has one.

The same functions serve training and inference. Outside the field of view every channel is 0,
and 0 is also what pads a tile.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from pydantic import BaseModel, model_validator
from torch import Tensor

LOCAL_SIGMA_MM = 40.0  # of the Gaussian that the local mean is taken with
_LOCAL_STEP_MM = 8.0  # the local mean is computed on a lattice this coarse
_LOCAL_FLOOR = 0.15  # of the median, added to the local mean
_SAMPLES = 100_000  # voxels, about, that percentiles are taken of
ROBUST_MAX = 1.5
LOCAL_MAX = 4.0
MR_UNIT = 1000.0  # relative intensity of the 99th percentile; the 1st is 0
MR_RANGE = (0.0, ROBUST_MAX * MR_UNIT)  # relative intensity that [-1, 1] stands for
RELATIVE = "relative intensity"  # the unit of a synthetic MR, in tables and logs
CT_WINDOW = (-250.0, 1250.0)  # HU that a segmenter sees; below is 0, like padding
CT_UNIT = 500.0  # HU per 1


class HuRange(BaseModel, frozen=True, extra="forbid"):
    """The HU interval that a network's [-1, 1] stands for."""

    low: float = -1024.0  # HU
    high: float = 2000.0  # HU

    @model_validator(mode="after")
    def _ordered(self) -> "HuRange":
        if not self.low < self.high:
            raise ValueError(f"low must be below high, not {self.low} HU and {self.high} HU")
        return self

    def to_unit(self, hu: Tensor) -> Tensor:
        """HU, any shape -> [-1, 1]; HU beyond the range are clipped."""
        return ((hu - self.low) * (2 / (self.high - self.low)) - 1).clamp(-1, 1)

    def to_hu(self, unit: Tensor) -> Tensor:
        """[-1, 1], any shape -> HU; the inverse of `to_unit` within the range."""
        return (unit + 1) * ((self.high - self.low) / 2) + self.low


# Graf et al. 2023: HU / 1000, clipped to [-1, 1].
GRAF_HU = HuRange(low=-1000.0, high=1000.0)


def unit_of_max(mr: Tensor, most: float) -> Tensor:
    """Raw intensities -> [0, 1]: [0, most] becomes [0, 1], the rest is clipped; any shape.

    `most` is the largest value of the volume as it was measured, in training and in inference
    alike. (The public code of Graf et al. 2023 takes the largest of the deformed and splined
    volume in training, and of a tile or of another resampling in inference.)
    """
    return (mr.float() / most if most > 0 else torch.zeros_like(mr.float())).clamp(0, 1)


def mr_from_unit(unit: Tensor, most: float) -> Tensor:
    """Inverse of `unit_of_max` for intensities in [0, most]; any shape."""
    return unit * most


def inside_field_of_view(mr: Tensor) -> Tensor:
    """1 inside the field of view, 0 on boundary planes of zero standard deviation.

    Planes are peeled from all faces for as long as they are constant within what is left.

    Shapes: mr (B, 1, *S), raw intensities -> (B, 1, *S) float32. A constant image is all 0.
    """
    inside = torch.zeros(mr.shape, dtype=torch.float32, device=mr.device)
    for image, mask in zip(mr[:, 0], inside[:, 0], strict=True):
        box = _peel(image)
        mask[tuple(slice(a, b) for a, b in box)] = 1
    return inside


def _peel(image: Tensor) -> list[list[int]]:
    """First and last + 1 index along each axis of the part without constant border planes."""
    box = [[0, n] for n in image.shape]
    faces = [(axis, end) for axis in range(image.ndim) for end in (0, 1)]
    still = 0  # faces in a row that were not constant
    while still < len(faces):
        for axis, end in faces:
            window = [slice(a, b) for a, b in box]
            at = box[axis][0] if end == 0 else box[axis][1] - 1
            window[axis] = slice(at, at + 1)
            low, high = torch.aminmax(image[tuple(window)])
            still = 0 if bool(low == high) else still + 1
            if still == 0:
                box[axis][end] += 1 if end == 0 else -1
            if box[axis][0] == box[axis][1]:
                return [[0, 0] for _ in box]
    return box


def percentiles(image: Tensor, inside: Tensor, levels: Sequence[float]) -> list[float]:
    """Percentiles (0-100) of the voxels where `inside` is above 0; zeros where there are none.

    Deterministic: large images are thinned by a fixed odd stride, which meets all columns.
    """
    stride = max(1, image.numel() // _SAMPLES) | 1
    values = image.reshape(-1)[::stride][inside.reshape(-1)[::stride] > 0]
    if values.numel() == 0:
        return [0.0] * len(levels)
    values = values.float().sort().values
    ranks = [round(level / 100 * (values.numel() - 1)) for level in levels]
    return [float(values[rank]) for rank in ranks]


def mr_channels(mr: Tensor, inside: Tensor, spacing_mm: float | Sequence[float] = 1.0) -> Tensor:
    """What a translator sees of an MR image, in two or three dimensions.

    Channel 0: (mr - p1) / (p99 - p1) clipped to [0, 1.5]; percentiles of the inside voxels.
    Channel 1: the same divided by its masked Gaussian mean (sigma 40 mm) + 0.15 of its median,
    clipped to [0, 4]: free of the coil's fall-off. Channel 2: `inside`.

    Shapes: mr (B, 1, *S), raw; inside (B, 1, *S), 0 or 1 -> (B, 3, *S), 0 where not inside.
    """
    out = mr.new_zeros((mr.shape[0], 3, *mr.shape[2:]), dtype=torch.float32)
    out[:, 2:] = inside
    for image, mask, channels in zip(mr[:, 0], inside[:, 0], out, strict=True):
        low, high = percentiles(image, mask, (1, 99))
        if high <= low:
            continue
        scaled = ((image.float() - low) / (high - low)).clamp_(0, None).mul_(mask)
        median = percentiles(scaled, mask, (50,))[0]
        mean = local_mean(scaled[None, None], mask[None, None], spacing_mm)[0, 0]
        floor = max(_LOCAL_FLOOR * median, 1e-3)
        channels[1] = scaled.div(mean.add_(floor)).clamp_(max=LOCAL_MAX)
        channels[0] = scaled.clamp_(max=ROBUST_MAX)
    return out


def dark_share(mr: Tensor, inside: Tensor) -> float | None:
    """Voxels of the darkest tenth of the scale over those of the darkest and brightest, 0-1.

    The scale runs from the 1st to the 99th percentile of the inside voxels. Air, cortex and
    flowing blood are black in every MR and only little is brightest, so this is well above 1/2; an
    image whose contrast is inverted has 1 less it.

    Shapes: mr, inside of one shape. None where nearly all inside voxels are equal.
    """
    low, high = percentiles(mr, inside, (1, 99))
    if high <= low:
        return None
    edge = (high - low) / 10
    within = inside > 0
    dark = int(((mr <= low + edge) & within).sum())
    bright = int(((mr >= high - edge) & within).sum())
    return dark / (dark + bright)


def unit_of_robust(channel: Tensor) -> Tensor:
    """Channel 0 of `mr_channels`, [0, 1.5] -> [-1, 1]; any shape. Outside the field of view: -1."""
    return channel * (2 / ROBUST_MAX) - 1


def relative_of_robust(channel: Tensor) -> Tensor:
    """Channel 0 of `mr_channels` -> relative intensity; any shape."""
    return channel * MR_UNIT


def relative_of_unit(unit: Tensor) -> Tensor:
    """[-1, 1] -> relative intensity 0 to 1500; any shape.

    A synthetic MR has no absolute unit: 0 stands for the 1st percentile of a scan's field of view
    and 1000 for its 99th, as they were when the network's scans were scaled for training. With
    `unit_of_robust` before it, this is `relative_of_robust`.
    """
    return (unit + 1) * (MR_RANGE[1] / 2)


def local_mean(image: Tensor, inside: Tensor, spacing_mm: float | Sequence[float] = 1.0) -> Tensor:
    """Gaussian mean (sigma 40 mm) of the inside voxels around each voxel.

    Shapes: image, inside (B, 1, *S) -> (B, 1, *S). Computed on an 8 mm lattice.
    """
    size = image.shape[2:]
    spacings = [spacing_mm] * len(size) if isinstance(spacing_mm, int | float) else spacing_mm
    factors = [max(1, round(_LOCAL_STEP_MM / s)) for s in spacings]
    counts = [math.ceil(n / f) for n, f in zip(size, factors, strict=True)]
    pool = F.avg_pool2d if len(size) == 2 else F.avg_pool3d
    pads = [p for n, f, c in zip(size, factors, counts, strict=True) for p in (c * f - n, 0)]
    both = torch.cat([pool(F.pad(x, pads[::-1]), factors) for x in (image * inside, inside)], 1)
    for axis, (count, factor, step) in enumerate(zip(counts, factors, spacings, strict=True)):
        at = torch.arange(count, device=image.device) * (factor * step / LOCAL_SIGMA_MM)
        both = _along(torch.exp(-0.5 * (at[:, None] - at[None]) ** 2), both, axis + 2)
    mean = both[:, :1] / both[:, 1:].clamp(min=1e-6)
    for axis in sorted(range(len(size)), key=lambda a: -counts[a]):  # the cheapest one last
        unit = torch.eye(counts[axis], device=image.device)[None]
        linear = F.interpolate(unit, scale_factor=factors[axis], mode="linear")[0]
        mean = _along(linear[:, : size[axis]].T, mean, axis + 2)
    return mean


def _along(matrix: Tensor, x: Tensor, axis: int) -> Tensor:
    """Multiply a matrix (m, n) onto an axis of length n."""
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    flat = x.reshape(math.prod(before), x.shape[axis], math.prod(after))
    return (matrix @ flat).reshape(*before, matrix.shape[0], *after)


def ct_channels(hu: Tensor) -> Tensor:
    """What a segmenter sees of a CT: HU clipped to [-250, 1250], 0 at the lower end, 500 HU per 1.

    Shapes: hu (B, 1, *S) -> (B, 1, *S) in [0, 3]. Padding with 0 reads as air.
    """
    low, high = CT_WINDOW
    return (hu.float().clamp(low, high) - low) / CT_UNIT


def hu_from_ct_channels(channels: Tensor) -> Tensor:
    """Inverse of `ct_channels` within its window; any shape."""
    return channels * CT_UNIT + CT_WINDOW[0]
