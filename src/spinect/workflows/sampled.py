"""What mode mc tells beside the mean CT; both engines come here."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from spinect.bundle import Bundle
from spinect.data.intensity import RELATIVE
from spinect.evaluation.uncertainty import expected_gain
from spinect.geometry import Grid, Volume
from spinect.geometry.resample import resample
from spinect.inference import Translation
from spinect.inference.compute import Compute
from spinect.inference.plan import PREPARE_BYTES, resident_bytes
from spinect.inference.prepare import bundle_grid
from spinect.inference.walk import Progress, fit
from spinect.segmentation import Segmentation, vote, with_spread, with_votes
from spinect.segmentation.votes import BYTES_PER_LABEL
from spinect.workflows.engine import Layer, Need
from spinect.workflows.options import EXTRAS, RunOptions
from spinect.workflows.plausibility import PLAUSIBLE_BYTES
from spinect.workflows.record import SamplingRecord

Facts = dict[str, object]  # of a sidecar
Again = Callable[[Volume, Progress | None], Segmentation]  # segments one draw, as the mean was


@dataclass(frozen=True, eq=False)
class Told:
    """What a run knows after the masks of the mean CT.

    Attributes:
        found: The segmentation of the mean, its table filled up with what the draws say.
        layers: By the names of `names.LAYERS`.
        sampling: None where nothing was drawn more than once.
    """

    found: Segmentation | None
    layers: Mapping[str, Layer] = field(default_factory=dict)
    sampling: SamplingRecord | None = None


def asked(options: RunOptions) -> dict[str, Any]:
    """The options as arguments of `inference.translate`."""
    return {
        "mode": options.mode,
        "steps": options.steps,
        "samples": options.samples,
        "seed": options.seed,
        "interval": options.interval if "interval" in options.outputs else None,
        "medoid": "medoid" in options.outputs,
        "draws": "votes" in options.outputs,
    }


def need(
    grid: Grid,
    options: RunOptions,
    compute: Compute,
    translator: Bundle | None,
    segmenter: Bundle | None,
) -> Need:
    """Memory and temporary files of a run: the largest of its stages.

    Raises:
        ResourceError: The smallest tile does not fit into `options.max_memory`, or the draws not
            onto the disk.
    """
    memory = files = held = later = tile = 0
    votes = "votes" in options.outputs
    if translator is not None:
        spooled = options.samples if set(options.outputs) & set(EXTRAS) else 0
        plan = fit(grid, translator, compute, options.max_memory, options.mode, spooled)[1]
        memory, files, tile = plan.peak_bytes, plan.disk_bytes, plan.tile_bytes
        held = _voxels(grid, translator) * _held(options)
    # A foreign command gets 1 mm.
    masks = _voxels(grid, segmenter) if segmenter else math.ceil(grid.extent.prod())
    if votes:
        later = options.samples * BYTES_PER_LABEL * masks
    if segmenter is not None:
        plan = fit(grid, segmenter, compute, options.max_memory, "regress")[1]
        memory, later = max(memory, plan.peak_bytes + held), later + plan.disk_bytes
        tile = max(tile, plan.tile_bytes)
    if options.segmenter != "none":
        checking = tile + (PREPARE_BYTES + PLAUSIBLE_BYTES) * masks
        memory = max(memory, resident_bytes() + held + checking)
    return Need(memory, files + later if votes else max(files, later))


def _voxels(grid: Grid, bundle: Bundle) -> int:
    return math.prod(bundle_grid(grid, bundle.card).shape)


def _held(options: RunOptions) -> int:
    """Bytes per voxel of what the draws left while masks are made."""
    if options.mode != "mc":
        return 0
    wanted = set(options.outputs)
    ends, middle = 8 * ("interval" in wanted), 4 * ("medoid" in wanted)
    # A draw in float32, its two label maps, and the outcome of the vote.
    return 8 + ends + middle + (4 + 2 + 5) * ("votes" in wanted)


def tell(
    made: Translation,
    found: Segmentation | None,
    image: Volume,
    options: RunOptions,
    again: Again,
    progress: Progress | None = None,
) -> Told:
    """Spread, interval, medoid and votes, as far as the draws were made and asked for.

    Args:
        found: Masks of the mean CT; None where nothing was segmented.
        image: The MR, on whose grid the outputs lie.
        again: Segments one draw.
        progress: Hears the share of the draws that are segmented.
    """
    if made.std is None:
        return Told(found)
    count = options.samples
    images = _images(made, made.std, count)
    if found is not None and made.image.kind == "ct":  # else the masks are of the input
        found = with_spread(found, made.ct, made.std)
    if found is not None and made.draws is not None:
        votes = vote(found.vertebrae, _segmented(made, again, progress), count)
        found = with_votes(found, votes)
        most = "largest share of samples that agree on a vertebra"
        images["probability"] = votes.probability, {"statistic": most}
        rule = "vertebra of more than half of the samples; ties are 0"
        images["voted"] = votes.voted, {"statistic": rule}
    layers = {
        name: Layer(resample(volume, image.grid), volume, {**about, "samples": count})
        for name, (volume, about) in images.items()
    }
    return Told(found, layers, _record(made, count))


def _images(made: Translation, std: Volume, count: int) -> dict[str, tuple[Volume, Facts]]:
    """Name -> an image that tells of the draws, and what it is."""
    spread = "standard deviation over the samples, divisor K - 1"
    unit = "HU" if made.image.kind == "ct" else RELATIVE
    images: dict[str, tuple[Volume, Facts]] = {"std": (std, {"statistic": spread, "unit": unit})}
    if (told := made.interval) is not None:
        for name, volume, rank in zip(
            ("lower", "upper"), (told.lower, told.upper), told.ranks, strict=True
        ):
            images[name] = (
                volume,
                {
                    "statistic": f"sample {rank} of {count} in rising order",
                    "unit": "HU",
                    "ranks": list(told.ranks),
                    "nominal_coverage": told.coverage,
                    "holds": "voxel by voxel in space-iso; elsewhere the ends are averages of ends",
                },
            )
    if (chosen := made.medoid) is not None:
        images["medoid"] = (
            chosen.ct,
            {
                "statistic": "the sample of least mean absolute distance to the others",
                "unit": "HU",
                "sample_index": chosen.draw,  # from 0
                "distance_hu": chosen.distance,
            },
        )
    return images


def _segmented(made: Translation, again: Again, progress: Progress | None) -> Any:
    """The vertebrae of one draw after the other."""
    assert made.draws is not None
    count = len(made.draws)
    for number, draw in enumerate(made.draws):
        ct = Volume(draw.astype(np.float32), made.grid.affine, "ct")
        share = None if progress is None else _part(progress, number, count)
        yield again(ct, share).vertebrae


def _part(progress: Progress, number: int, count: int) -> Progress:
    return lambda done: progress((number + done) / count)


def _record(made: Translation, count: int) -> SamplingRecord:
    interval, medoid = made.interval, made.medoid
    return SamplingRecord(
        samples=count,
        expected_gain_db=round(expected_gain(count), 3),
        interval_ranks=interval.ranks if interval else None,
        nominal_coverage=interval.coverage if interval else None,
        medoid_sample=medoid.draw if medoid else None,
        medoid_distance_hu=medoid.distance if medoid else None,
    )
