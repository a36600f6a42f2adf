"""`spinect evaluate`: scores, then values, tables, the report, and the record last."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import spinect
from spinect.errors import OutputError
from spinect.evaluation.tables import latex, markdown, write_tidy
from spinect.io.records import atomic, write_json, write_text
from spinect.report.evaluation import Block, Evaluation, choose_renderer, write_evaluation
from spinect.report.evaluation.page import PHANTOM
from spinect.workflows.evaluate.options import EvaluateOptions
from spinect.workflows.evaluate.record import EvaluateRecord, Finished, make_record, problems
from spinect.workflows.evaluate.run import Scores, Tell, score_results
from spinect.workflows.evaluate.tables import PLOTTED, Named, make_tables, seen_by
from spinect.workflows.evaluate.views import worst_views
from spinect.workflows.options import human_time
from spinect.workflows.record import Stopwatch, commit, now

VALUES: Final = "values"
TABLES: Final = "tables"
REPORT: Final = "report.html"
RECORD: Final = "evaluate.json"


@dataclass(frozen=True)
class Evaluated:
    """What became of an evaluation.

    Attributes:
        out: Its folder. scores: Everything measured. tables: As written. record: As written.
    """

    out: Path
    scores: Scores
    tables: tuple[Named, ...]
    record: EvaluateRecord

    @property
    def exit_code(self) -> int:
        """See `Scores.exit_code`."""
        return self.scores.exit_code

    def as_json(self) -> dict[str, Any]:
        """Machine-readable."""
        return {"exit_code": self.exit_code, "out": str(self.out)} | self.record.model_dump(
            mode="json"
        )


def evaluate(
    dataset: Path,
    results: Path,
    out: Path,
    options: EvaluateOptions,
    tell: Tell | None = None,
) -> Evaluated:
    """Score the results of one or several methods against a dataset, and write all of it.

    ::

        OUT/values.csv, values.parquet     one row per value (Parquet where pyarrow is installed)
        OUT/tables/NAME.md, NAME.tex       see `tables.make_tables`
        OUT/report.html                    self-contained
        OUT/evaluate.json                  the record, written last
        OUT/cases, OUT/judge               what --resume takes up

    Args:
        dataset: Dataset folder with truth or registered CTs under derivatives.
        results: What `spinect run` wrote, or a folder with one such folder per method.
        tell: Hears of each result as it is scored.
    Raises:
        SpinectError: Nothing to score; see `score_results`.
        OutputError: `out` holds an evaluation, and neither resume nor overwrite is asked for.
    """
    if (out / RECORD).exists() and not (options.resume or options.overwrite):
        raise OutputError(
            f"{out / RECORD} exists: --resume keeps what is up to date, --overwrite makes all "
            "anew, or choose another --out"
        )
    renderer = choose_renderer(options.renderer)
    started, watch = now(), Stopwatch()
    scores = score_results(dataset, results, out, options, watch, tell)
    (out / RECORD).unlink(missing_ok=True)  # from here on the folder is not complete
    with watch.stage("tables"):
        written = _write_values(scores, out)
        judge = scores.judge[0] if scores.judge else None
        tables = make_tables(
            scores.rows, list(scores.methods), reference=options.reference, judge=judge,
            notes=_notes(scores),
        )  # fmt: skip
        written += _write_tables(tables, out)
    with watch.stage("report"):
        run = Finished(dataset.resolve().name, scores, options, renderer, started, watch)
        page = _page(run, tables)
        with atomic(out / REPORT) as part:
            write_evaluation(page, part)
    record = make_record(run, [*written, REPORT])
    write_json(record.model_dump(mode="json"), out / RECORD)
    return Evaluated(out, scores, tuple(tables), record)


def _write_values(scores: Scores, out: Path) -> list[str]:
    """The tidy rows; Parquet beside the CSV where pyarrow is installed."""
    out.mkdir(parents=True, exist_ok=True)
    ends = [".csv", ".parquet"] if find_spec("pyarrow") else [".csv"]
    for end in ends:
        write_tidy(scores.rows, out / (VALUES + end))
    return [VALUES + end for end in ends]


def _write_tables(tables: Sequence[Named], out: Path) -> list[str]:
    written = []
    for one in tables:
        text = f"# {one.title}\n\n{one.text}\n\n{markdown(one.table)}"
        write_text(text, out / TABLES / f"{one.key}.md")
        caption = f"{one.title}. {one.text}"
        tex = latex(one.table, caption=caption, label=f"tab:{one.key}")
        write_text(tex, out / TABLES / f"{one.key}.tex")
        written += [f"{TABLES}/{one.key}.md", f"{TABLES}/{one.key}.tex"]
    for path in (out / TABLES).glob("*"):  # of an earlier run with other protocols
        if path.suffix in (".md", ".tex") and f"{TABLES}/{path.name}" not in written:
            path.unlink()
    return written


def _notes(scores: Scores) -> list[str]:
    """What stands under every table."""
    notes = [PHANTOM] if scores.phantom else []
    if scores.judge:
        notes.append(
            f"({scores.judge[0]}): masks that the judge {scores.judge[0]} made of the synthetic CT;"
            " columns without it: the results' own segmenter."
        )
    for name in scores.methods:
        missing, failed = scores.count("missing", name), scores.count("failed", name)
        if missing:
            notes.append(f"{name}: results missing: {missing}, scored with Dice 0 and without HU.")
        if failed:
            notes.append(f"{name}: results not scored: {failed}, see the report; mend them.")
    return notes


def _page(run: Finished, tables: Sequence[Named]) -> Evaluation:
    scores = run.scores
    judge = scores.judge[0] if scores.judge else None
    own = [r for r in scores.rows if r.method in scores.methods]  # not those of the ceiling
    there = {(r.protocol, r.space, r.region, r.metric, bool(r.item)) for r in own}
    plotted = [
        column
        for wanted in PLOTTED
        for column in seen_by(wanted, judge)
        if (column.protocol, column.space, column.region, column.metric, column.items) in there
    ]
    patients = {series.patient for series in scores.cohort.series}
    facts = {
        "dataset": run.dataset,
        "patients": str(len(patients)),
        "series": str(len(scores.cohort.series)),
        "truth": ", ".join(sorted({series.source for series in scores.cohort.series})),
        "methods": ", ".join(scores.methods),
        "judge": f"{scores.judge[0]} ({scores.judge[1][:12]})" if scores.judge else "none",
        "missing": str(scores.count("missing")),
        "not scored": str(scores.count("failed")),
        "surfaces": run.renderer,
        "program": f"spinect {_version()}",
        "time": human_time(sum(run.watch.seconds.values())),
    }
    return Evaluation(
        title=f"Evaluation on {run.dataset}",
        phantom=scores.phantom,
        blocks=[Block(one.title, one.text, one.table) for one in tables],
        rows=scores.rows,
        methods=list(scores.methods),
        plotted=plotted,
        views=worst_views(scores),
        problems=[(p.method, p.case, p.reason) for p in problems(run.scores)],
        warnings=scores.warnings,
        facts=facts,
        renderer=run.renderer,
    )


def _version() -> str:
    """Version and commit of the program."""
    head = commit()
    return f"{spinect.__version__} ({head[:10]})" if head else spinect.__version__
