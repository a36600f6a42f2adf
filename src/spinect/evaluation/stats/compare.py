"""Two or more methods on the same patients: never a p without its n."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from spinect.errors import InputError
from spinect.evaluation.stats.intervals import Interval, bca, t_interval
from spinect.evaluation.stats.multiplicity import benjamini_hochberg, holm
from spinect.evaluation.stats.tests import (
    Outcome,
    cohen_dz,
    hodges_lehmann,
    rank_biserial,
    t_test,
    wilcoxon,
)

Floats = NDArray[np.float64]
Patients = Mapping[str, float | Sequence[float]]  # patient -> its value or values
Test = Literal["t", "wilcoxon"]
Adjustment = Literal["Holm", "Benjamini-Hochberg"]
_ADJUST: Final = {"Holm": holm, "Benjamini-Hochberg": benjamini_hochberg}


@dataclass(frozen=True)
class Comparison:
    """First minus second method, over patients.

    Attributes:
        first, second: Methods.
        n: Patients with a value of both.
        n_values: Values of the first method that went in; more than n where patients have several,
            which are averaged first.
        mean_difference, median_difference: Median by Hodges and Lehmann.
        interval: Of the mean difference: t for the t-test, BCa for Wilcoxon.
        test: Name of the test.
        p: Raw, two-sided.
        p_adjusted: Over the family of `tests` tests; equals p when there is one.
        adjustment: How it was adjusted; "" for a single test.
        tests: Size of the family; tests that could not be made are not counted.
        effect: Hedges-corrected dz for the t-test, matched rank biserial for Wilcoxon.
        note: What the reader must know: few patients, patients left out, no spread.
    """

    first: str
    second: str
    n: int
    n_values: int
    mean_difference: float
    median_difference: float
    interval: Interval
    test: str
    p: float
    effect_name: str
    effect: float
    p_adjusted: float = math.nan
    adjustment: str = ""
    tests: int = 1
    note: str = ""

    def __str__(self) -> str:
        values = f" ({self.n_values} values)" if self.n_values != self.n else ""
        adjusted = (
            f", {self.adjustment} over {self.tests} tests {_p_text(self.p_adjusted)}"
            if self.adjustment
            else ""
        )
        text = (
            f"{self.first} - {self.second}: {self.mean_difference:+.4g}, {self.interval}, "
            f"{_p_text(self.p)}{adjusted} ({self.test}), {self.effect_name} {self.effect:.2f}, "
            f"n = {self.n} patients{values}"
        )
        return f"{text}; {self.note}" if self.note else text


def _p_text(p: float) -> str:
    if math.isnan(p):
        return "p not defined"
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def patient_means(values: Patients) -> dict[str, float]:
    """One value per patient: the mean of its values, in the order of the patients' names.

    Raises:
        InputError: A patient without a value.
    """
    empty = [name for name, own in values.items() if not np.size(own)]
    if empty:
        raise InputError(f"no value for {', '.join(empty)}: leave these patients out and say so")
    return {name: float(np.mean(values[name])) for name in sorted(values)}


def paired(first: Patients, second: Patients) -> tuple[Floats, Floats, tuple[str, ...]]:
    """Values of the patients that both have, and who they are.

    Raises:
        InputError: No patient is common, or a patient has no value.
    """
    one, two = patient_means(first), patient_means(second)
    names = tuple(name for name in one if name in two)
    if not names:
        raise InputError(
            f"no patient has values of both methods: {_some(one)} against {_some(two)}; "
            "are the participants named alike?"
        )
    a, b = np.array([one[name] for name in names]), np.array([two[name] for name in names])
    return a, b, names


def compare(
    first: Patients, second: Patients, *, names: tuple[str, str], test: Test = "wilcoxon"
) -> Comparison:
    """Compare two methods over the patients that both have; others are named in the note.

    Args:
        first, second: Patient -> its value or values; several are averaged first.
        names: Of the two methods, as printed.
        test: "wilcoxon", or "t" as the papers do.
    Raises:
        InputError: No common patient, or values that are not finite.
    """
    a, b, common = paired(first, second)
    found: Outcome
    if test == "t":
        found, interval = t_test(a, b), t_interval(a - b)
        effect_name, effect = "dz", cohen_dz(a, b)
    else:
        found, interval = wilcoxon(a, b), bca(a - b)
        effect_name, effect = "rank biserial", rank_biserial(a, b)
    lone = sorted(first.keys() ^ second.keys())
    notes = [found.note]
    if lone:
        notes.append(f"left out for want of a value of both: {_some(lone)}")
    return Comparison(
        first=names[0],
        second=names[1],
        n=len(common),
        n_values=sum(int(np.size(first[name])) for name in common),
        mean_difference=float(np.mean(a - b)),
        median_difference=hodges_lehmann(a, b),
        interval=interval,
        test=found.test,
        p=found.p,
        effect_name=effect_name,
        effect=effect,
        p_adjusted=found.p,
        note="; ".join(note for note in notes if note),
    )


def compare_all(
    methods: Mapping[str, Patients],
    reference: str | None = None,
    *,
    test: Test = "wilcoxon",
    adjustment: Adjustment = "Holm",
) -> list[Comparison]:
    """Every method against the reference, or every pair without one; adjusted as one family.

    Raises:
        InputError: Fewer than two methods, or an unknown reference.
    """
    if len(methods) < 2 or (reference is not None and reference not in methods):
        raise InputError(
            f"nothing to compare with reference {reference!r}: methods are {', '.join(methods)}"
        )
    order = list(methods)
    if reference is None:
        pairs = [(a, b) for i, a in enumerate(order) for b in order[i + 1 :]]
    else:
        pairs = [(name, reference) for name in order if name != reference]
    found = [compare(methods[a], methods[b], names=(a, b), test=test) for a, b in pairs]
    return adjust(found, adjustment)


def adjust(comparisons: Sequence[Comparison], adjustment: Adjustment) -> list[Comparison]:
    """The same comparisons with p adjusted over all of them; NaN is not counted as a test."""
    corrected = _ADJUST[adjustment]([one.p for one in comparisons])
    made = sum(not math.isnan(one.p) for one in comparisons)
    return [
        replace(one, p_adjusted=float(p), adjustment=adjustment, tests=made)
        for one, p in zip(comparisons, corrected, strict=True)
    ]


def worst_p(comparisons: Iterable[Comparison], method: str) -> Comparison:
    """The comparison of a method with the largest raw p, as Graf et al. 2023 report it.

    A p that is not defined is worse than any number.

    Raises:
        InputError: The method takes part in none of them.
    """
    own = [one for one in comparisons if method in (one.first, one.second)]
    if not own:
        raise InputError(f"no comparison has a method {method!r}")
    return max(own, key=lambda one: math.inf if math.isnan(one.p) else one.p)


def _some(names: Iterable[str], most: int = 5) -> str:
    """Names for a message, the first few."""
    listed = list(names)
    rest = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + rest
