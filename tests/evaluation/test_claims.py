"""The rules of benchmarks/claims.py on made-up patients."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy import stats

from spinect.evaluation.tables.tidy import Tidy, write_tidy

NAMES = ("claims", "claims_decide", "lyu2022_claims")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
RNG = np.random.default_rng(0)
BASE = 0.7 + 0.05 * RNG.standard_normal(20)


@pytest.fixture(scope="module")
def bench(benchmark_script):
    return {name: benchmark_script(name) for name in NAMES}


def people(values):
    return {f"sub-{i}": float(v) for i, v in enumerate(values)}


def noisy(shift, seed=1):
    return people(BASE + shift + 0.01 * np.random.default_rng(seed).standard_normal(20))


def word(decide, *found, missing=""):
    return decide.verdict(decide.adjusted({"claim": found})["claim"], missing)


@pytest.mark.parametrize(
    ("shift", "sign", "told"),
    [(0.05, 1, "reproduced"), (-0.05, 1, "not reproduced"), (-0.05, -1, "reproduced"),
     (0.05, -1, "not reproduced"), (0.0, 1, "undecided")],
)  # fmt: skip
def test_a_difference_counts_when_its_interval_excludes_zero(bench, shift, sign, told):
    decide = bench["claims_decide"]
    found = decide.difference(noisy(shift), people(BASE), text="x", sign=sign)
    assert word(decide, found).split(" (")[0] == told


def test_holm_over_the_table_takes_part(bench):
    """p = 0.03 counts alone, and does not among four."""
    decide = bench["claims_decide"]
    interval = decide.Interval(0.01, 0.1, 0.95, "BCa bootstrap", 20)
    one = decide.Finding("x", "differs", 0.05, interval, 20, p=0.03)
    assert word(decide, one) == "reproduced"
    many = decide.adjusted({"a": [one], "b": [one] * 3})
    assert many["a"][0].p_holm == pytest.approx(0.12)
    assert decide.verdict(many["a"]).startswith("undecided (x")


def test_every_finding_is_needed_and_one_against_is_enough(bench):
    decide = bench["claims_decide"]
    up, down, none = (
        decide.difference(noisy(s), people(BASE), text=str(s)) for s in (0.05, -0.05, 0.0)
    )
    assert word(decide, up, up) == "reproduced"
    assert word(decide, up, none).startswith("undecided (0.0")
    assert word(decide, up, none, down) == "not reproduced"
    assert word(decide, up, missing="no row varies eta") == "undecided (no row varies eta)"


@pytest.mark.parametrize(
    ("shifts", "told"),
    [((0, -0.02, -0.04), "reproduced"), ((0, 0.02, 0.04), "not reproduced"), ((0, 0, 0), "undec")],
)
def test_the_dose_falls_by_pages_test(bench, shifts, told):
    decide = bench["claims_decide"]
    doses = [noisy(s, seed) for seed, s in enumerate(shifts)]
    found = decide.falling(doses, text="dose")
    assert word(decide, found).startswith(told)
    values = np.array([list(dose.values()) for dose in doses]).T
    wanted = stats.page_trend_test(-values, method="exact").pvalue
    assert found.p == pytest.approx(wanted, abs=1e-6)
    assert found.difference == pytest.approx(float((values[:, 2] - values[:, 0]).mean()))


@pytest.mark.parametrize(
    ("rule", "shift", "told"),
    [("non-inferior", -0.005, "reproduced"), ("non-inferior", -0.02, "undecided"),
     ("non-inferior", -0.06, "not reproduced"), ("equivalent", 0.0, "reproduced"),
     ("equivalent", 0.02, "undecided"), ("equivalent", 0.06, "not reproduced"),
     ("not lower", 0.01, "reproduced"), ("not lower", -0.06, "not reproduced")],
)  # fmt: skip
def test_margins(bench, rule, shift, told):
    decide = bench["claims_decide"]
    found = decide.difference(noisy(shift), people(BASE), text="x", rule=rule, margin=0.02)
    assert word(decide, found).split(" (")[0] == told


def results(bench, folder, shifts, stopped=()):
    """A finished experiment: posterior Dice of rows by the judge."""
    rows = [{"name": name, "preset": "x", "baseline": k == 0} for k, name in enumerate(shifts)]
    raw = {"name": "made", "data": {"source": "phantom", "train": 1, "test": 1},
           "budget": {"minutes": 1, "least_updates": 1}, "rows": rows}  # fmt: skip
    verdicts = {name: {"shown": name not in stopped, "text": "not converged"} for name in shifts}
    folder.mkdir()
    (folder / "compare.json").write_text(json.dumps({"experiment": raw, "verdicts": verdicts}))
    values = [
        Tidy(name, "strict", "iso", patient, f"{patient}_T2w", "posterior@judge", "", "dice", dice)
        for seed, (name, shift) in enumerate(shifts.items())
        for patient, dice in noisy(shift, seed).items()
    ]
    (folder / "evaluation-T2w").mkdir()
    write_tidy(values, folder / "evaluation-T2w" / "values.csv")
    return bench["claims"].read_results(folder)


def test_each_claim_has_a_line_and_only_tested_ones_a_verdict(bench, tmp_path):
    flat = "regression_2d"
    shifts = {flat: 0, f"{flat}_points_0": -0.2, f"{flat}_points_1": -0.05,
              f"{flat}_shift_2": -0.02, f"{flat}_shift_4": -0.04, f"{flat}_turn_5": -0.02,
              f"{flat}_turn_10": -0.05, f"{flat}_polyrigid_2": 0.05}  # fmt: skip
    made = results(bench, tmp_path / "a", shifts, stopped=(f"{flat}_polyrigid_2",))
    claims = yaml.safe_load((BENCHMARKS / "claims.yaml").read_text())
    lines = bench["claims"].lines(claims, [made])
    ids = [claim["id"] for own in claims.values() for claim in own]
    found = dict(zip(ids, lines, strict=True))
    for claim in ("two-points-beat-one", "unregistered-loses-posterior", "misalignment-dose"):
        assert found[claim][3:5] == ("reproduced", "1")
        assert "n = 20" in found[claim][5]
    stopped = f"undecided ({flat}_polyrigid_2: not converged)"
    assert found["per-vertebra-registration"][3] == stopped
    assert found["three-dimensions"][3] == found["averaging"][3] == "not run"
    assert found["landmark-rotation"][3] == "follows from construction"
    assert found["mrspineseg"][3] == "not testable here"
    for line in lines:
        assert line[2] == "tested" or "reproduced" not in line[3]


def test_every_rule_is_a_tested_claim(bench):
    claims = yaml.safe_load((BENCHMARKS / "claims.yaml").read_text())
    tested = {c["id"] for own in claims.values() for c in own if c["class"] == "tested"}
    assert {claim for own in bench["claims"].RULES.values() for claim in own} <= tested


@pytest.mark.parametrize(
    ("gain", "spectrum", "told"),
    [
        (2.6, 3.0, ["reproduced", "reproduced", "reproduced", "reproduced"]),
        (1.0, 12.0, ["reproduced", "not reproduced", "not reproduced", "not reproduced"]),
        (-0.5, 3.0, ["not reproduced", "not reproduced", "not reproduced", "reproduced"]),
    ],
)
def test_claims_of_lyu_and_wang_from_slices(bench, gain, spectrum, told):
    """Draws 1.5 dB below the CNN; averaging gains 2.6 dB in theory."""
    lyu = bench["lyu2022_claims"]
    rng = np.random.default_rng(2)

    def subjects(psnr, **more):
        return [
            {"psnr": psnr + b + 0.05 * rng.standard_normal(), "ssim": (psnr + b) / 40} | more
            for b in 10 * BASE
        ]

    sets = {
        name: [{"K=1": one, "K=10": many}
               for one, many in zip(subjects(24), subjects(24 + gain), strict=True)]
        for name in lyu.FOUR
    }  # fmt: skip
    near = [spectrum + 0.1 * v for v in rng.standard_normal(20)]
    rows = {
        "cnn": [one | {"spectrum": 8.0} for one in subjects(25.5)],
        "ddpm-ddpm, one draw": [{"spectrum": v} for v in near],
        "ddpm-ddpm, mean of 10": subjects(24 + gain),
    }
    found = lyu.decide(rows, sets, {}, 10)
    claims = ["averaging", "averaging-size", "diffusion-against-cnn", "cnn-blurs"]
    assert [found[claim]["word"].split(" (")[0] for claim in claims] == told
    cost = {"score_vp-ode rk45": 80, "ddpm-ddpm": 1000, "score_vp-em": 1000, "score_vp-pc": 2000}
    ladder = {name: [[{"calls": calls, "seconds": calls * (1 + 0.01 * v)} for v in rng.random(20)]]
              for name, calls in cost.items()}  # fmt: skip
    assert lyu.decide(rows, sets, ladder, 10)["sampler-cost"]["word"] == "reproduced"
    ladder["score_vp-ode rk45"] = ladder["score_vp-pc"]
    assert lyu.decide(rows, sets, ladder, 10)["sampler-cost"]["word"] == "not reproduced"
    del ladder["score_vp-pc"]
    assert "not reproduced" in lyu.decide(rows, sets, ladder, 10)["sampler-cost"]["word"]
