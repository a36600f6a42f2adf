"""The tables of the papers, and which rows stand in each of them."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from spinect.evaluation.tables import Column, Method, Table, Tidy, latex, make_table, markdown
from spinect.io import write_text
from spinect.workflows.compare.config import Experiment, Row, TableName
from spinect.workflows.compare.status import Status
from spinect.workflows.compare.verdict import ONE_SEED, Verdict, ranked
from spinect.workflows.evaluate.score import CEILING
from spinect.workflows.evaluate.tables import seen_by

_IMAGE: Final = (
    *(
        Column(metric, "frame", "graf2023", "native", title=f"{title} (graf2023)")
        for metric, title in (
            ("l1", "L1"), ("mse_unit", "MSE"), ("psnr", "PSNR"), ("ssim", "SSIM"), ("vifp", "VIFp"),
        )
    ),
    Column("mae", "near_bone", title="MAE near bone"),
    Column("oracle_floor", "near_bone", title="oracle floor"),
    Column("mae", "bone", title="MAE bone"),
    Column("psnr", "patient", title="PSNR patient"),
    Column("ssim", "patient", title="SSIM patient"),
    Column("ms_ssim", "patient", title="MS-SSIM patient"),
    Column("vifp", "near_bone", title="VIFp near bone"),
)  # fmt: skip
_DICE: Final = (
    Column("dice", "volume", "graf2023", "native", title="Dice per volume (graf2023)"),
    Column("dice", "vertebra", "graf2023", "native", True, True,
           title="Dice per vertebra (graf2023)"),
    Column("dice", "vertebra", title="vertebra Dice"),
    Column("dice", "vertebral_body", title="body Dice"),
    Column("nsd_1mm", "vertebra", title="NSD 1 mm"),
    Column("identified", "vertebra", title="identified", digits=2),
)  # fmt: skip
_POSTERIOR: Final = (
    Column("dice", "posterior", "graf2023", "native", title="posterior Dice (graf2023)"),
    Column("dice", "posterior", title="posterior Dice"),
    Column("nsd_1mm", "posterior", title="NSD 1 mm"),
    Column("signed_distance", "posterior", title="signed distance"),
)
_SHORT: Final = (_IMAGE[5], _IMAGE[2], _IMAGE[4], _DICE[0], _DICE[2], _POSTERIOR[1])
_TITLES: Final[dict[TableName, str]] = {
    "image_quality": "Image quality (Graf 2023, table of image quality)",
    "dice": "Dice per volume and per vertebra (Graf 2023, table of Dice)",
    "posterior_dice": "Dice of the posterior elements (Graf 2023)",
    "registration": "Registration of the training pairs: the same method at each level",
    "misalignment": "Misalignment of the training pairs: the same method at each dose",
    "dimensions": "Two against three dimensions: the same method on slices and on volumes",
    "sampling": "Sampling: the same weights with other eta, steps and guidance",
    "samplers": "Samplers: the same weights under each (Lyu and Wang)",
}
_COLUMNS: Final[dict[TableName, tuple[Column, ...]]] = {
    "image_quality": _IMAGE,
    "dice": _DICE,
    "posterior_dice": _POSTERIOR,
}


@dataclass(frozen=True)
class Made:
    """A finished table; `table` is None where the experiment has no rows for it.

    Attributes:
        name: Of its files: that of the table, and the contrast where there are several.
    """

    name: str
    title: str
    table: Table | None


def rows_of(name: TableName, experiment: Experiment, statuses: Sequence[Status]) -> list[Row]:
    """The rows of a table; baselines stand in every one that has others."""
    every = list(experiment.rows)
    facts = {status.row.name: status.facts for status in statuses}
    trained = [row for row in every if not row.baseline and row.preset is not None]
    groups: Iterable[Sequence[Row]]
    if name in _COLUMNS:
        groups = [every]
    elif name == "registration":
        groups = _alike(trained, lambda r: (*_trained_as(r), _dose(r)))
        groups = [g for g in groups if len({r.registration for r in g}) > 1]
    elif name == "misalignment":
        groups = _alike(trained, lambda r: (*_trained_as(r), r.registration))
        groups = [g for g in groups if len({_dose(r) for r in g}) > 1]
    elif name == "dimensions":
        groups = _alike(
            [r for r in trained if "ndim" in facts.get(r.name, {})],
            lambda r: (facts[r.name]["method"], r.registration, _dose(r), r.contrast, r.inference),
        )
        groups = [g for g in groups if len({facts[r.name]["ndim"] for r in g}) > 1]
    else:
        groups = _alike([r for r in every if not r.baseline], lambda r: experiment.weights(r).name)
        groups = [g for g in groups if len({_asked(name, r) for r in g}) > 1]
    chosen = {row.name for group in groups for row in group}
    if name == "image_quality":
        chosen -= {one for one, known in facts.items() if not known.get("makes_ct", True)}
    return [row for row in every if row.name in chosen or (chosen and row.baseline)]


def _trained_as(row: Row) -> tuple[Hashable, ...]:
    """What two rows share that may differ in their training pairs alone."""
    return row.preset, repr(row.set), row.contrast, row.inference


def _dose(row: Row) -> tuple[float, float]:
    """The misalignment of the training pairs, mm and degrees."""
    return row.shift_mm, row.turn_deg


def _asked(name: TableName, row: Row) -> Hashable:
    """What must differ for rows of the same weights to make a table of sampling."""
    own = row.inference
    if name == "samplers":
        return own.sampler
    fields = {key: value for key, value in own.method_fields.items() if key != "sampler"}
    samples = own.samples if own.mode == "mc" else None
    return own.mode, own.steps, samples, tuple(fields.items())


def _alike(rows: Sequence[Row], key: Callable[[Row], Hashable]) -> list[list[Row]]:
    """Rows of equal key, groups of one left out."""
    groups: dict[Hashable, list[Row]] = defaultdict(list)
    for row in rows:
        groups[key(row)].append(row)
    return [group for group in groups.values() if len(group) > 1]


def make_tables(
    experiment: Experiment,
    statuses: Sequence[Status],
    verdicts: Sequence[Verdict],
    rows: Sequence[Tidy],
    judge: str | None,
    notes: Sequence[str],
) -> list[Made]:
    """Every table that the experiment asks for, one for each contrast.

    Columns of masks stand first as the judge sees them, then as the shipped segmenter does.

    Args:
        rows: Values by row, see `verdict.over_seeds`. judge: Name of the judge's bundle.
        notes: Under every table, such as "phantom data".
    """
    made = []
    contrasts = list(dict.fromkeys(experiment.contrast_of(row) for row in experiment.rows))
    for contrast in contrasts:
        end, word = (f"-{contrast}", f", {contrast}") if len(contrasts) > 1 else ("", "")
        mine = [v for v in verdicts if experiment.contrast_of(v.row) == contrast]
        seen = [r for r in rows if r.method != CEILING or r.case.endswith(f"_{contrast}")]
        for name in experiment.tables:
            chosen = {row.name for row in rows_of(name, experiment, statuses)}
            own = [v for v in mine if v.row.name in chosen]
            table = None
            if any(not v.row.baseline for v in own):
                table = _table(_COLUMNS.get(name, _SHORT), own, experiment, seen, judge, notes)
            made.append(Made(name + end, _TITLES[name] + word, table))
    return made


def _table(
    wanted: Sequence[Column],
    verdicts: Sequence[Verdict],
    experiment: Experiment,
    rows: Sequence[Tidy],
    judge: str | None,
    notes: Sequence[str],
) -> Table | None:
    every = [column for one in wanted for column in seen_by(one, judge)]
    judged = [column for column in every if judge and column.region.endswith(f"@{judge}")]
    ordered = [*judged, *(column for column in every if column not in judged)]
    lines = ranked(verdicts, experiment)
    shown = {line.name for line in lines if not line.stopped}
    columns = [c for c in ordered if any(c.takes(r) and r.method in shown for r in rows)]
    if not columns:
        return None
    if any(row.method == CEILING and column.takes(row) for row in rows for column in columns):
        lines.append(Method(CEILING, "ceiling (the truth after a change of grid)", ranked=False))
    said = list(notes)
    if not any(line.ranked for line in lines):
        said.append(f"{ONE_SEED}: a ranking needs three trainings of each row.")
    titled = [replace(line, title=line.title or line.name) for line in lines]
    return make_table(rows, columns, titled, notes=said)


def write_tables(tables: Sequence[Made], out: Path) -> list[str]:
    """Markdown and LaTeX of each, those of an earlier start replaced; the names of the files."""
    written = []
    for old in (*out.glob("*.md"), *out.glob("*.tex")):
        old.unlink()
    for one in tables:
        if one.table is None:
            continue
        write_text(f"# {one.title}\n\n{markdown(one.table)}", out / f"{one.name}.md")
        tex = latex(one.table, caption=one.title, label=f"tab:{one.name}")
        write_text(tex, out / f"{one.name}.tex")
        written += [f"{one.name}.md", f"{one.name}.tex"]
    return written
