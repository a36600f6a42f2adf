"""Do the intervals cover, and do the tests keep their error rate? By simulation.

    python benchmarks/coverage.py [--repeats 2000] [--resamples 1999]

Coverage of nominal 95 % intervals of the mean over n = 10, 20, 40 patients, and false positives at
0.05 of the paired tests where both methods are equal. Data: normal, and skewed (exponential,
skewness 2). Where values lie within patients, each has 3 to 9, half of the variance between
patients. The bar is 0.92-0.97 at n = 40; smaller n are measured and printed.
"""

import argparse
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from common import publish, table
from spinect.evaluation.stats.intervals import Interval, bca, cluster_bootstrap, t_interval
from spinect.evaluation.stats.mixed import mixed_effect
from spinect.evaluation.stats.tests import t_test, wilcoxon

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Floats]
SIZES = (10, 20, 40)
BAR = (0.92, 0.97)  # coverage at n = 40
DRAWS: dict[str, Draw] = {  # mean 0
    "normal": lambda rng, n: rng.normal(size=n),
    "skewed": lambda rng, n: rng.exponential(size=n) - 1,
}


def clusters(rng: np.random.Generator, n: int, draw: Draw) -> dict[str, Floats]:
    """Patient -> values of its 3 to 9 vertebrae; variance 1 between and 1 within patients."""
    counts, middles = rng.integers(3, 10, n), draw(rng, n)
    return {f"p{k:02}": middles[k] + draw(rng, counts[k]) for k in range(n)}


def coverage(kind: str, draw: Draw, n: int, repeats: int, resamples: int) -> float:
    """Share of intervals that hold the true mean, 0."""
    rng = np.random.default_rng([n, len(kind)])

    def once(seed: int) -> Interval:
        if kind == "cluster bootstrap":
            return cluster_bootstrap(clusters(rng, n, draw), seed=seed, resamples=resamples)
        if kind == "BCa":
            return bca(draw(rng, n), seed=seed, resamples=resamples)
        return t_interval(draw(rng, n))

    made = (once(seed) for seed in range(repeats))
    return sum(one.low <= 0 <= one.high for one in made) / repeats


def false_positives(test: str, draw: Draw, n: int, repeats: int) -> float:
    """Share of p < 0.05 where the methods differ in nothing: two draws of one distribution."""
    rng = np.random.default_rng([n, len(test), 7])

    def once() -> float:
        if test in ("mixed model", "t over vertebrae"):
            pairs = clusters(rng, n, lambda g, size: draw(g, size) - draw(g, size))
            who = np.repeat(list(pairs), [one.size for one in pairs.values()])
            change = np.concatenate(list(pairs.values()))
            if test == "t over vertebrae":
                return t_test(change, np.zeros_like(change)).p
            found = mixed_effect(change, np.zeros_like(change), who.tolist())
            assert found.converged, found.note
            return found.p
        first, second = draw(rng, n), draw(rng, n)
        return (wilcoxon if test == "Wilcoxon" else t_test)(first, second).p

    return sum(once() < 0.05 for _ in range(repeats)) / repeats


def exact_rate(n: int, alpha: float = 0.05) -> float:
    """What the exact Wilcoxon test rejects: its p is discrete, so less than alpha."""
    ranks = np.ones(1)
    for step in range(1, n + 1):
        ranks = (np.pad(ranks, (0, step)) + np.pad(ranks, (step, 0))) / 2
    return float(2 * ranks[2 * np.cumsum(ranks) < alpha].sum())


def between(rate: float, repeats: int) -> tuple[int, int]:
    """Counts that a true rate gives in all but one of 1000 simulations."""
    low, high = stats.binom.interval(0.999, repeats, rate)
    return int(low), int(high)


def main() -> None:
    """Print and keep both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--resamples", type=int, default=1999)
    args = parser.parse_args()
    repeats = args.repeats
    covered = [
        (kind, name, *(coverage(kind, draw, n, repeats, args.resamples) for n in SIZES))
        for kind in ("t", "BCa", "cluster bootstrap")
        for name, draw in DRAWS.items()
    ]
    rates = [
        (test, name, *(false_positives(test, draw, n, repeats) for n in SIZES))
        for test in ("paired t", "Wilcoxon", "mixed model", "t over vertebrae")
        for name, draw in DRAWS.items()
    ]
    sizes = [f"n = {n}" for n in SIZES]
    error = math.sqrt(0.05 * 0.95 / repeats)
    exact = ", ".join(f"{exact_rate(n):.4f} at n = {n}" for n in SIZES)
    outside = [f"{row[0]}, {row[1]}: {row[-1]:.3f}" for row in covered
               if not BAR[0] <= row[-1] <= BAR[1]]  # fmt: skip
    body = (
        f"{repeats} simulations for each figure, standard error {error:.4f}; bootstraps of "
        f"{args.resamples} resamples.\n\nCoverage of 95 % intervals of the mean:\n\n"
        + table(["interval", "data", *sizes], covered)
        + f"\n\nBar at n = 40: {BAR[0]}-{BAR[1]}; "
        + (f"missed by {'; '.join(outside)}." if outside else "met by all.")
        + "\n\nFalse positives at p < 0.05, two equal methods:\n\n"
        + table(["test", "data", *sizes], rates)
        + f"\n\nThe exact Wilcoxon test has a discrete p; its true rate is {exact}. "
        '"t over vertebrae" is the paired t-test with every vertebra as if it were a patient.'
    )
    publish("coverage", "Coverage of intervals and error rate of tests", body)


if __name__ == "__main__":
    main()
