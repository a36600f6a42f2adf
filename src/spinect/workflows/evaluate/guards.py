"""What would make figures untrue: leaks, results of another image, one file for two cases."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from spinect.errors import InputError
from spinect.io.read import read_array
from spinect.workflows.evaluate.leaks import find_leaks, trained_here
from spinect.workflows.evaluate.results import Made, Method
from spinect.workflows.evaluate.truth import Cohort, Series
from spinect.workflows.options import listed
from spinect.workflows.record import sha256_of


@dataclass(frozen=True)
class Verdict:
    """What was found before anything was scored.

    Attributes:
        refused: (method, case) -> why this result must not be scored.
        leaked: case -> why no result of it may be scored.
        warnings: For the reader of the figures.
    """

    refused: Mapping[tuple[str, str], str]
    leaked: Mapping[str, str]
    warnings: tuple[str, ...]


def judge_inputs(dataset: Path, cohort: Cohort, methods: Mapping[str, Method]) -> Verdict:
    """Look for everything that would make a comparison untrue.

    Refused: one file for two cases; a record of another image than the dataset's. Leaked: an image
    whose voxels also lie on the training side; a phantom with a training seed on the test side.
    Warned of: results of the training side (left unscored), of no series at all, without a record;
    equal CTs of two methods; a model whose card names this very folder as training data.
    """
    refused: dict[tuple[str, str], str] = {}
    warnings: list[str] = []
    names = {series.name for series in cohort.series}
    for method in methods.values():
        refused |= {(method.name, case): why for case, why in _twice(method, names).items()}
        for series in cohort.series:
            made = method.made.get(series.name)
            if made is not None and (why := _other_image(series, made)):
                refused.setdefault((method.name, series.name), why)
        warnings += _strays(method, cohort, names)
    warnings += _same_of_two_methods(methods, names)
    warnings += trained_here(dataset, methods)
    return Verdict(refused, find_leaks(dataset, cohort), tuple(warnings))


def file_hash(path: Path) -> str:
    """sha256 of a file, read once in a process as long as it does not change."""
    state = path.stat()
    return _hash(path, state.st_mtime_ns, state.st_size)


@cache
def _hash(path: Path, _changed: int, _size: int) -> str:
    return sha256_of(path)


def _twice(method: Method, names: Iterable[str]) -> dict[str, str]:
    """Cases that share a file with another case; empty masks may well be equal."""
    wanted = set(names)
    same: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for case, made in method.made.items():
        for path in made.images.values():
            same[file_hash(path)].append((case, path))
    found: dict[str, str] = {}
    for holders in same.values():
        cases = {case for case, _ in holders}
        if len(cases) < 2 or not _has_content(holders[0][1]):
            continue
        for case, path in holders:
            if case in wanted:
                other = next(p for c, p in holders if c != case)
                found[case] = (
                    f"{path.name} is the same file as {other.name}: at least one is not the "
                    "result of its own image; run both again"
                )
    return found


def _has_content(path: Path) -> bool:
    values, _ = read_array(path)
    return bool(np.ptp(values) > 0)


def _other_image(series: Series, made: Made) -> str:
    """Why the result's record does not belong to the series; "" where it does or is missing."""
    try:
        record = made.record()
    except InputError as problem:
        return str(problem)
    if record is None:
        return ""
    own = file_hash(series.mr)
    if own in {source.sha256 for source in record.inputs}:
        return ""
    told = ", ".join(f"{s.path} ({s.sha256[:12]})" for s in record.inputs)
    return (
        f"{series.name}: the result was made from {told}, not from this dataset's "
        f"{series.mr.name} ({own[:12]}): swapped, or the dataset changed; run it again"
    )


def _strays(method: Method, cohort: Cohort, names: set[str]) -> list[str]:
    """Results that are not scored, and results that nothing proves."""
    others = sorted(set(method.made) & set(cohort.others))
    unknown = sorted(set(method.made) - names - set(cohort.others))
    bare = sorted(case for case in names & set(method.made) if method.made[case].run is None)
    said = []
    if others:
        said.append(f"{listed(others)} stand on another side of the split: not scored")
    if unknown:
        said.append(f"{listed(unknown)} belong to no series that is scored: not scored")
    if bare:
        said.append(f"{listed(bare)} have no run record: nothing proves which image they are of")
    return [f"{method.name}: {text}" for text in said]


def _same_of_two_methods(methods: Mapping[str, Method], names: set[str]) -> list[str]:
    """Methods whose CT of a case is one and the same file."""
    same: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for method in methods.values():
        for case in sorted(names & set(method.made)):
            made = method.made[case]
            if made.ct is not None:
                same[file_hash(made.ct)].append((method.name, case))
    pairs: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for held in same.values():
        owners = tuple(sorted({method for method, _ in held}))
        if len(owners) > 1:
            pairs[owners].append(held[0][1])
    return [
        f"{' and '.join(owners)} have the same synthetic CT of {listed(cases)}: "
        "is one a copy of the other?"
        for owners, cases in pairs.items()
    ]
