"""From the values of all cases to the tables of a paper: tidy rows, tables, Markdown and LaTeX."""

from spinect.evaluation.tables.build import Against, Cell, Method, Table, make_table
from spinect.evaluation.tables.gather import Column
from spinect.evaluation.tables.text import latex, markdown
from spinect.evaluation.tables.tidy import Tidy, read_tidy, tidy, write_tidy

__all__ = [
    "Against",
    "Cell",
    "Column",
    "Method",
    "Table",
    "Tidy",
    "latex",
    "make_table",
    "markdown",
    "read_tidy",
    "tidy",
    "write_tidy",
]
