"""Values of all rows by `spinect evaluate`, then the verdicts, the tables and the record."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from spinect.evaluation.tables import Tidy
from spinect.io import write_json
from spinect.workflows.compare.config import Experiment
from spinect.workflows.compare.data import Pause
from spinect.workflows.compare.status import Status
from spinect.workflows.compare.tables import Made, make_tables, write_tables
from spinect.workflows.compare.verdict import Verdict, judge_rows, over_seeds
from spinect.workflows.evaluate import EvaluateOptions, evaluate
from spinect.workflows.evaluate.score import CEILING
from spinect.workflows.record import commit, now, versions

PHANTOM: Final = "Phantom data."
TABLES: Final = "tables"
RECORD: Final = "compare.json"
_PROTOCOLS: Final = ("strict", "graf2023")  # those of the tables


@dataclass(frozen=True)
class Asked:
    """What is measured.

    Attributes:
        judge: Segmenter bundle that sees the synthetic CTs. workers: Cases at a time.
    """

    contrast: str
    judge: str | None = None
    workers: int = 1


@dataclass(frozen=True)
class Values:
    """What the evaluation measured: tidy rows by method, and the judge's name, if there is one."""

    rows: tuple[Tidy, ...]
    judge: str | None = None


def score_methods(
    dataset: Path, results: Mapping[str, Path], asked: Asked, out: Path, pause: Pause
) -> Values:
    """All results of one contrast against the truth; what is up to date is kept.

    Args:
        results: Method -> folder of its results.
        out: Gets values, tables and the report of `spinect evaluate`.
    Raises:
        SpinectError: Nothing can be scored.
        Paused: The time of this start is used up.
    """
    folder = out / f"methods-{asked.contrast}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, place in results.items():
        (folder / name).symlink_to(place.resolve(), target_is_directory=True)
    options = EvaluateOptions.checked(
        protocols=_PROTOCOLS,
        judge=asked.judge,
        contrasts=(asked.contrast,),
        workers=asked.workers,
        resume=True,
    )
    done = evaluate(
        dataset, folder, out / f"evaluation-{asked.contrast}", options, lambda *_: pause()
    )
    return Values(tuple(done.scores.rows), done.scores.judge[0] if done.scores.judge else None)


def conclude(
    experiment: Experiment, statuses: Sequence[Status], values: Sequence[Values], out: Path
) -> tuple[list[Verdict], list[Made]]:
    """Verdicts, tables and `compare.json`."""
    owner = {status.name: status.row.name for status in statuses} | {CEILING: CEILING}
    rows = over_seeds([row for one in values for row in one.rows], owner)
    judge = next((one.judge for one in values if one.judge), None)
    verdicts = judge_rows(experiment, statuses, rows)
    notes = _notes(experiment, judge)
    tables = make_tables(experiment, statuses, verdicts, rows, judge, notes)
    written = write_tables(tables, out / TABLES)
    _write_record(experiment, statuses, verdicts, tables, written, out)
    return verdicts, tables


def _notes(experiment: Experiment, judge: str | None) -> list[str]:
    budget = experiment.budget
    notes = [PHANTOM] if experiment.data.source == "phantom" else []
    notes.append(
        f"Each training: {budget.minutes:g} {budget.clock} minutes, at least "
        f"{budget.least_updates:,} updates; the same pairs, split and patches."
    )
    if experiment.segment and not experiment.mirror_average:
        notes.append("The shipped segmenter sees each CT once, without the mirrored one.")
    if judge:
        notes.append(
            f"({judge}): masks that the judge {judge} made of the synthetic CT; columns without "
            "it: the shipped segmenter, or a row's own masks where it makes no CT."
        )
    return notes


def _write_record(
    experiment: Experiment,
    statuses: Sequence[Status],
    verdicts: Sequence[Verdict],
    tables: Sequence[Made],
    written: Sequence[str],
    out: Path,
) -> None:
    record: dict[str, Any] = {
        "schema_version": "1.0",
        "made": now(),
        "commit": commit(),
        "versions": versions(),
        "experiment": experiment.model_dump(mode="json"),
        "rows": [status.columns() for status in statuses],
        "verdicts": {
            v.row.name: {
                "shown": not v.stopped,
                "text": v.stopped,
                "mae_near_bone_hu": None if v.near_bone != v.near_bone else round(v.near_bone, 3),
                "updates": v.updates,
            }
            for v in verdicts
        },
        "tables": {one.name: "made" if one.table else "no rows" for one in tables},
        "files": [f"{TABLES}/{name}" for name in written],
    }
    write_json(record, out / RECORD)
