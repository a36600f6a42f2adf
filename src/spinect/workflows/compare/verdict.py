"""Which rows may show figures, and rows of several seeds made one.

A row is printed only if it reached the stated updates and beats every baseline of its contrast by
MAE near bone; else its cells say why not. Ranks need three seeds (docs/evaluation.md).
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from spinect.evaluation.tables import Method, Tidy
from spinect.workflows.compare.config import Experiment, Row
from spinect.workflows.compare.status import Status

SEEDS: Final = 3  # of a ranking
ONE_SEED: Final = "one seed, no ranking"
_BAR: Final = ("strict", "iso", "near_bone", "mae")


@dataclass(frozen=True)
class Verdict:
    """What may be said of a row.

    Attributes:
        stopped: Text instead of its figures; "" where they are shown.
        near_bone: MAE near bone in HU, mean over patients; NaN without a CT.
        updates: Of its trainings, the fewest.
    """

    row: Row
    stopped: str
    near_bone: float
    updates: int | None

    @property
    def method(self) -> Method:
        """The row of the tables."""
        return Method(self.row.name, stopped=self.stopped, ranked=False)


def over_seeds(rows: Sequence[Tidy], owner: Mapping[str, str]) -> list[Tidy]:
    """Values by row: the mean over its seeds, undefined where one of them is.

    Args:
        owner: Method of the tidy rows (one per seed) -> name of the row.
    """
    groups: dict[Tidy, list[Tidy]] = defaultdict(list)
    for value in rows:
        if value.method in owner:
            bare = replace(value, method=owner[value.method], value=0.0, note="")
            groups[bare].append(value)
    merged = []
    for bare, found in groups.items():
        notes = "; ".join(dict.fromkeys(one.note for one in found if one.note))
        merged.append(replace(bare, value=float(np.mean([one.value for one in found])), note=notes))
    return merged


def judge_rows(
    experiment: Experiment, statuses: Sequence[Status], rows: Sequence[Tidy]
) -> list[Verdict]:
    """The verdict on every row of the experiment, in its order.

    Args:
        statuses: Of every row and seed. rows: Values by row, see `over_seeds`.
    """
    errors = {row.name: _near_bone(rows, row.name) for row in experiment.rows}
    baselines = [row for row in experiment.rows if row.baseline]
    verdicts = []
    for row in experiment.rows:
        own = [status for status in statuses if status.row.name == row.name]
        counts = [int(status.facts.get("updates", 0)) for status in own]
        updates = min(counts) if counts else None
        rivals = {
            other.name: errors[other.name]
            for other in baselines
            if experiment.contrast_of(other) == experiment.contrast_of(row) and not row.baseline
        }
        ct = all(status.facts.get("makes_ct", True) for status in own)
        stopped = _failure(own) or _unconverged(experiment, updates)
        if not stopped and ct:
            stopped = _beaten(errors[row.name], rivals, updates)
        verdicts.append(Verdict(row, stopped, errors[row.name], updates))
    return verdicts


def ranked(verdicts: Sequence[Verdict], experiment: Experiment) -> list[Method]:
    """The methods of a table; they are ranked where all shown rows have three seeds or more."""
    shown = [v.row for v in verdicts if not v.stopped]
    enough = all(len(experiment.weights(row).seeds) >= SEEDS for row in shown)
    return [replace(v.method, ranked=enough) for v in verdicts]


def _near_bone(rows: Sequence[Tidy], name: str) -> float:
    values = [
        row.value
        for row in rows
        if row.method == name
        and not row.item
        and (row.protocol, row.space, row.region, row.metric) == _BAR
    ]
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _failure(own: Sequence[Status]) -> str:
    bad = [status for status in own if status.state == "failed"]
    if bad:
        return "failed, see rows.tsv"
    late = [s for s in own if s.state not in ("translated", "evaluated")]
    return "not finished" if late or not own else ""


def _unconverged(experiment: Experiment, updates: int | None) -> str:
    least = experiment.budget.least_updates
    if updates is not None and updates < least:
        return f"not converged ({updates:,} of {least:,} updates)"
    return ""


def _beaten(own: float, rivals: Mapping[str, float], updates: int | None) -> str:
    """Why a row does not stand against the baselines; "" where it does."""
    for name, error in rivals.items():
        if math.isnan(error):
            return f"not shown: baseline {name} has no figures"
        if not own < error:
            return (
                f"not converged ({updates or 0:,} updates: {own:.0f} HU near bone, "
                f"{name} {error:.0f})"
            )
    return ""
