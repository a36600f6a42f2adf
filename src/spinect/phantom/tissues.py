"""The tissues of a phantom: one table that anatomy writes and contrast reads."""

from enum import IntEnum


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
