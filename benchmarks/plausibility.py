"""Are runs that cannot be right warned of, and good ones not? Derives the limits, too.

    python benchmarks/plausibility.py PHANTOMS... [--organs PELVES] [--real DIR] [--publish]

PHANTOMS are dataset folders of `spinect phantom`. Every scan is run as it is and as a narrow slab,
and every one, or the first --corrupted of each folder, in each way of `plausibility_cases.py`.
Every number goes to OUT/measurements.csv; started again, it goes on where it stopped, and derives
the limits anew without running a network. Every other subject serves to derive limits, the others
to report.
"""

import argparse
import csv
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import publish, table
from plausibility_cases import CORRUPTIONS, GOOD, TURNED, of_height, truth_of
from spinect.geometry import Volume
from spinect.geometry.resample import resample
from spinect.io import read
from spinect.workflows.engine import Engine
from spinect.workflows.options import RunOptions
from spinect.workflows.plausibility import LIMITS, UNKNOWN, Limit, implausible, orientation
from spinect.workflows.record import PlausibilityRecord, Stopwatch
from spinect.workflows.shipped import load_engine

DERIVED = ("agreement", "mirror", "gamma", "doubt", "canal", "posterior", "halved", "dark")
PARTS = ("derive", "report", "real")
ABOUT = ("name", "kind", "part", "model", "seconds", "share")
OPTIONS = RunOptions(outputs=("vertebrae",))


@dataclass(frozen=True)
class Row:
    """One volume: which it is, what was measured, and what that cost."""

    name: str
    kind: str  # of GOOD or CORRUPTIONS, or "real"
    part: str  # "derive", "report" or "real"
    model: str  # first digits of the weights' hashes
    seconds: float  # of the whole run
    share: float  # of it for the check
    record: PlausibilityRecord


def scans(folder: Path, most: int) -> list[Path]:
    """One scan for each subject, contrasts in turn."""
    found = []
    for index, subject in enumerate(sorted(folder.glob("sub-*"))[:most]):
        own = sorted((subject / "anat").glob("*w.nii.gz"))
        found.append(own[(index // 2) % len(own)])  # both halves see all contrasts
    return found


def variants(
    scan: Path, height: float, corrupted: bool, organ: bool
) -> Iterator[tuple[str, Volume]]:
    """A phantom's scan as it is, and in every other way; only off the spine for an organ."""
    truth = truth_of(scan)
    mr = of_height(read(scan, "mr"), truth, height)
    kinds = [*GOOD, *(CORRUPTIONS if corrupted else ())]
    labels = resample(truth, mr.grid)
    for kind in ["wrong organ"] if organ else kinds:
        change = (GOOD | CORRUPTIONS)[kind]
        rng = np.random.default_rng([zlib.crc32(scan.name.encode()), *kind.encode()])
        made = change(mr, labels, rng)
        if made is not None:
            yield kind, made


class Table:
    """The measurements on disk, one line each, and the engine that makes more of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.engine: Engine = load_engine(OPTIONS)
        self.model = "+".join(m.sha256[:8] for m in self.engine.models)
        rows = list(csv.DictReader(path.open())) if path.exists() else []
        self.rows = [row for row in map(_row, rows) if row.model == self.model]

    def add(self, name: str, kind: str, part: str, image: Volume) -> None:
        """Run one volume, unless these weights have run it."""
        if any((row.name, row.kind) == (name, kind) for row in self.rows):
            return
        watch = Stopwatch()
        record = self.engine.process(image, OPTIONS, watch).plausibility
        assert record is not None
        spent = sum(watch.seconds.values())
        share = watch.seconds["plausible"] / spent
        row = Row(name, kind, part, self.model, round(spent, 1), round(share, 3), record)
        self.rows.append(row)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = not self.path.exists()
        with self.path.open("a", newline="") as stream:
            writer = csv.writer(stream)
            if new:
                writer.writerow([*ABOUT, "record"])
            writer.writerow([*(getattr(row, key) for key in ABOUT), record.model_dump_json()])
        print(f"{name}, {kind}: {', '.join(warned(row, LIMITS)) or 'no warning'}", flush=True)


def _row(values: dict[str, str]) -> Row:
    about = {key: values[key] for key in ABOUT}
    record = PlausibilityRecord.model_validate_json(values["record"])
    cost = {key: float(about[key]) for key in ("seconds", "share")}
    return Row(**about | cost | {"record": record})


def derive(rows: Sequence[Row]) -> dict[str, Limit]:
    """Limits for what is measured, from the phantoms of one half.

    The farther out of two places: halfway between the worst good phantom and the median of the
    corrupted values beyond it, and as far beyond the worst good phantom as that is from the
    median of the good ones.
    """
    limits = dict(LIMITS)
    for name in DERIVED:
        sign = -1.0 if LIMITS[name].low is not None else 1.0  # so that more is worse
        clean = sign * _values(rows, name, clean=True)
        if len(clean) == 0:
            continue
        other = sign * _values(rows, name, clean=False)
        worst = float(clean.max())
        places = [2 * worst - float(np.median(clean))]
        if (other > worst).any():
            places.append((worst + float(np.median(other[other > worst]))) / 2)
        value = round(sign * max(places), 3)
        low, high = (value, None) if sign < 0 else (None, value)
        limits[name] = Limit(low, high, LIMITS[name].says)
    return limits


def _values(rows: Iterable[Row], name: str, clean: bool) -> np.ndarray:
    found = [getattr(row.record, name) for row in rows if (row.kind in GOOD) == clean]
    return np.array([value for value in found if value is not None], np.float64)


def facing(row: Row) -> str:
    """What has to be turned, by what was seen."""
    return orientation(row.record.seen)


def warned(row: Row, limits: dict[str, Limit]) -> tuple[str, ...]:
    """What a run would warn of under these limits."""
    turned = facing(row)
    upright = turned in (UNKNOWN, TURNED["clean"])
    return implausible(row.record.model_dump(), limits) + (() if upright else (f"stands {turned}",))


def report(rows: Sequence[Row], limits: dict[str, Limit], real: Sequence[Row]) -> str:
    """The tables: limits, shares warned, orientation, real scans."""
    good = [row.share for row in [*rows, *real] if row.kind in (*GOOD, "real")]
    parts = [
        "## Limits\n\n" + table(("number", "least", "most", "in the code"), _limit_lines(limits)),
        "## Warned of\n\n"
        + table(("images", "count", "warned", "by"), _warned_lines(rows, limits)),
        "## Which way up\n\n"
        + table(("images", "count", "right", "not determinable", "wrong"), _facing_lines(rows)),
        f"Share of a run that the check takes, median of good images: {np.median(good):.3f}",
    ]
    if real:
        lines = [(row.name, facing(row), ", ".join(warned(row, limits)) or "none") for row in real]
        parts.append("## Real scans\n\n" + table(("scan", "stands", "warned of"), lines))
    return "\n\n".join(parts)


def _limit_lines(limits: dict[str, Limit]) -> list[tuple[object, ...]]:
    lines = []
    for name in DERIVED:
        low, high, _ = limits[name]
        own = LIMITS[name].low if high is None else LIMITS[name].high
        lines.append((name, "" if low is None else low, "" if high is None else high, own))
    return lines


def _warned_lines(rows: Sequence[Row], limits: dict[str, Limit]) -> list[tuple[object, ...]]:
    lines = []
    for kind in (*GOOD, *CORRUPTIONS):
        hits = [warned(row, limits) for row in rows if row.kind == kind]
        names = sorted({name for hit in hits for name in hit})
        counts = [f"{name} {sum(name in hit for hit in hits)}" for name in names]
        lines.append((kind, len(hits), sum(map(bool, hits)), ", ".join(counts)))
    return lines


def _facing_lines(rows: Sequence[Row]) -> list[tuple[object, ...]]:
    lines = []
    for kind, turn in TURNED.items():
        told = [facing(row) for row in rows if row.kind == kind]
        right, unknown = told.count(turn), told.count(UNKNOWN)
        lines.append((kind, len(told), right, unknown, len(told) - right - unknown))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("phantoms", type=Path, nargs="*")
    organs = "datasets of which only what lies beside the spine is run, such as pelves"
    parser.add_argument("--organs", type=Path, nargs="*", default=[], help=organs)
    parser.add_argument("--real", type=Path, help="folder of NAME_mr.nii.gz whose Dice is fine")
    parser.add_argument("--out", type=Path, default=Path("runs/plausibility"))
    parser.add_argument("--subjects", type=int, default=10, help="of each folder, at most")
    parser.add_argument("--corrupted", type=int, default=10, help="of these, at most")
    parser.add_argument("--height", type=float, default=1000.0, help="most height of a scan, mm")
    parser.add_argument("--scans", default="*", help="pattern of the real scans' names")
    parser.add_argument("--publish", action="store_true", help="keep the tables under results/")
    args = parser.parse_args()
    measured = Table(args.out / "measurements.csv")
    for folder in [*args.phantoms, *args.organs]:
        for index, scan in enumerate(scans(folder, args.subjects)):
            corrupted = index < args.corrupted
            for kind, image in variants(scan, args.height, corrupted, folder in args.organs):
                measured.add(f"{folder.name}/{scan.name}", kind, PARTS[index % 2], image)
    for scan in sorted(args.real.glob(f"{args.scans}_mr.nii.gz")) if args.real else ():
        measured.add(scan.name, "real", "real", read(scan, "mr"))
    halves = {part: [r for r in measured.rows if r.part == part] for part in PARTS}
    body = report(halves["report"], derive(halves["derive"]), halves["real"])
    text = (
        "Phantom data but for the last table. The limits are those of the half of the phantoms "
        f"({len(halves['derive'])} images) that the other tables leave out.\n\n{body}"
    )
    if args.publish:
        publish("plausibility", "Plausibility of a run", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
