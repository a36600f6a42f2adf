"""Drawing a split: whole persons, every stratum on every side as evenly as whole persons allow."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from spinect.errors import ConfigError
from spinect.io.participants import SPLITS


def parse_shares(text: str) -> dict[str, float]:
    """Shares such as "0.7,0.15,0.15" of train, validation and test.

    Raises:
        ConfigError: Not three numbers of at least 0 that sum to 1.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or min(numbers) < 0 or abs(sum(numbers) - 1) > 1e-6:
        raise ConfigError(
            f"split {text!r}: give the shares of train, validation, test, such as 0.7,0.15,0.15"
        )
    return dict(zip(SPLITS, numbers, strict=True))


def draw_splits(
    persons: Mapping[str, tuple[str, str]], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Give every participant a side.

    Persons are shuffled within their stratum; each goes to the side that is furthest behind its
    share, so both the whole and each stratum come as close to the shares as whole persons can.

    Args:
        persons: participant_id -> (person, stratum), such as ("1_01_P", "site 1").
        shares: Split -> share; they sum to 1.
        seed: Of the shuffle; the result depends on it and on the names, not on their order.
    Returns:
        participant_id -> split, for each one of `persons`.
    """
    strata: dict[str, set[str]] = defaultdict(set)
    for person, stratum in persons.values():
        strata[stratum].add(person)
    side: dict[str, str] = {}
    given = dict.fromkeys(shares, 0)
    for stratum in sorted(strata):
        local = dict.fromkeys(shares, 0)
        order = sorted(strata[stratum] - side.keys())
        np.random.default_rng([seed, len(order)]).shuffle(order)
        for count, person in enumerate(order, start=1):
            done = sum(given.values()) + 1
            # Behind in the whole first; within half a person of that, behind in the stratum.
            behind = {
                k: (share * done - given[k]) + 0.5 * (share * count - local[k])
                for k, share in shares.items()
                if share > 0
            }
            best = max(behind, key=lambda k: behind[k])
            side[person] = best
            given[best] += 1
            local[best] += 1
    return {name: side[person] for name, (person, _) in persons.items()}
