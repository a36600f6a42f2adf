"""What became of the claims of both papers.

    python benchmarks/claims.py RESULTS...

RESULTS are folders of finished experiments of `spinect compare`. Reads benchmarks/claims.yaml and
of each folder compare.json and evaluation-*/values.csv, and slices/claims.json where lyu2022.py
decided on slices; writes benchmarks/results/claims.md. Rules are in claims_decide.py, rows in
claims_rules.py. A row that compare does not show decides nothing.
"""

import argparse
import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from claims_decide import Finding, adjusted, verdict
from claims_rules import RULES, Test, Value, missing
from common import publish, table
from spinect.errors import InputError
from spinect.evaluation.tables.tidy import Tidy, read_tidy
from spinect.workflows.compare import parse_experiment
from spinect.workflows.compare.config import Experiment
from spinect.workflows.compare.verdict import over_seeds

HERE = Path(__file__).parent
HEADER = ("paper", "claim", "class", "verdict", "seeds", "what was found")
HEAD = (
    "Phantom data. A verdict is about phantoms only. A difference is the first minus the second "
    "row, mean over patients, with its 95 % BCa interval; p by Holm over the claims of one table."
)


@dataclass(frozen=True)
class Said:
    """The verdict on one claim."""

    word: str
    seeds: str = ""
    found: str = ""


@dataclass(frozen=True)
class Results:
    """A finished experiment.

    Attributes:
        verdicts: Of compare.json, by row.
        rows: Values by row, seeds averaged. sliced: Claims that were decided on slices.
    """

    experiment: Experiment
    verdicts: Mapping[str, Mapping[str, Any]]
    rows: Sequence[Tidy]
    sliced: Mapping[str, Said]

    def look(self, row: str, value: Value) -> dict[str, float]:
        """Patient -> the mean of its values, those that are not defined left out.

        Raises:
            InputError: The row has no such value.
        """
        held: dict[str, list[float]] = defaultdict(list)
        for one in self.rows:
            place = (one.protocol, one.space, one.region, one.metric)
            if one.method == row and not one.item and place == value and math.isfinite(one.value):
                held[one.patient].append(one.value)
        if not held:
            raise InputError(f"{row} has no {value[2]} {value[3]}")
        return {patient: sum(own) / len(own) for patient, own in held.items()}

    def seeds(self, tests: Sequence[Test]) -> int:
        """Of the row with the fewest trainings."""
        used = {name for test in tests for name in test.rows}
        rows = [row for row in self.experiment.rows if row.name in used]
        return min(len(self.experiment.weights(row).seeds) for row in rows)


def read_results(folder: Path) -> Results:
    """Raises:
    InputError: No finished experiment.
    """
    path = folder / "compare.json"
    files = sorted(folder.glob("evaluation-*/values.csv"))
    if not path.is_file() or not files:
        raise InputError(f"{folder} is no finished experiment: it needs compare.json and values")
    record = json.loads(path.read_text(encoding="utf-8"))
    experiment = parse_experiment(record["experiment"], str(path))
    owner = {row.name: row.name for row in experiment.rows}
    for row in experiment.rows:
        owner |= {f"{row.name}_seed-{s}": row.name for s in experiment.weights(row).seeds}
    rows = over_seeds([row for file in files for row in read_tidy(file)], owner)
    path = folder / "slices" / "claims.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    sliced = {claim: Said(one["word"], "1", one["found"]) for claim, one in told.items()}
    return Results(experiment, record["verdicts"], rows, sliced)


def decide(results: Results) -> dict[str, Said]:
    """Claim -> verdict, of the claims whose rows the experiment has."""
    said: dict[str, Said] = dict(results.sliced)
    for claims in RULES.values():
        found: dict[str, list[Finding]] = {}
        wanted: dict[str, list[Test]] = {}
        for claim, rule in claims.items():
            tests = rule(list(results.verdicts))
            if not tests or any(not _complete(test, results) for test in tests):
                continue
            wanted[claim] = tests
            try:
                _shown(tests, results)
                found[claim] = [test.find(results.look) for test in tests]
            except InputError as why:
                said[claim] = Said(f"undecided ({why})", str(results.seeds(tests)))
        for claim, findings in adjusted(found).items():
            tests = wanted[claim]
            word = verdict(findings, missing(claim, tests))
            told = "; ".join(map(str, findings))
            said[claim] = Said(word, str(results.seeds(tests)), told)
    return said


def _complete(test: Test, results: Results) -> bool:
    """Whether the experiment has the rows; a trend needs three doses."""
    enough = test.rule != "trend" or len(test.rows) >= 3
    return enough and all(row in results.verdicts for row in test.rows)


def _shown(tests: Sequence[Test], results: Results) -> None:
    for row in dict.fromkeys(row for test in tests for row in test.rows):
        if not results.verdicts[row]["shown"]:
            raise InputError(f"{row}: {results.verdicts[row]['text']}")


def lines(claims: Mapping[str, Any], every: Sequence[Results]) -> list[tuple[str, ...]]:
    """One line per claim; per experiment where several have its rows."""
    decided = [(one.experiment.name, decide(one)) for one in every]
    made: list[tuple[str, ...]] = []
    for paper, own in claims.items():
        for claim in own:
            head = (paper, f"{claim['id']}: {claim['claim']}", claim["class"])
            if claim["class"] != "tested":
                word = {"construction": "follows from construction",
                        "untestable": "not testable here"}[claim["class"]]  # fmt: skip
                made.append((*head, word, "", claim["why"]))
                continue
            found = [(name, said[claim["id"]]) for name, said in decided if claim["id"] in said]
            made += [(*head, one.word, one.seeds, f"{name}: {one.found}" if one.found else name)
                     for name, one in found] or [(*head, "not run", "", "")]  # fmt: skip
    return made


def main() -> None:
    """Read, decide, write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("results", nargs="+", type=Path)
    every = [read_results(folder) for folder in parser.parse_args().results]
    claims = yaml.safe_load((HERE / "claims.yaml").read_text(encoding="utf-8"))
    publish(
        "claims", "The claims of both papers", f"{HEAD}\n\n{table(HEADER, lines(claims, every))}"
    )


if __name__ == "__main__":
    main()
