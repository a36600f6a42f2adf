"""Contrasts that no training of shipped weights draws: what does a model do with one it never saw?

`contrast.draw_name` leaves them out; only who names them gets them. A quarter of all training scans
have random tissue values, so a model is prepared for the unknown, but not for these two. Values are
typical ones (assumed), as in `tissue_values`.
"""

from dataclasses import dataclass
from typing import Final, Literal

from spinect.phantom.tissue_values import Span
from spinect.phantom.tissues import Tissue as T

WithheldName = Literal["PDw", "T2starw"]

# Tissues that look alike in both; every tissue stands in one group.
_GROUPS: Final[dict[str, tuple[T, ...]]] = {
    "nothing": (T.AIR,),
    "dark": (T.GAS, T.LUNG, T.METAL),
    "cortex": (T.CORTEX, T.OTHER_CORTEX, T.COMPACT),
    "marrow": (T.MARROW, T.OTHER_MARROW, T.HIP_MARROW),
    "fat": (T.FAT, T.EPIDURAL_FAT, T.SKIN),  # their water
    "muscle": (T.MUSCLE, T.MUSCLE_FAT, T.HEART, T.SCAR, T.RECTUM, T.BLADDER_WALL, T.BOWEL),
    "organ": (T.KIDNEY, T.LIVER, T.PROSTATE, T.PROSTATE_PERIPHERAL, T.ERECTILE),
    "liquid": (T.CSF, T.BLADDER, T.BOWEL_BRIGHT, T.SEMINAL_VESICLE),
    "nerve": (T.CORD, T.ROOTS, T.BRAIN),
    "nucleus": (T.NUCLEUS,),
    "annulus": (T.ANNULUS, T.CARTILAGE),
    "ligament": (T.LIGAMENT, T.FLAVUM),
    "flow": (T.ARTERY, T.VEIN, T.BASIVERTEBRAL),
}


@dataclass(frozen=True)
class Look:
    """Signal of the water of each group and of fat; the brightest is about 1.

    Attributes:
        groups: Group -> span of the water signal.
        fat: Span of the signal of pure fat.
        gradient_echo: Not refocused: no void in flow, bone darkens what is near it.
    """

    groups: dict[str, Span]
    fat: Span
    gradient_echo: bool

    @property
    def water(self) -> tuple[Span, ...]:
        """One span per tissue."""
        of = {tissue: self.groups[name] for name, group in _GROUPS.items() for tissue in group}
        return tuple(of[tissue] for tissue in T)


WITHHELD: Final[dict[str, Look]] = {
    # Proton density: little between soft tissues, liquor no brighter than cord.
    "PDw": Look(
        {
            "nothing": (0, 0), "dark": (0, 0.03), "cortex": (0.02, 0.12), "marrow": (0.45, 0.65),
            "fat": (0.4, 0.6), "muscle": (0.45, 0.6), "organ": (0.5, 0.75), "liquid": (0.55, 0.8),
            "nerve": (0.6, 0.75), "nucleus": (0.55, 0.8), "annulus": (0.2, 0.45),
            "ligament": (0.08, 0.2), "flow": (0.02, 0.3),
        },
        fat=(0.75, 1.0),
        gradient_echo=False,
    ),
    # Multi-echo gradient echo, as of necks: trabeculae dephase the marrow, liquor is white.
    "T2starw": Look(
        {
            "nothing": (0, 0), "dark": (0, 0.02), "cortex": (0, 0.05), "marrow": (0.04, 0.16),
            "fat": (0.2, 0.35), "muscle": (0.3, 0.45), "organ": (0.35, 0.6), "liquid": (0.9, 1.1),
            "nerve": (0.5, 0.7), "nucleus": (0.6, 0.95), "annulus": (0.35, 0.6),
            "ligament": (0.08, 0.25), "flow": (0.5, 1.1),
        },
        fat=(0.15, 0.35),
        gradient_echo=True,
    ),
}  # fmt: skip
