"""Which vertebra is which: a hidden Markov chain whose states are the levels of the spine.

The evidence is the distance between neighbouring centres, the volumes, the dens on the first
vertebra and the sacrum below the last one; the size of the patient is unknown and summed out.
Names are those of the most probable chain, probabilities those of each name by itself.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from spinect.anatomy import VERTEBRAE
from spinect.segmentation.chain import NEVER, Chain, best_path, posterior
from spinect.segmentation.dens import dens_evidence
from spinect.segmentation.result import Instances, Level, LevelSource
from spinect.segmentation.succession import SCALE_SD, STATE, STATES, log_step, log_volume

Float = NDArray[np.float64]

SURE: Final = 0.9  # a lower probability is worth a warning
MOST: Final = len(STATES) - 2  # nobody has a T13 and an L6
_SCALES: Final = np.exp(np.linspace(-3, 3, 9) * SCALE_SD)
_C1: Final = -4.0  # log evidence for C1, which has no body
_SACRUM_ML: Final = 2.0  # a smaller sacrum is no anchor
_ANCHOR: Final = 3.0  # log evidence from which a dens is one


@dataclass(frozen=True, eq=False)
class _Evidence:
    """What was measured on the instances that are to be named.

    Attributes:
        apart: (n - 1,) mm between neighbouring centres.
        volumes: (n,) mL.
        dens: Log evidence that the first one is C2.
        sacrum: mm from the last centre to the nearest sacral voxel; None if there is no sacrum.
    """

    apart: Float
    volumes: Float
    dens: float
    sacrum: float | None


def assign_levels(
    instances: Instances,
    spacing_mm: float,
    lowest: int | None = None,
    highest: int | None = None,
) -> tuple[tuple[Level, ...], tuple[str, ...]]:
    """Name the vertebrae.

    What anchors the names is `Level.source`: "user" if an end is given, else "sacrum" if it is in
    the image, else "C2" if the first vertebra has a dens, else "guess": then only the growth of
    the vertebrae from head to feet speaks, and `Level.p` says how little that is. Transitional
    anatomy (no T12, T13, L6, an L5 of the sacrum) and missed vertebrae are possible at a price.

    Args:
        instances: Head to feet.
        spacing_mm: Voxel size of their isotropic grid.
        lowest: Vertebra id of the last instance, if it is known.
        highest: Vertebra id of the first one.
    Returns:
        One level per instance, in their order, and warnings. Of more instances than a spine has
        vertebrae the smallest get vertebra 0.
    """
    count = len(instances.centres)
    if count == 0:
        return (), ()
    said: list[str] = []
    kept, evidence = _measure(instances, spacing_mm, said)
    chains = [_chain(evidence, scale) for scale in _SCALES]
    source: LevelSource = "guess"
    if evidence.sacrum is not None:
        source = "sacrum"
    elif evidence.dens >= _ANCHOR:
        source = "C2"
    for name, place, vertebra in (("lowest", len(kept) - 1, lowest), ("highest", 0, highest)):
        if vertebra is None:
            continue
        bound = [chain.constrained(place, STATE[vertebra]) for chain in chains]
        if max(posterior(chain)[0] for chain in bound) > NEVER:
            chains, source = bound, "user"
        else:
            said.append(
                f"--{name} {VERTEBRAE[vertebra]} does not fit {len(kept)} vertebrae and what else "
                "is known of their levels: it is ignored"
            )
    path, p = _solve(chains)
    levels = [Level(0, 0.0, source)] * count
    for instance, state, chance in zip(kept, path, p, strict=True):
        levels[instance] = Level(STATES[state], float(chance), source)
    least = float(p.min())
    if source == "guess":
        said.append(
            f"levels are a guess, the least sure one with p = {least:.2f}: neither sacrum nor C2 "
            "is in the image; give --lowest or --highest"
        )
    elif least < SURE:
        said.append(
            f"levels are counted from: {source}, the least sure one with p = {least:.2f}; check "
            "them, and give --lowest or --highest if they are wrong"
        )
    return tuple(levels), tuple(said)


def _measure(
    instances: Instances, spacing_mm: float, said: list[str]
) -> tuple[NDArray[np.intp], _Evidence]:
    """Indices of the instances that are named, and what speaks for their names."""
    count = len(instances.centres)
    voxels = np.bincount(instances.labels.ravel(), minlength=count + 1)[1 : count + 1]
    kept = np.arange(count)
    if count > MOST:
        kept = np.sort(np.argsort(-voxels, kind="stable")[:MOST])
        said.append(
            f"{count} vertebrae were found where a spine has at most {MOST}: the "
            f"{count - MOST} smallest are left out"
        )
    places = instances.centres[kept] * spacing_mm
    reach = None
    sacral = np.argwhere(instances.sacrum)
    if len(sacral) * spacing_mm**3 >= 1000 * _SACRUM_ML:
        reach = float(np.linalg.norm(sacral * spacing_mm - places[-1], axis=1).min())
    evidence = _Evidence(
        apart=np.linalg.norm(np.diff(places, axis=0), axis=1),
        volumes=np.maximum(voxels[kept], 1) * spacing_mm**3 / 1000,
        dens=dens_evidence(instances, spacing_mm) if kept[0] == 0 else 0.0,
        sacrum=reach,
    )
    return kept, evidence


def _chain(evidence: _Evidence, scale: float) -> Chain:
    """The chain for a patient of known size; its prior is part of the first place."""
    unary = np.array([log_volume(float(v), scale) for v in evidence.volumes])
    unary[0] -= 0.5 * (np.log(scale) / SCALE_SD) ** 2
    unary[0, STATE[1]] += _C1
    unary[0, STATE[2]] += evidence.dens
    steps = np.array([log_step(float(d), scale) for d in evidence.apart])
    end = np.zeros(len(STATES))
    if evidence.sacrum is not None:
        end = log_step(evidence.sacrum, scale, sacrum=True)
    return Chain(unary, steps.reshape(-1, len(STATES), len(STATES)), end)


def _solve(chains: list[Chain]) -> tuple[tuple[int, ...], Float]:
    """The most probable states and the probability of each, the patient's size summed out."""
    results = [posterior(chain) for chain in chains]
    joint = logsumexp([log for _, log in results], axis=0)
    joint -= logsumexp(joint, axis=1, keepdims=True)
    likeliest = int(np.argmax([evidence for evidence, _ in results]))
    path = best_path(chains[likeliest])
    return path, np.exp(joint[np.arange(len(path)), list(path)])
