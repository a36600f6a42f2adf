"""Many pairs, one table; what fails does not stop the others."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spinect.errors import ConfigError, OutputError
from spinect.io import write_table
from spinect.io.participants import read_rows
from spinect.workflows.failures import exit_code, reason
from spinect.workflows.register.names import TABLE
from spinect.workflows.register.options import RegisterOptions
from spinect.workflows.register.pair import Outcome, register_pair
from spinect.workflows.register.pairs import REGISTERED, Pair, find_pairs
from spinect.workflows.register.record import COLUMNS

log = logging.getLogger(__name__)
Tell = Callable[[Outcome, int, int], None]  # outcome, number of it, number of all


@dataclass(frozen=True)
class Summary:
    """What became of all pairs, in order."""

    outcomes: tuple[Outcome, ...]
    table: Path | None = None

    @property
    def exit_code(self) -> int:
        """0 all done or kept, 1 the only pair or every pair failed, 3 some of several failed."""
        return exit_code([outcome.status for outcome in self.outcomes])

    def as_json(self) -> dict[str, Any]:
        """Machine-readable: one entry per pair, its record inside."""
        return {
            "schema_version": "1.0",
            "exit_code": self.exit_code,
            "table": None if self.table is None else str(self.table),
            "pairs": [
                {
                    "mr": str(outcome.pair.mr),
                    "folder": str(outcome.pair.folder),
                    "status": outcome.status,
                    "seconds": outcome.seconds,
                    "error": outcome.error,
                    "record": outcome.record.model_dump(mode="json") if outcome.record else None,
                }
                for outcome in self.outcomes
            ],
        }


def register_dataset(
    dataset: Path, options: RegisterOptions, out: Path | None = None, tell: Tell | None = None
) -> Summary:
    """Register every MR series of a dataset with its CT.

    Args:
        out: Folder of the results; None: ``derivatives/registered``, where training reads it.
        tell: Hears of each pair as it ends.
    Raises:
        InputError: No dataset folder.
        OutputError: Results are there already, and neither overwrite nor resume is asked for.
    """
    dataset = Path(dataset)
    folder = dataset / REGISTERED if out is None else Path(out)
    return register_many(find_pairs(dataset, folder), options, folder / TABLE, tell)


def register_files(pair: Pair, options: RegisterOptions, tell: Tell | None = None) -> Summary:
    """Register the pair that was named; raises as `register_dataset`."""
    return register_many([pair], options, None, tell)


def register_many(
    pairs: Sequence[Pair], options: RegisterOptions, table: Path | None, tell: Tell | None = None
) -> Summary:
    """Do all pairs, and keep the table up to date after each of them.

    A pair that fails leaves its reason in the table and in the summary; the others go on.
    """
    _refuse(pairs, options)
    rows = _former(table, pairs)
    outcomes: list[Outcome] = []
    for number, pair in enumerate(pairs, start=1):
        start = time.perf_counter()
        try:
            outcome = register_pair(pair, options)
        except Exception as problem:  # the one place where a pair may fail in any way, see _reason
            spent = round(time.perf_counter() - start, 3)
            outcome = Outcome(pair, "failed", spent, error=_reason(problem, pair))
        outcomes.append(outcome)
        if table is not None:
            rows[pair.key] = _row(outcome, table.parent)
            done = [rows[p.key] for p in pairs if p.key in rows]
            write_table(done, table, COLUMNS)
        if tell:
            tell(outcome, number, len(pairs))
    return Summary(tuple(outcomes), table)


def _refuse(pairs: Sequence[Pair], options: RegisterOptions) -> None:
    if not pairs:
        raise ConfigError("there is no pair to register: give a dataset, or --mr and --ct")
    owner: dict[Path, Pair] = {}
    for pair in pairs:
        other = owner.setdefault(pair.record, pair)
        if other is not pair:
            raise OutputError(
                f"{other.mr} and {pair.mr} would both write {pair.record.name}: rename one of them"
            )
    there = [pair.record for pair in pairs if pair.record.exists()]
    if there and not (options.overwrite or options.resume):
        raise OutputError(
            f"{there[0]} and {len(there) - 1} more exist: --resume keeps what is up to date, "
            "--overwrite makes all anew, or choose another --out"
        )


def _former(table: Path | None, pairs: Sequence[Pair]) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run, by pair; those of pairs that are gone are dropped."""
    if table is None or not table.is_file():
        return {}
    keys = {pair.key for pair in pairs}
    return {row["mr"]: dict(row) for row in read_rows(table, COLUMNS) if row["mr"] in keys}


def _row(outcome: Outcome, base: Path) -> dict[str, Any]:
    pair, record = outcome.pair, outcome.record
    ends = {
        "participant_id": pair.participant,
        "mr": pair.key,
        "ct": pair.ct.name if pair.ct else None,
        "outputs": (pair.folder / pair.names.stem).relative_to(base).as_posix(),
        "status": outcome.status,
        "error": outcome.error,
    }
    return (record.row() if record else {}) | ends


def _reason(problem: Exception, pair: Pair) -> str:
    return reason(problem, pair.mr.name, "out of memory: crop the CT, or register it alone")
