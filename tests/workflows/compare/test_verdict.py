"""Which rows show figures, and in which tables they stand."""

import json
import math

import pytest
from planted_compare import RAW, Oracle, experiment

from spinect.evaluation.tables import Tidy
from spinect.workflows.compare.status import Status
from spinect.workflows.compare.tables import rows_of
from spinect.workflows.compare.verdict import judge_rows, over_seeds


def stopped(compare, tmp_path, oracle, **changes):
    """Row -> why it shows no figures, as compare.json says."""
    compare(oracle, **changes)
    held = json.loads((tmp_path / "out" / "compare.json").read_text())
    return {name: verdict["text"] for name, verdict in held["verdicts"].items()}


def test_rows_that_beat_the_baselines_show_figures(compare, tmp_path):
    assert set(stopped(compare, tmp_path, Oracle()).values()) == {""}
    page = (tmp_path / "out" / "tables" / "image_quality.md").read_text()
    assert "81.0" in page  # 80, 81 and 82 HU
    assert "one seed, no ranking" in page
    assert "**" not in page.split("MAE near bone")[1].split("\n\n")[0]
    assert "Phantom data." in page


def test_too_few_updates_are_not_converged(compare, tmp_path):
    found = stopped(compare, tmp_path, Oracle(updates={"deep": 99, "constant": 1000}))
    assert found["deep"] == found["deep_again"] == "not converged (99 of 100 updates)"
    assert found["flat"] == ""
    page = (tmp_path / "out" / "tables" / "dice.md").read_text()
    assert "not converged (99 of 100 updates)" in page
    assert "0.920" not in page  # the Dice of deep


@pytest.mark.parametrize("error", [300.0, 301.0])
def test_a_row_must_beat_the_baseline_not_equal_it(compare, tmp_path, error):
    found = stopped(compare, tmp_path, Oracle(errors={"flat": error}))
    assert found["flat"].startswith("not converged (100 updates: 30")
    assert "constant 301" in found["flat"]
    assert found["deep"] == ""


def test_a_failed_baseline_lets_nothing_through(compare, tmp_path):
    found = stopped(compare, tmp_path, Oracle(fails=("constant",)))
    assert found["constant"] == "failed, see rows.tsv"
    assert found["deep"] == "not shown: baseline constant has no figures"


def test_three_seeds_are_ranked(compare, tmp_path):
    rows = [dict(row) | {"seeds": [0, 1, 2]} for row in RAW["rows"] if "preset" in row]
    stopped(compare, tmp_path, Oracle(), rows=rows)
    page = (tmp_path / "out" / "tables" / "image_quality.md").read_text()
    assert "no ranking" not in page
    assert "**81.0" in page


def test_masks_without_a_ct_need_no_hu():
    """Direct segmentation is held to its updates alone."""
    made = experiment()
    statuses = [
        Status(row, 0, row.name, "translated", {"updates": 100, "makes_ct": row.name != "deep"})
        for row in made.rows
    ]
    tidy = [Tidy("constant", "strict", "iso", "p", "p_T2w", "near_bone", "", "mae", 300.0)]
    found = {v.row.name: v.stopped for v in judge_rows(made, statuses, tidy)}
    assert found["deep"] == ""
    assert found["flat"].startswith("not converged (100 updates: nan HU")


def test_seeds_are_averaged_case_by_case():
    def value(method, case, number, note=""):
        return Tidy(method, "strict", "iso", case, case, "bone", "", "mae", number, note)

    rows = [value("a_seed-0", "x", 1.0), value("a_seed-1", "x", 4.0),
            value("a_seed-0", "y", 2.0), value("a_seed-1", "y", math.nan, "empty"),
            value("other", "x", 9.0)]  # fmt: skip
    first, second = over_seeds(rows, {"a_seed-0": "a", "a_seed-1": "a"})
    assert (first.method, first.case, first.value) == ("a", "x", 2.5)
    assert math.isnan(second.value)
    assert second.note == "empty"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("image_quality", {"constant", "flat", "deep", "flat_0", "deep_again"}),
        ("registration", {"constant", "flat", "flat_0"}),
        ("misalignment", set()),
        ("dimensions", {"constant", "flat", "deep"}),
        ("sampling", set()),
        ("samplers", set()),
    ],
)
def test_each_table_has_its_rows(table, expected):
    made = experiment()
    facts = {"flat": 2, "flat_0": 2, "deep": 3}
    statuses = [
        Status(row, 0, row.name, facts={"ndim": facts[row.name], "method": "regression"})
        for row in made.rows
        if row.name in facts
    ]
    assert {row.name for row in rows_of(table, made, statuses)} == expected


def test_misaligned_rows_stand_in_a_table_of_their_own():
    """And in none that compares something else."""
    rows = [
        *RAW["rows"],
        {"name": "off_2", "preset": "flat", "shift_mm": 2},
        {"name": "off_4", "preset": "flat", "shift_mm": 4, "set": {"trainer.lr": 1.0}},
        {"name": "turned", "preset": "flat", "turn_deg": 5},
        {"name": "off_1_point", "preset": "flat", "shift_mm": 2, "registration": "1"},
    ]
    made = experiment(rows=rows)
    facts = {"ndim": 2, "method": "regression"}
    statuses = [Status(r, 0, r.name, facts=facts | {"ndim": 3 if r.name == "deep" else 2})
                for r in made.rows]  # fmt: skip
    found = {t: {r.name for r in rows_of(t, made, statuses)} for t in made.tables}
    assert found["misalignment"] == {"constant", "flat", "off_2", "turned"}
    assert found["registration"] == {"constant", "flat", "flat_0", "off_2", "off_1_point"}
    assert found["dimensions"] == {"constant", "flat", "deep"}
    assert "off_4" in found["dice"]


def test_variants_of_one_training_make_the_tables_of_sampling():
    rows = [
        *RAW["rows"],
        {"name": "steps", "weights_of": "deep", "inference": {"mode": "sample", "steps": 5}},
        {"name": "heun", "weights_of": "deep", "inference": {"mode": "sample", "sampler": "heun"}},
        {"name": "ddim", "weights_of": "flat", "inference": {"mode": "sample"}},
    ]
    made = experiment(rows=rows)
    assert {r.name for r in rows_of("samplers", made, [])} == {
        "constant", "deep", "deep_again", "steps", "heun",
    }  # fmt: skip
    assert {r.name for r in rows_of("sampling", made, [])} == {
        "constant", "deep", "deep_again", "steps", "heun", "flat", "ddim",
    }  # fmt: skip


def test_contrasts_stand_in_tables_of_their_own(compare, tmp_path):
    """A baseline of one contrast says nothing about the other."""
    rows = [
        *RAW["rows"],
        {"name": "t1", "preset": "deep", "contrast": "T1w"},
        {"name": "one_t1", "preset": "one_hu", "contrast": "T1w", "baseline": True},
    ]
    oracle = Oracle(errors={"t1": 320.0, "one_t1": 350.0})
    data = RAW["data"] | {"contrasts": ["T2w", "T1w"]}
    found = stopped(compare, tmp_path, oracle, rows=rows, data=data)
    assert set(found.values()) == {""}
    t1, t2 = ((tmp_path / "out" / "tables" / f"dice-{c}.md").read_text() for c in ("T1w", "T2w"))
    assert "one_t1" in t1
    assert "| deep |" not in t1
    assert "| deep |" in t2
    assert not (tmp_path / "out" / "tables" / "registration-T1w.md").exists()


def test_tables_of_an_earlier_start_do_not_stay(compare, tmp_path):
    stopped(compare, tmp_path, Oracle())
    assert (tmp_path / "out" / "tables" / "registration.md").exists()
    stopped(compare, tmp_path, Oracle(), rows=RAW["rows"][:3])
    assert not (tmp_path / "out" / "tables" / "registration.md").exists()
