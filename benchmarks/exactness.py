"""What must not matter: half-precision weights, bfloat16, the tile size, the memory.

    python benchmarks/exactness.py MR [--model mr2ct] [--full FOLDER]

Each row translates MR once more with one thing changed, and compares with the bundle as it ships:
mean absolute difference of the synthetic CT inside the vertebrae of the reference in HU, and Dice
of "any vertebra". FOLDER is the same model with float32 weights, as
`spinect.training.export` writes it with `export.dtype: float32`.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from common import publish, table
from spinect.bundle import Bundle, load_bundle
from spinect.evaluation.overlap import dice
from spinect.inference import Translation, translate
from spinect.io import read

TILES = (64, 128, 160)
LEAST_MEMORY = 2 * 2**30


def with_tile(bundle: Bundle, edge: int) -> Bundle:
    """The bundle with another tile size, 2D networks with one slice."""
    old = bundle.card.preprocessing
    tile = tuple(edge if n > 1 else 1 for n in old.tile)
    changed = old.model_copy(update={"tile": tile})
    return replace(bundle, card=bundle.card.model_copy(update={"preprocessing": changed}))


def compare(one: Translation, other: Translation) -> tuple[float, float, float]:
    """Mean and largest difference in bone, HU, and Dice of the masks."""
    if one.masks is None or other.masks is None:
        raise SystemExit("the model has no mask heads")
    bone = one.masks.vertebra > 127
    away = np.abs(one.ct.data[bone] - other.ct.data[bone])
    return float(away.mean()), float(away.max()), dice(other.masks.vertebra > 127, bone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mr", type=Path)
    parser.add_argument("--model", default="mr2ct")
    parser.add_argument("--full", type=Path, help="bundle of the same model in float32")
    args = parser.parse_args()
    mr, bundle = read(args.mr, "mr"), load_bundle(args.model)
    shipped = translate(mr, bundle)
    rows: list[tuple[object, ...]] = []
    if args.full is not None:
        full, half = (translate(mr, b, precision="fp32") for b in (load_bundle(args.full), bundle))
        rows.append(("weights float16, not float32 (computed in fp32)", *compare(full, half)))
        rows.append(("computed in fp32, not as by default", *compare(shipped, half)))
    rows.extend(
        (f"tile {edge}", *compare(shipped, translate(mr, with_tile(bundle, edge))))
        for edge in TILES
    )
    small = translate(mr, bundle, max_memory=LEAST_MEMORY)
    rows.append((f"memory {LEAST_MEMORY / 2**30:g} GiB, not 6", *compare(shipped, small)))
    header = ["changed", "mean HU in bone", "largest HU in bone", "mask Dice"]
    tile = "x".join(map(str, bundle.card.preprocessing.tile))
    body = f"Reference: {bundle.card.name}, tile {tile}, {mr.grid}.\n\n" + table(header, rows)
    publish(f"exactness_{bundle.card.name}", "What must not matter", body)


if __name__ == "__main__":
    main()
