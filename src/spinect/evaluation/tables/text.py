"""Tables as Markdown and as LaTeX (booktabs); the same table gives the same text."""

import math
import re
from collections.abc import Sequence
from typing import Final

from spinect.evaluation.tables.build import Cell, Table
from spinect.evaluation.tables.gather import Column

_LATEX: Final = {
    "\\": r"\textbackslash{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": "$<$",
    ">": "$>$",
    "|": "$|$",
    "±": r"$\pm$",
    "×": r"$\times$",
    "∞": r"$\infty$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "→": r"$\rightarrow$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "—": "---",
    "–": "--",
    '"': r"\textquotedbl{}",
}


def markdown(table: Table) -> str:
    """A Markdown table; best bold, second best italic, notes as a list below."""
    lines = [["Method", *(_markdown(head) for head in _headings(table))]]
    for method, cells in zip(table.methods, table.cells, strict=True):
        line = [_markdown(method.title or method.name)]
        for k, (column, cell) in enumerate(zip(table.columns, cells, strict=True)):
            wrap = {1: "**", 2: "*"}.get(cell.rank, "")
            text = f"{wrap}{_markdown(figures(column, cell))}{wrap}{_markdown(cell.mark)}"
            line.append(f"{text} {_count(table, k, cell)}".rstrip())
        lines.append(line)
    head, *body = ["| " + " | ".join(line) + " |" for line in lines]
    ruler = "|---|" + "---:|" * len(table.columns)
    notes = [f"- {_markdown(note)}" for note in table.notes]
    return "\n".join([head, ruler, *body, "", *notes]) + "\n"


def latex(table: Table, *, caption: str = "", label: str = "") -> str:
    r"""A LaTeX table for \usepackage{booktabs}; best \textbf, second best \underline.

    Args:
        caption: Plain text; special characters are escaped. label: As written, for \ref.
    """
    lines = []
    for method, cells in zip(table.methods, table.cells, strict=True):
        line = [_latex(method.title or method.name)]
        for k, (column, cell) in enumerate(zip(table.columns, cells, strict=True)):
            text = _latex(figures(column, cell))
            text = {1: rf"\textbf{{{text}}}", 2: rf"\underline{{{text}}}"}.get(cell.rank, text)
            mark = f"$^{{{cell.mark}}}$" if cell.mark else ""
            line.append(f"{text}{mark} {_latex(_count(table, k, cell))}".rstrip())
        lines.append(" & ".join(line) + r" \\")
    head = " & ".join(["Method", *(_latex(one) for one in _headings(table))]) + r" \\"
    named = [rf"\caption{{{_latex(caption)}}}"] if caption else []
    named += [rf"\label{{{label}}}"] if label else []
    parts = [
        r"\begin{table}",
        r"\centering",
        *named,
        rf"\begin{{tabular}}{{l{'r' * len(table.columns)}}}",
        *(r"\toprule", head, r"\midrule", *lines, r"\bottomrule"),
        r"\end{tabular}",
        r"\par\medskip\footnotesize\raggedright",
        *(rf"{_latex(note)}\par" for note in table.notes),
        r"\end{table}",
    ]
    return "\n".join(parts) + "\n"


def figures(column: Column, cell: Cell) -> str:
    """Mean and spread as printed: "0.812 ± 0.010", "31.2 [30.1, 33.0]", or the cell's text."""
    if cell.text:
        return cell.text
    mean = column.shown(cell.mean)
    if not math.isfinite(cell.mean):
        return mean
    if cell.interval is None:
        return f"{mean} ± {column.shown(cell.sd)}"
    low, high = cell.interval.low, cell.interval.high
    if math.isnan(low):
        return f"{mean} [n/a]"
    return f"{mean} [{column.shown(low)}, {column.shown(high)}]"


def _headings(table: Table) -> list[str]:
    """Heading of each column with its n."""
    heads = []
    for k, column in enumerate(table.columns):
        filled = [row[k] for row in table.cells if row[k].n]
        n = f"n = {_range([cell.n for cell in filled])}"
        values = _range([cell.n_values for cell in filled])
        heads.append(f"{column.heading} ({n}{f', {values} values' if column.pooled else ''})")
    return heads


def _count(table: Table, k: int, cell: Cell) -> str:
    """The cell's own n where the column's methods differ in it."""
    alike = len({(row[k].n, row[k].n_values) for row in table.cells if row[k].n}) <= 1
    if alike or not cell.n:
        return ""
    values = f", {cell.n_values} values" if table.columns[k].pooled else ""
    return f"(n = {cell.n}{values})"


def _range(counts: Sequence[int]) -> str:
    if not counts:
        return "0"
    low, high = min(counts), max(counts)
    return f"{low}" if low == high else f"{low}–{high}"


def _markdown(text: str) -> str:
    """Plain text, safe in a Markdown table; underscores inside a word mean nothing there."""
    text = re.sub(r"([\\|*`])", r"\\\1", " ".join(text.split()))
    text = re.sub(r"<(?=[A-Za-z/!?])", "&lt;", text)  # what could be a tag
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", text)


def _latex(text: str) -> str:
    """Plain text, safe in LaTeX; a minus before a number becomes a real one."""
    text = "".join(_LATEX.get(c, c) for c in " ".join(text.split()))
    text = re.sub(r"(?<![\w-])-(?=\d|\$\\infty)", "$-$", text)
    # \\ looks past the end of its line: a row that starts with [ or * would become its argument
    return re.sub(r"^([\[*])", r"{\1}", text)
