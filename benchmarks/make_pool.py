"""Write the pool of tissue maps that come from real CT and real vertebra shapes.

    python benchmarks/make_pool.py --out POOL --shapes 24 --seed 0 [--realdata DIR]

writes POOL/ct/NAME-K (each CT as it is and in gently warped variants, so that the coarse voxels of
one scan do not dominate) and POOL/shapes/SEED. Folders that are complete are left alone.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np

from spinect.anatomy import VERTEBRA_IDS
from spinect.data.shapes import tissue_map_from_shapes
from spinect.data.surfaces import labels_from_surfaces, read_obj
from spinect.data.synthesise import tissue_map_from_ct, warped
from spinect.geometry import Volume
from spinect.geometry.volume import Kind
from spinect.phantom.maps import TissueMap

CTS = ("verse012", "totalsegmentator_abdomen")
LABEL_MAP, SURFACES = "healthivert0007_T9-L5", "vhp"
VARIANTS = 4  # of each CT, the unwarped one included


def volume(path: Path, kind: Kind) -> Volume:
    """A NIfTI file of the real-data folder."""
    image = nib.Nifti1Image.from_filename(path)
    dtype = np.uint8 if kind == "labels" else np.float32
    return Volume(np.asarray(image.dataobj).astype(dtype), image.affine, kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--realdata", type=Path, default=os.environ.get("SPINECT_REALDATA"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--shapes", type=int, default=24, help="maps from vertebra shapes")
    parser.add_argument("--seed", type=int, default=0, help="first seed of the shapes")
    args = parser.parse_args()
    if args.realdata is None:
        sys.exit("no real data: set SPINECT_REALDATA or give --realdata DIR")
    data = Path(args.realdata)
    for name in CTS:
        for k in range(VARIANTS):
            write(args.out / "ct" / f"{name}-{k}", partial(ct_map, data, name, k))
    for seed in range(args.seed, args.seed + args.shapes):
        write(args.out / "shapes" / str(seed), partial(shape_map, data, seed))


def ct_map(data: Path, name: str, variant: int) -> TissueMap:
    ct = volume(data / "ct" / f"{name}_ct.nii.gz", "ct")
    labels = volume(data / "ct" / f"{name}_vertebrae.nii.gz", "labels")
    if variant:
        ct, labels = warped(ct, labels, np.random.default_rng([variant, len(name)]))
    return tissue_map_from_ct(ct, labels, None, f"{name}-{variant}")


def shape_map(data: Path, seed: int) -> TissueMap:
    """Even seeds vary the label map, odd ones the surfaces."""
    folder = data / "shapes"
    if seed % 2 == 0:
        labels = volume(folder / f"{LABEL_MAP}_vertebrae.nii.gz", "labels")
        return tissue_map_from_shapes(labels, seed, LABEL_MAP)
    surfaces = {}
    for name in ("L1", "L2", "L3", "L4", "L5", "S1"):
        vertices, faces = read_obj(folder / f"{SURFACES}_{name}.obj")
        right, front, head = -vertices[:, 1], vertices[:, 0], vertices[:, 2]  # its axes: A, L, S
        points = 1000 * np.stack([right, front, head], 1)  # metres
        surfaces[VERTEBRA_IDS[name]] = points, faces
    return tissue_map_from_shapes(labels_from_surfaces(surfaces), seed, SURFACES)


def write(folder: Path, make: Callable[[], TissueMap]) -> None:
    if (folder / "map.json").exists():
        print(f"{folder}: there", flush=True)
        return
    start = time.perf_counter()
    made = make()
    made.save(folder)
    print(
        f"{folder}: {made.grid}, {len(made.subject.centres)} vertebrae, "
        f"{time.perf_counter() - start:.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    main()
