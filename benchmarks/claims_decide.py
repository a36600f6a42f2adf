"""How a claim is decided from values of patients; no files here.

A claim is tested by one or more findings. Each says of a difference over patients whether it is as
claimed ("yes"), the opposite ("no") or neither ("open"). All must be "yes" for "reproduced"; one
"no" is "not reproduced"; else the claim is undecided. A difference counts when its 95 % interval
(BCa over patients, paired) excludes 0 and its p, by Holm over the claims of one table, is below
0.05. Missing evidence is therefore never called "not reproduced".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy import stats

from spinect.evaluation.stats.compare import compare, paired
from spinect.evaluation.stats.intervals import Interval, bca
from spinect.evaluation.stats.multiplicity import holm
from spinect.evaluation.stats.power import non_inferiority

Patients = Mapping[str, float]
State = Literal["yes", "no", "open"]
Rule = Literal["differs", "trend", "not lower", "non-inferior", "equivalent"]
ALPHA = 0.05


@dataclass(frozen=True)
class Finding:
    """One difference over patients.

    Attributes:
        sign: +1 where the claim says "higher", -1 for "lower".
        p: Raw: Wilcoxon (two-sided), Page's trend as claimed (one-sided), or non-inferiority; NaN
            where the rule looks at the interval alone, which takes no part in Holm.
        p_against: Page's trend the other way.
        margin: Of non-inferiority and equivalence.
    """

    text: str
    rule: Rule
    difference: float
    interval: Interval
    n: int
    sign: int = 1
    p: float = np.nan
    p_holm: float = np.nan
    p_against: float = np.nan
    margin: float = 0.0

    @property
    def state(self) -> State:
        """What it says about the claim."""
        low, high = sorted((self.sign * self.interval.low, self.sign * self.interval.high))
        if self.rule == "trend":
            return _state(self.p_holm < ALPHA, self.p_against < ALPHA)
        if self.rule == "not lower":
            return _state(high >= 0, high < 0)
        if self.rule == "non-inferior":
            return _state(self.p_holm < ALPHA / 2, high < -self.margin)
        if self.rule == "equivalent":
            inside = -self.margin < low and high < self.margin
            return _state(inside, low > self.margin or high < -self.margin)
        counts = self.p_holm < ALPHA
        return _state(counts and low > 0, counts and high < 0)

    def __str__(self) -> str:
        ends = f"[{self.interval.low:+.3f}, {self.interval.high:+.3f}]"
        p = "" if np.isnan(self.p_holm) else f", Holm p = {self.p_holm:.3g}"
        return f"{self.text}: {self.difference:+.3f} {ends}, n = {self.n}{p}"


def _state(yes: bool, no: bool) -> State:
    return "yes" if yes else "no" if no else "open"


def difference(
    first: Patients,
    second: Patients,
    *,
    text: str,
    rule: Rule = "differs",
    sign: int = 1,
    margin: float = 0.0,
) -> Finding:
    """First minus second over the patients that both have.

    Raises:
        InputError: No common patient, or values that are not finite.
    """
    a, b, names = paired(first, second)
    interval, p = bca(a - b), np.nan
    if rule == "differs":
        p = compare(first, second, names=("first", "second")).p
    if rule == "non-inferior":
        p = non_inferiority(a, b, margin=margin, better="higher", alpha=ALPHA / 2).p
    return Finding(text, rule, float(np.mean(a - b)), interval, len(names), sign, p, margin=margin)


def falling(doses: Sequence[Patients], *, text: str) -> Finding:
    """Page's test that values fall from dose to dose, on the patients that all doses have.

    The difference is the last dose minus the first. p is exact, which with ties is too large
    rather than too small.

    Source: Page, JASA 58:216 (1963), by scipy's `page_trend_test`.
    """
    names = sorted(set.intersection(*(set(dose) for dose in doses)))
    values = np.array([[dose[name] for dose in doses] for name in names])
    down, up = (
        float(stats.page_trend_test(x, method="exact").pvalue) for x in (values[:, ::-1], values)
    )
    change = values[:, -1] - values[:, 0]
    return Finding(text, "trend", float(change.mean()), bca(change), len(names), -1, down,
                   p_against=up)  # fmt: skip


def adjusted(table: Mapping[str, Sequence[Finding]]) -> dict[str, list[Finding]]:
    """Holm over all findings of the claims of one table."""
    corrected = iter(holm([f.p for own in table.values() for f in own] or [np.nan]))
    return {
        claim: [replace(f, p_holm=float(next(corrected))) for f in own]
        for claim, own in table.items()
    }


def verdict(findings: Sequence[Finding], missing: str = "") -> str:
    """The word for a claim.

    Args:
        findings: After `adjusted`. missing: What the claim asks for and no row shows.
    """
    states = [finding.state for finding in findings]
    if "no" in states:
        return "not reproduced"
    if "open" in states:
        return f"undecided ({findings[states.index('open')].text}: no difference that counts)"
    if missing or not states:
        return f"undecided ({missing or 'no values'})"
    return "reproduced"
