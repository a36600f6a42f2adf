"""Labels of foreign segmenters -> vertebra ids of this package."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from spinect.anatomy import VERTEBRAE
from spinect.errors import ConfigError, LabelError

# TotalSegmentator 2, task "total": 25 sacrum, 26 S1, then from L5 (27) up to C1 (50). Its other
# labels to 117 are organs, other bones, muscles and vessels.
_TOTAL: Final = {label: 0 for label in range(1, 118)} | {25: 26, 26: 26}
_TOTAL_UP: Final = {27 + i: 24 - i for i in range(5)} | {32 + i: 19 - i for i in range(19)}

# VerSe: C1-C7, T1-T12, L1-L6, 26 sacrum, 27 coccyx, 28 T13.
_VERSE: Final = {label: label for label in range(1, 29)}

# SPINEPS instance masks: as VerSe, with S2-S5; 100 + id is the disc below, 200 + id an endplate.
_SPINEPS: Final = (
    {label: label for label in VERTEBRAE}
    | {100 + label: 0 for label in VERTEBRAE}
    | {200 + label: 0 for label in VERTEBRAE}
)

# Scheme -> label -> vertebra id, 0 for what is known and not a vertebra.
SCHEMES: Final[dict[str, dict[int, int]]] = {
    "totalsegmentator": _TOTAL | _TOTAL_UP,
    "verse": _VERSE,
    "spineps": _SPINEPS,
}


def check_scheme(scheme: str) -> None:
    """Raise a ConfigError for a scheme that is not one of `SCHEMES`."""
    if scheme not in SCHEMES:
        raise ConfigError(f"scheme {scheme!r} is not one of {', '.join(SCHEMES)}")


def to_vertebra_ids(labels: NDArray[np.integer], scheme: str) -> NDArray[np.uint8]:
    """Translate a label map.

    Args:
        labels: Any shape, integers of at least 0.
    Returns:
        Vertebra ids of the same shape.
    Raises:
        ConfigError: Unknown scheme.
        LabelError: Labels that the scheme does not have.
    """
    check_scheme(scheme)
    table = SCHEMES[scheme]
    present, where = np.unique(labels, return_inverse=True)
    unknown = [label for label in present.tolist() if label and label not in table]
    if unknown:
        shown = ", ".join(map(str, unknown[:5])) + (" ..." if len(unknown) > 5 else "")
        raise LabelError(
            f"labels {shown} do not belong to scheme {scheme}: choose another of "
            f"{', '.join(SCHEMES)}"
        )
    ids = np.array([table.get(label, 0) for label in present.tolist()], np.uint8)
    return np.asarray(ids[where].reshape(labels.shape))
