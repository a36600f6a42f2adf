"""Synthetic CT and vertebra masks of one MR on its own grid: what `spinect run` does, in Python.

python examples/five_lines.py sub-1_T2w.nii.gz OUT
"""

import sys
from pathlib import Path

from spinect import read, resample, segment, to_native, translate, write


def main() -> None:
    source, out = Path(sys.argv[1]), Path(sys.argv[2])
    mr = read(source)
    translation = translate(mr)  # CT in HU at 1 mm
    masks = segment(translation)  # vertebrae, subregions and their table at 1 mm
    write(to_native(translation, mr)[0], out / "ct.nii.gz")  # on the MR's own grid
    write(resample(masks.vertebrae, mr.grid), out / "vertebrae.nii.gz")


if __name__ == "__main__":
    main()
