"""Puts an evaluation on one page that asks nothing of the network."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from spinect.evaluation.tables import Column, Table, Tidy
from spinect.evaluation.tables.text import figures
from spinect.report.evaluation.pictures import ERROR_HU, error_map, layers
from spinect.report.evaluation.plots import LINED, box_plot, volume_plot
from spinect.report.evaluation.surfaces import LIMIT_MM, Renderer, shape_of, surface_picture
from spinect.report.figures import NOTICE
from spinect.report.html import data_uri
from spinect.report.scene import CT_WINDOW, Scene

PHANTOM: Final = "Phantom data: computer-made anatomy. Nothing here says how it is on patients."
RANKS: Final = {1: "best", 2: "second"}


@dataclass(frozen=True)
class Block:
    """A table with its title and what stands under the title."""

    title: str
    text: str
    table: Table


@dataclass(frozen=True)
class CaseView:
    """One result that is shown in pictures.

    Attributes:
        method, case: Whose.
        why: Why it is shown, such as "worst of results, vertebra Dice 0.71".
        scene: Its volumes; those of the truth where they exist.
        facts: Name -> value.
    """

    method: str
    case: str
    why: str
    scene: Scene
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """What stands on the page.

    Attributes:
        title: Of the page.
        phantom: Whether every patient is a phantom.
        blocks: Tables, the headline first.
        rows: Tidy values, for the plots.
        methods: Names, in order.
        plotted: Metrics that get a box plot.
        views: Cases in pictures, the worst first.
        problems: (method, case, reason) of missing and failed results.
        warnings: One sentence each.
        facts: Name -> value about the run.
        renderer: What draws the surfaces.
    """

    title: str
    phantom: bool
    blocks: Sequence[Block]
    rows: Sequence[Tidy]
    methods: Sequence[str]
    plotted: Sequence[Column]
    views: Sequence[CaseView]
    problems: Sequence[tuple[str, str, str]]
    warnings: Sequence[str]
    facts: Mapping[str, str]
    renderer: Renderer


def write_evaluation(evaluation: Evaluation, path: Path) -> None:
    """Write the report; `path` becomes one self-contained UTF-8 file.

    Its content security policy allows embedded images, its own style and its own script (by their
    sha256) and nothing else. Without a script every layer of a slider is shown beside the others.
    """
    environment = Environment(
        loader=PackageLoader("spinect.report.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shared = _shared(evaluation.blocks)
    style, script = (environment.get_template(name).render() for name in ("style.css", "script.js"))
    text = environment.get_template("page.html.jinja").render(
        page=evaluation,
        style=style,
        script=script,
        policy=_policy(style, script),
        notice=NOTICE,
        phantom=PHANTOM,
        lined=LINED,
        error_hu=ERROR_HU,
        limit_mm=LIMIT_MM,
        window=CT_WINDOW,
        tables=[_table(block, shared) for block in evaluation.blocks],
        shared=shared,
        boxes=_boxes(evaluation),
        volumes=_volumes(evaluation),
        views=[_view(view, evaluation.renderer) for view in evaluation.views],
    )
    path.write_text(text, encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Content security policy of a page with one inline style and one inline script."""

    def mark(text: str) -> str:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"'sha256-{digest}'"

    return f"default-src 'none'; img-src data:; style-src {mark(style)}; script-src {mark(script)}"


def _shared(blocks: Sequence[Block]) -> list[str]:
    """Notes that stand under every one of several tables: the page says them once."""
    if len(blocks) < 2:
        return []
    first, *others = [block.table.notes for block in blocks]
    return [note for note in first if all(note in notes for notes in others)]


def _table(block: Block, shared: Sequence[str]) -> dict[str, Any]:
    """Cells as text, with the class that marks best and second best."""
    table = block.table
    heads = []
    for k, column in enumerate(table.columns):
        counts = sorted({row[k].n for row in table.cells if row[k].n}) or [0]
        n = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
        heads.append((column.heading, f"n = {n}"))
    lines = []
    for method, cells in zip(table.methods, table.cells, strict=True):
        line = [
            (_lines(figures(column, cell)), RANKS.get(cell.rank, ""), cell.mark)
            for column, cell in zip(table.columns, cells, strict=True)
        ]
        lines.append((method.title or method.name, line))
    return {"title": block.title, "text": block.text, "heads": heads, "lines": lines,
            "notes": [note for note in table.notes if note not in shared]}  # fmt: skip


def _lines(text: str) -> tuple[str, str]:
    """Mean, and its interval for a second line."""
    mean, _, interval = text.partition(" [")
    return mean, f"[{interval}" if interval else ""


def _boxes(page: Evaluation) -> list[tuple[str, str]]:
    """(metric, data URI) of every box plot."""
    made = [(c.heading, box_plot(page.rows, c, page.methods)) for c in page.plotted]
    return [(name, data_uri(image, "png")) for name, image in made if image is not None]


def _volumes(page: Evaluation) -> list[tuple[str, str]]:
    """(method, data URI) of every Bland-Altman plot."""
    made = [(method, volume_plot(page.rows, method)) for method in page.methods]
    return [(name, data_uri(image, "png")) for name, image in made if image is not None]


def _view(view: CaseView, renderer: Renderer) -> dict[str, Any]:
    scene = view.scene
    error = error_map(scene)
    shape = None
    if renderer != "none" and scene.vertebrae is not None and scene.truth_vertebrae is not None:
        shape = shape_of(scene.vertebrae, scene.truth_vertebrae)
    return {
        "view": view,
        "layers": layers(scene),
        "error": data_uri(error, "jpeg") if error else None,
        "surface": data_uri(surface_picture(shape, renderer), "jpeg") if shape else None,
    }
