"""How far every row has come: `rows.tsv`."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from spinect.io import write_table
from spinect.workflows.compare.config import Row

COLUMNS: Final = (
    "row", "seed", "weights", "registration", "state", "pairs", "updates", "minutes",
    "seconds_per_update", "cases", "failed_cases", "seconds_per_case", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Status:
    """One row with one seed.

    Attributes:
        state: waiting, prepared, training, trained, translated, evaluated or failed.
        facts: What the finished stages told.
        reason: Of a failure, one line.
    """

    row: Row
    seed: int
    name: str
    state: str = "waiting"
    facts: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""

    @classmethod
    def waiting(cls, row: Row, seed: int, name: str) -> "Status":
        """Before its first stage."""
        return cls(row, seed, name)

    def moved(self, state: str, facts: Mapping[str, Any]) -> "Status":
        """After a stage."""
        return replace(self, state=state, facts={**self.facts, **facts})

    def failed(self, stage: str, text: str) -> "Status":
        """After a stage that failed."""
        return replace(self, state="failed", reason=f"{stage}: {text}")

    def columns(self) -> dict[str, Any]:
        """Its line of the table."""
        facts = {key: self.facts.get(key) for key in COLUMNS}
        bad = self.facts.get("failed")
        return facts | {
            "row": self.row.name,
            "seed": self.seed,
            "weights": self.row.preset or self.row.bundle or self.row.weights_of,
            "registration": self.row.registration,
            "state": self.state,
            "failed_cases": None if bad is None else len(bad),
            "reason": self.reason or None,
        }


def write_status(statuses: Iterable[Status], out: Path) -> None:
    """`rows.tsv`, one line per row and seed."""
    write_table([status.columns() for status in statuses], out / "rows.tsv", COLUMNS)
