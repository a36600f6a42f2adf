"""Tidy rows, tables over methods, and their golden texts."""

import math
import sys
from dataclasses import replace

import numpy as np
import pytest
from markdown_it import MarkdownIt

from spinect.errors import ConfigError, InputError
from spinect.evaluation.measures import Value
from spinect.evaluation.stats.multiplicity import holm
from spinect.evaluation.stats.tests import wilcoxon
from spinect.evaluation.tables import (
    Against,
    Column,
    Method,
    Tidy,
    latex,
    make_table,
    markdown,
    read_tidy,
    tidy,
    write_tidy,
)

MAE, DICE = Column("mae", "bone"), Column("dice", "vertebra", title="Dice")


def row(method, patient, value, metric="mae", region="bone", note="", item="", case=""):
    return Tidy(
        method,
        "strict",
        "iso",
        patient,
        case or f"{patient}_T2w",
        region,
        item,
        metric,
        value,
        note,
    )


def rows_of(metric="mae", region="bone", **methods):
    """method=[values], patients p0, p1 and so on."""
    return [
        row(name, f"p{k}", float(value), metric, region)
        for name, values in methods.items()
        for k, value in enumerate(values)
    ]


def methods_of(*names):
    return [Method(name) for name in names]


# Tidy rows


AWKWARD = [
    row('a, "quoted"\nline', "p|1", 1 / 3),
    row("b", "ü", math.inf, note="equal images"),
    row("b", "p2", math.nan, note="mask is empty"),
    row("b", "p3", -1e-300, item="L3"),
]


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_rows_come_back_as_they_were(tmp_path, suffix):
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"values.{suffix}"
    write_tidy(AWKWARD, path)
    assert repr(read_tidy(path)) == repr(AWKWARD)  # repr, since nan is not equal to itself
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    write_tidy([], path)
    assert read_tidy(path) == []


def test_csv_is_what_anybody_can_read(tmp_path):
    path = tmp_path / "values.csv"
    write_tidy([row("m", "p1", 0.1)], path)
    assert path.read_bytes().decode() == (
        "method,protocol,space,patient,case,region,item,metric,value,note\n"
        "m,strict,iso,p1,p1_T2w,bone,,mae,0.1,\n"
    )


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"spinect\[stats\]"):
        write_tidy(AWKWARD, tmp_path / "values.parquet")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "columns"),
        ("method,value\nm,1\n", "columns method, value"),
        ("{head}\nm,strict,iso,p,c,bone,,mae,many,\n", "'many'"),
        ("{head}\nm,strict,iso,p,c,bone,,mae\n", "line 2"),
        ("{head}\nm,strict,iso,p,c,bone,,mea,1,\n", "'mea'"),
        ("{head}\nm,strict,iso,p,c,bone,,mae,nan,\n", "why"),
    ],
)
def test_broken_files_are_refused(tmp_path, text, word):
    path = tmp_path / "values.csv"
    head = "method,protocol,space,patient,case,region,item,metric,value,note"
    path.write_text(text.replace("{head}", head))
    with pytest.raises(InputError, match=word):
        read_tidy(path)


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"values\.xlsx"):
        write_tidy([], tmp_path / "values.xlsx")


def test_values_of_a_case_are_named_in_full():
    values = [Value("bone", "", "mae", 3.0), Value("vertebra", "L3", "hd95", math.nan, "missed")]
    names = {"method": "m", "protocol": "strict", "space": "iso", "patient": "p", "case": "c"}
    first, second = tidy(values, **names)
    assert first == Tidy("m", "strict", "iso", "p", "c", "bone", "", "mae", 3.0)
    assert (second.item, second.note) == ("L3", "missed")


# Cells


def test_patients_count_once_each():
    """Two series of p0 are averaged; SD and mean run over patients."""
    rows = [row("m", "p0", 1.0, case="a"), row("m", "p0", 3.0, case="b"), row("m", "p1", 6.0)]
    cell = make_table(rows, [MAE], methods_of("m"), spread="sd").cells[0][0]
    assert (cell.mean, cell.n, cell.n_values) == (4.0, 2, 3)
    assert cell.sd == pytest.approx(np.std([2, 6], ddof=1))


def test_a_pooled_column_counts_values():
    rows = [row("m", f"p{k}", v, item=f"L{j}") for k, vs in enumerate(([1, 3], [6], [2]))
            for j, v in enumerate(vs)]  # fmt: skip
    column = Column("mae", "bone", items=True, pooled=True)
    table = make_table(rows, [column], methods_of("m"))
    cell = table.cells[0][0]
    assert (cell.mean, cell.n, cell.n_values) == (3.0, 3, 4)
    assert cell.interval.kind == "cluster bootstrap"
    assert "mae bone [HU] ↓ (n = 3, 4 values)" in markdown(table)


def test_whole_cases_and_their_parts_are_kept_apart():
    rows = [row("m", "p0", 1.0), row("m", "p0", 9.0, item="L3"), row("m", "p1", 3.0)]
    assert make_table(rows, [MAE], methods_of("m"), spread="sd").cells[0][0].mean == 2
    parts = Column("mae", "bone", items=True)
    assert make_table(rows, [parts], methods_of("m"), spread="sd").cells[0][0].mean == 9


def test_undefined_values_are_counted_and_not_averaged():
    rows = [*rows_of(m=[2.0, 4.0]), row("m", "p2", math.nan, note="mask is empty")]
    table = make_table(rows, [MAE], methods_of("m"), spread="sd")
    assert (table.cells[0][0].mean, table.cells[0][0].n) == (3.0, 2)
    assert "mae bone: m: 1 of 3 values not defined (mask is empty × 1)." in table.notes


def test_what_was_missing_is_counted_though_it_has_a_value():
    notes = ["missed", "", "missed", "cut", "odd", "rare"]
    rows = [row("m", f"p{k}", 0.0, note=note) for k, note in enumerate(notes)]
    table = make_table(rows, [MAE], methods_of("m"), spread="sd")
    assert "mae bone: m: missed × 2, cut × 1, odd × 1, other × 1." in table.notes


def test_a_method_without_values_says_so():
    table = make_table(rows_of(m=[1.0, 2.0]), [MAE], methods_of("m", "gone"), spread="sd")
    assert "| gone | — |" in markdown(table)
    assert "mae bone: gone: no values." in table.notes


def test_infinite_values():
    """Equal images have an infinite PSNR; no warning, no spread, no test."""
    column = Column("psnr", "bone")
    rows = rows_of(
        "psnr", a=[30.0, math.inf, 31.0], b=[20.0, 21.0, 22.0], c=[1, math.inf, -math.inf]
    )
    for spread in ("sd", "interval"):
        table = make_table(
            rows, [column], methods_of("a", "b", "c"), spread=spread, against=Against("b")
        )
        lines = markdown(table).splitlines()
        assert lines[2] == "| a | **∞** |"
        assert lines[4] == "| c | n/a |"
        assert [one.n for one in table.comparisons[0]] == [2, 1]


def test_few_patients_have_no_interval_and_it_is_said():
    text = markdown(make_table(rows_of(m=[1.0, 2.0]), [MAE], methods_of("m")))
    assert "| m | 1.5 [n/a] |" in text
    assert "n = 2: a BCa bootstrap interval needs 3 patients" in text


# Ranks


def ranks(table, column=0):
    return [row[column].rank for row in table.cells]


@pytest.mark.parametrize(
    ("metric", "values", "wanted"),
    [
        ("mae", (3, 1, 2, 4), [0, 1, 2, 0]),
        ("psnr", (3, 1, 2, 4), [2, 0, 0, 1]),
        ("bias", (-3, 2, -1, 4), [0, 2, 1, 0]),
        ("volume_true", (3, 1, 2, 4), [0, 0, 0, 0]),
        ("mae", (1.04, 0.96, 2, 2), [1, 1, 2, 2]),  # both print as 1.0
    ],
)
def test_best_and_second(metric, values, wanted):
    names = "abcd"
    rows = rows_of(metric, **{n: [v, v + 0.001] for n, v in zip(names, values, strict=True)})
    table = make_table(rows, [Column(metric, "bone", digits=1)], methods_of(*names), spread="sd")
    assert ranks(table) == wanted


def test_all_equal_is_no_ranking():
    table = make_table(rows_of(a=[1, 2], b=[1, 2]), [MAE], methods_of("a", "b"), spread="sd")
    assert ranks(table) == [0, 0]
    assert "mae bone: not ranked, all methods are equal as printed." in table.notes


def test_other_patients_are_no_ranking():
    table = make_table(rows_of(a=[1, 2], b=[3, 4, 5]), [MAE], methods_of("a", "b"), spread="sd")
    assert ranks(table) == [0, 0]
    assert "mae bone: not ranked, the methods stand on different patients." in table.notes
    assert "(n = 2–3)" in markdown(table)
    assert "| b | 4.0 ± 1.0 (n = 3) |" in markdown(table)


def test_a_ceiling_is_no_rival_and_is_not_tested():
    rows = rows_of(top=[0] * 8, a=range(1, 9), b=range(3, 11))
    methods = [Method("top", ranked=False), *methods_of("a", "b")]
    table = make_table(rows, [MAE], methods, against=Against("a"))
    assert ranks(table) == [0, 1, 2]
    assert [one.first for one in table.comparisons[0]] == ["b"]


def test_a_stopped_method_has_words_and_no_rank():
    rows = rows_of(a=[1, 2, 3], b=[2, 3, 4], c=[0, 0, 0])
    methods = [*methods_of("a", "b"), Method("c", stopped="not converged (90 updates)")]
    table = make_table(rows, [MAE], methods, spread="sd", against=Against("a"))
    assert ranks(table) == [1, 2, 0]
    assert "| c | not converged (90 updates) |" in markdown(table)
    assert len(table.comparisons[0]) == 1
    stopped = make_table(rows, [MAE], methods, spread="sd", against=Against("c"))
    assert stopped.comparisons == ((),)
    assert any(note.startswith("No tests: c has no figures") for note in stopped.notes)


# Marks


def test_marks_are_holms_over_the_column():
    rng = np.random.default_rng(0)
    base = rng.normal(size=12)
    values = {"a": base, "b": base + 0.7 + rng.normal(size=12), "c": base + rng.normal(9, 1, 12)}
    table = make_table(rows_of(**values), [MAE], methods_of(*values), against=Against("a"))
    raw = [wilcoxon(values[name], base).p for name in "bc"]
    made = table.comparisons[0]
    assert [one.p for one in made] == pytest.approx(raw)
    assert [one.p_adjusted for one in made] == pytest.approx(list(holm(raw)))
    assert table.cells[2][0].mark == "***"
    assert table.cells[0][0].mark == ""
    assert "Wilcoxon signed-rank on patients (n = 12), Holm" in table.notes[-1]


def test_the_test_of_the_papers_can_be_asked_for():
    rows = rows_of(a=[1, 2, 3, 4], b=[2, 4, 3, 6])
    table = make_table(rows, [MAE], methods_of("a", "b"), against=Against("a", "t"))
    assert table.comparisons[0][0].test == "paired t-test"
    assert "paired t-test on patients (n = 4)" in table.notes[-1]


def test_few_patients_are_said_below_the_table():
    rows = rows_of(a=[1, 2, 3, 4, 5], b=[2, 4, 6, 8, 10])
    notes = make_table(rows, [MAE], methods_of("a", "b"), against=Against("a")).notes
    assert "mae bone: b: with n = 5 p cannot fall below 0.0625." in notes


# Planted faults


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"rows": [row("a", "p0", 1.0), row("a", "p0", 2.0)]}, "twice"),
        ({"rows": [row("a", "p0", 1.0, case="c"), row("b", "p1", 2.0, case="c")]}, "patient p0"),
        ({"columns": [Column("mae", "bones")]}, "mae of bones"),
        ({"columns": [Column("mae", "bone", items=True)]}, "parts"),
        ({"columns": []}, "columns and methods"),
        ({"methods": methods_of("a", "a")}, "each once"),
        ({"methods": []}, "columns and methods"),
        ({"against": Against("z")}, "'z'"),
    ],
)
def test_wrong_use_is_refused(change, word):
    rows = rows_of(a=[1.0, 2.0], b=[1.0, 2.0])
    call = {"rows": rows, "columns": [MAE], "methods": methods_of("a", "b"), **change}
    with pytest.raises(InputError, match=word):
        make_table(call.pop("rows"), call.pop("columns"), call.pop("methods"), **call)


def test_an_unknown_metric_is_refused():
    with pytest.raises(InputError, match="'mea'"):
        Column("mea", "bone")


# Texts


def golden():
    """Two columns, a tie for nothing, a mark, a stopped method, and names that need care."""
    rows = rows_of(**{"A_1": range(10, 18), "b & c|d": range(30, 38)})
    rows += rows_of("dice", "vertebra", **{"A_1": [0.8] * 8, "b & c|d": [0.75, 0.85] * 4})
    rows = [replace(one, note="missed") if one.value == 0.75 else one for one in rows]
    bias = rows_of("bias", **{"A_1": [-0.001] * 8, "b & c|d": [-3.26] * 8})
    awkward = Method("b & c|d", title="50 % {x}~\\^#$ <*`")
    methods = [Method("A_1"), awkward, Method("_e_", stopped="not converged")]
    columns = [MAE, DICE, Column("bias", "bone", digits=1)]
    return make_table(
        rows + bias, columns, methods, spread="sd", against=Against("A_1"), notes=["Phantom data."]
    )


MARKDOWN = r"""| Method | mae bone [HU] ↓ (n = 8) | Dice ↑ (n = 8) | bias bone [HU] →0 (n = 8) |
|---|---:|---:|---:|
| A_1 | **13.5 ± 2.4** | 0.800 ± 0.000 | **0.0 ± 0.0** |
| 50 % {x}~\\^#$ <\*\` | *33.5 ± 2.4*\*\* | 0.800 ± 0.053 | *-3.3 ± 0.0*\*\* |
| \_e\_ | not converged | not converged | not converged |

- Mean ± SD over patients; n counts patients.
- Dice: b & c\|d: missed × 4.
- Dice: not ranked, all methods are equal as printed.
- \*, \*\*, \*\*\*: p < 0.05, 0.01, 0.001 against A_1, Wilcoxon signed-rank on patients (n = 8), Holm's correction over the tests of a column.
- Phantom data.
"""  # noqa: E501

LATEX = r"""\begin{table}
\centering
\caption{5 \% of \_all\_}
\label{tab:one}
\begin{tabular}{lrrr}
\toprule
Method & mae bone [HU] $\downarrow$ (n = 8) & Dice $\uparrow$ (n = 8) & bias bone [HU] $\rightarrow$0 (n = 8) \\
\midrule
A\_1 & \textbf{13.5 $\pm$ 2.4} & 0.800 $\pm$ 0.000 & \textbf{0.0 $\pm$ 0.0} \\
50 \% \{x\}\textasciitilde{}\textbackslash{}\textasciicircum{}\#\$ $<$*` & \underline{33.5 $\pm$ 2.4}$^{**}$ & 0.800 $\pm$ 0.053 & \underline{$-$3.3 $\pm$ 0.0}$^{**}$ \\
\_e\_ & not converged & not converged & not converged \\
\bottomrule
\end{tabular}
\par\medskip\footnotesize\raggedright
Mean $\pm$ SD over patients; n counts patients.\par
Dice: b \& c$|$d: missed $\times$ 4.\par
Dice: not ranked, all methods are equal as printed.\par
{*}, **, ***: p $<$ 0.05, 0.01, 0.001 against A\_1, Wilcoxon signed-rank on patients (n = 8), Holm's correction over the tests of a column.\par
Phantom data.\par
\end{table}
"""  # noqa: E501


def test_markdown_word_for_word():
    assert markdown(golden()) == MARKDOWN


def test_markdown_is_read_as_it_was_meant():
    """Names and marks come out of a Markdown reader as they went in."""
    title = r"<b>a</b> | _x_ *y* `z` a_b_c \\"
    rows = rows_of(m=range(8), r=range(10, 18))
    table = make_table(
        rows, [MAE], [Method("m", title=title), Method("r")], spread="sd", against=Against("r")
    )
    html = MarkdownIt("commonmark").enable("table").render(markdown(table))
    shown = title.replace("<", "&lt;").replace(">", "&gt;")
    assert f"<td>{shown}</td>" in html
    assert "<strong>3.5 ± 2.4</strong>**</td>" in html
    assert "<em>13.5 ± 2.4</em></td>" in html


def test_latex_word_for_word():
    assert latex(golden(), caption="5 % of _all_", label="tab:one") == LATEX


@pytest.mark.parametrize("start", "[*")
def test_a_row_is_no_argument_of_the_line_break_before_it(start):
    table = make_table(rows_of(m=[1.0]), [MAE], [Method("m", title=f"{start}x")], spread="sd")
    assert f"\n{{{start}}}x & " in latex(table)


def test_the_same_table_gives_the_same_text_in_any_order_of_rows():
    rng = np.random.default_rng(0)
    rows = rows_of(a=rng.normal(size=9), b=rng.normal(size=9))
    call = {"columns": [MAE], "methods": methods_of("a", "b"), "against": Against("a")}
    assert markdown(make_table(rows, **call)) == markdown(make_table(rows[::-1], **call))
