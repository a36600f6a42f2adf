"""The tables of an evaluation: which columns each one has."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from spinect.evaluation.tables import Column, Method, Table, Tidy, make_table
from spinect.evaluation.tables.build import Against
from spinect.workflows.evaluate.score import CEILING

_HU: Final = tuple(
    Column(metric, region, title=title)
    for metric, region, title in (
        ("mae", "near_bone", "MAE near bone"),
        ("oracle_floor", "near_bone", "its oracle floor"),
        ("mae", "bone", "MAE bone"),
        ("mae", "soft_tissue", "MAE soft tissue"),
        ("bias", "bone", "bias bone"),
        ("psnr", "patient", "PSNR patient"),
        ("ssim", "patient", "SSIM patient"),
        ("ms_ssim", "patient", "MS-SSIM patient"),
        ("vifp", "near_bone", "VIFp near bone"),
        ("histogram", "bone", "histogram bone"),
        ("spectrum", "near_bone", "spectrum near bone"),
    )
)
_MASKS: Final = tuple(
    Column(metric, region, title=title)
    for metric, region, title in (
        ("dice", "vertebra", "vertebra Dice"),
        ("dice", "vertebral_body", "body Dice"),
        ("dice", "posterior", "posterior Dice"),
        ("nsd_1mm", "vertebra", "vertebra NSD 1 mm"),
        ("hd95", "vertebra", "vertebra HD95"),
        ("signed_distance", "vertebra", "signed distance"),
    )
)
_COUNTS: Final = tuple(
    Column(metric, "vertebra", title=title, digits=2)
    for metric, title in (
        ("identified", "identified"),
        ("missed", "missed"),
        ("spurious", "spurious"),
        ("wrong_level", "wrong level"),
        ("splits", "splits"),
        ("merges", "merges"),
        ("pq", "panoptic quality"),
    )
)
_LENGTHS: Final = (
    Column("volume_error", "vertebra", title="volume error"),
    Column("spinous_length_error", "spinous_process", title="spinous length error", items=True),
    Column("canal_width_error", "canal", title="canal width error", items=True),
)
_GRAF_IMAGE: Final = tuple(
    Column(metric, "frame", "graf2023", "native", title=title)
    for metric, title in (
        ("l1", "L1"),
        ("mse_unit", "MSE"),
        ("psnr", "PSNR"),
        ("ssim", "SSIM"),
        ("vifp", "VIFp"),
    )
)
_GRAF_DICE: Final = (
    Column("dice", "volume", "graf2023", "native", title="Dice per volume"),
    Column("dice", "vertebra", "graf2023", "native", True, True, title="Dice per vertebra"),
    Column("dice", "posterior", "graf2023", "native", title="posterior Dice per volume"),
)
_SYNTHRAD: Final = tuple(
    Column(metric, "mask", "synthrad", "iso", title=title)
    for metric, title in (("mae", "MAE"), ("psnr", "PSNR"), ("ms_ssim", "MS-SSIM"))
)
HEADLINE: Final = (*_HU[:2], _HU[6], *_MASKS[:4])
PLOTTED: Final = tuple(column for column in HEADLINE if column.metric != "oracle_floor")


@dataclass(frozen=True)
class Named:
    """A table with its file name, its title and what stands under the title."""

    key: str
    title: str
    text: str
    table: Table


def _native(columns: Sequence[Column]) -> tuple[Column, ...]:
    return tuple(replace(column, space="native") for column in columns)


def _plan() -> tuple[tuple[str, str, str, tuple[Column, ...]], ...]:
    """Key, title, text and columns of every table that there can be."""
    floor = (
        "1 mm grid; near bone is within 10 mm of vertebrae; the oracle floor is the MAE of a "
        "predictor that knows every tissue."
    )
    near = "A vertebra without a partner scores Dice 0 and has no distance."
    return (
        ("headline", "Headline", floor, HEADLINE),
        ("image", "HU against the true CT", "1 mm grid, HU unclipped.", _HU),
        ("masks-iso", "Masks at 1 mm", f"Against the 1 mm truth. {near}", _MASKS),
        ("masks-native", "Masks on the MR's grid", f"Against the native truth. {near}",
         _native(_MASKS)),
        ("instances", "Vertebrae found and named", "Counts per case; 1 mm grid.", _COUNTS),
        ("lengths", "Volumes and lengths", "1 mm grid, predicted minus true.", _LENGTHS),
        ("graf2023-image", "Image quality as Graf et al. 2023 compute it",
         "Images in [0, 1], zeros outside the mask count; these are no HU errors.", _GRAF_IMAGE),
        ("graf2023-dice", "Dice as Graf et al. 2023 compute it",
         "Tolerant of level names, blind to extra vertebrae; MR's grid.", _GRAF_DICE),
        ("synthrad", "Image quality as SynthRAD computes it",
         "1 mm grid, [-1024, 3000] HU, inside the patient.", _SYNTHRAD),
    )  # fmt: skip


def make_tables(
    rows: Sequence[Tidy],
    methods: Sequence[str],
    *,
    reference: str | None = None,
    judge: str | None = None,
    notes: Sequence[str] = (),
) -> list[Named]:
    """Every table for which a method has rows.

    Columns of masks stand first as the judge sees them, then as the results' own segmenter does.

    Args:
        methods: Rows of the tables; the ceiling is added where masks are scored.
        reference: Method that the others are tested against.
        notes: Under every table, such as "phantom data".
    """
    there = {
        (r.protocol, r.space, r.region, r.metric, bool(r.item)) for r in rows if r.method in methods
    }
    made = []
    for key, title, text, wanted in _plan():
        every = [c for column in wanted for c in seen_by(column, judge)]
        judged = [c for c in every if judge and c.region.endswith(f"@{judge}")]
        columns = [*judged, *(c for c in every if c not in judged)]
        columns = [c for c in columns if _key(c) in there]
        if not columns:
            continue
        lines, said = [Method(name) for name in methods], list(notes)
        if any(row.method == CEILING and c.takes(row) for row in rows for c in columns):
            lines.append(Method(CEILING, ranked=False))
            said.append("ceiling: what the truth itself scores after a change of grid.")
        against = Against(reference) if reference and len(methods) > 1 else None
        table = make_table(rows, columns, lines, against=against, notes=said)
        made.append(Named(key, title, text, table))
    return made


def _key(column: Column) -> tuple[str, str, str, str, bool]:
    return (column.protocol, column.space, column.region, column.metric, column.items)


def seen_by(column: Column, judge: str | None) -> tuple[Column, ...]:
    """The column, and the same of the judge's masks."""
    if judge is None:
        return (column,)
    title = f"{column.title} ({judge})"
    return (replace(column, region=f"{column.region}@{judge}", title=title), column)
