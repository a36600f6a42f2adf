"""Exact inference on a chain of hidden states: probabilities of each place and the best path."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

Float = NDArray[np.float64]
NEVER: Final = -np.inf


@dataclass(frozen=True, eq=False)
class Chain:
    """A hidden Markov chain, everything as natural logarithms; -inf is impossible.

    Attributes:
        unary: (n, S) evidence of each place for each state, prior of the first place included.
        steps: (n - 1, S, S) from the state of a place to that of the next one, evidence included.
        end: (S,) evidence behind the last place.
    """

    unary: Float
    steps: Float
    end: Float

    def constrained(self, place: int, state: int) -> "Chain":
        """The same chain in which one place has a known state."""
        unary = self.unary.copy()
        unary[place, np.arange(unary.shape[1]) != state] = NEVER
        return Chain(unary, self.steps, self.end)


def posterior(chain: Chain) -> tuple[float, Float]:
    """Forward-backward.

    Returns:
        Log evidence of the chain (-inf: no path is possible), and (n, S) log probability of place
        and evidence together; rows minus the evidence are log posteriors.

    Source: Rabiner, Proc. IEEE 77:257 (1989), eq. 19-27, in logarithms instead of scaled.
    """
    n = len(chain.unary)
    forward, backward = chain.unary.copy(), np.zeros_like(chain.unary)
    for i in range(1, n):
        forward[i] += logsumexp(forward[i - 1][:, None] + chain.steps[i - 1], axis=0)
    backward[-1] = chain.end
    for i in range(n - 2, -1, -1):
        ahead = chain.unary[i + 1] + backward[i + 1]
        backward[i] = logsumexp(chain.steps[i] + ahead[None], axis=1)
    return float(logsumexp(forward[-1] + chain.end)), forward + backward


def best_path(chain: Chain) -> tuple[int, ...]:
    """Viterbi: the most probable states of all places together.

    Where several paths are equally good, the one of the smallest last state is taken.
    """
    score = chain.unary[0]
    origins = []
    for i in range(1, len(chain.unary)):
        reach = score[:, None] + chain.steps[i - 1]
        origins.append(reach.argmax(0))
        score = reach.max(0) + chain.unary[i]
    path = [int((score + chain.end).argmax())]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return tuple(reversed(path))


def path_score(chain: Chain, path: tuple[int, ...]) -> float:
    """Log probability of one path and the evidence together."""
    places = np.arange(len(path))
    states = np.array(path)
    total = chain.unary[places, states].sum() + chain.end[states[-1]]
    return float(total + chain.steps[places[:-1], states[:-1], states[1:]].sum())
