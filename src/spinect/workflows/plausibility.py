"""Can this result be a spine, and does the image stand as its header says?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from spinect.anatomy import PRESACRAL
from spinect.bundle import Bundle
from spinect.data.intensity import dark_share, inside_field_of_view
from spinect.geometry import Volume
from spinect.inference import MaskHeads, probe
from spinect.inference.compute import Precision
from spinect.segmentation import Segmentation
from spinect.segmentation.plausible import doubt_of, shape_of, whole_agreement
from spinect.workflows.check.orientation import CONVERT, determine
from spinect.workflows.record import PlausibilityRecord


class Limit(NamedTuple):
    """What a number of a good case may be, and what it means if it is not."""

    low: float | None
    high: float | None
    says: str


# Anatomy, not derived: bodies of C3 to L5 and their distances, with room for both ends.
_BODY: Final = Limit(3.0, 80.0, "a vertebral body of {:.1f} mL")
_STEP: Final = Limit(10.0, 45.0, "neighbouring bodies {:.0f} mm apart")

# The others are what `python benchmarks/plausibility.py PHANTOMS... --real DIR` derives and prints.
# Preliminary: set by hand from its measurements of a few volumes, with room for narrow slabs, and
# of weights that will be replaced.
LIMITS: Final[dict[str, Limit]] = {
    "agreement": Limit(0.70, None, "the two ways to the masks agree by a Dice of {:.2f} only"),
    "mirror": Limit(0.40, None, "the mirrored image gives other masks (overlap {:.2f})"),
    "gamma": Limit(0.85, None, "another contrast of it gives other masks (overlap {:.2f})"),
    "doubt": Limit(None, 0.25, "the network doubts what it finds (mean doubt {:.2f})"),
    "body_ml_least": _BODY,
    "body_ml_most": _BODY,
    "step_mm_least": _STEP,
    "step_mm_most": _STEP,
    "canal": Limit(0.60, None, "the canal is found along {:.0%} of the column only"),
    "posterior": Limit(0.15, None, "hardly any bone behind the bodies ({:.2f} of their volume)"),
    "halved": Limit(None, 0.60, "a side of the image cuts through {:.0%} of the bodies"),
    "dark": Limit(0.50, None, "bright voxels outnumber dark ones, as if inverted (dark {:.0%})"),
}
LEAD: Final = 1.05  # of the best way round over the second, for a verdict
LEAST_ML: Final = 3.0  # of posterior elements in the tile, for a verdict
UNKNOWN: Final = "not determinable"

# Of a voxel at 1 mm while this runs: the image and its heads, the masks, and a few masks of masks.
PLAUSIBLE_BYTES: Final = 4 + 7 + 2 + 8

_TURNED: Final[dict[str, str]] = {
    "head-feet": "upside down",
    "front-back": "front to back",
    "both": "upside down and front to back",
}


@dataclass(frozen=True)
class Plausibility:
    """The record of a case, and what its reader is warned of."""

    record: PlausibilityRecord
    warnings: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a run holds when its masks are made.

    Attributes:
        image: As it was read. found: The masks that will be written.
        heads: The translator's own mask heads; None without.
        source, bundle: What is shown again and to whom, the network that made `heads`, or the
            masks where there are none; None where no network did.
    """

    image: Volume
    found: Segmentation
    heads: MaskHeads | None = None
    source: Volume | None = None
    bundle: Bundle | None = None


def measure(
    evidence: Evidence, *, precision: Precision = "auto", device: str | torch.device = "auto"
) -> PlausibilityRecord:
    """Every number of the record that can be measured; `judge` says what they mean."""
    found, heads, image = evidence.found, evidence.heads, evidence.image
    shape = shape_of(found)
    body, step = shape.body_ml or (None, None), shape.step_mm or (None, None)
    again = None
    if evidence.source is not None and evidence.bundle is not None:
        weights = _presacral(found) if heads is None else heads.vertebra
        again = probe(evidence.source, evidence.bundle, weights, precision=precision, device=device)
    numbers: dict[str, float | None] = {
        "agreement": whole_agreement(heads, found) if heads else None,
        "mirror": heads.mirror if heads else None,
        "gamma": again.gamma if again else None,
        "doubt": doubt_of(heads) if heads else None,
        "body_ml_least": body[0],
        "body_ml_most": body[1],
        "step_mm_least": step[0],
        "step_mm_most": step[1],
        "canal": shape.canal,
        "posterior": shape.posterior,
        "halved": shape.halved,
        "dark": _dark(image) if image.kind == "mr" else None,
    }
    rounded = {name: None if n is None else round(n, 4) for name, n in numbers.items()}
    seen = {turn: round(s.posterior, 2) for turn, s in again.seen.items()} if again else None
    return PlausibilityRecord.model_validate(
        {"vertebrae": shape.vertebrae, "seen": seen, **rounded}
    )


def judge(measured: PlausibilityRecord, proved: Sequence[str] = ()) -> Plausibility:
    """Hold the numbers against their limits, and the header against what was seen.

    Args:
        proved: What else is to be said, such as `by_the_masks`.
    """
    told = list(proved)
    outside = implausible(measured.model_dump())
    if "vertebrae" in outside:
        told.append("no vertebra was found above the sacrum: is this a spine?")
    texts = [
        LIMITS[name].says.format(getattr(measured, name)) for name in outside if name in LIMITS
    ]
    if texts:
        told.append(
            f"not plausible: {'; '.join(dict.fromkeys(texts))}. Look at the picture before using "
            "anything of this case"
        )
    verdict = orientation(measured.seen)
    if measured.seen and verdict in _TURNED:
        told.append(
            f"the image seems to stand {_TURNED[verdict]} by its header: turned over, "
            f"{measured.seen[verdict]:.0f} mL of bone are found behind the bodies, as stored "
            f"{measured.seen['as stored']:.0f} mL. Look at it, and {CONVERT}; left/right is not "
            "determinable"
        )
    record = measured.model_copy(update={"implausible": outside, "orientation": verdict})
    return Plausibility(record, tuple(told))


def orientation(seen: Mapping[str, float] | None) -> str:
    """The turn in which most posterior elements are found, or "not determinable".

    Bodies are found upside down as well; what lies behind them is not. The verdict needs
    `LEAST_ML`, and `LEAD` over the next best turn.

    Args:
        seen: Turn -> mL of posterior elements in one tile.
    """
    if not seen:
        return UNKNOWN
    turns = sorted(seen, key=seen.__getitem__)
    first, second = seen[turns[-1]], seen[turns[-2]]
    return turns[-1] if first >= LEAST_ML and first >= LEAD * second else UNKNOWN


def implausible(
    numbers: Mapping[str, object], limits: Mapping[str, Limit] = LIMITS
) -> tuple[str, ...]:
    """Names of the numbers outside their limits; what is None or absent is not judged."""
    outside = ["vertebrae"] if numbers.get("vertebrae") == 0 else []
    for name, limit in limits.items():
        value = numbers.get(name)
        if not isinstance(value, int | float):
            continue
        below = limit.low is not None and value < limit.low
        if below or (limit.high is not None and value > limit.high):
            outside.append(name)
    return tuple(outside)


def by_the_masks(found: Segmentation) -> tuple[str, ...]:
    """What the masks themselves prove against the header; foreign programs may tell."""
    _, findings = determine("", found.vertebrae, found.subregions)
    return tuple(
        f"{finding.text}: {finding.todo}"
        for finding in findings
        if finding.code in ("head-feet", "front-back")
    )


def _presacral(found: Segmentation) -> NDArray[np.uint8]:
    return np.isin(found.vertebrae.data, PRESACRAL).astype(np.uint8)


def _dark(image: Volume) -> float | None:
    values = torch.from_numpy(np.ascontiguousarray(image.data, dtype=np.float32))
    return dark_share(values, inside_field_of_view(values[None, None])[0, 0])
