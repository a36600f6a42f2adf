"""The dataset of an experiment, and the training pairs at each registration level."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from spinect.errors import InputError
from spinect.io import write_table
from spinect.io.bids import parse_name
from spinect.io.participants import read_rows
from spinect.phantom.pair import make_pair, participant, write_pair, write_people
from spinect.workflows.compare.config import Level, PhantomSource
from spinect.workflows.compare.marks import Errors, marked
from spinect.workflows.compare.stages import Facts
from spinect.workflows.register import RegisterOptions, find_pairs, register_many
from spinect.workflows.register.names import TABLE
from spinect.workflows.register.pairs import REGISTERED

_ROW: Final = "participant.tsv"  # of one subject, until all are made
Pause = Callable[[], None]  # raises Paused when the time of this start is used up


def make_phantoms(source: PhantomSource, folder: Path, pause: Pause) -> Facts:
    """Write the dataset; subjects that are there already are kept.

    A subject is made in a folder of its own and moved to its place, its images last.
    """
    seeds = [source.train_seed + i for i in range(source.train)]
    seeds += [source.test_seed + i for i in range(source.test)]
    rows = []
    for seed in seeds:
        name = f"sub-{seed}"
        row = folder / "code" / f"{name}_{_ROW}"
        if not (folder / name).is_dir():
            pause()
            _make(source, seed, folder, row)
        rows += read_rows(row)
    write_people(rows, folder)
    return {"train": source.train, "test": source.test}


def _make(source: PhantomSource, seed: int, folder: Path, row: Path) -> None:
    name = f"sub-{seed}"
    bench = folder / f".{name}.part"
    shutil.rmtree(bench, ignore_errors=True)
    pair = make_pair(seed, source.region, source.contrasts, source.motion, source.slices)
    write_pair(pair, bench, name)
    write_table([participant(pair)], row)
    truth = Path("derivatives", "truth", name)
    shutil.rmtree(folder / truth, ignore_errors=True)
    (folder / truth).parent.mkdir(parents=True, exist_ok=True)
    (bench / truth).rename(folder / truth)
    (bench / name).rename(folder / name)
    shutil.rmtree(bench)


def options_of(level: Level) -> RegisterOptions:
    """What `spinect register` is asked for at a level other than "truth"."""
    model, _, points = level.rpartition("-")
    return RegisterOptions.checked(points=points, model=model or "rigid", resume=True)


def register_level(
    dataset: Path, contrast: str, level: Level, errors: Errors, view: Path, pause: Pause
) -> Facts:
    """Register the training pairs of a dataset into a folder that training reads.

    The folder holds no image, only the way to each; what training prepares stays in it.

    Args:
        errors: Of the landmarks, the same at every level.
        view: Made, or gone on with; pairs that are up to date are kept.
    Returns:
        How many pairs were registered and how many were rejected or failed, and the reasons.
    Raises:
        InputError: No training pair of this contrast.
    """
    people = read_rows(dataset / "participants.tsv", ("participant_id", "split"))
    training = [row for row in people if row["split"] == "train"]
    names = {row["participant_id"] for row in training}
    pairs = [
        marked(pair, errors, view)
        for pair in find_pairs(dataset, view / REGISTERED)
        if pair.participant in names and parse_name(pair.mr.name).suffix == contrast
    ]
    if not pairs:
        raise InputError(f"{dataset}: no {contrast} of the split train: nothing to register")
    placed = [replace(pair, key=_way(pair.mr, view)) for pair in pairs]
    table = view / REGISTERED / TABLE
    done = register_many(placed, options_of(level), table, lambda *_: pause())
    write_table(training, view / "participants.tsv")
    bad = {o.pair.participant: o.error for o in done.outcomes if o.status == "failed"}
    for outcome in done.outcomes:
        if outcome.record is not None and outcome.record.verdict == "reject":
            bad[outcome.pair.participant] = f"rejected: {outcome.record.reason}"
    if len(bad) == len(pairs):
        raise InputError(f"none of {len(pairs)} pairs was registered: {next(iter(bad.values()))}")
    return {"pairs": len(pairs), "registered": len(pairs) - len(bad), "left_out": bad}


def _way(path: Path, view: Path) -> str:
    return Path(os.path.relpath(path, view)).as_posix()
