"""The tables of a loop: its rounds, its series, and the accepted pairs to train from."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from spinect.io import write_table, write_text
from spinect.workflows.loop.cases import Case
from spinect.workflows.loop.rounds import Decision, accepted
from spinect.workflows.loop.steps import Place
from spinect.workflows.register import read_record
from spinect.workflows.register.names import TABLE
from spinect.workflows.register.pairs import REGISTERED
from spinect.workflows.register.record import COLUMNS as REGISTRATION

ACCEPTED: Final = "accepted"  # folder
ROUNDS: Final = ("round", "trained_on", "training", "tried", "registered", "gained", "failed",
                 "accepted", "mean_mm", "p95_mm", "seconds")  # fmt: skip
CASES: Final = ("series", "participant_id", "contrast", "split", "state", "round", "mean_mm",
                "p95_mm", "renamed", "reason", "outputs")  # fmt: skip


def round_rows(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """One row per round; residuals over all landmarks of the series gained in it."""
    rows, total = [], 0
    for one in decisions:
        total += len(one.gained)
        residual = [r for t in one.trials if t.accepted for r in t.residual_mm]
        rows.append(
            {
                "round": one.round,
                "trained_on": one.trained_on or None,
                "training": len(one.training),
                "tried": len(one.trials),
                "registered": sum(t.registered for t in one.trials),
                "gained": len(one.gained),
                "failed": len(one.failed),
                "accepted": total,
                "mean_mm": round(float(np.mean(residual)), 3) if residual else None,
                "p95_mm": round(float(np.percentile(residual, 95)), 3) if residual else None,
                "seconds": one.seconds,
            }
        )
    return rows


def case_rows(
    cases: Sequence[Case], decisions: Sequence[Decision], out: Path
) -> list[dict[str, Any]]:
    """One row per series: its state after the last round that tried it."""
    last = {t.case: (one.round, t) for one in decisions for t in one.trials}
    rows = []
    for case in cases:
        row: dict[str, Any] = {
            "series": case.name,
            "participant_id": case.pair.participant,
            "contrast": case.contrast,
            "split": case.split,
            "state": "waiting",
        }
        if case.name in last:
            number, trial = last[case.name]
            stem = Place(case, out / f"round-{number}").stem
            row |= {
                "state": "accepted" if trial.accepted else "failed",
                "round": number,
                "mean_mm": trial.mean_mm,
                "p95_mm": trial.p95_mm,
                "renamed": ", ".join(f"{a} is {b}" for a, b in trial.renamed.items()) or None,
                "reason": trial.reason,
                "outputs": stem.relative_to(out).as_posix() if trial.registered else None,
            }
        rows.append(row)
    return rows


def write_tables(cases: Sequence[Case], decisions: Sequence[Decision], out: Path) -> None:
    """`rounds.tsv` and `cases.tsv`."""
    write_table(round_rows(decisions), out / "rounds.tsv", ROUNDS)
    write_table(case_rows(cases, decisions, out), out / "cases.tsv", CASES)


def write_accepted(
    cases: Sequence[Case], decisions: Sequence[Decision], dataset: Path, out: Path
) -> Path:
    """A dataset folder of the accepted pairs that holds no image, only the way to each.

    Training reads it like any other. What training prepares from it stays in it and not in the
    dataset.

    Args:
        dataset, out: Absolute.
    Returns:
        ``OUT/accepted``.
    """
    view = out / ACCEPTED
    done: Mapping[str, int] = accepted(decisions)
    rows = []
    for case in cases:
        if case.name not in done:
            continue
        place = Place(case, out / f"round-{done[case.name]}")
        stem = Path(os.path.relpath(place.stem, view / REGISTERED))
        record = read_record(place.stem.with_name(place.stem.name + "_registration.json"))
        ends = {
            "participant_id": case.pair.participant,
            "mr": Path(os.path.relpath(case.pair.mr, view)).as_posix(),
            "ct": case.pair.ct.name if case.pair.ct else None,
            "outputs": stem.as_posix(),
            "status": "done",
        }
        rows.append(record.row() | ends)
    people = (dataset / "participants.tsv").read_text(encoding="utf-8-sig")
    write_text(people, view / "participants.tsv")
    write_table(rows, view / REGISTERED / TABLE, REGISTRATION)
    return view
