"""Slices of test subjects, drawn by any sampler and measured; what lyu2022.py asks for."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from spinect.bundle import Bundle
from spinect.data.intensity import HuRange
from spinect.evaluation import distribution, image
from spinect.evaluation.overlap import dice
from spinect.evaluation.protocols.strict_image import RANGE, unit
from spinect.evaluation.regions import SOFT_HU, regions_of
from spinect.evaluation.similarity import ssim
from spinect.geometry.resample import resample
from spinect.inference.prepare import prepare
from spinect.io import read

Hu = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Slices:
    """Some slices of one subject, as a two-dimensional bundle sees them.

    Attributes:
        name: Of the subject.
        condition: (N, C, H, W), sizes multiples of the network's divisor.
        mr: (N, h, w), the first channel. truth: (N, h, w) HU. patient: (N, h, w), what counts.
        spacing: mm of a pixel.
    """

    name: str
    condition: Tensor
    mr: Hu
    truth: Hu
    patient: Mask
    spacing: tuple[float, float]


def load(mr: Path, truth: Path, bundle: Bundle, count: int) -> Slices:
    """Evenly spaced slices of the middle four fifths of the image.

    Args:
        truth: Its files without "_ct.nii.gz" and "_desc-vertebrae_dseg.nii.gz".
    """
    seen = prepare(read(mr, "mr"), bundle.card)
    ct = resample(read(Path(f"{truth}_ct.nii.gz"), "ct"), seen.grid)
    labels = read(Path(f"{truth}_desc-vertebrae_dseg.nii.gz"), "labels")
    patient = regions_of(ct, resample(labels, seen.grid))["patient"] & seen.inside
    depth = seen.grid.shape[0]
    chosen = np.unique(np.linspace(0.1 * depth, 0.9 * depth - 1, count).round().astype(int))
    channels = seen.channels[:, torch.from_numpy(chosen)].movedim(0, 1)
    divisor = bundle.method.divisor
    right, below = (-n % divisor for n in reversed(channels.shape[2:]))
    padded = F.pad(channels, (0, right, 0, below), value=seen.outside)
    spacing = float(seen.grid.spacing[1]), float(seen.grid.spacing[2])
    return Slices(
        mr.name.split("_")[0],
        padded,
        channels[:, 0].numpy(),
        ct.data[chosen],
        patient[chosen],
        spacing,
    )


@torch.inference_mode()
def draw(
    bundle: Bundle, seen: Slices, steps: int | None, seed: int, mode: str = "sample"
) -> tuple[Hu, int, float]:
    """One image per slice, HU; network calls per slice, and seconds of the processor per slice."""
    method, calls = bundle.method, 0
    generator = torch.Generator().manual_seed(seed)
    began = time.process_time()
    if mode == "regress":
        made, calls = method.predict(seen.condition), 1
    else:

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            nonlocal calls
            calls += 1
            return method.denoise(x, sigma, seen.condition)

        def randn(like: Tensor) -> Tensor:
            return torch.randn(like.shape, dtype=like.dtype, generator=generator)

        like = torch.zeros(len(seen.condition), 1, *seen.condition.shape[2:])
        made = method.sample(denoise, like, steps, randn)
    seconds = (time.process_time() - began) / len(seen.condition)
    settings = bundle.card.preprocessing
    hu = HuRange(low=settings.hu_low, high=settings.hu_high).to_hu(made.float().clamp(-1, 1))
    height, width = seen.truth.shape[1:]
    return hu[:, 0, :height, :width].numpy(), calls, seconds


def per_slice(measure: Callable[[int], float], count: int) -> float:
    """Mean over the slices where a measure is defined."""
    found = [measure(index) for index in range(count)]
    return float(np.nanmean(found))


def measured(hu: Hu, seen: Slices) -> dict[str, float]:
    """Quality inside the patient: HU errors of all pixels, the rest slice by slice."""
    t, inside = seen.truth, seen.patient
    used = [index for index in range(len(t)) if inside[index].any()]
    x, y = unit(hu, None), unit(t, None)
    p, q = hu[inside], t[inside]

    def of(measure: Callable[[int], float]) -> float:
        return per_slice(lambda index: measure(used[index]), len(used))

    return {
        "mae": image.mae(p, q),
        "psnr": image.psnr(p, q, None, RANGE),
        "ssim": of(lambda i: ssim(x[i], y[i], inside[i], 1.0)),
        "spectrum": of(lambda i: distribution.spectrum(hu[i], t[i], inside[i], seen.spacing)),
        "histogram": distribution.histogram(p, q),
        "bone_dice": dice(p > SOFT_HU[1], q > SOFT_HU[1]),
    }


def mean_over(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Key by key."""
    return {key: float(np.mean([one[key] for one in found])) for key in found[0]}
