"""The volume driver: one image -> channels -> tiles -> network -> blend -> the other image."""

import time
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from spinect.bundle import Bundle
from spinect.errors import BundleError, ConfigError, ImageError
from spinect.evaluation.uncertainty import interval_ranks
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.inference.compute import Compute, Precision
from spinect.inference.draws import (
    HU_LIMITS,
    Int16,
    Interval,
    Medoid,
    Wanted,
    interval_of,
    medoid_of,
    spool,
    store,
)
from spinect.inference.heads import MASK_HEADS, MaskHeads
from spinect.inference.noise import NoiseField
from spinect.inference.region import leave_out, region_mask
from spinect.inference.uncertainty import RunningMoments
from spinect.inference.walk import Progress, Shares, Walk
from spinect.protocols import IMAGE, Mode

MODES: Final[tuple[Mode, ...]] = get_args(Mode)
Device = str | torch.device


@dataclass(frozen=True, eq=False)
class Translation:
    """A synthetic image and what its network knows beside it, on the bundle's grid.

    Attributes:
        image: Of the kind that the bundle's card names, float32. "ct": HU, -1000 outside the field
            of view. "mr": relative intensity from 0 to 1500, 0 outside it; 0 and 1000 stand for
            the 1st and 99th percentile of a scan.
        std: Standard deviation over the samples in the unit of `image`, kind "mr" so that 0 lies
            outside; only with mode "mc".
        masks: Mask heads; None for a bundle that has none.
        inside: (X, Y, Z) bool, the field of view, as far as it lies in the region.
        mode: "regress", "sample" or "mc".
        warnings: What was mended or assumed, one line each.
        planned_peak: Memory of the process that was expected, bytes.
        calls: Tiles that went through the network.
        seconds: Wall time.
        interval, medoid: Of the samples, where they were asked for.
        draws: (K, X, Y, Z) int16, whole HU, in a temporary file that vanishes with this array;
            where they were asked for.
        region: What was worked on; outside it the image and all the others say what they say
            outside the field of view. None is everything.
    """

    image: Volume
    std: Volume | None
    masks: MaskHeads | None
    inside: NDArray[np.bool_]
    mode: Mode
    warnings: tuple[str, ...]
    planned_peak: int
    calls: int
    seconds: float
    interval: Interval | None = None
    medoid: Medoid | None = None
    draws: Int16 | None = None
    region: Grid | None = None

    @property
    def grid(self) -> Grid:
        """Where the voxels lie."""
        return self.image.grid

    @property
    def ct(self) -> Volume:
        """The image, if it is a CT.

        Raises:
            ImageError: It is an MR.
        """
        if self.image.kind != "ct":
            raise ImageError("this bundle made an MR, where a CT is needed: take `image`")
        return self.image


def translate(
    source: Volume,
    bundle: Bundle,
    *,
    mode: Mode = "regress",
    steps: int | None = None,
    samples: int = 10,
    interval: float | None = None,
    medoid: bool = False,
    draws: bool = False,
    seed: int = 0,
    precision: Precision = "auto",
    max_memory: int = 6 * 2**30,
    device: Device = "auto",
    progress: Progress | None = None,
    region: Grid | None = None,
) -> Translation:
    """Synthetic CT of an MR, or synthetic MR of a CT, as the bundle's card says.

    Args:
        source: An MR, or a CT in HU; any grid and orientation.
        bundle: A translator.
        mode: "regress" is one call per tile, "sample" one draw of the method's sampler, "mc" the
            mean and spread of `samples` draws.
        steps: Network calls per tile and sample; None is the method's own number.
        samples: Draws with "mc", at least 2.
        interval: With "mc": two order statistics per voxel, the narrowest symmetric ones of at
            least this nominal coverage, 0-1.
        medoid: With "mc": the draw of least mean absolute distance to the others.
        draws: With "mc": keep the draws.
        seed: Of the noise, which is a function of (seed, draw, step, voxel) only.
        precision: "auto" takes bf16 where the hardware multiplies it.
        max_memory: Bytes of the process; decides how many tiles run at once and whether
            intermediate volumes lie on disk, never the result.
        device: "auto", "cpu", "cuda" or "mps".
        progress: Called with the share done.
        region: Work on this box only, such as `segmentation.find_spine` finds. Inside it regress
            gives what it gives without; so does a sampler whose tiles do not overlap, or that has
            one step. Tiles that overlap tell each other of the rest step by step, so that there
            the draws differ slightly towards the faces of the region.
    Raises:
        GeometryError: The region does not lie in the image, or not along its axes.
        ImageError: The volume is a constant MR, or not of the kind that the bundle takes.
        BundleError: The bundle does not offer the mode, or ignores noise.
        ConfigError: Options that do not fit.
        ResourceError: One tile does not fit into `max_memory`, or the draws not onto the disk.
    """
    began = time.perf_counter()
    _check_options(bundle, mode, steps, samples)
    wanted = Wanted(interval, medoid, draws)
    if wanted:
        _check_wanted(bundle, mode, samples, wanted)
    heads = bundle.method.heads
    with_masks = all(head in heads for head in MASK_HEADS)
    compute, spooled = Compute.choose(device, precision), samples if wanted else 0
    walk = Walk.start(source, bundle, compute, max_memory, mode, spooled, region)
    rounds = {"regress": 0, "sample": 1, "mc": samples}[mode]
    regressing = mode == "regress" or with_masks
    done = Shares(progress, rounds + regressing)
    ct: NDArray[Any] | None = None
    masks: MaskHeads | None = None
    std: Volume | None = None
    kept: Int16 | None = None
    if regressing:
        ct, masks = walk.regress(done, want_ct=mode == "regress")
    noise = NoiseField(seed)
    if mode == "sample":
        ct = walk.sample(noise, 0, steps)
        done.one()
    if mode == "mc":
        kept = spool(samples, walk.grid.shape) if wanted else None
        ct, spread = _draw(walk, noise, steps, samples, kept, done)
        std = Volume(spread, walk.grid.affine, "mr")
    assert ct is not None
    told = _ordered(walk, kept, wanted)
    return Translation(
        image=Volume(ct, walk.grid.affine, bundle.card.image_kind),
        std=std,
        masks=masks,
        inside=walk.inside,
        mode=mode,
        warnings=tuple(walk.said),
        planned_peak=walk.plan.peak_bytes,
        calls=walk.network.calls,
        seconds=time.perf_counter() - began,
        interval=told[0],
        medoid=told[1],
        draws=kept if wanted.draws else None,
        region=region,
    )


def predict_masks(
    volume: Volume,
    bundle: Bundle,
    *,
    precision: Precision = "auto",
    max_memory: int = 6 * 2**30,
    device: Device = "auto",
    progress: Progress | None = None,
    region: Grid | None = None,
) -> MaskHeads:
    """Only the mask heads of a bundle, such as a segmenter's on a CT; arguments of `translate`.

    Raises:
        BundleError: The bundle lacks a mask head; else as `translate`.
    """
    missing = [head for head in MASK_HEADS if head not in bundle.method.heads]
    if missing:
        raise BundleError(
            f"bundle {bundle.card.name} has no head for {', '.join(missing)}: it cannot segment"
        )
    compute = Compute.choose(device, precision)
    walk = Walk.start(volume, bundle, compute, max_memory, "regress", region=region)
    _, masks = walk.regress(Shares(progress, 1), want_ct=False)
    assert masks is not None
    return masks


def to_native(translation: Translation, source: Volume) -> tuple[Volume, Volume | None]:
    """Image and standard deviation on the source's own grid; label maps go with `resample`."""
    grid = source.grid
    made = [None if v is None else resample(v, grid) for v in (translation.image, translation.std)]
    if translation.region is not None:
        mask = region_mask(translation.region, translation.grid, grid)
        for volume in made:
            if volume is not None:
                leave_out(volume, mask)
    assert made[0] is not None
    return made[0], made[1]


def _draw(
    walk: Walk,
    noise: NoiseField,
    steps: int | None,
    samples: int,
    kept: Int16 | None,
    done: Shares,
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Mean and standard deviation of the draws, which go to `kept` as they come."""
    moments = RunningMoments(walk.zeros(np.float64), walk.zeros(np.float64))
    for draw in range(samples):
        values = walk.sample(noise, draw, steps)
        moments.add(values)
        if kept is not None:
            store(kept[draw], values)
        if draw == 1 and moments.constant:
            raise BundleError(
                f"bundle {walk.bundle.card.name}: its first two samples are identical, its "
                "sampler ignores noise and has no spread: use mode regress or sample"
            )
        done.one()
    mean, std = walk.zeros(np.float32), walk.zeros(np.float32)
    moments.finish(mean, std)
    return mean, std


def _ordered(
    walk: Walk, kept: Int16 | None, wanted: Wanted
) -> tuple[Interval | None, Medoid | None]:
    """Interval and medoid of the kept draws, each where it is wanted."""
    interval = medoid = None
    if kept is not None and wanted.interval is not None:
        lower, upper = walk.zeros(np.float32), walk.zeros(np.float32)
        interval = interval_of(kept, wanted.interval, lower, upper, walk.grid.affine)
    if kept is not None and wanted.medoid:
        medoid = medoid_of(kept, walk.inside, walk.zeros(np.float32), walk.grid.affine)
    return interval, medoid


def _check_options(bundle: Bundle, mode: Mode, steps: int | None, samples: int) -> None:
    card = bundle.card
    if mode not in MODES:
        raise ConfigError(f"mode {mode!r} is not {', '.join(MODES)}")
    if mode not in card.modes or mode not in bundle.method.modes:
        raise BundleError(
            f"bundle {card.name} does not offer mode {mode}: it offers {', '.join(card.modes)}"
        )
    if IMAGE not in bundle.method.heads:
        raise BundleError(
            f"bundle {card.name} makes no image, only {', '.join(bundle.method.heads)}"
        )
    if mode == "mc" and samples < 2:
        raise ConfigError(f"mode mc needs at least 2 samples for a spread, not {samples}")
    if steps is not None and (mode == "regress" or steps < 1):
        raise ConfigError(f"steps belong to modes sample and mc and are at least 1, not {steps}")


def _check_wanted(bundle: Bundle, mode: Mode, samples: int, wanted: Wanted) -> None:
    if bundle.card.image_kind == "mr":
        raise ConfigError(
            f"interval, medoid and draws are kept in HU, and bundle {bundle.card.name} makes "
            f"{bundle.card.makes}: leave them out, mean and std are there"
        )
    if mode != "mc":
        raise ConfigError(f"interval, medoid and draws belong to mode mc, not to mode {mode}")
    if wanted.interval is not None:
        interval_ranks(samples, wanted.interval)  # before hours of sampling
    settings = bundle.card.preprocessing
    if settings.hu_low < HU_LIMITS[0] or settings.hu_high > HU_LIMITS[1]:
        raise ConfigError(
            f"draws are kept as 16-bit HU, {HU_LIMITS[0]} to {HU_LIMITS[1]}; bundle "
            f"{bundle.card.name} makes {settings.hu_low:g} to {settings.hu_high:g} HU: "
            "leave interval, medoid and draws out"
        )
