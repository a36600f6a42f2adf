"""Every stage once, whatever happens in between: kills, failures, changed configs, short starts."""

import json
from dataclasses import replace

import pytest
from planted_compare import RAW, Oracle, experiment

from spinect.errors import ConfigError
from spinect.workflows.compare import Plan, run_compare
from spinect.workflows.compare.run import Runner
from spinect.workflows.compare.stages import Stages


def record(out):
    """What an experiment concluded, without what differs between any two runs."""
    held = json.loads((out / "compare.json").read_text())
    return {key: held[key] for key in ("rows", "verdicts", "tables", "files")}


def pages(out):
    return {path.name: path.read_text() for path in sorted((out / "tables").iterdir())}


def test_every_row_passes_every_stage_once(compare, tmp_path):
    """Rows of one level share their pairs, a variant its weights."""
    statuses, why, oracle = compare()
    assert why == ""
    assert {status.state for status in statuses.values()} == {"evaluated"}
    assert oracle.calls["phantoms"] == oracle.calls["score"] == 1
    assert oracle.calls["register 2"] == oracle.calls["register 0"] == 1
    assert oracle.calls["train deep 0"] == 1
    assert oracle.calls["translate deep"] == oracle.calls["translate deep_again"] == 1
    assert sum(key.startswith("train") for key in oracle.calls) == 4
    lines = (tmp_path / "out" / "rows.tsv").read_text().splitlines()
    assert len(lines) == 6
    assert statuses["flat"].facts["updates"] == 100


def test_a_second_start_does_nothing_but_score(compare):
    """What is up to date is known by the evaluation itself."""
    compare()
    statuses, _, again = compare()
    assert dict(again.calls) == {"score": 1}
    assert {status.state for status in statuses.values()} == {"evaluated"}


@pytest.mark.parametrize("call", range(1, 14))
def test_killed_anywhere_and_started_again_it_ends_alike(compare, tmp_path, call):
    compare(out="whole")
    with pytest.raises(KeyboardInterrupt):
        compare(Oracle(killed_at=call), out="parts")
    assert (tmp_path / "parts" / "rows.tsv").is_file()
    _, _, later = compare(out="parts")
    assert later.calls.total() == 14 - call  # the killed call, and those after it
    assert record(tmp_path / "parts") == record(tmp_path / "whole")
    assert pages(tmp_path / "parts") == pages(tmp_path / "whole")


def test_a_failing_row_is_a_row_with_its_reason(compare, tmp_path):
    statuses, _, oracle = compare(Oracle(fails=("deep",)))
    assert statuses["deep"].state == statuses["deep_again"].state == "failed"
    assert "planted" in statuses["deep"].reason
    assert statuses["flat"].state == "evaluated"
    assert oracle.calls["translate flat"] == 1
    assert oracle.calls["translate deep"] == 0
    table = (tmp_path / "out" / "tables" / "image_quality.md").read_text()
    assert "failed, see rows.tsv" in table
    assert "train: " in (tmp_path / "out" / "rows.tsv").read_text()
    statuses, _, later = compare()  # a failure is tried again
    assert statuses["deep"].state == "evaluated"
    assert later.calls["train deep 0"] == 1


def test_what_a_changed_field_does_not_touch_is_kept(compare):
    compare()
    rows = [dict(row) for row in RAW["rows"]]
    rows[1]["set"] = {"method.network.channels": [8, 12]}
    _, _, one = compare(rows=rows)
    assert dict(one.calls) == {"train flat 0": 1, "translate flat": 1, "score": 1}
    noisy = RAW["data"] | {"landmark_noise_mm": 3.0}
    _, _, two = compare(data=noisy)
    assert two.calls["phantoms"] == 0
    assert two.calls["register 2"] == 1
    assert two.calls["train constant 0"] == 1
    _, _, three = compare(data=RAW["data"] | {"slice_mm": 3})
    assert three.calls["phantoms"] == 1
    _, _, four = compare(budget=RAW["budget"] | {"minutes": 2})
    assert four.calls["register 2"] == 0
    assert sum(key.startswith("train") for key in four.calls) == 4


def test_a_default_written_out_changes_nothing(compare):
    compare()
    _, _, again = compare(data=RAW["data"] | {"slice_mm": 4, "region": "lumbar"})
    assert dict(again.calls) == {"score": 1}


def test_rows_without_misalignment_keep_the_keys_of_before(compare, tmp_path):
    """Keys and settings are those that version 1.0 of the stages wrote."""
    known = {"data": "5a414db2c568", "contrast": "T2w", "level": "2", "noise": 2.0, "seed": 2023}
    assert Stages(tmp_path).place("pairs", "T2w-2", known).name == "T2w-2-1b94877e6993"
    rows = [*RAW["rows"], {"name": "off", "preset": "flat", "shift_mm": 2},
            {"name": "turned", "preset": "flat", "shift_mm": 2, "turn_deg": 5},
            {"name": "still", "preset": "flat", "shift_mm": 0, "turn_deg": 0}]  # fmt: skip
    compare()
    _, _, oracle = compare(rows=rows, plan={"until": "train"})
    assert oracle.calls["register 2"] == 2  # off and turned
    assert oracle.calls["train still 0"] == oracle.calls["train off 0"] == 1
    assert oracle.calls["train flat 0"] == oracle.calls["register 0"] == 0
    held = [json.loads(path.read_text())["inputs"] for path in (tmp_path / "out/pairs").iterdir()
            if path.suffix == ".json"]  # fmt: skip
    extra = [{k: v for k, v in one.items() if k not in known} for one in held]
    assert sorted(map(str, extra)) == sorted(
        map(str, [{}, {}, {"shift_mm": 2.0}, {"shift_mm": 2.0, "turn_deg": 5.0}])
    )


def test_a_short_start_stops_between_two_steps_and_goes_on(home, tmp_path):
    """Each look at the clock takes 10 s."""
    ticks = iter(range(0, 10**6, 10))
    plan = Plan(experiment(), home, tmp_path / "out", minutes=1.0)
    oracle = Oracle()
    runner = Runner(plan, oracle.tools, Stages(plan.out), clock=lambda: float(next(ticks)))
    assert "1 minutes of this start are over" in runner.run()
    assert "failed" not in {status.state for status in runner.statuses.values()}
    assert oracle.calls.total() < 13
    assert (tmp_path / "out" / "rows.tsv").is_file()
    statuses, why = run_compare(replace(plan, minutes=None), Oracle().tools)
    assert why == ""
    assert {status.state for status in statuses} == {"evaluated"}


def test_until_and_only_do_less(compare, tmp_path):
    statuses, _, oracle = compare(plan={"until": "train", "only": ("deep_again",)})
    assert dict(oracle.calls) == {"phantoms": 1, "register 2": 1, "train deep 0": 1}
    assert list(statuses) == ["deep_again"]
    _, _, oracle = compare(plan={"only": ("deep_again",)})
    assert dict(oracle.calls) == {"translate deep_again": 1}  # no tables of some rows alone
    assert not (tmp_path / "out" / "tables").exists()
    _, _, oracle = compare(plan={"until": "prepare"})
    assert dict(oracle.calls) == {"register 0": 1}


def test_nothing_runs_before_everything_is_checked(compare, tmp_path):
    rows = [*RAW["rows"], {"name": "typo", "preset": "flaat"}]
    with pytest.raises(ConfigError, match="no preset 'flaat': give a path or one of deep, flat"):
        compare(rows=rows)
    rows[-1] = {"name": "typo", "preset": "flat", "set": {"method.chanels": 3}}
    compare(rows=rows, plan={"until": "prepare"})  # a method's fields are checked by its training
    rows[-1] = {"name": "typo", "preset": "flat", "set": {"trainer.lrr": 3}}
    with pytest.raises(ConfigError, match=r"row typo: trainer\.lrr: unknown field"):
        compare(rows=rows, out="never")
    with pytest.raises(ConfigError, match="no row 'x'"):
        compare(plan={"only": ("x",)}, out="never")
    assert not (tmp_path / "never").exists()


def test_every_seed_is_a_training_of_its_own(compare):
    rows = [dict(row) for row in RAW["rows"]]
    rows[2]["seeds"] = [0, 1, 2]
    statuses, _, oracle = compare(rows=rows)
    assert [f"train deep {seed}" in oracle.calls for seed in range(3)] == [True] * 3
    assert {"deep_seed-2", "deep_again_seed-2"} <= statuses.keys()
    assert oracle.calls["translate deep_again_seed-1"] == 1


def test_the_dry_run_says_what_there_is_to_do(home, tmp_path):
    lines = Plan(experiment(), home, tmp_path / "out").told()
    assert lines[-1] == "4 trainings of 1 cpu minutes: 4"
    assert any(line.startswith("deep_again: weights deep ") for line in lines)
    rows = [*RAW["rows"], {"name": "off", "preset": "flat", "shift_mm": 2, "turn_deg": 5}]
    told = Plan(experiment(rows=rows), home, tmp_path / "out").told()[-2]
    assert "registration 2, pairs shifted by 2 mm, pairs turned by 5 degrees" in told
    assert not (tmp_path / "out").exists()


def test_a_stage_without_its_record_is_done_again(compare, tmp_path):
    """As after a kill between the last file and the record."""
    compare()
    (found,) = (tmp_path / "out" / "training").glob("flat-*.json")
    found.unlink()
    _, _, later = compare()
    assert dict(later.calls) == {"train flat 0": 1, "score": 1}


def test_run_compare_is_the_runner(home, tmp_path):
    statuses, why = run_compare(
        Plan(experiment(), home, tmp_path / "out", until="train"), Oracle().tools
    )
    assert why == ""
    assert [status.state for status in statuses] == ["trained"] * 5
