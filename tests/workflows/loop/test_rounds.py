"""The decisions alone, without a file."""

from types import SimpleNamespace

import pytest

from spinect.errors import ConfigError, InputError
from spinect.workflows.loop.config import AcceptConfig, parse_loop
from spinect.workflows.loop.rounds import (
    Decision,
    Lesson,
    Trial,
    accepted,
    candidates,
    complaint,
    end_of,
    lesson,
    trial,
)
from spinect.workflows.loop.state import Ledger, Made, StepRecord

GOOD = {"verdict": "accept", "reason": "fine", "residual_mm": [1.0, 2.0, 3.0], "vertebrae": 3}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"verdict": "reject", "reason": "levels"}, "verdict reject: levels"),
        ({"verdict": "review", "reason": "turned"}, "verdict review: turned"),
        ({"vertebrae": 2}, "2 vertebrae have a landmark, 3 needed"),
        ({"residual_mm": [7.0, 7.0]}, "mean residual 7.0 mm, at most 6"),
        ({"residual_mm": [1.0] * 9 + [29.0]}, "95 % residual 16.4 mm, at most 12"),
        ({"residual_mm": []}, "no landmark was used"),
    ],
)
def test_every_limit_is_named(change, said):
    assert complaint(GOOD | change, AcceptConfig()) == said


def test_review_is_taken_when_asked_and_reject_never():
    lenient = AcceptConfig(review=True)
    assert complaint(GOOD | {"verdict": "review"}, lenient) == ""
    assert complaint(GOOD | {"verdict": "reject"}, lenient) != ""


def test_several_limits_are_all_named():
    said = complaint(GOOD | {"vertebrae": 1, "residual_mm": [20.0]}, AcceptConfig())
    assert said.count(";") == 2


def step(name, facts=None, failed=""):
    status = "failed" if failed else "done"
    return StepRecord(
        step=name, round=1, case="a", status=status, reason=failed, facts=facts or {}, seconds=1.0
    )


def test_a_trial_says_which_step_failed():
    found = trial("a", [step("translate"), step("segment", failed="empty")], AcceptConfig())
    assert (found.accepted, found.registered, found.reason) == (False, False, "segment: empty")
    names = step("match", {"renamed": {"L5": "L4"}})
    done = trial("a", [names, step("register", GOOD)], AcceptConfig())
    assert (done.accepted, done.mean_mm, done.p95_mm) == (True, 2.0, 2.9)
    assert done.renamed == {"L5": "L4"}


def cases(*names):
    """Names such as "1_T1w", in split train; "1_T1w!" is of the test split."""
    return [
        SimpleNamespace(
            name=n, contrast=n.rstrip("!")[-3:], split="test" if n.endswith("!") else "train"
        )
        for n in names
    ]


CONFIG = parse_loop({"dataset": "d", "train": "t", "least_pairs": 2})


def test_targets_teach_as_soon_as_there_are_enough_of_the_split():
    every = cases("1_T2w", "2_T2w", "1_T1w", "2_T1w", "3_T1w!")
    done = {"1_T2w": 0, "2_T2w": 0, "1_T1w": 1, "3_T1w!": 1}
    assert lesson(every, done, CONFIG, "train") == Lesson("T2w", ("1_T2w", "2_T2w"))
    enough = done | {"2_T1w": 1}
    assert lesson(every, enough, CONFIG, "train") == Lesson("T1w", ("1_T1w", "2_T1w"))
    assert [c.name for c in candidates(every, done, CONFIG)] == ["2_T1w"]


def decision(number, gained=(), **fields):
    trials = tuple(Trial(case=c, accepted=True, reason="") for c in gained)
    return Decision(round=number, trials=trials, seconds=0, **fields)


def test_a_loop_ends_for_one_of_four_reasons():
    seeds, next_one = decision(0, ["a"]), Lesson("T2w", ("a",))
    assert end_of([seeds], 0, 3, next_one) == "every target is accepted"
    assert end_of([seeds], 2, 3, next_one) == ""
    first = decision(1, ["b"], trained_on="T2w", training=("a",))
    assert "1 round(s) are done" in end_of([seeds, first], 1, 1, next_one)
    assert end_of([seeds, first], 1, 3, Lesson("T2w", ("a", "c"))) == ""
    assert "learn from the same pairs" in end_of([seeds, first], 1, 3, next_one)
    assert "gained nothing" in end_of([seeds, decision(1)], 1, 3, next_one)
    assert accepted([seeds, first]) == {"a": 0, "b": 1}


def failing(problem):
    def work():
        raise problem

    return work


def test_the_fault_of_a_series_fails_it_and_that_of_a_disk_ends_the_loop(tmp_path):
    ledger = Ledger(tmp_path)
    record = ledger.do("translate", 1, "a", failing(InputError("bad\n file")))
    assert (record.status, record.reason) == ("failed", "bad file")
    strange = ledger.do("segment", 1, "a", failing(ZeroDivisionError("oh")))
    assert strange.reason.startswith("unexpected ZeroDivisionError: oh")
    for problem in (OSError(28, "full"), ConfigError("no")):
        with pytest.raises(type(problem)):
            ledger.do("match", 1, "a", failing(problem))
    assert ledger.done("match", 1, "a") is None
    with pytest.raises(InputError):  # of the whole round: nobody to blame
        ledger.do("train", 1, "", failing(InputError("no pair")))


def test_a_step_is_done_once_unless_its_files_are_gone(tmp_path):
    ledger, file, times = Ledger(tmp_path), tmp_path / "made", []

    def work():
        times.append(1)
        file.touch()
        return Made((file,), {"number": 3})

    first = ledger.do("segment", 1, "a", work)
    assert ledger.do("segment", 1, "a", work) == first
    file.unlink()
    ledger.do("segment", 1, "a", work)
    assert len(times) == 2
    (tmp_path / "round-1" / "steps" / "a_segment.json").write_text("{half")
    ledger.do("segment", 1, "a", work)
    assert len(times) == 3
