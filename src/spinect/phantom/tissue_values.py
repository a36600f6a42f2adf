"""What CT and MR measure in each tissue.

The table `TISSUES` is the one file of HU distributions; it was fixed before any training. Its
values are typical ones of textbooks (assumed); those of bone follow the measured recipe.
"""

from typing import Final, NamedTuple

from spinect.phantom.tissues import Tissue as T

Span = tuple[float, float]


class Row(NamedTuple):
    """One tissue. MR signals are of its pure water; CSF, or fat, is 1."""

    hu: float  # mean over subjects; bone: of the pure material
    hu_sd: float  # SD over subjects
    fat: float  # fat fraction; that of marrow belongs to the subject
    t1: Span  # water signal in T1-weighted spin echo
    t2: Span  # in T2-weighted TSE
    stir: Span
    gre: Span  # in the water image of a gradient-echo Dixon series


_DARK = (0.0, 0.03)
TISSUES: Final[dict[T, Row]] = {
    T.AIR: Row(-1000, 0, 0, (0, 0), (0, 0), (0, 0), (0, 0)),
    T.SKIN: Row(20, 15, 0.3, (0.3, 0.5), (0.1, 0.3), (0.15, 0.4), (0.4, 0.7)),
    T.FAT: Row(-100, 8, 0.96, (0.3, 0.5), (0.3, 0.5), (0.2, 0.4), (0.4, 0.7)),
    T.MUSCLE: Row(55, 6, 0.04, (0.25, 0.4), (0.1, 0.25), (0.12, 0.3), (0.5, 0.7)),
    T.MUSCLE_FAT: Row(-50, 15, 0.65, (0.25, 0.4), (0.1, 0.25), (0.12, 0.3), (0.5, 0.7)),
    T.CORTEX: Row(1500, 90, 0, (0.02, 0.12), (0.02, 0.1), (0.01, 0.08), (0.02, 0.2)),
    T.MARROW: Row(150, 0, 0.4, (0.2, 0.4), (0.12, 0.4), (0.12, 0.4), (0.5, 0.85)),
    T.BASIVERTEBRAL: Row(50, 20, 0.1, (0.2, 0.4), (0.3, 0.8), (0.4, 0.9), (0.6, 1.0)),
    T.NUCLEUS: Row(80, 10, 0, (0.25, 0.4), (0.1, 0.8), (0.15, 0.8), (0.6, 0.9)),
    T.ANNULUS: Row(90, 12, 0, (0.15, 0.35), (0.03, 0.12), (0.04, 0.2), (0.4, 0.75)),
    T.CARTILAGE: Row(75, 12, 0, (0.2, 0.45), (0.08, 0.5), (0.1, 0.5), (0.4, 0.8)),
    T.LIGAMENT: Row(75, 12, 0.03, (0.05, 0.2), (0.03, 0.12), (0.03, 0.15), (0.15, 0.5)),
    T.FLAVUM: Row(70, 10, 0.05, (0.15, 0.3), (0.06, 0.2), (0.06, 0.2), (0.3, 0.6)),
    T.EPIDURAL_FAT: Row(-85, 10, 0.92, (0.3, 0.5), (0.3, 0.5), (0.2, 0.4), (0.4, 0.7)),
    T.CSF: Row(8, 4, 0, (0.08, 0.2), (0.95, 1.05), (0.9, 1.05), (0.7, 1.0)),
    T.CORD: Row(35, 4, 0, (0.32, 0.45), (0.3, 0.45), (0.3, 0.5), (0.5, 0.75)),
    T.ROOTS: Row(28, 5, 0.02, (0.22, 0.38), (0.25, 0.5), (0.3, 0.6), (0.5, 0.8)),
    T.ARTERY: Row(45, 5, 0, (0.02, 0.25), (0.01, 0.15), (0.01, 0.2), (0.3, 1.3)),
    T.VEIN: Row(42, 5, 0, (0.03, 0.35), (0.03, 0.6), (0.03, 0.7), (0.4, 1.2)),
    T.KIDNEY: Row(32, 5, 0.03, (0.25, 0.45), (0.35, 0.65), (0.5, 0.9), (0.5, 0.85)),
    T.LIVER: Row(58, 7, 0.06, (0.4, 0.6), (0.12, 0.25), (0.15, 0.35), (0.5, 0.8)),
    T.BOWEL: Row(35, 12, 0.08, (0.25, 0.5), (0.2, 0.5), (0.2, 0.6), (0.35, 0.8)),
    T.BOWEL_BRIGHT: Row(15, 12, 0, (0.15, 0.7), (0.6, 1.1), (0.6, 1.1), (0.5, 1.1)),
    T.GAS: Row(-950, 20, 0, _DARK, _DARK, _DARK, _DARK),
    T.BLADDER: Row(5, 4, 0, (0.08, 0.2), (0.9, 1.2), (0.9, 1.2), (0.6, 1.1)),
    T.LUNG: Row(-800, 40, 0, (0.02, 0.08), (0.02, 0.08), (0.02, 0.1), (0.02, 0.1)),
    T.HEART: Row(42, 5, 0.03, (0.05, 0.4), (0.05, 0.4), (0.05, 0.4), (0.4, 0.9)),
    T.OTHER_CORTEX: Row(1500, 90, 0, (0.02, 0.12), (0.02, 0.1), (0.01, 0.08), (0.02, 0.2)),
    T.OTHER_MARROW: Row(120, 0, 0.5, (0.2, 0.4), (0.12, 0.4), (0.12, 0.4), (0.5, 0.85)),
    T.BRAIN: Row(36, 3, 0, (0.35, 0.5), (0.35, 0.55), (0.35, 0.55), (0.5, 0.8)),
    T.METAL: Row(3000, 0, 0, _DARK, _DARK, _DARK, _DARK),
    T.SCAR: Row(55, 10, 0.1, (0.2, 0.4), (0.1, 0.4), (0.1, 0.5), (0.4, 0.7)),
    T.COMPACT: Row(1200, 80, 0, (0.02, 0.12), (0.02, 0.1), (0.01, 0.08), (0.02, 0.2)),
    T.HIP_MARROW: Row(225, 30, 0.7, (0.2, 0.4), (0.12, 0.4), (0.12, 0.4), (0.5, 0.85)),
    T.PROSTATE: Row(42, 4, 0, (0.28, 0.4), (0.22, 0.38), (0.25, 0.45), (0.5, 0.75)),
    T.PROSTATE_PERIPHERAL: Row(38, 4, 0, (0.26, 0.38), (0.5, 0.75), (0.5, 0.8), (0.6, 0.85)),
    T.SEMINAL_VESICLE: Row(28, 4, 0, (0.22, 0.34), (0.65, 0.95), (0.65, 0.95), (0.6, 0.95)),
    T.BLADDER_WALL: Row(35, 5, 0.02, (0.25, 0.38), (0.12, 0.25), (0.15, 0.3), (0.45, 0.65)),
    T.RECTUM: Row(40, 5, 0.03, (0.28, 0.4), (0.18, 0.35), (0.2, 0.45), (0.45, 0.7)),
    T.ERECTILE: Row(45, 5, 0, (0.3, 0.42), (0.5, 0.85), (0.55, 0.9), (0.6, 0.9)),
}
BONE: Final[tuple[T, ...]] = (
    T.CORTEX, T.MARROW, T.OTHER_CORTEX, T.OTHER_MARROW, T.COMPACT, T.HIP_MARROW,
)  # fmt: skip
