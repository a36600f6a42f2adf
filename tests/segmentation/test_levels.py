"""Levels: exact inference, chains of simulated people, anchors, and honest probabilities."""

from itertools import pairwise, product

import numpy as np
import pytest

from spinect.anatomy import ORDER, SACRUM, VERTEBRA_IDS
from spinect.phantom.anatomy import make_subject
from spinect.segmentation.chain import Chain, best_path, path_score, posterior
from spinect.segmentation.dens import dens_evidence
from spinect.segmentation.levels import MOST, assign_levels
from spinect.segmentation.result import Instances
from spinect.segmentation.succession import PITCH, SACRAL, STATE, descent, log_step

ID = VERTEBRA_IDS


def spine(centres, *, sacrum=None, tall=0):
    """Instances with a small block at each centre, mm; `tall` mm more on top of the first."""
    centres = np.array(centres, float)
    far = centres if sacrum is None else np.vstack([centres, sacrum])
    low = far.min(axis=0) - 45
    shape = tuple(np.ceil(far.max(axis=0) - low + 50).astype(int))
    labels, sacral = np.zeros(shape, np.uint8), np.zeros(shape, bool)
    places = centres - low
    for i, at in enumerate(np.rint(places).astype(int)):
        high = [7, 7, 7 + (tall if i == 0 else 0)]
        box = tuple(slice(a - 6, a + h) for a, h in zip(at, high, strict=True))
        labels[box] = i + 1
    if sacrum is not None:
        at = np.rint(np.array(sacrum) - low).astype(int)
        sacral[tuple(slice(a - 15, a + 16) for a in at)] = True
    return Instances(labels, places, sacral)


def usual(first, last, size=1.0, sacrum=False):
    """A straight spine of usual distances from one level to another."""
    names = [v for v in ORDER if v not in SACRUM and v not in (ID["T13"], ID["L6"])]
    used = names[names.index(ID[first]) : names.index(ID[last]) + 1]
    heights = -np.cumsum([0.0] + [size * PITCH[v] for v in used])
    centres = [(0, 0, z) for z in heights[:-1]]
    below = (0, 0, heights[-1]) if sacrum else None
    return spine(centres, sacrum=below, tall=20 if first == "C2" else 0), used


def names_of(levels):
    return [level.vertebra for level in levels]


def random_chain(seed, n=4, states=3):
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(n - 1, states, states))
    steps[rng.random(steps.shape) < 0.3] = -np.inf
    return Chain(rng.normal(size=(n, states)), steps, rng.normal(size=states))


@pytest.mark.parametrize("seed", range(5))
def test_inference_equals_the_sum_over_all_paths(seed):
    chain = random_chain(seed)
    n, states = chain.unary.shape
    scores = {path: path_score(chain, path) for path in product(range(states), repeat=n)}
    total = np.logaddexp.reduce(list(scores.values()))
    evidence, joint = posterior(chain)
    assert evidence == pytest.approx(total, abs=1e-12)
    for place, state in product(range(n), range(states)):
        through = [s for path, s in scores.items() if path[place] == state]
        assert joint[place, state] == pytest.approx(np.logaddexp.reduce(through), abs=1e-9)
    assert best_path(chain) == max(scores, key=scores.__getitem__)


def test_distances_follow_the_phantoms():
    """The table of distances is the mean of the phantoms within 6 %, level by level."""
    measured = {}
    for seed in range(25):
        centres = make_subject(seed, "whole").subject.centres
        chain = [v for v in ORDER if v in centres and v not in SACRUM and v != 1]
        for above, below in pairwise(chain):
            gap = np.linalg.norm(np.subtract(centres[above], centres[below]))
            measured.setdefault(above, []).append(gap)
    for vertebra, gaps in measured.items():
        if len(gaps) >= 15:
            assert np.mean(gaps) == pytest.approx(PITCH[vertebra], rel=0.06), vertebra


def test_the_ways_down_are_probabilities():
    one = descent().weight[0]
    np.testing.assert_allclose(one[:SACRAL].sum(axis=1), 1)
    assert one[STATE[ID["T12"]], STATE[ID["L1"]]] > 0.9
    assert np.isneginf(log_step(30.0, 1.0)[STATE[ID["L1"]], STATE[ID["T12"]]])


def test_nothing_found():
    empty = Instances(np.zeros((4, 4, 4), np.uint8), np.zeros((0, 3)), np.zeros((4, 4, 4), bool))
    assert assign_levels(empty, 1.0) == ((), ())


@pytest.mark.parametrize("spacing", [1.0, 0.8])
def test_the_sacrum_anchors(spacing):
    instances, truth = usual("T11", "L5", size=1 / spacing, sacrum=True)
    levels, said = assign_levels(instances, spacing)
    assert names_of(levels) == truth
    assert {level.source for level in levels} == {"sacrum"}
    assert min(level.p for level in levels) > 0.85
    assert all("guess" not in line for line in said)


def test_a_missed_vertebra_leaves_a_gap_in_the_names():
    instances, truth = usual("T10", "L5", sacrum=True)
    kept = [0, 1, 2, 4, 5, 6, 7]
    gap = spine(instances.centres[kept], sacrum=np.argwhere(instances.sacrum).mean(axis=0))
    assert names_of(assign_levels(gap, 1.0)[0]) == [truth[i] for i in kept]


def test_the_dens_anchors():
    instances, truth = usual("C2", "T4")
    levels, _ = assign_levels(instances, 1.0)
    assert names_of(levels) == truth
    assert levels[0].source == "C2"
    assert dens_evidence(instances, 1.0) > 3
    other, _ = usual("C3", "T4")
    assert dens_evidence(other, 1.0) < -2


def test_without_an_anchor_it_is_a_guess_and_says_so():
    instances, _ = usual("T3", "T9")
    levels, said = assign_levels(instances, 1.0)
    assert {level.source for level in levels} == {"guess"}
    assert max(level.p for level in levels) < 0.9
    assert len(said) == 1
    assert "--lowest" in said[0]


def test_the_user_anchors_and_is_told_when_it_does_not_fit():
    instances, truth = usual("T3", "T9")
    for ends in ({"lowest": ID["T9"]}, {"highest": ID["T3"]}):
        levels, _ = assign_levels(instances, 1.0, **ends)
        assert names_of(levels) == truth
        assert {level.source for level in levels} == {"user"}
    levels, said = assign_levels(instances, 1.0, lowest=ID["T9"], highest=ID["C2"])
    assert names_of(levels)[-1] == ID["T9"]  # the lowest one is looked at first
    levels, said = assign_levels(instances, 1.0, lowest=ID["C3"])
    assert any("--lowest C3 does not fit 7 vertebrae" in line for line in said)
    assert levels[0].source == "guess"


def test_one_vertebra():
    instances, _ = usual("L3", "L3")
    levels, said = assign_levels(instances, 1.0)
    assert len(levels) == 1
    assert levels[0].p < 0.9
    assert said
    assert names_of(assign_levels(instances, 1.0, lowest=ID["L3"])[0]) == [ID["L3"]]


def test_more_instances_than_a_spine_has_levels():
    many = spine([(0, 0, -15.0 * i) for i in range(MOST + 3)])
    many.labels[many.labels == 5] = 0
    levels, said = assign_levels(many, 1.0)
    assert len(levels) == MOST + 3
    assert names_of(levels).count(0) == 3
    assert levels[4].vertebra == 0
    named = [v for v in names_of(levels) if v]
    assert named == sorted(set(named), key=ORDER.index)
    assert any(f"at most {MOST}" in line for line in said)


def people(count, anchored):
    """(probability, right or not) of every vertebra of simulated people's seven levels."""
    chances, right = [], []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        centres = make_subject(seed, "whole").subject.centres
        chain = [v for v in ORDER if v in centres and v not in SACRUM and v != 1]
        start = len(chain) - 7 if anchored else int(rng.integers(1, len(chain) - 8))
        used = chain[start : start + 7]
        noisy = np.array([centres[v] for v in used]) + rng.normal(0, 1, (7, 3))
        levels, _ = assign_levels(spine(noisy, sacrum=centres[26] if anchored else None), 1.0)
        chances += [level.p for level in levels]
        right += [level.vertebra == v for level, v in zip(levels, used, strict=True)]
    return np.array(chances), np.array(right)


@pytest.mark.slow
def test_probabilities_are_honest():
    """On simulated people, transitional ones among them, the mean p is the share that is right."""
    for anchored, slack in ((True, 0.06), (False, 0.15)):
        chances, right = people(60, anchored)
        assert abs(chances.mean() - right.mean()) < slack
    assert right.mean() < 0.6, "seven thoracic levels without an anchor cannot be known"
