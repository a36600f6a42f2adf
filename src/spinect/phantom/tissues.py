"""The tissues of a phantom: one table that anatomy writes and contrast reads."""

from enum import IntEnum
from typing import Final


class Tissue(IntEnum):
    """What a phantom voxel is made of (uint8 in the tissue map)."""

    AIR = 0  # outside the body
    SKIN = 1
    FAT = 2  # subcutaneous and visceral fat
    MUSCLE = 3
    MUSCLE_FAT = 4  # fatty streaks and fatty atrophy inside muscle
    CORTEX = 5  # cortical bone of a vertebra or the sacrum
    MARROW = 6  # trabecular bone of a vertebra or the sacrum
    BASIVERTEBRAL = 7  # basivertebral vein plexus in the body
    NUCLEUS = 8  # nucleus pulposus
    ANNULUS = 9
    CARTILAGE = 10  # end plates, facet joints
    LIGAMENT = 11  # longitudinal, interspinous, supraspinous
    FLAVUM = 12
    EPIDURAL_FAT = 13
    CSF = 14
    CORD = 15
    ROOTS = 16  # cauda equina and nerve roots
    ARTERY = 17  # aorta, iliac arteries: flow void in spin echo
    VEIN = 18  # cava, iliac veins
    KIDNEY = 19
    LIVER = 20
    BOWEL = 21  # wall and soft content
    BOWEL_BRIGHT = 22  # fluid content
    GAS = 23  # bowel gas, airways
    BLADDER = 24
    LUNG = 25
    HEART = 26
    OTHER_CORTEX = 27  # ribs, pelvis, femora, skull base: bone that is not labelled
    OTHER_MARROW = 28
    BRAIN = 29
    METAL = 30
    SCAR = 31  # laminectomy bed
    COMPACT = 32  # cortical bone of hips and femora that is thick enough to be voxels
    HIP_MARROW = 33  # trabecular bone of hips and femora of a pelvis
    PROSTATE = 34  # transition and central zone
    PROSTATE_PERIPHERAL = 35
    SEMINAL_VESICLE = 36
    BLADDER_WALL = 37
    RECTUM = 38  # wall of rectum and anal canal
    ERECTILE = 39  # root of the penis


PELVIC: Final = tuple(Tissue(i) for i in range(Tissue.COMPACT, Tissue.ERECTILE + 1))
